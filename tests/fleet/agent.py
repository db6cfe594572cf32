"""The agent of the workers under test: a tool that writes down each start and waits until the test lets it end."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from inferencesh import ToolContext, string, tool

__all__ = ["AGENT", "HOME"]

HOME = "FLEET_TEST_HOME"  # the environment variable with the directory in which tests and handlers meet


async def look_up(what: str, context: ToolContext) -> str:
    """Write down which process has started, and wait for a file of that name."""
    home = Path(os.environ[HOME])
    with (home / "starts").open("a") as starts:
        starts.write(f"{os.environ['FLEET_NAME']} {context.attempt}\n")
    while not (home / what).exists():  # noqa: ASYNC110 - the test is another process
        await asyncio.sleep(0.01)
    return f"{what} was found"


def book(what: str) -> str:
    """Run once a person has approved it."""
    return f"{what} is booked"


AGENT = {
    "name": "fleet",
    "tools": [
        tool("look_up").describe("Look something up").param("what", string("What")).handler(look_up).build(),
        tool("book").describe("Book").param("what", string("What")).require_approval().handler(book).build(),
    ],
}
