"""Streams of snapshots, as async iterators and context managers; ``AsyncMessageStream`` has those of one turn."""

from __future__ import annotations

import asyncio
import functools
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import attrs

from ._loops.invoke import Callback, Invoker, in_callback_of, invoke
from ._loops.threads import Uncopied, hand_over, wait_for_end
from ._turns.driver import TurnDriver
from ._turns.request import Reports
from .errors import (
    InferenceError,
    InputRequiredError,
    StreamError,
    no_attribute,
    refusing,
    short_tracebacks,
    shorten_traceback,
)
from .models import Message, ToolCall, type_output

if TYPE_CHECKING:  # a type checker has it without the package; a default lets AsyncMessageStream stand alone in hints
    from typing_extensions import TypeVar as TypeVarWithDefault

    OutputT = TypeVarWithDefault("OutputT", default=Any)
else:
    OutputT = TypeVar("OutputT")

__all__ = ["MESSAGE_NAMES", "AsyncMessageStream", "AsyncStream", "BaseAsyncStream", "OneReader", "Source"]

# What people look for in a stream that they take for a message.
MESSAGE_NAMES = frozenset(
    ("content", "delta", "done", "id", "output", "pending_tool_calls", "reasoning", "status", "text", "tool_calls")
)


S = TypeVar("S")


class Source(Protocol[S]):
    """Where a stream takes its snapshots from: a driver, or a Conflator."""

    async def advance(self) -> list[S]:
        """Wait for the next snapshots; return an empty list at the end."""

    def detach(self) -> None:
        """Close the connection at once, from any thread."""

    async def leave(self) -> None:
        """Detach, and wait until what was running has stopped."""

    async def aclose(self) -> None:
        """Close the connection for good."""


