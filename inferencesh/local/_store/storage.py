"""A runtime's chats and files in a database: brought back when it starts, kept while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from aiohttp import web
from attrs import define

from inferencesh.local.errors import DatabaseError

from .database import Database
from .journal import Journal
from .rows import Row, UnreadableError, load

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection
    from pathlib import Path

    from aiohttp.typedefs import Handler, Middleware

    from inferencesh.local.files import Files
    from inferencesh.local.store import Store

__all__ = ["Storage"]


@define
class Storage:
    """The open database of one runtime."""

    journal: Journal
    _database: Database
    _store: Store

    @classmethod
    async def open(cls, path: Path, store: Store, files: Files) -> Self:
        """Open a file, bring back what is in it, and keep it up to date from now on.

        Args:
            path: The file; it is made when it is not there.
            store: Where chats go.
            files: Where files go.

        Raises:
            DatabaseError: The file cannot be used.
        """
        database = Database(path)
        await database.open()
        try:
            journal = Journal(database, store)
            loaded = await database.call(lambda connection: load(_rows(connection), journal))
            kept = {file.content for file in loaded.files if file.content is not None}
            await database.call(lambda connection: _drop_others(connection, kept))
        except UnreadableError as error:
            await database.close()
            raise DatabaseError(f"{path} cannot be read: {error}; name another file.") from error
        except BaseException:
            await database.close()
            raise
        store.load(loaded.chats, journal)
        files.load(loaded.files)
        files.contents, files.recorder = DatabaseContents(database), journal
        return cls(journal, database, store)

    def middleware(self) -> Middleware:
        """Return what holds each answer back until what it tells is stored."""

        @web.middleware
        async def settled(request: web.Request, handler: Handler) -> web.StreamResponse:
            noted = self.journal.noted
            response = await handler(request)
            if not response.prepared:
                await self.journal.settle(noted)
            return response

        return settled

    async def freeze(self) -> None:
        """Store everything as it is, what is being written so far included, and from now on nothing more."""
        for chat in self._store.chats.values():
            if chat.busy and chat.reply is not None:
                self.journal.note(chat.reply)
        await self.journal.freeze()

    async def aclose(self) -> None:
        """Let go of the file."""
        await self._database.close()


@define
class DatabaseContents:
    """Keeps the bytes of files in the database, each part in a transaction of its own."""

    _database: Database

    async def add_part(self, content: str, number: int, data: bytes) -> None:
        """Keep the next part."""
        await self._database.call(_executing("INSERT INTO parts VALUES (?, ?, ?)", (content, number, data)))

    async def read_part(self, content: str, number: int) -> bytes | None:
        """Return a part; None when there is none."""
        question = "SELECT data FROM parts WHERE content = ? AND number = ?"
        found = await self._database.call(lambda connection: connection.execute(question, (content, number)).fetchone())
        return None if found is None else bytes(found[0])

    def drop(self, content: str) -> None:
        """Forget all parts of a content, soon."""
        self._database.send(_executing("DELETE FROM parts WHERE content = ?", (content,)))


def _executing(statement: str, values: tuple[object, ...]) -> Callable[[sqlite3.Connection], None]:
    def job(connection: sqlite3.Connection) -> None:
        connection.execute(statement, values)

    return job


def _rows(connection: sqlite3.Connection) -> list[Row]:
    question = "SELECT id, kind, chat_id, data FROM records ORDER BY number"
    return [Row(*values) for values in connection.execute(question)]


def _drop_others(connection: sqlite3.Connection, kept: Collection[str]) -> None:
    """Forget the bytes of uploads that never came to their end."""
    found = {content for (content,) in connection.execute("SELECT DISTINCT content FROM parts")}
    connection.executemany("DELETE FROM parts WHERE content = ?", [(content,) for content in found.difference(kept)])
