"""The leases of a client: claims that are renewed while they are held, and released when their turn ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from types import TracebackType
from typing import Literal, ParamSpec, Self, TypeAlias, TypeVar

from inferencesh._loops.threads import hand_over
from inferencesh.claims.memory import MemoryClaims
from inferencesh.claims.store import Claim, ClaimState, ClaimStore, HeldClaim
from inferencesh.config import check_seconds
from inferencesh.errors import ClaimStoreError, ConfigurationError, InferenceError, UnreadableError, typed_text

__all__ = ["MESSAGE", "Lease", "Leases", "OnStoreLost", "new_owner", "reading_stored"]

logger = logging.getLogger("inferencesh")

OnStoreLost: TypeAlias = Literal["fail", "run"]

P = ParamSpec("P")
T = TypeVar("T")

MESSAGE = "message"  # the scope of claims on sending a message

_RENEWALS = 3  # renewals per lease, so that one of them may be late or fail
_ENDING = 1.0  # seconds for which a turn waits until the end of a claim is stored
_CLOSE_TIMEOUT = 5.0  # seconds for which closing waits for leases to be released


def new_owner() -> str:
    """Return a unique id for an owner of claims."""
    return secrets.token_hex(8)


@contextlib.contextmanager
def reading_stored() -> Iterator[None]:
    """Return a context manager for reading a value that another owner has written to the store.

    Raises:
        ClaimStoreError: The value is malformed.
    """
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, UnreadableError) as error:
        raise ClaimStoreError(
            f"a value in the claim store is malformed ({error!r}): another program has written it; use a different "
            "prefix or database, or delete the key"
        ) from error


async def _ask(kind: type[T], method: Callable[P, Awaitable[T]], *given: P.args, **options: P.kwargs) -> T:
    """Call a method of a store and return its result; a bug in a store must not end all turns.

    Args:
        kind: The type of the result.
        method: The method of the store.
        given: The positional arguments.
        options: The keyword arguments.

    Raises:
        ClaimStoreError: The store is unavailable, raised an unexpected exception, or returned another type.
        InferenceError: Another error that the store raised.
    """
    try:
        answer: object = await method(*given, **options)
    except InferenceError:
        raise
    except (Exception, asyncio.CancelledError) as error:
        task = asyncio.current_task() if isinstance(error, asyncio.CancelledError) else None
        if task is not None and task.cancelling():
            raise
        logger.warning("the claim store raised an unexpected exception", exc_info=error)
        raise ClaimStoreError(f"{method.__qualname__}() of the claim store failed: {typed_text(error)}") from error
    if not isinstance(answer, kind):
        raise ClaimStoreError(
            f"{method.__qualname__}() of the claim store returned a {type(answer).__name__}, not a {kind.__name__}"
        )
    return answer


async def _renew(store: ClaimStore, holdings: Sequence[HeldClaim]) -> list[bool]:
    """Renew claims in one request.

    Returns:
        For each claim, whether its owner still holds it.

    Raises:
        InferenceError: As for ``_ask``.
    """
    answers = await _ask(list, store.renew, holdings)
    if len(answers) != len(holdings):
        raise ClaimStoreError(f"renew() of the claim store returned {len(answers)} results for {len(holdings)} claims")
    return answers


class Leases:
    """The leases of one client.

    Args:
        store: The claim store; None for a store in memory.
        on_store_lost: Whether a claim fails while the store is unavailable ("fail"), or is made in memory ("run").

    Raises:
        ConfigurationError: An argument is invalid.
    """

    def __init__(self, store: ClaimStore | None = None, on_store_lost: OnStoreLost = "fail") -> None:
        if store is not None and not isinstance(store, ClaimStore):
            raise ConfigurationError(
                f"claims must be a ClaimStore, such as RedisClaims('redis://...'), not {type(store).__name__}"
            )
        if store is not None:
            check_seconds("the lease of claims", store.lease, optional=True)
        if on_store_lost not in ("fail", "run"):
            raise ConfigurationError(f"on_claim_store_lost must be 'fail' or 'run', not {on_store_lost!r}")
        self.store: ClaimStore = store if store is not None else MemoryClaims()
        self._runs_without_store = on_store_lost == "run"
        self._fallback = MemoryClaims()  # used while the store is unavailable
        self._renewers: dict[asyncio.AbstractEventLoop, _Renewer] = {}
        self._lock = threading.Lock()
        self._ending: dict[asyncio.Task[None], str] = {}  # the keys of the claims that are being ended

    @property
    def shared(self) -> bool:
        """Whether processes share the store, so that claims expire when their owner dies."""
        return self.store.lease is not None

    async def check(self) -> None:
        """Check that the store can be used.

        Raises:
            ConfigurationError: The store cannot be used at all.
            ClaimStoreError: The store cannot be reached; with ``on_store_lost="run"`` this is logged instead.
        """
        try:
            await _ask(object, self.store.check)
        except ClaimStoreError as error:
            self.fall_back(error)

    async def claim(self, key: str, owner: str, scope: str = "") -> Lease | Claim:
        """Request a claim.

        Returns:
            A lease if the claim was granted, else the response of the store.

        Raises:
            ClaimStoreError: The store is unavailable.
        """
        while ending := [task for task, ended in list(self._ending.items()) if ended == key and _is_here(task)]:
            await asyncio.wait(ending)
        store, asked_at = self.store, asyncio.get_running_loop().time()
        try:
            claim = await self._ask_for(key, owner, scope)
        except ClaimStoreError as error:
            self.fall_back(error)
            store = self._fallback
            claim = await store.claim(key, owner, scope)
        if claim.state is not ClaimState.GRANTED:
            return claim
        lease = Lease(store, HeldClaim(key, owner, scope, claim.attempt), claim.result, asked_at, self._begin_ending)
        if store.lease is not None:
            self._renewer(store.lease).add(lease)
        return lease

    async def _ask_for(self, key: str, owner: str, scope: str) -> Claim:
        """Request a claim from the store; release it if the caller is cancelled before it is granted."""
        store = self.store
        if store.lease is None:
            return await _ask(Claim, store.claim, key, owner, scope)
        asking = asyncio.create_task(_ask(Claim, store.claim, key, owner, scope), name="inferencesh claim")

        async def give_back() -> None:
            claim = await asking
            if claim.state is ClaimState.GRANTED:
                await _ask(object, store.release, HeldClaim(key, owner, scope, claim.attempt))

        try:
            await asyncio.wait({asking})
        except asyncio.CancelledError:
            self._begin_ending(key, give_back)
            raise
        return asking.result()

    async def wait(self, key: str, owner: str, scope: str = "", *, until: float | None = None) -> Lease | Claim:
        """Request a claim repeatedly until no other owner holds it.

        Args:
            key: The key of the claim.
            owner: The unique id of the owner.
            scope: As for ``ClaimStore.claim``.
            until: The loop time at which to stop, or None.

        Returns:
            As for ``claim``; with the state HELD if another owner still holds the claim at ``until``.
        """
        now = asyncio.get_running_loop().time
        while True:
            claim = await self.claim(key, owner, scope)
            held = isinstance(claim, Claim) and claim.state is ClaimState.HELD
            if not held or (until is not None and now() >= until):
                return claim
            await asyncio.sleep(self.store.poll)

    def release_soon(self, lease: Lease) -> asyncio.Task[None]:
        """Release a lease in a task on the running loop; it expires instead if the store cannot be reached."""
        lease.stop_renewing()
        return self._begin_ending(lease.holding.key, lease.release)

    def _begin_ending(self, key: str, end: Callable[[], Awaitable[object]]) -> asyncio.Task[None]:
        """End a claim in a task on the running loop, even if the caller is cancelled.

        The claim is not requested again until the task is done, because requests may overtake each other.
        """
        task = asyncio.get_running_loop().create_task(_told(end), name="inferencesh lease")
        self._ending[task] = key
        task.add_done_callback(self._ending.pop)
        return task

    async def aclose(self) -> None:
        """Release the leases that are held on this loop, and close the connections of the store."""
        loop = asyncio.get_running_loop()
        with self._lock:
            renewers = list(self._renewers.items())
        for other, renewer in renewers:
            if other is loop:
                for lease in renewer.held():
                    if lease.holding.scope != MESSAGE:  # its sender ends the claim, because it knows what was sent
                        self.release_soon(lease)
            else:
                hand_over(other, renewer.stop)  # the leases of other loops expire
        ending = [task for task in list(self._ending) if _is_here(task)]
        if ending:
            await asyncio.wait(ending, timeout=_CLOSE_TIMEOUT)
        try:
            await _ask(object, self.store.aclose)
        except InferenceError as error:
            logger.warning("%s; the client was closed nevertheless", error)

    def fall_back(self, error: ClaimStoreError) -> None:
        """Continue after an error of the store with ``on_store_lost="run"``; otherwise raise the error."""
        if not self._runs_without_store:
            raise error
        logger.warning('%s; continuing without the store, because of on_claim_store_lost="run"', error)

    def _renewer(self, lease: float) -> _Renewer:
        loop = asyncio.get_running_loop()
        with self._lock:
            for other in [each for each in self._renewers if each.is_closed()]:
                del self._renewers[other]
            if loop not in self._renewers:
                self._renewers[loop] = _Renewer(self.store, lease)
            return self._renewers[loop]


def _is_here(task: asyncio.Task[None]) -> bool:
    return task.get_loop() is asyncio.get_running_loop()


async def _told(tell: Callable[[], Awaitable[object]]) -> None:
    """End a claim in the store; log a warning if that fails."""
    try:
        await tell()
    except InferenceError as error:  # the store is unavailable, or now refuses access
        logger.warning("%s; a claim that has ended will expire in the store", error)


class Lease:
    """A granted claim; a context manager that releases it on exit, unless it was completed before.

    Args:
        store: The store that granted the claim.
        holding: The claim.
        result: The result that an earlier owner recorded, or None.
        asked_at: The loop time at which the claim was requested.
        begin_ending: ``Leases._begin_ending``.

    Attributes:
        attempt: The number of owners that have been granted the claim, including this one.
        result: As the argument.
        lost: Whether another owner is known to hold the claim now.
    """

    def __init__(
        self,
        store: ClaimStore,
        holding: HeldClaim,
        result: str | None,
        asked_at: float,
        begin_ending: Callable[[str, Callable[[], Awaitable[object]]], asyncio.Task[None]],
    ) -> None:
        self.holding = holding
        self.attempt = holding.attempt
        self.result = result
        self.lost = False
        self._store = store
        self._begin_ending = begin_ending
        self._ended = False
        self._on_lost: Callable[[], object] | None = None
        self._renewer: _Renewer | None = None
        self._known_until = asked_at + (store.lease or 0.0)

    @property
    def valid(self) -> bool:
        """Whether the lease has not expired yet by this process's clock, so that no other owner can hold the claim."""
        return not self.lost and (self._store.lease is None or asyncio.get_running_loop().time() < self._known_until)

    @property
    def safe_to_send(self) -> bool:
        """Whether the lease lasts long enough for a request to reach the service before it expires."""
        lease = self._store.lease
        soon = asyncio.get_running_loop().time() + (lease or 0.0) / _RENEWALS
        return not self.lost and (lease is None or soon < self._known_until)

    @property
    def fencing_token(self) -> int | None:
        """The attempt number if the store is shared, else None."""
        return None if self._store.lease is None else self.attempt

    def on_lost(self, call: Callable[[], object] | None) -> None:
        """Set the function that is called when the claim is lost to another owner, or None."""
        self._on_lost = call
        if self.lost and call is not None:
            call()

    async def record(self, result: str) -> bool:
        """Record a result for later owners.

        Returns:
            Whether this owner still holds the claim.

        Raises:
            ClaimStoreError: The store is unavailable.
        """
        asked_at = asyncio.get_running_loop().time()
        held = not self.lost and await _ask(bool, self._store.record, self.holding, result)
        self._renewed(asked_at, held=held)
        return held

    async def confirm(self) -> bool:
        """Ask the store whether this owner still holds the claim.

        While the store is unavailable, return True: no other owner can get the claim, unless only this process is cut
        off from the store.
        """
        asked_at = asyncio.get_running_loop().time()
        try:
            held = not self.lost and all(await _renew(self._store, [self.holding]))
        except InferenceError as error:  # the store is unavailable, or now refuses access
            logger.warning("%s; turns in progress continue", error)
            held, asked_at = True, asyncio.get_running_loop().time()  # ask again in a lease from now
        self._renewed(asked_at, held=held)
        return held

    async def complete(self, result: str | None = None) -> None:
        """Mark the work as completed and end the claim."""
        self._end()
        await self._tell(lambda: _ask(object, self._store.complete, self.holding, result))

    async def release(self, *, abandon: bool = False) -> None:
        """End the claim without completing the work; has no effect after ``complete``.

        Args:
            abandon: Whether no other owner may be granted the claim.
        """
        if not self._ended:
            self._end()
            if not self.lost:
                await self._tell(lambda: _ask(object, self._store.release, self.holding, abandon=abandon))

    async def let_expire(self, *, abandon: bool = False) -> None:
        """End the claim in a coroutine that is being closed and cannot await a server: a shared claim expires."""
        self.stop_renewing()
        if self._store.lease is None:
            await self.release(abandon=abandon)

    async def cancel(self) -> None:
        """Release the claim and delete its recorded result, because the work was not started."""
        self._end()
        if not self.lost:
            await self._tell(self._forget)

    async def _forget(self) -> None:
        await _ask(bool, self._store.record, self.holding, "")
        await _ask(object, self._store.release, self.holding)

    def stop_renewing(self) -> None:
        """Stop renewing the lease, which then expires unless it is completed or released."""
        if self._renewer is not None:
            self._renewer.remove(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        end = self.let_expire if isinstance(error, GeneratorExit) else self.release
        # A single process does not start the same work again; of several workers, another one may continue it.
        await end(abandon=self._store.lease is None)

    def _end(self) -> None:
        self._ended = True
        self.stop_renewing()

    def _renewed(self, asked_at: float, *, held: bool) -> None:
        """Process the response of the store to a renewal."""
        if held:
            self._known_until = asked_at + (self._store.lease or 0.0)
        elif not self._ended:
            self.lost = True
            self.stop_renewing()
            if self._on_lost is not None:
                self._on_lost()

    async def _tell(self, tell: Callable[[], Awaitable[object]]) -> None:
        """End the claim in the store, even if the caller is cancelled or the store is slow."""
        if self._store.lease is None:
            await _told(tell)
        else:
            await asyncio.wait({self._begin_ending(self.holding.key, tell)}, timeout=_ENDING)


class _Renewer:
    """Renews all leases that are held on one event loop, in one request.

    Args:
        store: The store.
        lease: The duration of a lease in seconds.
    """

    def __init__(self, store: ClaimStore, lease: float) -> None:
        self._store = store
        self._every = lease / _RENEWALS
        self._leases: dict[Lease, None] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, lease: Lease) -> None:
        """Start renewing a lease."""
        self._leases[lease] = None
        lease._renewer = self
        if self._task is None or self._task.done():  # the program may have cancelled all tasks
            self._task = asyncio.create_task(self._run(), name="inferencesh leases")

    def remove(self, lease: Lease) -> None:
        """Stop renewing a lease; has no effect if it is not being renewed."""
        self._leases.pop(lease, None)
        if not self._leases and self._task is not None:
            self._task.cancel()
            self._task = None

    def held(self) -> list[Lease]:
        """Return the leases that are being renewed."""
        return list(self._leases)

    def stop(self) -> None:
        """Stop renewing all leases."""
        for lease in self.held():
            self.remove(lease)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._every)
            leases, asked_at = self.held(), loop.time()
            try:
                answers = await _renew(self._store, [lease.holding for lease in leases])
            except InferenceError as error:  # the store is unavailable, or now refuses access
                logger.warning("%s; turns in progress continue", error)
                continue
            for lease, held in zip(leases, answers, strict=True):
                if lease in self._leases:
                    lease._renewed(asked_at, held=held)