class BaseAsyncStream(Uncopied, ABC, Generic[S]):
    """What async streams have in common: ``async with``, one reader, and that dropping one closes its connection."""

    def __init__(self) -> None:
        self._batch: Iterator[S] = iter(())  # what was read last, as far as it was not taken yet
        self._entered = False
        self._reader: OneReader[asyncio.Task[Any]] = OneReader(asyncio.current_task, asyncio.Task.done)

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connection. May be called more than once."""

    async def __aenter__(self) -> Self:
        self._entered = True
        return await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __await__(self) -> Generator[Any, None, Self]:
        return self._open().__await__()

    if not TYPE_CHECKING:  # hidden from type checkers, which then refuse these themselves
        __iter__ = refusing(
            "this stream is asynchronous: write «async for message in ...» instead of «for message in ...»"
        )
        __enter__ = __exit__ = refusing(
            "this stream is asynchronous: write «async with ... as stream» instead of «with ... as stream»"
        )

    def __del__(self) -> None:
        if hasattr(self, "_reader"):
            self._leave()

    @abstractmethod
    async def _open(self) -> Self:
        """Send what has to be sent before there is anything to read, unless that was done."""

    @abstractmethod
    async def _next_batch(self) -> list[S]:
        """Wait for the next items and return all that are there; an empty list at the end. For the blocking client."""

    @abstractmethod
    def _leave(self) -> None:
        """Close the connection at once, from any thread."""


class AsyncStream(BaseAsyncStream[S]):
    """A stream of snapshots with one reader; the base of the streams of messages and of tasks.

    Args:
        source: Where the snapshots come from.
        reports: Whether callbacks of the user are called with the snapshots.
    """

    def __init__(self, source: Source[S], *, reports: bool) -> None:
        super().__init__()
        self._last: S | None = None
        self._source = source
        self._reports = reports
        self._over = False
        self._error: Exception | None = None

    def __aiter__(self) -> AsyncIterator[S]:
        return _Loop(self, leaves=not self._entered)

    async def __anext__(self) -> S:
        self._reader.check()
        return await self._next()

    async def _next(self) -> S:
        snapshot = next(self._batch, None)
        if snapshot is None:
            self._batch = iter(await self._advance())
            snapshot = next(self._batch, None)
            if snapshot is None:
                raise StopAsyncIteration
        self._last = snapshot
        if self._reports:
            await self._report(snapshot, done=False)
        return snapshot

    async def _next_batch(self) -> list[S]:
        """Wait for the next snapshots and return all that are there; for the blocking client.

        The callback is called at the end only.

        Returns:
            At least one snapshot, or an empty list at the end.

        Raises:
            InferenceError: The stream failed; once, then it is over. Or another task reads the stream.
        """
        self._reader.check()
        return list(self._batch) or await self._advance()

    async def _advance(self) -> list[S]:
        with self._reader:
            if self._over:
                return []
            try:
                batch = await self._source.advance()
            except Exception as error:
                self._end()
                self._error = error
                raise
        self._prepare(batch)
        if not batch:
            self._end()
            await self._finish()
        return batch

    async def aclose(self) -> None:
        """Close the connection; what is streamed goes on at the server. May be called more than once.

        Example:
            ```python
            stream = await agent.send_message("Tell me a story", stream=True)
            try:
                print((await anext(aiter(stream))).text)
            finally:
                await stream.aclose()
            ```
        """
        self._end()
        list(self._batch)  # taken, so that a loop that has the same iterator ends
        await self._source.aclose()

    @abstractmethod
    async def _report(self, snapshot: S, *, done: bool) -> None:
        """Call the callback."""

    def _prepare(self, batch: list[S]) -> None:
        """Prepare the snapshots of one read before they are delivered."""

    async def _finish(self) -> None:
        """Do what is to be done when the last snapshot was delivered."""

    def _leave(self) -> None:
        """Close the connection at once, from any thread; iterating again takes the stream up where it is."""
        self._source.detach()

    async def _leave_and_wait(self) -> None:
        """Close the connection as ``_leave`` does, and wait until what was running has stopped."""
        await self._source.leave()

    def _end(self) -> None:
        self._over = True
        self._reader.end_all()

    async def _call_back(
        self,
        invoker: Invoker,
        calls: Iterable[tuple[Callback, tuple[object, ...]]],
        context: AbstractContextManager[None],
    ) -> None:
        """Call callbacks in a context, each with its arguments, and leave the stream when one raises."""
        try:
            with context:
                for callback, arguments in calls:
                    call = functools.partial(callback.function, *arguments)
                    await invoke(invoker, callback.function, call, on_loop=callback.is_on_loop(invoker))
        except GeneratorExit:  # a closed coroutine cannot await
            self._leave()
            raise
        except BaseException:
            await self._leave_and_wait()
            raise


@short_tracebacks
class AsyncMessageStream(AsyncStream[Message], Generic[OutputT]):
    """The snapshots of one turn's assistant messages, each the whole message so far.

    Iterate over it with ``async for``, get the result with ``get_final_message``, or both. Nothing is sent before the
    stream is iterated, awaited or entered. Leaving the loop early, dropping the stream, or cancelling the task closes
    the connection at once; the run goes on at the server, and iterating again continues where the loop was left. Inside
    ``async with`` the connection is kept until the end of the block. A stream has one reader: a second task that reads
    it gets an InferenceError, and the first goes on.

    Async tool handlers that are running when a turn is left are cancelled. Their clean-up has run when ``async with``
    ends, ``aclose`` returns, or an awaited method is cancelled or raises. A ``break`` out of a loop without
    ``async with`` cannot wait for it; it runs soon afterwards. Sync handlers cannot be stopped: their results are
    dropped.

    Example:
        ```python
        async with agent.send_message("Tell me a story", stream=True) as stream:
            async for message in stream:
                print(message.text)
            final = await stream.get_final_message()
        ```
    """

    _instead = "keep its messages, which can be copied, and its chat_id, with which another agent can take the chat up"

    def __init__(self, driver: TurnDriver) -> None:
        self._callbacks = Reports.of(driver.request)
        source = Conflator(driver) if driver.request.conflate else driver
        super().__init__(source, reports=self._callbacks is not None)
        self._driver = driver
        output = driver.request.output
        self._read_output = output.read_partial if output is not None else None

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            advice = f"its messages have it, as in «async for message in stream: message.{name}»; or write "
            advice += "«message = await agent.send_message(...)», without stream=True"
            raise no_attribute(self, name, advice if name in MESSAGE_NAMES else "")

    @property
    def message(self) -> Message | None:
        """The latest snapshot, or None."""
        return self._last

    @property
    def chat_id(self) -> str | None:
        """The chat's id, known once the stream was opened."""
        return self._driver.turn.chat_id if self._driver.turn is not None else None

    @property
    def fencing_token(self) -> int | None:
        """A number that grows with each worker that has the turn, known once the stream was opened.

        Store it with each snapshot that you write, and reject writes with a smaller number than the last. A worker that
        was suspended while another one took over its turn then cannot overwrite newer data. None if the client's
        ``claims`` are not shared, or if another worker has the turn and this stream only follows it.
        """
        return self._driver.fencing_token

    async def get_final_message(self) -> Message:
        """Consume the rest of the stream and return its result.

        Returns:
            The turn's final message, or the one that waits for input.

        Raises:
            RunFailedError: The run failed.
            StreamError: The stream was lost, or was closed before its end.
            APIError, APIConnectionError: A request failed.

        Example:
            ```python
            stream = agent.send_message("Tell me a story", stream=True)
            message = await stream.get_final_message()
            print(message.status)
            ```

            ```text
            ready
            ```
        """
        async for _ in self:
            continue
        if self._error is not None:
            raise self._error
        final = self._final()
        if final is None:
            error = StreamError("the stream was closed before the reply was complete, or there is no reply")
            error.message, error.chat_id = self._last, self.chat_id
            raise error
        return final

    async def get_final_output(self) -> OutputT:
        """Consume the rest of the stream and return the agent's structured output.

        Returns:
            An instance of the ``output_type`` that was given; without one the JSON value that the agent gave to its
            ``finish`` tool, None if it ended without calling it.

        Raises:
            InputRequiredError: The run waits for input instead of ending.
            OutputError: The run was cancelled, the output is incomplete, or it does not match ``output_type``.
            RunFailedError, StreamError, APIError, APIConnectionError: As for ``get_final_message``.

        Example:
            ```python
            stream = agent.send_message("It gets 4 stars", stream=True, output_type=dict[str, int])
            async for message in stream:
                print(message.output)  # what is complete so far
            print(await stream.get_final_output())
            ```

            ```text
            ...
            {...}
            ```
        """
        await self.get_final_message()
        value = await self._driver.read_output()
        output: OutputT = self._driver.request.read_output(value, self.message, self.chat_id)
        return output

    async def _result(self) -> Message:
        """Return the turn's result, with its output as the type that was asked for, if one was.

        Raises:
            OutputError: The run has ended without such an output.
            Exception: As for ``get_final_message``.
        """
        message = await self.get_final_message()
        if self._driver.request.output is None:
            return message
        try:
            output = await self.get_final_output()
        except InputRequiredError:  # what it waits for is in the message
            return message
        type_output(message, lambda *_: output)  # it may stand in the run and not in the message
        return message

    async def stop(self) -> None:
        """End the run on the server; a stream that is still being read ends normally.

        Raises:
            APIError, APIConnectionError: The server refused or could not be reached.

        Example:
            ```python
            stream = agent.send_message("Tell me a story", stream=True)
            async for message in stream:
                if len(message.text) > 20:  # characters
                    await stream.stop()
            ```
        """
        await self._driver.stop()

    def _reporting(self, message: Message, *, done: bool) -> _Reporting:
        """Return the context in which callbacks are called with a snapshot, for the blocking client too.

        Args:
            message: The snapshot that is reported.
            done: Whether the turn is over; then its conversation is free for the next turn.
        """
        return _Reporting(self, message, None if done else in_callback_of(self._driver.conversation))

    async def _open(self) -> Self:
        await self._driver.open()
        return self

    async def _finish(self) -> None:
        final = self._final()
        if final is not None:
            self._last = final
            await self._report(final, done=True)

    def _prepare(self, batch: list[Message]) -> None:
        if self._read_output is not None:
            for message in batch:
                type_output(message, self._read_output)

    def _final(self) -> Message | None:
        turn = self._driver.turn
        final = turn.outcome.message if turn is not None and turn.outcome is not None else None
        if final is not None:
            self._prepare([final])
        return final

    def _repr_markdown_(self) -> str | None:
        """Return what a notebook shows: the latest snapshot; None before the first."""
        return None if self._last is None else self._last._repr_markdown_()

    async def _report(self, snapshot: Message, *, done: bool) -> None:
        if self._callbacks is not None:
            calls = self._callbacks.calls(snapshot, done=done)
            await self._call_back(self._driver.invoker, calls, self._reporting(snapshot, done=done))


