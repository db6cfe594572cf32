"""The blocking client's event loop: a background thread that runs coroutines for threads that wait for them.

``LoopThread`` runs one coroutine for a waiting caller. ``Pump`` hands the items of an async source over in batches, one
hand-over between the threads for each batch. Both carry exceptions to the caller, and cancel what runs on the loop when
the caller is interrupted, for instance by Ctrl-C. A waiting thread runs the caller's own functions (callbacks and tool
handlers), so that they may block and may use the client themselves.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import functools
import inspect
import os
import queue
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeAlias, TypeVar

from inferencesh.errors import InferenceError

from .invoke import checked_await, checked_call, invoke, raised_by_signal_handler
from .threads import hand_over

__all__ = ["LoopThread", "Pump", "Relay"]

T = TypeVar("T")

# Makes a coroutine function for the loop out of a function that is to run on the waiting thread; None stays None.
Relay: TypeAlias = Callable[[Callable[..., Any] | None], Callable[..., Coroutine[Any, Any, Any]] | None]

_CLOSED = "the client was closed while a call was under way"
_CLEANUP = 2.0  # seconds that an interrupted caller and the end of the interpreter wait for connections to be closed
# One long wait is made of many short ones: on Windows Ctrl-C does not interrupt a wait, and elsewhere a signal
# that arrives just before a wait begins is handled only when that wait ends.
_POLL = 0.1 if sys.platform == "win32" else 0.5

_started: weakref.WeakSet[LoopThread] = weakref.WeakSet()
_ending = threading.Event()  # whether the interpreter is about to end
_inherited: list[object] = []  # loops of the parent process, which a forked child must neither use nor close


class LoopThread:
    """An event loop in a daemon thread, which the first call starts.

    Args:
        name: The thread's name.

    Attributes:
        closed: Whether ``close`` was called; then every call is refused.
    """

    _loop: asyncio.AbstractEventLoop | None = None

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.RLock()  # reentrant, because a signal handler may call stop() while the loop is started
        self._loop = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly
        self._pid = os.getpid()
        self.closed = False

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for its result.

        Args:
            coroutine: The coroutine; it runs in a copy of the caller's context.

        Returns:
            What the coroutine returns.

        Raises:
            InferenceError: The client is closed, or the caller is on the loop's own thread, which would wait for ever.
            BaseException: What the coroutine raised. Or what a signal handler raised on this thread while it waited,
                such as KeyboardInterrupt; then the coroutine was cancelled.
        """
        reply: queue.SimpleQueue[_Reply[T]] = queue.SimpleQueue()
        task = _RemoteTask(functools.partial(_answer, coroutine, reply))
        try:
            self.spawn(task)
            answer = wait_for(reply)
        except BaseException:
            if task.cancel():
                coroutine.close()
            else:
                _wait_for_cleanup(reply)
            raise
        try:
            return answer()
        except _StoppedError:
            raise InferenceError(_CLOSED) from None

    def call_with_callbacks(self, work: Callable[[Relay], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the loop and wait for its result; the callbacks that it calls run on this thread.

        Args:
            work: Makes the coroutine; it gets a Relay, through which the coroutine calls functions on this thread.

        Returns:
            What the coroutine returns.

        Raises:
            InferenceError, BaseException: As for ``call``.
        """
        pump: Pump[T] = Pump(self)

        def relay(function: Callable[..., Any] | None) -> Callable[..., Coroutine[Any, Any, Any]] | None:
            if function is None:
                return None

            async def relayed(*arguments: object) -> Any:
                return await invoke(pump, function, functools.partial(function, *arguments))

            return relayed

        async def once() -> list[T]:
            return [await work(relay)]

        pump.source = once
        try:
            return pump.take()[0]
        finally:
            pump.cancel()

    def call_back(self, function: Callable[..., Any], *arguments: object) -> None:
        """Call a callback of the user on this thread; an awaitable that it returns is awaited on the loop.

        Args:
            function: The callback, sync or async.
            arguments: Its positional arguments.

        Raises:
            CallbackCancelledError: It raised CancelledError.
            BaseException: What else it raised; or as for ``call``.
        """
        result = checked_call(functools.partial(function, *arguments))
        if inspect.isawaitable(result):
            self.call(checked_await(result))

    def call_close(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a coroutine that closes something; do nothing if the loop was closed, which has closed everything.

        Args:
            close: Makes the coroutine.
        """
        if self.closed:
            return
        try:
            self.call(close())
        except InferenceError:
            if not self.closed:
                raise

    def clean_up(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine that cleans up after an exception, and wait at most two seconds for its end.

        What the coroutine raises is ignored; the caller is about to raise the exception that it cleans up after.

        Args:
            coroutine: The coroutine; closed unused if the loop was closed, which has cleaned up everything.
        """
        reply: queue.SimpleQueue[_Reply[object]] = queue.SimpleQueue()
        task = _RemoteTask(functools.partial(_answer, coroutine, reply))
        try:
            self.spawn(task)
        except InferenceError:  # closed
            coroutine.close()
        else:
            _wait_for_cleanup(reply)

    def spawn(self, task: _RemoteTask) -> None:
        """Start a task on the loop.

        Args:
            task: The task; it runs in a copy of the caller's context.

        Raises:
            InferenceError: The caller is on the loop's own thread, or the loop was closed.
        """
        loop = self.loop()
        task.loop = loop
        with self._lock:  # held by stop() as well, so that nothing is scheduled on a loop that has ended
            started = self._loop is loop and hand_over(loop, task.start, self._tasks, contextvars.copy_context())
        if not started:
            raise InferenceError(_CLOSED)

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop; start it if necessary.

        Raises:
            InferenceError: The client is closed, or the caller is on the loop's own thread.
        """
        if os.getpid() != self._pid:
            self._abandon()
        if self.closed:
            raise InferenceError("this client has been closed; make a new one")
        if self._thread is threading.current_thread():
            raise InferenceError(
                "the blocking client was called from its own event loop, where it would wait for itself for ever; "
                "make the handler or callback a plain function, or use AsyncInference in it"
            )
        with self._lock:
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._loop, self._tasks = asyncio.new_event_loop(), set()
                self._thread = threading.Thread(
                    target=_run, args=(self._loop, self._tasks), name=self._name, daemon=True
                )
                self._thread.start()
                _started.add(self)
            return self._loop

    def stop(self, timeout: float | None = None) -> None:
        """Cancel all tasks, close the loop and wait for the thread to end; a later call starts another loop.

        Args:
            timeout: Seconds to wait for the thread at most; None for no limit.
        """
        if os.getpid() != self._pid:
            self._abandon()
            return
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
            if loop is None or thread is None or not thread.is_alive():
                return
            hand_over(loop, loop.stop)
        if thread is not threading.current_thread():
            thread.join(timeout)

    def close(self) -> None:
        """Stop the loop for good; later calls raise an InferenceError."""
        self.closed = True
        self.stop()

    def __del__(self) -> None:
        loop = self._loop
        if loop is not None and os.getpid() == self._pid:
            hand_over(loop, loop.stop)  # then the thread cancels all tasks, closes the loop and ends

    def _abandon(self) -> None:
        """Forget the loop in a forked child: its thread does not exist there, and its sockets are the parent's."""
        _inherited.append((self._loop, self._thread))
        self._loop = self._thread = None
        self._lock = threading.RLock()
        self._pid = os.getpid()


class Pump(Generic[T]):
    """Hands the items of an async source over to one blocking consumer, in batches, and runs calls on its thread.

    The source is asked for a batch only when the consumer asks for one, so a slow consumer holds it back. One task of
    the loop runs the source from the first batch to the last; when it was cancelled or has failed, the next ``take``
    starts another. A Pump is an ``Invoker``: functions that may block run on the consumer's thread.

    Args:
        thread: The loop.

    Attributes:
        source: Returns the next items, or an empty list at the end; must be set before the first ``take``.
        runs_inline: False: functions declared cheap run on the consumer's thread like all others.
    """

    runs_inline = False

    def __init__(self, thread: LoopThread) -> None:
        self.source: Callable[[], Awaitable[list[T]]] | None = None
        self._thread = thread
        self._current: _SourceRun[T] | None = None
        self._calls: deque[_Call] = deque()  # on their way to the inbox of a run

    def take(self) -> list[T]:
        """Wait for the next batch, and meanwhile make the calls that the loop wants made on this thread.

        Returns:
            The items; an empty list at the end, also when another thread cancels this.

        Raises:
            InferenceError: The client is closed, or the caller is on the loop's own thread.
            BaseException: What the source raised. Or what was raised on this thread, for instance by a signal handler;
                then the source was cancelled.
        """
        loop = self._thread.loop()
        run = self._current
        try:
            if run is None or run.ended(loop):
                run = self._begin()
            run.want(loop)
            while isinstance(item := wait_for(run.inbox), _Call):
                item.run()
        except BaseException:
            run = self._current or run
            self.cancel()
            if run is not None:
                _wait_for_cleanup(run.inbox)
            raise
        try:
            batch = item()
        except _StoppedError:
            if self._current is not run:  # another thread has closed the stream, which is its end
                return []
            raise InferenceError("the client was closed while this stream was open") from None
        except BaseException:
            self._current = None
            raise
        if not batch:
            self._current = None  # its task is about to end: the next take() is not to wait for it
        return batch

    async def call_blocking(self, call: Callable[[], Any]) -> Any:
        """Make a call on the consumer's thread, as soon as that waits for a batch, and return what the call returns.

        Args:
            call: The call. It must not raise StopIteration, which a future cannot hold.
        """
        request = _Call(call)
        self._calls.append(request)
        self._pass_calls_on()
        return await request.result

    def cancel(self) -> None:
        """Cancel the source's task, from any thread."""
        run, self._current = self._current, None
        if run is not None:
            run.cancel()

    def _begin(self) -> _SourceRun[T]:
        # Set before the task starts: the source may call back at once, and another thread may cancel it.
        run = self._current = _SourceRun(self._run)
        self._pass_calls_on()
        self._thread.spawn(run.task)
        return run

    def _pass_calls_on(self) -> None:
        """Put waiting calls into the inbox of the current run; without one they wait for the next run.

        Called by the loop's thread for a new call, and by the consumer's for a new run.
        """
        run = self._current
        while run is not None and self._calls:
            try:
                call = self._calls.popleft()
            except IndexError:  # the other thread was faster
                return
            run.inbox.put(call)

    async def _run(self, run: _SourceRun[T]) -> None:
        batch: list[T] | None = None
        while batch is None or batch:
            try:
                await run.wanted.wait()
                run.wanted.clear()
                assert self.source is not None
                batch = await self.source()
            except BaseException as error:  # noqa: BLE001 - the consumer raises it
                run.inbox.put(_Reply(error=error))
                return
            run.inbox.put(_Reply(batch))


class _SourceRun(Generic[T]):
    """One run of a source, from the first batch to the last: what the two threads share of it."""

    __slots__ = ("inbox", "task", "wanted")

    def __init__(self, run: Callable[[_SourceRun[T]], Coroutine[Any, Any, None]]) -> None:
        self.inbox: queue.SimpleQueue[_Reply[list[T]] | _Call] = queue.SimpleQueue()
        self.wanted = asyncio.Event()
        self.task = _RemoteTask(functools.partial(run, self))

    def want(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ask the source for a batch."""
        if not hand_over(loop, self.wanted.set):
            raise InferenceError(_CLOSED)

    def cancel(self) -> None:
        """Cancel the task, and wake up the thread that waits for a batch."""
        if self.task.cancel():  # it never begins, so it cannot answer itself
            self.inbox.put(_Reply(error=asyncio.CancelledError()))

    def ended(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether its task has ended, or belongs to an earlier loop."""
        return self.task.done or self.task.loop is not loop


class _StoppedError(Exception):
    """The loop was stopped under a waiting caller."""


class _Reply(Generic[T]):
    """What a coroutine returned or raised, for another thread; calling it returns or raises the same."""

    __slots__ = ("_error", "_value")

    def __init__(self, value: T | None = None, error: BaseException | None = None) -> None:
        self._value = value
        self._error = error

    def __call__(self) -> T:
        error, self._error = self._error, None
        if error is not None and _ending.is_set() and threading.current_thread().daemon:
            threading.Event().wait()  # it is to end with the interpreter, without an error
        if isinstance(error, asyncio.CancelledError):
            raise _StoppedError
        if error is not None:
            try:
                raise error
            finally:
                del error  # breaks the reference cycle of the error, its traceback and this frame
        return self._value  # type: ignore[return-value]  # a reply without an error has a value


class _Call:
    """A call that the loop wants made on the consumer's thread.

    Attributes:
        result: The future of its result or exception, on the loop.
    """

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._loop = asyncio.get_running_loop()
        self.result: asyncio.Future[Any] = self._loop.create_future()

    def run(self) -> None:
        """Make the call, on the consumer's thread."""
        if self.result.done():  # cancelled meanwhile
            return
        try:
            value = self._call()
        except Exception as error:
            if raised_by_signal_handler(error):  # it is for the waiting caller, whatever ran when the signal came
                hand_over(self._loop, self.result.cancel)
                raise
            self._settle(error=error)
        except BaseException:
            hand_over(self._loop, self.result.cancel)
            raise
        else:
            self._settle(value)

    def _settle(self, value: object = None, error: Exception | None = None) -> None:
        def settle() -> None:
            if self.result.done():
                return
            if error is not None:
                self.result.set_exception(error)
            else:
                self.result.set_result(value)

        hand_over(self._loop, settle)  # if the loop was closed meanwhile, it has cancelled the future


class _RemoteTask:
    """A task of another thread's loop, which can be cancelled at any time, also before it has begun.

    Args:
        begin: Makes the task's coroutine; called on the loop.

    Attributes:
        loop: The loop; set before the task is started.
    """

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        # Popped either by the loop, which begins, or by who cancels before that: list.pop is atomic.
        self._begin = [begin]
        self._task: asyncio.Task[None] | None = None

    @property
    def done(self) -> bool:
        """Whether the task has begun and ended."""
        return self._task is not None and self._task.done()

    def start(self, running: set[asyncio.Task[None]], context: contextvars.Context) -> None:
        """Begin, on the loop.

        Args:
            running: Holds the task while it runs.
            context: The context in which it runs.
        """
        try:
            begin = self._begin.pop()
        except IndexError:  # cancelled before
            return
        assert self.loop is not None
        self._task = self.loop.create_task(begin(), context=context)
        running.add(self._task)
        self._task.add_done_callback(running.discard)

    def cancel(self) -> bool:
        """Cancel the task, from any thread; return whether it had not begun, and now never will."""
        try:
            self._begin.pop()
        except IndexError:
            if self.loop is not None:
                hand_over(self.loop, self._cancel)
            return False
        return True

    def _cancel(self) -> None:
        if self._task is not None and self.loop is not None:
            self.loop.call_soon(self._task.cancel)  # after its first step: a task cancelled before it never answers


async def _answer(coroutine: Coroutine[Any, Any, T], reply: queue.SimpleQueue[_Reply[T]]) -> None:
    """Run a coroutine and put its result or exception into a queue; not even KeyboardInterrupt reaches the loop."""
    try:
        reply.put(_Reply(await coroutine))
    except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
        reply.put(_Reply(error=error))


def wait_for(inbox: queue.SimpleQueue[T]) -> T:
    """Wait for an item; signals interrupt this on every platform, at the latest after ``_POLL`` seconds."""
    while True:
        try:
            return inbox.get(timeout=_POLL)
        except queue.Empty:
            continue


def _wait_for_cleanup(inbox: queue.SimpleQueue[Any]) -> None:
    """Wait until a cancelled task has ended, at most two seconds; calls that it wanted made are dropped."""
    deadline = time.monotonic() + _CLEANUP
    try:
        while isinstance(inbox.get(timeout=max(0.0, deadline - time.monotonic())), _Call):
            continue
    except queue.Empty:
        return  # such as an async handler that ignores its cancellation: Ctrl-C is not to wait for that


def _run(loop: asyncio.AbstractEventLoop, _tasks: set[asyncio.Task[None]]) -> None:
    """Run the loop until it is stopped, then cancel its tasks and close it; the main function of the thread.

    Args:
        loop: The loop.
        _tasks: The set that keeps the tasks alive as long as the thread runs, even if the LoopThread is deleted.
    """
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        while True:
            # What was scheduled last begins before it is cancelled: one step creates tasks, the next starts them.
            for _ in range(2):
                loop.run_until_complete(asyncio.sleep(0))
            tasks = asyncio.all_tasks(loop)
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@atexit.register
def _stop_all() -> None:
    """Close what is still open when the interpreter ends; wait at most two seconds for each."""
    _ending.set()
    for thread in list(_started):
        thread.stop(_CLEANUP)
