"""Text that grows by pieces while snapshots of it stay as they were."""

from __future__ import annotations

__all__ = ["GrowingText", "TextLog"]


class TextLog:
    """A text that grows by pieces, of which every earlier state stays readable at no cost until it is read.

    A snapshot of a reply that arrives token by token must not copy the whole text for each token. One log serves all
    snapshots of a message: they hold how long the text was, and it is joined when somebody asks. One thread appends;
    any number may read meanwhile, since what readers look at is replaced whole, and never changed but by appending.
    """

    __slots__ = ("_base", "_joined", "length")

    _FOLD = 1024  # pieces; what nobody reads is joined now and then, so that memory follows the text, not the pieces

    def __init__(self, text: str = "") -> None:
        pieces: list[str] = []
        self._base = (text, pieces)  # the text up to the last fold, and what was added since
        self._joined = (pieces, 0, text)  # the longest text that was read: of which pieces, how many of them
        self.length = len(text)

    def append(self, piece: str) -> None:
        """Add a piece at the end."""
        head, pieces = self._base
        pieces.append(piece)
        self.length += len(piece)
        if len(pieces) >= self._FOLD:
            self._base = (head + "".join(pieces), [])

    def read(self, length: int) -> str:
        """The first ``length`` characters."""
        head, pieces = self._base
        of, count, text = self._joined
        if of is not pieces:
            count, text = 0, head
        if len(text) < length:
            total = len(pieces)
            text += "".join(pieces[count:total])
            self._joined = (pieces, total, text)
        return text if len(text) == length else text[:length]


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
