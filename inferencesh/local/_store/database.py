"""The SQLite database of a runtime, used in a thread of its own.

The standard library's ``sqlite3`` is sufficient: one process writes a few small rows at a time, and a single file is
easy to copy and to delete.
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
_LOCK_TIMEOUT = 0.5  # seconds to wait for a closing runtime to release the file

# Records of all kinds are JSON in one table: new kinds and new fields need no new schema.
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
    """A database file, locked by this runtime from ``open`` to ``close``.

    Jobs run one after another, in the order in which they were submitted.

    Args:
        path: The file; it is created if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="inferencesh.local database", daemon=True)
        self._opened: Future[None] = Future()
        self._closed: Future[None] = Future()
        self._file: tuple[int, int] | None = None

    async def open(self) -> None:
        """Open the file.

        Raises:
            DatabaseError: The file cannot be used.
        """
        self._thread.start()
        try:
            await asyncio.shield(asyncio.wrap_future(self._opened))
        except BaseException:
            await self.close()
            raise

    def require_file(self) -> None:
        """Check that the file is still the one that was opened.

        Raises:
            DatabaseError: It was deleted or replaced, so that what is written would be lost.
        """
        if _identity(self._path) != self._file:
            detail = "was deleted or replaced while it was in use; restart the runtime"
            raise DatabaseError(f"{self._path} {detail}")

    async def call(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run a job in a transaction and return its result; if it raises, the transaction is rolled back.

        The job runs even if the caller is cancelled.

        Raises:
            sqlite3.Error: The file could not be read or written.
        """
        done: Future[T] = Future()
        self._jobs.put(lambda connection: _do(connection, job, done))
        return await asyncio.shield(asyncio.wrap_future(done))

    def send(self, job: Callable[[sqlite3.Connection], object]) -> None:
        """Submit a job without waiting for it; a failure is logged."""
        done: Future[object] = Future()
        done.add_done_callback(_log_failure)
        self._jobs.put(lambda connection: _do(connection, job, done))

    async def close(self) -> None:
        """Finish all submitted jobs, and close the file."""
        self._jobs.put(None)
        await asyncio.shield(asyncio.wrap_future(self._closed))
        self._thread.join()

    def _work(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # noqa: BLE001 - ``close`` raises it
            self._closed.set_exception(error)
        else:
            self._closed.set_result(None)

    def _serve(self) -> None:
        # Only this thread refers to the connection. A forked child has no such thread and therefore never closes its
        # copy of the connection, which would checkpoint the write-ahead log that the parent still uses.
        try:
            connection = _connect(self._path)
        except BaseException as error:  # noqa: BLE001 - ``open`` raises it
            self._opened.set_exception(error)
            return
        with contextlib.closing(connection):
            self._file = _identity(self._path)
            self._opened.set_result(None)
            while (job := self._jobs.get()) is not None:
                job(connection)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _do(connection: sqlite3.Connection, job: Callable[[sqlite3.Connection], T], done: Future[T]) -> None:
    try:
        with connection:
            connection.execute("BEGIN")
            result = job(connection)
    except BaseException as error:  # noqa: BLE001 - the submitter of the job receives it
        done.set_exception(error)
    else:
        done.set_result(result)


def _log_failure(done: Future[object]) -> None:
    if (error := done.exception()) is not None:
        _logger.error("Data that is no longer needed could not be deleted from the database: %s.", error)


def _connect(path: Path) -> sqlite3.Connection:
    # Chats are private: only the owner can read a new file. An existing file must not be opened here: closing it would
    # release the locks that another runtime in this process holds on it.
    with contextlib.suppress(OSError):  # it exists, or cannot be created, which SQLite reports below
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        connection = sqlite3.connect(path, timeout=_LOCK_TIMEOUT, isolation_level=None)
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
    """Check the file before changing it, lock it, and create the tables in a new one."""
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA foreign_keys = ON")
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != _APPLICATION_ID:
        raise DatabaseError(f"{path} is a database of another program; name another file.")
    if version > SCHEMA_VERSION:
        detail = f"{path} was written by a later version of inferencesh (schema version {version}, supported up to "
        raise DatabaseError(f"{detail}{SCHEMA_VERSION}); update inferencesh, or name another file.")
    # A commit is then one write to the log, without waiting for the disk. Committed data survives the end of the
    # process, and the file remains consistent if the machine stops.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("BEGIN EXCLUSIVE")  # acquires the lock, which is kept because of the locking mode
    connection.execute("COMMIT")
    if not tables:
        connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")


def _refusal(path: Path, error: sqlite3.Error) -> DatabaseError:
    """Return an error of SQLite as a ``DatabaseError`` that says what to do."""
    match error.sqlite_errorcode & 0xFF if hasattr(error, "sqlite_errorcode") else None:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return DatabaseError(f"{path} is in use by another runtime; stop that one, or name another file.")
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return DatabaseError(f"{path} is not a database, or a damaged one ({error}); name another file.")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return DatabaseError(f"{path} cannot be written; change its permissions, or name another file.")
        case _:
            return DatabaseError(f"{path} cannot be opened ({error}); check that its directory exists and is yours.")
