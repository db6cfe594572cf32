"""``LoopPool``: one instance per event loop of an object that is bound to a loop, such as a session."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from types import AsyncGeneratorType
from typing import Generic, TypeVar, cast

import attrs

from inferencesh.errors import InferenceError

from .threads import hand_over

__all__ = ["LoopPool"]

T = TypeVar("T")


@attrs.frozen
class _Member(Generic[T]):
    """The item of one event loop, and the generator whose ``aclose`` closes it."""

    item: T
    cleanup: AsyncGenerator[None, None]
    pid: int


# Members that a forked child has inherited, kept alive because finalizing them would disturb the sockets of the parent.
_inherited: list[object] = []


class LoopPool(Generic[T]):
    """A pool with one item per event loop, which is closed with its loop.

    Args:
        make: Creates an item for the running loop.
        close: Closes an item, on its loop.
        discard: Discards an item that cannot be closed, because its loop has ended or belongs to a parent process.
        is_open: Returns whether an item can still be used.
    """

    def __init__(
        self,
        make: Callable[[], T],
        close: Callable[[T], Awaitable[None]],
        discard: Callable[[T], object],
        is_open: Callable[[T], bool] = lambda _: True,
    ) -> None:
        self._make = make
        self._close = close
        self._discard = discard
        self._is_open = is_open
        self._members: dict[asyncio.AbstractEventLoop, _Member[T]] = {}
        self._lock = threading.Lock()
        self.closed = False
        weakref.finalize(self, _discard_all, self._members, discard)

    async def get(self) -> T:
        """Return the item of the running loop, creating it if necessary.

        Raises:
            InferenceError: The pool was closed.
        """
        loop = asyncio.get_running_loop()
        member = self._members.get(loop)
        if member is not None and member.pid == os.getpid() and self._is_open(member.item):
            return member.item
        with self._lock:
            if self.closed:  # checked under the lock: aclose() does not see an item that is added after it
                raise InferenceError("this client has been closed; make a new one")
            for other, member in list(self._members.items()):
                if other.is_closed() or member.pid != os.getpid():
                    _discard_all({other: self._members.pop(other)}, self._discard)
            item = self._make()
            member = self._members[loop] = _Member(item, _close_at_end(item, self._close), os.getpid())
        await anext(member.cleanup)  # started, so that the loop closes it in shutdown_asyncgens()
        return item

    async def aclose(self, *, permanent: bool = True) -> None:
        """Close all items; those of other running loops are closed in their own threads.

        When the caller is cancelled, the closing goes on without it.

        Args:
            permanent: Whether ``get`` fails from now on, instead of creating new items.
        """
        self.closed = permanent
        with self._lock:
            members = dict(self._members)
            self._members.clear()
        here, closing = asyncio.get_running_loop(), None
        for loop, member in members.items():
            if member.pid != os.getpid() or loop.is_closed():
                _discard_all({loop: member}, self._discard)
            elif loop is here:
                closing = _begin_closing(member.cleanup)
            elif not loop.is_running() or not hand_over(loop, _begin_closing, member.cleanup):
                _discard_all({loop: member}, self._discard)
        if closing is not None:
            await asyncio.shield(closing)


async def _close_at_end(item: T, close: Callable[[T], Awaitable[None]]) -> AsyncGenerator[None, None]:
    """Wait in ``yield`` while the item is open, and close it on ``aclose``."""
    try:
        yield
    finally:
        await close(item)


_closing: set[asyncio.Task[None]] = set()  # an event loop holds only weak references to tasks


def _begin_closing(cleanup: AsyncGenerator[None, None]) -> asyncio.Task[None]:
    task = asyncio.ensure_future(_close_now(cleanup))
    _closing.add(task)
    task.add_done_callback(_closing.discard)
    return task


async def _close_now(cleanup: AsyncGenerator[None, None]) -> None:
    if not cast("AsyncGeneratorType[None, None]", cleanup).ag_running:  # else its loop is ending, and closes it already
        await cleanup.aclose()


def _discard_all(members: dict[asyncio.AbstractEventLoop, _Member[T]], discard: Callable[[T], object]) -> None:
    """Drop items that cannot be closed."""
    for loop, member in members.items():
        if member.pid != os.getpid():
            _inherited.append(member)
        if member.pid != os.getpid() or not loop.is_running():
            discard(member.item)  # a running loop closes it when the generator is collected
    members.clear()
