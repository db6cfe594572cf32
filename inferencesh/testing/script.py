"""The script of a test's runtime: the replies to come, and the model that reads them out."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Protocol

import attrs

from inferencesh.local import Conversation, Fail, Piece, Text, ToolCall

__all__ = ["CallSpec", "Reply", "Script", "ScriptedModel"]

CallSpec = tuple[str, Mapping[str, object]] | Mapping[str, object] | ToolCall

_WORD = re.compile(r"\S+\s*|\s+")
_READER_TIMEOUT = 1.0  # seconds that a reply waits for somebody to read it


@attrs.frozen(kw_only=True)
class Reply:
    """One scripted answer, to a message or to the results of tool calls.

    Attributes:
        pieces: The text, piece by piece.
        tool_calls: The calls that follow the text.
        delay: Seconds before the first piece.
        pause: Seconds before each later piece.
        fail: Why the run fails after the last piece, or None.
        drop_after: After how many pieces the connections of all readers break, or None.
        refuse: The HTTP status with which the message is refused instead, or None.
    """

    pieces: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
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
        if self.refuse is not None and (self.pieces or self.tool_calls or self.fail or self.drop_after is not None):
            raise ValueError("a message that is refused has no reply: give refuse= alone")


def read_pieces(text: str, pieces: Iterable[str] | None) -> tuple[str, ...]:
    """The pieces of a reply: as given, or its words.

    Raises:
        TypeError: A piece is no text.
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
    """A tool call as it may be written in a test: ``("name", {...})`` or ``{"name": ..., "arguments": {...}}``.

    Raises:
        TypeError: It is written otherwise.
    """
    match spec:
        case ToolCall():
            return spec
        case (str(name), Mapping() as arguments) | {"name": str(name), "arguments": Mapping() as arguments}:
            return ToolCall(name, arguments)
        case _:
            raise TypeError(f'a tool call is ("name", {{...}}) or {{"name": ..., "arguments": {{...}}}}, not {spec!r}')


class Script:
    """Replies in order, and what went on without one. Filled by the test's thread, read by the runtime's."""

    def __init__(self) -> None:
        self._replies: deque[Reply] = deque()
        self._lock = threading.Lock()
        self.unscripted: list[str] = []

    def add(self, reply: Reply) -> None:
        """Put a reply at the end."""
        with self._lock:
            self._replies.append(reply)

    def take(self, *, refusal: bool) -> Reply | None:
        """Take the next reply if it is of the kind that is wanted: one that refuses a message, or one that answers."""
        with self._lock:
            if self._replies and (self._replies[0].refuse is not None) == refusal:
                return self._replies.popleft()
            return None


class Readers(Protocol):
    """Those who follow the streams of a runtime."""

    @property
    def open_streams(self) -> int:
        """How many there are."""

    def cut_streams(self) -> None:
        """Break their connections."""


class ScriptedModel:
    """Answers with the next reply of a script; without one the run fails, and the script notes it.

    Args:
        script: The replies.
        readers: Says who reads, once the runtime exists.
    """

    def __init__(self, script: Script, readers: Callable[[], Readers]) -> None:
        self._script = script
        self._readers = readers

    async def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        """Read out the next reply."""
        reply = self._script.take(refusal=False)
        if reply is None:
            complaint = _describe(conversation)
            self._script.unscripted.append(complaint)
            yield Fail(f"{complaint}, and no reply is scripted for it; add runtime.reply(...) before it is sent")
            return
        await self._wait_for_reader()
        await asyncio.sleep(reply.delay)
        for index, piece in enumerate(reply.pieces):
            if index:
                await asyncio.sleep(reply.pause)
            if reply.drop_after == index:
                self._readers().cut_streams()
            yield Text(piece)
        if reply.drop_after == len(reply.pieces):
            self._readers().cut_streams()
        for call in reply.tool_calls:
            yield call
        if reply.fail is not None:
            yield Fail(reply.fail)

    async def _wait_for_reader(self) -> None:
        """Let the reader connect, so that it sees each piece come; a client does so right after it has sent."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _READER_TIMEOUT
        while not self._readers().open_streams and loop.time() < deadline:  # noqa: ASYNC110 - nobody tells who comes
            await asyncio.sleep(0.001)


def _describe(conversation: Conversation) -> str:
    """What an unscripted step was asked, for the test's failure."""
    last = conversation.messages[-1]
    if last.role != "tool":
        return f"the agent was sent the message {last.text[:200]!r}"
    return f"the agent was to go on after the tool result {last.text[:200]!r}"
