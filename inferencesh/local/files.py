"""Reading the files that a message or a tool's result carries."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import urlsplit

from attrs import define, field, frozen

from .errors import invalid, not_found
from .records import Block, Record, new_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._api.fields import Fields
    from ._store.journal import Recorder
    from .chats import Chat
    from .records import Wire

__all__ = [
    "CONTENT_PATH",
    "PART",
    "UPLOAD_PATH",
    "AttachmentReader",
    "Contents",
    "Files",
    "MemoryContents",
    "StoredFile",
]

UPLOAD_PATH, CONTENT_PATH = "/uploads/", "/content/"

PART = 256 * 1024
"""Bytes of a file that are stored, and sent, at a time."""


@define(eq=False, kw_only=True)
class StoredFile(Record):
    """One file, announced or uploaded.

    Whoever knows a token may use the address that it is part of. There are two, because the address for reading travels
    with messages and must not let its readers replace the file. `declared_size` is what the client announced, 0 when it
    did not say; `content` names the bytes, once they are there.
    """

    filename: str
    content_type: str
    path: str = ""
    category: str = ""
    declared_size: int = 0
    size: int = 0
    content: str | None = None
    upload_token: str = field(factory=new_id)
    content_token: str = field(factory=new_id)

    def uri(self, origin: str) -> str:
        """Return where it is read, as seen by those who reach the runtime at `origin`."""
        return f"{origin}{CONTENT_PATH}{self.content_token}"

    def wire(self, origin: str) -> Wire:
        """Return the file as the wire has it; the address for its upload is shown until it has been used."""
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
    """Where the bytes of files are kept, in parts of `PART` bytes, each but the last full."""

    async def add_part(self, content: str, number: int, data: bytes) -> None:
        """Keep the next part."""
        ...

    async def read_part(self, content: str, number: int) -> bytes | None:
        """Return a part; None when there is none."""
        ...

    def drop(self, content: str) -> None:
        """Forget all parts of a content, soon."""
        ...


@define
class MemoryContents:
    """Keeps the bytes of files in memory."""

    _parts: dict[str, list[bytes]] = field(factory=dict)

    async def add_part(self, content: str, number: int, data: bytes) -> None:
        """Keep the next part."""
        parts = self._parts.setdefault(content, [])
        assert len(parts) == number
        parts.append(data)

    async def read_part(self, content: str, number: int) -> bytes | None:
        """Return a part; None when there is none."""
        parts = self._parts.get(content, [])
        return parts[number] if number < len(parts) else None

    def drop(self, content: str) -> None:
        """Forget all parts of a content."""
        self._parts.pop(content, None)


@define
class Files:
    """The files of one runtime, found by identifier, by token and by address."""

    contents: Contents = field(factory=MemoryContents)
    recorder: Recorder | None = None
    _by_id: dict[str, StoredFile] = field(factory=dict)
    _by_upload: dict[str, StoredFile] = field(factory=dict)
    _by_content: dict[str, StoredFile] = field(factory=dict)

    def all(self) -> Iterable[StoredFile]:
        """Return every file."""
        return self._by_id.values()

    def load(self, files: Iterable[StoredFile]) -> None:
        """Take in files that are stored already."""
        for file in files:
            self._by_id[file.id] = file
            self._by_upload[file.upload_token] = file
            self._by_content[file.content_token] = file

    def add(self, file: StoredFile) -> None:
        """Take in a file that a client announced."""
        self.load([file])
        self._note(file)

    def get(self, file_id: str) -> StoredFile:
        """Return a file, or refuse with 404."""
        if file_id not in self._by_id:
            raise not_found("file", file_id)
        return self._by_id[file_id]

    def for_upload(self, token: str) -> StoredFile:
        """Return the file whose upload address has this token, or refuse with 404."""
        if token not in self._by_upload:
            raise not_found("upload address", token)
        return self._by_upload[token]

    def for_reading(self, token: str) -> StoredFile:
        """Return the uploaded file whose address has this token, or refuse with 404."""
        file = self._by_content.get(token)
        if file is None or file.content is None:
            raise not_found("uploaded file", token)
        return file

    def named_by(self, uri: str) -> StoredFile | None:
        """Return the file an address leads to, uploaded or not; None when it is none of this runtime's.

        Only the path counts: a runtime that was started again may listen elsewhere.
        """
        try:
            path = urlsplit(uri).path
        except ValueError:  # no address at all, such as one with half an IPv6 host
            return None
        return self._by_content.get(path.removeprefix(CONTENT_PATH)) if path.startswith(CONTENT_PATH) else None

    def uploaded(self, file: StoredFile, content: str, size: int) -> str | None:
        """Note that a file's bytes are there; returns the content that they replace.

        Raises:
            ProblemError: 404 when the file was deleted meanwhile.
        """
        self.get(file.id)
        old, file.content, file.size = file.content, content, size
        file.touch()
        self._note(file)
        return old

    def delete(self, file: StoredFile) -> None:
        """Forget a file and its bytes."""
        del self._by_id[file.id], self._by_upload[file.upload_token], self._by_content[file.content_token]
        if self.recorder is not None:
            self.recorder.forget(file)
        if file.content is not None:
            self.contents.drop(file.content)

    def _note(self, file: StoredFile) -> None:
        if self.recorder is not None:
            self.recorder.note(file)


_LOOPBACK = "localhost"
_PORTS = {"http": 80, "https": 443}


@frozen
class AttachmentReader:
    """Turns what clients name into blocks of a message.

    Addresses elsewhere are taken as they are; one of this runtime must be that of a file that was uploaded.

    Args:
        files: The runtime's files.
        origin: Where the client reaches the runtime, as in `http://127.0.0.1:8420`.
    """

    _files: Files
    _origin: str

    def read(self, fields: Fields) -> tuple[Block, ...]:
        """Read the files of a message; the older lists of addresses count only when there are no attachments.

        Raises:
            ProblemError: 422 when one is not there, or is not well formed.
        """
        blocks: list[Block] = []
        for each in fields.objects("attachments"):
            each.require("uri")
            uri = each.text("uri") or ""
            size = max(0, each.count("size") or 0)
            named = _block(uri, each.text("filename") or "", each.text("content_type") or "", size)
            blocks.append(self._known(named, each.path("uri")))
        return tuple(blocks) or tuple(self._read_older(fields))

    def _read_older(self, fields: Fields) -> list[Block]:
        named = [
            *((Block("image", uri=uri), f"images[{at}]") for at, uri in enumerate(fields.texts("images"))),
            *((Block("file", uri=uri), f"files[{at}]") for at, uri in enumerate(fields.texts("files"))),
        ]
        if (image := fields.text("image")) is not None:
            named.append((Block("image", uri=image), "image"))
        return [self._known(block, fields.path(name)) for block, name in named]

    def _known(self, block: Block, path: str) -> Block:
        """Return the block with what is known of a file of this runtime, where the client does not say otherwise."""
        uri = block.uri or ""
        file = self._files.named_by(uri)
        if file is None:
            if _place(uri) == _place(self._origin):
                raise invalid(path, "names no file of this runtime: it was deleted, or never announced.")
            return block
        if file.content is None:
            raise invalid(path, "names a file that was never uploaded; PUT its bytes to its upload_url first.")
        return _block(uri, block.filename or file.filename, block.content_type or file.content_type, file.size)


def _block(uri: str, filename: str, content_type: str, size: int) -> Block:
    kind: Literal["image", "file"] = "image" if content_type.lower().startswith("image/") else "file"
    return Block(kind, uri=uri, filename=filename, content_type=content_type, size=size)


def move_addresses(chats: Iterable[Chat], files: Files, origin: str) -> None:
    """Give the files of stored messages the addresses they have now.

    A runtime that picks its port itself has another one each time; what other machines know it by is left alone.

    Args:
        chats: The chats as they were stored.
        files: The runtime's files.
        origin: Where it listens now.
    """
    for message in (message for chat in chats for message in chat.messages):
        for block in (*message.blocks, *(each for call in message.invocations for each in call.attachments)):
            file = None if block.uri is None else files.named_by(block.uri)
            place = _place(block.uri or "")
            if file is not None and place is not None and place[0] == _LOOPBACK:
                block.uri = file.uri(origin)


def _place(uri: str) -> tuple[str, int | None] | None:
    """Return host and port of an address, all names of this machine's loopback interface being one; None without."""
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not host:
        return None
    return _LOOPBACK if _is_loopback(host) else host, port or _PORTS[parts.scheme]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == _LOOPBACK
