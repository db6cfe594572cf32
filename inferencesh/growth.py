"""The common case, made cheap: a pending message of which nothing has changed but that its text has grown.

Of thousands of updates nearly all are of this kind. What did not change is shared with the snapshot before, and only
what did is read. Everything else goes the long way, in ``live``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .growing_text import GrowingText, TextLog
from .models import Content, ContentType, Message

__all__ = ["grown_by_piece", "grown_by_whole"]

_ASIDE = "updated_at"  # changes with every update, and says nothing else


def grown_by_whole(seen: Message, data: Mapping[str, Any]) -> Message | None:
    """The snapshot of a whole form that differs from the one before by more text alone.

    Args:
        seen: The message as read from the whole form before.
        data: The new whole form, as the server sent it.

    Returns:
        The snapshot, or None when more has changed, or less.
    """
    before, content = seen.raw, data.get("content")
    old_content = before.get("content")
    if type(content) is not list or type(old_content) is not list or not len(content) == len(old_content) == 1:
        return None
    rest = {**data, "content": old_content}
    if _ASIDE in before:
        rest[_ASIDE] = before[_ASIDE]
    block, old_block = content[0], old_content[0]
    if rest != before or type(block) is not dict or type(old_block) is not dict:
        return None
    text, old_text = block.get("text"), old_block.get("text")
    if type(text) is not str or type(old_text) is not str or len(text) <= len(old_text):
        return None
    if seen.content[0].type is not ContentType.TEXT or {**block, "text": old_text} != old_block:
        return None
    if not text.startswith(old_text):
        return None
    return _with_text(seen, Content(ContentType.TEXT, text, None, None, None, block), text[len(old_text) :], data)


def grown_by_piece(seen: Message, log: TextLog, piece: str) -> Message:
    """The snapshot after a piece of text; ``log`` holds it already, and ``seen`` is of text alone."""
    return _with_text(seen, Content(ContentType.TEXT, GrowingText(log)), piece, seen.raw)


def _with_text(seen: Message, content: Content, delta: str, raw: Mapping[str, object]) -> Message:
    # Positional: a call by keywords takes half as long again, and nothing here is called more often.
    return Message(
        seen.id,
        seen.chat_id,
        seen.role,
        seen.status,
        (content,),
        seen.tool_calls,
        seen.created_at,
        seen.order,
        seen.run_id,
        delta,
        raw,
    )
