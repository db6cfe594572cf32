"""What comes of the tasks of a ``ScriptedRuntime``: the script, and the app that follows it."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from inferencesh.local import Progress
from inferencesh.local.errors import ProblemError

from .script import Script, wait_for_reader

if TYPE_CHECKING:
    from inferencesh.local import LocalRuntime

__all__ = ["ScriptedApp", "TaskReply", "TaskScript"]


@attrs.frozen(kw_only=True)
class TaskReply:
    """What comes of one task; ``ScriptedRuntime.task`` documents the attributes."""

    output: object = None
    progress: tuple[float, ...] = ()
    logs: tuple[str, ...] = ()
    delay: float = 0.0
    pause: float = 0.0
    fail: str | None = None
    drop_after: int | None = None
    refuse: int | None = None
    errors: Mapping[str, str] | None = None

    def __attrs_post_init__(self) -> None:
        if self.delay < 0 or self.pause < 0:
            raise ValueError("delay and pause are seconds, 0 or more")
        if not all(0 <= fraction <= 1 for fraction in self.progress):
            raise ValueError("progress is a list of fractions from 0.0 to 1.0")
        if self.drop_after is not None and not 0 <= self.drop_after <= len(self.progress):
            raise ValueError(f"drop_after must be between 0 and {len(self.progress)}, the number of steps")
        if self.refuse is not None and not 400 <= self.refuse <= 599:
            raise ValueError(f"refuse must be an HTTP error status, not {self.refuse}")


class TaskScript:
    """The queue of replies, filled by the test's thread and read by the runtime's.

    Args:
        script: The script of the agents, which keeps what was not scripted.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._replies: deque[TaskReply] = deque()
        self._lock = threading.Lock()

    def add(self, reply: TaskReply) -> None:
        """Append a reply."""
        with self._lock:
            self._replies.append(reply)

    def take(self) -> TaskReply | None:
        """Remove and return the next reply."""
        with self._lock:
            return self._replies.popleft() if self._replies else None

    def refuse_next(self, app: str) -> None:
        """Refuse the task of which the runtime has just learned, if that is what the script says.

        Raises:
            ProblemError: It is refused.
        """
        with self._lock:
            reply = self._replies[0] if self._replies else None
            if reply is None or (reply.refuse is None and reply.errors is None):
                return
            self._replies.popleft()
        if reply.errors is not None:
            errors = [{"type": "input", "key": name, "message": text} for name, text in reply.errors.items()]
            extra = {"satisfied": False, "errors": errors}
            raise ProblemError(412, f"The input does not fit the app {app}.", code="requirements_not_met", extra=extra)
        assert reply.refuse is not None
        raise ProblemError(reply.refuse, "The test's script refuses this task.")

    def unscripted(self, value: object) -> str:
        """Note a task without a reply, and return a description of it."""
        complaint = f"an app was run with the input {str(value)[:200]}"
        self._script.unscripted.append(complaint)
        return complaint


class ScriptedApp:
    """The app that stands for all apps.

    Args:
        script: The replies.
        get_runtime: Returns the runtime, which does not exist yet when the app is created.
    """

    def __init__(self, script: TaskScript, get_runtime: Callable[[], LocalRuntime]) -> None:
        self._script = script
        self._get_runtime = get_runtime

    async def run(self, input: Any) -> AsyncIterator[Progress]:  # noqa: A002 - takes the whole
        """Follow the next reply."""
        reply = self._script.take()
        if reply is None:
            complaint = self._script.unscripted(input)
            raise RuntimeError(f"{complaint}, and nothing is scripted for it; add runtime.task(...) before it is run")
        await wait_for_reader(self._get_runtime())
        await asyncio.sleep(reply.delay)
        logs = list(reply.logs)
        for index, fraction in enumerate(reply.progress):
            if index:
                await asyncio.sleep(reply.pause)
            if reply.drop_after == index:
                self._get_runtime().cut_streams()
            yield Progress(fraction, logs.pop(0) if logs else "")
        await asyncio.sleep(reply.pause)
        if reply.drop_after == len(reply.progress):
            self._get_runtime().cut_streams()
        for line in logs:
            yield Progress(log=line)
        if reply.fail is not None:
            raise RuntimeError(reply.fail)
        yield Progress(output=reply.output)
