"""Writes a model's pieces into an assistant message and tells the chat's feed about each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attrs import define, field, frozen

from inferencesh.json_text import decode_json, encode_json

from .ids import new_id
from .model import Ask, Fail, Finish, Reasoning, Text, ToolCall, Widget
from .records import Arguments, Block

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .feed import Feed
    from .records import Message

__all__ = ("FINISH", "MessageWriter", "ModelError", "WrittenCall")

FINISH = "finish"
"""The name of the service's own tool that ends a run with an output."""

# Arguments grow in fragments of this many characters, as a model's tokens would.
_FRAGMENT = 12


class ModelError(Exception):
    """The model gave up by itself; the text says why."""


@frozen
class WrittenCall:
    """A tool call as it stands in the message.

    `asks` is set for one of the service's own that waits for a person; `widget` is what it shows, as JSON text.
    """

    id: str
    name: str
    arguments: Arguments
    asks: Literal["confirmation", "auth", "widget"] | None = None
    widget: str | None = None


@define
class MessageWriter:
    """Grows one message, piece by piece; `finishes` says whether the agent has a `finish` tool."""

    message: Message
    feed: Feed
    finishes: bool = False
    calls: list[WrittenCall] = field(factory=list)

    def write(self, piece: object) -> Iterator[None]:
        """Apply what should be a `Piece`; yields after every event that readers may see, for the caller to pace them.

        Raises:
            ModelError: The piece says so, or finishes where nothing asks for an output.
            TypeError, ValueError: It is no piece, or holds what JSON cannot carry; the message is as it was.
        """
        match piece:
            case Text(text):
                yield from self._say("text", text)
            case Reasoning(text):
                yield from self._say("reasoning", text)
            case ToolCall(name, arguments):
                yield from self._call(_called(name, _checked(arguments)))
            case Ask(question, reason):
                yield from self._call(_called("ask", _checked({"question": question}), asks=reason))
            case Widget(surface):
                widget = _checked(surface).text
                yield from self._call(_called("widget", _checked({}), asks="widget", widget=widget))
            case Finish(output):
                if not self.finishes:
                    raise ModelError("The model finished with an output, but the agent has no finish tool.")
                yield from self._call(_called(FINISH, _checked_output(output)))
            case Fail(detail):
                raise ModelError(detail)
            case _:
                kind = type(piece).__name__
                raise TypeError(f"A model yields Text, Reasoning, ToolCall, Ask, Widget, Finish or Fail, not {kind}.")

    def _say(self, kind: Literal["text", "reasoning"], text: str) -> Iterator[None]:
        text.encode()  # half a surrogate pair is a str that no JSON can carry: better refused here
        if not text:
            return
        blocks = self.message.blocks
        if not blocks or blocks[-1].type != kind:
            blocks.append(Block(kind, text=""))
        blocks[-1].text = (blocks[-1].text or "") + text
        self.message.touch()
        self.feed.grew(self.message, {"response" if kind == "text" else kind: text})
        yield

    def _call(self, call: WrittenCall) -> Iterator[None]:
        call.name.encode()
        index = len(self.calls)
        head = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        self._grew_call(index, head, visible=False)
        yield
        text = call.arguments.text
        fragments = [text[at : at + _FRAGMENT] for at in range(0, len(text), _FRAGMENT)]
        for fragment in fragments[:-1]:
            self._grew_call(index, {"function": {"arguments": fragment}}, visible=False)
            yield
        self._finish_call(call)
        self._grew_call(index, {"function": {"arguments": fragments[-1]}}, visible=True)
        yield

    def _grew_call(self, index: int, fragment: Mapping[str, object], *, visible: bool) -> None:
        delta = {"tool_calls": [{"index": index, **fragment}]}
        self.feed.grew(self.message, delta, visible=visible)

    def _finish_call(self, call: WrittenCall) -> None:
        self.calls.append(call)
        blocks = self.message.blocks
        if not blocks or blocks[-1].type != "tool":
            blocks.append(Block("tool"))
        function = {"name": call.name, "arguments": call.arguments.wire}
        blocks[-1].tool_calls.append({"id": call.id, "type": "function", "function": function})
        self.message.touch()


def _called(
    name: str,
    arguments: Arguments,
    *,
    asks: Literal["confirmation", "auth", "widget"] | None = None,
    widget: str | None = None,
) -> WrittenCall:
    return WrittenCall(f"call_{new_id()}", name, arguments, asks, widget)


def _checked(arguments: Mapping[str, object]) -> Arguments:
    """Return the arguments detached from the model's own object, and known to be JSON."""
    text = encode_json(dict(arguments)).decode()
    return Arguments(decode_json(text), text)


def _checked_output(output: object) -> Arguments:
    """Return the output as the arguments of a call; only an object has any that can be read by name."""
    text = encode_json(output).decode()
    values = decode_json(text)
    return Arguments(values if isinstance(values, dict) else {}, text)
