"""What a runtime keeps, in a database: loaded at the start, kept up to date while it runs."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Self

import attrs
from aiohttp import web

from inferencesh.local.errors import DatabaseError

from .database import Database
from .journal import Journal, storage_failed
from .rows import DamagedRowError, Row, load

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from aiohttp.typedefs import Handler, Middleware

    from inferencesh.local.chats import ChatStore
    from inferencesh.local.files import FileStore
    from inferencesh.local.tasks import TaskStore

__all__ = ["Storage"]


@attrs.define
class Storage:
    """The open database of one runtime."""

    journal: Journal
    _database: Database
    _store: ChatStore

    @classmethod
    async def open(cls, path: Path, store: ChatStore, files: FileStore, tasks: TaskStore) -> Self:
        """Open a database, load its content, and record all changes from now on.

        Args:
            path: The file; it is created if it does not exist.
            store: Receives the chats.
            files: Receives the files.
            tasks: Receives the tasks and sessions.

        Raises:
            DatabaseError: The file cannot be used.
        """
        database = Database(path)
        await database.open()
        try:
            journal = Journal(database, store)
            loaded = await database.call(lambda connection: load(_rows(connection), journal))
            kept = {file.content for file in loaded.files if file.content is not None}
            await database.call(lambda connection: _delete_incomplete(connection, kept))
        except (DamagedRowError, sqlite3.Error) as error:
            await database.close()
            raise DatabaseError(f"{path} cannot be used: {error}; name another file.") from error
        except BaseException:
            await database.close()
            raise
        store.load(loaded.chats, journal)
        files.load(loaded.files)
        tasks.load(loaded.tasks, loaded.sessions, journal)
        files.contents, files.recorder = DatabaseContents(database), journal
        return cls(journal, database, store)

    def middleware(self) -> Middleware:
        """Return a middleware that delays each response until the changes of its request are stored."""

        @web.middleware
        async def settled(request: web.Request, handler: Handler) -> web.StreamResponse:
            noted = self.journal.noted
            response = await handler(request)
            if not response.prepared:
                await self.journal.settle(noted)
            return response

        return settled

    async def freeze(self) -> None:
        """Store the current state, including incomplete messages, and ignore all later changes."""
        for chat in self._store.chats.values():
            if chat.busy and chat.reply is not None:
                self.journal.note(chat.reply)
        await self.journal.freeze()

    async def aclose(self) -> None:
        """Close the database."""
        await self._database.close()


@attrs.define
class DatabaseContents:
    """The bytes of files, in the database; each part is written in a transaction of its own."""

    _database: Database

    async def add_part(self, content: str, number: int, data: bytes) -> None:
        """Store the next part."""
        try:
            await self._database.call(_executing("INSERT INTO parts VALUES (?, ?, ?)", (content, number, data)))
        except sqlite3.Error as error:
            raise storage_failed(error) from error

    async def read_part(self, content: str, number: int) -> bytes | None:
        """Return a part, or None if there is no such part."""
        query = "SELECT data FROM parts WHERE content = ? AND number = ?"
        found = await self._database.call(lambda connection: connection.execute(query, (content, number)).fetchone())
        return None if found is None else bytes(found[0])

    def drop(self, content: str) -> None:
        """Delete all parts of a content, without waiting for it."""
        self._database.send(_executing("DELETE FROM parts WHERE content = ?", (content,)))


def _executing(statement: str, values: tuple[object, ...]) -> Callable[[sqlite3.Connection], None]:
    def job(connection: sqlite3.Connection) -> None:
        connection.execute(statement, values)

    return job


def _rows(connection: sqlite3.Connection) -> list[Row]:
    query = "SELECT id, kind, chat_id, data FROM records ORDER BY number"
    return [Row(*values) for values in connection.execute(query)]


def _delete_incomplete(connection: sqlite3.Connection, kept: Collection[str]) -> None:
    """Delete the bytes of incomplete uploads."""
    found = {content for (content,) in connection.execute("SELECT DISTINCT content FROM parts")}
    connection.executemany("DELETE FROM parts WHERE content = ?", [(content,) for content in found.difference(kept)])
