"""Drives a turn over a transport: begin, read, reconnect, re-read, run its tools, until it ends or pauses.

Whoever wants snapshots pulls them with ``advance``; between two pulls nothing is read, so that a slow reader holds the
server back instead of filling memory. Only tool handlers go on meanwhile, as tasks.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import weakref
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import anyio
import attrs

from inferencesh._http.api import ChatAPI, chat_path
from inferencesh._http.transport import Transport
from inferencesh._loops.threads import hand_over, running_loop
from inferencesh._protocol.calls import CallOutcome, Step, step_of
from inferencesh._protocol.lines import GrownLine, TextPiece
from inferencesh._protocol.turn import End, Turn
from inferencesh._protocol.wire import Event, EventDecoder, event_decoder
from inferencesh.config import Backoff
from inferencesh.errors import (
    APIConnectionError,
    APIError,
    ConfigurationError,
    ConflictError,
    InferenceError,
    NotFoundError,
    RunFailedError,
    StreamError,
    UnreadableError,
)
from inferencesh.models import Message, ToolCall

from .output import read_output
from .tools import ToolRunner

if TYPE_CHECKING:
    from inferencesh._http.stream import ByteStream

__all__ = ["EventStream", "ReconnectCounter", "Reconnects", "TurnDriver"]


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


class EventStream:
    """The connection that a chat's events come over, one after the other.

    Args:
        transport: Makes the requests.

    Attributes:
        events: Those that have arrived and were not taken yet.
        was_open: Whether there was a connection before.
        ended: Whether the server has closed the present one.
    """

    def __init__(self, transport: Transport) -> None:
        self.events: Iterator[Event | GrownLine | TextPiece] = iter(())
        self.was_open = False
        self.ended = False
        self._transport = transport
        self._bytes: ByteStream | None = None
        self._decoder: EventDecoder | None = None
        self._broken: UnreadableError | None = None  # why the stream cannot be read on

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._bytes is not None

    async def open(self, chat_id: str, *, repeat: bool) -> None:
        """Open the chat's stream.

        Args:
            chat_id: The chat's id.
            repeat: Whether the request is repeated where it fails in passing.

        Raises:
            APIError, APIConnectionError: It could not be opened.
            UnreadableError: The answer is no stream.
        """
        stream = await self._transport.open_stream(chat_path(chat_id) + "/stream", repeat=repeat)
        try:
            limit = self._transport.options.max_line_bytes
            self._decoder = event_decoder(stream.content_type, limit)
        except UnreadableError:
            stream.close()
            raise
        self._bytes = stream
        self._broken = None
        self.ended = False
        self.was_open = True

    async def read(self, until: float) -> bool:
        """Wait for events; there may be none yet in what has arrived.

        Args:
            until: The loop's time at which to stop waiting.

        Returns:
            False when the time has come, ``wake`` was called, or there is no connection any more.

        Raises:
            APIConnectionError: The connection was lost.
            UnreadableError: What it brought cannot be read on.
        """
        if self._bytes is None or self._decoder is None:
            return False
        if self._broken is not None:
            raise self._broken
        data = await self._bytes.read(until)
        if data:
            self._decode(data)
        elif data is not None:
            self.ended = True
            self.events = iter(self._decoder.close())
        return data is not None

    def read_now(self) -> bool:
        """Take in what has arrived already; returns whether there was anything."""
        data = self._bytes.read_now() if self._bytes is not None else b""
        if data:
            self._decode(data)
        return bool(data)

    def take_problems(self) -> list[UnreadableError]:
        """What could not be read, and was passed over, since the last time."""
        if self._decoder is None or not self._decoder.problems:
            return []
        problems, self._decoder.problems = self._decoder.problems, []
        return problems

    def wake(self) -> None:
        """Have a waiting ``read`` return at once."""
        if self._bytes is not None:
            self._bytes.wake()

    def close(self) -> None:
        """Close the connection, on its loop, and forget what was not taken; it may be opened anew."""
        if self._bytes is not None:
            self._bytes.close()
            self._bytes = None
        self.events = iter(())

    def _decode(self, data: bytes) -> None:
        assert self._decoder is not None
        try:
            self.events = iter(self._decoder.feed(data))
        except UnreadableError as error:
            self._broken = error  # when all before it has been delivered, the connection is given up


logger = logging.getLogger("inferencesh")

T = TypeVar("T")

_BATCH = 256  # snapshots handed over at once at the most


class TurnDriver:
    """One turn on its way.

    Args:
        transport: Makes the requests.
        begin: Begins the turn, once, and returns it: posts the message, or finds out what is going on. It is given this
            driver, whose ``connect`` it may call, and puts first snapshots into ``ready``.
        runner: Makes what takes care of the turn's tool calls.
        reconnects: How lost streams are taken up again.
    """

    def __init__(
        self,
        transport: Transport,
        begin: Callable[[TurnDriver], Awaitable[Turn]],
        runner: Callable[[Turn], ToolRunner],
        reconnects: Reconnects,
    ) -> None:
        self.turn: Turn | None = None
        self.ready: list[Message] = []
        self.closed = False
        self.posted = False  # whether the message may have reached the server
        self._transport = transport
        self._api = ChatAPI(transport)
        self._begin = begin
        self._make_runner = runner
        self._runner: ToolRunner | None = None
        self._runners: weakref.WeakSet[ToolRunner] = weakref.WeakSet()  # with those that were parked and clean up
        self._connection = EventStream(transport)
        self._lost_connections = ReconnectCounter(reconnects)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drives = False  # whether this is what drives the turn now
        self._failure: Exception | None = None  # raised when the snapshots before it have been handed out
        self._wait = 0.0  # seconds before the next connection or request
        self._unreadable_read = False  # whether what was read last has been counted as unreadable

    async def advance(self) -> list[Message]:
        """Wait for the next snapshots.

        Returns:
            At least one, or none at all when the turn has ended or paused.

        Raises:
            RunFailedError: The run failed.
            StreamError: The stream was lost for good, or what it brought could not be read.
            APIError, APIConnectionError: A request failed.
            Exception: What a callback raised.
        """
        return [] if self.closed else await self._guard(self._advance)

    async def open(self) -> None:
        """Begin the turn if it has not begun.

        Raises:
            APIError, APIConnectionError, UnreadableError: It could not be begun.
        """
        if not self.closed:
            await self._guard(self._ensure_begun)

    async def read_output(self) -> Any:
        """The structured output of the turn, which is over; None when the agent gave none.

        Raises:
            InputRequiredError: The turn is paused.
            OutputError: The run was cancelled, or only a part of the output came.
            APIError, APIConnectionError: The chat could not be read.
        """
        turn = self.turn
        assert turn is not None
        return await self._guard(lambda: read_output(turn, self._api))

    async def _guard(self, step: Callable[[], Awaitable[T]]) -> T:
        """Take a step; what it raises carries the last snapshot; then no connection is open and no tool runs."""
        try:
            return await step()
        except BaseException as error:
            if isinstance(error, InferenceError) and self.turn is not None:
                error.message = error.message or self.turn.last_delivered
                error.chat_id = error.chat_id or self.turn.chat_id
            if isinstance(error, Exception):
                self.closed = True
            if isinstance(error, GeneratorExit):  # nothing can be awaited any more
                self.detach()
            else:
                await self.leave()
            raise

    async def connect(self, chat_id: str, *, again: bool = False) -> None:
        """Open the chat's stream.

        Raises:
            APIError, APIConnectionError: It could not be opened.
            UnreadableError: The answer is no stream.
        """
        await self._connection.open(chat_id, repeat=not again)

    async def stop(self) -> None:
        """End the run on the server; nothing happens before the turn has begun."""
        if self.turn is not None and self.turn.chat_id is not None:
            await self._api.stop(self.turn.chat_id)

    def detach(self) -> None:
        """Close the connection and stop the tools at once, from any thread; ``advance`` takes the turn up again."""
        loop = self._loop
        if loop is None:
            return
        if running_loop() is loop:
            self._detach()
        else:
            hand_over(loop, self._detach)  # a loop that is closed has closed its sockets

    async def aclose(self) -> None:
        """Close the connection for good and wait until the tools have stopped."""
        self.closed = True
        await self.leave()

    async def leave(self) -> None:
        """Close the connection and wait until the tools have stopped; ``advance`` takes the turn up again."""
        self.detach()
        for runner in list(self._runners):
            await runner.aclose()

    def _detach(self) -> None:
        self._connection.close()
        if self._runner is not None:
            self._runner.cancel()
            self._runner = None
        if self.turn is not None and self._drives:  # else another stream may have taken it up since
            self._drives = self.turn.driven = False
            self.turn.calls.abandon()

    async def _ensure_begun(self) -> Turn:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        if self.turn is None:
            self.turn = await self._begin(self)
        self._drives = self.turn.driven = True
        return self.turn

    async def _advance(self) -> list[Message]:
        """Wait for snapshots; an error is raised only when all that were there before it have been handed out."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        try:
            await self._fill()
        except Exception as error:
            if not self.ready:
                raise
            self._failure = error
        ready, self.ready = self.ready, []
        return ready

    async def _fill(self) -> None:
        """Drive the turn until there are snapshots, or until it is over."""
        turn = await self._ensure_begun()
        while not self.ready:
            if self.closed:  # by another task, while this one was waiting
                self._detach()
                return
            if self._runner is not None and self._runner.failure is not None:
                raise self._runner.failure
            if turn.was_refused:
                await self._withdraw(turn)
                continue
            if turn.outcome is not None:
                await self._conclude(turn)
                return
            self._start_calls(turn)
            wait, self._wait = self._wait, 0.0
            if wait:
                await anyio.sleep(wait)
                continue  # it may have been closed, or a tool may have failed meanwhile
            if turn.wants_reread:
                await self._reread(turn)
            elif not self._connection.is_open:
                await self._reconnect(turn)
            elif not self._take_events(turn):
                await self._read(turn)
        self._gather(turn)

    # -- reading ---------------------------------------------------------------------------------------------------

    def _take_events(self, turn: Turn) -> bool:
        """Feed the turn with events that have arrived; returns whether something is to be done about it."""
        problems = self._feed(turn)
        if problems:
            self._report(turn, problems)
        return bool(self.ready) or turn.wants_action

    def _feed(self, turn: Turn) -> list[UnreadableError]:
        """Feed the turn with events that have arrived; returns what could not be read."""
        problems = turn.receive_all(self._connection.events, self._now(), self.ready, _BATCH)
        return problems + self._connection.take_problems()

    def _gather(self, turn: Turn) -> None:
        """Take along what has arrived already: a batch costs a thread's wake-up in the blocking client."""
        while len(self.ready) < _BATCH and not turn.wants_action and self._connection.read_now():
            self._unreadable_read = False
            self._take_events(turn)

    async def _read(self, turn: Turn) -> None:
        """Wait for bytes, until the turn wants to look after itself or a tool has finished."""
        if self._now() >= turn.deadline:
            turn.tick(self._now())
            return
        try:
            if not await self._connection.read(turn.deadline):
                turn.tick(self._now())
                return
            self._unreadable_read = False
            if self._connection.ended:
                self._end_of_stream(turn)
        except (APIConnectionError, UnreadableError) as error:
            self._lost(turn, error)

    def _end_of_stream(self, turn: Turn) -> NoReturn:
        problems = self._feed(turn)  # the last line may be whole without its end
        if problems:
            self._distrust(turn, problems)
        raise APIConnectionError("the server closed the stream before the turn was over")

    def _report(self, turn: Turn, problems: Sequence[UnreadableError]) -> None:
        """Something could not be read: say so, read the state another way, and give up when it goes on."""
        self._distrust(turn, problems)
        if not self._unreadable_read:  # however much of one read is unreadable, it counts once
            self._unreadable_read = True
            self._count_lost(turn, problems[0])

    def _distrust(self, turn: Turn, problems: Sequence[UnreadableError]) -> None:
        self._warn(turn, problems[0], len(problems) - 1)
        turn.unreadable()

    def _warn(self, turn: Turn, error: UnreadableError, more: int = 0) -> None:
        error.args = (self._transport.masked(str(error)),)  # it shows how the line began
        others = f" (and {more} more)" if more else ""
        logger.warning("chat %s: %s%s; reading the chat instead", turn.chat_id, error, others)

    async def _reread(self, turn: Turn) -> None:
        chat_id = turn.chat_id
        assert chat_id is not None
        try:
            chat = await self._api.read_chat(chat_id)
            messages = await self._api.read_messages(chat, chat_id, turn.replies.begins_after)
        except (APIConnectionError, UnreadableError) as error:
            self._lost(turn, error)
            return
        except NotFoundError as error:
            if not self._connection.is_open:
                raise
            logger.info("chat %s: it streams but cannot be read (%s)", turn.chat_id, error.status_code)
            self.ready += turn.reread_failed(self._now())
            return
        try:
            self.ready += turn.reread(chat, messages, self._now())
        except UnreadableError as error:
            self._distrust(turn, [error])
            self._count_lost(turn, error)

    # -- reconnecting ----------------------------------------------------------------------------------------------

    def _lost(self, turn: Turn, cause: InferenceError) -> None:
        """The connection is gone: close it, and set how long to wait before the next one."""
        self._connection.close()
        if self.closed:
            return
        if isinstance(cause, UnreadableError):
            self._warn(turn, cause)
        before = self._count_lost(turn, cause)
        if turn.replied:
            turn.wants_reread = True  # most likely the end; then no other connection is needed
        self._wait = self._lost_connections.delay(before, cause)
        logger.info("chat %s: %s; connecting again in %.2f s", turn.chat_id, type(cause).__name__, self._wait)

    def _count_lost(self, turn: Turn, cause: InferenceError) -> int:
        """Count a connection that ended early; returns how many in a row brought nothing before it."""
        if self._transport.closed:
            raise InferenceError("the client was closed while this stream was open") from cause
        return self._lost_connections.count(turn.progress, turn.chat_id, cause)

    async def _reconnect(self, turn: Turn) -> None:
        assert turn.chat_id is not None
        is_first = not self._connection.was_open
        try:
            await self.connect(turn.chat_id, again=True)
        except (APIConnectionError, APIError, UnreadableError) as error:
            if isinstance(error, APIError) and error.status_code not in {408, 429} and error.status_code < 500:
                raise
            turn.wants_reread = True  # it may be over by now, and then needs no stream
            self._lost(turn, error)
        else:
            if not is_first:
                turn.reconnected()

    # -- tools and the end -----------------------------------------------------------------------------------------

    def _start_calls(self, turn: Turn) -> None:
        for call in turn.calls.take():
            if self._runner is None:
                self._runner = self._make_runner(turn)
                self._runners.add(self._runner)
            self._runner.start(call, functools.partial(self._call_done, turn, call))

    def _call_done(self, turn: Turn, call: ToolCall, fate: CallOutcome) -> None:
        if fate is CallOutcome.LEFT:
            turn.call_declined(call.id, self._now(), step_of(call) or Step.RESULT)
        elif fate is CallOutcome.ANSWERED:
            turn.call_answered(call.id, self._now())
        else:
            approved = {CallOutcome.APPROVED: True, CallOutcome.REJECTED: False}.get(fate)
            turn.call_decided(call.id, self._now(), approved=approved)
        self._connection.wake()

    async def _withdraw(self, turn: Turn) -> None:
        """Take back a message that comes after a run that waits for input; returns only if it is not queued any more.

        Raises:
            InputRequiredError: It has no turn before the input is given.
        """
        pause = turn.outcome.pause if turn.outcome is not None else None
        assert pause is not None
        left: InferenceError | None = None
        try:
            withdrawn = turn.replies.withdrawn or await self._api.cancel_message(turn.run.user_message_id)
        except (APIError, APIConnectionError, ConfigurationError) as error:
            withdrawn, left = False, error
        if not withdrawn and turn.may_be_withdrawn and (left is None or isinstance(left, ConflictError)):
            turn.withdrawal_refused(self._now())
            return
        await self.aclose()
        if withdrawn:
            raise pause.error("the chat", "; the message was withdrawn: answer that, wait(), then send it again")
        raise pause.error(
            "the chat",
            "; the message could not be withdrawn and may be answered after that, so do not send it again: answer what "
            "is waited for, then wait() and look at history()",
        ) from left

    async def _conclude(self, turn: Turn) -> None:
        outcome = turn.outcome
        assert outcome is not None
        await self.aclose()
        if outcome.end in {End.FINISHED, End.PAUSED}:
            return
        failure: RunFailedError | StreamError
        if outcome.end is End.FAILED:
            failure = RunFailedError(self._transport.masked(outcome.detail))
        else:
            failure = StreamError(f"chat {turn.chat_id}: {outcome.detail}")
        failure.message = turn.last_delivered
        raise failure

    def _now(self) -> float:
        assert self._loop is not None
        return self._loop.time()
