"""Publishes the events of a job to the turn's stream in Redis."""

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

WRITE_TIMEOUT: Final = 30.0  # seconds for which a write that must succeed is retried while Redis is unavailable
RETRY_DELAY: Final = 0.5  # seconds between two retries
GIVEN_UP: Final = web.Problem("given_up", "The workers that ran this turn failed too often.", 502)

logger = logging.getLogger("fleet.writer")


class TakenOverError(Exception):
    """Redis has rejected an event, because another worker has the turn or the turn is finished."""


class GivenUpError(InferenceError):
    """A turn was started too often, by workers that died, and is not tried again."""


class Writer:
    """Publishes the events of one attempt of a job.

    Args:
        turns: All turns.
        job: The job.
        attempt: The number of this attempt, from 1.
        settings: The settings of the fleet.
    """

    def __init__(self, turns: Turns, job: Job, attempt: int, settings: Settings) -> None:
        self._turns = turns
        self._job = job
        self._attempt = attempt
        self._settings = settings
        self._token: int | None = None
        self._newest: dict[str, str] = {}  # message id -> id of the event with its newest snapshot
        self._unwritten: dict[str, Message] = {}  # message id -> newest snapshot that could not be written yet

    async def follow(self, stream: AsyncMessageStream) -> str:
        """Publish the name of this worker, each snapshot, and the final event.

        Returns:
            The name of the final event.

        Raises:
            TakenOverError: Another worker has the turn.
            InferenceError: The turn failed.
            RedisError: Redis was unavailable for too long.
        """
        async with stream:
            self._token = stream.fencing_token
            if self._attempt > self._settings.attempts:
                await stream.stop()  # so that the chat can be used again
                raise GivenUpError(f"the turn was started {self._attempt} times")
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
        """Publish the failure of the turn as its final event, without internal details; return the event's name."""
        if isinstance(error, InferenceError):
            logger.warning("turn %s failed with %s", self._job.turn_id, type(error).__name__)
        else:
            logger.error("turn %s failed with an unexpected error", self._job.turn_id, exc_info=error)
        problem = GIVEN_UP if isinstance(error, GivenUpError) else web.describe_error(error)
        await self._write_missing()
        await self._add_with_retry("error", problem.as_dict())
        return "error"

    async def _write_snapshot(self, message: Message) -> None:
        """Write a snapshot in place of the previous one of the same message.

        While Redis is unavailable, the turn continues. The newest snapshot of each message is written once Redis is
        back, because a message that has ended in the meantime has no later snapshot.
        """
        self._unwritten[message.id] = message
        try:
            for each in list(self._unwritten.values()):
                await self._add("message", browser_snapshot(each), replaces=self._newest.get(each.id))
                metrics.SNAPSHOTS.inc()
        except RedisError as error:
            logger.warning("turn %s: Redis is unavailable; a snapshot was skipped: %s", self._job.turn_id, error)

    async def _write_missing(self) -> None:
        """Write the snapshots that could not be written yet, before the final event."""
        for each in list(self._unwritten.values()):
            await self._add_with_retry("message", browser_snapshot(each), replaces=self._newest.get(each.id))

    async def _add_with_retry(self, name: str, data: Mapping[str, Any], **options: str | None) -> None:
        """Write an event that must not be lost, with retries."""
        deadline = time.monotonic() + WRITE_TIMEOUT
        while True:
            try:
                return await self._add(name, data, **options)
            except RedisError as error:
                if time.monotonic() > deadline:
                    raise
                logger.warning("turn %s: %r could not be written; retrying: %s", self._job.turn_id, name, error)
                await asyncio.sleep(RETRY_DELAY)

    async def _add(self, name: str, data: Mapping[str, Any], **options: str | None) -> None:
        id_ = await self._turns.add(self._job, self._token, name, data, **options)
        if id_ is None:
            raise TakenOverError
        if "id" in data:
            self._newest[data["id"]] = id_
            self._unwritten.pop(data["id"], None)


def browser_snapshot(message: Message, *, paused: bool = False) -> dict[str, Any]:
    """Return a snapshot for browsers; its ``delta`` is empty, because a browser may have missed the previous one."""
    return {**web.snapshot(message, paused=paused), "delta": ""}
