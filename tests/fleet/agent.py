"""The agent of the workers under test: its tool logs each start, and waits until the test lets it finish."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from inferencesh import ToolContext, string, tool

__all__ = ["AGENT", "HOME"]

HOME = "FLEET_TEST_HOME"  # the environment variable with the directory that tests and handlers share


async def look_up(what: str, context: ToolContext) -> str:
    """Log the name of the worker and the attempt, and wait for a file named like the argument."""
    home = Path(os.environ[HOME])
    with (home / "starts").open("a") as starts:
        starts.write(f"{os.environ['FLEET_NAME']} {context.attempt}\n")
    while not (home / what).exists():  # noqa: ASYNC110 - the test is another process
        await asyncio.sleep(0.01)
    return f"{what} was found"


def book(what: str) -> str:
    """Book; runs only after approval."""
    return f"{what} is booked"


AGENT = {
    "name": "fleet",
    "tools": [
        tool("look_up").describe("Look something up").param("what", string("What")).handler(look_up).build(),
        tool("book").describe("Book").param("what", string("What")).require_approval().handler(book).build(),
    ],
}
