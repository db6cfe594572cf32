"""Workers that die, are suspended, shut down, or lose Redis: their turns still end, once."""

from __future__ import annotations

import time

import httpx
import pytest

from inferencesh.local import ToolCall
from tests.support import Gate, wait_until

from .browsing import Event, follow, open_events, post
from .conftest import MakeFleet
from .processes import STARTS_WITHIN

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

LOOK_UP = ToolCall("look_up", {"what": "price"})


def whole(front: httpx.Client, turn_id: str) -> list[Event]:
    """Return all events of a turn up to its final event, over as many responses as necessary."""
    events: list[Event] = []
    while not events or events[-1].name not in {"done", "error", "input_required"}:
        events += follow(front, turn_id, events[-1].id if events else "")
    return events


def begins(events: list[Event]) -> list[tuple[str, int]]:
    """Return the workers that have started a turn, and their attempts."""
    return [(event.data["worker"], event.data["attempt"]) for event in events if event.name == "worker"]


def is_empty(front: httpx.Client) -> bool:
    """Whether the queue holds no waiting or running job."""
    metrics = front.get("/metrics").text
    return 'fleet_jobs{state="waiting"} 0.0' in metrics and 'fleet_jobs{state="working"} 0.0' in metrics


def test_a_turn_of_a_killed_worker_is_taken_over_on_an_idle_queue(make_fleet: MakeFleet) -> None:
    """During a tool call, without any other message: the tool is run again, and the reply is complete."""
    with make_fleet(["Wait. ", LOOK_UP], ["It was found."], FLEET_LEASE="1") as fleet:
        fleet.start("front", "worker 1")
        front = fleet.fronts["front"]
        turn_id = post(front)
        fleet.wait_for_starts("worker 1 1")
        fleet.start("worker 2")
        fleet["worker 1"].kill()
        fleet.wait_for_starts("worker 1 1", "worker 2 2")
        fleet.finish_tool("price")
        events = whole(front, turn_id)
        assert begins(events) == [("worker 1", 1), ("worker 2", 2)]
        assert (events[-1].name, events[-1].data["text"]) == ("done", "It was found.")
        assert len(fleet.runtime.script.asked) == 2
        wait_until(lambda: is_empty(front), "the job is acknowledged", STARTS_WITHIN)


def test_a_turn_that_lasts_longer_than_the_lease_stays_with_its_worker(make_fleet: MakeFleet) -> None:
    """A running worker renews its jobs. A suspended one does not, and has lost them when it resumes."""
    with make_fleet(["Wait. ", LOOK_UP], ["It was found."], FLEET_LEASE="1") as fleet:
        fleet.start("front", "worker 1", "worker 2")
        front = fleet.fronts["front"]
        turn_id = post(front)
        wait_until(lambda: fleet.starts, "the tool was started", STARTS_WITHIN)
        first = fleet.starts[0].removesuffix(" 1")
        other = "worker 2" if first == "worker 1" else "worker 1"
        post(front, headers={"X-Tenant": "patient"})  # so that the workers search for jobs
        time.sleep(3)  # longer than the lease; there is no event to wait for, because nothing must happen
        assert f"{other} 2" not in fleet.starts
        fleet[first].pause()
        wait_until(lambda: f"{other} 2" in fleet.starts, "the turn was taken over", STARTS_WITHIN)
        fleet[first].resume()
        fleet.finish_tool("price")
        events = whole(front, turn_id)
        assert begins(events) == [(first, 1), (other, 2)]
        assert events[-1].name == "done"


def test_a_worker_that_shuts_down_finishes_its_turns(make_fleet: MakeFleet) -> None:
    """It takes no new jobs in the meantime."""
    gate = Gate()
    with make_fleet(["One ", gate, "two."], ["Another one."]) as fleet:
        fleet.start("front", "worker 1")
        front = fleet.fronts["front"]
        turn_id = post(front)
        with open_events(front, turn_id) as events:
            seen = [next(events), next(events)]
            fleet["worker 1"].terminate()
            wait_until(lambda: "shutting down" in fleet.log("worker 1"), "the worker is draining", STARTS_WITHIN)
            later = post(front)
            gate.open()
            seen += events
        assert (begins(seen), seen[-1].data["text"]) == ([("worker 1", 1)], "One two.")
        fleet["worker 1"].wait()
        fleet.start("worker 2")
        assert begins(whole(front, later)) == [("worker 2", 1)]
        wait_until(lambda: is_empty(front), "the jobs are acknowledged", STARTS_WITHIN)


def test_a_worker_that_shuts_down_hands_over_unfinished_turns_at_once(make_fleet: MakeFleet) -> None:
    """Within seconds, although the lease is a minute: it releases its jobs and leases."""
    with make_fleet(["Wait. ", LOOK_UP], ["It was found."], FLEET_LEASE="60", FLEET_DRAIN="0.2") as fleet:
        fleet.start("front", "worker 1")
        front = fleet.fronts["front"]
        turn_id = post(front)
        fleet.wait_for_starts("worker 1 1")
        fleet.start("worker 2")
        fleet["worker 1"].terminate()
        fleet["worker 1"].wait()
        fleet.wait_for_starts("worker 1 1", "worker 2 2")
        fleet.finish_tool("price")
        events = whole(front, turn_id)
        assert begins(events) == [("worker 1", 1), ("worker 2", 2)]
        assert events[-1].data["text"] == "It was found."


