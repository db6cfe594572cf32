"""The embedded runtime in a process of its own, with a simulated language model that writes slowly.

It replaces inference.sh in the demo. ``launch.py`` starts it and reads its URL and key from its first line of output.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from typing import Final

from inferencesh.local import Conversation, LocalRuntime, Piece, Text, ToolCall

__all__ = ["SlowModel"]

PACE: Final = float(os.environ.get("FLEET_PACE", "0.08"))  # seconds between two words
BOOK: Final = re.compile(r"\bbook\b", re.IGNORECASE)
PLACE: Final = re.compile(r"\b(?:to|in) ([A-Z][\w'-]*(?: [A-Z][\w'-]*)*)")
OPENING: Final = """\
Gladly! {place} is best enjoyed without a rush. Before I write a plan, let me look up what trains and hotels cost \
right now. This takes a few seconds: a good moment to **kill the worker** that is writing this.

"""
PLAN: Final = """\
## Three days in {place}

I found: *{prices}*.

| Day | Morning | Evening |
|---|---|---|
| 1 | Arrive and **stroll** through the old town | Dinner by the water |
| 2 | A museum, then the market | A concert |
| 3 | Breakfast with a view | The train home |

Pack *light*, and bring good shoes. Every word here was written once, no matter how many workers it took.
"""


class SlowModel:
    """Plans a trip with a slow tool, and books it if it is asked to and a person approves."""

    async def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        """Yield the answer to the last message."""
        prompt = next(each.text for each in reversed(conversation.messages) if each.role == "user")
        found = PLACE.search(prompt)
        place = found[1] if found else "Lisbon"
        last = conversation.messages[-1]
        if last.role == "user":
            for word in words(OPENING.format(place=place)):
                yield word
            yield ToolCall("compare_prices", {"destination": place})
            return
        calls = {call.id: call.name for message in conversation.messages for call in message.tool_calls}
        if calls[last.tool_call_id or ""] == "book_trip":
            rejected = last.text.startswith("Error")
            text = "All right, nothing was booked." if rejected else f"Done: {last.text}. *Have a good time!*"
            for word in words(text):
                yield word
            return
        for word in words(PLAN.format(place=place, prices=last.text)):
            yield word
        if BOOK.search(prompt):
            yield ToolCall("book_trip", {"destination": place, "nights": 2})


def words(text: str) -> list[Text]:
    """Split a text into words, as a language model streams it."""
    return [Text(word) for word in re.findall(r"\s*\S+\s*?", text)]


async def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    shutdown = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, shutdown.set)
    async with LocalRuntime(model=SlowModel(), pace=PACE) as runtime:
        print(json.dumps({"base_url": runtime.base_url, "api_key": runtime.api_key}), flush=True)
        await shutdown.wait()


if __name__ == "__main__":
    asyncio.run(main())
