"""``DemoModel``: the default model of the embedded runtime, a set of rules instead of a language model."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

from inferencesh._text import decode_json
from inferencesh.errors import UnreadableError
from inferencesh.local.model import Fail, Finish, Text, ToolCall

from .output import SchemaError, make_output
from .stories import STORIES
from .tools import choose_tool, fill_arguments, find_expressions, takes_expression

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from inferencesh.local.model import Attachment, Conversation, ConversationMessage, OfferedTool, PastCall, Piece

__all__ = ["DemoModel"]

_STORY = re.compile(r"\b(story|stories|tale|fable)\b", re.IGNORECASE)
_WORD = re.compile(r"\S+\s*|\s+")
_ERROR = re.compile(r"\w*(error|exception)\b", re.IGNORECASE)
_ECHO = 200


class DemoModel:
    """A stand-in for a language model that follows a few rules, for trying and testing agents offline.

    - Asked for a story, it tells one of a few stories.
    - Asked for arithmetic, it calls a tool with a parameter ``expression``, if there is one, and reports its result.
    - It calls another tool if the prompt has words in common with the tool's name or description, with arguments taken
      from the prompt.
    - It answers anything else by repeating the prompt and explaining what it is. It confirms attached files.
    - If the agent has an output schema, it finishes with a conforming output, made from the numbers and words of the
      prompt and of the tools' results.

    The same conversation always gets the same answer.

    Example:
        ```python
        class Polite(DemoModel):
            async def respond(self, conversation):
                yield Text("With pleasure. ")
                async for piece in super().respond(conversation):
                    yield piece


        with Inference.local(model=Polite(), pace=0) as client:
            print(client.agent({"name": "storyteller"}).send_message("Tell me a story").text)
        ```

        ```text
        With pleasure. The ...
        ```
    """

    async def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        """Yield the answer to the last message of the conversation."""
        for piece in _respond(conversation):
            yield piece


def _respond(conversation: Conversation) -> Iterator[Piece]:
    prompt, results = _last_turn(conversation.messages)
    files = _mention_files(conversation.messages)
    if results:
        said = files + " ".join(_worded(call, result) for call, result in results)
        return _say_and_finish(conversation, said, " ".join([*(result for _, result in results), prompt]))
    if _STORY.search(prompt):
        return _say_and_finish(conversation, files + _story(prompt), prompt)
    calls = _calls(prompt, conversation.tools)
    if calls:
        return iter(calls)
    if conversation.output_schema is not None:
        return _say_and_finish(conversation, "", prompt)
    return _say_and_finish(conversation, files + _plain(prompt, conversation.tools), prompt)


def _say_and_finish(conversation: Conversation, said: str, source: str) -> Iterator[Piece]:
    """Yield a text and, if the agent has a ``finish`` tool, an output made from the text ``source``."""
    yield from _words(said)
    if conversation.output_schema is not None:
        try:
            output = make_output(source, dict(conversation.output_schema))
        except SchemaError as error:
            yield Fail(f"The demo model cannot make an output of the agent's schema: {error}.")
        else:
            yield Finish(output)
    elif conversation.finishes:
        yield Finish({"text": said})


def _mention_files(messages: Sequence[ConversationMessage]) -> str:
    """Return a sentence about the files attached since the user's last message, "" if there are none."""
    files: list[Attachment] = []
    for message in messages:
        if message.role == "user":
            files.clear()
        files.extend(message.attachments)
    if not files:
        return ""
    them = "it" if len(files) == 1 else "them"
    return f"I got {', '.join(map(_described, files))}, but I am a stand-in that cannot look at {them}. "


def _described(file: Attachment) -> str:
    size = f"{file.size} byte{'' if file.size == 1 else 's'}" if file.size else ""
    known = ", ".join(filter(None, (file.content_type, size)))
    name = file.filename or "a file without a name"
    return f"{name} ({known})" if known else name


def _last_turn(
    messages: Sequence[ConversationMessage],
) -> tuple[str, list[tuple[PastCall, str]]]:
    """Return the user's last message, and the tool calls made since then with their results."""
    prompt = ""
    calls: dict[str, PastCall] = {}
    results: list[tuple[PastCall, str]] = []
    for message in messages:
        if message.role == "user":
            prompt = message.text
            results.clear()
        calls.update({call.id: call for call in message.tool_calls})
        if message.tool_call_id in calls:
            results.append((calls[message.tool_call_id], message.text))
    return prompt, results


def _story(prompt: str) -> str:
    """Return the story that matches the words of the prompt, else one chosen by its checksum."""
    asked = set(re.findall(r"[a-z]+", prompt.lower()))
    asked |= {word.removesuffix("s") for word in asked}
    for story in STORIES:
        if story.themes & asked:
            return story.text
    return STORIES[zlib.crc32(prompt.encode()) % len(STORIES)].text


def _calls(prompt: str, tools: Sequence[OfferedTool]) -> list[ToolCall]:
    calculator = next((tool for tool in tools if takes_expression(tool)), None)
    if calculator is not None and (expressions := find_expressions(prompt)):
        return [ToolCall(calculator.name, {"expression": each}) for each in expressions]
    chosen = choose_tool(prompt, [tool for tool in tools if not takes_expression(tool)])
    if chosen is None:
        return []
    return [ToolCall(chosen.name, fill_arguments(prompt, chosen.input_schema))]


def _worded(call: PastCall, result: str) -> str:
    expression = call.arguments.get("expression")
    error = _error_in(result)
    if error is not None:
        attempt = f"work out {expression}" if expression else f"use the {call.name} tool"
        return f"I could not {attempt}: {error.rstrip('.')}."
    if expression:
        return f"{expression} is {result.strip()}."
    return f"The {call.name} tool answered: {result.strip()}"


def _error_in(result: str) -> str | None:
    """Return the error in a tool's result, or None; the clients use several forms."""
    text = result.strip()
    try:
        data = decode_json(text)
    except UnreadableError:
        return text.partition(":")[2].strip() or text if _ERROR.match(text) else None
    if isinstance(data, dict) and data.get("error"):
        return str(data["error"])
    if isinstance(data, dict) and data.get("status") == "not_available":
        return str(data.get("message") or "it is not available")
    return None


def _plain(prompt: str, tools: Sequence[OfferedTool]) -> str:
    asked = " ".join(prompt.split())
    if len(asked) > _ECHO:
        asked = asked[:_ECHO].rstrip() + "..."
    said = f'You said: "{asked}".' if asked else "You sent no text."
    names = ", ".join(tool.name for tool in tools)
    able = f"call one of your tools ({names})" if tools else "call tools when the agent has some"
    return (
        f"{said} I am the offline stand-in of the embedded runtime, not a language model, "
        f"so I cannot say much about it. I can tell you a story, or {able}."
    )


def _words(text: str) -> Iterator[Text]:
    return (Text(word) for word in _WORD.findall(text))
