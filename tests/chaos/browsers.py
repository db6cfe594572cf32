"""A browser that follows one turn; it loses its connection at random, and reconnects to any front."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import attrs

from .plan import Plan

__all__ = ["FINAL_EVENTS", "Browser", "Event"]

FINAL_EVENTS = frozenset({"done", "error", "input_required"})
_PAUSE = 0.2  # mean seconds before a retry
_SILENCE = 20.0  # seconds without any data, including comments, after which a browser reconnects


@attrs.frozen
class Event:
    """One server-sent event."""

    id: str
    name: str
    data: Any

    @property
    def order(self) -> tuple[int, int]:
        """The two numbers of the id."""
        token, _, number = self.id.partition("-")
        return int(token), int(number)


@attrs.define
class Browser:
    """A turn as its browser sees it.

    Attributes:
        plan: The plan of the turn.
        chat_id: The id of the chat, or None for a new one.
        tenant: The tenant.
        events: The events that were received, over all connections.
        reconnects: The number of failed requests and lost connections.
        refused: The status codes of error responses.
        seconds: The duration of the turn, from its acceptance by a front.
        error: The exception that ended it, or "".
    """

    plan: Plan
    chat_id: str | None
    tenant: str
    events: list[Event] = attrs.field(factory=list)
    reconnects: int = 0
    refused: list[int] = attrs.field(factory=list)
    seconds: float = 0.0
    error: str = ""

    @property
    def last(self) -> Event | None:
        """The final event of the turn, or None if it has not arrived."""
        return self.events[-1] if self.events and self.events[-1].name in FINAL_EVENTS else None

    async def send(self, session: aiohttp.ClientSession, fronts: Sequence[str], rng: random.Random) -> None:
        """Send the message until a front has accepted it; its turn id makes retries safe.

        Args:
            session: The HTTP session.
            fronts: The addresses of the fronts.
            rng: Chooses the front.
        """
        taken = await self._post(session, rng.choice(fronts))
        while not taken:
            await asyncio.sleep(rng.uniform(0.5, 1.5) * _PAUSE)
            taken = await self._post(session, rng.choice(fronts))

    async def follow(
        self, session: aiohttp.ClientSession, fronts: Sequence[str], rng: random.Random, drops: float
    ) -> None:
        """Follow the turn to its final event.

        Args:
            session: The HTTP session.
            fronts: The addresses of the fronts.
            rng: Chooses the front, and when the connection is lost.
            drops: The probability that a connection is lost.
        """
        while self.last is None:
            left = rng.randint(1, 12) if rng.random() < drops else None  # events until the connection is lost
            await self._listen(session, rng.choice(fronts), left)
            if self.last is None:
                self.reconnects += 1
                await asyncio.sleep(rng.uniform(0.2, 1.0) * _PAUSE)

    async def _post(self, session: aiohttp.ClientSession, front: str) -> bool:
        """Send the message; return whether the front has accepted it."""
        body = {"text": self.plan.message, "chat_id": self.chat_id, "turn_id": self.plan.turn_id}
        try:
            async with session.post(f"{front}/chat", json=body, headers=self._headers()) as response:
                if response.status == 202:
                    return True
                self._note_refusal(response)
        except (aiohttp.ClientError, TimeoutError):
            self.reconnects += 1
        return False

    async def _listen(self, session: aiohttp.ClientSession, front: str, left: int | None) -> None:
        headers = self._headers()
        if self.events:
            headers["Last-Event-ID"] = self.events[-1].id
        address = f"{front}/turns/{self.plan.turn_id}/events"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=_SILENCE)
        try:
            async with session.get(address, headers=headers, timeout=timeout) as response:
                if response.status != 200:
                    self._note_refusal(response)
                    return
                async for event in read_events(response.content):
                    self.events.append(event)
                    if event.name in FINAL_EVENTS or (left is not None and (left := left - 1) <= 0):
                        return
        except (aiohttp.ClientError, TimeoutError):
            return

    def _note_refusal(self, response: aiohttp.ClientResponse) -> None:
        """Record the status of an error response.

        Raises:
            AssertionError: The status is not one that may occur while processes are killed.
        """
        self.refused.append(response.status)
        assert response.status >= 500 or response.status == 429, f"{response.method} was answered {response.status}"
        if response.status in {429, 503}:
            assert "Retry-After" in response.headers, f"a {response.status} without Retry-After"

    def _headers(self) -> dict[str, str]:
        return {"X-Tenant": self.tenant}


async def read_events(content: aiohttp.StreamReader) -> AsyncIterator[Event]:
    """Yield the events of a response."""
    fields: dict[str, str] = {}
    async for raw in content:
        line = raw.decode().rstrip("\r\n")
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        if "data" in fields:
            yield Event(fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"]))
        fields = {}
