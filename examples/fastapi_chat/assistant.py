"""The agent of the chat service: its instructions and its three tools. Used by ``service.py``."""

from __future__ import annotations

import operator
import os
import re
from decimal import Decimal
from typing import Any, Final

from inferencesh import integer, string, tool

__all__ = ["AGENT", "ANSWERED_BY_PEOPLE"]

ANSWERED_BY_PEOPLE: Final = {"ask_person"}
OPERATIONS: Final = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
NUMBER: Final = r"\s*(-?\d{1,15}(?:\.\d{1,15})?)\s*"


def calculate(expression: str) -> str:
    """Calculate with two numbers and an operator; a model writes the expression, so it is never evaluated."""
    match = re.fullmatch(rf"{NUMBER}([-+*/]){NUMBER}", expression, re.ASCII)
    if match is None:
        raise ValueError("write two numbers with + - * or / between them")
    return f"{OPERATIONS[match[2]](Decimal(match[1]), Decimal(match[3])):f}"


def book_trip(destination: str, nights: int) -> str:
    """Pretend to book a trip; it runs only after a person has approved it."""
    return f"{nights} nights in {destination} are booked."


AGENT: Final[dict[str, Any]] = {
    "name": "fastapi-chat",
    "system_prompt": "You are a friendly assistant. Write Markdown. Use calculator for arithmetic, ask_person to ask a "
    "question, and book_trip to book a trip.",
    "tools": [
        tool("calculator")
        .describe("Calculate an arithmetic expression of two numbers")
        .param("expression", string("Such as 42 * 17"))
        .handler(calculate)
        .build(),
        tool("ask_person")  # no handler: the run pauses until somebody answers on the page
        .describe("Ask the person a question and wait for the answer")
        .param("question", string("The question, one sentence"))
        .build(),
        tool("book_trip")
        .describe("Book a trip")
        .param("destination", string("The city"))
        .param("nights", integer("The number of nights"))
        .require_approval()
        .handler(book_trip)
        .build(),
    ],
}
if "CHAT_CORE_APP" in os.environ:
    AGENT["core_app"] = {"ref": os.environ["CHAT_CORE_APP"]}
