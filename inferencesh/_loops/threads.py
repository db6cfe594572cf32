"""What a connection in use has to allow: to be cut off at once, from any thread, at any time."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NoReturn, SupportsIndex, TypeVarTuple, Unpack

from inferencesh.errors import ConfigurationError

__all__ = ["OpenConnection", "Uncopied", "check_threads", "hand_over", "running_loop", "wait_for_end"]

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


# Where each says what it has replaced, and the replacements that an event loop in a thread does not survive: all
# "threads" are then one thread, which can run one event loop only, or the loop waits for what nobody else sees.
_PATCHERS = (
    ("gevent", "gevent.monkey", "is_module_patched", ("threading", "queue", "select")),
    ("eventlet", "eventlet.patcher", "is_monkey_patched", ("thread", "select")),
)


def check_threads(what: str) -> None:
    """Check that threads are what they are in Python.

    Args:
        what: What needs them, for the message.

    Raises:
        ConfigurationError: They were replaced.
    """
    for name, module, is_patched, parts in _PATCHERS:
        patcher = sys.modules.get(module)
        if patcher is not None and any(getattr(patcher, is_patched)(part) for part in parts):
            raise ConfigurationError(
                f"{what} needs a thread of its own for its event loop, and {name} has replaced threads, or what they "
                f"wait with, in this process; use it in a process that is not monkey-patched, such as one of "
                f"Gunicorn's gthread workers or of Celery's prefork or threads pool"
            )


class Uncopied:
    """Refuses to be copied and pickled, by ``copy``, ``pickle`` and what uses them, such as ``dataclasses.asdict``."""

    _instead: ClassVar[str] = "take it from a client of its own where it is needed"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} objects cannot be copied or pickled, because they hold connections of this "
            f"process; {self._instead}"
        )


_PATIENCE = 5.0  # seconds after which it is logged that tasks have not ended

logger = logging.getLogger("inferencesh")


async def wait_for_end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Wait until tasks that were cancelled have ended, their clean-up included.

    A cancellation of the caller meanwhile is passed on to them and raised at the end, as by ``asyncio.TaskGroup``.

    Args:
        tasks: The tasks, of the running loop; what they raise is not looked at.
    """
    pending, interrupted = {task for task in tasks if not task.done()}, None
    while pending:
        try:
            ended, pending = await asyncio.wait(pending, timeout=_PATIENCE)
        except asyncio.CancelledError as error:
            interrupted = error
            for task in pending:
                task.cancel()
            continue
        if pending and not ended:
            names = ", ".join(sorted(task.get_name() for task in pending))
            logger.warning("still waiting for the end of tasks that were cancelled: %s", names)
    if interrupted is not None:
        raise interrupted


_inherited: list[object] = []  # what a forked child got from its parent, and must not close


class OpenConnection(ABC):
    """A connection in use, made on the running event loop.

    Attributes:
        loop: The event loop it belongs to.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._pid = os.getpid()

    def close(self) -> None:
        """Close the connection, from any thread, at any time."""
        if os.getpid() != self._pid:
            _inherited.append(self._held())
        elif running_loop() is self.loop:
            self._close()
        else:
            hand_over(self.loop, self._close)  # a loop that is closed has closed its sockets

    @abstractmethod
    def _held(self) -> object:
        """What must stay alive in a forked child."""

    @abstractmethod
    def _close(self) -> None:
        """Close it, on its loop."""
