"""Answers of the chat-completions interface, put together from the chunks of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import jiter

from inferencesh._text import decode_json, encode_json
from inferencesh.errors import UnreadableError
from inferencesh.local.model import Reasoning, Text, ToolCall, Usage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from inferencesh.local.model import Piece

    from .messages import Json

__all__ = ["Answer", "AnswerError", "ChoiceAnswer", "words_of"]

_SHOWN = 200  # characters of what a model wrote in an error
_MAX_ANSWER = 256 * 1024  # characters of JSON that a model may write


class AnswerError(Exception):
    """The run has failed; the text says why, in the server's own words where there are any."""


@attrs.define
class _GrowingCall:
    id: str = ""
    name: str = ""
    arguments: str = ""


@attrs.define
class Answer:
    """One answer while it is streamed.

    Args:
        offered: The names of the tools that the model may call.
        limited: Whether the request had a token limit, so that an answer may end early.
    """

    offered: Collection[str] = ()
    limited: bool = False
    text: str = ""
    finish_reason: str = ""
    usage: Usage | None = None
    _pieces: list[str] = attrs.field(factory=list)
    _calls: list[_GrowingCall] = attrs.field(factory=list)
    _by_index: dict[int, _GrowingCall] = attrs.field(factory=dict)

    def feed(self, chunk: Json) -> Iterator[Piece]:
        """Add a chunk, and yield what it adds to the text and to the reasoning.

        Raises:
            AnswerError: The chunk is an error, or malformed.
        """
        if chunk.get("error"):
            raise AnswerError(f"The model's server failed: {words_of(chunk)}")
        self._take_usage(chunk.get("usage"))
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return
        self.finish_reason = str(choice.get("finish_reason") or self.finish_reason)
        delta = choice.get("delta") or choice.get("message")  # a server that does not stream sends a whole message
        if not isinstance(delta, dict):
            return
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(reasoning, str) and reasoning:
            yield Reasoning(reasoning)
        for text in (delta.get("refusal"), delta.get("content")):
            if isinstance(text, str) and text:
                yield from self._say(text)
        fragments = delta.get("tool_calls")
        for position, fragment in enumerate(fragments if isinstance(fragments, list) else ()):
            if isinstance(fragment, dict):
                self._grow(fragment, position)

    def end(self) -> list[ToolCall]:
        """End the answer, and return its tool calls.

        Raises:
            AnswerError: It was cut off, or calls a tool in a way that cannot be carried out.
        """
        self.text = "".join(self._pieces)
        calls = [self._checked(call.name, call.arguments) for call in self._calls]
        if self.finish_reason == "content_filter":
            raise AnswerError("The model's server has withheld the answer (finish_reason content_filter).")
        if self.finish_reason == "length" and not self.limited:
            raise AnswerError(
                "The answer was cut off, because the model's context is full; begin a new chat, or use a larger one."
            )
        return calls

    def _say(self, text: str) -> Iterator[Piece]:
        self._pieces.append(text)
        yield Text(text)

    def _take_usage(self, usage: object) -> None:
        if isinstance(usage, dict):
            prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
            if isinstance(prompt, int) and isinstance(completion, int):
                self.usage = Usage(prompt, completion)

    def _grow(self, fragment: Json, position: int) -> None:
        index = fragment.get("index")
        index = index if isinstance(index, int) else position
        identifier = str(fragment.get("id") or "")
        call = self._by_index.get(index)
        # Some servers send each call whole and under the same index; then only the id tells them apart.
        if call is None or (identifier and call.id and call.id != identifier):
            call = self._by_index[index] = _GrowingCall()
            self._calls.append(call)
        call.id = call.id or identifier
        function = fragment.get("function")
        if isinstance(function, dict):
            call.name += str(function.get("name") or "") if not call.name else ""
            arguments = function.get("arguments")
            if isinstance(arguments, dict):  # Ollama's older form
                arguments = encode_json(arguments).decode()
            call.arguments += arguments if isinstance(arguments, str) else ""

    def _checked(self, name: str, arguments: str) -> ToolCall:
        """Return a call of an offered tool with an object as arguments."""
        if name not in self.offered:
            known = ", ".join(sorted(self.offered)) or "none"
            raise AnswerError(f"The model called the tool {name[:_SHOWN]!r}, which the agent does not have ({known}).")
        return ToolCall(name, self._object(f"called {name} with arguments", arguments or "{}"))

    def _object(self, what: str, text: str) -> Json:
        try:
            value = decode_json(text)
        except UnreadableError:
            value = None
        if not isinstance(value, dict):
            cut = "; it was cut off at the token limit" if self.finish_reason == "length" else ""
            raise AnswerError(f"The model {what} that are not a JSON object{cut}: {text[:_SHOWN]!r}")
        return value


@attrs.define
class ChoiceAnswer(Answer):
    """An answer that is JSON: a choice of text and tool calls, written by a model that knows no tools.

    The text is passed on while it grows.
    """

    _said: int = 0

    def end(self) -> list[ToolCall]:
        """End the answer, and return its tool calls.

        Raises:
            AnswerError: It is not the JSON that was asked for, or calls a tool that cannot be called.
        """
        super().end()
        written = self.text
        if self.finish_reason == "length" and self._said:
            self.text = self._partial()
            return []
        value = self._object("answered with words", written)
        said = value.get("text")
        if isinstance(said, str):
            self.text = said
            return []
        made = value.get("calls")
        if not isinstance(made, list) or not made:
            raise AnswerError(f"The model answered with neither text nor tool calls: {written[:_SHOWN]!r}")
        self.text = ""
        return [self._made(each) for each in made]

    def _made(self, call: object) -> ToolCall:
        if not isinstance(call, dict):
            raise AnswerError(f"The model wrote a tool call that is not a JSON object: {str(call)[:_SHOWN]!r}")
        return self._checked(str(call.get("tool") or ""), encode_json(call.get("arguments") or {}).decode())

    def _say(self, text: str) -> Iterator[Piece]:
        self._pieces.append(text)
        if sum(map(len, self._pieces)) > _MAX_ANSWER:
            raise AnswerError(f"The model wrote more than {_MAX_ANSWER} characters.")
        said = self._partial()
        if len(said) > self._said:
            yield Text(said[self._said :])
            self._said = len(said)

    def _partial(self) -> str:
        """Return the text in the JSON written so far."""
        written = "".join(self._pieces)
        self._pieces[:] = [written]
        try:
            value = jiter.from_json(written.encode(), partial_mode="trailing-strings")
        except ValueError:
            return ""
        said = value.get("text") if isinstance(value, dict) else None
        return said if isinstance(said, str) else ""


def words_of(body: object) -> str:
    """Return what a server says in an error, in any of the usual forms."""
    if not isinstance(body, dict):
        return str(body)[:2000]
    for key in ("error", "message", "detail"):
        value = body.get(key)
        if isinstance(value, dict):
            return words_of(value)
        if value:
            return str(value)[:2000]
    return str(body)[:2000]
