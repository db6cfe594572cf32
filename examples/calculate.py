"""Calculate arithmetic expressions safely, for a tool: numbers, operators and parentheses, parsed with ``ast``.

The arguments of a tool are written by a language model, which anybody who writes to the agent can influence. Never pass
them to ``eval``: it would run any Python code in them.

Used by ``streaming.py``.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable

__all__ = ["calculate"]

Number = int | float

LONGEST = 200  # characters
BIGGEST = 4096  # bits of a whole number; without a limit, 9 ** 9 ** 9 would never finish

UNARY: dict[type[ast.unaryop], Callable[[Number], Number]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
BINARY: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def calculate(expression: str) -> Number:
    """Return the value of an arithmetic expression.

    Args:
        expression: Such as ``42 * 17`` or ``(1 + 2) ** 10 / 4``.

    Raises:
        ValueError: It is not arithmetic or too long, or its result is too large or not a real number.
        ZeroDivisionError: It divides by zero.
    """
    if len(expression) > LONGEST:
        raise ValueError(f"the expression is longer than {LONGEST} characters")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError):  # ValueError: a null character
        raise ValueError(f"not an arithmetic expression: {expression!r}") from None
    try:
        return value_of(tree.body)
    except OverflowError:
        raise ValueError("the result is too large") from None


def value_of(node: ast.expr) -> Number:
    """Return the value of a part of an expression; only numbers and operators are allowed."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return checked(value)
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in UNARY:
            return UNARY[type(sign)](value_of(operand))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in BINARY:
            first, second = value_of(left), value_of(right)
            if isinstance(sign, ast.Pow):
                check_power(first, second)
            return checked(BINARY[type(sign)](first, second))
        case _:
            raise ValueError(f"only numbers and operators are allowed, not {ast.unparse(node)!r}")


def check_power(base: Number, exponent: Number) -> None:
    """Raise ValueError for a power whose result would be huge or not a real number, before it is calculated."""
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * exponent > BIGGEST:
        raise ValueError("the result is too large")
    if base < 0 and not float(exponent).is_integer():
        raise ValueError("the result is not a real number")


def checked(value: Number) -> Number:
    """Return a number, or raise ValueError if it is too large."""
    too_large = value.bit_length() > BIGGEST if isinstance(value, int) else not math.isfinite(value)
    if too_large:
        raise ValueError("the result is too large")
    return value
