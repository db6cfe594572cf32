"""The events of a turn that continues while Redis is unavailable."""

from __future__ import annotations

import pytest

from inferencesh.local import ToolCall
from tests.support import Gate, wait_until

from .browsing import follow, open_events, post
from .conftest import MakeFleet
from .processes import STARTS_WITHIN

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

UNKNOWN = ToolCall("unknown", {})  # a tool that does not exist, after which the agent writes one more message


def test_a_message_that_ended_while_redis_was_unavailable_is_shown_whole(make_fleet: MakeFleet) -> None:
    """Even if the next one has also ended by then, so that no later snapshot of it follows."""
    away = Gate()
    with make_fleet(["One ", away, "two.", UNKNOWN], ["Three ", "four."]) as fleet:
        fleet.start("front", "worker 1")
        front = fleet.fronts["front"]
        turn_id = post(front)
        with open_events(front, turn_id) as events:
            next(event for event in events if event.data.get("text") == "One ")
        fleet.redis.stop()
        away.open()
        wait_until(
            lambda: "could not be written; retrying" in fleet.log("worker 1"), "the end of the turn", STARTS_WITHIN
        )
        fleet.redis.start()
        shown = {event.data["id"]: event.data["text"] for event in follow(front, turn_id) if "text" in event.data}
        assert list(shown.values()) == ["One two.", "Three four."]
