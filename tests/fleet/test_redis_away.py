"""What browsers are shown of a turn that goes on while Redis is away."""

from __future__ import annotations

import pytest

from inferencesh.local import ToolCall
from tests.support import Gate, wait_until

from .browsing import follow, followed, post
from .conftest import MakeFleet
from .processes import STARTS_WITHIN

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

NOBODYS = ToolCall("nobodys", {})  # a tool that there is not, after which the agent writes one more message


def test_a_message_that_has_ended_while_redis_was_away_is_shown_whole(make_fleet: MakeFleet) -> None:
    """Although the next one has ended, too, when it is back: no later snapshot of it comes."""
    away = Gate()
    with make_fleet(["One ", away, "two.", NOBODYS], ["Three ", "four."]) as fleet:
        fleet.start("front", "worker 1")
        front = fleet.fronts["front"]
        turn_id = post(front)
        with followed(front, turn_id) as events:
            next(event for event in events if event.data.get("text") == "One ")
        fleet.redis.stop()
        away.open()
        wait_until(
            lambda: "could not be written; retrying" in fleet.log("worker 1"), "the end of the turn", STARTS_WITHIN
        )
        fleet.redis.start()
        shown = {event.data["id"]: event.data["text"] for event in follow(front, turn_id) if "text" in event.data}
        assert list(shown.values()) == ["One two.", "Three four."]
