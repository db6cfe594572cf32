"""Calls of the caller's own functions: callbacks and tool handlers, sync or async.

Async functions, and those declared cheap with ``inline``, are called on the event loop; all others where they may
block: in a worker thread, or, with the blocking client, on the thread that waits.

What a function raises reaches the caller unchanged, with two exceptions. A CancelledError that it lets out although
nobody cancelled the turn, because something that it awaited was cancelled, becomes a CallbackCancelledError: otherwise
the caller's task would look cancelled. A StopIteration or StopAsyncIteration becomes a RuntimeError, since it would
look like the end of a loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import queue
import signal
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar, Token
from types import CodeType, TracebackType
from typing import Any, NoReturn, Protocol, TypeAlias, TypeVar

import anyio
import attrs

from inferencesh.errors import CallbackCancelledError
from inferencesh.tools.handler import is_inline

from .threads import hand_over

__all__ = [
    "Callback",
    "HasChat",
    "Invoker",
    "ThreadInvoker",
    "check_callback",
    "checked_await",
    "checked_call",
    "in_callback_of",
    "invoke",
    "is_reentrant",
    "raised_by_signal_handler",
    "runs_on_loop",
    "start_in_thread",
]

T = TypeVar("T")


class Invoker(Protocol):
    """Calls functions that may block without blocking the event loop.

    Attributes:
        runs_inline: Whether functions declared cheap are called on the loop instead.
    """

    runs_inline: bool

    async def call_blocking(self, call: Callable[[], Any]) -> Any:
        """Make a call on another thread than the loop's, and return what it returns."""


async def invoke(
    invoker: Invoker, function: Callable[..., Any], call: Callable[[], Any], *, on_loop: bool | None = None
) -> Any:
    """Call a function of the user, sync or async.

    Args:
        invoker: Calls functions that may block.
        function: The function, which decides where it is called.
        call: Calls it with its arguments.
        on_loop: What ``runs_on_loop`` returns for the function, if the caller knows it already.

    Returns:
        What the function returns, awaited if it is awaitable.

    Raises:
        CallbackCancelledError: The function raised CancelledError although nobody cancelled this task.
        RuntimeError: The function raised StopIteration.
        Exception: What else it raised.
    """
    if runs_on_loop(invoker, function) if on_loop is None else on_loop:
        result = checked_call(call)
    else:
        result = await invoker.call_blocking(_with_marks(lambda: checked_call(call)))
    return await checked_await(result) if inspect.isawaitable(result) else result


def runs_on_loop(invoker: Invoker, function: Callable[..., Any]) -> bool:
    """Whether a function of the user is called on the event loop."""
    return _is_async(function) or (invoker.runs_inline and is_inline(function))


@attrs.define(eq=False)
class Callback:
    """A function of the user that is called more than once.

    Attributes:
        function: The function.
    """

    function: Callable[..., Any]
    _on_loop: bool | None = None

    def is_on_loop(self, invoker: Invoker) -> bool:
        """Whether it is called on the event loop; found out when it is first called."""
        if self._on_loop is None:
            self._on_loop = runs_on_loop(invoker, self.function)
        return self._on_loop


def _is_async(function: Callable[..., Any]) -> bool:
    """Whether calling a function only makes a coroutine or an async generator, and runs none of its code."""
    return any(
        inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each)
        for each in (function, type(function).__call__)
    )


def checked_call(call: Callable[[], T]) -> T:
    """Call a function of the user on this thread.

    Args:
        call: Calls it with its arguments.

    Returns:
        What it returns.

    Raises:
        CallbackCancelledError: It raised CancelledError, which cannot be this task's: code that awaits nothing is not
            cancelled.
        RuntimeError: It raised StopIteration or StopAsyncIteration, which would look like the end of a loop.
        Exception: What else it raised.
    """
    try:
        return call()
    except asyncio.CancelledError as error:
        _raise_cancelled(error)
    except (StopIteration, StopAsyncIteration) as error:
        raise _stopped(error) from error


async def checked_await(result: Awaitable[T]) -> T:
    """Await what a function of the user has returned.

    Args:
        result: The awaitable.

    Raises:
        CallbackCancelledError: It raised CancelledError although nobody cancelled this task.
        Exception: What else it raised.
    """
    try:
        return await result
    except StopAsyncIteration as error:
        raise _stopped(error) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        _raise_cancelled(error)


def _stopped(error: Exception) -> RuntimeError:
    return RuntimeError(f"a tool's handler or a callback raised {type(error).__name__}")


def _raise_cancelled(error: asyncio.CancelledError) -> NoReturn:
    raise CallbackCancelledError(
        "what a tool's handler or a callback was waiting for was cancelled, though the turn itself was not; "
        "catch asyncio.CancelledError there if that is expected"
    ) from error


class HasChat(Protocol):
    """A conversation."""

    chat_id: str | None


class in_callback_of:  # noqa: N801 - named like contextlib.suppress
    """Mark the code inside as called by a conversation's turn, which waits until it returns.

    The mark is a context variable: functions and tasks that the code calls and starts have it too, until the code has
    returned. Used as a context manager.

    Args:
        conversation: The conversation.
    """

    __slots__ = ("_token", "conversation", "over")

    def __init__(self, conversation: HasChat) -> None:
        self.conversation = conversation
        self.over = False  # tasks that the code has started may have the mark for longer
        self._token: Token[tuple[in_callback_of, ...]] | None = None

    def __enter__(self) -> None:
        self._token = _marks.set((*_marks.get(), self))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.over = True
        assert self._token is not None
        try:
            _marks.reset(self._token)
        except ValueError:  # a coroutine closed by the garbage collector, whose context was never marked
            return


