"""What the tests of services share: a model that waits to be let on, parsed events, and waiting for a fact."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from inferencesh.local import Conversation, Piece

__all__ = ["Event", "GatedModel", "parse_sse"]


class GatedModel:
    """Yields the pieces it was made with, each only when ``let_on`` has been called for it.

    Args:
        answers: The pieces of each step; the last step's are repeated for all later ones.
    """

    def __init__(self, *answers: Iterable[Piece], gated: bool = True) -> None:
        self._answers = [list(answer) for answer in answers]
        self._gate = asyncio.Semaphore(0)
        self._gated = gated
        self.steps = 0

    def let_on(self, pieces: int = 1) -> None:
        """Let that many pieces through."""
        for _ in range(pieces):
            self._gate.release()

    async def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        answer = self._answers[min(self.steps, len(self._answers) - 1)]
        self.steps += 1
        for piece in answer:
            if self._gated:
                await self._gate.acquire()
            yield piece


@attrs.frozen
class Event:
    """A server-sent event."""

    name: str
    data: dict[str, Any]


def parse_sse(data: bytes) -> list[Event]:
    """Read whole server-sent events; comments are events without data, named by their text."""
    events = []
    for block in data.decode().split("\n\n"):
        if not block:
            continue
        if block.startswith(":"):
            events.append(Event(block, {}))
            continue
        name, _, rest = block.partition("\n")
        assert name.startswith("event: "), block
        assert rest.startswith("data: "), block
        assert "\n" not in rest, "the data of an event fits on one line"
        events.append(Event(name.removeprefix("event: "), json.loads(rest.removeprefix("data: "))))
    return events
