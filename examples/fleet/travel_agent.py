"""The agent of the fleet: a travel assistant with a tool that takes its time, and one that a person must approve."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Final

from inferencesh import ToolContext, tool

__all__ = ["AGENT"]

SECONDS: Final = float(os.environ.get("FLEET_TOOL_SECONDS", "6"))


@tool
async def compare_prices(destination: str, context: ToolContext) -> str:
    """Compare the prices of trains and hotels.

    It stands for work that takes some seconds: time enough to kill the worker that does it. Another worker then starts
    it again, so it only reads; a tool that books or pays passes ``context.idempotency_key`` on to whoever does it.

    Args:
        destination: The city.
    """
    await asyncio.sleep(SECONDS)
    again = f" (found at attempt {context.attempt})" if context.attempt > 1 else ""
    return f"to {destination} by train 89 EUR, hotel 112 EUR a night{again}"


@tool(require_approval=True)
def book_trip(destination: str, nights: int, context: ToolContext) -> str:
    """Book a trip; it runs only after a person has approved it.

    Args:
        destination: The city.
        nights: How many nights.
    """
    number = context.idempotency_key[-6:].upper()  # the same at each attempt, so nothing is booked twice
    return f"{nights} nights in {destination} are booked under number {number}"


AGENT: Final[dict[str, Any]] = {
    "name": "travel-agent",
    "system_prompt": "You plan trips. Write Markdown. Use compare_prices before you plan, and book_trip to book.",
    "tools": [compare_prices, book_trip],
}
if "FLEET_CORE_APP" in os.environ:
    AGENT["core_app"] = {"ref": os.environ["FLEET_CORE_APP"]}