class _Reporting(AbstractContextManager[None]):
    """The context in which ``on_message`` and ``on_delta`` are called with a snapshot.

    The turn counts as waiting for the callback, and this package's errors that it raises get the message and chat.

    Args:
        stream: The stream.
        message: The snapshot.
        mark: Marks the code inside as a callback of the turn; None when the turn is over.
    """

    def __init__(self, stream: AsyncMessageStream, message: Message, mark: in_callback_of | None) -> None:
        self._stream = stream
        self._message = message
        self._mark = mark

    def __enter__(self) -> None:
        if self._mark is not None:
            self._mark.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._mark is not None:
            self._mark.__exit__(kind, error, traceback)
        if isinstance(error, Exception):
            error.add_note(f"raised by on_message, which was called about the message {self._message.id}")
        if isinstance(error, InferenceError):
            error.message = error.message or self._message
            error.chat_id = error.chat_id or self._stream.chat_id


class _Loop(Uncopied, Generic[S]):
    """The iterator of one ``async for`` over a stream; when it is dropped, the loop was left."""

    _instead = "keep the snapshots, which can be copied"
    _claim: object | None = None
    _leaves = False

    def __init__(self, stream: AsyncStream[S], *, leaves: bool) -> None:
        self._stream = stream
        self._leaves = leaves
        self._batch: Iterator[S] = iter(())  # the stream's, if nothing but returning its snapshots is to be done

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> S:
        stream = self._stream
        for snapshot in self._batch:  # nearly always, and cheaper than next()
            stream._last = snapshot
            return snapshot
        if self._claim is None:
            self._claim = stream._reader.begin()
        try:
            snapshot = await stream._next()
        except Exception as error:
            shorten_traceback(error)
            raise
        if not stream._reports:
            self._batch = stream._batch
        return snapshot

    def __del__(self) -> None:
        if self._claim is not None:
            self._stream._reader.end(self._claim)
            if self._leaves:
                self._stream._leave()


