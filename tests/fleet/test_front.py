"""The requests that a front accepts and rejects."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from .browsing import post
from .conftest import MakeFleet
from .processes import Fleet

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]


@pytest.fixture
def fleet(make_fleet: MakeFleet) -> Iterator[Fleet]:
    """A fleet without workers, and with low limits."""
    with make_fleet(FLEET_TENANT_LIMIT="2", FLEET_QUEUE_LIMIT="3") as fleet:
        yield fleet


@pytest.fixture
def front(fleet: Fleet) -> httpx.Client:
    """A front of the fleet."""
    fleet.start("front")
    return fleet.fronts["front"]


def jobs(front: httpx.Client) -> dict[str, float]:
    """Return the number of jobs in each state, from the metrics of the front."""
    lines = front.get("/metrics").text.splitlines()
    states = [line.removeprefix('fleet_jobs{state="').split('"} ') for line in lines if line.startswith("fleet_jobs{")]
    return {state: float(number) for state, number in states}


def test_the_same_turn_id_twice_is_one_turn(front: httpx.Client) -> None:
    """A browser that does not know whether its message arrived sends it again."""
    assert post(front, turn_id="t1") == "t1"
    assert post(front, turn_id="t1") == "t1"
    assert jobs(front) == {"waiting": 1, "working": 0}
    assert post(front) != post(front, headers={"X-Tenant": "other"})
    assert jobs(front)["waiting"] == 3


def test_the_turns_in_flight_of_a_tenant_are_limited(front: httpx.Client) -> None:
    """Other tenants are not affected; a rejected message is not queued, and can be sent again with the same id."""
    post(front)
    post(front)
    refused = front.post("/chat", json={"text": "One more", "turn_id": "t3"})
    assert (refused.status_code, refused.json()["type"]) == (429, "too_many_turns")
    assert int(refused.headers["Retry-After"]) > 0
    assert jobs(front)["waiting"] == 2
    post(front, headers={"X-Tenant": "other"})


def test_the_length_of_the_queue_is_limited(front: httpx.Client) -> None:
    """No message waits in a queue that the workers cannot keep up with."""
    for tenant in ("a", "b", "c"):
        post(front, headers={"X-Tenant": tenant})
    refused = front.post("/chat", json={"text": "One more"}, headers={"X-Tenant": "d"})
    assert (refused.status_code, refused.json()["type"]) == (503, "busy")
    assert int(refused.headers["Retry-After"]) > 0


def test_a_turn_belongs_to_its_tenant(front: httpx.Client) -> None:
    """Others cannot follow it, decide on its calls, or take its id; an unknown chat belongs to nobody."""
    post(front, turn_id="t1", headers={"X-Tenant": "a"})
    other = {"X-Tenant": "b"}
    assert front.get("/turns/t1/events", headers=other).status_code == 404
    path = "/turns/t1/calls/c1/decision"
    assert front.post(path, json={"approved": True}, headers=other).status_code == 404
    assert front.post(path, json={"approved": True}, headers={"X-Tenant": "a"}).status_code == 409
    taken = front.post("/chat", json={"text": "Hi", "turn_id": "t1"}, headers=other)
    assert (taken.status_code, taken.json()["type"]) == (409, "conflict")
    assert front.post("/chat", json={"text": "Hi", "chat_id": "no-such-chat"}).status_code == 404


def test_invalid_requests_are_rejected(front: httpx.Client) -> None:
    """The response names the invalid field without repeating the input."""
    wrong: list[tuple[dict[str, str], dict[str, str]]] = [
        ({}, {}),
        ({"text": " "}, {}),
        ({"text": "secret" * 2000}, {}),
        ({"text": "Hi", "turn_id": "secret/1"}, {}),
        ({"text": "Hi", "turn_id": "x" * 65}, {}),
        ({"text": "Hi"}, {"X-Tenant": "a secret"}),
    ]
    for body, headers in wrong:
        answer = front.post("/chat", json=body, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (422, "invalid_request")
        assert "secret" not in answer.text
    post(front, turn_id="t1")
    assert front.get("/turns/t1/events", headers={"Last-Event-ID": "$"}).status_code == 422
    assert front.get("/turns/t1/events?last_event_id=1-0-0").status_code == 422


def test_a_message_is_rejected_while_redis_is_unavailable(fleet: Fleet, front: httpx.Client) -> None:
    """With a Retry-After; the front recovers by itself."""
    post(front, turn_id="t1")
    fleet.redis.stop()
    refused = front.post("/chat", json={"text": "Hi", "turn_id": "t2"})
    assert (refused.status_code, refused.json()["type"]) == (503, "unavailable")
    assert int(refused.headers["Retry-After"]) > 0
    fleet.redis.start()
    assert post(front, turn_id="t2") == "t2"
    assert jobs(front)["waiting"] == 2
