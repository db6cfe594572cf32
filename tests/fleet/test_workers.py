"""Workers that die, are stopped, are told to end, and lose Redis: their turns end all the same, once."""

from __future__ import annotations

import time

import httpx
import pytest

from inferencesh.local import ToolCall
from tests.support import Gate, wait_until

from .browsing import Event, follow, followed, post
from .conftest import MakeFleet
from .processes import STARTS_WITHIN

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

LOOK_UP = ToolCall("look_up", {"what": "price"})


def whole(front: httpx.Client, turn_id: str) -> list[Event]:
    """The events of a turn to its end, over as many responses as it takes."""
    events: list[Event] = []
    while not events or events[-1].name not in {"done", "error", "input_required"}:
        events += follow(front, turn_id, events[-1].id if events else "")
    return events


def begins(events: list[Event]) -> list[tuple[str, int]]:
    """Who has begun a turn, and at which attempt."""
    return [(event.data["worker"], event.data["attempt"]) for event in events if event.name == "worker"]


def is_empty(front: httpx.Client) -> bool:
    """Whether the queue holds no job, waiting or worked on."""
    metrics = front.get("/metrics").text
    return 'fleet_jobs{state="waiting"} 0.0' in metrics and 'fleet_jobs{state="working"} 0.0' in metrics


def test_a_turn_of_a_killed_worker_is_taken_over_on_an_idle_queue(make_fleet: MakeFleet) -> None:
    """In the middle of a tool, with no other message coming: the tool is started again, and the reply is whole."""
    with make_fleet(["Wait. ", LOOK_UP], ["It was found."], FLEET_LEASE="1") as fleet:
        fleet.start("front", "worker 1")
        front = fleet.fronts["front"]
        turn_id = post(front)
        fleet.until_started("worker 1 1")
        fleet.start("worker 2")
        fleet["worker 1"].kill()
        fleet.until_started("worker 1 1", "worker 2 2")
        fleet.let_end("price")
        events = whole(front, turn_id)
        assert begins(events) == [("worker 1", 1), ("worker 2", 2)]
        assert (events[-1].name, events[-1].data["text"]) == ("done", "It was found.")
        assert len(fleet.runtime.script.asked) == 2
        wait_until(lambda: is_empty(front), "the job is acknowledged", STARTS_WITHIN)


def test_a_turn_that_lasts_longer_than_the_lease_stays_with_its_worker(make_fleet: MakeFleet) -> None:
    """A worker that lives renews its jobs; one that is stopped does not, and finds them gone when it goes on."""
    with make_fleet(["Wait. ", LOOK_UP], ["It was found."], FLEET_LEASE="1") as fleet:
        fleet.start("front", "worker 1", "worker 2")
        front = fleet.fronts["front"]
        turn_id = post(front)
        wait_until(lambda: fleet.starts, "the tool was started", STARTS_WITHIN)
        first = fleet.starts[0].removesuffix(" 1")
        other = "worker 2" if first == "worker 1" else "worker 1"
        post(front, headers={"X-Tenant": "patient"})  # which makes the workers look around
        time.sleep(3)  # of the lease, and that nothing happens cannot be waited for
        assert f"{other} 2" not in fleet.starts
        fleet[first].pause()
        wait_until(lambda: f"{other} 2" in fleet.starts, "the turn was taken over", STARTS_WITHIN)
        fleet[first].resume()
        fleet.let_end("price")
        events = whole(front, turn_id)
        assert begins(events) == [(first, 1), (other, 2)]
        assert events[-1].name == "done"


def test_a_worker_that_is_told_to_end_ends_its_turns_first(make_fleet: MakeFleet) -> None:
    """It takes no new one meanwhile."""
    gate = Gate()
    with make_fleet(["One ", gate, "two."], ["Another one."]) as fleet:
        fleet.start("front", "worker 1")
        front = fleet.fronts["front"]
        turn_id = post(front)
        with followed(front, turn_id) as events:
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


def test_a_worker_leaves_what_does_not_end_in_time_to_others_at_once(make_fleet: MakeFleet) -> None:
    """Within seconds, although the lease is a minute: it hands its jobs and leases back."""
    with make_fleet(["Wait. ", LOOK_UP], ["It was found."], FLEET_LEASE="60", FLEET_DRAIN="0.2") as fleet:
        fleet.start("front", "worker 1")
        front = fleet.fronts["front"]
        turn_id = post(front)
        fleet.until_started("worker 1 1")
        fleet.start("worker 2")
        fleet["worker 1"].terminate()
        fleet["worker 1"].wait()
        fleet.until_started("worker 1 1", "worker 2 2")
        fleet.let_end("price")
        events = whole(front, turn_id)
        assert begins(events) == [("worker 1", 1), ("worker 2", 2)]
        assert events[-1].data["text"] == "It was found."


