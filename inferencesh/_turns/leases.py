"""The claims that the turns of one client hold: renewed while they last, and given up when they end."""

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
from inferencesh.claims.store import Claim, ClaimState, ClaimStore, Holding
from inferencesh.config import check_seconds
from inferencesh.errors import ClaimStoreError, ConfigurationError, InferenceError, UnreadableError, typed_text

__all__ = ["MESSAGE", "Lease", "Leases", "OnStoreLost", "new_owner", "reading_kept"]

logger = logging.getLogger("inferencesh")

OnStoreLost: TypeAlias = Literal["fail", "run"]

P = ParamSpec("P")
T = TypeVar("T")

MESSAGE = "message"  # the scope of claims to send a message

_RENEWALS = 3  # of a lease before it would run out, so that one of them may be late or fail
_ENDING = 1.0  # seconds that a turn waits for the end of a claim to be written
_CLOSING = 5.0  # seconds that closing waits for claims to be given up


def new_owner() -> str:
    """Return a text that stands for one owner of claims, in any process."""
    return secrets.token_hex(8)


@contextlib.contextmanager
def reading_kept() -> Iterator[None]:
    """Return a context in which something is read that a store has kept for another owner.

    Raises:
        ClaimStoreError: It is not what an owner writes there.
    """
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, UnreadableError) as error:
        raise ClaimStoreError(
            f"what the store of claims has kept cannot be read ({error!r}): another program has written it; give this "
            "one a prefix or a database of its own, or remove the key"
        ) from error


async def _ask(kind: type[T], method: Callable[P, Awaitable[T]], *given: P.args, **options: P.kwargs) -> T:
    """Return what a store answers; a mistake in a store is no reason to lose all turns.

    Args:
        kind: The type of the answer.
        method: The method of the store.
        given: Its arguments.
        options: Its named arguments.

    Raises:
        ClaimStoreError: The store is lost, or raised or answered what none may.
        InferenceError: What else it raised.
    """
    try:
        answer: object = await method(*given, **options)
    except InferenceError:
        raise
    except (Exception, asyncio.CancelledError) as error:
        task = asyncio.current_task() if isinstance(error, asyncio.CancelledError) else None
        if task is not None and task.cancelling():
            raise
        logger.warning("the store of claims has a mistake", exc_info=error)
        raise ClaimStoreError(f"{method.__qualname__}() of the store of claims failed: {typed_text(error)}") from error
    if not isinstance(answer, kind):
        raise ClaimStoreError(
            f"{method.__qualname__}() of the store of claims returned a {type(answer).__name__}, not a {kind.__name__}"
        )
    return answer


async def _renew(store: ClaimStore, holdings: Sequence[Holding]) -> list[bool]:
    """Renew claims in one request.

    Returns:
        For each whether its owner still has it.

    Raises:
        InferenceError: As for ``_ask``.
    """
    answers = await _ask(list, store.renew, holdings)
    if len(answers) != len(holdings):
        raise ClaimStoreError(f"the store of claims gave {len(answers)} answers about {len(holdings)} claims")
    return answers


