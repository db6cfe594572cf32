"""``ClaimStore``, the interface of what decides who takes care of a tool call, a message or a turn."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Sequence

import attrs

__all__ = ["Claim", "ClaimState", "ClaimStore", "Holding"]


class ClaimState(enum.Enum):
    """What has become of a request for a claim."""

    GRANTED = "the asking owner holds the claim"
    HELD = "another owner holds it"
    SETTLED = "an owner has taken care of it; nothing is left to do"
    LEFT = "an owner has given it up for good, and no other is to begin"


@attrs.frozen
class Claim:
    """A store's answer to a request for a claim.

    Attributes:
        state: What has become of the request.
        attempt: How many owners have been granted the claim, the present one included. It grows with each owner, so
            that it can serve as a fencing token.
        result: What the last owner has recorded, or None.

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
class Holding:
    """A claim that an owner was granted.

    Attributes:
        key: What is claimed.
        owner: The owner, a text that no other owner has.
        scope: What tells it from a later one with the same key, such as the message that began a call's turn; or "".
        attempt: The number of the claim.

    Example:
        ```python
        holding = Holding("chat-1:call:call-1", owner="worker-1", attempt=2)
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
    """Decides which of several owners takes care of something: the turns of one client, or those of a fleet of workers.

    A claim is granted to one owner at a time. Where owners can die without a word, a claim is a lease: it lasts until
    the owner settles or releases it, or has not renewed it for ``lease`` seconds. Then another owner is granted it,
    with the next ``attempt``, and whatever the former owner still does about it is refused.

    Scopes tell two things with the same key apart: of two that are known and differ, the later one is a new claim. Of
    what was settled without a scope, nothing is remembered.

    Subclass it to keep claims elsewhere; all methods are called on the event loop of the client, of which there may be
    several at once. A store that cannot do what it is asked for raises ``ClaimStoreError``; what else it raises is told
    as one.

    Attributes:
        lease: Seconds after which a claim that is not renewed may be granted to another owner. None: never, because
            the store ends together with its owners; then nothing is renewed, recorded or taken over.
        poll: Seconds between two looks at a claim that another owner holds.

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
            ConfigurationError: It never will be, as with a wrong password.
            ClaimStoreError: It cannot be reached now.
        """

    @abstractmethod
    async def claim(self, key: str, owner: str, scope: str = "") -> Claim:
        """Ask for a claim. The owner that holds it already is granted it again, as the same attempt.

        Args:
            key: What is claimed.
            owner: The owner, a text that no other owner has.
            scope: What tells it from another one with the same key, or "" when that is not known.

        Returns:
            The answer. What was recorded comes with it, so that a new owner can go on from there.
        """

    @abstractmethod
    async def renew(self, holdings: Sequence[Holding]) -> list[bool]:
        """Extend leases by ``lease`` seconds from now.

        Args:
            holdings: The claims to extend.

        Returns:
            For each whether the owner still holds it: it does until another owner is granted it.
        """

    @abstractmethod
    async def record(self, holding: Holding, result: str) -> bool:
        """Keep a result for the owners to come, should this one end before it has settled the claim.

        Args:
            holding: The claim.
            result: The result, or "" to forget an earlier one.

        Returns:
            Whether the owner still holds the claim; if not, nothing was kept.
        """

    @abstractmethod
    async def settle(self, holding: Holding, result: str | None = None) -> None:
        """End a claim that was taken care of; does nothing if another owner holds it now.

        Args:
            holding: The claim.
            result: What owners that ask for it later are told. What was recorded before is forgotten.
        """

    @abstractmethod
    async def release(self, holding: Holding, *, for_good: bool = False) -> None:
        """End a claim that was not taken care of; does nothing if another owner holds it now.

        Args:
            holding: The claim.
            for_good: Whether no other owner is to be granted it.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections of the store; it may be used again afterwards."""
