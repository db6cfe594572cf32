"""Events of a stream: the connection over which they arrive, their receipt, and what is done when it is lost."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import attrs

from inferencesh._loops.threads import call_on
from inferencesh._protocol.lines import GrownLine, TextPiece
from inferencesh._protocol.wire import Event, EventDecoder, event_decoder
from inferencesh.config import Backoff
from inferencesh.errors import APIConnectionError, APIError, InferenceError, StreamError, UnreadableError

from .transport import Transport

if TYPE_CHECKING:
    from .stream import ByteStream

__all__ = ["EventConnection", "EventDriver", "ReconnectCounter", "Reconnects", "may_pass"]

logger = logging.getLogger("inferencesh")

BATCH = 256  # the most snapshots that one ``advance`` returns
S = TypeVar("S")


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

    async def read(self, until: float = math.inf) -> bool:
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


def may_pass(error: InferenceError) -> bool:
    """Whether a stream that could not be opened may be opened with another attempt."""
    return not isinstance(error, APIError) or error.status_code in {408, 429} or error.status_code >= 500


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


class Machine(Protocol[S]):
    """The state machine of a turn or a task, as far as its driver passes it what happens on the connection."""

    progress: int
    wants_reread: bool  # whether the driver should read the state; a property that may be set

    @property
    def subject(self) -> str:
        """What is streamed, for logs and errors: ``chat`` or ``task``, and its id."""

    @property
    def deadline(self) -> float:
        """The time at which to call ``tick`` if no event arrives before."""

    @property
    def wants_action(self) -> bool:
        """Whether the driver has to act before it passes more events."""

    def receive_all(
        self, events: Iterable[Event | GrownLine | TextPiece], now: float, snapshots: list[S], most: int
    ) -> list[UnreadableError]:
        """Process events until the driver has to act; return errors for those that could not be read."""

    def tick(self, now: float) -> None:
        """Check what is due."""

    def unreadable(self) -> None:
        """Note that the stream has brought something unreadable."""

    def lost(self) -> None:
        """Note that the connection was lost, or could not be opened."""

    def reconnected(self) -> None:
        """Note that the stream was opened again."""


class EventDriver(ABC, Generic[S]):
    """What the drivers of turns and of tasks have in common: how a stream uses them, and reading in spite of losses.

    Args:
        transport: Makes the requests.
        reconnects: The limits of reconnecting.
        default: The name of events whose line tells none.

    Attributes:
        closed: Whether the stream is over for this driver: it ended, paused, failed or was closed.
    """

    _advice = ""  # what a caller may do when the stream was lost for good

    def __init__(self, transport: Transport, reconnects: Reconnects, default: str = "") -> None:
        self.closed = False
        self._transport = transport
        self._connection = EventConnection(transport, default)
        self._reconnects = ReconnectCounter(reconnects)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._now: Callable[[], float] = time.monotonic  # the loop's clock, once there is a loop
        self._snapshots: list[S] = []  # for the next ``advance``
        self._failure: Exception | None = None  # raised once the snapshots before it were returned
        self._wait = 0.0  # seconds to wait before the next request
        self._unreadable_counted = False  # whether unreadable events of the latest read were counted as a loss

    # -- what the stream calls -------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Begin what is streamed, unless it has begun.

        Raises:
            Exception: What ``_begin`` raises.
        """
        if self.closed:
            return
        try:
            await self._begin()
        except BaseException as error:
            await self._fail(error)
            raise

    async def advance(self) -> list[S]:
        """Wait for the next snapshots.

        Returns:
            At least one snapshot, or an empty list at the end.

        Raises:
            StreamError: The stream was lost for good, or what it brought could not be read.
            APIError, APIConnectionError: A request failed.
            Exception: What else ``_fill`` raises.
        """
        if self.closed:
            return []
        if self._failure is not None:
            await self._fail(self._failure)
            raise self._failure
        try:
            await self._fill()
        except BaseException as error:
            if not self._snapshots or not isinstance(error, Exception):
                await self._fail(error)
                raise
            self._failure = error
        snapshots, self._snapshots = self._snapshots, []
        return snapshots

    def detach(self) -> None:
        """Close the connection at once, from any thread. The next ``advance`` takes up again where it was left."""
        if self._loop is not None:
            call_on(self._loop, self._detach)

    async def leave(self) -> None:
        """Detach, and wait until what was running has stopped."""
        self.detach()

    async def aclose(self) -> None:
        """Close the connection for good, and wait until what was running has stopped."""
        self.closed = True
        await self.leave()

    # -- what the drivers do ---------------------------------------------------------------------------------------

    @abstractmethod
    async def _begin(self) -> None:
        """Begin what is streamed, or take it up, unless that was done."""

    @abstractmethod
    async def _fill(self) -> None:
        """Go on until there are snapshots, or until the end."""

    @abstractmethod
    def _annotate(self, error: Exception) -> None:
        """Note in an error that is about to be raised how far the stream has got."""

    def _detach(self) -> None:
        """Close the connection, on its loop."""
        self._connection.close()

    def _use_running_loop(self) -> None:
        """Use the running loop and its clock; does nothing after the first time."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._now = self._loop.time

    async def _fail(self, error: BaseException) -> None:
        """Detach because of an error, which ends the stream unless it is a cancellation or the like."""
        if isinstance(error, Exception):
            self.closed = True
            self._annotate(error)
        if isinstance(error, GeneratorExit):  # a closed coroutine cannot await
            self.detach()
        else:
            await self.leave()

    # -- reading ---------------------------------------------------------------------------------------------------

    async def _read(self, machine: Machine[S]) -> None:
        """Wait for events, until the deadline or until something else wakes the connection."""
        now, deadline = self._now(), machine.deadline
        if now >= deadline:
            machine.tick(now)
            return
        try:
            arrived = await self._connection.read(deadline)
        except (APIConnectionError, UnreadableError) as error:
            self._lost(machine, error)
            return
        if arrived:
            self._unreadable_counted = self._connection.ended  # an incomplete last line is part of the same loss
            self._receive(machine)
        else:
            machine.tick(self._now())

    def _receive(self, machine: Machine[S]) -> None:
        """Receive the events that have arrived, up to a batch of snapshots or something to do.

        A batch costs the blocking client one wake-up of its thread, so what else has arrived is read as well.
        """
        connection = self._connection
        while True:
            problems = machine.receive_all(connection.events, self._now(), self._snapshots, BATCH)
            if problems or connection.problems:
                self._report(machine, [*problems, *connection.problems])
                connection.problems.clear()
            if len(self._snapshots) >= BATCH or machine.wants_action:
                return  # with events left, maybe
            connection.has_events = False
            try:
                if not connection.read_now():
                    return
            except UnreadableError as error:
                self._lost(machine, error)
                return
            self._unreadable_counted = False

    def _report(self, machine: Machine[S], problems: Sequence[UnreadableError]) -> None:
        """Have the state read in place of what could not be read; give up when that goes on."""
        self._distrust(machine, problems)
        if not self._unreadable_counted:  # however many events of one read are unreadable, that is one loss
            self._unreadable_counted = True
            self._count_loss(machine, problems[0])

    def _distrust(self, machine: Machine[S], problems: Sequence[UnreadableError]) -> None:
        self._warn(machine, problems[0], len(problems) - 1)
        machine.unreadable()

    def _warn(self, machine: Machine[S], error: UnreadableError, more: int = 0) -> None:
        error.args = (self._transport.masked(str(error)),)  # it quotes the start of the line
        others = f" (and {more} more)" if more else ""
        kind = machine.subject.partition(" ")[0]
        logger.warning("%s: %s%s; reading the %s instead", machine.subject, error, others, kind)

    def _read_failed(self, machine: Machine[S], error: InferenceError) -> None:
        """Count a failed read of the state as a lost connection, if another attempt may succeed; else raise it."""
        if not may_pass(error):
            raise error
        machine.wants_reread = True
        self._lost(machine, error)

    def _lost(self, machine: Machine[S], cause: InferenceError) -> None:
        """Close a connection that was lost, or could not be opened, and set the wait before the next one."""
        self._connection.close()
        if self.closed:
            return
        if isinstance(cause, UnreadableError):
            self._warn(machine, cause)
        attempt = self._count_loss(machine, cause)
        machine.lost()
        self._wait = self._reconnects.delay(attempt, cause)
        logger.info("%s: %s; connecting again in %.2f s", machine.subject, type(cause).__name__, self._wait)

    def _count_loss(self, machine: Machine[S], cause: InferenceError) -> int:
        """Count a lost connection; return the number of those in a row that brought nothing before it."""
        if self._transport.closed:
            raise InferenceError("the client was closed while this stream was open") from cause
        return self._reconnects.count(machine.progress, machine.subject, self._advice, cause)

    async def _connect(self, machine: Machine[S], path: str) -> None:
        """Open the stream; a refusal that another attempt may not meet counts as a lost connection."""
        is_first = not self._connection.was_open
        try:
            await self._connection.open(path, retry=False)
        except (APIConnectionError, APIError, UnreadableError) as error:
            self._read_failed(machine, error)  # it may be over by now, and then needs no stream
        else:
            if not is_first:
                machine.reconnected()
