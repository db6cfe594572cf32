"""The agent of the chat service: what it is told, and its two tools."""

from __future__ import annotations

import operator
import os
import re
from decimal import Decimal
from typing import Any, Final

from inferencesh import string, tool

__all__ = ["AGENT"]

OPERATIONS: Final = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
NUMBER: Final = r"\s*(-?\d{1,15}(?:\.\d{1,15})?)\s*"


def calculate(expression: str) -> str:
    """Work out two numbers with an operator between them; what a model writes is checked and never evaluated."""
    match = re.fullmatch(rf"{NUMBER}([-+*/]){NUMBER}", expression, re.ASCII)
    if match is None:
        raise ValueError("write two numbers with + - * or / between them")
    return f"{OPERATIONS[match[2]](Decimal(match[1]), Decimal(match[3])):f}"


AGENT: Final[dict[str, Any]] = {
    "name": "fastapi-chat",
    "system_prompt": "You are a friendly assistant. Use calculator for arithmetic, ask_person for what you must know.",
    "tools": [
        tool("calculator")
        .describe("Work out an arithmetic expression of two numbers")
        .param("expression", string("Such as 42 * 17"))
        .handler(calculate)
        .build(),
        tool("ask_person")  # no handler: the run pauses until somebody answers it on the page
        .describe("Ask the person a question and wait for the answer")
        .param("question", string("The question, one sentence"))
        .build(),
    ],
}
if "CHAT_CORE_APP" in os.environ:
    AGENT["core_app"] = {"ref": os.environ["CHAT_CORE_APP"]}
