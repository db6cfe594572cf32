"""The blocking client iterates over batches: a snapshot costs the caller's thread hardly more than one call."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Self

import pytest

from inferencesh import Inference
from tests.faults.forms import Json, chat, delta, message
from tests.faults.script import Scenario, together
from tests.faults.server import FaultServer
from tests.faults.turns import client_options

EVENTS = 1000
WORDS = [f"word{number} " for number in range(EVENTS)]


class Calls:
    """Counts the calls of Python functions on this thread, as a context manager."""

    def __init__(self) -> None:
        self.made = 0

    def __enter__(self) -> Self:
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _count(self, frame: FrameType, event: str, _: object) -> None:
        # Imports, and what the garbage collector or a debug mode does meanwhile, are not the snapshots'.
        if event == "call" and frame.f_globals.get("__name__", "").startswith(("inferencesh", "queue", "threading")):
            self.made += 1


def whole() -> list[Json]:
    """The whole message, a thousand times, one word more each time."""
    texts = ["".join(WORDS[: end + 1]) for end in range(EVENTS)]
    return [*(message(text) for text in texts), message(texts[-1], "ready")]


def deltas() -> list[Json]:
    """A thousand words, and the message at the end."""
    return [message(""), *(delta(word, seq) for seq, word in enumerate(WORDS)), message("".join(WORDS), "ready")]


@pytest.mark.parametrize("lines", [whole(), deltas()], ids=["whole messages", "deltas"])
def test_a_snapshot_costs_the_iterating_thread_hardly_more_than_one_call(lines: list[Json]) -> None:
    """What a batch costs, the hand-over from the loop's thread, is shared by its snapshots."""
    scenario = Scenario(streams=[[together(chat("working"), *lines, chat("completed"))]])
    with FaultServer(scenario) as server, Inference(**client_options(server)) as client:
        client.agent("a/b").send_message("Hi")  # everything is imported and connected afterwards
        stream = client.agent("a/b").send_message("Hi", stream=True)
        with Calls() as calls:
            snapshots = list(stream)
    assert snapshots[-1].text == "".join(WORDS)
    assert EVENTS <= len(snapshots) <= calls.made <= 1.5 * len(snapshots)
