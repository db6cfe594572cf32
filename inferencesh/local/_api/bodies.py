"""The bodies of the runtime's requests, read into what they ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from inferencesh._text import encode_json
from inferencesh.local.errors import invalid

from .forms import read_agent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inferencesh.local.files import AttachmentReader
    from inferencesh.local.records import Block

    from .fields import Fields
    from .forms import AgentConfig

__all__ = ["NewChat", "Post", "RunRequest", "ToolResult", "read_page_limit"]

MAX_TOOL_ATTACHMENTS = 20
DEFAULT_PAGE, MAX_PAGE = 50, 200


@frozen
class Post:
    """A user's message as it comes in, with the agent definition it may bring along."""

    text: str
    attachments: tuple[Block, ...] = ()
    config: AgentConfig | None = None

    @classmethod
    def from_chat_body(cls, body: Fields, attachments: AttachmentReader) -> Post:
        """Read the body of `POST /chats/{id}/messages`."""
        body.require("message")
        return cls(body.text("message") or "", attachments.read(body))


@frozen
class NewChat:
    """What a chat is created with."""

    config: AgentConfig
    context: Mapping[str, str]

    @classmethod
    def from_body(cls, body: Fields) -> NewChat:
        """Read the body of `POST /chats`, or that of a run that opens a chat."""
        config = read_agent(body, required=True)
        assert config is not None
        return cls(config, body.text_map("context") or {})


@frozen
class RunRequest:
    """The body of `POST /agents/run`. Exactly one of `chat_id` and `chat` is set."""

    post: Post
    chat_id: str | None
    chat: NewChat | None
    stream: bool

    @classmethod
    def from_body(cls, body: Fields, attachments: AttachmentReader) -> RunRequest:
        """Read what the official clients send, in its present and its older forms."""
        message = body.nested("input")
        if message is None:
            raise invalid("input", "is missing.")
        files = attachments.read(message)
        if not files:
            message.require("text")
        body.text("agent_name")
        chat_id = body.text("chat_id")
        config = read_agent(body, required=chat_id is None)
        # A template has no definition to bring along: a chat keeps the one it was created with.
        update = config if "agent_config" in body or "config" in body else None
        context = body.text_map("context") or {}
        return cls(
            post=Post(message.text("text") or "", files, update),
            chat_id=chat_id,
            chat=NewChat(config, context) if chat_id is None and config is not None else None,
            stream=body.flag("stream"),
        )


@frozen
class ToolResult:
    """The answer to a tool call."""

    text: str
    attachments: tuple[Block, ...] = ()

    @classmethod
    def from_body(cls, body: Fields, attachments: AttachmentReader) -> ToolResult:
        """Read the body of `POST /tools/{id}`.

        A widget's action comes as JSON text in `result`, or unwrapped from the JavaScript SDK's React part.
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


def read_page_limit(value: str | int | None) -> int:
    """Return how many items a page is to have; more than the most is cut down to it."""
    if value is None or value == "":
        return DEFAULT_PAGE
    try:
        limit = int(value)
    except ValueError as error:
        raise invalid("limit", "must be a whole number.") from error
    if limit < 1:
        raise invalid("limit", "must be 1 or more.")
    return min(limit, MAX_PAGE)
