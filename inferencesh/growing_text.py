"""Text that grows by pieces while snapshots of it stay as they were."""

from __future__ import annotations

__all__ = ["GrowingText", "TextLog"]


class TextLog:
    """A text that grows by pieces, of which every earlier state stays readable at no cost until it is read.

    A snapshot of a reply that arrives token by token must not copy the whole text for each token. One log serves all
    snapshots of a message: they hold how long the text was, and it is joined when somebody asks. Reading is safe while
    another thread appends.
    """

    __slots__ = ("_head", "_pieces", "length")

    _FOLD = 1024  # pieces; what nobody reads is joined now and then, so that memory follows the text, not the pieces

    def __init__(self, text: str = "") -> None:
        self._head = (text, 0)  # what is joined already, and how many pieces that took; replaced in one assignment
        self._pieces: list[str] = []
        self.length = len(text)

    def append(self, piece: str) -> None:
        """Add a piece at the end."""
        self._pieces.append(piece)
        self.length += len(piece)
        if len(self._pieces) - self._head[1] >= self._FOLD:
            self.read(self.length)

    def read(self, length: int) -> str:
        """The first ``length`` characters."""
        head, used = self._head
        if len(head) < length:
            total = len(self._pieces)
            head += "".join(self._pieces[used:total])
            self._pieces[used:total] = [""] * (total - used)
            self._head = (head, total)
        return head if len(head) == length else head[:length]


class GrowingText:
    """The text of a TextLog as it stood at one moment; ``str()`` reads it."""

    __slots__ = ("_length", "_log")

    def __init__(self, log: TextLog) -> None:
        self._log = log
        self._length = log.length

    def __str__(self) -> str:
        return self._log.read(self._length)

    def is_part_of(self, log: TextLog, length: int) -> bool:
        """Whether it is the first ``length`` characters of ``log``, told without reading it."""
        return self._log is log and self._length == length
