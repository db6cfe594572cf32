"""How functions of the user are called: on the loop when async or declared cheap, else where they may block."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

import anyio
import anyio.to_thread

from .handlers import is_inline

__all__ = ["Invoker", "ThreadInvoker", "invoke", "is_async", "runs_on_loop"]


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
            self._limiter = anyio.CapacityLimiter(self._limit)  # own threads: the loop's others are not held up
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._limiter)


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
    """
    result = call() if runs_on_loop(invoker, function) else await invoker.call_blocking(call)
    return await result if inspect.isawaitable(result) else result


def runs_on_loop(invoker: Invoker, function: Callable[..., Any]) -> bool:
    """Whether a function of the user is called on the event loop."""
    return is_async(function) or (invoker.runs_inline and is_inline(function))
