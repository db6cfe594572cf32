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

from .store import Claim, ClaimState, ClaimStore, HeldClaim

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript

__all__ = ["RedisClaims"]

logger = logging.getLogger("inferencesh")

T = TypeVar("T")

_CONNECTIONS = 16  # per event loop; a command takes less than a millisecond
_ATTEMPT_TIMEOUT = (1.0, 3.0)  # seconds: the minimum and the maximum timeout of an attempt
_SUSPENDED_AFTER = 1.0  # seconds; a timeout that fires later than this shows that this process was suspended

# Each script reads and writes one hash with owner, scope, attempt, lease and until (milliseconds), state and result.
# Redis runs a script atomically, so no other command runs between its reads and its writes.
_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
# Arguments: owner, attempt. The attempt is checked because the owner may have been granted the claim again since.
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
if not owner or (named and scope ~= ARGV[2]) or (state == 'completed' and not named) then
  attempt, scope, result = 1, ARGV[2], false
elseif state == 'completed' then
  return {'completed', attempt, result}
else
  if owner ~= ARGV[1] then
    if state == 'abandoned' then return {'abandoned', attempt, result} end
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
# Arguments: owner, attempt, scope, lease, keep. A renewal restores a claim that Redis has lost.
_RENEW = (
    _NOW
    + _HELD
    + """
redis.call('HSET', KEYS[1],
  'owner', ARGV[1], 'attempt', ARGV[2], 'scope', ARGV[3], 'lease', ARGV[4], 'until', now + ARGV[4], 'state', 'held')
redis.call('PEXPIRE', KEYS[1], ARGV[5])
"""
)
# Arguments: those of _RENEW, then the result.
_RECORD = (
    _RENEW
    + """
if ARGV[6] == '' then redis.call('HDEL', KEYS[1], 'result') else redis.call('HSET', KEYS[1], 'result', ARGV[6]) end
return 1
"""
)
# Arguments: owner, attempt, scope, the new state, keep, the result or "". A completion is stored even if Redis has lost
# the claim.
_END = (
    _HELD
    + """
if not known[1] then
  if ARGV[4] ~= 'completed' then return 0 end
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'attempt', ARGV[2], 'scope', ARGV[3])
end
local state = ARGV[4]
if state == 'completed' and redis.call('HGET', KEYS[1], 'scope') == '' then state = 'released' end
redis.call('HSET', KEYS[1], 'state', state)
if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'result', ARGV[6])
elseif ARGV[4] == 'completed' then redis.call('HDEL', KEYS[1], 'result') end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
"""
)


@attrs.define(eq=False)
class _Connected:
    """The Redis client of one event loop and its scripts; closed once no request uses it."""

    redis: Redis
    claim: AsyncScript
    renew: AsyncScript
    record: AsyncScript
    end: AsyncScript
    users: int = attrs.field(default=0, init=False)
    idle: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)


