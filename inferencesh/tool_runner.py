"""Takes care of the calls of one turn, each exactly once: approvals, and client tools' callback, handler and result."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Container, Mapping
from typing import Any, Protocol

import anyio
import attrs

from .approvals import Approver
from .calls import Fate, Step, step_of
from .cancellation import wait_for_end
from .claims import Claims
from .client_tool import Tool
from .converter import result_text
from .errors import CallbackCancelledError, InferenceError
from .event_loops import hand_over
from .exception_text import exception_text, typed_text
from .handlers import ArgumentsError
from .invoke import Invoker, invoke, runs_on_loop
from .models import ToolCall
from .reentry import HasChat, waiting_for, waits
from .signal_errors import raised_by_signal_handler
from .tool_context import ToolContext
from .tool_progress import last_value
from .turn import Turn
from .turn_request import OnToolCall, OnToolProgress

__all__ = ["ToolLimits", "ToolRunner"]

_LOOK_AGAIN = 0.05  # seconds

logger = logging.getLogger("inferencesh")


@attrs.frozen
class ToolLimits:
    """Limits of tool calls.

    Attributes:
        at_once: How many handlers of one turn run at once.
        timeout: Seconds one handler may take, or None. Then the agent is told so as an error; a sync handler cannot be
            stopped, its thread goes on unheeded.
    """

    at_once: int = 16
    timeout: float | None = None


class Done(Protocol):
    """Told what has become of a call."""

    def __call__(self, fate: Fate) -> None:
        """The call was settled, or left to the caller of the turn."""


class Submit(Protocol):
    """Posts the results of tool calls."""

    async def __call__(self, call_id: str, result: object, *, anybodys: bool) -> None:
        """Post a result until the server has acknowledged it; ``anybodys``: or somebody else's."""


