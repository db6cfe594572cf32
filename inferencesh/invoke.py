"""How functions of the user are called: on the loop when async or declared cheap, else where they may block.

Whatever they raise is theirs. A CancelledError means one thing alone on the way to the caller, that the caller's task
was cancelled; so one that a function lets out, because something that it awaited was cancelled, becomes a
CallbackCancelledError here.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, Protocol, TypeVar

import anyio

from .errors import CallbackCancelledError
from .handlers import is_inline
from .reentry import carried
from .worker_threads import start_in_thread

__all__ = ["Invoker", "ThreadInvoker", "awaited", "called", "invoke", "is_async", "runs_on_loop"]

T = TypeVar("T")


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
        result = called(call)
    else:
        result = await invoker.call_blocking(carried(lambda: called(call)))
    return await awaited(result) if inspect.isawaitable(result) else result


def runs_on_loop(invoker: Invoker, function: Callable[..., Any]) -> bool:
    """Whether a function of the user is called on the event loop."""
    return is_async(function) or (invoker.runs_inline and is_inline(function))


def called(call: Callable[[], T]) -> T:
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


async def awaited(result: Awaitable[T]) -> T:
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
