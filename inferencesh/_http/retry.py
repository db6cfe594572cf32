"""Decide whether and when a failed request is retried; ``transport.py`` carries the decision out."""

from __future__ import annotations

import enum

import attrs

from inferencesh.config import Backoff
from inferencesh.errors import APIConnectionError, APIError, InferenceError

__all__ = ["RetryPolicy", "Safety"]


class Safety(enum.Enum):
    """Whether a request may be sent a second time."""

    REPEATABLE = "idempotent: retried after any failure that may be temporary"
    ONCE = "not idempotent: retried only if the server cannot have processed it"
    UNTIL_ACKNOWLEDGED = "the server accepts one and refuses duplicates: retried until a response arrives"


@attrs.frozen
class RetryPolicy:
    """The rules for retries.

    Attributes:
        max_retries: The maximum number of retries of one request.
        backoff: The delays if the response has no ``Retry-After``.
        longest_wait: The longest ``Retry-After`` honoured, in seconds; after a longer one the error is raised, and
            its ``retry_after`` has the value.
        acknowledgement_retries: The least retries for tool results and decisions, whatever ``max_retries`` is.
    """

    max_retries: int = 2
    backoff: Backoff = attrs.Factory(Backoff)
    longest_wait: float = 60.0
    acknowledgement_retries: int = 8

    def wait(self, error: InferenceError, *, sent: bool, safety: Safety, attempt: int) -> float | None:
        """Return how long to wait before a failed request is retried.

        Args:
            error: The error of the last attempt.
            sent: Whether the request may have reached the server.
            safety: Whether the request may be sent again.
            attempt: The number of retries made so far.

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
