"""One SQLite file that keeps what a runtime holds, used in a thread of its own.

The standard library's `sqlite3` is enough: one process writes a few small rows at a time, and a single file without a
server is what somebody who tries agents offline wants to have, copy and delete.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import sqlite3
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from inferencesh.local.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Database"]

T = TypeVar("T")
Job: TypeAlias = "Callable[[sqlite3.Connection], None]"

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x494E4653
_PATIENCE = 0.5  # seconds that a runtime which is just closing has to let go of its file

# Records are JSON, one table for all kinds: a new kind, or a new field, needs no new schema.
_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
CREATE TABLE records (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    chat_id TEXT REFERENCES records (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    data TEXT NOT NULL
);
CREATE INDEX records_of_a_chat ON records (chat_id);
CREATE TABLE parts (
    content TEXT NOT NULL,
    number INTEGER NOT NULL,
    data BLOB NOT NULL,
    UNIQUE (content, number)
);
"""

_logger = logging.getLogger("inferencesh.local")


class Database:
    """The file, locked for this runtime from `open` to `close`.

    Jobs are done one after the other, in the order in which they were given.

    Args:
        path: The file; it is made when it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="inferencesh.local database", daemon=True)
        self._opened: Future[None] = Future()
        self._closed: Future[None] = Future()

    async def open(self) -> None:
        """Open the file.

        Raises:
            DatabaseError: It cannot be used.
        """
        self._thread.start()
        try:
            await asyncio.shield(asyncio.wrap_future(self._opened))
        except BaseException:
            await self.close()
            raise

    async def call(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Do something with the connection, and return its result; what it does wrong is undone.

        It is done even if nobody waits for it any more.

        Raises:
            sqlite3.Error: The file could not be read or written.
        """
        done: Future[T] = Future()
        self._jobs.put(lambda connection: _do(connection, job, done))
        return await asyncio.shield(asyncio.wrap_future(done))

    def send(self, job: Callable[[sqlite3.Connection], object]) -> None:
        """Have something done later that nobody waits for; a failure is logged."""
        done: Future[object] = Future()
        done.add_done_callback(_log_failure)
        self._jobs.put(lambda connection: _do(connection, job, done))

    async def close(self) -> None:
        """Do what there is still to do, and let go of the file."""
        self._jobs.put(None)
        await asyncio.shield(asyncio.wrap_future(self._closed))
        self._thread.join()

    def _work(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # noqa: BLE001 - `close` raises it
            self._closed.set_exception(error)
        else:
            self._closed.set_result(None)

    def _serve(self) -> None:
        # The connection is a variable of this thread and of nothing else. A forked child has a copy of it but no such
        # thread, so that nothing ever closes it there; that would fold the parent's log up under its hands.
        try:
            connection = _connect(self._path)
        except BaseException as error:  # noqa: BLE001 - `open` raises it
            self._opened.set_exception(error)
            return
        with contextlib.closing(connection):
            self._opened.set_result(None)
            while (job := self._jobs.get()) is not None:
                job(connection)


def _do(connection: sqlite3.Connection, job: Callable[[sqlite3.Connection], T], done: Future[T]) -> None:
    try:
        with connection:
            connection.execute("BEGIN")
            result = job(connection)
    except BaseException as error:  # noqa: BLE001 - who gave the job gets it
        done.set_exception(error)
    else:
        done.set_result(result)


def _log_failure(done: Future[object]) -> None:
    if (error := done.exception()) is not None:
        _logger.error("The database could not be cleared up: %s.", error)


def _connect(path: Path) -> sqlite3.Connection:
    # What people say to an agent is not for everybody on the machine. A file that exists is not touched: to open and
    # close it here would give up the locks that another runtime of this process has on it.
    with contextlib.suppress(OSError):  # it is there, or cannot be made; SQLite says the same in a moment
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
    except sqlite3.Error as error:
        raise _refusal(path, error) from error
    try:
        _prepare(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise _refusal(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check what the file is before anything is changed in it, lock it, and make the tables in a new one."""
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA foreign_keys = ON")
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != _APPLICATION_ID:
        raise DatabaseError(f"{path} is a database of another program; name another file.")
    if version > SCHEMA_VERSION:
        detail = f"{path} was written by a later version of inferencesh (its form is {version}, known is up to "
        raise DatabaseError(f"{detail}{SCHEMA_VERSION}); update this one, or name another file.")
    # A commit is then one write to the log, without waiting for the disk. What was committed survives the end of the
    # process in any case, and the file stays whole when the machine stops.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("BEGIN EXCLUSIVE")  # takes the lock, which the locking mode keeps
    connection.execute("COMMIT")
    if not tables:
        connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")


def _refusal(path: Path, error: sqlite3.Error) -> DatabaseError:
    """Return what an error of SQLite means for whoever named the file."""
    match error.sqlite_errorcode & 0xFF if hasattr(error, "sqlite_errorcode") else None:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return DatabaseError(f"{path} is in use by another runtime; stop that one, or name another file.")
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return DatabaseError(f"{path} is no database, or a damaged one ({error}); name another file.")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return DatabaseError(f"{path} may not be written; change its permissions, or name another file.")
        case _:
            return DatabaseError(f"{path} cannot be opened ({error}); check that its directory exists and is yours.")
