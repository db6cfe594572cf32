"""The state of turns in Redis: the tenant of each turn, its progress, and the stream of its events.

Every change is a Lua script, which Redis runs atomically, so a front or worker that dies never leaves half a change.
The keys, without their prefix:

- ``turn:{id}``, a hash with ``tenant``; ``state`` (queued, running, then the name of the final event); ``job``, the
  number of the current job (0 for the message, plus 1 for each decision); the ``attempt`` of that job; and ``chat``
- ``turn:{id}:events``, a stream with ``event`` and ``data``. The ids are ``<fencing token>-<n>``. Redis rejects an id
  that is not greater than the last one, and thereby a write of a worker that has lost the turn to another one.
- ``tenant:{tenant}``, a set of the turns that the tenant has in flight
- ``chat:{id}``, the tenant that owns the chat
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import attrs
from redis.asyncio import Redis
from settings import Settings

__all__ = ["FINAL_EVENTS", "Admission", "Job", "Turn", "Turns"]

FINAL_EVENTS: Final = frozenset({"done", "error", "input_required"})

ADMIT: Final = """
local turn, tenant, queue = KEYS[1], KEYS[2], KEYS[3]
local turn_id, name, tenant_limit, queue_limit, group, keep, job = unpack(ARGV)
local owner = redis.call('HGET', turn, 'tenant')
if owner then return owner == name and 'duplicate' or 'id_taken' end
if redis.call('SCARD', tenant) >= tonumber(tenant_limit) then return 'tenant_limit' end
redis.pcall('XGROUP', 'CREATE', queue, group, '0', 'MKSTREAM')
local waiting = redis.call('XLEN', queue) - redis.call('XPENDING', queue, group)[1]
if waiting >= tonumber(queue_limit) then return 'queue_limit' end
redis.call('HSET', turn, 'tenant', name, 'state', 'queued', 'job', 0, 'attempt', 0)
redis.call('EXPIRE', turn, keep)
redis.call('SADD', tenant, turn_id)
redis.call('EXPIRE', tenant, keep)
redis.call('XADD', queue, '*', 'data', job)
return 'queued'
"""

RESUME: Final = """
local turn, tenant, queue = KEYS[1], KEYS[2], KEYS[3]
local turn_id, number, keep, job = unpack(ARGV)
local known = redis.call('HMGET', turn, 'state', 'job')
if known[1] ~= 'input_required' or tonumber(known[2]) ~= number - 1 then return 'not_waiting' end
redis.call('HSET', turn, 'state', 'queued', 'job', number, 'attempt', 0)
redis.call('EXPIRE', turn, keep)
redis.call('SADD', tenant, turn_id)
redis.call('EXPIRE', tenant, keep)
redis.call('XADD', queue, '*', 'data', job)
return 'queued'
"""

BEGIN: Final = """
local known = redis.call('HMGET', KEYS[1], 'state', 'job')
if not known[1] then redis.call('SREM', KEYS[2], ARGV[3]) end
if (known[1] ~= 'queued' and known[1] ~= 'running') or known[2] ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'state', 'running')
redis.call('EXPIRE', KEYS[1], ARGV[2])
return redis.call('HINCRBY', KEYS[1], 'attempt', 1)
"""

ADD: Final = """
local turn, events, tenant, chat = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local turn_id, number, token, name, data, replaced, last, chat_id, keep, keep_chat = unpack(ARGV)
local known = redis.call('HMGET', turn, 'state', 'job')
if known[1] ~= 'running' or known[2] ~= number then return false end
if token == '' then
  local newest = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1]
  token = newest and string.match(newest[1], '^%d+') or '0'
end
local id = redis.pcall('XADD', events, token .. '-*', 'event', name, 'data', data)
if type(id) == 'table' then return false end
if replaced ~= '' then redis.call('XDEL', events, replaced) end
if chat_id ~= '' then
  redis.call('HSET', turn, 'chat', chat_id)
  redis.call('SET', chat, redis.call('HGET', turn, 'tenant'), 'EX', keep_chat)
end
if last == '1' then
  redis.call('HSET', turn, 'state', name)
  redis.call('SREM', tenant, turn_id)
