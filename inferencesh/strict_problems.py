"""What was wrong with a JSON value that should have been of a type, in words: each place, and what was expected."""

from __future__ import annotations

import reprlib
from typing import Any

from .exception_text import exception_text
from .hints import type_name

__all__ = ["MismatchError", "problems", "short", "told"]

_MOST_SHOWN = 300  # characters of one problem
_MOST_TOLD = 5  # problems of one value

_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = _shortened.maxlong = 60
_shortened.maxlevel = 2


def short(value: object) -> str:
    """A value's repr, cut where it is long."""
    return _shortened.repr(value)


class MismatchError(ValueError):
    """A value is not of the type it should be of.

    Args:
        expected: The type, or what is expected in words.
        value: What has come.
    """

    def __init__(self, expected: Any, value: object) -> None:
        self.expected = expected if isinstance(expected, str) else type_name(expected)
        super().__init__(f"expected {self.expected}, got {short(value)}")


def told(error: BaseException, root: str = "") -> str:
    """What was wrong with a value, in one line: all places, or the first of very many.

    Args:
        error: What reading it raised.
        root: What the value itself is called; places are told from there.
    """
    found = problems(error, root)
    rest = f" (and {len(found) - _MOST_TOLD} more)" if len(found) > _MOST_TOLD else ""
    return "; ".join(found[:_MOST_TOLD]) + rest


def problems(error: BaseException, root: str = "") -> list[str]:
    """What was wrong with a value, one text for each place: ``address.zip: expected int, got 'abc'``.

    Args:
        error: What reading it raised.
        root: What the value itself is called; places are told from there.
    """
    from cattrs import transform_error

    found = []
    for line in transform_error(error, path="\0", format_exception=_explain):
        text, _, path = line.rpartition(" @ \0")
        place = root + path if root else path.removeprefix(".")
        found.append(_cut(f"{place}: {text}" if place else text))
    return found


def _explain(error: BaseException, kind: object) -> str:
    if isinstance(error, KeyError) and kind is not None:  # of a field, and not from a class's own code
        return "is missing"
    # The validators of attrs give the attribute and the value beside the text.
    said = error.args[0] if len(error.args) > 1 and isinstance(error.args[0], str) else exception_text(error)
    return _cut(said.partition("\n")[0] or type(error).__name__)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
