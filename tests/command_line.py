"""Run the command line in real processes: with pipes, in the background, or in a pseudo-terminal."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from .children import start

__all__ = ["COMMAND", "ROOT", "Screen", "Terminal", "address", "environment", "piped", "run", "run_program", "started"]

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-W", "error", "-m", "inferencesh"]
LIMIT = 45.0  # seconds; a process starts slowly on a busy machine

# Makes the terminal named by its first argument the one of this process, and then becomes the program that follows.
_ATTACH = """
import fcntl, os, sys, termios
descriptor = os.open(sys.argv[1], os.O_RDWR)
fcntl.ioctl(descriptor, termios.TIOCSCTTY, 0)
for standard in (0, 1, 2):
    os.dup2(descriptor, standard)
os.execv(sys.argv[2], sys.argv[2:])
"""


def address(base_url: str, api_key: str) -> dict[str, str]:
    """Return the environment variables that make clients use a server."""
    return {"INFERENCE_BASE_URL": base_url, "INFERENCE_API_KEY": api_key}


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of this process with more variables."""
    return {**os.environ, **variables}


def run(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line with pipes until it ends."""
    return subprocess.run(
        [*COMMAND, *arguments],
        check=False,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        cwd=ROOT,
        env=environment(variables),
    )


def run_program(program: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the source of a Python program with warnings as errors until it ends."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        cwd=ROOT,
        env=environment(variables),
    )


@contextmanager
def started(command: Sequence[str], /, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Start a program with pipes, and kill it at the end of the block."""
    process = start(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment(variables),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def piped(*arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Start the command line with pipes."""
    with started([*COMMAND, *arguments], **variables) as process:
        yield process


class Terminal:
    """A program in a terminal, where Ctrl-C and Ctrl-D are keys; a context manager.

    Args:
        command: The program and its arguments.
        variables: Environment variables.
    """

    def __init__(self, command: Sequence[str], /, **variables: str) -> None:
        self._command = command
        screen = {"TERM": "xterm", "COLUMNS": "90", "LINES": "40", "PROMPT_TOOLKIT_NO_CPR": "1"}
        self._variables = {**screen, **variables}
        self._unread = ""

    def expect(self, pattern: str) -> str:
        """Wait until the output matches a pattern; returns the output up to the end of the match."""
        deadline = time.monotonic() + LIMIT
        while (found := re.search(pattern, self._unread)) is None:
            more = self._read(deadline)
            assert more, f"the program has ended before {pattern!r}: {self._unread!r}"
        seen, self._unread = self._unread[: found.end()], self._unread[found.end() :]
        return seen

    def press(self, keys: str) -> None:
        """Press keys; ``\\x03`` is Ctrl-C, ``\\x04`` Ctrl-D."""
        os.write(self._keyboard, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Change the size of the window; programs that are given COLUMNS and LINES do not look at it."""
        fcntl.ioctl(self._keyboard, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self._process.terminate()

    def end(self) -> tuple[int, str]:
        """Wait until the program has ended; returns its exit status and the output not read yet."""
        deadline = time.monotonic() + LIMIT
        while self._read(deadline):
            continue
        return self._process.wait(LIMIT), self._unread

    def interrupt_prompt(self) -> None:
        """Press Ctrl-C at a prompt until the program reacts."""
        self._until_it_reacts(lambda: self.press("\x03"))

    def terminate_prompt(self) -> None:
        """Send SIGTERM to a program at a prompt until it reacts."""
        self._until_it_reacts(self.terminate)

    def _until_it_reacts(self, interrupt: Callable[[], None]) -> None:
        # Python misses a signal that comes between the prompt on the screen and the wait for a key behind it.
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            interrupt()
            if self._is_readable(0.5):
                return

    def _read(self, deadline: float) -> bool:
        """Wait for more output; returns False once the program has closed the terminal."""
        assert self._is_readable(deadline - time.monotonic()), f"nothing more came on the screen: {self._unread!r}"
        try:
            piece = os.read(self._keyboard, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # Linux says so when the last program has closed the terminal
                raise
            return False
        self._unread += piece.decode(errors="replace")
        return bool(piece)

    def _is_readable(self, seconds: float) -> bool:
        readable, _, _ = select.select([self._keyboard], [], [], max(0.0, seconds))
        return bool(readable)

    def __enter__(self) -> Self:
        self._keyboard, screen = pty.openpty()
        try:
            self._process = start(
                [sys.executable, "-c", _ATTACH, os.ttyname(screen), *self._command],
                start_new_session=True,
                cwd=ROOT,
                env=environment(self._variables),
                pass_fds=(screen,),  # held by the program, so that the terminal exists until it has attached itself
            )
        finally:
            os.close(screen)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._keyboard)


class Screen:
    """What a window shows of a reply, with what has left it at the top.

    Args:
        height: The lines of the window.
    """

    def __init__(self, height: int) -> None:
        self.height = height
        self._lines = [""]
        self._line = self._column = 0

    def write(self, output: str) -> None:
        """Show text, and obey the few sequences that lines and replies are drawn with."""
        for text, count, order in re.findall(r"([^\x1b]+)|\x1b\[([\d;?]*)([A-Za-z])", output):
            if order == "A":
                self._line = max(self._line - int(count or 1), len(self._lines) - self.height, 0)
            elif order in {"C", "D"}:
                self._column = max(self._column + int(count or 1) * (1 if order == "C" else -1), 0)
            elif order == "K":
                self._lines[self._line] = self._lines[self._line][: self._column]
            elif order == "J":
                self._lines[self._line] = self._lines[self._line][: self._column]
                del self._lines[self._line + 1 :]
            else:
                assert text or order in {"m", "h", "l"}, f"not known to the screen: {count}{order}"
            for character in text:
                self._put(character)

    def wrap(self, width: int) -> None:
        """Wrap lines that are longer than a narrower window, as many terminals do, but not all."""
        above = len(self._lines) - self._line
        self._lines = [line[at : at + width] for line in self._lines for at in range(0, max(len(line), 1), width)]
        self._line = len(self._lines) - above

    def _put(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._line += 1
            if self._line == len(self._lines):
                self._lines.append("")
        else:
            line = self._lines[self._line].ljust(self._column)
            self._lines[self._line] = line[: self._column] + character + line[self._column + 1 :]
            self._column += 1

    @property
    def text(self) -> str:
        """All lines, also those above the window."""
        return "\n".join(line.rstrip() for line in self._lines)
