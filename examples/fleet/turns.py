"""What is known of a turn, in Redis: whose it is, how far it has come, and the stream of its events.

Every change is one Lua script, which Redis runs as a whole. So any front and any worker can make it, and one that dies
has either made it or not. The keys of a turn, behind the prefix:

- ``turn:{id}``, a hash: ``tenant``; ``state`` (queued, running, and then the name of the last event); ``job``, the
  number of its present job (0 is the message, each decision of a person is one more); ``attempt`` of that job; ``chat``
- ``turn:{id}:events``, a stream: ``event`` and ``data``. Its ids are fenced: ``<fencing token>-<n>``. Redis refuses an
  id that is not behind the last one, and so a worker that has lost its turn to another.
- ``tenant:{tenant}``, a set: the turns that this tenant has in flight
- ``chat:{id}``: the tenant that a chat belongs to
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
    """What has become of a turn, or of a decision, that a browser has sent."""

    QUEUED = "queued"
    DUPLICATE = "duplicate"  # it was sent before
    ID_TAKEN = "id_taken"  # its id is taken by another tenant's turn
    TENANT_LIMIT = "tenant_limit"
    QUEUE_LIMIT = "queue_limit"
    NOT_WAITING = "not_waiting"  # the turn does not wait for a decision any more


@attrs.frozen
class Turn:
    """What is known of a turn."""

    tenant: str
    state: str
    job: int
    chat_id: str | None


@attrs.frozen
class Job:
    """One job of a turn: the message is number 0, each decision of a person is one more."""

    turn_id: str
    tenant: str
    number: int = 0


class Turns:
    """All turns of a fleet.

    Args:
        redis: A client that decodes responses.
        settings: Limits, and how long what is kept.
        queue: The key of the queue of jobs.
        group: Its consumer group.
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
        """Return the key of a turn's events, which is also the channel on which new ones are announced."""
        return f"{self._turn_key(turn_id)}:events"

    async def admit(self, job: Job, message: bytes) -> Admission:
        """Register a turn and put its first job into the queue, or tell why not.

        Args:
            job: The job.
            message: The job as the engine writes it.

        Returns:
            What has become of it. Only ``QUEUED`` has changed anything.
        """
        limits = (self._settings.tenant_limit, self._settings.queue_limit)
        answer = await self._admit(
            keys=[self._turn_key(job.turn_id), self._tenant_key(job.tenant), self._queue],
            args=[job.turn_id, job.tenant, *limits, self._group, self._settings.keep, message],
        )
        return Admission(answer)

    async def resume(self, job: Job, message: bytes) -> Admission:
        """Put the job of a person's decision into the queue, unless the turn does not wait for one."""
        answer = await self._resume(
            keys=[self._turn_key(job.turn_id), self._tenant_key(job.tenant), self._queue],
            args=[job.turn_id, job.number, self._settings.keep, message],
        )
        return Admission(answer)

    async def begin(self, job: Job) -> int:
        """Begin a job; returns which attempt this is, from 1 on, or 0 if it is over, or forgotten."""
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
        """Add an event to a turn's stream, and end the job if it is a last one.

        Args:
            job: The job.
            token: The fencing token of the turn's stream, or None if there was none because it could not be opened.
            name: The event's name.
            data: Its data.
            replaces: The id of an event that nobody needs any more, now that there is this one.
            chat_id: The turn's chat, once.

        Returns:
            The id of the event, or None: the turn is another worker's now, or its last event has been written.
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
        """Return what is known of a turn, or None if there is none."""
        known: Any = await self.redis.hmget(self._turn_key(turn_id), ["tenant", "state", "job", "chat"])
        tenant, state, job, chat = known
        return None if tenant is None else Turn(tenant, state, int(job), chat)

    async def read(self, turn_id: str, after: str) -> tuple[bool, list[tuple[str, str, str]]]:
        """Return whether nothing follows for now, and the id, name and data of the events behind an id."""
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.hget(self._turn_key(turn_id), "state")
            pipe.xrange(self.events_key(turn_id), min=f"({after}")
            answers: Any = await pipe.execute()
        state, found = answers
        return state is None or state in FINAL_EVENTS, [(id_, fields["event"], fields["data"]) for id_, fields in found]

    async def last(self, turn_id: str) -> tuple[str, dict[str, Any]]:
        """Return the name and data of the newest event of a turn that has one."""
        newest: Any = await self.redis.xrevrange(self.events_key(turn_id), count=1)
        ((_, fields),) = newest
        return fields["event"], json.loads(fields["data"])

    async def owner(self, chat_id: str) -> str | None:
        """Return the tenant that a chat belongs to, or None if it is not known."""
        tenant: Any = await self.redis.get(self._chat_key(chat_id))
        return None if tenant is None else str(tenant)

    async def jobs(self) -> tuple[int, int]:
        """Return how many jobs wait, and how many are being worked on."""
        length = await self.redis.xlen(self._queue)
        pending: Any = await self.redis.xpending(self._queue, self._group)
        return length - pending["pending"], pending["pending"]

    def _turn_key(self, turn_id: str) -> str:
        return f"{self._settings.prefix}turn:{turn_id}"

    def _tenant_key(self, tenant: str) -> str:
        return f"{self._settings.prefix}tenant:{tenant}"

    def _chat_key(self, chat_id: str) -> str:
        return f"{self._settings.prefix}chat:{chat_id}"
