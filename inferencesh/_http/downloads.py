"""Download files: to memory, or to disk under their final name only when they are complete."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import attrs

from inferencesh._loops.invoke import start_in_thread
from inferencesh.errors import APIConnectionError, ConfigurationError, FileError
from inferencesh.models import FileRef
from inferencesh.task_models import TaskFile

from .sources import OnProgress, Progress, is_data_uri, read_data_uri
from .transport import Transport

if TYPE_CHECKING:
    from .stream import ByteStream

__all__ = ["RemoteFile", "Wanted", "download", "make_directory", "unused_name"]

RemoteFile: TypeAlias = FileRef | TaskFile | str | Mapping[str, Any]
"""A file at the service: a reference, its URI, or an object of a task's output that has a ``uri``."""

_WRITE = 256 * 1024  # bytes written at a time: a switch to another thread takes as long as writing some 100 KB


@attrs.frozen
class Wanted:
    """A file to be downloaded.

    Attributes:
        uri: Where it is.
        filename: Its name at the service, or "".
        size: Its size in bytes, or 0 if unknown.
    """

    uri: str
    filename: str = ""
    size: int = 0

    @classmethod
    def of(cls, file: object) -> Wanted:
        """Return what to download for what a caller has given.

        Raises:
            TypeError: It is no file at the service.
            ConfigurationError: It has no URI, or is an id.
        """
        if isinstance(file, str):
            if file and not {"/", ":"} & set(file):
                raise ConfigurationError(
                    f"{file[:100]!r} is no address of a file, such as the uri of a FileRef; client.files.get(id) finds "
                    "a file by its id"
                )
            wanted = cls(file)
        elif isinstance(file, FileRef | TaskFile):
            wanted = cls(file.uri, file.filename, file.size)
        elif isinstance(file, Mapping):
            uri, name, size = file.get("uri"), file.get("filename"), file.get("size")
            wanted = cls(
                uri if isinstance(uri, str) else "",
                name if isinstance(name, str) else "",
                size if isinstance(size, int) and not isinstance(size, bool) else 0,
            )
        else:
            kind = type(file).__name__
            raise TypeError(f"a file to download is a FileRef, a TaskFile, a URI or an object with one, not {kind}")
        if not wanted.uri:
            raise ConfigurationError("the file has no URI, so it cannot be downloaded")
        return wanted

    @property
    def safe_name(self) -> str:
        """A name for it in a directory: the last part of its name or URI, which the server may have made up."""
        for text in (self.filename, self.uri.partition("?")[0].partition("#")[0]):
            name = _cut(text.replace("\\", "/").rpartition("/")[2].replace("\0", ""), 200)
            if name not in {"", ".", ".."}:
                return name
        return "download"


async def download(
    transport: Transport, wanted: Wanted, to: str | os.PathLike[str] | None, on_progress: OnProgress | None
) -> bytes | Path:
    """Download a file; ``AsyncFiles.download`` documents the arguments.

    Returns:
        Its content, or the path that it was written to.
    """
    progress = Progress(on_progress)
    if to is None:
        parts: list[bytes] = []

        async def keep(part: bytes) -> None:
            parts.append(part)

        await _receive(transport, wanted, progress, parts.clear, keep)
        return b"".join(parts)
    file = _PartialFile(Path(to), wanted.safe_name)
    try:
        await start_in_thread(file.open)
        await _receive(
            transport, wanted, progress, file.restart, lambda part: start_in_thread(lambda: file.write(part))
        )
        return await start_in_thread(file.finish)
    finally:
        file.discard()


def make_directory(path: Path) -> None:
    """Create a directory unless it exists.

    Raises:
        FileError: It cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError._of_download(error, str(path)) from error


def unused_name(name: str, taken: set[str]) -> str:
    """Return a file name that was not returned before, and add it to ``taken``."""
    stem, dot, suffix = name.rpartition(".")
    free, number = name, 1
    while free.lower() in taken:
        number += 1
        free = f"{stem} ({number}){dot}{suffix}" if stem else f"{name} ({number})"
    taken.add(free.lower())
    return free


def _cut(name: str, most: int) -> str:
    """Return a file name with so many bytes at most: file systems allow 255."""
    return name.encode(errors="ignore")[:most].decode(errors="ignore")


async def _receive(
    transport: Transport,
    wanted: Wanted,
    progress: Progress,
    restart: Callable[[], object],
    keep: Callable[[bytes], Awaitable[object]],
) -> None:
    """Pass the parts of a file to ``keep``, and check the size."""
    if is_data_uri(wanted.uri):
        _, data = read_data_uri(wanted.uri)
        await keep(data)
        await progress.tell(len(data), len(data))
        return

    async def receive(stream: ByteStream, length: int | None) -> None:
        restart()
        named = wanted.size or None if not stream.decompressed else None
        total = length if length is not None else named
        received, buffer = 0, bytearray()
        await progress.tell(0, total)
        while data := await stream.read():
            received += len(data)
            buffer += data
            if len(buffer) >= _WRITE:
                await keep(bytes(buffer))
                buffer.clear()
                await progress.tell(received, total)
        await keep(bytes(buffer))
        for expected in (length, named):
            if expected is not None and received != expected:
                raise APIConnectionError(f"the download is incomplete: {received} of {expected} bytes")
        await progress.tell(received, received)

    await transport.download(wanted.uri, receive)


class _PartialFile:
    """A file beside its final place, which it takes when it is complete.

    Its methods are called in worker threads, ``discard`` on any: a thread that is still at work for a cancelled caller
    cleans up when it has finished.

    Args:
        target: The final path, or a directory.
        name: The name in that directory.
    """

    def __init__(self, target: Path, name: str) -> None:
        self._target = target
        self._name = name
        self._file: BinaryIO | None = None
        self._part: Path | None = None
        self._lock = threading.Lock()
        self._discarded = False
        self._again = False

    def open(self) -> None:
        """Create the file."""
        with self._at_work():
            if self._target.is_dir():
                self._target /= self._name
            part = self._target.with_name(f".{_cut(self._target.name, 100)}.{secrets.token_hex(8)}.part")
            self._file = part.open("xb")
            self._part = part

    def restart(self) -> None:
        """Have the next part written at the beginning."""
        self._again = True

    def write(self, part: bytes) -> None:
        """Write a part."""
        with self._at_work():
            assert self._file is not None
            if self._again:
                self._again = False
                self._file.seek(0)
                self._file.truncate()
            self._file.write(part)

    def finish(self) -> Path:
        """Move the file to its final place, and return that."""
        with self._at_work():
            assert self._file is not None
            assert self._part is not None
            self._file.close()
            self._part.replace(self._target)
            self._part = None
        return self._target

    def discard(self) -> None:
        """Delete the file unless it was finished; does not block."""
        self._discarded = True
        self._settle()

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        try:
            with self._lock:
                if self._discarded:
                    raise FileError._of_download(
                        OSError(errno.ECANCELED, "the download was given up"), str(self._target)
                    )
                try:
                    yield
                except OSError as error:
                    raise FileError._of_download(error, str(self._target)) from error
        finally:
            self._settle()

    def _settle(self) -> None:
        if self._discarded and self._lock.acquire(blocking=False):
            try:
                if self._file is not None:
                    self._file.close()
                if self._part is not None:
                    self._part.unlink(missing_ok=True)
                    self._part = None
            finally:
                self._lock.release()
