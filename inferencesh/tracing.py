"""Whether turns and tools are traced: where OpenTelemetry is in use, and not at the least cost anywhere else.

A program that has not imported ``opentelemetry.trace`` cannot have set up tracing. So it is never imported here, and
whoever does not use it does not pay for it, installed or not.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from .driver import Reconnects, TurnDriver
from .tool_runner import ToolRunner
from .transport import Transport
from .turn import Turn

__all__ = ["runner_class", "turn_driver"]


def turn_driver(
    transport: Transport,
    begin: Callable[[TurnDriver], Awaitable[Turn]],
    runner: Callable[[Turn], ToolRunner],
    reconnects: Reconnects,
    *,
    agent: Mapping[str, Any],
    text: str | None,
) -> TurnDriver:
    """Make a turn's driver, one that is traced where tracing is in use.

    Args:
        transport: As for ``TurnDriver``.
        begin: As for ``TurnDriver``.
        runner: As for ``TurnDriver``.
        reconnects: As for ``TurnDriver``.
        agent: What names or describes the agent in a request.
        text: The message that begins the turn, or None.
    """
    if not _in_use():
        return TurnDriver(transport, begin, runner, reconnects)
    from .otel import TracedDriver

    return TracedDriver(transport, begin, runner, reconnects, agent=agent, text=text)


def runner_class() -> type[ToolRunner]:
    """What runs tools: traced where tracing is in use."""
    if not _in_use():
        return ToolRunner
    from .otel import TracedToolRunner

    return TracedToolRunner


def _in_use() -> bool:
    return "opentelemetry.trace" in sys.modules
