"""Telling what a signal handler raised from what the code that it interrupted raised."""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Iterator
from types import CodeType

__all__ = ["raised_by_signal_handler"]


def raised_by_signal_handler(error: BaseException) -> bool:
    """Whether an exception was raised by a signal handler, such as that of a time limit.

    Python runs signal handlers on the main thread, between two instructions of whatever runs there, and what they raise
    comes out of that code. It is then found by its traceback, which has a frame of a handler that is installed.

    A limit that is set and lifted by the code itself is not found, for its handler is not installed any more: what
    comes of such a limit is a failure of that code like any other.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    handlers = set(_installed())
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in handlers:
            return True
        traceback = traceback.tb_next
    return False


def _installed() -> Iterator[CodeType]:
    """The code of the Python functions that are installed as signal handlers."""
    for number in signal.valid_signals():
        handler: object = signal.getsignal(number)
        while isinstance(handler, functools.partial):
            handler = handler.func
        if not callable(handler):
            continue
        for each in (handler, getattr(handler, "__func__", None), type(handler).__call__):
            code = getattr(each, "__code__", None)
            if isinstance(code, CodeType):
                yield code
