"""Cancelling tasks and waiting for their end, so that none outlives whoever started it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

__all__ = ["cancel_and_wait"]

_PATIENCE = 5.0  # seconds after which it is logged that tasks have not ended

logger = logging.getLogger("inferencesh")


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended, their clean-up included.

    A cancellation of the caller meanwhile is passed on to them and raised at the end, as by ``asyncio.TaskGroup``.

    Args:
        tasks: The tasks, of the running loop; what they raise is not looked at.
    """
    pending, interrupted = {task for task in tasks if not task.done()}, None
    for task in pending:
        task.cancel()
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
