"""The common case, made cheap: a pending message of which nothing has changed but that its text has grown.

Of thousands of updates nearly all are of this kind. What did not change is shared with the snapshot before, and only
what did is read. Everything else goes the long way, in ``live``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .growing_text import GrowingText, TextLog
from .late_form import Form, decoded
from .models import Content, ContentType, Message

__all__ = ["grown_by_line", "grown_by_piece", "grown_by_whole", "text_added"]

_ASIDE = "updated_at"  # changes with every update, and says nothing else


def grown_by_whole(seen: Message, data: Mapping[str, Any]) -> Message | None:
    """The snapshot of a whole form that differs from the one before by more text alone.

    Args:
        seen: The message as read from the whole form before.
        data: The new whole form, as the server sent it.

    Returns:
        The snapshot, or None when more has changed, or less.
    """
    before = decoded(seen.form)
    if type(data) is not dict or type(before) is not dict:
        return None
    piece = text_added(before, data)
    if piece is None:
        return None
    block = data["content"][0]
    return _with_text(seen, Content(ContentType.TEXT, block["text"], None, None, None, block), piece, data)


def text_added(before: dict[str, Any], data: dict[str, Any]) -> str | None:
    """What a message's only block, of text, has gained from one whole form to the next.

    Args:
        before: The earlier form.
        data: The later form; it is the same again afterwards.

    Returns:
        The text, or None when more has changed than that and the time of the last change, or less.
    """
    content, old_content = data.get("content"), before.get("content")
    if type(content) is not list or type(old_content) is not list or not len(content) == len(old_content) == 1:
        return None
    block, old_block = content[0], old_content[0]
    if type(block) is not dict or type(old_block) is not dict or block.get("type", "text") != "text":
        return None
    text, old_text = block.get("text"), old_block.get("text")
    if type(text) is not str or type(old_text) is not str or len(text) <= len(old_text):
        return None
    # What may differ is set to what it was, for the comparison alone: a copy would take ten times as long.
    stamp = data.get(_ASIDE)
    block["text"], data["content"] = old_text, old_content
    if stamp is not None and _ASIDE in before:
        data[_ASIDE] = before[_ASIDE]
    try:
        same = block == old_block and data == before
    finally:
        block["text"], data["content"] = text, content
        if stamp is not None:
            data[_ASIDE] = stamp
    return text[len(old_text) :] if same and text.startswith(old_text) else None


def grown_by_line(seen: Message, log: TextLog, piece: str, form: Form) -> Message:
    """The snapshot of a whole form that is known to add a piece of text to ``seen``; ``log`` holds it already."""
    return _with_text(seen, Content(ContentType.TEXT, GrowingText(log), None, None, None, form), piece, form)


def grown_by_piece(seen: Message, log: TextLog, piece: str) -> Message:
    """The snapshot after a piece of text; ``log`` holds it already, and ``seen`` is of text alone."""
    return _with_text(seen, Content(ContentType.TEXT, GrowingText(log)), piece, seen.form)


def _with_text(seen: Message, content: Content, delta: str, form: Form) -> Message:
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
        form,
    )
