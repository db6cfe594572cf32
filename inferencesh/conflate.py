"""Skipping outdated snapshots, so that a slow reader is always current and memory is bounded by live messages."""

from __future__ import annotations

import asyncio

import attrs

from .cancellation import wait_for_end
from .driver import TurnDriver
from .event_loops import hand_over
from .models import Message, ToolCall

__all__ = ["Conflator"]


class Conflator:
    """Reads a turn ahead of its reader and keeps, of each message, the newest snapshot that was not handed out yet.

    Final snapshots, and those in which a tool call begins to wait, are always handed out.

    Args:
        driver: The turn.
    """

    def __init__(self, driver: TurnDriver) -> None:
        self._driver = driver
        driver.newest_only = True
        self._kept: list[Message] = []
        self._texts: dict[str, str] = {}  # of each live message, the text that was handed out last
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._over = False

    async def advance(self) -> list[Message]:
        """Wait for the newest snapshot and return it alone, or nothing when the turn has ended or paused."""
        while not self._kept and not self._over:
            if self._task is None:
                self._task = asyncio.create_task(self._read(), name="inferencesh conflate")
            self._changed.clear()
            try:
                await self._changed.wait()
            except asyncio.CancelledError:
                await self.leave()
                raise
        if self._kept:
            return [self._against_last(self._kept.pop(0))]
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return []

    def park(self) -> None:
        """Close the connection at once, from any thread."""
        self._driver.park()
        task, self._task = self._task, None
        if task is not None and not task.done():
            hand_over(task.get_loop(), task.cancel)
            hand_over(task.get_loop(), self._changed.set)  # whoever waits takes the turn up again

    async def leave(self) -> None:
        """Close the connection and wait until the tools have stopped; ``advance`` takes the turn up again."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await wait_for_end([task])
        await self._driver.leave()

    async def aclose(self) -> None:
        """Close for good."""
        self._over = self._driver.closed = True
        self._changed.set()
        await self.leave()

    async def _read(self) -> None:
        try:
            while batch := await self._driver.advance():
                for message in batch:
                    self._keep(message)
                self._changed.set()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - the reader raises it
            self._error = error
        self._over = True
        self._changed.set()

    def _keep(self, message: Message) -> None:
        for index in reversed(range(len(self._kept))):
            older = self._kept[index]
            if older.id == message.id:  # the newest of its kind: what stands before it must be handed out anyway
                if not older.done and _waiting(older) == _waiting(message):
                    self._kept[index] = message
                    return
                break
        self._kept.append(message)

    def _against_last(self, message: Message) -> Message:
        """The snapshot with its ``delta`` counted from the one that was handed out before it."""
        before, text = self._texts.get(message.id, ""), message.text
        if message.done:
            self._texts.pop(message.id, None)
        else:
            self._texts[message.id] = text
        return attrs.evolve(message, delta=text[len(before) :] if text.startswith(before) else None)


def _waiting(message: Message) -> tuple[ToolCall, ...]:
    return message.pending_tool_calls + message.pending_approvals
