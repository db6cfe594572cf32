"""Shows texts that grow: in place on a terminal, shortened to a few lines everywhere else."""

from __future__ import annotations

import inspect
import os
import shutil
import sys
import textwrap
from collections.abc import Callable

__all__ = ["Screen"]

WIDEST = 100  # columns
FIRST = 3  # updates shown before the rest is left out, where nothing can be shown in place


class Screen:
    """Standard output, with one text at its end that may be replaced."""

    def __init__(self) -> None:
        self._in_place = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._updates = 0  # of the text at the end
        self._latest = ""
        self._height = 0  # lines of it on the terminal

    def heading(self, title: str) -> None:
        """Begin a section."""
        self.end()
        print(f"\n{self._styled(title, '1')}\n{'-' * len(title)}", flush=True)

    def code(self, function: Callable[..., object]) -> None:
        """Show what stands in a function."""
        body = textwrap.dedent(inspect.getsource(function).partition(":\n")[2])
        print(self._styled(textwrap.indent(body, "    "), "2"), flush=True)

    def line(self, text: str) -> None:
        """Print a text that stays."""
        self.end()
        print(text, flush=True)

    def rewrite(self, text: str) -> None:
        """Print a text in the place of the one that was printed like this just before."""
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
            print(f"update {self._updates}: {text}", flush=True)

    def end(self) -> int:
        """Leave the text as it is now.

        Returns:
            How many updates it has had.
        """
        updates, latest = self._updates, self._latest
        self._updates = self._height = 0
        if not self._in_place and updates > FIRST:
            print("...")
            print("\n".join(textwrap.wrap(f"update {updates}: {latest}", WIDEST)), flush=True)
        return updates

    def conclude(self) -> None:
        """End a section, and say how often its last text was updated."""
        if updates := self.end():
            print(f"({updates} updates, each the complete message so far)", flush=True)

    def _wrapped(self, text: str) -> list[str]:
        size = shutil.get_terminal_size()
        lines = [
            line
            for paragraph in text.split("\n")
            for line in textwrap.wrap(paragraph, max(20, min(size.columns - 1, WIDEST))) or [""]
        ]
        return lines[-max(1, size.lines - 1) :]  # what has scrolled away cannot be rewritten

    def _styled(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._in_place and "NO_COLOR" not in os.environ else text
