"""The job queue: the Redis Stream broker of taskiq-redis, with reliable redelivery of the jobs of dead workers.

``RedisStreamBroker`` of taskiq-redis 1.2.4 has these defects:

- It searches for the jobs of dead workers only after it has received a new job, so never on an idle queue.
- It searches under a lock that is never released if its holder dies.
- It redelivers a job after ten minutes even if its worker is alive.
- It prefetches a hundred jobs, even if the worker has no capacity for them.
- It keeps acknowledged jobs in Redis forever.
- It stops listening when its connection is lost.

``JobBroker`` replaces how jobs are received and acknowledged; the rest is inherited:

- A worker fetches a job only when it has capacity, and searches for abandoned jobs once a second.
- A worker renews the jobs that it runs three times per lease. A job that was not renewed for a lease is abandoned.
- An acknowledged job is deleted, so the length of the queue is the number of unfinished jobs.
- A worker that shuts down releases its jobs, and other workers find them within a second.
- One Redis script decides whether a job is admitted and adds it to the queue: see ``turns.py``.
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
BLOCK_MS: Final = 500  # milliseconds for which a read of new jobs blocks
RETRY_DELAY: Final = 0.5  # seconds before a lost connection is tried again
CONSUMER_EXPIRY_MS: Final = 3_600_000  # milliseconds of inactivity after which a consumer without jobs is deleted

# A single script, because deleting a consumer loses a job that it received since the check.
DELETE_IDLE_CONSUMERS: Final = """
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local name, pending, idle = consumer[2], consumer[4], consumer[6]
  if pending == 0 and idle > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], name)
  end
end
"""

Entry: TypeAlias = tuple[str, dict[str, str]]  # an entry of a Redis Stream: its id and fields

logger = logging.getLogger("fleet.broker")


class RefusedError(Exception):
    """A job was not added to the queue; ``reason`` says why."""

    def __init__(self, reason: Admission) -> None:
        super().__init__(f"the job was not queued: {reason}")
        self.reason = reason


class Delivery(AckableMessage):
    """A job that this worker has received; ``id`` is the id of its entry in the queue."""

    id: str


class JobBroker(RedisStreamBroker):
    """The job queue of a fleet.

    Args:
        settings: The settings of the fleet.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        super().__init__(
            settings.redis_url,
            queue_name=f"{settings.prefix}jobs",
            consumer_group_name=GROUP,
            consumer_name=f"{settings.name} {uuid.uuid4().hex[:8]}",  # a restarted worker is a new consumer
            consumer_id="0",  # so that jobs queued before the first worker started are delivered
            idle_timeout=int(settings.lease * 1000),
        )
        self.redis = create_client(settings.redis_url)
        self.turns = Turns(self.redis, settings, queue=self.queue_name, group=GROUP)
        self._held: set[str] = set()
        self._renewal: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Connect to Redis; a worker also starts to renew its jobs."""
        await super().startup()
        if self.is_worker_process:
            await self._delete_idle_consumers()
            # Created before it has jobs, so that it appears in the list of consumers.
            await self.redis.xgroup_createconsumer(self.queue_name, GROUP, self.consumer_name)
            self._renewal = asyncio.create_task(self._renew_periodically(), name="renewal of jobs")

    async def shutdown(self) -> None:
        """Release the jobs that were not acknowledged, and close all connections."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait({self._renewal})
            try:
                await self._release_jobs()
            except (RedisError, OSError) as error:
                logger.warning("jobs could not be released; they are redelivered when their lease expires: %s", error)
        await super().shutdown()
        await self.redis.aclose()

    async def kick(self, message: BrokerMessage) -> None:
        """Add a job to the queue if it is admitted.

        Args:
            message: The job; its labels are the turn's id, its tenant, and the number of the job within the turn.

        Raises:
            RefusedError: The job was not admitted.
        """
        labels = message.labels
        job = Job(labels["turn_id"], labels["tenant"], int(labels["number"]))
        admission = await (self.turns.resume if job.number else self.turns.admit)(job, message.message)
        if admission is not Admission.QUEUED:
            raise RefusedError(admission)

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """Yield jobs, abandoned ones first; reconnect when the connection is lost."""
        searched = 0.0
        while True:
            try:
                found: list[Entry] = []
                if time.monotonic() - searched >= SEARCH_INTERVAL:
                    found = await self._claim_abandoned()
                    searched = searched if found else time.monotonic()
                found = found or await self._read_new()
            except (RedisError, OSError) as error:
                logger.warning("the queue could not be read; retrying: %s", error)
                await asyncio.sleep(RETRY_DELAY)
                await self._recreate_group()
                continue
            for id_, fields in found:
                if id_ not in self._held:
                    self._held.add(id_)
                    yield Delivery(id=id_, data=fields["data"].encode(), ack=partial(self._acknowledge, id_))

    def stop_renewing(self, delivery: Delivery) -> None:
        """Stop renewing a job; if it was not acknowledged, it is redelivered when its lease has expired."""
        self._held.discard(delivery.id)

    async def _read_new(self) -> list[Entry]:
        """Read the next new job, if one arrives within ``BLOCK_MS``."""
        answer: Any = await self.redis.xreadgroup(
            GROUP, self.consumer_name, {self.queue_name: ">"}, count=1, block=BLOCK_MS
        )
        return [entry for _, entries in answer or () for entry in entries]

    async def _claim_abandoned(self) -> list[Entry]:
        """Claim a job whose worker has not renewed it; if several workers try, Redis lets only one succeed."""
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
                logger.warning("the leases of jobs could not be renewed; retrying: %s", error)

    async def _renew(self) -> None:
        """Renew the leases of all held jobs, except those that other workers have claimed since."""
        if renewed := await self._pending_ids(self._held):
            await self.redis.xclaim(self.queue_name, GROUP, self.consumer_name, 0, renewed, justid=True)

    async def _release_jobs(self) -> None:
        """Let the leases of all jobs of this worker expire at once, by setting their idle time to that of a lease."""
        if own := await self._pending_ids():
            idle = self.idle_timeout
            await self.redis.xclaim(self.queue_name, GROUP, self.consumer_name, 0, own, idle=idle, justid=True)
            logger.info("%d jobs were released to other workers", len(own))

    async def _pending_ids(self, among: Container[str] | None = None) -> list[Any]:
        """Return the ids of the jobs that are pending for this worker in Redis, all or only those in ``among``."""
        pending: Any = await self.redis.xpending_range(
            self.queue_name, GROUP, min="-", max="+", count=10_000, consumername=self.consumer_name
        )
        return [entry["message_id"] for entry in pending if among is None or entry["message_id"] in among]

    async def _recreate_group(self) -> None:
        """Create the consumer group again, in case Redis has lost it in a restart."""
        try:
            await self._declare_consumer_group()
        except (RedisError, OSError) as error:
            logger.debug("Redis is still unavailable: %s", error)

    async def _delete_idle_consumers(self) -> None:
        """Delete the consumers of workers that stopped long ago and have no jobs."""
        await self.redis.register_script(DELETE_IDLE_CONSUMERS)(
            keys=[self.queue_name], args=[GROUP, CONSUMER_EXPIRY_MS]
        )


class JobReceiver(Receiver):
    """Taskiq's receiver, which also stops renewing a job when its function has ended, acknowledged or not."""

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
