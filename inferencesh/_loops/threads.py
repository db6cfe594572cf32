"""What event loops and threads have in common: handing over from one to the other, and objects that one of them owns.

asyncio and logging are imported inside functions, because every class of the clients needs ``Uncopied`` and importing a
client is to cost little.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, SupportsIndex, TypeVar, TypeVarTuple, Unpack

from inferencesh.errors import ConfigurationError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Iterator

__all__ = [
    "OpenConnection",
    "Uncopied",
    "WeakRegistry",
    "call_on",
    "check_threads",
    "hand_over",
    "import_in_thread",
    "running_loop",
    "wait_for_end",
]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def hand_over(loop: asyncio.AbstractEventLoop, function: Callable[[Unpack[Ts]], object], *arguments: *Ts) -> bool:
    """Schedule a call on an event loop, from any thread.

    Args:
        loop: The loop, running or not, open or closed.
        function: The function to call.
        arguments: Its positional arguments.

    Returns:
        Whether the call was scheduled; False when the loop is closed, and the function will never be called.
    """
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:
        if not loop.is_closed():
            raise
        return False
    return True


def call_on(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    """Call a function on an event loop: at once if the loop runs in this thread, else as soon as it can.

    It is never called when the loop is closed, which has closed its sockets and cancelled its tasks.
    """
    if running_loop() is loop:
        function()
    else:
        hand_over(loop, function)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, or None."""
    module = sys.modules.get("asyncio")  # no import: __del__ calls this too, also when nothing can be imported any more
    if module is None:
        return None
    try:
        loop: asyncio.AbstractEventLoop = module.get_running_loop()
    except RuntimeError:
        return None
    return loop


async def import_in_thread(name: str) -> None:
    """Import a module in a thread, because the import of a large package would block the event loop.

    Args:
        name: The module's full name.
    """
    if name not in sys.modules:
        import importlib

        import anyio.to_thread

        await anyio.to_thread.run_sync(importlib.import_module, name)


_LOG_AFTER = 5.0  # seconds after which it is logged that cancelled tasks have not ended


async def wait_for_end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Wait until cancelled tasks have ended, their clean-up included.

    When the caller is cancelled meanwhile, the tasks are cancelled again, and CancelledError is raised once they have
    ended, as by ``asyncio.TaskGroup``.

    Args:
        tasks: The tasks, of the running loop; their results and exceptions are ignored.
    """
    import asyncio

    tasks, interrupted = list(tasks), None
    while pending := [task for task in tasks if not task.done()]:
        try:
            ended, _ = await asyncio.wait(pending, timeout=_LOG_AFTER)
        except asyncio.CancelledError as error:  # from anyio at each step of the event loop
            interrupted = error
            for task in pending:
                task.cancel()
            continue
        if not ended:
            import logging

            names = ", ".join(sorted(task.get_name() for task in pending))
            logging.getLogger("inferencesh").warning("still waiting for the end of cancelled tasks: %s", names)
    if interrupted is not None:
        raise interrupted


class OpenConnection(ABC):
    """A connection that belongs to the running event loop, and that any thread may close at any time.

    Attributes:
        loop: The event loop it belongs to.
    """

    def __init__(self) -> None:
        import asyncio

        self.loop = asyncio.get_running_loop()
        self._pid = os.getpid()

    def close(self) -> None:
        """Close the connection: at once on its own loop, else as soon as that loop runs.

        A forked child does not close it, because the parent uses it.
        """
        if os.getpid() != self._pid:
            _inherited.append(self._held())
        else:
            call_on(self.loop, self._close)

    @abstractmethod
    def _held(self) -> object:
        """Return what must not be garbage-collected in a forked child, because that would close the connection."""

    @abstractmethod
    def _close(self) -> None:
        """Close the connection, on its loop."""


_inherited: list[object] = []  # connections of the parent process, kept alive in a forked child


class WeakRegistry(Generic[T]):
    """Weak references to objects, which any thread may add while another iterates over them.

    A ``WeakSet`` raises RuntimeError in that case.
    """

    __slots__ = ("_items", "_lock")

    def __init__(self) -> None:
        self._items: weakref.WeakSet[T] = weakref.WeakSet()
        self._lock = threading.Lock()

    def add(self, item: T) -> None:
        """Add an object."""
        with self._lock:
            self._items.add(item)

    def __iter__(self) -> Iterator[T]:
        """Iterate over the objects that are alive now."""
        with self._lock:
            items = list(self._items)
        return iter(items)


class Uncopied:
    """Base of objects that refuse to be copied or pickled, also by what copies inside, as ``dataclasses.asdict`` does.

    Subclasses set ``_instead``, which ends the error message: what to do instead.
    """

    _instead: ClassVar[str] = "take it from a client of its own where it is needed"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} objects cannot be copied or pickled, because they hold connections of this "
            f"process; {self._instead}"
        )


# Libraries that replace threads by green threads: the module that says what was replaced, the function that is asked,
# and the parts without which an event loop in a thread of its own either cannot start or never wakes its caller.
_PATCHERS = (
    ("gevent", "gevent.monkey", "is_module_patched", ("threading", "queue", "select")),
    ("eventlet", "eventlet.patcher", "is_monkey_patched", ("thread", "select")),
)


def check_threads(what: str) -> None:
    """Check that threads have not been replaced by gevent or eventlet.

    Args:
        what: What needs a thread, for the error message.

    Raises:
        ConfigurationError: They have been replaced.
    """
    for name, module, is_patched, parts in _PATCHERS:
        patcher = sys.modules.get(module)
        if patcher is not None and any(getattr(patcher, is_patched)(part) for part in parts):
            raise ConfigurationError(
                f"{what} needs a thread of its own for its event loop, and {name} has replaced threads, or what they "
                f"wait with, in this process; use it in a process that is not monkey-patched, such as one of "
                f"Gunicorn's gthread workers or of Celery's prefork or threads pool"
            )
