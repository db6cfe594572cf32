"""``RedisClaims``: claims in Redis, shared by all processes that use the same server and prefix."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import attrs

from inferencesh._loops.pool import LoopPool
from inferencesh._loops.threads import import_in_thread
from inferencesh.config import Backoff, check_seconds
from inferencesh.errors import ClaimStoreError, ConfigurationError

from .store import Claim, ClaimState, ClaimStore, Holding

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript

__all__ = ["RedisClaims"]

logger = logging.getLogger("inferencesh")

T = TypeVar("T")

_CONNECTIONS = 16  # of one event loop; a command takes less than a millisecond
_ATTEMPT = (1.0, 3.0)  # seconds: what an attempt may always take, and what it may take at most
_LATE = 1.0  # seconds after its time at which a timeout shows that this process was stopped

# Each script reads and writes one hash: owner, scope, attempt, lease and until (milliseconds), state and result. A
# script runs as a whole, so that no other command comes between its reads and its writes.
_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
# Arguments: owner, attempt. An owner may have got the claim again since, as a later attempt.
_HELD = """
local known = redis.call('HMGET', KEYS[1], 'owner', 'attempt', 'state')
if known[1] and not (known[1] == ARGV[1] and known[2] == ARGV[2] and known[3] == 'held') then return 0 end
"""
# Arguments: owner, scope, lease (ms), keep (ms).
_CLAIM = (
    _NOW
    + """
local owner, scope, attempt, lease, till, state, result =
  unpack(redis.call('HMGET', KEYS[1], 'owner', 'scope', 'attempt', 'lease', 'until', 'state', 'result'))
local named = scope and scope ~= '' and ARGV[2] ~= ''
if not owner or (named and scope ~= ARGV[2]) or (state == 'settled' and not named) then
  attempt, scope, result = 1, ARGV[2], false
elseif state == 'settled' then
  return {'settled', attempt, result}
else
  if owner ~= ARGV[1] then
    if state == 'left' then return {'left', attempt, result} end
    if state == 'held' and now < tonumber(till) then
      if lease and till - now > tonumber(lease) then  -- the clock was set back
        redis.call('HSET', KEYS[1], 'until', now + lease)
      end
      return {'held', attempt, false}
    end
    attempt = attempt + 1
  end
  if ARGV[2] ~= '' then scope = ARGV[2] end
end
redis.call('HSET', KEYS[1],
  'owner', ARGV[1], 'scope', scope, 'attempt', attempt, 'lease', ARGV[3], 'until', now + ARGV[3], 'state', 'held')
if not result then redis.call('HDEL', KEYS[1], 'result') end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {'granted', attempt, result}
"""
)
# Arguments: owner, attempt, scope, lease, keep. A claim that Redis has lost belongs to the owner that still has it.
_RENEW = (
    _NOW
    + _HELD
    + """
redis.call('HSET', KEYS[1],
  'owner', ARGV[1], 'attempt', ARGV[2], 'scope', ARGV[3], 'lease', ARGV[4], 'until', now + ARGV[4], 'state', 'held')
redis.call('PEXPIRE', KEYS[1], ARGV[5])
"""
)
# Arguments: those of _RENEW, and the result.
_RECORD = (
    _RENEW
    + """
if ARGV[6] == '' then redis.call('HDEL', KEYS[1], 'result') else redis.call('HSET', KEYS[1], 'result', ARGV[6]) end
return 1
"""
)
# Arguments: owner, attempt, scope, the new state, keep, and the result or "". That a claim was settled is kept
# though Redis has lost it meanwhile.
_END = (
    _HELD
    + """
