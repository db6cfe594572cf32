"""The script of a ``ScriptedRuntime``: its replies, and the model that gives them."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import attrs

from inferencesh.local import Conversation, Fail, Finish, Piece, Text, ToolCall

if TYPE_CHECKING:
    from inferencesh.local import LocalRuntime

__all__ = ["CallSpec", "Reply", "Script", "ScriptedModel", "read_call", "read_pieces", "wait_for_reader"]

CallSpec: TypeAlias = tuple[str, Mapping[str, object]] | Mapping[str, object] | ToolCall

_WORD = re.compile(r"\S+\s*|\s+")
_READER_TIMEOUT = 1.0  # seconds that a reply waits for a stream to be opened


@attrs.frozen(kw_only=True)
class Reply:
    """A scripted reply to a message or to the results of tool calls.

    Attributes:
        pieces: The text, piece by piece.
        tool_calls: The calls that follow the text.
        output: The output with which the run ends after the text, or None.
        delay: Seconds before the first piece.
        pause: Seconds before each later piece.
        fail: The error with which the run fails after the last piece, or None.
        drop_after: The number of pieces after which all streams break, or None.
        refuse: The HTTP status with which the message is refused instead, or None.
    """

    pieces: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    output: object = None
    delay: float = 0.0
    pause: float = 0.0
    fail: str | None = None
    drop_after: int | None = None
    refuse: int | None = None

    def __attrs_post_init__(self) -> None:
        if self.delay < 0 or self.pause < 0:
            raise ValueError("delay and pause are seconds, 0 or more")
        if self.drop_after is not None and not 0 <= self.drop_after <= len(self.pieces):
            raise ValueError(f"drop_after must be between 0 and {len(self.pieces)}, the number of pieces")
        if self.refuse is not None and not 400 <= self.refuse <= 599:
            raise ValueError(f"refuse must be an HTTP error status, not {self.refuse}")
        given = (self.pieces, self.tool_calls, self.output is not None, self.fail, self.drop_after is not None)
        if self.refuse is not None and any(given):
            raise ValueError("a message that is refused has no reply: give refuse= alone")
        if self.output is not None and (self.tool_calls or self.fail):
            raise ValueError("output= ends the run: no tool is called after it, and it does not fail")


def read_pieces(text: str, pieces: Iterable[str] | None) -> tuple[str, ...]:
    """Return the pieces of a reply: those given, or the words of its text.

    Raises:
        TypeError: A piece is not a string.
        ValueError: Both are given and differ.
    """
    if pieces is None:
        return tuple(_WORD.findall(text))
    parts = tuple(pieces)
    if isinstance(pieces, str) or not all(isinstance(piece, str) for piece in parts):
        raise TypeError("pieces are a list of strings")
    if text and "".join(parts) != text:
        raise ValueError("the pieces do not add up to the text; give one of them")
    return parts


def read_call(spec: CallSpec) -> ToolCall:
    """Return the tool call for ``("name", {...})`` or ``{"name": ..., "arguments": {...}}``.

    Raises:
        TypeError: It has another form.
    """
    match spec:
        case ToolCall():
            return spec
        case (str(name), Mapping() as arguments) | {"name": str(name), "arguments": Mapping() as arguments}:
            return ToolCall(name, arguments)
        case _:
            raise TypeError(f'a tool call is ("name", {{...}}) or {{"name": ..., "arguments": {{...}}}}, not {spec!r}')


class Script:
    """The queue of replies, filled by the test's thread and read by the runtime's, and the steps without a reply."""

    def __init__(self) -> None:
        self._replies: deque[Reply] = deque()
        self._lock = threading.Lock()
        self.unscripted: list[str] = []

    def add(self, reply: Reply) -> None:
        """Append a reply."""
        with self._lock:
            self._replies.append(reply)

    def take(self, *, refusal: bool) -> Reply | None:
        """Remove and return the next reply if it is of the wanted kind: a refusal of a message, or an answer."""
        with self._lock:
            if self._replies and (self._replies[0].refuse is not None) == refusal:
                return self._replies.popleft()
            return None


class ScriptedModel:
    """Answers with the next reply of a script; without one, the run fails and the script records it.

    Args:
        script: The replies.
        get_runtime: Returns the runtime, which does not exist yet when the model is created.
    """

    def __init__(self, script: Script, get_runtime: Callable[[], LocalRuntime]) -> None:
        self._script = script
        self._get_runtime = get_runtime

    async def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        """Yield the next reply."""
        reply = self._script.take(refusal=False)
        if reply is None:
            complaint = _describe(conversation)
            self._script.unscripted.append(complaint)
            yield Fail(f"{complaint}, and no reply is scripted for it; add runtime.reply(...) before it is sent")
            return
        await wait_for_reader(self._get_runtime())
        await asyncio.sleep(reply.delay)
        for index, piece in enumerate(reply.pieces):
            if index:
                await asyncio.sleep(reply.pause)
            if reply.drop_after == index:
                self._get_runtime().cut_streams()
            yield Text(piece)
        if reply.drop_after == len(reply.pieces):
            self._get_runtime().cut_streams()
        for call in reply.tool_calls:
            yield call
        if reply.output is not None:
            yield Finish(reply.output)
        if reply.fail is not None:
            yield Fail(reply.fail)


async def wait_for_reader(runtime: LocalRuntime) -> None:
    """Wait until a client has opened a stream, as it does after sending, so that it receives each piece."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _READER_TIMEOUT
    while not runtime.open_streams and loop.time() < deadline:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.001)


def _describe(conversation: Conversation) -> str:
    """Return a description of an unscripted step, for the failure of the test."""
    last = conversation.messages[-1]
    if last.role != "tool":
        return f"the agent was sent the message {last.text[:200]!r}"
    return f"the agent was to go on after the tool result {last.text[:200]!r}"