class RedisClaims(ClaimStore):
    """Claims in Redis, for workers in several processes or on several machines; requires ``inferencesh[redis]``.

    Use the same server and prefix for the clients of all workers. Connections are opened on demand, with one pool per
    event loop, and closed with their loop or client. Run Redis with ``appendonly yes``: a claim that is lost in a
    restart counts as never made.

    Redis holds ids, numbers and, until the service has acknowledged it, the result of a tool call. It never holds
    message text or the API key. Every key expires.

    Args:
        url: The URL: ``redis://[user:password@]host[:port][/database]``, ``rediss://`` for TLS, or ``unix://``.
        prefix: The prefix of every key.
        lease: Seconds after which the claims of a worker that has not renewed them can be granted to others. A worker
            renews its claims three times per lease. Must exceed the longest pause of a healthy worker.
        keep: Seconds for which an ended claim is remembered, so that a repeated message or call is recognized.
        keep_results: Whether the result of a tool call is kept in Redis until the service has acknowledged it. If not,
            the call is run again when its worker dies in between.
        retry_timeout: Seconds for which a request is retried while Redis cannot be reached, such as during a restart.

    Raises:
        ConfigurationError: The URL, the prefix or a number is invalid, or the package ``redis`` is not installed.

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
        retry_timeout: float = 3.0,
    ) -> None:
        for name, value, least in (("lease", lease, 0.1), ("keep", keep, lease), ("retry_timeout", retry_timeout, 0.0)):
            check_seconds(name, value, least)
        if not isinstance(prefix, str):
            raise ConfigurationError(f"prefix must be a str, not {type(prefix).__name__}")
        self.lease: float = lease
        self.poll = min(0.5, lease / 4)
        self._url = _check_url(url)
        self._prefix = prefix
        self._lease_ms, self._keep_ms = round(lease * 1000), round(keep * 1000)
        self._keep_results = keep_results
        self._retry_timeout = retry_timeout
        self._pool: LoopPool[_Connected] = LoopPool(self._connect, _disconnect, discard=lambda _: None)

    async def check(self) -> None:
        """Check that Redis can be reached, grants access and runs scripts; see ``ClaimStore.check``."""
        try:
            await self.renew([HeldClaim("check", "check")])
        except ClaimStoreError as error:
            if _is_permanent(error.__cause__):  # such as a database number that does not exist
                raise ConfigurationError(str(error)) from None
            raise

    async def claim(self, key: str, owner: str, scope: str = "") -> Claim:
        """Request a claim; see ``ClaimStore.claim``."""
        state, attempt, result = await self._ask(
            lambda connected: connected.claim(
                keys=[self._prefix + key], args=[owner, scope, self._lease_ms, self._keep_ms]
            )
        )
        try:
            return Claim(ClaimState[state.upper()], int(attempt), result)
        except ValueError:
            raise ClaimStoreError(
                f"the claim stored in Redis at {_display_url(self._url)} has the attempt number {attempt!r}: another "
                "program has written it; use a different prefix or database"
            ) from None

    async def renew(self, holdings: Sequence[HeldClaim]) -> list[bool]:
        """Extend leases in one round trip; see ``ClaimStore.renew``."""

        async def ask(connected: _Connected) -> list[Any]:
            async with connected.redis.pipeline(transaction=False) as pipeline:
                for holding in holdings:
                    await connected.renew(keys=[self._prefix + holding.key], args=self._held(holding), client=pipeline)
                answers: list[Any] = await pipeline.execute()
                return answers

        return [answer != 0 for answer in await self._ask(ask)]

    async def record(self, holding: HeldClaim, result: str) -> bool:
        """Record a result; see ``ClaimStore.record``."""
        arguments = [*self._held(holding), result if self._keep_results else ""]
        answer = await self._ask(lambda connected: connected.record(keys=[self._prefix + holding.key], args=arguments))
        return bool(answer)

    async def complete(self, holding: HeldClaim, result: str | None = None) -> None:
        """Mark the work as completed; see ``ClaimStore.complete``."""
        await self._end(holding, "completed", result or "")

    async def release(self, holding: HeldClaim, *, abandon: bool = False) -> None:
        """End a claim without completing the work; see ``ClaimStore.release``."""
        await self._end(holding, "abandoned" if abandon else "released")

    async def aclose(self) -> None:
        """Close the connections to Redis, which are opened again on demand."""
        await self._pool.aclose(permanent=False)

    def __repr__(self) -> str:
        return f"RedisClaims({_display_url(self._url)!r}, prefix={self._prefix!r})"

    def _held(self, holding: HeldClaim) -> list[str | int]:
        return [holding.owner, holding.attempt, holding.scope, self._lease_ms, self._keep_ms]

    async def _end(self, holding: HeldClaim, state: str, result: str = "") -> None:
        arguments: list[str | int] = [holding.owner, holding.attempt, holding.scope, state, self._keep_ms, result]
        await self._ask(lambda connected: connected.end(keys=[self._prefix + holding.key], args=arguments))

    async def _ask(self, ask: Callable[[_Connected], Awaitable[T]]) -> T:
        """Run a command, with retries while Redis cannot be reached. All commands are idempotent.

        Raises:
            ConfigurationError: Redis refuses access, or the server is not Redis.
            ClaimStoreError: Redis cannot be reached, or the command failed.
        """
        await import_in_thread("redis.asyncio")
        from redis import exceptions

        loop = asyncio.get_running_loop()
        until, attempt, stopped = loop.time() + self._retry_timeout, 0, False
        while True:
            now = loop.time()
            limit = min(max(until, now + _ATTEMPT_TIMEOUT[0]), now + _ATTEMPT_TIMEOUT[1])
            connected = await self._pool.get()
            connected.users += 1
            try:
                async with asyncio.timeout_at(limit):  # includes the wait for a free connection
                    return await ask(connected)
            except (
                exceptions.AuthenticationError,
                exceptions.AuthorizationError,
                exceptions.NoPermissionError,
            ) as error:
                raise ConfigurationError(
                    f"Redis at {_display_url(self._url)} refused access ({error}): check the user name and password in "
                    "the URL (redis://user:password@host:6379/0), and that the user may run scripts"
                ) from None
            except exceptions.InvalidResponse:
                raise ConfigurationError(
                    f"the server at {_display_url(self._url)} is not a Redis server: correct the URL"
                ) from None
            except (exceptions.ConnectionError, exceptions.TimeoutError, OSError, RuntimeError) as error:
                # uvloop raises RuntimeError when a command is written to a connection that was just lost
                wait = _BACKOFF.delay(attempt)
                if loop.time() > limit + _SUSPENDED_AFTER and not stopped:  # Redis may have responded long ago
                    until, attempt, stopped = loop.time() + self._retry_timeout, 0, True
                    continue
                if loop.time() + wait > until:
                    raise ClaimStoreError(
                        f"Redis at {_display_url(self._url)} cannot be reached ({str(error) or 'no response'}), so "
                        'nothing can be claimed; pass on_claim_store_lost="run" to the client to continue without it'
                    ) from error
                attempt += 1
                logger.debug("Redis at %s cannot be reached (%s); retrying", _display_url(self._url), error)
                await asyncio.sleep(wait)
            except (exceptions.RedisError, UnicodeDecodeError) as error:
                raise ClaimStoreError(f"Redis at {_display_url(self._url)} failed to run a command: {error}") from error
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
                encoding_errors="surrogatepass",  # ids are arbitrary text from the service
                # _ask limits each attempt itself. With a timeout here, redis-py sends inside asyncio.wait_for, which in
                # Python 3.11 swallows a cancellation that arrives while the bytes are being sent.
                socket_timeout=None,
                socket_connect_timeout=_ATTEMPT_TIMEOUT[1],
            )
            pool.connection_class(**pool.connection_kwargs)  # does not connect, but checks the options
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"an option in the Redis URL is invalid: {error}") from None
        redis = Redis.from_pool(pool)
        scripts = (redis.register_script(text) for text in (_CLAIM, _RENEW + "return 1", _RECORD, _END))
        return _Connected(redis, *scripts)


_BACKOFF = Backoff(initial=0.05, maximum=0.5)


async def _disconnect(connected: _Connected) -> None:
    while connected.users:  # another client that shares this store
        connected.idle.clear()
        await connected.idle.wait()
    await connected.redis.aclose()


def _is_permanent(error: BaseException | None) -> bool:
    """Whether Redis would refuse a retry as well, unlike a replica or a server that cannot write at the moment."""
    from redis import exceptions

    passing = (exceptions.ReadOnlyError, exceptions.OutOfMemoryError, exceptions.ClusterDownError)
    if not isinstance(error, exceptions.ResponseError) or isinstance(error, passing):
        return False
    return not any(code in str(error) for code in ("MISCONF", "NOREPLICAS", "BUSY"))


def _check_url(url: object) -> str:
    """Return the URL of a Redis server if it is valid.

    Raises:
        ConfigurationError: The URL is invalid, or the package ``redis`` is not installed.
    """
    if importlib.util.find_spec("redis") is None:
        raise ConfigurationError("RedisClaims requires the package redis: pip install 'inferencesh[redis]'")
    if not isinstance(url, str):
        raise ConfigurationError(f"the Redis URL must be a str, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        database = parts.path.removeprefix("/")  # redis-py uses database 0 if this is not a number
        usable = parts.scheme == "unix" or (
            parts.scheme in {"redis", "rediss"} and parts.port != 0 and (not database or database.isdecimal())
        )
    except ValueError:  # a port that is not a number
        usable = False
    if not usable:
        raise ConfigurationError(
            "the Redis URL is invalid: write redis://[user:password@]host[:port][/database], rediss:// for TLS, or "
            "unix://path"
        )
    return url


def _display_url(url: str) -> str:
    """Return the URL of a Redis server without user and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
