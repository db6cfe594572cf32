"""The requests of a browser to a front: it sends messages and follows turns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import httpx

__all__ = ["Event", "follow", "open_events", "post"]


@attrs.frozen
class Event:
    """A server-sent event."""

    id: str
    name: str
    data: dict[str, Any]


def post(front: httpx.Client, text: str = "Hello", **options: Any) -> str:
    """Send a message; return the id of its turn."""
    headers = options.pop("headers", {})
    answer = front.post("/chat", json={"text": text, **options}, headers=headers)
    assert answer.status_code == 202, answer.text
    turn_id: str = answer.json()["turn_id"]
    return turn_id


@contextmanager
def open_events(front: httpx.Client, turn_id: str, after: str = "", **headers: str) -> Iterator[Iterator[Event]]:
    """Open the events of a turn; return an iterator of the events as they arrive."""
    if after:
        headers["Last-Event-ID"] = after
    with front.stream("GET", f"/turns/{turn_id}/events", headers=headers) as response:
        assert response.status_code == 200, response.read()
        yield events_of(response)


def follow(front: httpx.Client, turn_id: str, after: str = "", **headers: str) -> list[Event]:
    """Follow a turn to the end of the response."""
    with open_events(front, turn_id, after, **headers) as events:
        return list(events)


def events_of(response: httpx.Response) -> Iterator[Event]:
    """Yield the events of a response, without comments."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if not line and "data" in fields:
            yield Event(fields["id"], fields["event"], json.loads(fields["data"]))
        if not line:
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