def test_workers_survive_a_restart_of_redis(make_fleet: MakeFleet) -> None:
    """Both idle workers and turns in flight; queued jobs are still there."""
    gate = Gate()
    with make_fleet(["One ", gate, "two."], ["Another one."]) as fleet:
        fleet.start("front", "worker 1")
        front = fleet.fronts["front"]
        turn_id = post(front)
        with open_events(front, turn_id) as events:
            next(events)
        fleet.redis.stop()
        gate.open()
        fleet.redis.start()
        assert whole(front, turn_id)[-1].data["text"] == "One two."
        assert whole(front, post(front))[-1].data["text"] == "Another one."
        wait_until(lambda: is_empty(front), "the jobs are acknowledged", STARTS_WITHIN)


def test_a_job_without_a_worker_waits_for_one(make_fleet: MakeFleet) -> None:
    """Even the very first job."""
    with make_fleet(["Hello!"]) as fleet:
        fleet.start("front")
        turn_id = post(fleet.fronts["front"])
        fleet.start("worker 1")
        assert whole(fleet.fronts["front"], turn_id)[-1].data["text"] == "Hello!"


def test_a_failed_turn_ends_with_an_error_event(make_fleet: MakeFleet) -> None:
    """Without internal details; the tenant can send the next message."""
    with make_fleet(["Well", ValueError("private")], ["Hello!"], FLEET_TENANT_LIMIT="1") as fleet:
        fleet.start("front", "worker 1")
        front = fleet.fronts["front"]
        last = whole(front, post(front))[-1]
        assert (last.name, last.data["type"]) == ("error", "run_failed")
        assert whole(front, post(front))[-1].data["text"] == "Hello!"


def test_a_turn_whose_workers_keep_dying_is_given_up(make_fleet: MakeFleet) -> None:
    """The turn itself may be the cause. Its run is stopped, and the chat can be used again."""
    with make_fleet(["Wait. ", LOOK_UP], ["Hello!"], FLEET_LEASE="1", FLEET_ATTEMPTS="1") as fleet:
        fleet.start("front", "worker 1")
        front = fleet.fronts["front"]
        turn_id = post(front)
        fleet.wait_for_starts("worker 1 1")
        fleet["worker 1"].kill()
        fleet.start("worker 2")
        events = whole(front, turn_id)
        assert (events[-1].name, events[-1].data["type"]) == ("error", "given_up")
        (chat_id,) = {event.data["chat_id"] for event in events if "chat_id" in event.data}
        assert whole(front, post(front, chat_id=chat_id))[-1].data["text"] == "Hello!"
        wait_until(lambda: is_empty(front), "the jobs are acknowledged", STARTS_WITHIN)


def test_a_worker_reports_wrong_settings(make_fleet: MakeFleet) -> None:
    """In one line, at startup."""
    with make_fleet(["Hello!"]) as fleet:
        fleet.redis.stop()
        with pytest.raises(AssertionError, match="worker 1: cannot start: "):
            fleet.start("worker 1")
        with pytest.raises(AssertionError, match="FLEET_LEASE must be a number, not 'x'"):
            fleet.start("worker 2", FLEET_LEASE="x")
        with pytest.raises(AssertionError, match="REDIS_URL cannot be used: "):
            fleet.start("worker 3", REDIS_URL="localhost")


def test_a_second_message_can_be_sent_to_the_same_chat(make_fleet: MakeFleet) -> None:
    """But only by the tenant of the chat."""
    with make_fleet(["Hello!"], ["Again!"]) as fleet:
        fleet.start("front", "worker 1")
        front = fleet.fronts["front"]
        chat_id = whole(front, post(front))[-1].data["chat_id"]
        last = whole(front, post(front, "Hi again", chat_id=chat_id))[-1]
        assert (last.data["text"], last.data["chat_id"]) == ("Again!", chat_id)
        foreign = front.post("/chat", json={"text": "Hi", "chat_id": chat_id}, headers={"X-Tenant": "other"})
        assert foreign.status_code == 404


def test_the_command_of_taskiq_can_run_a_worker(make_fleet: MakeFleet) -> None:
    """It shuts down on SIGTERM, although its signal handler does not wake up the event loop."""
    with make_fleet(["Hello!"]) as fleet:
        fleet.start("front", "taskiq")
        assert whole(fleet.fronts["front"], post(fleet.fronts["front"]))[-1].data["text"] == "Hello!"
        fleet["taskiq"].terminate()
        wait_until(lambda: "Shutting down the broker" in fleet.log("taskiq"), "it has ended", STARTS_WITHIN)
