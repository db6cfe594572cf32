"""The files to be uploaded: what is accepted as a file, its content type, and reading its content.

Opening and reading may block, so worker threads do it. ``close`` does not block: if a thread is still reading
the file for a cancelled caller, that thread closes it when it has finished.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import inspect
import io
import os
import re
import stat
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, TypeAlias
from urllib.parse import unquote_to_bytes

from inferencesh._loops.invoke import ThreadInvoker, invoke
from inferencesh.errors import ConfigurationError, FileError
from inferencesh.models import FileRef

__all__ = [
    "HEAD",
    "FileSource",
    "OnProgress",
    "Progress",
    "ReportSent",
    "UploadSource",
    "check_content_type",
    "check_source",
    "check_sources",
    "guess_content_type",
    "is_data_uri",
    "read_data_uri",
    "upload_source",
]

# A str must be a data: URI; a path given as text is never read from disk.
FileSource: TypeAlias = os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | str | FileRef
OnProgress: TypeAlias = Callable[[int, int | None], Any]  # receives the bytes sent and the total, if known
ReportSent: TypeAlias = Callable[[int], Awaitable[None]]  # receives the number of bytes sent so far

HEAD = 40 * 1024  # bytes at the beginning of a file from which its type is guessed
UNKNOWN = "application/octet-stream"

_KINDS = "a pathlib.Path, bytes, a binary file object, a data: URI or a FileRef"
_COPY = 256 * 1024  # bytes copied at a time
_DEFAULT_TYPE = "text/plain;charset=US-ASCII"
_BASE64 = re.compile(r";\s*base64\s*$", re.IGNORECASE)
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_WELL_FORMED = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+(\s*;[\x20-\x7e]*)?")
_ZIP = b"PK\x03\x04"
_SHORTEST = 3  # bytes of a signature; shorter ones occur in any text
# Images with reliable signatures. They often have a wrong extension, and models refuse a wrong content type.
_CERTAIN = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
# A compressed file, such as data.tar.gz, has the type of its compression.
_PACKED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}


class Progress:
    """Reports the progress of an upload or a download to a callback, with more each time: a retry begins anew.

    Args:
        on_progress: The callback, or None.
    """

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress = on_progress
        self._invoker = ThreadInvoker(1)
        self._told = -1

    async def tell(self, done: int, total: int | None, *, over: bool = False) -> None:
        """Report how many bytes are done, of how many if that is known.

        Args:
            done: The number of bytes.
            total: The number of all bytes, or None.
            over: Whether the server has confirmed all of it, which is reported even if the number was reported before.
        """
        callback = self._on_progress
        if callback is not None and (over or done > self._told):
            self._told = done
            await invoke(self._invoker, callback, lambda: callback(done, total))


def check_content_type(content_type: str) -> str:
    """Return a MIME type unchanged if it is valid.

    Raises:
        ConfigurationError: It is invalid or cannot be sent in a header.
    """
    if not _WELL_FORMED.fullmatch(content_type):
        raise ConfigurationError(f"{content_type[:100]!r} is no content type, such as image/png or text/plain")
    return content_type


def guess_content_type(filename: str, head: bytes) -> str:
    """Return the MIME type of a file; this reads the system's list of types the first time, so not on an event loop.

    Args:
        filename: Its name, or "".
        head: Its first ``HEAD`` bytes, or fewer if the file is shorter.

    Returns:
        The type for the name's extension, or the type of an image's content if the extension is that of another image;
        without a known extension the type of the content, or ``application/octet-stream``.
    """
    named, seen = _by_name(filename), _by_bytes(head)
    if seen in _CERTAIN and named is not None and named.startswith("image/"):
        return seen
    return named or seen or UNKNOWN


def _by_name(filename: str) -> str | None:
    import mimetypes

    kind, packed = mimetypes.guess_type(f"file:{filename}" if ":" in filename else filename, strict=False)
    return _PACKED.get(packed, UNKNOWN) if packed is not None else kind


def _by_bytes(head: bytes) -> str | None:
    if not head:
        return None
    import puremagic

    try:
        found = puremagic.magic_string(head)
    except puremagic.PureError:  # unknown content
        return None
    longest = max((len(match.byte_match) for match in found), default=0)
    if head.startswith(_ZIP) and longest <= len(_ZIP):
        return "application/zip"  # puremagic would take any archive for a document
    return next((match.mime_type for match in found if match.mime_type and len(match.byte_match) >= _SHORTEST), None)


def is_data_uri(text: str) -> bool:
    """Whether a text is a data URI."""
    return text[:5].lower() == "data:"


def read_data_uri(uri: str) -> tuple[str, bytes]:
    """Return the content type and the content of a data URI.

    Args:
        uri: ``data:[type][;parameter=value]...[;base64],content``. The content may be percent-encoded; base64 may be
            URL-safe, unpadded, and contain whitespace, as other readers of data URIs allow.

    Returns:
        The MIME type with its parameters, by default ``text/plain;charset=US-ASCII``, and the content.

    Raises:
        ConfigurationError: It is malformed; the error does not quote its content.
    """
    head, comma, content = uri[5:].partition(",")
    if not comma:
        raise ConfigurationError("the data: URI has no comma, behind which its content would be")
    media_type, encoded = _BASE64.subn("", head.strip())
    if media_type.startswith(";"):  # parameters alone
        media_type = f"text/plain{media_type}"
    try:
        data = unquote_to_bytes(content)
    except UnicodeEncodeError:
        raise ConfigurationError("the data: URI holds halves of characters") from None
    return media_type or _DEFAULT_TYPE, _decoded(data) if encoded else data


def _decoded(data: bytes) -> bytes:
    text = b"".join(data.split()).translate(_URL_SAFE).rstrip(b"=")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ConfigurationError(f"the data: URI says that it is base64, which it is not: {error}") from None


def check_source(source: object) -> None:
    """Check that a value is accepted as a file; nothing is opened or read.

    Raises:
        TypeError: It is not.
    """
    if isinstance(source, str):
        if source.startswith(("http://", "https://")):
            raise TypeError("a web address is not taken as a file: download what is there, and pass its bytes")
        if not is_data_uri(source):
            raise TypeError(
                "a str is taken as a file only when it is a data: URI; for a file on disk pass pathlib.Path(...)"
            )
    elif isinstance(source, io.TextIOBase):
        raise TypeError("the file object is open for text; open it in binary mode, as in open(..., 'rb')")
    elif inspect.iscoroutinefunction(getattr(source, "read", None)):
        raise TypeError("async file objects are not taken; pass pathlib.Path(...), which is read without blocking")
    elif not isinstance(source, FileRef | bytes | bytearray | memoryview | os.PathLike) and not _can_be_read(source):
        raise TypeError(f"a file must be {_KINDS}, not {_described(source)}")


def check_sources(sources: object) -> tuple[FileSource, ...]:
    """Return a list of files as a tuple, after checking each.

    Raises:
        TypeError: It is not a list of files.
    """
    single = isinstance(sources, str | bytes | bytearray | memoryview | os.PathLike | FileRef) or _can_be_read(sources)
    if single:
        raise TypeError(f"files must be a list, even for a single file: files=[...], not {_described(sources)}")
    if not isinstance(sources, Iterable):
        raise TypeError(f"files must be a list, and each item {_KINDS}, not {_described(sources)}")
    checked = tuple(sources)
    for source in checked:
        check_source(source)
    return checked


def _can_be_read(source: object) -> bool:
    return callable(getattr(source, "read", None)) and not isinstance(source, type)


def _described(source: object) -> str:
    return f"the class {source.__name__}" if isinstance(source, type) else type(source).__name__


class UploadSource(ABC):
    """A file to be uploaded.

    Args:
        filename: Its name, or "".
        content_type: Its MIME type, or "" to guess it.

    Attributes:
        size: The size in bytes, once it is open.
        uploaded: Whether the upload is complete; set by the uploader.
    """

    def __init__(self, filename: str, content_type: str) -> None:
        self.filename = filename
        self.content_type = content_type
        self.size = 0
        self.uploaded = False
        self._lock = threading.Lock()  # held while a thread uses the file
        self._closed = False

    def open(self) -> None:
        """Open the file and determine its size and content type.

        Raises:
            FileError: It cannot be read.
            ConfigurationError: It is a data URI that cannot be read, or of a type that cannot be sent.
            TypeError: It is a file object that is open for text.
        """
        with self._at_work():
            self.size = self._open()
            if not self.content_type:
                self.content_type = guess_content_type(self.filename, self._read(0, min(HEAD, self.size)))
        check_content_type(self.content_type)

    def check(self) -> None:
        """Check that the size has not changed.

        Raises:
            FileError: It has changed.
        """
        with self._at_work():
            self._expect(self._measure())

    def read(self, start: int, count: int) -> bytes:
        """Read a part of the file.

        Args:
            start: The offset of the first byte.
            count: The number of bytes; fewer are returned only at the end of the file.

        Raises:
            FileError: It cannot be read, or its size has changed.
        """
        with self._at_work():
            wanted = min(count, self.size - start)
            data = self._read(start, wanted)
            if len(data) < wanted or start + wanted == self.size:
                self._expect(self._measure())
            if len(data) < wanted:
                raise self._error(errno.EIO, f"it could not be read to its end at {self.size} bytes")
        return data

    def close(self) -> None:
        """Close the file; may be called from any thread at any time."""
        self._closed = True
        self._settle()

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        try:
            with self._lock, self._translated():
                if self._closed:
                    raise self._error(errno.EBADF, "it was closed because the upload was cancelled")
                yield
        finally:
            self._settle()

    def _settle(self) -> None:
        if self._closed and self._lock.acquire(blocking=False):
            try:
                self._release()
            finally:
                self._lock.release()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except FileError:
            raise
        except OSError as error:
            raise self._error(error.errno or errno.EIO, error.strerror or str(error)) from error

    def _expect(self, size: int) -> None:
        if size != self.size:
            raise self._error(errno.ESTALE, f"its size changed from {self.size} to {size} bytes meanwhile")

    def _error(self, code: int, reason: str) -> FileError:
        return FileError(code, reason, self.filename or None)

    @abstractmethod
    def _open(self) -> int:
        """Open the file and return its size in bytes."""

    @abstractmethod
    def _read(self, start: int, count: int) -> bytes:
        """Read ``count`` bytes, or fewer at the end of the file."""

    @abstractmethod
    def _measure(self) -> int:
        """Return the current size in bytes."""

    @abstractmethod
    def _release(self) -> None:
        """Close what was opened; may be called more than once, and without ``_open``."""


class _Bytes(UploadSource):
    """Bytes in memory, or in a data URI."""

    def __init__(self, source: bytes | str, filename: str, content_type: str) -> None:
        super().__init__(filename, content_type)
        self._source = source
        self._data = b""

    def _open(self) -> int:
        if isinstance(self._source, str):
            kind, self._data = read_data_uri(self._source)
            self.content_type = self.content_type or kind
        else:
            self._data = self._source
        return len(self._data)

    def _read(self, start: int, count: int) -> bytes:
        return self._data[start : start + count]

    def _measure(self) -> int:
        return len(self._data)

    def _release(self) -> None:
        self._data = b""


class _File(UploadSource):
    """A seekable file object; the base of the classes for paths and for file objects.

    Attributes:
        file: The file object, once it is open.
        start: The offset at which the upload begins.
    """

    def __init__(self, filename: str, content_type: str) -> None:
        super().__init__(filename, content_type)
        self.file: BinaryIO | None = None
        self.start = 0

    def _read(self, start: int, count: int) -> bytes:
        assert self.file is not None
        self.file.seek(self.start + start)
        return b"".join(_pieces(self.file, count))

    def _measure(self) -> int:
        assert self.file is not None
        self.file.seek(0, os.SEEK_END)
        return self.file.tell() - self.start


class _Path(_File):
    """A file on disk."""

    def __init__(self, path: Path, filename: str, content_type: str) -> None:
        super().__init__(filename or path.name, content_type)
        self._path = path

    def _open(self) -> int:
        mode = self._path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise self._error(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):  # opening a pipe may block forever
            raise self._error(errno.EINVAL, "it is no regular file; open it yourself and pass the file object")
        self.file = self._path.open("rb")
        return self._measure()

    def _release(self) -> None:
        if self.file is not None:
            self.file.close()

    def _error(self, code: int, reason: str) -> FileError:
        return FileError(code, reason, str(self._path))


class _FileObject(_File):
    """A caller's file object, read from its current position to its end. It is not closed.

    One that is not seekable is copied to a temporary file, because the size has to be announced first and a failed
    attempt has to be repeated. A seekable one is set back to its first position if the upload fails. Two uploads of one
    object at the same time are refused, since each would move the position of the other.
    """

    _in_use: ClassVar[dict[int, _FileObject]] = {}  # by the identity of the file object

    def __init__(self, given: BinaryIO, filename: str, content_type: str) -> None:
        super().__init__(filename or _name_of(given), content_type)
        self._given = given
        self._copied = False

    def _open(self) -> int:
        if self._in_use.setdefault(id(self._given), self) is not self:
            raise self._error(
                errno.EBUSY, "it is being uploaded already; to upload it twice, read it and pass its bytes"
            )
        try:
            _checked(self._given.read(0))
            if _is_seekable(self._given):
                self.start = self._given.tell()
                self.file = self._given
            else:
                self._copy()
        except ValueError as error:  # it is closed, or was opened for writing
            raise self._error(errno.EBADF, f"it cannot be read ({error})") from error
        return self._measure()

    def _copy(self) -> None:
        import tempfile

        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _release
        self._copied = True
        while not self._closed and (piece := _checked(self._given.read(_COPY))):
            self.file.write(piece)

    def _release(self) -> None:
        if self._copied and self.file is not None:
            self.file.close()
        elif self.file is not None and not self.uploaded:
            with contextlib.suppress(ValueError, OSError):  # the caller has closed it
                self.file.seek(self.start)
        if self._in_use.get(id(self._given)) is self:
            del self._in_use[id(self._given)]


def upload_source(source: FileSource, filename: str | None, content_type: str | None) -> UploadSource:
    """Return the source to upload for a file that ``check_source`` has accepted; nothing is opened yet.

    Args:
        source: Anything but a FileRef.
        filename: The name to use, or None for the file's own.
        content_type: The MIME type to use, or None to guess it.

    Raises:
        TypeError: The name or the content type is not a str.
        ConfigurationError: The content type is invalid.
    """
    for what, value in (("filename", filename), ("content_type", content_type)):
        if value is not None and not isinstance(value, str):
            raise TypeError(f"{what} must be a str or None, not {type(value).__name__}")
    kind = check_content_type(content_type) if content_type is not None else ""
    name = filename or ""
    assert not isinstance(source, FileRef)
    if isinstance(source, os.PathLike):
        return _Path(Path(os.fsdecode(source)), name, kind)
    if isinstance(source, str):
        return _Bytes(source, name, kind)
    if isinstance(source, bytes | bytearray | memoryview):
        return _Bytes(bytes(source), name, kind)  # copies only mutable buffers
    return _FileObject(source, name, kind)


def _pieces(file: BinaryIO, count: int) -> Iterator[bytes]:
    """Read ``count`` bytes of a file object, whose ``read`` may return fewer."""
    while count > 0 and (piece := _checked(file.read(count))):
        count -= len(piece)
        yield piece


def _checked(piece: object) -> bytes:
    if not isinstance(piece, bytes | bytearray | memoryview):
        raise TypeError(
            f"a binary file object is needed, and this one's read() returned {type(piece).__name__}; "
            f"open files in binary mode, as in open(..., 'rb')"
        )
    return bytes(piece)


def _is_seekable(file: BinaryIO) -> bool:
    seekable = getattr(file, "seekable", None)
    return bool(seekable()) if callable(seekable) else False


def _name_of(file: BinaryIO) -> str:
    """Return the base name of a file object; "" if it has none, such as ``<stdin>`` or a descriptor's number."""
    name = getattr(file, "name", None)
    return os.path.basename(name) if isinstance(name, str) and not name.startswith("<") else ""  # noqa: PTH119
