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
# Where a wait without a limit cannot be interrupted by Ctrl-C, it is made of short ones.
_SLICE = 0.1 if sys.platform == "win32" else None

_living: weakref.WeakSet[LoopThread] = weakref.WeakSet()
_ending = threading.Event()  # whether the interpreter is about to end
_inherited: list[object] = []  # loops of the parent, which a forked child must neither use nor close


class LoopThread:
    """An event loop in a daemon thread, started by the first call.

    Args:
        name: The thread's name.
    """

    _loop: asyncio.AbstractEventLoop | None = None

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.RLock()  # reentrant, for a signal handler may stop what is just being started
        self._loop = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly
        self._pid = os.getpid()
        self.closed = False

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for what it returns or raises.

        Args:
            coroutine: The coroutine; it sees the context variables of the caller.

        Raises:
            InferenceError: The caller is on the loop's own thread, where waiting would be for ever.
            BaseException: What the coroutine raised; or what a signal handler raised on this thread, such as
                KeyboardInterrupt, and then the coroutine was cancelled.
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
        """Run a coroutine on the loop and wait for it; meanwhile run, on this thread, the functions that it calls back.

        Args:
            work: Makes the coroutine; it gets a function that makes functions of this thread callable from the loop.

        Returns:
            What the coroutine returns.

        Raises:
            InferenceError: The caller is on the loop's own thread, or the client was closed meanwhile.
            BaseException: As for ``call``.
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
        """Call a function of the user on this thread; an awaitable that it returns is awaited on the loop.

        Args:
            function: The function, sync or async.
            arguments: Its positional arguments.

        Raises:
            CallbackCancelledError: It let out a CancelledError.
            BaseException: What else it raised; or as for ``call``.
        """
        result = checked_call(functools.partial(function, *arguments))
        if inspect.isawaitable(result):
            self.call(checked_await(result))

    def let_go(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a coroutine that closes something, unless the loop was closed, by any thread, and has done so itself."""
        if self.closed:
            return
        try:
            self.call(close())
        except InferenceError:
            if not self.closed:
                raise

    def clean_up(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine that closes something, and wait for its end, but not for ever.

        Args:
            coroutine: The coroutine; where the loop has been closed there is nothing left to close.
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

        Raises:
            InferenceError: The caller is on the loop's own thread, or the loop was closed.
        """
        loop = self.loop()
        task.loop = loop
        with self._lock:  # stop() takes it too, so that nothing is scheduled behind a loop's end
            started = self._loop is loop and hand_over(loop, task.start, self._tasks, contextvars.copy_context())
        if not started:
            raise InferenceError(_CLOSED)

    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, which is running; not for its own thread.

        Raises:
            InferenceError: The caller is on the loop's own thread.
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
                _living.add(self)
            return self._loop

    def stop(self, timeout: float | None = None) -> None:
        """Cancel what runs, close the loop and wait for the thread; a later call starts another.

        Args:
            timeout: Seconds to wait at the most; None waits as long as it takes.
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
        """Stop for good: later calls fail."""
        self.closed = True
        self.stop()

    def __del__(self) -> None:
        loop = self._loop
        if loop is not None and os.getpid() == self._pid:
            hand_over(loop, loop.stop)  # the thread closes everything and ends by itself

    def _abandon(self) -> None:
        """In a forked child: the thread does not exist here, and the loop's descriptors are the parent's."""
        _inherited.append((self._loop, self._thread))
        self._loop = self._thread = None
        self._lock = threading.RLock()
        self._pid = os.getpid()


class Pump(Generic[T]):
    """Hands what an async source has over to one blocking consumer, in batches, and runs calls on its thread.

    The source is asked for the next batch only when the consumer wants one, so a slow consumer holds it back. One task
    runs the source from the first batch to the last.

    Args:
        thread: The loop.

    Attributes:
        source: Returns the next items, at least one, or none at the end; set before the first batch is taken.
        runs_inline: Functions declared cheap run on the consumer's thread like all others.
    """

    runs_inline = False

    def __init__(self, thread: LoopThread) -> None:
        self.source: Callable[[], Awaitable[list[T]]] | None = None
        self._thread = thread
        self._course: _Course[T] | None = None
        self._calls: deque[_Call] = deque()  # on their way to the inbox of a course

    def take(self) -> list[T]:
        """Wait for the next batch; meanwhile run, on this thread, what the loop asks to have run here.

        Raises:
            BaseException: What the source raised; or what was raised on this thread, by a signal handler for instance,
                and then the source was cancelled.
        """
        loop = self._thread.loop()
        course = self._course
        try:
            if course is None or course.ended(loop):
                course = self._begin()
            course.want(loop)
            while isinstance(item := wait_for(course.inbox), _Call):
                item.run()
        except BaseException:
            course = self._course or course
            self.cancel()
            if course is not None:
                _wait_for_cleanup(course.inbox)
            raise
        try:
            batch = item()
        except _StoppedError:
            raise InferenceError("the client was closed while this stream was open") from None
        except BaseException:
            self._course = None
            raise
        if not batch:
            self._course = None  # it is over, though it may take another moment until it says so
        return batch

    async def call_blocking(self, call: Callable[[], Any]) -> Any:
        """Have a call made on the consumer's thread when it next waits for a batch; for the loop's side."""
        request = _Call(call)
        self._calls.append(request)
        self._pass_calls_on()
        return await request.result

    def cancel(self) -> None:
        """Cancel the source's task, from any thread."""
        course, self._course = self._course, None
        if course is not None:
            course.leave()

    def _begin(self) -> _Course[T]:
        # Known before it starts: the source may call back at once, and another thread may cancel it.
        course = self._course = _Course(self._run)
        self._pass_calls_on()
        self._thread.spawn(course.task)
        return course

    def _pass_calls_on(self) -> None:
        """Put calls where the consumer finds them; while there is no course they wait for the next one.

        Both sides do so, the loop's when there is a new call and the consumer's when there is a new course.
        """
        course = self._course
        while course is not None and self._calls:
            try:
                call = self._calls.popleft()
            except IndexError:  # the other side was faster
                return
            course.inbox.put(call)

    async def _run(self, course: _Course[T]) -> None:
        batch: list[T] | None = None
        while batch is None or batch:
            try:
                await course.wanted.wait()
                course.wanted.clear()
                assert self.source is not None
                batch = await self.source()
            except BaseException as error:  # noqa: BLE001 - the consumer raises it
                course.inbox.put(_Reply(error=error))
                return
            course.inbox.put(_Reply(batch))


class _Course(Generic[T]):
    """One run of a source, from the first batch to the last: what its two sides share."""

    __slots__ = ("inbox", "task", "wanted")

    def __init__(self, run: Callable[[_Course[T]], Coroutine[Any, Any, None]]) -> None:
        self.inbox: queue.SimpleQueue[_Reply[list[T]] | _Call] = queue.SimpleQueue()
        self.wanted = asyncio.Event()
        self.task = _RemoteTask(functools.partial(run, self))

    def want(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the source asked for a batch."""
        if not hand_over(loop, self.wanted.set):
            raise InferenceError(_CLOSED)

    def leave(self) -> None:
        """Cancel the task; whoever waits for a batch is told so, by the task or in its place."""
        if self.task.cancel():
            self.inbox.put(_Reply(error=asyncio.CancelledError()))

    def ended(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether nothing comes of it any more."""
        return self.task.done or self.task.loop is not loop


class _StoppedError(Exception):
    """The loop was stopped under a waiting caller."""


class _Reply(Generic[T]):
    """What a coroutine returned or raised, carried to another thread; calling it returns or raises the same."""

    __slots__ = ("_error", "_value")

    def __init__(self, value: T | None = None, error: BaseException | None = None) -> None:
        self._value = value
        self._error = error

    def __call__(self) -> T:
        error, self._error = self._error, None
        if isinstance(error, asyncio.CancelledError):
            if _ending.is_set():  # only daemon threads wait now; they end with the interpreter, not with an error
                threading.Event().wait()
            raise _StoppedError
        if error is not None:
            try:
                raise error
            finally:
                del error  # it would hold this frame, and the frame would hold it
        return self._value  # type: ignore[return-value]  # a reply without an error has a value


class _Call:
    """A call that the loop's side wants made on the consumer's thread."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._loop = asyncio.get_running_loop()
        self.result: asyncio.Future[Any] = self._loop.create_future()

    def run(self) -> None:
        if self.result.done():  # cancelled meanwhile
            return
        try:
            value = self._call()
        except StopIteration as error:  # the one exception that a future cannot carry
            self._settle(error=RuntimeError(f"a callback raised {error!r}"))
        except Exception as error:
            if raised_by_signal_handler(error):  # it is meant for the caller, whatever has run here
                hand_over(self._loop, self.result.cancel)
                raise
            self._settle(error=error)  # carried to the loop's side, which decides
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

        hand_over(self._loop, settle)  # a loop that was closed meanwhile has cancelled the result


class _RemoteTask:
    """A task of another thread's loop, which can be cancelled at any time, before it has begun too.

    Args:
        begin: Makes the task's coroutine, on the loop.

    Attributes:
        loop: The loop, once the task is about to be started.
    """

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        # Either the loop takes it, to begin, or whoever cancels the task: one of them, whenever that happens.
        self._begin = [begin]
        self._task: asyncio.Task[None] | None = None

    @property
    def done(self) -> bool:
        """Whether it has begun and ended."""
        return self._task is not None and self._task.done()

    def start(self, running: set[asyncio.Task[None]], context: contextvars.Context) -> None:
        """Begin, on the loop."""
        try:
            begin = self._begin.pop()
        except IndexError:  # cancelled before
            return
        assert self.loop is not None
        self._task = self.loop.create_task(begin(), context=context)
        running.add(self._task)
        self._task.add_done_callback(running.discard)

    def cancel(self) -> bool:
        """Cancel it, from any thread; returns whether it had not begun, and never will."""
        try:
            self._begin.pop()
        except IndexError:
            if self.loop is not None:
                hand_over(self.loop, self._cancel)
            return False
        return True

    def _cancel(self) -> None:
        if self._task is not None and self.loop is not None:
            self.loop.call_soon(self._task.cancel)  # not before its first step, without which it could not answer


async def _answer(coroutine: Coroutine[Any, Any, T], reply: queue.SimpleQueue[_Reply[T]]) -> None:
    """Run a coroutine and send what comes of it; nothing it raises, KeyboardInterrupt included, reaches the loop."""
    try:
        reply.put(_Reply(await coroutine))
    except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
        reply.put(_Reply(error=error))


def wait_for(inbox: queue.SimpleQueue[T]) -> T:
    """Wait for an item in a way that Ctrl-C can interrupt on every platform."""
    while True:
        try:
            return inbox.get(timeout=_SLICE)
        except queue.Empty:
            continue


def _wait_for_cleanup(inbox: queue.SimpleQueue[Any]) -> None:
    """Wait for what a cancelled task has to say at its end; the calls that it wanted are not made any more."""
    deadline = time.monotonic() + _CLEANUP
    try:
        while isinstance(inbox.get(timeout=max(0.0, deadline - time.monotonic())), _Call):
            continue
    except queue.Empty:
        return  # a handler that does not give up; the caller's Ctrl-C does not wait for it


def _run(loop: asyncio.AbstractEventLoop, _tasks: set[asyncio.Task[None]]) -> None:
    """The thread: runs the loop, keeping its tasks alive, until it is stopped; then lets them end and closes it."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        while True:
            # Lets begin what was asked for at the last moment: once to make tasks, once to start them.
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
    """Close what is still open when the interpreter ends, without holding it up."""
    _ending.set()
    for thread in list(_living):
        thread.stop(_CLEANUP)
