"""Arithmetic for a tool: numbers, parentheses and operators, read with ``ast`` and never run as code.

A tool's arguments are written by a language model, and whoever writes to the agent can talk the model into anything. So
``eval`` is no way to work them out: it would run whatever Python stands in them.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable

__all__ = ["calculate"]

Number = int | float

LONGEST = 200  # characters
BIGGEST = 4096  # bits of a whole number; without a limit 9 ** 9 ** 9 would keep the machine busy for ever

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
    """Work out an arithmetic expression.

    Args:
        expression: For instance ``42 * 17`` or ``(1 + 2) ** 10 / 4``.

    Raises:
        ValueError: It is not arithmetic, too long, or its result is too large or no real number.
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
    """The value of a part of an expression; everything but numbers and operators is refused."""
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
            raise ValueError(f"only numbers and operators can be worked out, not {ast.unparse(node)!r}")


def check_power(base: Number, exponent: Number) -> None:
    """Refuse a power before it is worked out, when its result would be huge or no real number."""
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * exponent > BIGGEST:
        raise ValueError("the result is too large")
    if base < 0 and not float(exponent).is_integer():
        raise ValueError("the result is not a real number")


def checked(value: Number) -> Number:
    """The same number, if it is of a sensible size."""
    too_large = value.bit_length() > BIGGEST if isinstance(value, int) else not math.isfinite(value)
    if too_large:
        raise ValueError("the result is too large")
    return value
