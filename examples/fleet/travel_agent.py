"""The agent of the fleet: a travel assistant with a slow tool and a tool that requires approval."""

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

    It takes some seconds, so that there is time to kill the worker that runs it. Another worker then runs it again,
    which is safe because it only reads. A tool that books or pays passes ``context.idempotency_key`` to its service.

    Args:
        destination: The city.
    """
    await asyncio.sleep(SECONDS)
    again = f" (found in attempt {context.attempt})" if context.attempt > 1 else ""
    return f"to {destination} by train 89 EUR, hotel 112 EUR a night{again}"


@tool(require_approval=True)
def book_trip(destination: str, nights: int, context: ToolContext) -> str:
    """Book a trip; runs only after a person has approved it.

    Args:
        destination: The city.
        nights: The number of nights.
    """
    number = context.idempotency_key[-6:].upper()  # the same for each attempt, so that nothing is booked twice
    return f"{nights} nights in {destination} are booked under number {number}"


AGENT: Final[dict[str, Any]] = {
    "name": "travel-agent",
    "system_prompt": "You plan trips. Write Markdown. Use compare_prices before you plan, and book_trip to book.",
    "tools": [compare_prices, book_trip],
}
if "FLEET_CORE_APP" in os.environ:
    AGENT["core_app"] = {"ref": os.environ["FLEET_CORE_APP"]}
