"""The sessions of a client, one for each event loop."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Any

import pytest

from inferencesh._loops.pool import LoopPool
from inferencesh.errors import InferenceError


class JustTooLate:
    """The lock of a pool, which another thread closes just before it is acquired."""

    def __init__(self, pool: LoopPool[Any]) -> None:
        self._pool = pool
        self._lock = pool._lock

    def __enter__(self) -> None:
        self._pool._lock = self._lock
        closing = threading.Thread(target=lambda: asyncio.run(self._pool.aclose()))
        closing.start()
        closing.join()
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()


def test_no_session_is_made_while_another_thread_closes_the_client() -> None:
    """Nobody would close it."""
    made: list[Any] = []

    def make() -> Any:
        made.append("a session")
        raise AssertionError

    async def close(_: Any) -> None:
        """Never called."""

    pool = LoopPool(make, close, discard=close)
    lock: Any = JustTooLate(pool)
    pool._lock = lock
    with pytest.raises(InferenceError, match="has been closed"):
        asyncio.run(pool.get())
    assert made == []


def test_a_session_is_closed_once_when_its_loop_ends_and_its_client_is_closed() -> None:
    """Both may happen at the same time, in two threads."""
    begun, both, closed = threading.Event(), threading.Event(), []

    async def close(item: str) -> None:
        begun.set()
        await asyncio.to_thread(both.wait, 10)
        closed.append(item)

    pool = LoopPool(lambda: "a session", close, discard=closed.append)
    ending = threading.Thread(target=lambda: asyncio.run(pool.get()))
    ending.start()
    assert begun.wait(10)
    asyncio.run(pool.aclose())
    both.set()
    ending.join()
    assert closed == ["a session"]