class Leases:
    """The claims of one client, in the store that it was given.

    Args:
        store: The store.
        on_store_lost: Whether a claim fails when the store is lost ("fail"), or is made in the memory of this process
            ("run").

    Raises:
        ConfigurationError: An argument has another type or value.
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
        self._runs_without = on_store_lost == "run"
        self._spare = MemoryClaims()  # for what is claimed while the store is lost
        self._renewers: dict[asyncio.AbstractEventLoop, _Renewer] = {}
        self._lock = threading.Lock()
        self._ending: dict[asyncio.Task[None], str] = {}  # the keys of the claims that are being ended

    @property
    def shared(self) -> bool:
        """Whether owners may die without the store, so that claims are leases."""
        return self.store.lease is not None

    async def check(self) -> None:
        """Check that the store can be used.

        Raises:
            ConfigurationError: It never will be.
            ClaimStoreError: It cannot be reached; with ``on_store_lost="run"`` this is logged instead.
        """
        try:
            await _ask(object, self.store.check)
        except ClaimStoreError as error:
            self.go_on_without(error)

    async def claim(self, key: str, owner: str, scope: str = "") -> Lease | Claim:
        """Ask for a claim.

        Returns:
            A lease if it was granted, else the store's answer.

        Raises:
            ClaimStoreError: The store is lost.
        """
        while ending := [task for task, ended in list(self._ending.items()) if ended == key and _is_here(task)]:
            await asyncio.wait(ending)
        store, asked_at = self.store, asyncio.get_running_loop().time()
        try:
            claim = await self._ask_for(key, owner, scope)
        except ClaimStoreError as error:
            self.go_on_without(error)
            store = self._spare
            claim = await store.claim(key, owner, scope)
        if claim.state is not ClaimState.GRANTED:
            return claim
        lease = Lease(store, Holding(key, owner, scope, claim.attempt), claim.result, asked_at, self._begin_ending)
        if store.lease is not None:
            self._renewer(store.lease).add(lease)
        return lease

    async def _ask_for(self, key: str, owner: str, scope: str) -> Claim:
        """Ask the store for a claim; one that is granted to a caller that was cancelled meanwhile is released."""
        store = self.store
        if store.lease is None:
            return await _ask(Claim, store.claim, key, owner, scope)
        asking = asyncio.create_task(_ask(Claim, store.claim, key, owner, scope), name="inferencesh claim")

        async def give_back() -> None:
            claim = await asking
            if claim.state is ClaimState.GRANTED:
                await _ask(object, store.release, Holding(key, owner, scope, claim.attempt))

        try:
            await asyncio.wait({asking})
        except asyncio.CancelledError:
            self._begin_ending(key, give_back)
            raise
        return asking.result()

    async def wait(self, key: str, owner: str, scope: str = "", *, until: float | None = None) -> Lease | Claim:
        """Ask for a claim until no other owner holds it.

        Args:
            key: What is claimed.
            owner: The owner.
            scope: As for ``ClaimStore.claim``.
            until: The loop's time at which to stop asking, or None.

        Returns:
            As ``claim``; HELD if another owner still holds it in the end.
        """
        now = asyncio.get_running_loop().time
        while True:
            claim = await self.claim(key, owner, scope)
            held = isinstance(claim, Claim) and claim.state is ClaimState.HELD
            if not held or (until is not None and now() >= until):
                return claim
            await asyncio.sleep(self.store.poll)

    def give_up(self, lease: Lease) -> asyncio.Task[None]:
        """Begin to release a lease, on the running loop; a store that cannot be reached lets it run out."""
        lease.stop_renewing()
        return self._begin_ending(lease.holding.key, lease.release)

    def _begin_ending(self, key: str, end: Callable[[], Awaitable[object]]) -> asyncio.Task[None]:
        """Begin to end a claim, on the running loop, whatever becomes of the caller.

        Until that is done the claim is not asked for again, because a request may overtake another one.
        """
        task = asyncio.get_running_loop().create_task(_told(end), name="inferencesh lease")
        self._ending[task] = key
        task.add_done_callback(self._ending.pop)
        return task

    async def aclose(self) -> None:
        """Release what is still held on this loop, and close the connections of the store."""
        loop = asyncio.get_running_loop()
        with self._lock:
            renewers = list(self._renewers.items())
        for other, renewer in renewers:
            if other is loop:
                for lease in renewer.held():
                    if lease.holding.scope != MESSAGE:  # whoever sends one ends its claim, and knows what was sent
                        self.give_up(lease)
            else:
                hand_over(other, renewer.stop)  # the leases of another loop run out
        ending = [task for task in list(self._ending) if _is_here(task)]
        if ending:
            await asyncio.wait(ending, timeout=_CLOSING)
        try:
            await _ask(object, self.store.aclose)
        except InferenceError as error:
            logger.warning("%s; the client was closed all the same", error)

    def go_on_without(self, error: ClaimStoreError) -> None:
        """Go on after an error of the store, if the program wants that; else raise the error."""
        if not self._runs_without:
            raise error
        logger.warning("%s; going on without it, as on_claim_store_lost says", error)

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
    """Tell the store of the end of a claim."""
    try:
        await tell()
    except InferenceError as error:  # as a store does that is lost, or refuses this program since
        logger.warning("%s; a claim that has ended runs out there", error)


class Lease:
    """A claim that was granted. As a context manager it is released at the end, unless it was settled before.

    Args:
        store: The store that has granted it.
        holding: The claim.
        result: What an earlier owner has recorded, or None.
        asked_at: The loop's time at which the store was asked for it.
        begin_ending: ``Leases._begin_ending``.

    Attributes:
        attempt: The number of owners that have had the claim, this one included.
        result: As the argument.
        lost: Whether another owner has it now.
    """

    def __init__(
        self,
        store: ClaimStore,
        holding: Holding,
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
    def certain(self) -> bool:
        """Whether nobody else can have the claim now, by the time of this process alone."""
        return not self.lost and (self._store.lease is None or asyncio.get_running_loop().time() < self._known_until)

    @property
    def firm(self) -> bool:
        """Whether nobody else can have the claim for some time to come, within which a request reaches the service."""
        lease = self._store.lease
        soon = asyncio.get_running_loop().time() + (lease or 0.0) / _RENEWALS
        return not self.lost and (lease is None or soon < self._known_until)

    @property
    def fencing_token(self) -> int | None:
        """The number of the claim, where owners may die without the store; else None."""
        return None if self._store.lease is None else self.attempt

    def when_lost(self, call: Callable[[], object] | None) -> None:
        """Set what is called when another owner has the claim, or None for nothing."""
        self._on_lost = call
        if self.lost and call is not None:
            call()

    async def record(self, result: str) -> bool:
        """Keep a result for the owners to come.

        Returns:
            Whether this owner still has the claim.

        Raises:
            ClaimStoreError: The store is lost.
        """
        asked_at = asyncio.get_running_loop().time()
        held = not self.lost and await _ask(bool, self._store.record, self.holding, result)
        self._renewed(asked_at, held=held)
        return held

    async def confirm(self) -> bool:
        """Return whether this owner still has the claim, by asking the store.

        If the store is lost the answer is True, and this owner goes on: unless it alone is cut off from the store,
        nobody else can have got the claim.
        """
        asked_at = asyncio.get_running_loop().time()
        try:
            held = not self.lost and all(await _renew(self._store, [self.holding]))
        except InferenceError as error:  # as a store does that is lost, or refuses this program since
            logger.warning("%s; the turns under way go on", error)
            held, asked_at = True, asyncio.get_running_loop().time()  # the next time is a lease from now
        self._renewed(asked_at, held=held)
        return held

    async def settle(self, result: str | None = None) -> None:
        """End the claim: it was taken care of."""
        self._end()
        await self._tell(lambda: _ask(object, self._store.settle, self.holding, result))

    async def release(self, *, for_good: bool = False) -> None:
        """End the claim: it was not taken care of. Does nothing after ``settle``.

        Args:
            for_good: Whether no other owner is to be granted it.
        """
        if not self._ended:
            self._end()
            if not self.lost:
                await self._tell(lambda: _ask(object, self._store.release, self.holding, for_good=for_good))

    async def abandon(self, *, for_good: bool = False) -> None:
        """End the claim for a coroutine that is being closed, which cannot wait for a server: there it runs out."""
        self.stop_renewing()
        if self._store.lease is None:
            await self.release(for_good=for_good)

    async def forget(self) -> None:
        """End the claim as if it had never been granted: nothing was begun, whatever was recorded."""
        self._end()
        if not self.lost:
            await self._tell(self._forget)

    async def _forget(self) -> None:
        await _ask(bool, self._store.record, self.holding, "")
        await _ask(object, self._store.release, self.holding)

    def stop_renewing(self) -> None:
        """Leave the lease to run out, unless it is settled or released."""
        if self._renewer is not None:
            self._renewer.remove(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        end = self.abandon if isinstance(error, GeneratorExit) else self.release
        # What one process has begun and left is not begun again there; of a fleet another worker may go on with it.
        await end(for_good=self._store.lease is None)

    def _end(self) -> None:
        self._ended = True
        self.stop_renewing()

    def _renewed(self, asked_at: float, *, held: bool) -> None:
        """Note the store's answer to a renewal."""
        if held:
            self._known_until = asked_at + (self._store.lease or 0.0)
        elif not self._ended:
            self.lost = True
            self.stop_renewing()
            if self._on_lost is not None:
                self._on_lost()

    async def _tell(self, tell: Callable[[], Awaitable[object]]) -> None:
        """Tell the store of the end of the claim, which goes on when the caller is cancelled or the store is slow."""
        if self._store.lease is None:
            await _told(tell)
        else:
            await asyncio.wait({self._begin_ending(self.holding.key, tell)}, timeout=_ENDING)


