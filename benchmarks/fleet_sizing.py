"""Size a fleet from measured figures: ``python -m benchmarks.fleet_sizing --chats 10000 [--streaming 0.2] ...``.

Prints a table with one column for each number of concurrent chats. Every assumption is an option; the costs are those
of ``benchmarks/results/fleet.json``, or of another file that ``python -m benchmarks.fleet --json FILE`` has written.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

__all__ = ["Assumptions", "Costs", "Row", "sized", "table"]

RESULTS = Path(__file__).parent / "results" / "fleet.json"
PORTS = 28_232  # between the addresses of one client and one server: Linux's 32768 to 60999
TIME_WAIT = 60.0  # seconds for which Linux keeps a port after its connection was closed
MB, GB = 1024.0, 1024.0**2  # in KB


def _option(default: float, text: str) -> float:
    found: float = attrs.field(default=default, metadata={"help": text})
    return found


@attrs.frozen
class Assumptions:
    """What the chats do and what the fleet is given; each is an option of the command line."""

    streaming: float = _option(0.2, "share of the chats whose reply is being written at any moment")
    waiting: float = _option(0.05, "share of the chats whose turn is open and waits, for a tool or a person")
    words: float = _option(200, "words of a reply")
    words_per_second: float = _option(15, "words that the model writes in a second")
    events_per_word: float = _option(1, "events that the service sends for a word")
    tools: float = _option(1, "tool calls of a turn that this fleet answers")
    published: float = _option(4, "snapshots of a turn that are published in a second, at most")
    snapshot: float = _option(1.0, "KB of a published snapshot, on average")
    watchers: float = _option(1, "browsers that follow an open turn")
    kept: float = _option(600, "seconds that Redis keeps the snapshots of a turn")
    lease: float = _option(30, "seconds of a lease, which is renewed three times as often")
    tls: float = _option(1, "whether the service speaks TLS: 1 or 0")
    load: float = _option(0.5, "share of a core that a process may use on average")
    most_memory: float = _option(2, "GB that a process may hold")
    redis_load: float = _option(0.5, "share of its one core that a Redis may use on average")
    redis_memory: float = _option(16, "GB that a Redis may hold")
    runs_per_minute: float = _option(100, "runs that the service starts for a key in a minute")


@attrs.frozen
class Costs:
    """What was measured: seconds of CPU, and KB of memory."""

    turn: float = attrs.field(metadata={"figure": "worker claims turn", "scale": 1e-3})
    tool: float = attrs.field(metadata={"figure": "worker claims tool", "scale": 1e-3})
    event: float = attrs.field(metadata={"figure": "worker follow deltas", "scale": 1e-3})
    publish: float = attrs.field(
        metadata={"figure": "worker publish deltas", "scale": 1e-3, "less": "worker follow deltas"}
    )
    tls_turn: float = attrs.field(metadata={"figure": "worker tls turn", "scale": 1e-3, "less": "worker follow turn"})
    tls_event: float = attrs.field(
        metadata={"figure": "worker tls deltas", "scale": 1e-3, "less": "worker follow deltas"}
    )


@attrs.frozen
class Row:
    """One quantity of the table.

    Attributes:
        name: What it is.
        how: How it follows from the others.
        values: One for each number of chats.
    """

    name: str
    how: str
    values: Sequence[float]
