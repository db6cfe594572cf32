"""Reading the files that a message or a tool's result carries."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from attrs import frozen

from .problems import invalid
from .records import Block

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .chats import Chat
    from .fields import Fields
    from .files import Files

__all__ = ("AttachmentReader",)

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
