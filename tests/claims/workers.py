"""Workers that share claims, in one process, and that can be suspended."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from inferencesh.claims import Claim, ClaimStore, HeldClaim, MemoryClaims
from tests.support import Gate

__all__ = ["Clock", "WorkerClaims"]


class Clock:
    """A clock that a test can advance."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class WorkerClaims(ClaimStore):
    """One worker's access to shared claims; while it is ``stopped``, nothing is renewed.

    Args:
        shared: The claims.
    """

    def __init__(self, shared: MemoryClaims) -> None:
        self.shared = shared
        self.lease = shared.lease
        self.stopped = False
        self.recorded = Gate()
        self.claimed: list[str] = []

    async def check(self) -> None:
        """As the shared store."""
        await self.shared.check()

    async def claim(self, key: str, owner: str, scope: str = "") -> Claim:
        """As the shared store; the keys are recorded."""
        self.claimed.append(key)
        return await self.shared.claim(key, owner, scope)

    async def renew(self, holdings: Sequence[HeldClaim]) -> list[bool]:
        """As the shared store, but not while the worker is stopped."""
        while self.stopped:  # noqa: ASYNC110 - the test sets it from another thread
            await asyncio.sleep(0.005)
        return await self.shared.renew(holdings)

    async def record(self, holding: HeldClaim, result: str) -> bool:
        """As the shared store."""
        kept = await self.shared.record(holding, result)
        self.recorded.open()
        return kept

    async def complete(self, holding: HeldClaim, result: str | None = None) -> None:
        """As the shared store."""
        await self.shared.complete(holding, result)

    async def release(self, holding: HeldClaim, *, abandon: bool = False) -> None:
        """As the shared store."""
        await self.shared.release(holding, abandon=abandon)

    async def aclose(self) -> None:
        """As the shared store."""
        await self.shared.aclose()
