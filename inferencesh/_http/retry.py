"""What to do after a request has failed: wait how long, or stop. Pure decisions, without clocks and sockets."""

from __future__ import annotations

import enum

import attrs

from inferencesh.config import Backoff
from inferencesh.errors import APIConnectionError, APIError, InferenceError

__all__ = ["RetryPolicy", "Safety"]


class Safety(enum.Enum):
    """What it would mean to send a request a second time."""

    REPEATABLE = "a read: it may be sent again after any failure that may pass"
    ONCE = "it has an effect each time: it is sent again only when the server cannot have acted on it"
    UNTIL_ACKNOWLEDGED = "the server takes the first and refuses the rest: it is sent again until one was answered"


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
    backoff: Backoff = attrs.Factory(Backoff)
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
