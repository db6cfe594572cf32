"""Two streams of one chat never run the same call twice."""

from __future__ import annotations

import gc

import pytest

from inferencesh.calls import Step
from inferencesh.claims import Claims
from inferencesh.turn import End, Outcome, Turn

from .forms import CHAT


def test_a_call_belongs_to_the_first_turn_that_claims_it() -> None:
    """The others are told whose it is; to claim it again changes nothing."""
    claims, first, second = Claims(), Turn(CHAT), Turn(CHAT)
    assert claims.take("call-1", first) is None
    assert claims.take("call-1", second) is first
    assert claims.take("call-1", first) is None
    assert claims.take("call-2", second) is None


def test_to_ask_about_a_call_and_to_run_it_are_two_claims() -> None:
    """Who has asked need not be the one who runs it."""
    claims, first, second = Claims(), Turn(CHAT), Turn(CHAT)
    assert claims.take("call-1", first, Step.APPROVAL) is None
    assert claims.take("call-1", second, Step.RESULT) is None
    assert claims.take("call-1", second, Step.APPROVAL) is first


def test_the_same_id_in_another_chat_is_another_call() -> None:
    """Ids are unique in a chat, not in the world."""
    claims, here, there = Claims(), Turn(CHAT), Turn("another-chat")
    assert claims.take("call-1", here) is None
    assert claims.take("call-1", there) is None


@pytest.mark.parametrize(
    ("end", "kept"), [(End.PAUSED, True), (End.FINISHED, False), (End.FAILED, False), (End.LOST, False)]
)
def test_a_claim_lasts_until_its_turn_has_ended(end: End, kept: bool) -> None:
    """A pause is no end."""
    claims, first, second = Claims(), Turn(CHAT), Turn(CHAT)
    claims.take("call-1", first)
    first.outcome = Outcome(end)
    assert claims.take("call-1", second) is (first if kept else None)


def test_a_claim_lasts_no_longer_than_its_turn() -> None:
    """Nobody who is gone can answer it."""
    claims, first = Claims(), Turn(CHAT)
    claims.take("call-1", first)
    del first
    gc.collect()
    assert claims.take("call-1", Turn(CHAT)) is None
