"""The plan of each turn of the soak, drawn from the seed, so that server and clients agree on it."""

from __future__ import annotations

import random
from typing import Literal

import attrs

__all__ = ["REFUSALS", "TOOL", "Fault", "Plan", "plan_of", "result_of"]

TOOL = "lookup"
Fault = Literal[
    "reset",
    "cut",
    "end",
    "stall",
    "garbage",
    "duplicate",
    "bytewise",
    "unknown",
    "skip",
    "refused",
    "limited",
    "page",
]
# Weights. A stall costs the client its whole idle timeout, so it is rare.
FAULTS: dict[Fault, int] = {
    "reset": 6,  # half a line, then RST
    "cut": 6,  # half a line, then FIN
    "end": 4,  # the body ends properly in the middle of the turn
    "stall": 1,  # nothing more, not even heartbeats
    "garbage": 3,  # a line that is not JSON
    "duplicate": 4,  # the last lines again
    "bytewise": 3,  # a line in segments of one byte
    "unknown": 3,  # heartbeats, null data, and events of a later version
    "skip": 4,  # the connection is lost, and the run goes on meanwhile
    "refused": 3,  # 503 with Retry-After, instead of the stream
    "limited": 2,  # 429 with Retry-After
    "page": 1,  # the HTML page of a proxy
}
REFUSALS = frozenset({"refused", "limited", "page"})  # responses instead of a stream
_WORDS = ["alpha", "beta", "gamma", "delta", "Привет", "日本語", "café", "—", "\u2028", "\x85", "“x”", "🎉", "omega"]


@attrs.frozen
class Plan:
    """The plan of one turn.

    Attributes:
        pieces: The text, as the model produces it.
        mode: Whether it is sent as deltas, as whole messages, or as both.
        tool_at: The number of pieces before a tool is called, or None; its result becomes part of the text.
        faults: What goes wrong on consecutive connections, and after how many lines.
        requests: The number of other requests that fail at first.
    """

    pieces: tuple[str, ...]
    mode: Literal["deltas", "snapshots", "both"]
    tool_at: int | None
    faults: tuple[tuple[Fault, int], ...]
    requests: int

    def text(self, chat_id: str) -> str:
        """Return the final text."""
        return "".join(self.all_pieces(chat_id))

    def all_pieces(self, chat_id: str) -> list[str]:
        """Return the pieces with the tool's result among them."""
        if self.tool_at is None:
            return list(self.pieces)
        return [*self.pieces[: self.tool_at], f"[{result_of(chat_id)}] ", *self.pieces[self.tool_at :]]


def plan_of(seed: int, chat_id: str, turn: int) -> Plan:
    """Return the plan of a turn of a chat."""
    chance = random.Random(f"{seed}/{chat_id}/{turn}")
    count = chance.randint(1, 60)
    pieces = (f"{chat_id}.{turn} ", *(f"{chance.choice(_WORDS)} " for _ in range(count)))
    many = chance.choices(range(5), (30, 30, 20, 12, 8))[0]
    faults = tuple((fault, chance.randint(1, 20)) for fault in chance.choices([*FAULTS], [*FAULTS.values()], k=many))
    return Plan(
        pieces=pieces,
        mode=chance.choice(("deltas", "snapshots", "both")),
        tool_at=chance.randrange(1, count + 1) if chance.random() < 0.2 else None,
        faults=faults,
        requests=chance.choices(range(3), (80, 15, 5))[0],
    )


def result_of(argument: str) -> str:
    """Return the tool's result."""
    return f"result for {argument}"
