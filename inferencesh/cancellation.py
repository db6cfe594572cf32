"""Waiting for the end of tasks that were cancelled, so that none outlives whoever started it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

__all__ = ["wait_for_end"]

_PATIENCE = 5.0  # seconds after which it is logged that tasks have not ended

logger = logging.getLogger("inferencesh")


async def wait_for_end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Wait until tasks that were cancelled have ended, their clean-up included.

    A cancellation of the caller meanwhile is passed on to them and raised at the end, as by ``asyncio.TaskGroup``.

    Args:
        tasks: The tasks, of the running loop; what they raise is not looked at.
    """
    pending, interrupted = {task for task in tasks if not task.done()}, None
    while pending:
        try:
            ended, pending = await asyncio.wait(pending, timeout=_PATIENCE)
        except asyncio.CancelledError as error:
            interrupted = error
            for task in pending:
                task.cancel()
            continue
        if pending and not ended:
            names = ", ".join(sorted(task.get_name() for task in pending))
            logger.warning("still waiting for the end of tasks that were cancelled: %s", names)
    if interrupted is not None:
        raise interrupted
