"""What the runtime tells those who keep its records beyond its life."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .records import Record

__all__ = ("Recorder",)


class Recorder(Protocol):
    """Told of each record that is new or has changed in a way that matters; not of every token."""

    def note(self, record: Record) -> None:
        """Have a record stored, as it is when the present step of the event loop is over."""
        ...

    def forget(self, record: Record) -> None:
        """Have a record, and what belongs to it, removed."""
        ...

    async def drain(self, chat_id: str) -> None:
        """Wait until an attempt was made to store what was noted of a chat so far; does not raise when it failed."""
        ...