class ToolRunner:
    """Runs the calls of one turn, several at once.

    Args:
        turn: The turn.
        tools: The tools by name.
        on_tool_call: Called with each call before its handler, or None.
        invoker: Calls functions that may block.
        submit: Posts results.
        approver: Asks about calls that wait for approval.
        limits: Limits of tool calls.
        claims: The calls that the client's turns have taken on.
        conversation: What the turn is part of.
        on_tool_progress: Called with each call and what its handler has yielded, or None.
        agent: The agent object that handlers may ask for.
    """

    def __init__(
        self,
        turn: Turn,
        tools: Mapping[str, Tool],
        on_tool_call: OnToolCall | None,
        invoker: Invoker,
        submit: Submit,
        approver: Approver,
        limits: ToolLimits,
        claims: Claims,
        conversation: HasChat,
        on_tool_progress: OnToolProgress | None = None,
        agent: object = None,
    ) -> None:
        self._tools = tools
        self._on_tool_call = on_tool_call
        self._invoker = invoker
        self._submit = submit
        self._approver = approver
        self._limits = limits
        self._turn = turn
        self._claims = claims
        self._conversation = conversation
        self._on_tool_progress = on_tool_progress
        self._agent = agent
        self._slots = asyncio.Semaphore(limits.at_once)
        self._one_callback = asyncio.Lock()  # callbacks of several calls come one after the other
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._cancelled = False
        self.failure: BaseException | None = None

    def start(self, call: ToolCall, done: Done) -> None:
        """Begin to take care of a call.

        Args:
            call: The call.
            done: Told at the end what has become of it; not called when the runner was cancelled.
        """
        task = asyncio.create_task(self._take_care(call, done), name=f"inferencesh tool {call.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        """Stop all calls under way, on their loop; nothing more is posted. Once more, it leaves clean-up in peace."""
        if self._cancelled:
            return
        self._cancelled = True
        for task in self._tasks:
            task.cancel()

    async def aclose(self) -> None:
        """Stop all calls under way and wait until they have stopped, from any loop.

        On another loop, and inside a handler or callback that the turn waits for, it does not wait.
        """
        if asyncio.get_running_loop() is not self._loop:
            hand_over(self._loop, self.cancel)  # where that loop is closed, its tasks have ended
            return
        self.cancel()
        if not waits(self._conversation):
            await wait_for_end(self._tasks)

    async def _take_care(self, call: ToolCall, done: Done) -> None:
        step = step_of(call) or Step.RESULT
        try:
            with waiting_for(self._conversation):
                fate = await (self._approve(call) if step is Step.APPROVAL else self._answer(call))
            if fate is not Fate.LEFT:
                self._claims.settle(call.id, self._turn, step, fate)
        except asyncio.CancelledError as error:
            if self._cancelled:
                raise
            self.failure = self.failure or _cancelled_by_others(call, error)
            fate = Fate.LEFT
        except BaseException as error:  # noqa: BLE001 - it is handed to the caller, who raises it
            self.failure = self.failure or (error.error if isinstance(error, _CallbackFailedError) else error)
            fate = Fate.LEFT
        done(fate)

    async def _approve(self, call: ToolCall) -> Fate:
        claimed = self._claims.take(call.id, self._turn, Step.APPROVAL)
        if claimed is None:
            return await self._approver.settle(call)
        if isinstance(claimed, Fate):
            return claimed
        await _settled_by(claimed, call.id, claimed.calls.decided)
        return claimed.calls.decision(call.id)

    async def _answer(self, call: ToolCall) -> Fate:
        callback = self._on_tool_call
        if callback is not None:
            async with self._one_callback:
                await invoke(self._invoker, callback, lambda: callback(call))
        if call.id in self._turn.calls.answered:
            return Fate.ANSWERED
        tool = self._tools.get(call.name)
        if tool is None or tool.handler is None:
            if self._turn.calls.decided.get(call.id):
                logger.warning(
                    "chat %s: the call %s of the tool %s was approved here, but this agent has no handler for it: the "
                    "run waits until a program that has one goes on with it, or submit_tool_result answers it",
                    *(self._turn.chat_id, call.id, call.name),
                )
            return Fate.LEFT
        claimed = self._claims.take(call.id, self._turn)
        if isinstance(claimed, Fate):
            return claimed
        if claimed is not None:
            await _settled_by(claimed, call.id, claimed.calls.answered)
            return Fate.ANSWERED if call.id in claimed.calls.answered else Fate.LEFT
        async with self._slots:
            result = await self._execute(tool, call)
        await self._submit(call.id, result, anybodys=True)
        return Fate.ANSWERED

    async def _execute(self, tool: Tool, call: ToolCall) -> str:
        """Run the handler; returns the text to send, which for a failure says what went wrong."""
        try:
            if call.undecoded_arguments is not None:
                return _error_text("the arguments are not a JSON object")
            context = ToolContext(self._turn.chat_id or "", call.id, tool.name, self._agent)
            bound = tool.bind(call.arguments, context)
            async with asyncio.timeout(None) as limit:
                return result_text(await self.call_handler(tool, call, self._timed(bound, limit)))
        except _CallbackFailedError:
            raise
        except ArgumentsError as error:
            logger.info("the agent gave the tool %s arguments that do not fit; it was told so", tool.name)
            return _error_text(exception_text(error))
        except Exception as error:
            if raised_by_signal_handler(error):
                raise  # such as a time limit: it is meant for whoever waits for the turn
            if isinstance(error, TimeoutError) and limit.expired():
                logger.warning("the handler of the tool %s took longer than %g s", tool.name, self._limits.timeout)
                return _error_text(f"the tool took longer than {self._limits.timeout:g} seconds")
            logger.warning("the handler of the tool %s failed; the agent was told so", tool.name, exc_info=error)
            return _error_text(typed_text(error))

    async def call_handler(self, tool: Tool, call: ToolCall, bound: Callable[[], Any]) -> Any:
        """Call a tool's handler, on the loop or where it may block, and report what it yields.

        Args:
            tool: The tool.
            call: The call of it.
            bound: The handler's call with its arguments.
        """
        assert tool.handler is not None, f"the call {call.id} is not for this program"
        result = await invoke(self._invoker, tool.handler, bound)
        on_loop = runs_on_loop(self._invoker, tool.handler)
        return await last_value(result, None if on_loop else self._invoker, lambda value: self._report(call, value))

    async def _report(self, call: ToolCall, value: object) -> None:
        """Tell the caller of the turn what a handler has yielded."""
        callback = self._on_tool_progress
        if callback is None:
            return
        try:
            async with self._one_callback:
                await invoke(self._invoker, callback, lambda: callback(call, value))
        except Exception as error:
            raise _CallbackFailedError(error) from error

    def _timed(self, call: Callable[[], Any], limit: asyncio.Timeout) -> Callable[[], Any]:
        """The call with its time counted from its start: until then its thread may be busy with another handler."""
        timeout, loop = self._limits.timeout, asyncio.get_running_loop()
        if timeout is None:
            return call

        def start() -> None:
            with contextlib.suppress(RuntimeError):  # the call was given up meanwhile
                limit.reschedule(loop.time() + timeout)

        def timed() -> Any:
            if not hand_over(loop, start):
                raise InferenceError("the client was closed before the handler was called")
            return call()

        return timed


class _CallbackFailedError(Exception):
    """What a callback of the caller raised, on its way past what catches the handler's own exceptions."""

    def __init__(self, error: Exception) -> None:
        super().__init__(type(error).__name__)
        self.error = error


async def _settled_by(owner: Turn, call_id: str, settled: Container[str]) -> None:
    """Wait for another stream of this client to settle a call, or to leave it."""
    # It may be on another loop: there is no event to share with it.
    while owner.driven and call_id not in settled:  # noqa: ASYNC110
        await anyio.sleep(_LOOK_AGAIN)


def _cancelled_by_others(call: ToolCall, error: asyncio.CancelledError) -> CallbackCancelledError:
    failure = CallbackCancelledError(f"the task of a call of the tool {call.name} was cancelled, and not by its turn")
    failure.__cause__ = error
    return failure


def _error_text(text: str) -> str:
    """A failure as a tool's result, in the form that the JavaScript SDK gives it."""
    return json.dumps({"error": text}, ensure_ascii=False)
