"""How often, and after which waits, a lost stream is opened again. No I/O and no clock."""

from __future__ import annotations

import attrs

from .errors import APIError, InferenceError, StreamError
from .retry import Backoff

__all__ = ["ReconnectCounter", "Reconnects"]


@attrs.frozen
class Reconnects:
    """How lost streams are taken up again.

    Attributes:
        most: How many connections in a row may bring nothing new before the turn is given up.
        backoff: The waits between them.
        longest_wait: The longest ``Retry-After`` that is honoured, in seconds.
    """

    most: int = 5
    backoff: Backoff = attrs.Factory(Backoff)
    longest_wait: float = 60.0


class ReconnectCounter:
    """Counts the connections of one turn that ended early, since the last that brought something new.

    Args:
        limits: How lost streams are taken up again.
    """

    def __init__(self, limits: Reconnects) -> None:
        self._limits = limits
        self._lost = 0
        self._progress = 0

    def count(self, progress: int, chat_id: str | None, cause: InferenceError) -> int:
        """Count a connection that ended early.

        Args:
            progress: How many snapshots the turn has had.
            chat_id: The chat, for the error's text.
            cause: Why it ended.

        Returns:
            How many in a row brought nothing before it.

        Raises:
            StreamError: They are too many.
        """
        if progress != self._progress:
            self._progress = progress
            self._lost = 0
        before = self._lost
        self._lost += 1
        if before >= self._limits.most:
            raise StreamError(
                f"the stream of chat {chat_id} was lost {self._lost} times in a row without anything new; "
                f"last: {cause}; the run may still be going on, agent.wait() takes it up again"
            ) from cause
        return before

    def delay(self, before: int, cause: InferenceError) -> float:
        """The seconds to wait before the next connection.

        Args:
            before: What ``count`` has returned.
            cause: Why the last one ended; what its ``Retry-After`` says counts.

        Raises:
            APIError: The cause itself, when the server asks for a longer wait than is honoured.
        """
        wait = cause.retry_after if isinstance(cause, APIError) else None
        if wait is None:
            return self._limits.backoff.delay(before)
        if wait > self._limits.longest_wait:
            raise cause
        return wait
