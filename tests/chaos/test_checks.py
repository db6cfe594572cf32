"""The checks after a run detect each violation: each of these tests breaks a run in one way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import pytest

from .browsers import Browser, Event
from .checks import ChatTurn, Observations, check
from .plan import Plan

PLAN = Plan("7", (1, 1))
RESULTS = [f"{call}=abc{at}" for at, call in enumerate(PLAN.calls)]
TEXT = PLAN.text(RESULTS)


def message(id_: str, name: str, message_id: str, text: str) -> Event:
    """Return an event with a snapshot."""
    return Event(id_, name, {"id": message_id, "text": text, "chat_id": "c"})


WORKER = Event("1-0", "worker", {"worker": "w", "attempt": 1})
EVENTS = [
    WORKER,
    message("1-1", "message", "m1", "7 asks"),
    message("1-2", "message", "m1", "7 asks: more"),
    Event("2-0", "worker", {"worker": "w", "attempt": 2}),
    message("2-1", "message", "m1", "7 asks: more"),
    message("2-2", "message", "m2", TEXT[:5]),
    message("2-3", "done", "m2", TEXT),
]
TEXTS = ["7 asks: more", TEXT]
KEPT = [*EVENTS[:1], *EVENTS[3:]]  # what the example leaves in the stream


def handled(call: str, attempt: int, step: str, result: str = "") -> dict[str, Any]:
    """Return a line of the handlers' log."""
    what = f"7/{call}"
    return {"what": what, "call": call, "attempt": attempt, "key": f"key-{call}", "step": step, "result": result}


HANDLERS = [
    *(handled("0", 1, "start"), handled("0", 2, "start"), handled("0", 2, "end", RESULTS[0])),
    *(handled("1", 1, "start"), handled("1", 1, "end", RESULTS[1])),
]


def run(
    events: Sequence[Event] = EVENTS,
    turns: Sequence[ChatTurn] = (ChatTurn(RESULTS, TEXTS),),
    stream: Sequence[Event] = KEPT,
    handlers: Sequence[Mapping[str, Any]] = HANDLERS,
    accepted: Sequence[Mapping[str, Any]] = ({"call": "0"}, {"call": "1"}),
) -> Observations:
    """Return the observations of a run with one turn, which one worker has started and another one has finished."""
    browser = Browser(PLAN, None, "tenant", list(events))
    return Observations([browser], {"7": turns} if turns else {}, {"7": stream}, handlers, accepted)


def test_a_correct_run_has_figures_and_no_violations() -> None:
    """A takeover and a repeated handler are allowed, and counted."""
    report = check(run())
    assert report.violations == []
    expected = {"turns": 1, "whole": 1, "takeovers": 1, "handler starts": 3, "handler repeats": 1, "tool calls": 2}
    assert expected.items() <= report.figures.items()


def test_a_typed_failure_is_counted() -> None:
    """Its message may be in no chat."""
    error = Event("1-1", "error", {"type": "stream_lost"})
    report = check(run([WORKER, error], (), [WORKER, error], ()))
    assert report.violations == []
    assert report.figures["typed failures"] == {"stream_lost": 1}


def last(event: Event) -> Sequence[Event]:
    """Return the events with a different final event."""
    return [*EVENTS[:-1], event]


VIOLATIONS: dict[str, tuple[str, Callable[[], Observations]]] = {
    "no end": ("lost: 7: no last event", lambda: run(EVENTS[:-1], stream=KEPT[:-1])),
    "a pause": ("lost: 7: ended with input_required", lambda: run(last(message("2-3", "input_required", "m2", "")))),
    "half a text": ("lost: 7: the text in the browser", lambda: run(last(message("2-3", "done", "m2", TEXT[:9])))),
    "half a message": ("lost: 7: the browser has been shown", lambda: run([*EVENTS[:2], EVENTS[3], *EVENTS[5:]])),
    "half a text in the chat": ("lost: 7: the text in the chat", lambda: run(turns=[ChatTurn(RESULTS, [TEXT[:9]])])),
    "a result is missing": ("lost: 7: has the results", lambda: run(turns=[ChatTurn(RESULTS[:1], TEXTS)])),
    "the message is missing": ("lost: 7: is done, but", lambda: run(turns=())),
    "two messages": ("doubled: 7: its message", lambda: run(turns=[ChatTurn(RESULTS, TEXTS)] * 2)),
    "two results": ("doubled: 7: the call 7/0", lambda: run(turns=[ChatTurn([RESULTS[0], *RESULTS], TEXTS)])),
    "two ends": ("doubled: 7: 2 last events", lambda: run(stream=[*KEPT, message("2-4", "done", "m2", TEXT)])),
    "an end too early": ("doubled: 7: 1 last events", lambda: run(stream=[*KEPT, Event("3-0", "worker", {})])),
    "an untyped error": ("wrong: 7: ended with", lambda: run(last(Event("2-3", "error", {"type": "internal_error"})))),
    "ids go back": ("wrong: 7: the event 1-1", lambda: run([EVENTS[0], EVENTS[2], EVENTS[1], *EVENTS[3:]])),
    "an event twice": ("wrong: 7: the event 1-1", lambda: run([*EVENTS[:2], *EVENTS[1:]])),
    "a gap": ("wrong: 7: the browser has missed ['2-0']", lambda: run([*EVENTS[:3], *EVENTS[4:]])),
    "another event": ("wrong: 7: an event has", lambda: run(stream=[attrs.evolve(WORKER, data=None), *KEPT[1:]])),
    "the reply goes back": (
        "wrong: 7: the reply went back",
        lambda: run([*EVENTS[:4], message("2-1", "message", "m1", "7"), *EVENTS[5:]], stream=EVENTS[-1:]),
    ),
    "an older message grows": (
        "wrong: 7: a message has grown",
        lambda: run([*EVENTS[:-1], message("2-3", "message", "m1", "7 asks: more!"), EVENTS[-1]]),
    ),
    "a result of nobody": ("wrong: 7: the result", lambda: run(handlers=HANDLERS[:-1])),
    "an attempt twice": ("wrong: 7/1: was started", lambda: run(handlers=[*HANDLERS, handled("1", 1, "start")])),
    "another key": (
        "wrong: 7/1: its idempotency key",
        lambda: run(handlers=[*HANDLERS, {**handled("1", 2, "start"), "key": "key-0"}]),
    ),
    "a result accepted twice": ("doubled: 0: 2 results", lambda: run(accepted=[{"call": "0"}, {"call": "0"}])),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_each_violation_is_detected(name: str) -> None:
    """The report describes it."""
    expected, broken = VIOLATIONS[name]
    assert any(each.startswith(expected) for each in check(broken()).violations), check(broken()).violations
