"""How functions of the user are called: on the loop when async or declared cheap, else where they may block.

Whatever they raise is theirs. A CancelledError means one thing alone on the way to the caller, that the caller's task
was cancelled; so one that a function lets out, because something that it awaited was cancelled, becomes a
CallbackCancelledError here.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import queue
import signal
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from types import CodeType
from typing import Any, NoReturn, ParamSpec, Protocol, TypeAlias, TypeVar

import anyio

from inferencesh.errors import CallbackCancelledError

from .threads import hand_over

__all__ = [
    "HasChat",
    "Invoker",
    "ThreadInvoker",
    "checked_await",
    "checked_call",
    "in_callback_of",
    "inline",
    "invoke",
    "is_async",
    "is_inline",
    "is_reentrant",
    "raised_by_signal_handler",
    "runs_on_loop",
    "start_in_thread",
    "with_marks",
]


def raised_by_signal_handler(error: BaseException) -> bool:
    """Whether an exception was raised by a signal handler, such as that of a time limit.

    Python runs signal handlers on the main thread, between two instructions of whatever runs there, and what they raise
    comes out of that code. It is then found by its traceback, which has a frame of a handler that is installed.

    A limit that is set and lifted by the code itself is not found, for its handler is not installed any more: what
    comes of such a limit is a failure of that code like any other.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    handlers = set(_installed())
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in handlers:
            return True
        traceback = traceback.tb_next
    return False


def _installed() -> Iterator[CodeType]:
    """The code of the Python functions that are installed as signal handlers."""
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


T = TypeVar("T")


class HasChat(Protocol):
    """A conversation."""

    chat_id: str | None


class _Wait:
    """A conversation that waits for a function of the user, until that has returned."""

    __slots__ = ("conversation", "over")

    def __init__(self, conversation: HasChat) -> None:
        self.conversation = conversation
        self.over = False  # tasks that the function has started keep this in their context for longer


_waits: ContextVar[tuple[_Wait, ...]] = ContextVar("inferencesh_waits", default=())


@contextlib.contextmanager
def in_callback_of(conversation: HasChat) -> Iterator[None]:
    """Mark what is called inside, and what that calls and starts, as what a conversation's turn waits for.

    Args:
        conversation: The conversation.
    """
    wait = _Wait(conversation)
    token = _waits.set((*_waits.get(), wait))
    try:
        yield
    finally:
        wait.over = True
        with contextlib.suppress(ValueError):  # closed by the garbage collector, in a context that was never marked
            _waits.reset(token)


def is_reentrant(conversation: HasChat) -> bool:
    """Whether a conversation, or another one in the same chat, waits for the function that asks.

    Args:
        conversation: The conversation.
    """
    return any(
        wait.conversation is conversation
        or (wait.conversation.chat_id is not None and wait.conversation.chat_id == conversation.chat_id)
        for wait in _waits.get()
        if not wait.over
    )


def with_marks(call: Callable[[], T]) -> Callable[[], T]:
    """Make a call keep its marks on another thread, whose other context variables it is to see and may set.

    Args:
        call: The call.
    """
    present = _waits.get()

    def marked() -> T:
        token = _waits.set(present)
        try:
            return call()
        finally:
            _waits.reset(token)

    return marked


_IDLE = 1.0  # seconds that a thread waits for another call before it ends

_Job: TypeAlias = Callable[[], None]