if not known[1] then
  if ARGV[4] ~= 'settled' then return 0 end
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'attempt', ARGV[2], 'scope', ARGV[3])
end
local state = ARGV[4]
if state == 'settled' and redis.call('HGET', KEYS[1], 'scope') == '' then state = 'released' end
redis.call('HSET', KEYS[1], 'state', state)
if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'result', ARGV[6])
elseif ARGV[4] == 'settled' then redis.call('HDEL', KEYS[1], 'result') end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
"""
)


@attrs.define(eq=False)
class _Connected:
    """The Redis client of one event loop, with its scripts; closed when no request uses it any more."""

    redis: Redis
    claim: AsyncScript
    renew: AsyncScript
    record: AsyncScript
    end: AsyncScript
    users: int = attrs.field(default=0, init=False)
    idle: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)


class RedisClaims(ClaimStore):
    """Claims in Redis, for workers in several processes or on several machines; needs ``inferencesh[redis]``.

    Pass the same server and prefix to the clients of all workers. Connections are made when they are needed, one pool
    for each event loop, and closed with their loop or client. Run Redis with ``appendonly yes``: a claim that a restart
    forgets is taken for one that nobody has made.

    Redis holds ids, numbers and, until the service has acknowledged it, the result of a tool call: no message text and
    no API key. Every key expires.

    Args:
        url: The address, as ``redis://[user:password@]host[:port][/database]``, ``rediss://`` for TLS, or ``unix://``.
        prefix: The beginning of each key.
        lease: Seconds after which the claims of a worker that does not renew them go to others. It renews them three
            times as often. Choose it longer than the longest pause that a healthy worker may make.
        keep: Seconds for which an ended claim is remembered, so that a message or call that comes back is recognized.
        keep_results: Whether the result of a tool call is kept in Redis until the service has acknowledged it. Without
            it, the call of a worker that dies in between is run again.
        patience: Seconds for which a request is repeated while Redis cannot be reached, as during a restart.

    Raises:
        ConfigurationError: The URL, the prefix or a number cannot be used, or the package ``redis`` is not installed.

    Example:
        ```python
        client = AsyncInference("inf_...", claims=RedisClaims("redis://localhost:6379/0", lease=20))
        ```
    """

    def __init__(
        self,
        url: str = "redis://localhost:6379/0",
        *,
        prefix: str = "inferencesh:",
        lease: float = 30.0,
        keep: float = 86400.0,
        keep_results: bool = True,
        patience: float = 3.0,
    ) -> None:
        for name, value, least in (("lease", lease, 0.1), ("keep", keep, lease), ("patience", patience, 0.0)):
            check_seconds(name, value, least)
        if not isinstance(prefix, str):
            raise ConfigurationError(f"prefix must be a str, not {type(prefix).__name__}")
        self.lease: float = lease
        self.poll = min(0.5, lease / 4)
        self._url = _check_url(url)
        self._prefix = prefix
        self._lease_ms, self._keep_ms = round(lease * 1000), round(keep * 1000)
        self._keep_results = keep_results
        self._patience = patience
        self._pool: LoopPool[_Connected] = LoopPool(self._connect, _disconnect, discard=lambda _: None)

    async def check(self) -> None:
        """Check that Redis can be reached, lets this program in and runs scripts, as ``ClaimStore.check``."""
        try:
            await self.renew([Holding("check", "check")])
        except ClaimStoreError as error:
            if _stays(error.__cause__):  # such as for a database that it does not have
                raise ConfigurationError(str(error)) from None
            raise

    async def claim(self, key: str, owner: str, scope: str = "") -> Claim:
        """Ask for a claim, as ``ClaimStore.claim``."""
        state, attempt, result = await self._ask(
            lambda connected: connected.claim(
                keys=[self._prefix + key], args=[owner, scope, self._lease_ms, self._keep_ms]
            )
        )
        try:
            return Claim(ClaimState[state.upper()], int(attempt), result)
        except ValueError:
            raise ClaimStoreError(
                f"Redis at {_place(self._url)} holds {attempt!r} as the number of a claim: another program has written "
                "it; give this one a prefix or a database of its own"
            ) from None

    async def renew(self, holdings: Sequence[Holding]) -> list[bool]:
        """Extend leases together, as ``ClaimStore.renew``."""

        async def ask(connected: _Connected) -> list[Any]:
            async with connected.redis.pipeline(transaction=False) as pipeline:
                for holding in holdings:
                    await connected.renew(keys=[self._prefix + holding.key], args=self._held(holding), client=pipeline)
                answers: list[Any] = await pipeline.execute()
                return answers

        return [answer != 0 for answer in await self._ask(ask)]

    async def record(self, holding: Holding, result: str) -> bool:
        """Keep a result, as ``ClaimStore.record``."""
        arguments = [*self._held(holding), result if self._keep_results else ""]
        answer = await self._ask(lambda connected: connected.record(keys=[self._prefix + holding.key], args=arguments))
        return bool(answer)

    async def settle(self, holding: Holding, result: str | None = None) -> None:
        """End a claim that was taken care of, as ``ClaimStore.settle``."""
        await self._end(holding, "settled", result or "")

    async def release(self, holding: Holding, *, for_good: bool = False) -> None:
        """End a claim that was not taken care of, as ``ClaimStore.release``."""
        await self._end(holding, "left" if for_good else "released")

    async def aclose(self) -> None:
        """Close the connections of this program to Redis; they are made again when they are needed."""
        await self._pool.aclose(for_good=False)

    def __repr__(self) -> str:
        return f"RedisClaims({_place(self._url)!r}, prefix={self._prefix!r})"

    def _held(self, holding: Holding) -> list[str | int]:
        return [holding.owner, holding.attempt, holding.scope, self._lease_ms, self._keep_ms]

    async def _end(self, holding: Holding, state: str, result: str = "") -> None:
        arguments: list[str | int] = [holding.owner, holding.attempt, holding.scope, state, self._keep_ms, result]
        await self._ask(lambda connected: connected.end(keys=[self._prefix + holding.key], args=arguments))

    async def _ask(self, ask: Callable[[_Connected], Awaitable[T]]) -> T:
        """Run a command, again while Redis cannot be reached: each does no more when it is run twice.

        Raises:
            ConfigurationError: Redis refuses this program, or is no Redis.
            ClaimStoreError: Redis cannot be reached, or cannot do it.
        """
        await import_in_thread("redis.asyncio")
        from redis import exceptions

        loop = asyncio.get_running_loop()
        until, attempt, stopped = loop.time() + self._patience, 0, False
        while True:
            now = loop.time()
            limit = min(max(until, now + _ATTEMPT[0]), now + _ATTEMPT[1])
            connected = await self._pool.get()
            connected.users += 1
            try:
                async with asyncio.timeout_at(limit):  # it may also wait for a connection that others use
                    return await ask(connected)
            except (
                exceptions.AuthenticationError,
                exceptions.AuthorizationError,
                exceptions.NoPermissionError,
            ) as error:
                raise ConfigurationError(
                    f"Redis at {_place(self._url)} refuses this program ({error}): give the user and the password in "
                    "the URL, as in redis://user:password@host:6379/0, and see that the user may run scripts"
                ) from None
            except exceptions.InvalidResponse:
                raise ConfigurationError(
                    f"what answers at {_place(self._url)} is no Redis server: correct the address"
                ) from None
            except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
                wait = _BACKOFF.delay(attempt)
                if loop.time() > limit + _LATE and not stopped:  # Redis may have answered long ago
                    until, attempt, stopped = loop.time() + self._patience, 0, True
                    continue
                if loop.time() + wait > until:
                    raise ClaimStoreError(
                        f"Redis at {_place(self._url)} cannot be reached ({str(error) or 'no answer'}), so that "
                        'nothing can be claimed there; pass on_claim_store_lost="run" to the client to go on without it'
                    ) from error
                attempt += 1
                logger.debug("Redis at %s cannot be reached (%s); trying again", _place(self._url), error)
                await asyncio.sleep(wait)
            except (exceptions.RedisError, UnicodeDecodeError) as error:
                raise ClaimStoreError(
                    f"Redis at {_place(self._url)} could not do what it was asked for: {error}"
                ) from error
            finally:
                connected.users -= 1
                connected.idle.set()

    def _connect(self) -> _Connected:
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        try:
            pool = BlockingConnectionPool.from_url(
                self._url,
                max_connections=_CONNECTIONS,
                timeout=None,
                retry=Retry(NoBackoff(), 0),
                decode_responses=True,
                encoding_errors="surrogatepass",  # ids are whatever the service has sent
                # Attempts have a limit of their own. With one here redis-py sends inside asyncio.wait_for, which in
                # Python 3.11 swallows a cancellation that comes while the bytes are sent.
                socket_timeout=None,
                socket_connect_timeout=_ATTEMPT[1],
            )
            pool.connection_class(**pool.connection_kwargs)  # not connected, but it reads the options
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"an option in the address of Redis cannot be used: {error}") from None
        redis = Redis.from_pool(pool)
        scripts = (redis.register_script(text) for text in (_CLAIM, _RENEW + "return 1", _RECORD, _END))
        return _Connected(redis, *scripts)


_BACKOFF = Backoff(initial=0.05, maximum=0.5)


async def _disconnect(connected: _Connected) -> None:
    while connected.users:  # of another client, to which the same store was passed
        connected.idle.clear()
        await connected.idle.wait()
    await connected.redis.aclose()


def _stays(error: BaseException | None) -> bool:
    """Whether Redis will refuse a request again, which a replica, or a server that cannot write now, may not do."""
    from redis import exceptions

    passing = (exceptions.ReadOnlyError, exceptions.OutOfMemoryError, exceptions.ClusterDownError)
    if not isinstance(error, exceptions.ResponseError) or isinstance(error, passing):
        return False
    return not any(code in str(error) for code in ("MISCONF", "NOREPLICAS", "BUSY"))


def _check_url(url: object) -> str:
    """Return the address of a Redis server.

    Raises:
        ConfigurationError: It is none, or the package is not installed.
    """
    if importlib.util.find_spec("redis") is None:
        raise ConfigurationError("claims in Redis need the package redis: pip install 'inferencesh[redis]'")
    if not isinstance(url, str):
        raise ConfigurationError(f"the address of Redis must be a str, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        database = parts.path.removeprefix("/")  # anything but a number would stand for the first one
        usable = parts.scheme == "unix" or (
            parts.scheme in {"redis", "rediss"} and parts.port != 0 and (not database or database.isdecimal())
        )
    except ValueError:  # a port that is no number
        usable = False
    if not usable:
        raise ConfigurationError(
            "the address of Redis is not one that can be used: write redis://[user:password@]host[:port][/database], "
            "rediss:// for TLS, or unix://path"
        )
    return url


def _place(url: str) -> str:
    """Return where a Redis server is, without user and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