W = TypeVar("W")


class OneReader(Generic[W]):
    """Restricts a stream to one reader at a time.

    A loop is the reader from its first item until it ends or is dropped. The task or thread that runs it may read in
    other ways meanwhile, for instance with ``get_final_message`` in the loop's body; no other may. As a context manager
    it guards the wait for items, which only one task or thread may do, even with an iterator that several share.

    Args:
        current: Returns the running task or thread.
        is_over: Returns whether a task or thread has ended, so that a loop of it that is still referenced does not
            count.
    """

    __slots__ = ("_claim", "_current", "_is_over", "_lock", "_owner", "_waiting")

    def __init__(self, current: Callable[[], W | None], is_over: Callable[[W], bool]) -> None:
        self._current = current
        self._is_over = is_over
        self._claim: object | None = None
        self._owner: weakref.ref[W] | None = None
        self._lock = threading.RLock()  # reentrant, because garbage collection may end a loop while it is held
        self._waiting = threading.Lock()

    def begin(self) -> object:
        """Make a loop the reader; return its claim, for ``end``.

        Raises:
            InferenceError: Another task or thread reads the stream.
        """
        claim = object()
        with self._lock:
            current = self._current()
            if not self._is_read_by(current):
                if self._waiting.locked():  # by a reader without a loop
                    raise _second_reader()
                self._claim, self._owner = claim, weakref.ref(current) if current is not None else None
        return claim

    def check(self) -> None:
        """Check that the caller may read without a loop.

        Raises:
            InferenceError: Another task or thread reads the stream.
        """
        if self._claim is not None:
            with self._lock:
                self._is_read_by(self._current())

    def end(self, claim: object) -> None:
        """End a loop; does nothing when the loop is not the reader."""
        with self._lock:
            if self._claim is claim:
                self._claim = self._owner = None

    def end_all(self) -> None:
        """End the loop that is the reader, if any, because the stream is over."""
        self._claim = self._owner = None

    def _is_read_by(self, current: W | None) -> bool:
        """Whether a loop of this task or thread is the reader.

        Raises:
            InferenceError: A loop of another task or thread is.
        """
        reference = self._owner  # read once: end_all() does not take the lock
        owner = reference() if reference is not None else None
        if self._claim is None or owner is None or self._is_over(owner):
            return False
        if owner is not current:
            raise _second_reader()
        return True

    def __enter__(self) -> None:
        if not self._waiting.acquire(blocking=False):
            raise _second_reader()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._waiting.release()


