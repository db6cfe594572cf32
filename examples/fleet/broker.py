"""The queue of jobs: taskiq-redis's broker on a Redis Stream, without the faults that lose a dead worker's job.

``RedisStreamBroker`` of taskiq-redis 1.2.4 looks for the jobs of dead workers only after it has received a new one, so
that on an idle queue they are never found, and under a lock that a worker which dies with it never gives back. It
hands a job of a living worker to another one after ten minutes, fetches a hundred jobs at a time whatever is free,
keeps every job in Redis for ever, and stops listening when its connection is lost. ``JobBroker`` replaces how jobs are
received and acknowledged; everything else is taskiq-redis's.

- A worker fetches a job when it can run it, and looks for abandoned ones once a second.
- A job that is worked on is renewed three times within a lease. One that is not has been abandoned.
- A job is deleted when it is acknowledged, so the queue's length is the number of jobs that are not done.
- A worker that is told to end hands its jobs back, and others find them within a second.
- A job is admitted, or refused, in the same step of Redis that puts it into the queue: see ``turns.py``.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Container
from functools import partial
from typing import Any, Final, TypeAlias

from connections import create_client
from redis.exceptions import RedisError
from settings import SETTINGS, Settings
from taskiq import AckableMessage, BrokerMessage
from taskiq.receiver import Receiver
from taskiq_redis import RedisStreamBroker
from turns import Admission, Job, Turns

__all__ = ["Delivery", "JobBroker", "JobReceiver", "RefusedError", "broker"]

GROUP: Final = "workers"
SEARCH_INTERVAL: Final = 1.0  # seconds between two searches for abandoned jobs
BLOCK_MS: Final = 500  # milliseconds that Redis waits for a new job before it says that there is none
RETRY_DELAY: Final = 0.5  # seconds until a lost connection is tried again
CONSUMER_EXPIRY_MS: Final = 3_600_000  # milliseconds of silence after which a consumer without jobs is deleted

# One script, since a consumer that got a job in between would lose it.
DELETE_IDLE_CONSUMERS: Final = """
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local name, pending, idle = consumer[2], consumer[4], consumer[6]
  if pending == 0 and idle > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], name)
  end
