"""Threads in which functions that may block are called: reused while their event loop lives, never waited for at exit.

Those of ``asyncio.to_thread`` and of anyio are joined when the interpreter ends, so that one call that never returns
keeps the process from ending, although its caller has given it up. These are daemon threads.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeAlias

from .event_loops import hand_over

__all__ = ["start_in_thread"]

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
