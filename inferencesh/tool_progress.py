"""Runs handlers that are generators: what they yield is reported, what they end with is the tool's result."""

from __future__ import annotations

import contextvars
import inspect
import logging
import threading
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, TypeAlias

import attrs

from .invoke import Invoker, awaited, called
from .worker_threads import start_in_thread

__all__ = ["last_value"]

Report: TypeAlias = Callable[[Any], Awaitable[None]]

logger = logging.getLogger("inferencesh")


async def last_value(result: Any, invoker: Invoker | None, report: Report) -> Any:
    """What a handler has come to, after everything that it yields before.

    Args:
        result: What it returned: a generator, sync or async, or the result itself.
        invoker: Makes the steps of a sync generator, which may block; None for one that runs on the loop.
        report: Told each value that is yielded, before the generator goes on.

    Returns:
        What a sync generator returns, if that is not None, else the last value yielded; None when there was none.
    """
    if isinstance(result, types.AsyncGeneratorType):
        return await _drain(result, report)
    if isinstance(result, types.GeneratorType):
        return await _Steps(result, invoker).run(report)
    return result


async def _drain(values: AsyncGenerator[Any, None], report: Report) -> Any:
    last = None
    try:
        while True:
            last = await awaited(anext(values))
            await report(last)
    except StopAsyncIteration:
        return last
    finally:
        await awaited(values.aclose())


@attrs.frozen
class _Yielded:
    value: Any


@attrs.frozen
class _Returned:
    value: Any


class _Steps:
    """A sync generator, run step by step where it may block.

    Args:
        generator: The generator.
        invoker: Makes the steps, or None for the loop.
    """

    def __init__(self, generator: Generator[Any, None, Any], invoker: Invoker | None) -> None:
        self._generator = generator
        self._invoker = invoker
        # One for all steps, whichever threads make them: what the generator sets is there in its next step.
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._running = False
        self._left = threading.Event()

    async def run(self, report: Report) -> Any:
        """Run it to its end; it is closed when that is not reached."""
        last = None
        try:
            while isinstance(step := await self._call(self._advance), _Yielded):
                last = step.value
                await report(last)
        finally:
            if self._leave():
                await self._close_elsewhere()
        return last if step.value is None else step.value

    async def _call(self, call: Callable[[], Any]) -> Any:
        return call() if self._invoker is None else await self._invoker.call_blocking(call)

    def _advance(self) -> _Yielded | _Returned:
        """Make one step; an end is a value too, for StopIteration cannot pass through a future."""
        with self._lock:
            if self._left.is_set():
                return _Returned(None)
            self._running = True
        try:
            return called(self._step)
        finally:
            with self._lock:
                self._running = False
                left = self._left.is_set()
            if left:  # while this step was under way; nobody else can close it before its end
                self._close()

    def _step(self) -> _Yielded | _Returned:
        try:
            return _Yielded(self._context.run(next, self._generator))
        except StopIteration as end:
            return _Returned(end.value)

    def _leave(self) -> bool:
        """Make no further step; returns whether the generator is to be closed here and now."""
        with self._lock:
            self._left.set()
            return not self._running and inspect.getgeneratorstate(self._generator) != inspect.GEN_CLOSED

    async def _close_elsewhere(self) -> None:
        """Close it in a thread, for that may block.

        Not by the invoker: whoever left the turn need not be there any more to make calls for it, and where this task
        is cancelled once more, the call must have begun.
        """
        try:
            closing = start_in_thread(self._close)
        except RuntimeError:  # the interpreter is about to end and starts no more threads
            self._close()
            return
        await closing

    def _close(self) -> None:
        try:
            called(lambda: self._context.run(self._generator.close))
        except Exception:
            logger.warning("a tool's handler failed while it was closed", exc_info=True)
