"""The bodies of requests about chats, parsed into what they ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

from inferencesh._text import encode_json
from inferencesh.local.errors import invalid
from inferencesh.local.files import host_and_port
from inferencesh.local.records import Block

from .forms import read_agent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from inferencesh.local.chats import AgentDefinition
    from inferencesh.local.files import FileStore

    from .fields import Fields

__all__ = ["AttachmentReader", "NewChat", "NewMessage", "NewResult", "RunRequest"]

MAX_TOOL_ATTACHMENTS = 20


@attrs.frozen
class NewMessage:
    """A user's message, with the agent definition that may be sent along."""

    text: str
    attachments: tuple[Block, ...] = ()
    agent: AgentDefinition | None = None

    @classmethod
    def from_chat_body(cls, body: Fields, attachments: AttachmentReader) -> NewMessage:
        """Parse the body of ``POST /chats/{id}/messages``."""
        body.require("message")
        return cls(body.text("message") or "", attachments.read(body))


@attrs.frozen
class NewChat:
    """The agent and the context of a chat that is to be created."""

    agent: AgentDefinition
    context: Mapping[str, str]

    @classmethod
    def from_body(cls, body: Fields) -> NewChat:
        """Parse the body of ``POST /chats``."""
        agent = read_agent(body, required=True)
        assert agent is not None
        return cls(agent, body.text_map("context") or {})


@attrs.frozen
class RunRequest:
    """The body of ``POST /agents/run``. Exactly one of ``chat_id`` and ``chat`` is set."""

    message: NewMessage
    chat_id: str | None
    chat: NewChat | None
    stream: bool

    @classmethod
    def from_body(cls, body: Fields, attachments: AttachmentReader) -> RunRequest:
        """Parse the body as the official clients send it, in its current and its older forms."""
        message = body.nested("input")
        if message is None:
            raise invalid("input", "is missing.")
        files = attachments.read(message)
        if not files:
            message.require("text")
        body.text("agent_name")
        chat_id = body.text("chat_id") or None  # some clients send "" for a new chat
        agent = read_agent(body, required=chat_id is None)
        # A reference contains no definition: an existing chat keeps the one it was created with.
        update = agent if "agent_config" in body or "config" in body else None
        context = body.text_map("context") or {}
        return cls(
            message=NewMessage(message.text("text") or "", files, update),
            chat_id=chat_id,
            chat=NewChat(agent, context) if chat_id is None and agent is not None else None,
            stream=body.flag("stream"),
        )


@attrs.frozen
class NewResult:
    """The result of a tool call."""

    text: str
    attachments: tuple[Block, ...] = ()

    @classmethod
    def from_body(cls, body: Fields, attachments: AttachmentReader) -> NewResult:
        """Parse the body of ``POST /tools/{id}``.

        The action on a widget is JSON text in ``result``, or a plain object as the JavaScript SDK's React components
        send it.
        """
        action = body.mapping("action")
        if action is not None and "result" not in body:
            form: dict[str, object] = {"action": action, "form_data": body.mapping("form_data")}
            return cls(encode_json(form).decode())
        body.require("result")
        files = attachments.read(body)
        if len(files) > MAX_TOOL_ATTACHMENTS:
            raise invalid("attachments", f"must be {MAX_TOOL_ATTACHMENTS} files or fewer.")
        return cls(body.text("result") or "", files)


@attrs.frozen
class AttachmentReader:
    """Parses the attachments of messages and results into content blocks.

    URLs of other servers are accepted as they are; a URL of this runtime must be that of an uploaded file.

    Args:
        files: The runtime's files.
        origin: The base URL with which the client reaches the runtime, such as ``http://127.0.0.1:8420``.
    """

    _files: FileStore
    _origin: str

    def read(self, fields: Fields) -> tuple[Block, ...]:
        """Return the attachments of a body, as blocks.

        The older fields ``images``, ``files`` and ``image`` are only used if there are no ``attachments``.

        Raises:
            ProblemError: 422 if an attachment is malformed or its file is missing.
        """
        return tuple(self._read_attachments(fields)) or tuple(self._read_older_fields(fields))

    def _read_attachments(self, fields: Fields) -> Iterator[Block]:
        for each in fields.objects("attachments"):
            each.require("uri")
            size = max(0, each.count("size") or 0)
            uri = each.text("uri") or ""
            content_type = each.text("content_type") or _type_of_data(uri)
            yield self._complete(_block(uri, each.text("filename") or "", content_type, size), each.path("uri"))

    def _read_older_fields(self, fields: Fields) -> Iterator[Block]:
        for index, uri in enumerate(fields.texts("images")):
            yield self._complete(Block("image", uri=uri), fields.path(f"images[{index}]"))
        for index, uri in enumerate(fields.texts("files")):
            yield self._complete(Block("file", uri=uri), fields.path(f"files[{index}]"))
        if (image := fields.text("image")) is not None:
            yield self._complete(Block("image", uri=image), fields.path("image"))

    def _complete(self, block: Block, path: str) -> Block:
        """Return the block, with details that the client left out if the file belongs to this runtime."""
        uri = block.uri or ""
        file = self._files.by_uri(uri)
        if file is None:
            if host_and_port(uri) == host_and_port(self._origin):
                raise invalid(path, "refers to no file of this runtime: it was deleted, or never announced.")
            return block
        if file.content is None:
            raise invalid(path, "refers to a file that was never uploaded; PUT its bytes to its upload_url first.")
        known = _block(uri, block.filename or file.filename, block.content_type or file.content_type, file.size)
        if block.type == "image":  # sent as one, whatever its type was announced to be
            known.type = "image"
        return known


def _block(uri: str, filename: str, content_type: str, size: int) -> Block:
    kind: Literal["image", "file"] = "image" if content_type.lower().startswith("image/") else "file"
    return Block(kind, uri=uri, filename=filename, content_type=content_type, size=size)


def _type_of_data(uri: str) -> str:
    """Return the MIME type that a ``data:`` URI begins with, "" for other addresses."""
    scheme, _, rest = uri.partition(":")
    return rest.partition(",")[0].partition(";")[0] if scheme.lower() == "data" else ""
