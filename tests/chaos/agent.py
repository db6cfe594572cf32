"""The agent of the workers: its tool logs each start and end, and each run returns a different result."""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import time
from pathlib import Path
from typing import Any

from inferencesh import ToolContext, string, tool

from .plan import TOOL

__all__ = ["AGENT", "HANDLERS", "LONGEST"]

HANDLERS = "CHAOS_HANDLERS"  # the environment variable with the path of the handlers' log
LONGEST = "CHAOS_LONGEST"  # the environment variable with the maximum duration of a handler in seconds


async def measure(what: str, context: ToolContext) -> str:
    """Sleep briefly, and return a unique result."""
    _write(what, context, "start")
    try:
        await asyncio.sleep(random.uniform(0.02, float(os.environ.get(LONGEST, "0.5"))))
    except asyncio.CancelledError:
        _write(what, context, "cancelled")
        raise
    result = f"{what}={secrets.token_hex(6)}"
    _write(what, context, "end", result)
    return result


def _write(what: str, context: ToolContext, step: str, result: str = "") -> None:
    """Append a line with a single write, so that lines of several processes do not mix."""
    line: dict[str, Any] = {
        "what": what,
        "step": step,
        "result": result,
        "pid": os.getpid(),
        "at": time.time(),
        "call": context.call_id,
        "attempt": context.attempt,
        "key": context.idempotency_key,
    }
    with Path(os.environ[HANDLERS]).open("ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")


AGENT = {
    "name": "chaos",
    "tools": [tool(TOOL).describe("Measure something").param("what", string("What")).handler(measure).build()],
}
