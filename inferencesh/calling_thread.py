"""Calls of the blocking client that call back: the caller's functions run on the thread that waits."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from .invoke import invoke
from .loop_thread import LoopThread, Pump

__all__ = ["Relay", "call_with_callbacks"]

T = TypeVar("T")


class Relay(Protocol):
    """Makes, out of a function of the caller, one for the loop that runs it on the caller's thread."""

    def __call__(self, function: Callable[..., Any] | None) -> Callable[..., Coroutine[Any, Any, Any]] | None:
        """Wrap a function, or nothing."""


def call_with_callbacks(thread: LoopThread, work: Callable[[Relay], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on the loop, and meanwhile, on this thread, the functions that it calls back.

    Args:
        thread: The loop.
        work: Makes the coroutine; it gets what makes functions of this thread callable from the loop.

    Returns:
        What the coroutine returns.

    Raises:
        InferenceError: The caller is on the loop's own thread, or the client was closed meanwhile.
        KeyboardInterrupt: The wait was interrupted; the coroutine was cancelled.
        Exception: What the coroutine raised.
    """
    pump: Pump[T] = Pump(thread)

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
