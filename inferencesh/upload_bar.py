"""How far an upload is, on stderr: a bar in a terminal, else one line when it is done."""

from __future__ import annotations

import shutil
import sys
from types import TracebackType
from typing import Self

from .terminal import one_line, tell

__all__ = ["UploadBar"]

_WIDEST = 40  # characters of the bar
_NARROWEST = 8
_UNITS = ("bytes", "KB", "MB", "GB", "TB")


class UploadBar:
    """The bar of one file; a context manager that ends its line, whatever happens.

    Args:
        name: The file's name.
    """

    def __init__(self, name: str) -> None:
        self._name = one_line(name)
        self._terminal = sys.stderr.isatty()
        self._drawn = ""

    def show(self, sent: int, total: int | None) -> None:
        """Show how many bytes of how many are on their way; for ``on_progress``."""
        size = sent if total is None else total
        if self._terminal:
            self._draw(sent / size if size else 1.0, size)

    def finish(self, size: int) -> None:
        """The file has arrived."""
        if not self._terminal:
            tell(f"inferencesh: uploaded {self._name} ({_amount(size)})\n")

    def _draw(self, share: float, size: int) -> None:
        columns = shutil.get_terminal_size().columns - 1  # a full line would wrap around
        facts = f" {share:4.0%} of {_amount(size)}"
        width = min(_WIDEST, columns - len(self._name) - len(facts) - 3)
        line = f"{self._name} [{_bar(share, width)}]{facts}" if width >= _NARROWEST else f"{self._name[-20:]}{facts}"
        line = line[: max(columns, 1)]
        if line != self._drawn:
            tell("\r" + line.ljust(len(self._drawn)))
            self._drawn = line

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._drawn:
            tell("\n")


def _bar(share: float, width: int) -> str:
    full = int(share * width)
    return "#" * full + "-" * (width - full)


def _amount(size: float) -> str:
    """Bytes for people: 999 bytes, 1.2 MB."""
    for unit in _UNITS:
        if size < 1000 or unit == _UNITS[-1]:
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == _UNITS[0] else f"{size:.1f} {unit}"
