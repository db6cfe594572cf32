"""A person decides on a tool call, and any worker resumes the turn."""

from __future__ import annotations

import pytest

from inferencesh.local import ToolCall

from .browsing import follow, post
from .conftest import MakeFleet

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

BOOK = ToolCall("book", {"what": "Lisbon"})


@pytest.mark.parametrize(("approved", "result"), [(True, "Lisbon is booked"), (False, "too far")])
def test_a_decision_resumes_the_turn(make_fleet: MakeFleet, approved: bool, result: str) -> None:
    """It pauses without a worker and is resumed once; repeating the decision is a conflict."""
    with make_fleet(["Shall I? ", BOOK], ["As you wish."]) as fleet:
        fleet.start("front", "worker 1")
        front = fleet.fronts["front"]
        turn_id = post(front)
        paused = follow(front, turn_id)[-1]
        assert paused.name == "input_required"
        (call,) = paused.data["tool_calls"]
        path = f"/turns/{turn_id}/calls/{call['id']}/decision"
        decision = {"approved": approved, "reason": "too far"}
        assert front.post(f"/turns/{turn_id}/calls/other/decision", json=decision).status_code == 409
        assert front.post(path, json=decision).status_code == 202
        assert front.post(path, json=decision).status_code == 409
        rest = follow(front, turn_id, paused.id)
        assert (rest[0].name, rest[-1].name) == ("worker", "done")
        assert rest[0].data["attempt"] == 1
        assert rest[-1].data["text"] == "As you wish."
        (told,) = [message.text for message in fleet.runtime.script.asked[-1].messages if message.role == "tool"]
        assert result in told
        whole = follow(front, turn_id)  # as after a reload of the page: the pause is no longer the end
        assert [event.name for event in whole if event.name != "message"] == [
            "worker",
            "input_required",
            "worker",
            "done",
        ]