end
redis.call('EXPIRE', turn, keep)
redis.call('EXPIRE', events, keep)
redis.call('PUBLISH', events, id)
return id
"""


class Admission(StrEnum):
    """The outcome of a request to queue a message or a decision."""

    QUEUED = "queued"
    DUPLICATE = "duplicate"  # it was queued before
    ID_TAKEN = "id_taken"  # another tenant has a turn with this id
    TENANT_LIMIT = "tenant_limit"
    QUEUE_LIMIT = "queue_limit"
    NOT_WAITING = "not_waiting"  # the turn is not waiting for this decision


@attrs.frozen
class Turn:
    """The state of a turn."""

    tenant: str
    state: str
    job: int
    chat_id: str | None


@attrs.frozen
class Job:
    """One job of a turn: number 0 is the message, each following number a decision."""

    turn_id: str
    tenant: str
    number: int = 0


class Turns:
    """All turns of a fleet.

    Args:
        redis: A client that decodes responses.
        settings: The settings of the fleet, with limits and retention times.
        queue: The key of the job queue.
        group: The consumer group of the queue.
    """

    def __init__(self, redis: Redis, settings: Settings, *, queue: str, group: str) -> None:
        self.redis = redis
        self._settings = settings
        self._queue = queue
        self._group = group
        self._admit = redis.register_script(ADMIT)
        self._resume = redis.register_script(RESUME)
        self._begin = redis.register_script(BEGIN)
        self._add = redis.register_script(ADD)

    def events_key(self, turn_id: str) -> str:
        """Return the key of a turn's events, which is also the channel on which new events are announced."""
        return f"{self._turn_key(turn_id)}:events"

    async def admit(self, job: Job, message: bytes) -> Admission:
        """Register a turn and queue its first job, if the limits permit it.

        Args:
            job: The job.
            message: The job as serialized by Taskiq.

        Returns:
            The outcome. Unless it is ``QUEUED``, nothing has changed.
        """
        limits = (self._settings.tenant_limit, self._settings.queue_limit)
        answer = await self._admit(
            keys=[self._turn_key(job.turn_id), self._tenant_key(job.tenant), self._queue],
            args=[job.turn_id, job.tenant, *limits, self._group, self._settings.keep, message],
        )
        return Admission(answer)

    async def resume(self, job: Job, message: bytes) -> Admission:
        """Queue the job of a decision, if the turn is waiting for one."""
        answer = await self._resume(
            keys=[self._turn_key(job.turn_id), self._tenant_key(job.tenant), self._queue],
            args=[job.turn_id, job.number, self._settings.keep, message],
        )
        return Admission(answer)

    async def begin(self, job: Job) -> int:
        """Start a job; return the number of this attempt, from 1, or 0 if the job is finished or has expired."""
        keys = [self._turn_key(job.turn_id), self._tenant_key(job.tenant)]
        return int(await self._begin(keys=keys, args=[job.number, self._settings.keep, job.turn_id]))

    async def add(
        self,
        job: Job,
        token: int | None,
        name: str,
        data: Mapping[str, Any],
        *,
        replaces: str | None = None,
        chat_id: str | None = None,
    ) -> str | None:
        """Add an event to a turn's stream; a final event also finishes the job.

        Args:
            job: The job.
            token: The fencing token of the turn, or None if its stream could not be opened.
            name: The name of the event.
            data: The data of the event.
            replaces: The id of an earlier event that this one makes obsolete, which is deleted.
            chat_id: The id of the turn's chat, with the first event.

        Returns:
            The id of the event, or None if another worker has the turn or the job is finished.
        """
        id_: str | None = await self._add(
            keys=[
                self._turn_key(job.turn_id),
                self.events_key(job.turn_id),
                self._tenant_key(job.tenant),
                self._chat_key(chat_id or ""),
            ],
            args=[
                job.turn_id,
                job.number,
                "" if token is None else token,
                name,
                json.dumps(data, ensure_ascii=False),
                replaces or "",
                int(name in FINAL_EVENTS),
                chat_id or "",
                self._settings.keep,
                self._settings.keep_chat,
            ],
        )
        return id_

    async def find(self, turn_id: str) -> Turn | None:
        """Return the state of a turn, or None if there is no such turn."""
        known: Any = await self.redis.hmget(self._turn_key(turn_id), ["tenant", "state", "job", "chat"])
        tenant, state, job, chat = known
        return None if tenant is None else Turn(tenant, state, int(job), chat)

    async def read(self, turn_id: str, after: str) -> tuple[bool, list[tuple[str, str, str]]]:
        """Return whether the turn has finished or paused, and the id, name and data of each event after an id."""
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.hget(self._turn_key(turn_id), "state")
            pipe.xrange(self.events_key(turn_id), min=f"({after}")
            answers: Any = await pipe.execute()
        state, found = answers
        return state is None or state in FINAL_EVENTS, [(id_, fields["event"], fields["data"]) for id_, fields in found]

    async def last(self, turn_id: str) -> tuple[str, dict[str, Any]]:
        """Return the name and data of the newest event of a turn, which must have one."""
        newest: Any = await self.redis.xrevrange(self.events_key(turn_id), count=1)
        ((_, fields),) = newest
        return fields["event"], json.loads(fields["data"])

    async def owner(self, chat_id: str) -> str | None:
        """Return the tenant that owns a chat, or None if it is not known."""
        tenant: Any = await self.redis.get(self._chat_key(chat_id))
        return None if tenant is None else str(tenant)

    async def jobs(self) -> tuple[int, int]:
        """Return the number of waiting jobs and the number of running jobs."""
        length = await self.redis.xlen(self._queue)
        pending: Any = await self.redis.xpending(self._queue, self._group)
        return length - pending["pending"], pending["pending"]

    def _turn_key(self, turn_id: str) -> str:
        return f"{self._settings.prefix}turn:{turn_id}"

    def _tenant_key(self, tenant: str) -> str:
        return f"{self._settings.prefix}tenant:{tenant}"

    def _chat_key(self, chat_id: str) -> str:
        return f"{self._settings.prefix}chat:{chat_id}"
