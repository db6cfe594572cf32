"""What to do after a request has failed: wait how long, or stop. Pure decisions, without clocks and sockets."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable

import attrs

from inferencesh.errors import APIConnectionError, APIError, InferenceError

__all__ = ["Backoff", "RetryPolicy", "Safety"]


class Safety(enum.Enum):
    """What it would mean to send a request a second time."""

    REPEATABLE = "a read: it may be sent again after any failure that may pass"
    ONCE = "it has an effect each time: it is sent again only when the server cannot have acted on it"
    UNTIL_ACKNOWLEDGED = "the server takes the first and refuses the rest: it is sent again until one was answered"


@attrs.frozen
class Backoff:
    """Waits that grow from one attempt to the next, with jitter so that many clients do not come back at once.

    Attributes:
        initial: Seconds before the first repetition.
        factor: By how much each wait is longer than the one before.
        maximum: The longest wait, in seconds.
        jitter: The share of a wait that is left to chance, 0 to 1.

    Example:
        ```python
        client = Inference("inf_...", max_retries=4, backoff=Backoff(initial=1.0, maximum=30.0))
        print([Backoff(jitter=0).delay(attempt) for attempt in range(3)])
        ```

        ```text
        [0.25, 0.5, 1.0]
        ```
    """

    initial: float = 0.25
    factor: float = 2.0
    maximum: float = 8.0
    jitter: float = 0.5

    def delay(self, attempt: int, chance: Callable[[], float] = random.random) -> float:
        """Seconds to wait before repetition ``attempt``, counted from 0."""
        whole = min(self.maximum, self.initial * self.factor ** min(attempt, 64))
        return whole * (1.0 - self.jitter * chance())


@attrs.frozen
class RetryPolicy:
    """Decides about repetitions.

    Attributes:
        max_retries: How often one request is repeated at the most.
        backoff: The waits where the server does not say.
        longest_wait: The longest ``Retry-After`` that is honoured, in seconds; a longer one ends the attempts, and the
            error's ``retry_after`` tells the caller.
        acknowledgement_retries: How often a tool's result is posted again at the least, whatever ``max_retries`` says.
    """

    max_retries: int = 2
    backoff: Backoff = Backoff()
    longest_wait: float = 60.0
    acknowledgement_retries: int = 8

    def wait(self, error: InferenceError, *, sent: bool, safety: Safety, attempt: int) -> float | None:
        """How long to wait before a failed request is sent again.

        Args:
            error: What the request ended with.
            sent: Whether the request can have reached the server.
            safety: What sending it again would mean.
            attempt: How often it was repeated already.

        Returns:
            Seconds, or None to stop and raise the error.
        """
        limit = self.max_retries
        if safety is Safety.UNTIL_ACKNOWLEDGED:
            limit = max(limit, self.acknowledgement_retries)
        if attempt >= limit or not _may_repeat(error, sent=sent, safety=safety):
            return None
        asked = error.retry_after if isinstance(error, APIError) else None
        if asked is None:
            return self.backoff.delay(attempt)
        return asked if asked <= self.longest_wait else None


def _may_repeat(error: InferenceError, *, sent: bool, safety: Safety) -> bool:
    if isinstance(error, APIError):
        put_off = error.status_code in {429, 503}
        may_pass = error.status_code == 408 or error.status_code >= 500
        return put_off or (may_pass and safety is not Safety.ONCE)
    if isinstance(error, APIConnectionError):
        return not sent or safety is not Safety.ONCE
    return False