end
"""

Entry: TypeAlias = tuple[str, dict[str, str]]  # of a stream: its id and fields

logger = logging.getLogger("fleet.broker")


class RefusedError(Exception):
    """A job was not put into the queue; ``reason`` tells why."""

    def __init__(self, reason: Admission) -> None:
        super().__init__(f"the job was not queued: {reason}")
        self.reason = reason


class Delivery(AckableMessage):
    """A job as this worker has received it; ``id`` is its place in the queue."""

    id: str


class JobBroker(RedisStreamBroker):
    """The queue of a fleet.

    Args:
        settings: Those of the fleet.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        super().__init__(
            settings.redis_url,
            queue_name=f"{settings.prefix}jobs",
            consumer_group_name=GROUP,
            consumer_name=f"{settings.name} {uuid.uuid4().hex[:8]}",  # a worker that is started again is another one
            consumer_id="0",  # what was queued before the first worker came is a job, too
            idle_timeout=int(settings.lease * 1000),
        )
        self.redis = create_client(settings.redis_url)
        self.turns = Turns(self.redis, settings, queue=self.queue_name, group=GROUP)
        self._held: set[str] = set()
        self._renewal: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """As inherited; a worker also begins to renew what it holds."""
        await super().startup()
        if self.is_worker_process:
            await self._delete_idle_consumers()
            await self.redis.xgroup_createconsumer(self.queue_name, GROUP, self.consumer_name)  # listed before its jobs
            self._renewal = asyncio.create_task(self._renew_periodically(), name="renewal of jobs")

    async def shutdown(self) -> None:
        """Hand back what was not acknowledged, and close all connections."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait({self._renewal})
            try:
                await self._release_jobs()
            except (RedisError, OSError) as error:
                logger.warning("jobs could not be handed back, and wait for the end of their lease: %s", error)
        await super().shutdown()
        await self.redis.aclose()

    async def kick(self, message: BrokerMessage) -> None:
        """Admit a job to the queue.

        Args:
            message: The job; its labels say which job of which turn it is.

        Raises:
            RefusedError: It was not admitted.
        """
        labels = message.labels
        job = Job(labels["turn_id"], labels["tenant"], int(labels["number"]))
        admission = await (self.turns.resume if job.number else self.turns.admit)(job, message.message)
        if admission is not Admission.QUEUED:
            raise RefusedError(admission)

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """Yield jobs, abandoned ones first; lost connections are made again."""
        searched = 0.0
        while True:
            try:
                found: list[Entry] = []
                if time.monotonic() - searched >= SEARCH_INTERVAL:
                    found = await self._claim_abandoned()
                    searched = searched if found else time.monotonic()
                found = found or await self._read_new()
            except (RedisError, OSError) as error:
                logger.warning("the queue cannot be read, trying again: %s", error)
                await asyncio.sleep(RETRY_DELAY)
                await self._recreate_group()
                continue
            for id_, fields in found:
                if id_ not in self._held:
                    self._held.add(id_)
                    yield Delivery(id=id_, data=fields["data"].encode(), ack=partial(self._acknowledge, id_))

    def stop_renewing(self, delivery: Delivery) -> None:
        """Renew a job no longer; if it was not acknowledged, it is tried again when its lease has run out."""
        self._held.discard(delivery.id)

    async def _read_new(self) -> list[Entry]:
        """Return the next new job, if one comes while Redis waits for it."""
        answer: Any = await self.redis.xreadgroup(
            GROUP, self.consumer_name, {self.queue_name: ">"}, count=1, block=BLOCK_MS
        )
        return [entry for _, entries in answer or () for entry in entries]

    async def _claim_abandoned(self) -> list[Entry]:
        """Claim a job whose worker has not renewed it; of several workers that try, Redis lets one."""
        idle = self.idle_timeout
        left: Any = await self.redis.xpending_range(self.queue_name, GROUP, min="-", max="+", count=1, idle=idle)
        ids = [entry["message_id"] for entry in left]
        if not ids:
            return []
        claimed: Any = await self.redis.xclaim(self.queue_name, GROUP, self.consumer_name, idle, ids)
        return [entry for entry in claimed if entry[1]]

    async def _acknowledge(self, id_: str) -> None:
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.xack(self.queue_name, GROUP, id_)
            pipe.xdel(self.queue_name, id_)
            await pipe.execute()
        self._held.discard(id_)

    async def _renew_periodically(self) -> None:
        while True:
            await asyncio.sleep(self.settings.lease / 3)
            try:
                await self._renew()
            except (RedisError, OSError) as error:
                logger.warning("jobs could not be renewed, trying again: %s", error)

    async def _renew(self) -> None:
        """Begin the lease of all held jobs anew, but not of those that others have claimed meanwhile."""
        if renewed := await self._pending_ids(self._held):
            await self.redis.xclaim(self.queue_name, GROUP, self.consumer_name, 0, renewed, justid=True)

    async def _release_jobs(self) -> None:
        """Make all own jobs look as if their lease had run out."""
        if own := await self._pending_ids():
            idle = self.idle_timeout
            await self.redis.xclaim(self.queue_name, GROUP, self.consumer_name, 0, own, idle=idle, justid=True)
            logger.info("%d jobs were handed back", len(own))

    async def _pending_ids(self, among: Container[str] | None = None) -> list[Any]:
        """Return the ids of the jobs that are this worker's by what Redis knows, all or those among some."""
        pending: Any = await self.redis.xpending_range(
            self.queue_name, GROUP, min="-", max="+", count=10_000, consumername=self.consumer_name
        )
        return [entry["message_id"] for entry in pending if among is None or entry["message_id"] in among]

    async def _recreate_group(self) -> None:
        """Make the queue again if Redis has come back without it."""
        try:
            await self._declare_consumer_group()
        except (RedisError, OSError) as error:
            logger.debug("Redis is still away: %s", error)

    async def _delete_idle_consumers(self) -> None:
        """Take workers that are gone for long and have no jobs off the list of the queue's consumers."""
        await self.redis.register_script(DELETE_IDLE_CONSUMERS)(
            keys=[self.queue_name], args=[GROUP, CONSUMER_EXPIRY_MS]
        )


class JobReceiver(Receiver):
    """Taskiq's receiver, which lets go of a job when its function has ended, acknowledged or not."""

    async def callback(self, message: bytes | AckableMessage, raise_err: bool = False) -> None:  # noqa: FBT001 - as inherited
        """Run a job."""
        try:
            await super().callback(message, raise_err)
        finally:
            if isinstance(message, Delivery) and isinstance(self.broker, JobBroker):
                self.broker.stop_renewing(message)


try:
    broker: Final = JobBroker(SETTINGS)
except ValueError as error:
    raise SystemExit(f"REDIS_URL cannot be used: {error}") from None
