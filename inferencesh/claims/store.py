"""``ClaimStore``: the interface of the stores that decide which worker handles a tool call, a message or a turn."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Sequence

import attrs

__all__ = ["Claim", "ClaimState", "ClaimStore", "HeldClaim"]


class ClaimState(enum.Enum):
    """The outcome of a request for a claim."""

    GRANTED = "the requesting owner holds the claim"
    HELD = "another owner holds the claim"
    COMPLETED = "an owner has completed the work"
    ABANDONED = "an owner has abandoned the work, and no other owner may start it"


@attrs.frozen
class Claim:
    """The response of a store to a request for a claim.

    Attributes:
        state: The outcome of the request.
        attempt: The number of owners that have been granted the claim, including the current one. It grows with each
            owner, so it can serve as a fencing token.
        result: The result that the last owner recorded, or None.

    Example:
        ```python
        claim = Claim(ClaimState.GRANTED, attempt=2)
        print(claim.state.name, claim.attempt, claim.result)
        ```

        ```text
        GRANTED 2 None
        ```
    """

    state: ClaimState
    attempt: int = 1
    result: str | None = None


@attrs.frozen
class HeldClaim:
    """A claim that an owner has been granted.

    Attributes:
        key: The key of the claim.
        owner: The unique id of the owner.
        scope: Distinguishes claims with the same key, such as by the id of the message that started the turn; or "".
        attempt: The attempt number with which the claim was granted.

    Example:
        ```python
        holding = HeldClaim("chat-1:call:call-1", owner="worker-1", attempt=2)
        print(holding.key, holding.attempt)
        ```

        ```text
        chat-1:call:call-1 2
        ```
    """

    key: str
    owner: str
    scope: str = ""
    attempt: int = 1


class ClaimStore(ABC):
    """Abstract base class of claim stores, which grant each claim to one owner at a time.

    An owner is a turn of one client, or of one of several workers that share the store. If ``lease`` is set, a claim is
    a lease: it lasts until the owner completes or releases it, or has not renewed it for ``lease`` seconds. It can then
    be granted to another owner, with the next ``attempt``. Operations of the former owner have no effect from then on.

    A scope distinguishes claims with the same key: if both scopes are known and differ, the later claim is a new one.
    A claim without a scope is forgotten when it is completed.

    To keep claims elsewhere, implement all methods in a subclass. They are called on the event loop of the client; a
    store may be used on several event loops at once. Methods raise ``ClaimStoreError`` if the operation fails; other
    exceptions are converted to it.

    Attributes:
        lease: Seconds after which a claim that was not renewed may be granted to another owner. None means never,
            because the store ends together with its owners; then claims are not renewed, recorded or taken over.
        poll: Seconds between two requests for a claim that another owner holds.

    Example:
        ```python
        store: ClaimStore = MemoryClaims(lease=30)
        client = AsyncInference("inf_...", claims=store)
        ```
    """

    lease: float | None = None
    poll: float = 0.05

    @abstractmethod
    async def check(self) -> None:
        """Check that the store can be used; called when a client is entered.

        Raises:
            ConfigurationError: The store cannot be used at all, such as with a wrong password.
            ClaimStoreError: The store cannot be reached now.
        """

    @abstractmethod
    async def claim(self, key: str, owner: str, scope: str = "") -> Claim:
        """Request a claim. An owner that already holds it is granted it again, with the same attempt number.

        Args:
            key: The key of the claim.
            owner: The unique id of the owner.
            scope: Distinguishes claims with the same key, or "" if not known.

        Returns:
            The outcome, with the result that an earlier owner recorded, so that a new owner can continue from there.
        """

    @abstractmethod
    async def renew(self, holdings: Sequence[HeldClaim]) -> list[bool]:
        """Extend leases to ``lease`` seconds from now.

        Args:
            holdings: The claims to extend.

        Returns:
            For each claim, whether the owner still holds it. It does until another owner is granted the claim.
        """

    @abstractmethod
    async def record(self, holding: HeldClaim, result: str) -> bool:
        """Record a result for later owners, in case this owner dies before it completes the claim.

        Args:
            holding: The claim.
            result: The result, or "" to delete an earlier one.

        Returns:
            Whether the owner still holds the claim. If not, nothing was recorded.
        """

    @abstractmethod
    async def complete(self, holding: HeldClaim, result: str | None = None) -> None:
        """Mark the work as completed and end the claim; has no effect if another owner holds it now.

        Args:
            holding: The claim.
            result: The result that later requests for the claim return. It replaces a recorded one.
        """

    @abstractmethod
    async def release(self, holding: HeldClaim, *, abandon: bool = False) -> None:
        """End a claim without completing the work; has no effect if another owner holds it now.

        Args:
            holding: The claim.
            abandon: Whether the work is abandoned, so that no other owner is granted the claim.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections of the store, which may be used again afterwards."""