def _second_reader() -> InferenceError:
    return InferenceError(
        "this stream is being read already, and a stream has one reader: read it in one task or thread and pass the "
        "snapshots on, or give each a stream of its own with agent.stream_messages() or tasks.stream()"
    )


class Conflator:
    """Reads a turn ahead of its reader, and keeps only the newest snapshot of each message.

    Final snapshots, and those in which a tool call begins to wait, are always returned.

    Args:
        driver: The turn.
    """

    def __init__(self, driver: TurnDriver) -> None:
        self._driver = driver
        self._kept: list[Message] = []
        self._texts: dict[str, str] = {}  # by message id: the text that was returned last, of unfinished messages
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._over = False

    async def advance(self) -> list[Message]:
        """Wait for the newest snapshot; return it alone, or an empty list when the turn has ended or paused.

        Raises:
            Exception: As ``TurnDriver.advance``.
        """
        while not self._kept and not self._over:
            if self._task is None:
                self._task = asyncio.create_task(self._read(), name="inferencesh conflate")
            self._changed.clear()
            try:
                await self._changed.wait()
            except asyncio.CancelledError:
                await self.leave()
                raise
        if self._kept:
            return [self._against_last(self._kept.pop(0))]
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return []

    def detach(self) -> None:
        """Detach the driver at once, from any thread; the next ``advance`` takes the turn up again."""
        self._driver.detach()
        task, self._task = self._task, None
        if task is not None and not task.done():
            hand_over(task.get_loop(), task.cancel)
            hand_over(task.get_loop(), self._changed.set)  # an ``advance`` that is waiting takes the turn up again

    async def leave(self) -> None:
        """Detach, and wait until the tool calls have stopped."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await wait_for_end([task])
        await self._driver.leave()

    async def aclose(self) -> None:
        """Close the connection for good, and wait until the tool calls have stopped."""
        self._over = self._driver.closed = True
        self._changed.set()
        await self.leave()

    async def _read(self) -> None:
        try:
            while batch := await self._driver.advance():
                for message in batch:
                    self._keep(message)
                self._changed.set()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - ``advance`` raises it
            self._error = error
        self._over = True
        self._changed.set()

    def _keep(self, message: Message) -> None:
        for index in reversed(range(len(self._kept))):
            older = self._kept[index]
            if older.id == message.id:
                if not older.done and _waiting(older) == _waiting(message):
                    self._kept[index] = message
                    return
                break  # this one has to be returned, and those before it as well
        self._kept.append(message)

    def _against_last(self, message: Message) -> Message:
        """Return the snapshot with its ``delta`` counted from the one that was returned before it."""
        before, text = self._texts.get(message.id, ""), message.text
        if message.done:
            self._texts.pop(message.id, None)
        else:
            self._texts[message.id] = text
        return attrs.evolve(message, delta=text[len(before) :] if text.startswith(before) else None)


def _waiting(message: Message) -> tuple[ToolCall, ...]:
    return message.pending_tool_calls + message.pending_approvals