class _Renewer:
    """Renews the leases that are held on one event loop, all of them in one request.

    Args:
        store: The store.
        lease: Seconds that a lease lasts.
    """

    def __init__(self, store: ClaimStore, lease: float) -> None:
        self._store = store
        self._every = lease / _RENEWALS
        self._leases: dict[Lease, None] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, lease: Lease) -> None:
        """Renew a lease from now on."""
        self._leases[lease] = None
        lease._renewer = self
        if self._task is None or self._task.done():  # as when the program has cancelled all tasks
            self._task = asyncio.create_task(self._run(), name="inferencesh leases")

    def remove(self, lease: Lease) -> None:
        """Renew a lease no more; does nothing when it is not renewed."""
        self._leases.pop(lease, None)
        if not self._leases and self._task is not None:
            self._task.cancel()
            self._task = None

    def held(self) -> list[Lease]:
        """Return the leases that are renewed."""
        return list(self._leases)

    def stop(self) -> None:
        """Renew none of them any more."""
        for lease in self.held():
            self.remove(lease)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._every)
            leases, asked_at = self.held(), loop.time()
            try:
                answers = await _renew(self._store, [lease.holding for lease in leases])
            except InferenceError as error:  # as a store does that is lost, or refuses this program since
                logger.warning("%s; the turns under way go on", error)
                continue
            for lease, held in zip(leases, answers, strict=True):
                if lease in self._leases:
                    lease._renewed(asked_at, held=held)
