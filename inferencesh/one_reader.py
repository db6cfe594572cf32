"""One reader for each stream: a second one gets an error instead of every other snapshot."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

from .errors import InferenceError

__all__ = ["OneReader"]

W = TypeVar("W")


class OneReader(Generic[W]):
    """Keeps a stream to one reader at a time.

    A loop is the reader from its first item until it ends or is dropped. The task or thread that runs it may read in
    other ways meanwhile, for instance with ``get_final_message`` in the loop's body; no other may. As a context manager
    this stands around waiting for items, which only one may do, even with an iterator that several share.

    Args:
        current: Returns the task or thread that runs.
        is_over: Whether a task or thread has ended, so that its loop, though it is still referenced, reads no more.
    """

    __slots__ = ("_claim", "_current", "_is_over", "_lock", "_owner", "_waiting")

    def __init__(self, current: Callable[[], W | None], is_over: Callable[[W], bool]) -> None:
        self._current = current
        self._is_over = is_over
        self._claim: object | None = None
        self._owner: weakref.ref[W] | None = None
        self._lock = threading.Lock()
        self._waiting = threading.Lock()

    def begin(self) -> object:
        """Have a loop begin to read; returns its claim, for ``end``.

        Raises:
            InferenceError: Another task or thread reads the stream.
        """
        claim = object()
        with self._lock:
            current = self._current()
            if not self._is_read_by(current):
                if self._waiting.locked():  # by somebody who reads without a loop
                    raise _second_reader()
                self._claim, self._owner = claim, weakref.ref(current) if current is not None else None
        return claim

    def check(self) -> None:
        """Check that the caller may read without a loop.

        Raises:
            InferenceError: Another task or thread reads the stream.
        """
        if self._claim is not None:
            with self._lock:
                self._is_read_by(self._current())

    def end(self, claim: object) -> None:
        """End a loop; nothing happens when it is not, or no longer, the reader."""
        with self._lock:
            if self._claim is claim:
                self._claim = self._owner = None

    def end_all(self) -> None:
        """End whatever loop there is, because the stream is over."""
        self._claim = self._owner = None

    def _is_read_by(self, current: W | None) -> bool:
        """Whether a loop of this task or thread is the reader; not when there is none."""
        owner = self._owner() if self._owner is not None else None
        if self._claim is None or owner is None or self._is_over(owner):
            return False
        if owner is not current:
            raise _second_reader()
        return True

    def __enter__(self) -> None:
        if not self._waiting.acquire(blocking=False):
            raise _second_reader()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._waiting.release()


def _second_reader() -> InferenceError:
    return InferenceError(
        "this stream is being read already, and a stream has one reader: read it in one task or thread and pass the "
        "messages on, or give each a stream of its own with agent.stream_messages()"
    )