_marks: ContextVar[tuple[in_callback_of, ...]] = ContextVar("inferencesh_callback_of", default=())


def is_reentrant(conversation: HasChat) -> bool:
    """Whether the running code was called by a turn of a conversation, which would wait for itself if it were used.

    Args:
        conversation: The conversation; another one in the same chat counts as the same.
    """
    return any(
        mark.conversation is conversation
        or (mark.conversation.chat_id is not None and mark.conversation.chat_id == conversation.chat_id)
        for mark in _marks.get()
        if not mark.over
    )


def _with_marks(call: Callable[[], T]) -> Callable[[], T]:
    """Keep the marks of this context for a call on another thread, which has other context variables of its own."""
    marks = _marks.get()

    def marked() -> T:
        token = _marks.set(marks)
        try:
            return call()
        finally:
            _marks.reset(token)

    return marked


class ThreadInvoker:
    """Calls blocking functions in worker threads, with the context variables of the caller.

    Args:
        limit: How many calls run at once.
    """

    runs_inline = True

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._limiter: anyio.CapacityLimiter | None = None

    async def call_blocking(self, call: Callable[[], Any]) -> Any:
        """Make a call in a worker thread; when this is cancelled, the call goes on and its result is ignored."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._limit)
        async with self._limiter:
            return await start_in_thread(call)


def start_in_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """Start a call in a worker thread, in a copy of the current context.

    The threads are daemons, unlike those of ``asyncio.to_thread``: a handler that never returns does not keep the
    interpreter from ending.

    Args:
        call: The call. It must not raise StopIteration, which a future cannot hold.

    Returns:
        The future of its result or exception. When the future is cancelled, the call goes on and its result is ignored.

    Raises:
        RuntimeError: The interpreter is about to end and starts no more threads.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def job() -> _Settle:
        value, failure = None, None
        try:
            value = context.run(call)
        except BaseException as error:  # noqa: BLE001 - whoever awaits the future raises it
            failure = error
        # when the loop is closed, nobody waits any more
        return functools.partial(hand_over, loop, _settle, future, value, failure)

    pool = _pools.get(loop)
    if pool is None:
        pool = _pools[loop] = _Pool()
    pool.run(job)
    return future


def _settle(future: asyncio.Future[Any], value: object, failure: BaseException | None) -> None:
    if future.done():  # cancelled
        return
    if failure is None:
        future.set_result(value)
    else:
        future.set_exception(failure)


_Settle: TypeAlias = Callable[[], object]  # hands the result of a job over to its loop
_Job: TypeAlias = Callable[[], _Settle]
_IDLE = 1.0  # seconds that an idle thread waits for another job before it ends


class _Pool:
    """The worker threads of one event loop; when the loop is deleted, the idle ones end."""

    def __init__(self) -> None:
        self.idle: list[_Worker] = []

    def run(self, job: _Job) -> None:
        while self.idle:
            worker = self.idle.pop()
            if worker.thread.is_alive():  # in a forked child the threads of the parent do not exist
                worker.jobs.put(job)
                return
        _Worker(self, job)

    def __del__(self) -> None:
        for worker in self.idle:
            worker.jobs.put(None)


_pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Pool] = weakref.WeakKeyDictionary()


class _Worker:
    """A thread that does one job after the other."""

    def __init__(self, pool: _Pool, job: _Job) -> None:
        self.jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self.jobs.put(job)
        self._pool = weakref.ref(pool)
        self.thread = threading.Thread(target=self._work, name="inferencesh worker", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            settle = job()
            pool = self._pool()
            if pool is None:
                settle()
                return
            pool.idle.append(self)  # before the result is known, so that the caller's next job finds this thread
            settle()
            del job, settle  # they hold the result of the call
            del pool  # if this was the last reference, _Pool.__del__ ends this thread

    def _next(self) -> _Job | None:
        """Return the next job, or None when the thread is to end."""
        while True:
            try:
                return self.jobs.get(timeout=_IDLE)
            except queue.Empty:
                pool = self._pool()
                if pool is None:
                    return None
                try:
                    pool.idle.remove(self)
                except ValueError:  # run() has just removed it to give it a job
                    continue
                return None


def raised_by_signal_handler(error: BaseException) -> bool:
    """Whether an exception was raised by a signal handler, such as that of a time limit, and is no failure of the code.

    Python runs signal handlers on the main thread, between two instructions of whatever code runs there, and their
    exceptions come out of that code. They are recognized by their traceback, which has a frame of an installed handler.

    A handler that the code itself installs, and removes before the exception leaves it, is not recognized: then the
    exception counts as a failure of the code.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    handlers = set(_signal_handlers())
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in handlers:
            return True
        traceback = traceback.tb_next
    return False


def _signal_handlers() -> Iterator[CodeType]:
    """Yield the code of the Python functions that are installed as signal handlers."""
    for number in signal.valid_signals():
        handler: object = signal.getsignal(number)
        while isinstance(handler, functools.partial):
            handler = handler.func
        if not callable(handler):
            continue
        for each in (handler, getattr(handler, "__func__", None), type(handler).__call__):
            code = getattr(each, "__code__", None)
            if isinstance(code, CodeType):
                yield code


def check_callback(name: str, callback: object) -> None:
    """Refuse what cannot be called, before anything is sent that it is to follow.

    Args:
        name: The argument, for the error's text.
        callback: What was given; None is accepted.

    Raises:
        TypeError: It cannot be called, or is a generator function, the body of which would never run.
    """
    if callback is None:
        return
    if not callable(callback):
        raise TypeError(f"{name} must be a function, not {type(callback).__name__}")
    while isinstance(callback, functools.partial):
        callback = callback.func
    for function in (callback, type(callback).__call__):
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{name} is a generator function, the body of which would never run: take out the yield")
