"""Token deltas add up to the truth, whatever is missing, repeated or early."""

from __future__ import annotations

import pytest

from .forms import CHAT, REPLY, asked, chat, chat_of, delta, event, message, message_of, page_of
from .script import RST, Reply
from .turns import TEXT, Case, RunTurn, told

BUSY = chat("working")
HEL = message("Hel")
READY = message(TEXT, "ready")
DONE = chat("completed")
FINISHED = {
    f"GET /chats/{CHAT}": [(Reply(chat_of("completed")),)],
    f"GET /chats/{CHAT}/messages": [(Reply(page_of(message_of(TEXT, "ready"), asked())),)],
}

ONE, TWO, THREE = delta("Hel", 1), delta("lo, ", 2), delta("world", 3)
EMPTY = message("")
NULL = event("delta", {"delta": None, "seq": 1, "resource_id": REPLY})
LOST = delta("nonsense", 1, resource_id=None)
ASTRAY = delta("nonsense", 1, resource_id="other9")
LONGER = (message(TEXT), delta("!", 4), message(TEXT + "!", "ready"))

WITH_DELTAS = [
    told("deltas and a final whole", BUSY, EMPTY, ONE, TWO, THREE, READY, DONE),
    told("deltas alone", BUSY, EMPTY, ONE, TWO, THREE, DONE, answers=FINISHED),
    told("deltas and wholes", BUSY, EMPTY, ONE, HEL, TWO, THREE, message(TEXT), READY, DONE),
    told("deltas twice", BUSY, EMPTY, ONE, TWO, ONE, TWO, THREE, ONE, TWO, THREE, READY, DONE),
    told("a delta that is missing", BUSY, EMPTY, ONE, THREE, READY, DONE),
    told("a gap, healed by a whole", BUSY, EMPTY, ONE, THREE, *LONGER, DONE, text=TEXT + "!"),
    told("deltas before their message", BUSY, ONE, TWO, EMPTY, THREE, READY, DONE),
    told("deltas without the message's id", BUSY, EMPTY, LOST, ONE, TWO, THREE, READY, DONE),
    told("deltas of another message", BUSY, EMPTY, ASTRAY, ONE, TWO, THREE, READY, DONE),
    told("deltas after the final message", BUSY, EMPTY, ONE, TWO, THREE, READY, delta("!", 4), DONE),
    told("a delta of null, one of nothing", BUSY, EMPTY, NULL, event("delta", {"resource_id": REPLY}), READY, DONE),
    Case("a drop, going on", [(EMPTY, ONE, TWO, RST), (message("Hello, "), THREE, READY, DONE)], TEXT),
    Case("a drop, replayed", [(EMPTY, ONE, TWO, RST), (EMPTY, ONE, TWO, THREE, READY, DONE)], TEXT),
    Case("a drop, some missed", [(EMPTY, ONE, RST), (EMPTY, THREE, READY, DONE)], TEXT),
]


@pytest.mark.parametrize("case", WITH_DELTAS, ids=lambda case: case.name)
def test_deltas_add_up_to_the_truth(case: Case, run_turn: RunTurn) -> None:
    """Every snapshot on the way is a beginning of the whole text."""
    outcome = run_turn(case)
    assert case.text is not None
    assert all(case.text.startswith(snapshot.text) for snapshot in outcome.snapshots)
