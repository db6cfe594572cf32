"""Print texts that grow: in place on a terminal, and otherwise only the first updates and the last.

Used by ``streaming.py``.
"""

from __future__ import annotations

import inspect
import os
import shutil
import sys
import textwrap
from collections.abc import Callable

__all__ = ["Screen"]

WIDEST = 100  # columns
FIRST = 3  # updates to print before leaving out the rest, if they cannot be replaced


class Screen:
    """Standard output whose last text can be replaced."""

    def __init__(self) -> None:
        self._in_place = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._updates = 0  # how often the last text was printed
        self._latest = ""
        self._height = 0  # how many lines of the terminal it takes

    def heading(self, title: str) -> None:
        """Begin a section."""
        self.end()
        print(f"\n{self._styled(title, '1')}\n{'-' * len(title)}", flush=True)

    def code(self, function: Callable[..., object]) -> None:
        """Print the body of a function."""
        body = textwrap.dedent(inspect.getsource(function).partition(":\n")[2])
        print(self._styled(textwrap.indent(body, "    "), "2"), flush=True)

    def line(self, text: str) -> None:
        """Print a text that is not replaced."""
        self.end()
        print(text, flush=True)

    def rewrite(self, text: str) -> None:
        """Print a text in place of the one before, if that was printed with ``rewrite`` too."""
        if self._updates and text == self._latest:
            return
        self._updates += 1
        self._latest = text
        if self._in_place:
            lines = self._wrapped(text)
            back = f"\x1b[{self._height}A\r\x1b[J" if self._height else ""
            print(back + "\n".join(lines), flush=True)
            self._height = len(lines)
        elif self._updates <= FIRST:
            print(f"update {self._updates}: {text}".rstrip(), flush=True)

    def end(self) -> int:
        """Keep the last text as it is.

        Returns:
            How often it was updated.
        """
        updates, latest = self._updates, self._latest
        self._updates = self._height = 0
        if not self._in_place and updates > FIRST:
            print("...")
            print("\n".join(textwrap.wrap(f"update {updates}: {latest}", WIDEST)), flush=True)
        return updates

    def conclude(self) -> None:
        """End a section, and print how often its last text was updated."""
        if updates := self.end():
            print(f"({updates} updates, each the complete message so far)", flush=True)

    def _wrapped(self, text: str) -> list[str]:
        size = shutil.get_terminal_size()
        lines = [
            line
            for paragraph in text.split("\n")
            for line in textwrap.wrap(paragraph, max(20, min(size.columns - 1, WIDEST))) or [""]
        ]
        return lines[-max(1, size.lines - 1) :]  # lines that have scrolled away cannot be replaced

    def _styled(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._in_place and "NO_COLOR" not in os.environ else text
