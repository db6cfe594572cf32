"""Reaching an event loop from outside: from another thread, or at a time at which the loop may be closed already."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVarTuple, Unpack

__all__ = ["hand_over", "running_loop"]

Ts = TypeVarTuple("Ts")


def hand_over(loop: asyncio.AbstractEventLoop, function: Callable[[Unpack[Ts]], object], *arguments: *Ts) -> bool:
    """Have a function called on a loop, from any thread, at any time.

    Args:
        loop: The loop, running or not, open or closed.
        function: The function.
        arguments: Its positional arguments.

    Returns:
        Whether the loop has taken it; False when the loop is closed, and the function will never be called.
    """
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:
        if not loop.is_closed():
            raise
        return False
    return True


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
