"""What a connection in use has to allow: to be cut off at once, from any thread, at any time."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod

from .event_loops import hand_over, running_loop

__all__ = ["OpenConnection"]

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
