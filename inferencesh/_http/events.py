"""The connection over which events arrive, and the count of connections that were lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from inferencesh._protocol.lines import GrownLine, TextPiece
from inferencesh._protocol.wire import Event, EventDecoder, event_decoder
from inferencesh.config import Backoff
from inferencesh.errors import APIError, InferenceError, StreamError, UnreadableError

from .transport import Transport

if TYPE_CHECKING:
    from .stream import ByteStream

__all__ = ["EventConnection", "ReconnectCounter", "Reconnects"]


@attrs.frozen
class Reconnects:
    """The limits of reconnecting to a stream that was lost.

    Attributes:
        most: The number of connections in a row that may bring nothing new before the stream is given up.
        backoff: The waits before them.
        longest_wait: The longest ``Retry-After`` that is honoured, in seconds.
    """

    most: int = 5
    backoff: Backoff = attrs.Factory(Backoff)
    longest_wait: float = 60.0


class EventConnection:
    """A connection over which events arrive; it may be opened again after it was lost.

    Args:
        transport: Makes the requests.
        default: The name of events whose line tells none.

    Attributes:
        events: The decoded events that were not received yet.
        has_events: Whether ``events`` may hold any.
        problems: What could not be decoded and was skipped; cleared by the caller.
        is_open: Whether there is a connection, as far as is known.
        was_open: Whether there ever was one.
        ended: Whether the server has closed the present one.
    """

    def __init__(self, transport: Transport, default: str = "") -> None:
        self.events: Iterator[Event | GrownLine | TextPiece] = iter(())
        self.has_events = False
        self.problems: list[UnreadableError] = []
        self.is_open = False
        self.was_open = False
        self.ended = False
        self._transport = transport
        self._default = default
        self._bytes: ByteStream | None = None
        self._decoder: EventDecoder | None = None

    async def open(self, path: str, *, retry: bool = True) -> None:
        """Open a stream.

        Args:
            path: The path of the stream below the base URL.
            retry: Whether a request that fails is retried.

        Raises:
            APIError, APIConnectionError: It could not be opened.
            UnreadableError: The response is not an event stream.
        """
        stream = await self._transport.open_stream(path, repeat=retry)
        try:
            limit = self._transport.options.max_line_bytes
            self._decoder = event_decoder(stream.content_type, limit, self._default)
        except UnreadableError:
            stream.close()
            raise
        self._bytes = stream
        self.problems = self._decoder.problems
        self.is_open = self.was_open = True
        self.ended = False

    async def read(self, until: float) -> bool:
        """Wait for bytes and decode their events, of which there may be none yet.

        Args:
            until: The loop's time at which to stop waiting.

        Returns:
            Whether bytes, or the end of the stream, arrived; False when the time is over or ``wake`` was called.

        Raises:
            APIConnectionError: The connection was lost.
            UnreadableError: The rest of the stream cannot be decoded.
        """
        if self._bytes is None or self._decoder is None:
            return False
        data = await self._bytes.read(until)
        if data is None:
            return False
        self.ended = not data
        self.events = iter(self._decoder.feed(data) if data else self._decoder.close())
        self.has_events = True
        return True

    def read_now(self) -> bool:
        """Decode what has arrived already; return whether there was anything.

        Raises:
            UnreadableError: The rest of the stream cannot be decoded.
        """
        data = self._bytes.read_now() if self._bytes is not None else b""
        if not data or self._decoder is None:
            return False
        self.events = iter(self._decoder.feed(data))
        self.has_events = True
        return True

    def wake(self) -> None:
        """Make a ``read`` that is waiting return at once."""
        if self._bytes is not None:
            self._bytes.wake()

    def close(self) -> None:
        """Close the connection and drop the events that were not received; call it on the loop of ``open``."""
        if self._bytes is not None:
            self._bytes.close()
            self._bytes = None
        self.is_open = self.has_events = False
        self.events = iter(())


class ReconnectCounter:
    """Counts the lost connections of one stream since the last one that brought something new.

    Args:
        limits: The limits of reconnecting.
    """

    def __init__(self, limits: Reconnects) -> None:
        self._limits = limits
        self._lost = 0
        self._progress = 0

    def count(self, progress: int, what: str, advice: str, cause: InferenceError) -> int:
        """Count a lost connection.

        Args:
            progress: The number of snapshots that there were.
            what: What is streamed, for the error's text.
            advice: What the caller may do, for the same.
            cause: Why the connection was lost.

        Returns:
            The number of connections in a row that brought nothing before this one.

        Raises:
            StreamError: There were too many.
        """
        if progress != self._progress:
            self._progress = progress
            self._lost = 0
        before = self._lost
        self._lost += 1
        if before >= self._limits.most:
            raise StreamError(
                f"the stream of {what} was lost {self._lost} times in a row without anything new; "
                f"last: {cause}; {advice}"
            ) from cause
        return before

    def delay(self, attempt: int, cause: InferenceError) -> float:
        """Return the seconds to wait before the next connection.

        Args:
            attempt: The number that ``count`` returned.
            cause: Why the connection was lost; its ``Retry-After`` is honoured.

        Raises:
            APIError: The cause itself, when the server asks for a longer wait than ``longest_wait``.
        """
        wait = cause.retry_after if isinstance(cause, APIError) else None
        if wait is None:
            return self._limits.backoff.delay(attempt)
        if wait > self._limits.longest_wait:
            raise cause
        return wait
