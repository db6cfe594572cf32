"""Untrusted text for a terminal, and the lines on stderr."""

from __future__ import annotations

import json
import sys

from inferencesh import ToolCall

__all__ = ["arguments_of", "describe", "forget_keys", "note", "one_line", "report", "visible", "write_stderr"]

# C0 and C1 control characters except newline and tab, and the characters that reverse the direction of text.
_HIDDEN = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)])


def visible(text: str) -> str:
    """Return untrusted text without the characters that control a terminal; newlines and tabs remain."""
    return text.translate(_HIDDEN)


def one_line(text: str) -> str:
    """Return untrusted text as one line without the characters that control a terminal."""
    return " ".join(visible(text).split())


def arguments_of(call: ToolCall, *, indent: int | None = None) -> str:
    """Return the arguments of a call as JSON, or as they came where they are not a JSON object."""
    return call.undecoded_arguments or json.dumps(call.arguments, ensure_ascii=False, indent=indent)


def describe(call: ToolCall) -> str:
    """Return the name of a call and its arguments."""
    return f"{call.name} {arguments_of(call)}"


def forget_keys() -> None:
    """Forget the keys that were pressed and not read yet, if stdin is a terminal."""
    if sys.platform == "win32" or not sys.stdin.isatty():
        return
    import termios

    termios.tcflush(sys.stdin, termios.TCIFLUSH)


def note(text: str) -> None:
    """Write one line about the conversation to stderr."""
    write_stderr(f"inferencesh: {one_line(text)}\n")


def report(error: Exception) -> None:
    """Write one line about an error to stderr."""
    note(f"error: {str(error) or type(error).__name__}")


def write_stderr(text: str) -> None:
    """Write text to stderr at once."""
    sys.stderr.write(text)
    sys.stderr.flush()
