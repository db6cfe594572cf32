"""Browsers follow a turn through several fronts, without missing or repeating an event."""

from __future__ import annotations

import itertools
import time

import pytest

from tests.support import Gate

from .browsing import Event, follow, open_events, post
from .conftest import MakeFleet

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]


def texts(events: list[Event]) -> list[str]:
    """Return the texts of the snapshots."""
    return [event.data["text"] for event in events if "text" in event.data]


def in_order(ids: list[str]) -> bool:
    """Whether the ids of events increase."""
    pairs = [tuple(map(int, each.split("-"))) for each in ids]
    return pairs == sorted(set(pairs))


def test_a_browser_resumes_at_another_front(make_fleet: MakeFleet) -> None:
    """With the header or the query; a late browser gets the newest snapshot, and the worker that wrote it."""
    gate = Gate()
    with make_fleet(["One ", "two ", gate, "three ", "four."]) as fleet:
        fleet.start("front 1", "front 2", "worker 1")
        one, two = fleet.fronts.values()
        turn_id = post(one)
        seen: list[Event] = []
        with open_events(one, turn_id) as events:
            for event in events:
                seen.append(event)
                if event.data.get("text") == "One two ":
                    break
        gate.open()
        rest = follow(two, turn_id, seen[-1].id)
        assert two.get(f"/turns/{turn_id}/events", headers={"Last-Event-ID": rest[-1].id}).status_code == 204
        assert in_order([event.id for event in seen + rest])
        assert seen[0].name == "worker"
        assert seen[0].data == {"worker": "worker 1", "attempt": 1}
        assert [event.name for event in rest][-1] == "done"
        assert texts(rest)[-1] == "One two three four."
        shown = texts(seen + rest)
        assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(shown))
        with two.stream("GET", f"/turns/{turn_id}/events?last_event_id={seen[-1].id}") as response:
            assert "One two three four." in response.read().decode()
        late = follow(two, turn_id)
        assert [event.name for event in late] == ["worker", "done"]


def test_a_front_that_shuts_down_ends_its_event_streams(make_fleet: MakeFleet) -> None:
    """At once, even if the turn produces no events; the browser misses nothing at another front."""
    gate = Gate()
    with make_fleet(["One ", gate, "two."]) as fleet:
        fleet.start("front 1", "front 2", "worker 1")
        one, two = fleet.fronts.values()
        turn_id = post(one)
        with open_events(one, turn_id) as events:
            seen = [next(events), next(events)]
            started = time.monotonic()
            fleet["front 1"].terminate()
            seen += events
        fleet["front 1"].wait()
        assert time.monotonic() - started < 5
        assert [event.name for event in seen] == ["worker", "message"]
        gate.open()
        assert texts(follow(two, turn_id, seen[-1].id))[-1] == "One two."


def test_browsers_resume_after_a_restart_of_redis(make_fleet: MakeFleet) -> None:
    """The response may end; the next one continues after the last event, and the turn ends."""
    gate = Gate()
    with make_fleet(["One ", gate, "two."]) as fleet:
        fleet.start("front", "worker 1")
        front = fleet.fronts["front"]
        turn_id = post(front)
        with open_events(front, turn_id) as events:
            seen = [next(events), next(events)]
            fleet.redis.restart()
            gate.open()
            seen += events
        while seen[-1].name != "done":
            seen += follow(front, turn_id, seen[-1].id)
        assert texts(seen)[-1] == "One two."
        assert in_order([event.id for event in seen])
