"""``MemoryClaims``: claims in the memory of one process."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence

import attrs

from .store import Claim, ClaimState, ClaimStore, HeldClaim

__all__ = ["MemoryClaims"]

_REMEMBERED = 1024  # ended claims; no stream is further behind another one than that


@attrs.define
class _Entry:
    """A claim and its state, which is None after a release."""

    owner: str
    scope: str
    attempt: int = 1
    state: ClaimState | None = ClaimState.HELD
    until: float = 0.0
    result: str | None = None


class MemoryClaims(ClaimStore):
    """Claims in the memory of this process, the default store of a client.

    Each client has its own, unless you pass one store to several clients. It is thread-safe, and remembers the newest
    1024 ended claims.

    Args:
        lease: Seconds of a lease, as for ``ClaimStore``. The default None is right for a single process, where each
            call is run at most once. With a number, the store behaves like one that processes share, for tests.
        clock: Returns the time in seconds, for tests.

    Example:
        ```python
        claims = MemoryClaims()
        print((await claims.claim("call-1", "first")).state.name)
        print((await claims.claim("call-1", "second")).state.name)
        ```

        ```text
        GRANTED
        HELD
        ```
    """

    def __init__(self, *, lease: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.lease = lease
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._ended: dict[str, None] = {}  # the keys of ended claims, oldest first
        self._lock = threading.Lock()

    async def check(self) -> None:
        """Do nothing, because memory can always be used."""

    async def claim(self, key: str, owner: str, scope: str = "") -> Claim:
        """Request a claim; see ``ClaimStore.claim``."""
        with self._lock:
            known = self._entries.get(key)
            if known is None or (known.scope and scope and known.scope != scope):
                return self._grant(key, _Entry(owner, scope))
            if known.state is ClaimState.COMPLETED:
                if known.scope and scope:
                    return Claim(ClaimState.COMPLETED, known.attempt, known.result)
                return self._grant(key, _Entry(owner, scope))  # without both scopes it may be another claim
            if known.owner != owner:
                if known.state is ClaimState.ABANDONED:
                    return Claim(ClaimState.ABANDONED, known.attempt, known.result)
                if known.state is ClaimState.HELD and self._clock() < known.until:
                    return Claim(ClaimState.HELD, known.attempt)
                known.attempt += 1
            known.owner, known.scope, known.state = owner, scope or known.scope, ClaimState.HELD
            return self._grant(key, known)

    async def renew(self, holdings: Sequence[HeldClaim]) -> list[bool]:
        """Extend leases; see ``ClaimStore.renew``."""
        with self._lock:
            held = [self._held(holding) for holding in holdings]
            for entry in held:
                if entry is not None:
                    entry.until = self._end_of_lease()
            return [entry is not None for entry in held]

    async def record(self, holding: HeldClaim, result: str) -> bool:
        """Record a result; see ``ClaimStore.record``."""
        with self._lock:
            entry = self._held(holding)
            if entry is not None:
                entry.result = result or None
            return entry is not None

    async def complete(self, holding: HeldClaim, result: str | None = None) -> None:
        """Mark the work as completed; see ``ClaimStore.complete``."""
        with self._lock:
            entry = self._held(holding)
            if entry is not None:
                entry.result = result if entry.scope else None
                self._end(holding.key, entry, ClaimState.COMPLETED if entry.scope else None)

    async def release(self, holding: HeldClaim, *, abandon: bool = False) -> None:
        """End a claim without completing the work; see ``ClaimStore.release``."""
        with self._lock:
            entry = self._held(holding)
            if entry is not None:
                self._end(holding.key, entry, ClaimState.ABANDONED if abandon else None)

    async def aclose(self) -> None:
        """Do nothing, because there are no connections."""

    def _grant(self, key: str, entry: _Entry) -> Claim:
        entry.until = self._end_of_lease()
        self._entries[key] = entry
        self._ended.pop(key, None)
        return Claim(ClaimState.GRANTED, entry.attempt, entry.result)

    def _held(self, holding: HeldClaim) -> _Entry | None:
        """Return the entry of a claim if its owner still holds it."""
        entry = self._entries.get(holding.key)
        held = (holding.owner, holding.attempt, ClaimState.HELD)
        return entry if entry is not None and (entry.owner, entry.attempt, entry.state) == held else None

    def _end_of_lease(self) -> float:
        return math.inf if self.lease is None else self._clock() + self.lease

    def _end(self, key: str, entry: _Entry, state: ClaimState | None) -> None:
        entry.state = state
        self._ended[key] = None
        while len(self._ended) > _REMEMBERED:
            oldest = next(iter(self._ended))
            del self._ended[oldest], self._entries[oldest]
