"""The whole form of a message as a server sent it, decoded when somebody looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .json_text import decode_json

__all__ = ["Form", "LateForm", "block_of", "decoded"]


class LateForm:
    """A line of a stream that is known to be the whole form of a message with one block, and has not been decoded.

    Args:
        line: The line: a JSON object with the message under ``data``.
    """

    __slots__ = ("_data", "_line")

    def __init__(self, line: bytes) -> None:
        self._line = line
        self._data: dict[str, Any] | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The message."""
        if self._data is None:
            self._data = decode_json(self._line)["data"]
            self._line = b""
        return self._data


Form = Mapping[str, Any] | LateForm


def decoded(form: Form) -> Mapping[str, Any]:
    """A message's whole form, decoded by now."""
    return form.data if isinstance(form, LateForm) else form


def block_of(form: Form) -> Mapping[str, Any]:
    """The only block of a message's late form, or a block itself."""
    if not isinstance(form, LateForm):
        return form
    block: Mapping[str, Any] = form.data["content"][0]
    return block