def test_workers_survive_a_restart_of_redis(make_fleet: MakeFleet) -> None:
    """Those that wait for jobs, and the turns in flight; what was queued before is still there."""
    gate = Gate()
    with make_fleet(["One ", gate, "two."], ["Another one."]) as fleet:
        fleet.start("front", "worker 1")
        front = fleet.fronts["front"]
        turn_id = post(front)
        with followed(front, turn_id) as events:
            next(events)
        fleet.redis.stop()
        gate.open()
        fleet.redis.start()
        assert whole(front, turn_id)[-1].data["text"] == "One two."
        assert whole(front, post(front))[-1].data["text"] == "Another one."
        wait_until(lambda: is_empty(front), "the jobs are acknowledged", STARTS_WITHIN)


def test_a_job_without_a_worker_waits_for_one(make_fleet: MakeFleet) -> None:
    """Also the first one of all."""
    with make_fleet(["Hello!"]) as fleet:
        fleet.start("front")
        turn_id = post(fleet.fronts["front"])
        fleet.start("worker 1")
        assert whole(fleet.fronts["front"], turn_id)[-1].data["text"] == "Hello!"


def test_a_turn_that_fails_says_so(make_fleet: MakeFleet) -> None:
    """The last event is the error, without internals; the tenant may send the next message."""
    with make_fleet(["Well", ValueError("private")], ["Hello!"], FLEET_TENANT_LIMIT="1") as fleet:
        fleet.start("front", "worker 1")
        front = fleet.fronts["front"]
        last = whole(front, post(front))[-1]
        assert (last.name, last.data["type"]) == ("error", "run_failed")
        assert whole(front, post(front))[-1].data["text"] == "Hello!"


def test_a_turn_whose_workers_die_again_and_again_is_given_up(make_fleet: MakeFleet) -> None:
    """It may be the turn that kills them. Its run is stopped, and the chat can be used again."""
    with make_fleet(["Wait. ", LOOK_UP], ["Hello!"], FLEET_LEASE="1", FLEET_ATTEMPTS="1") as fleet:
        fleet.start("front", "worker 1")
        front = fleet.fronts["front"]
        turn_id = post(front)
        fleet.until_started("worker 1 1")
        fleet["worker 1"].kill()
        fleet.start("worker 2")
        events = whole(front, turn_id)
        assert (events[-1].name, events[-1].data["type"]) == ("error", "given_up")
        (chat_id,) = {event.data["chat_id"] for event in events if "chat_id" in event.data}
        assert whole(front, post(front, chat_id=chat_id))[-1].data["text"] == "Hello!"
        wait_until(lambda: is_empty(front), "the jobs are acknowledged", STARTS_WITHIN)


def test_a_worker_says_what_is_wrong_with_its_settings(make_fleet: MakeFleet) -> None:
    """In one line, at its start."""
    with make_fleet(["Hello!"]) as fleet:
        fleet.redis.stop()
        with pytest.raises(AssertionError, match="worker 1: cannot start: "):
            fleet.start("worker 1")
        with pytest.raises(AssertionError, match="FLEET_LEASE must be a number, not 'x'"):
            fleet.start("worker 2", FLEET_LEASE="x")
        with pytest.raises(AssertionError, match="REDIS_URL cannot be used: "):
            fleet.start("worker 3", REDIS_URL="localhost")


def test_a_second_message_goes_to_the_same_chat(make_fleet: MakeFleet) -> None:
    """Which belongs to its tenant."""
    with make_fleet(["Hello!"], ["Again!"]) as fleet:
        fleet.start("front", "worker 1")
        front = fleet.fronts["front"]
        chat_id = whole(front, post(front))[-1].data["chat_id"]
        last = whole(front, post(front, "Hi again", chat_id=chat_id))[-1]
        assert (last.data["text"], last.data["chat_id"]) == ("Again!", chat_id)
        foreign = front.post("/chat", json={"text": "Hi", "chat_id": chat_id}, headers={"X-Tenant": "other"})
        assert foreign.status_code == 404


def test_the_command_of_taskiq_runs_a_worker_as_well(make_fleet: MakeFleet) -> None:
    """It ends when it is told to, although its signal handler does not wake the event loop up."""
    with make_fleet(["Hello!"]) as fleet:
        fleet.start("front", "taskiq")
        assert whole(fleet.fronts["front"], post(fleet.fronts["front"]))[-1].data["text"] == "Hello!"
        fleet["taskiq"].terminate()
        wait_until(lambda: "Shutting down the broker" in fleet.log("taskiq"), "it has ended", STARTS_WITHIN)
