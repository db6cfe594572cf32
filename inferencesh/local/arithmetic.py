"""Finds arithmetic in a sentence, without working it out."""

from __future__ import annotations

import re

__all__ = ("find_expressions",)

_NUMBER = re.compile(r"(?:0|[1-9]\d*)(?:\.\d+)?(?![\d\w])")
_OPERATOR = re.compile(r"[ \t]*(\*\*|//|[-+*/%])[ \t]*")
_START = re.compile(r"(?<![\w.)])(?:-?\d|-?\()")
_MAX_DEPTH = 20

# How people write operators; each counts only between two operands.
_SPELLINGS = (
    (r"(?<=\d),(?=\d{3}\b)", ""),
    (r"(?<=[\d)])\s*(?:×|\bx\b|\btimes\b|\bmultiplied by\b)\s*(?=[\d(-])", " * "),  # noqa: RUF001 - this is what people type
    (r"(?<=[\d)])\s*(?:÷|\bdivided by\b)\s*(?=[\d(-])", " / "),
    (r"(?<=[\d)])\s*\bplus\b\s*(?=[\d(-])", " + "),
    (r"(?<=[\d)])\s*(?:−|–|\bminus\b)\s*(?=[\d(-])", " - "),  # noqa: RUF001 - this is what people type
    (r"(?<=[\d)])\s*\^\s*(?=[\d(-])", " ** "),
)
_SPELLED = tuple((re.compile(pattern, re.IGNORECASE), sign) for pattern, sign in _SPELLINGS)


def find_expressions(sentence: str) -> list[str]:
    """Return the arithmetic expressions in a sentence, in order, with operators as Python writes them."""
    for pattern, sign in _SPELLED:
        sentence = pattern.sub(sign, sentence)
    found: list[str] = []
    at = 0
    while (start := _START.search(sentence, at)) is not None:
        end, operators = _expression(sentence, start.start(), 0)
        if operators:
            found.append(sentence[start.start() : end])
        at = max(end, start.start() + 1)
    return found


def _expression(text: str, at: int, depth: int) -> tuple[int, int]:
    """Read `operand (operator operand)*`; returns where it ends, `at` for nothing, and how many operators it has."""
    end, operators = _operand(text, at, depth)
    if end == at:
        return at, 0
    while (operator := _OPERATOR.match(text, end)) is not None:
        after, inner = _operand(text, operator.end(), depth)
        if after == operator.end():
            break
        end = after
        operators += inner + 1
    return end, operators


def _operand(text: str, at: int, depth: int) -> tuple[int, int]:
    """Read a number or an expression in parentheses, either with a minus before it."""
    start = at + 1 if text[at : at + 1] == "-" else at
    number = _NUMBER.match(text, start)
    if number is not None:
        return number.end(), 0
    if text[start : start + 1] != "(" or depth == _MAX_DEPTH:
        return at, 0
    inside = start + 1
    end, operators = _expression(text, inside, depth + 1)
    if end == inside or text[end : end + 1] != ")":
        return at, 0
    return end + 1, operators
