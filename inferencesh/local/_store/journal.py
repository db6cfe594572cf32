"""The journal, which writes changed records to the database in batches."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from functools import partial
from typing import TYPE_CHECKING

from inferencesh.local.chats import StoredChat
from inferencesh.local.errors import ProblemError
from inferencesh.local.tasks import StoredTask

from .rows import chat_of, to_row

if TYPE_CHECKING:
    from inferencesh.local.chats import ChatStore
    from inferencesh.local.records import Record

    from .database import Database
    from .rows import Row

__all__ = ["Journal", "storage_failed"]

_SAVE = """
INSERT INTO records (id, kind, chat_id, data) VALUES (?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET data = excluded.data
"""

_logger = logging.getLogger("inferencesh.local")


class Journal:
    """The ``Recorder`` that writes to a database.

    Everything noted in one step of the event loop is written in one transaction, so that the stored states of a chat,
    its run and its messages are consistent. Notes made during a transaction are collected for the next one.

    Args:
        database: The open database.
        store: The chats; records of deleted chats are not written.
    """

    def __init__(self, database: Database, store: ChatStore) -> None:
        self._database = database
        self._store = store
        self._changed: dict[str, Record] = {}
        self._forgotten: set[str] = set()
        # Notes are numbered; these are the last one, the last one written, and the last one of each chat.
        self._noted = self._written = 0
        self._last_notes: dict[str, int] = {}
        self._writing: asyncio.Task[None] | None = None
        self._batch: asyncio.Event = asyncio.Event()
        self._failure: BaseException | None = None
        self._frozen = False

    def note(self, record: Record) -> None:
        """Schedule a record and its chat to be stored in the state they have when the current step ends."""
        owner = record.id if isinstance(record, StoredChat) else chat_of(record)
        if self._frozen or (owner is not None and owner not in self._store.chats):
            return
        if owner is not None:
            self._changed[owner] = self._store.chats[owner]
            self._last_notes[owner] = self._noted + 1
        elif isinstance(record, StoredTask):
            self._last_notes[record.id] = self._noted + 1
        self._changed[record.id] = record
        self._wake()

    def forget(self, record: Record) -> None:
        """Schedule a record, and the records that belong to it, to be deleted."""
        if self._frozen:
            return
        self._last_notes.pop(record.id, None)
        self._forgotten.add(record.id)
        self._changed = self._without_forgotten(self._changed)
        self._wake()

    async def drain(self, chat_id: str) -> None:
        """Wait until everything noted so far for a chat was stored, or failed to be; do not raise on failure."""
        await self._reach(self._last_notes.get(chat_id, 0))

    @property
    def noted(self) -> int:
        """The number of notes so far."""
        return self._noted

    async def settle(self, since: int) -> None:
        """Wait until everything noted so far is stored.

        Args:
            since: The value of ``noted`` when the current request started.

        Raises:
            ProblemError: 507 if notes made since then could not be stored; 503 if the runtime is closing.
        """
        noted = self._noted
        await self._reach(noted)
        if self._failure is not None and noted > since:
            raise storage_failed(self._failure, "It is kept in memory until the next attempt.")
        if self._frozen:
            raise ProblemError(503, "The runtime is closing.")

    async def freeze(self) -> None:
        """Write what was noted so far, and ignore later notes, such as those of runs that the closing runtime ends."""
        if self._failure is not None:
            self._wake()  # the last attempt
        self._frozen = True
        await self._reach(self._noted)

    async def _reach(self, wanted: int) -> None:
        while self._written < wanted:
            await self._batch.wait()

    def _wake(self) -> None:
        self._noted += 1
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="inferencesh.local journal")

    def _without_forgotten(self, changed: dict[str, Record]) -> dict[str, Record]:
        return {key: each for key, each in changed.items() if self._forgotten.isdisjoint({key, chat_of(each)})}

    async def _write(self) -> None:
        while self._written < self._noted:
            upto, batch = self._noted, self._batch
            changed, self._changed = self._changed, {}
            forgotten, self._forgotten = self._forgotten, set()
            try:
                self._database.require_file()
                rows = [to_row(record) for record in changed.values()]
                await self._database.call(partial(_save, rows=rows, forgotten=forgotten))
                self._failure = None
            except Exception as error:
                _logger.exception("Chats could not be stored; this is tried again with the next change.")
                self._failure = error
                self._forgotten |= forgotten
                self._changed = self._without_forgotten(changed) | self._changed
            self._written = upto
            self._batch = asyncio.Event()
            batch.set()
        self._writing = None


def storage_failed(failure: BaseException, then: str = "Send it again.") -> ProblemError:
    """Return the 507 error for what could not be stored.

    Args:
        failure: Why.
        then: What becomes of it, or what to do.
    """
    return ProblemError(507, f"The runtime could not store this: {failure}. {then}", code="storage_failed")


def _save(connection: sqlite3.Connection, rows: list[Row], forgotten: set[str]) -> None:
    connection.executemany("DELETE FROM records WHERE id = ?", [(identifier,) for identifier in forgotten])
    connection.executemany(_SAVE, [(row.id, row.kind, row.chat_id, row.data) for row in rows])
