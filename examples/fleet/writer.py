"""The events of one job, from the worker that runs it to the turn's stream in Redis."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Final

import metrics
from redis.exceptions import RedisError
from settings import Settings
from turns import Job, Turns

from inferencesh import AsyncMessageStream, InferenceError, Message, web

__all__ = ["TakenOverError", "Writer"]

WRITE_TIMEOUT: Final = 30.0  # seconds that an event which must not be lost is tried again while Redis is away
RETRY_DELAY: Final = 0.5  # seconds between two such attempts
GIVEN_UP: Final = web.Problem("given_up", "The workers that wrote this reply have failed too often.", 502)

logger = logging.getLogger("fleet.writer")


class TakenOverError(Exception):
    """Redis has refused an event: the turn is another worker's now, or over."""


class GivenUpError(InferenceError):
    """The workers that ran a turn have died so often that it is not tried again."""


class Writer:
    """Writes one attempt of a job.

    Args:
        turns: All turns.
        job: The job.
        attempt: Which attempt this is, from 1 on.
        settings: Those of the fleet.
    """

    def __init__(self, turns: Turns, job: Job, attempt: int, settings: Settings) -> None:
        self._turns = turns
        self._job = job
        self._attempt = attempt
        self._settings = settings
        self._token: int | None = None
        self._newest: dict[str, str] = {}  # the id of a message -> the id of the event with its newest snapshot
        self._unwritten: dict[str, Message] = {}  # by its id, the newest snapshot of a message that Redis lacks

    async def follow(self, stream: AsyncMessageStream) -> str:
        """Write who works, each snapshot, and the last event; returns the name of the last one.

        Raises:
            TakenOverError: Another worker has the turn.
            InferenceError: The turn has failed.
            RedisError: Redis was away for too long.
        """
        async with stream:
            self._token = stream.fencing_token
            if self._attempt > self._settings.attempts:
                await stream.stop()  # so that the chat can be used again
                raise GivenUpError(f"the turn was begun {self._attempt} times")
            who = {"worker": self._settings.name, "attempt": self._attempt}
            await self._add_with_retry("worker", who, chat_id=stream.chat_id)
            async for message in stream:
                await self._write_snapshot(message)
                await asyncio.sleep(self._settings.interval)
            final = await stream.get_final_message()
        paused = final.paused or not final.done
        name = "input_required" if paused else "done"
        self._unwritten.pop(final.id, None)
        await self._write_missing()
        await self._add_with_retry(name, browser_snapshot(final, paused=paused), replaces=self._newest.get(final.id))
        return name

    async def fail(self, error: Exception) -> str:
        """Write that the turn has failed as its last event, without internals of this program."""
        if isinstance(error, InferenceError):
            logger.warning("turn %s: it has failed with %s", self._job.turn_id, type(error).__name__)
        else:
            logger.error("turn %s: it has failed with an unexpected error", self._job.turn_id, exc_info=error)
        problem = GIVEN_UP if isinstance(error, GivenUpError) else web.describe_error(error)
        await self._write_missing()
        await self._add_with_retry("error", problem.as_dict())
        return "error"

    async def _write_snapshot(self, message: Message) -> None:
        """Write a snapshot in the place of the one before. While Redis is away the turn goes on without.

        The newest of each message is written when Redis is back: a message that has ended meanwhile has no later one.
        """
        self._unwritten[message.id] = message
        try:
            for each in list(self._unwritten.values()):
                await self._add("message", browser_snapshot(each), replaces=self._newest.get(each.id))
                metrics.SNAPSHOTS.inc()
        except RedisError as error:
            logger.warning("turn %s: browsers miss a snapshot, since Redis is away: %s", self._job.turn_id, error)

    async def _write_missing(self) -> None:
        """Write the snapshots that Redis still lacks, before a last event."""
        for each in list(self._unwritten.values()):
            await self._add_with_retry("message", browser_snapshot(each), replaces=self._newest.get(each.id))

    async def _add_with_retry(self, name: str, data: Mapping[str, Any], **options: str | None) -> None:
        """Write an event that must not be lost."""
        deadline = time.monotonic() + WRITE_TIMEOUT
        while True:
            try:
                return await self._add(name, data, **options)
            except RedisError as error:
                if time.monotonic() > deadline:
                    raise
                logger.warning("turn %s: trying again to write %r: %s", self._job.turn_id, name, error)
                await asyncio.sleep(RETRY_DELAY)

    async def _add(self, name: str, data: Mapping[str, Any], **options: str | None) -> None:
        id_ = await self._turns.add(self._job, self._token, name, data, **options)
        if id_ is None:
            raise TakenOverError
        if "id" in data:
            self._newest[data["id"]] = id_
            self._unwritten.pop(data["id"], None)


def browser_snapshot(message: Message, *, paused: bool = False) -> dict[str, Any]:
    """Return what browsers are shown; its ``delta`` is empty, since they need not have seen the snapshot before."""
    return {**web.snapshot(message, paused=paused), "delta": ""}
