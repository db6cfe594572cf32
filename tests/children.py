"""Programs in processes of their own that a test may interrupt."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from typing import Any

__all__ = ["start"]


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """Start a program that ends on Ctrl-C even where these tests were started with SIGINT ignored.

    That is how shells start what is to run in the background, and a child inherits it. A handler is not inherited: with
    one in place here the child begins with the system's default.

    Args:
        command: The program and its arguments.
        options: As for ``subprocess.Popen``.
    """
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, text=True, **options)
    finally:
        signal.signal(signal.SIGINT, before)
