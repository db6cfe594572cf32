"""The files that clients upload: what is known of each, where the bytes are kept, and how files are found."""

from __future__ import annotations

import re
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import attrs

from .errors import not_found
from .records import Record, new_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from .chats import StoredChat
    from .records import Recorder, Wire

__all__ = [
    "CONTENT_PATH",
    "PART",
    "UPLOAD_PATH",
    "Contents",
    "FileStore",
    "MemoryContents",
    "StoredFile",
    "host_and_port",
    "is_loopback",
    "is_media_type",
    "update_file_urls",
]

UPLOAD_PATH, CONTENT_PATH = "/uploads/", "/content/"

_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+( *;[ -~]*)?", re.ASCII)
_LONGEST_TYPE = 255

PART = 256 * 1024
"""The size of the parts in which files are stored and sent, in bytes."""


@attrs.define(eq=False, kw_only=True)
class StoredFile(Record):
    """One file, announced or uploaded.

    ``upload_token`` and ``content_token`` grant access to the URLs they are part of. They differ because the URL for
    reading is sent along with messages, and its readers must not be able to replace the file. ``declared_size`` is the
    announced size in bytes, or 0 if it was not given; ``content`` identifies the bytes once they are uploaded.
    """

    filename: str
    content_type: str
    path: str = ""
    category: str = ""
    declared_size: int = 0
    size: int = 0
    content: str | None = None
    upload_token: str = attrs.field(factory=new_id)
    content_token: str = attrs.field(factory=new_id)

    def uri(self, origin: str) -> str:
        """Return the URL for reading the file, for clients that reach the runtime at ``origin``."""
        return f"{origin}{CONTENT_PATH}{self.content_token}"

    def wire(self, origin: str) -> Wire:
        """Return the file in wire form; the upload URL is included until the file is uploaded."""
        uploaded = self.content is not None
        return {
            **self.base(),
            "path": self.path,
            "remote_path": "",
            "upload_url": "" if uploaded else f"{origin}{UPLOAD_PATH}{self.upload_token}",
            "uri": self.uri(origin),
            "content_type": self.content_type,
            "size": self.size if uploaded else self.declared_size,
            "filename": self.filename,
            "category": self.category,
            "rating": "",
            "metadata": None,
        }


class Contents(Protocol):
    """A store for the bytes of files, in parts of ``PART`` bytes of which only the last may be shorter."""

    async def add_part(self, content: str, number: int, data: bytes) -> None:
        """Store the next part."""
        ...

    async def read_part(self, content: str, number: int) -> bytes | None:
        """Return a part, or None if there is no such part."""
        ...

    def drop(self, content: str) -> None:
        """Delete all parts of a content, possibly later."""
        ...


@attrs.define
class MemoryContents:
    """The bytes of files, in memory."""

    _parts: dict[str, list[bytes]] = attrs.field(factory=dict)

    async def add_part(self, content: str, number: int, data: bytes) -> None:
        """Store the next part."""
        parts = self._parts.setdefault(content, [])
        assert len(parts) == number
        parts.append(data)

    async def read_part(self, content: str, number: int) -> bytes | None:
        """Return a part, or None if there is no such part."""
        parts = self._parts.get(content, [])
        return parts[number] if number < len(parts) else None

    def drop(self, content: str) -> None:
        """Delete all parts of a content."""
        self._parts.pop(content, None)