def start_in_thread(call: Callable[[], Any]) -> asyncio.Future[Any]:
    """Start a call in a worker thread; it sees the context variables of here.

    Args:
        call: The call. It must not raise StopIteration, which a future cannot carry.

    Returns:
        The future of what it returns or raises. Cancelling the future gives the call up: it goes on, unheeded.

    Raises:
        RuntimeError: The interpreter is about to end and starts no more threads.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def job() -> None:
        value, failure = None, None
        try:
            value = context.run(call)
        except BaseException as error:  # noqa: BLE001 - whoever awaits the future raises it
            failure = error
        hand_over(loop, _settle, future, value, failure)  # where the loop is closed, nobody waits any more

    pool = _pools.get(loop)
    if pool is None:
        pool = _pools[loop] = _Pool()
    pool.run(job)
    return future


class _Pool:
    """The threads of one event loop; when the loop is no more, those that are idle end."""

    def __init__(self) -> None:
        self.idle: list[_Worker] = []

    def run(self, job: _Job) -> None:
        while self.idle:
            worker = self.idle.pop()
            if worker.thread.is_alive():  # threads of a parent process are not there in a forked child
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
            job()
            del job  # it holds what the call has come to
            pool = self._pool()
            if pool is None:
                return
            pool.idle.append(self)
            del pool  # the last reference to it may be this one: then this thread is told to end

    def _next(self) -> _Job | None:
        """The next job, or None when there will be no more."""
        while True:
            try:
                return self.jobs.get(timeout=_IDLE)
            except queue.Empty:
                pool = self._pool()
                if pool is None:
                    return None
                try:
                    pool.idle.remove(self)
                except ValueError:  # just taken from there to be given a job
                    continue
                return None


def _settle(future: asyncio.Future[Any], value: object, failure: BaseException | None) -> None:
    if future.done():  # given up
        return
    if failure is None:
        future.set_result(value)
    else:
        future.set_exception(failure)


class Invoker(Protocol):
    """Calls a function that may block without blocking the event loop.

    Attributes:
        runs_inline: Whether functions declared cheap are called on the loop instead.
    """

    runs_inline: bool

    async def call_blocking(self, call: Callable[[], Any]) -> Any:
        """Make the call somewhere else than on the loop, and return what it returns."""


class ThreadInvoker:
    """Calls blocking functions in worker threads, with the context variables of the caller.

    Args:
        limit: How many at once.
    """

    runs_inline = True

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._limiter: anyio.CapacityLimiter | None = None

    async def call_blocking(self, call: Callable[[], Any]) -> Any:
        """Make the call in a worker thread; when it is cancelled, the thread is left to itself."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._limit)
        async with self._limiter:
            return await start_in_thread(call)


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling a function gives a coroutine or an async generator: nothing that runs yet."""
    return any(
        inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each)
        for each in (function, type(function).__call__)
    )


async def invoke(invoker: Invoker, function: Callable[..., Any], call: Callable[[], Any]) -> Any:
    """Call a function of the user, sync or async.

    Args:
        invoker: Calls functions that may block.
        function: The function, which tells how it may be called.
        call: Its call with arguments.

    Returns:
        What it returns, awaited if it is awaitable.

    Raises:
        CallbackCancelledError: It let out a CancelledError that was not meant for this task.
        Exception: What else it raised.
    """
    if runs_on_loop(invoker, function):
        result = checked_call(call)
    else:
        result = await invoker.call_blocking(with_marks(lambda: checked_call(call)))
    return await checked_await(result) if inspect.isawaitable(result) else result


def runs_on_loop(invoker: Invoker, function: Callable[..., Any]) -> bool:
    """Whether a function of the user is called on the event loop."""
    return is_async(function) or (invoker.runs_inline and is_inline(function))


def checked_call(call: Callable[[], T]) -> T:
    """Call a function of the user, on whatever thread.

    Args:
        call: Its call with arguments.

    Returns:
        What it returns.

    Raises:
        CallbackCancelledError: It raised CancelledError, which code that awaits nothing cannot have got from its task.
        RuntimeError: It raised StopIteration, which neither a future nor a coroutine can carry.
        Exception: What else it raised.
    """
    try:
        return call()
    except asyncio.CancelledError as error:
        _raise_cancelled(error)
    except StopIteration as error:
        raise RuntimeError("a tool's handler or a callback raised StopIteration") from error


async def checked_await(result: Awaitable[T]) -> T:
    """Await what a function of the user has returned.

    Args:
        result: The awaitable.

    Raises:
        CallbackCancelledError: It let out a CancelledError although nobody cancels this task.
        Exception: What else it raised.
    """
    try:
        return await result
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        _raise_cancelled(error)


def _raise_cancelled(error: asyncio.CancelledError) -> NoReturn:
    raise CallbackCancelledError(
        "what a tool's handler or a callback was waiting for was cancelled, though the turn itself was not; "
        "catch asyncio.CancelledError there if that is expected"
    ) from error


def inline(function: Callable[P, R]) -> Callable[P, R]:
    """Declare a plain function cheap, so that the async client calls it on the event loop and not in a worker thread.

    Args:
        function: A callback or tool handler that returns at once and never blocks.

    Returns:
        The same function.

    Example:
        ```python
        @inline
        def on_message(text, done):
            print(text)


        await agent.send_message("Hello", on_message=on_message)
        ```
    """
    setattr(function, _INLINE, True)
    return function


def is_inline(function: object) -> bool:
    """Whether a function was declared cheap with ``inline``."""
    return getattr(function, _INLINE, False) is True


_INLINE = "__inferencesh_inline__"

P = ParamSpec("P")

R = TypeVar("R")
