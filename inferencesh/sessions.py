"""aiohttp sessions, one for each event loop that uses a client, each closed with its loop.

A session belongs to the loop it was made on. So none is made before the first request, each running loop gets its own,
and none outlives its loop: an async generator that the loop knows of closes it when ``asyncio.run`` ends, when the
client is dropped, or when it is closed, whichever comes first. So a client that nobody closes ends without a word.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Collection
from typing import TYPE_CHECKING

import attrs

from .errors import InferenceError
from .event_loops import hand_over

if TYPE_CHECKING:
    import aiohttp

    from .open_connection import OpenConnection

__all__ = ["Sessions"]


@attrs.frozen
class _Slot:
    """A session with what closes it."""

    session: aiohttp.ClientSession
    closer: AsyncGenerator[None, None]
    pid: int


# What a forked child must leave alone: its sockets and epoll are the parent's, and closing them disturbs the parent.
_inherited: list[_Slot] = []


class Sessions:
    """The sessions of one client.

    Args:
        make: Makes a session for the running loop.
        in_use: The connections in use; they are closed with the session of their loop.
    """

    def __init__(self, make: Callable[[], aiohttp.ClientSession], in_use: Collection[OpenConnection]) -> None:
        self._make = make
        self._in_use = in_use
        self._slots: dict[asyncio.AbstractEventLoop, _Slot] = {}
        self._lock = threading.Lock()
        self.closed = False
        weakref.finalize(self, _let_go, self._slots)

    async def get(self) -> aiohttp.ClientSession:
        """The running loop's session.

        Raises:
            InferenceError: The client was closed.
        """
        if self.closed:
            raise InferenceError("this client has been closed; make a new one")
        loop = asyncio.get_running_loop()
        slot = self._slots.get(loop)
        if slot is not None and slot.pid == os.getpid() and not slot.session.closed:
            return slot.session
        with self._lock:
            for other in [other for other, slot in self._slots.items() if other.is_closed() or slot.pid != os.getpid()]:
                _let_go({other: self._slots.pop(other)})
            session = self._make()
            slot = self._slots[loop] = _Slot(session, _closer(session, self._in_use), os.getpid())
        await anext(slot.closer)  # from here on the loop closes it at its end
        return session

    async def aclose(self) -> None:
        """Close the sessions; those of other loops are closed there."""
        self.closed = True
        with self._lock:
            slots = dict(self._slots)
            self._slots.clear()
        here = asyncio.get_running_loop()
        for loop, slot in slots.items():
            if slot.pid != os.getpid() or loop.is_closed():
                _let_go({loop: slot})
            elif loop is here:
                await slot.closer.aclose()
            elif not loop.is_running() or not hand_over(loop, _begin_closing, slot.closer):
                _let_go({loop: slot})


async def _closer(session: aiohttp.ClientSession, in_use: Collection[OpenConnection]) -> AsyncGenerator[None, None]:
    """Suspended while the session is open; closing it closes the session and what is in use of it."""
    try:
        yield
    finally:
        for connection in list(in_use):
            if connection.loop is asyncio.get_running_loop():
                connection.close()
        await session.close()


_closing: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly


def _begin_closing(closer: AsyncGenerator[None, None]) -> None:
    task = asyncio.ensure_future(closer.aclose())
    _closing.add(task)
    task.add_done_callback(_closing.discard)


def _let_go(slots: dict[asyncio.AbstractEventLoop, _Slot]) -> None:
    """Part with sessions whose loop can no longer close them, or is not ours to use, without a warning from aiohttp."""
    for loop, slot in slots.items():
        if slot.pid != os.getpid():
            _inherited.append(slot)
        if slot.pid != os.getpid() or not loop.is_running():
            slot.session.detach()  # a loop that runs closes it, once the closer is dropped
    slots.clear()