@attrs.define
class FileStore:
    """The files of one runtime, found by identifier, token or URL."""

    contents: Contents = attrs.field(factory=MemoryContents)
    recorder: Recorder | None = None
    _by_id: dict[str, StoredFile] = attrs.field(factory=dict)
    _by_upload: dict[str, StoredFile] = attrs.field(factory=dict)
    _by_content: dict[str, StoredFile] = attrs.field(factory=dict)

    def all(self) -> Iterable[StoredFile]:
        """Return every file."""
        return self._by_id.values()

    def load(self, files: Iterable[StoredFile]) -> None:
        """Add files without recording them, such as those read from the database."""
        for file in files:
            self._by_id[file.id] = file
            self._by_upload[file.upload_token] = file
            self._by_content[file.content_token] = file

    def add(self, file: StoredFile) -> None:
        """Add a file that a client announced."""
        self.load([file])
        self._note(file)

    def get(self, file_id: str) -> StoredFile:
        """Return a file.

        Raises:
            ProblemError: 404 if there is no such file.
        """
        if file_id not in self._by_id:
            raise not_found("file", file_id)
        return self._by_id[file_id]

    def by_upload_token(self, token: str) -> StoredFile:
        """Return the file whose upload URL has this token.

        Raises:
            ProblemError: 404 if there is none.
        """
        if token not in self._by_upload:
            raise not_found("upload address", token)
        return self._by_upload[token]

    def by_content_token(self, token: str) -> StoredFile:
        """Return the uploaded file whose URL for reading has this token.

        Raises:
            ProblemError: 404 if there is none.
        """
        file = self._by_content.get(token)
        if file is None or file.content is None:
            raise not_found("uploaded file", token)
        return file

    def by_uri(self, uri: str) -> StoredFile | None:
        """Return the file, uploaded or not, with this URL for reading; None if there is no such file here.

        Only the path is compared, since a restarted runtime may have another address.
        """
        try:
            path = urlsplit(uri).path
        except ValueError:  # not a URL, such as one with an incomplete IPv6 host
            return None
        return self._by_content.get(path.removeprefix(CONTENT_PATH)) if path.startswith(CONTENT_PATH) else None

    def reader(self, uri: str) -> Callable[[], Awaitable[bytes]] | None:
        """Return a function that reads an uploaded file; None if the URL is not that of one."""
        file = self.by_uri(uri)
        return None if file is None or file.content is None else partial(self.read, file)

    async def read(self, file: StoredFile) -> bytes:
        """Return the bytes of a file; none if it was not uploaded.

        Raises:
            FileNotFoundError: It was deleted or replaced meanwhile.
        """
        data, number, content = bytearray(), 0, file.content
        while content is not None and (part := await self.contents.read_part(content, number)) is not None:
            data += part
            number += 1
        if len(data) < file.size:
            raise FileNotFoundError(f"The file {(file.filename or file.id)!r} was deleted or replaced.")
        return bytes(data)

    def set_content(self, file: StoredFile, content: str, size: int) -> str | None:
        """Set the uploaded content of a file, and return the content that it replaces, if any.

        Raises:
            ProblemError: 404 if the file was deleted in the meantime.
        """
        self.get(file.id)
        old, file.content, file.size = file.content, content, size
        file.touch()
        self._note(file)
        return old

    def delete(self, file: StoredFile) -> None:
        """Delete a file and its bytes."""
        del self._by_id[file.id], self._by_upload[file.upload_token], self._by_content[file.content_token]
        if self.recorder is not None:
            self.recorder.forget(file)
        if file.content is not None:
            self.contents.drop(file.content)

    def _note(self, file: StoredFile) -> None:
        if self.recorder is not None:
            self.recorder.note(file)


def update_file_urls(chats: Iterable[StoredChat], files: FileStore, origin: str) -> None:
    """Update the URLs of this runtime's files in stored messages.

    A runtime that chooses its port itself has another one after each start. Only URLs with a loopback host are
    changed: how other machines reach the runtime is not known here.

    Args:
        chats: The chats read from the database.
        files: The runtime's files.
        origin: The runtime's current base URL.
    """
    for message in (message for chat in chats for message in chat.messages):
        for block in (*message.blocks, *(each for call in message.invocations for each in call.attachments)):
            file = None if block.uri is None else files.by_uri(block.uri)
            place = host_and_port(block.uri or "")
            if file is not None and place is not None and place[0] == _LOOPBACK:
                block.uri = file.uri(origin)


def is_media_type(text: str) -> bool:
    """Whether a text is a MIME type, which may have parameters, and short enough for a header."""
    return len(text) <= _LONGEST_TYPE and _MEDIA_TYPE.fullmatch(text) is not None


_LOOPBACK = "localhost"
_PORTS = {"http": 80, "https": 443}


def host_and_port(uri: str) -> tuple[str, int | None] | None:
    """Return host and port of an HTTP URL, with ``localhost`` for all loopback hosts; None for any other text."""
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not host:
        return None
    return _LOOPBACK if is_loopback(host) else host, port or _PORTS[parts.scheme]


def is_loopback(host: str) -> bool:
    """Whether a host name or address is a loopback one."""
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == _LOOPBACK
