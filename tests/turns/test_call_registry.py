"""Two streams of one chat never run the same call twice."""

from __future__ import annotations

import gc

import pytest

from inferencesh._protocol.calls import CallOutcome, Step
from inferencesh._protocol.outcome import End, Outcome
from inferencesh._protocol.turn import Turn
from inferencesh._turns.tools import CallRegistry
from tests.protocol.forms import CHAT


def test_a_call_belongs_to_the_first_turn_that_claims_it() -> None:
    """The others are told whose it is; to claim it again changes nothing."""
    registry, first, second = CallRegistry(), Turn(CHAT), Turn(CHAT)
    assert registry.take("call-1", first) is None
    assert registry.take("call-1", second) is first
    assert registry.take("call-1", first) is None
    assert registry.take("call-2", second) is None


def begun(user_id: str) -> Turn:
    """A turn that this message began."""
    turn = Turn(CHAT)
    turn.run.begin(user_id, "", queued=False)
    return turn


@pytest.mark.parametrize("step", Step)
def test_what_was_settled_is_known_to_a_stream_that_is_behind(step: Step) -> None:
    """When the turn that did it is over and gone; another turn's call of the same id is another call."""
    registry, first = CallRegistry(), begun("user-1")
    registry.take("call-1", first, step)
    registry.settle("call-1", first, step, CallOutcome.ANSWERED)
    first.outcome = Outcome(End.FINISHED)
    del first
    gc.collect()
    assert registry.take("call-1", begun("user-1"), step) is CallOutcome.ANSWERED
    assert registry.take("call-1", begun("user-2"), step) is None
    assert registry.take("call-2", begun("user-1"), step) is None
    assert registry.take("call-1", Turn(CHAT), step) is None, "nothing tells that it is the same"


def test_what_was_settled_is_not_remembered_for_ever() -> None:
    """Memory is bounded; the newest stay."""
    registry, turn = CallRegistry(), begun("user-1")
    for number in range(5000):
        registry.settle(f"call-{number}", turn, Step.RESULT, CallOutcome.ANSWERED)
    assert registry.take("call-4999", turn) is CallOutcome.ANSWERED
    assert registry.take("call-0", turn) is None


def test_to_ask_about_a_call_and_to_run_it_are_two_claims() -> None:
    """Who has asked need not be the one who runs it."""
    registry, first, second = CallRegistry(), Turn(CHAT), Turn(CHAT)
    assert registry.take("call-1", first, Step.APPROVAL) is None
    assert registry.take("call-1", second, Step.RESULT) is None
    assert registry.take("call-1", second, Step.APPROVAL) is first


def test_the_same_id_in_another_chat_is_another_call() -> None:
    """Ids are unique in a chat, not in the world."""
    registry, here, there = CallRegistry(), Turn(CHAT), Turn("another-chat")
    assert registry.take("call-1", here) is None
    assert registry.take("call-1", there) is None


@pytest.mark.parametrize(
    ("end", "kept"), [(End.PAUSED, True), (End.FINISHED, False), (End.FAILED, False), (End.LOST, False)]
)
def test_a_claim_lasts_until_its_turn_has_ended(end: End, kept: bool) -> None:
    """A pause is no end."""
    registry, first, second = CallRegistry(), Turn(CHAT), Turn(CHAT)
    registry.take("call-1", first)
    first.outcome = Outcome(end)
    assert registry.take("call-1", second) is (first if kept else None)


def test_a_claim_lasts_no_longer_than_its_turn() -> None:
    """Nobody who is gone can answer it."""
    registry, first = CallRegistry(), Turn(CHAT)
    registry.take("call-1", first)
    del first
    gc.collect()
    assert registry.take("call-1", Turn(CHAT)) is None
