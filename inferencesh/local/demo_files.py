"""What the demo model says about files: that it got them, and that it cannot look at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .model import Attachment, ConversationMessage

__all__ = ("admit_files",)


def admit_files(messages: Sequence[ConversationMessage]) -> str:
    """Return a sentence about the files that came since, and with, the user's last message; "" without any."""
    files: list[Attachment] = []
    for message in messages:
        if message.role == "user":
            files.clear()
        files.extend(message.attachments)
    if not files:
        return ""
    them = "it" if len(files) == 1 else "them"
    return f"I got {', '.join(map(_described, files))}, but I am a stand-in that cannot look at {them}. "


def _described(file: Attachment) -> str:
    size = f"{file.size} byte{'' if file.size == 1 else 's'}" if file.size else ""
    known = ", ".join(filter(None, (file.content_type, size)))
    name = file.filename or "a file without a name"
    return f"{name} ({known})" if known else name
