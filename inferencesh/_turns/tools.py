"""Takes care of the calls of one turn, each exactly once: approvals, and client tools' callback, handler and result."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import json
import logging
import threading
import types
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Container, Generator, Mapping
from typing import Any, Protocol, TypeAlias

import anyio
import attrs

from inferencesh._loops.invoke import (
    HasChat,
    Invoker,
    checked_await,
    checked_call,
    in_callback_of,
    invoke,
    is_reentrant,
    raised_by_signal_handler,
    runs_on_loop,
    start_in_thread,
)
from inferencesh._loops.threads import hand_over, wait_for_end
from inferencesh._protocol.calls import CallOutcome, Step, step_of
from inferencesh._protocol.outcome import End
from inferencesh._protocol.turn import Turn
from inferencesh._types.codec import result_text
from inferencesh.errors import APIError, CallbackCancelledError, InferenceError, exception_text, typed_text
from inferencesh.models import ToolCall
from inferencesh.tools.handler import ArgumentsError, Tool, ToolContext

from .request import OnApproval, OnToolCall, OnToolProgress

__all__ = ["Approver", "CallRegistry", "Decide", "ToolLimits", "ToolRunner", "last_value"]

_Key: TypeAlias = tuple[str, str, Step]

_REMEMBERED = 1024  # of settled calls, the newest; no stream is behind another by more of them


class CallRegistry:
    """The tool calls that a client's turns have taken on.

    Ids are unique in a chat while a turn lasts, so a claim lasts as long as its turn: until that has ended, or nobody
    holds it any more. What was settled is remembered for streams of the same turn that are behind.
    """

    def __init__(self) -> None:
        self._owners: weakref.WeakValueDictionary[_Key, Turn] = weakref.WeakValueDictionary()
        self._settled: dict[tuple[_Key, str], CallOutcome] = {}

    def take(self, call_id: str, turn: Turn, step: Step = Step.RESULT) -> Turn | CallOutcome | None:
        """Claim a step of a call for a turn.

        Returns:
            None on success; else what has become of it, or the other turn that has it.
        """
        key = (turn.chat_id or "", call_id, step)
        if (fate := self._settled.get((key, turn.run.user_message_id))) is not None:
            return fate
        owner = self._owners.get(key)
        if owner is not None and owner is not turn and (owner.outcome is None or owner.outcome.end is End.PAUSED):
            return owner
        self._owners[key] = turn
        return None

    def settle(self, call_id: str, turn: Turn, step: Step, fate: CallOutcome) -> None:
        """Remember what has become of a call; the message that began the turn tells it from one of the same id."""
        if turn.run.user_message_id:
            self._settled[(turn.chat_id or "", call_id, step), turn.run.user_message_id] = fate
            while len(self._settled) > _REMEMBERED:
                del self._settled[next(iter(self._settled))]


class Decide(Protocol):
    """Posts decisions about tool calls."""

    async def __call__(self, call_id: str, *, approved: bool, reason: str, accept_existing: bool) -> bool:
        """Approve or reject a call; return whether that counts, and not an earlier decision."""


@attrs.frozen
class _Decision:
    approved: bool
    reason: str = ""


class Approver:
    """Asks about the calls of one turn, one after the other.

    Args:
        turn: The turn.
        on_approval: Asked about each call, or None.
        invoker: Calls functions that may block.
        decide: Posts decisions.
    """

    def __init__(self, turn: Turn, on_approval: OnApproval | None, invoker: Invoker, decide: Decide) -> None:
        self._turn = turn
        self._on_approval = on_approval
        self._invoker = invoker
        self._decide = decide
        self._one_question = asyncio.Lock()
        self._failed = False  # then the turn is about to raise, and nobody is asked any more

    async def settle(self, call: ToolCall) -> CallOutcome:
        """Ask about a call and post the decision.

        Args:
            call: A call that waits for approval, and that nobody else asks about.

        Raises:
            TypeError: The answer is none that counts.
            APIError, APIConnectionError: The decision could not be posted.
            Exception: What ``on_approval`` raised; nothing was decided then.
        """
        async with self._one_question:
            if self._failed:
                return CallOutcome.LEFT
            try:
                return await self._settle(call)
            except BaseException:
                self._failed = True
                raise

    async def _settle(self, call: ToolCall) -> CallOutcome:
        ask, calls = self._on_approval, self._turn.calls
        if ask is None or call.id in calls.decided:
            return calls.decision(call.id)
        calls.asked.add(call.id)
        decision = _read(await invoke(self._invoker, ask, lambda: ask(call)))
        if decision is None or call.id in calls.decided:  # the callback may have approved or rejected it by itself
            return calls.decision(call.id)
        if not await self._decide(call.id, approved=decision.approved, reason=decision.reason, accept_existing=True):
            return CallOutcome.DECIDED
        return CallOutcome.APPROVED if decision.approved else CallOutcome.REJECTED


def _read(answer: object) -> _Decision | None:
    """What ``on_approval`` returned as a decision; only True approves, never something that is merely truthy."""
    if answer is None:
        return None
    if isinstance(answer, bool):
        return _Decision(answer)
    if isinstance(answer, str):
        return _Decision(approved=False, reason=answer)
    raise TypeError(
        f"on_approval returned a {type(answer).__name__}; it returns True to approve the call, False or the reason as "
        "a str to reject it, or None to leave it to approve_tool and reject_tool"
    )


Report: TypeAlias = Callable[[Any], Awaitable[None]]

logger = logging.getLogger("inferencesh")


async def last_value(result: Any, invoker: Invoker | None, report: Report) -> Any:
    """What a handler has come to, after everything that it yields before.

    Args:
        result: What it returned: a generator, sync or async, or the result itself.
        invoker: Makes the steps of a sync generator, which may block; None for one that runs on the loop.
        report: Told each value that is yielded, before the generator goes on.

    Returns:
        What a sync generator returns, if that is not None, else the last value yielded; None when there was none.
    """
    if isinstance(result, types.AsyncGeneratorType):
        return await _drain(result, report)
    if isinstance(result, types.GeneratorType):
        return await _Steps(result, invoker).run(report)
    return result


async def _drain(values: AsyncGenerator[Any, None], report: Report) -> Any:
    last = None
    try:
        while True:
            last = await checked_await(anext(values))
            await report(last)
    except StopAsyncIteration:
        return last
    finally:
        await checked_await(values.aclose())


@attrs.frozen
class _Yielded:
    value: Any


@attrs.frozen
class _Returned:
    value: Any


class _Steps:
    """A sync generator, run step by step where it may block.

    Args:
        generator: The generator.
        invoker: Makes the steps, or None for the loop.
    """

    def __init__(self, generator: Generator[Any, None, Any], invoker: Invoker | None) -> None:
        self._generator = generator
        self._invoker = invoker
        # One for all steps, whichever threads make them: what the generator sets is there in its next step.
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._running = False
        self._left = threading.Event()

    async def run(self, report: Report) -> Any:
        """Run it to its end; it is closed when that is not reached."""
        last = None
        try:
            while isinstance(step := await self._call(self._advance), _Yielded):
                last = step.value
                await report(last)
        finally:
            if self._leave():
                await self._close_elsewhere()
        return last if step.value is None else step.value

    async def _call(self, call: Callable[[], Any]) -> Any:
        return call() if self._invoker is None else await self._invoker.call_blocking(call)

    def _advance(self) -> _Yielded | _Returned:
        """Make one step; an end is a value too, for StopIteration cannot pass through a future."""
        with self._lock:
            if self._left.is_set():
                return _Returned(None)
            self._running = True
        try:
            return checked_call(self._step)
        finally:
            with self._lock:
                self._running = False
                left = self._left.is_set()
            if left:  # while this step was under way; nobody else can close it before its end
                self._close()

    def _step(self) -> _Yielded | _Returned:
        try:
            return _Yielded(self._context.run(next, self._generator))
        except StopIteration as end:
            return _Returned(end.value)

    def _leave(self) -> bool:
        """Make no further step; returns whether the generator is to be closed here and now."""
        with self._lock:
            self._left.set()
            return not self._running and inspect.getgeneratorstate(self._generator) != inspect.GEN_CLOSED

    async def _close_elsewhere(self) -> None:
        """Close it in a thread, for that may block.

        Not by the invoker: whoever left the turn need not be there any more to make calls for it, and where this task
        is cancelled once more, the call must have begun.
        """
        try:
            closing = start_in_thread(self._close)
        except RuntimeError:  # the interpreter is about to end and starts no more threads
            self._close()
            return
        await closing

    def _close(self) -> None:
        try:
            checked_call(lambda: self._context.run(self._generator.close))
        except Exception:
            logger.warning("a tool's handler failed while it was closed", exc_info=True)


_LOOK_AGAIN = 0.05  # seconds


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

    def __call__(self, fate: CallOutcome) -> None:
        """The call was settled, or left to the caller of the turn."""


class Submit(Protocol):
    """Posts the results of tool calls."""

    async def __call__(self, call_id: str, result: object, *, accept_existing: bool) -> None:
        """Post a result until the server has acknowledged it; ``accept_existing``: or somebody else's."""


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
        registry: The calls that the client's turns have taken on.
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
        registry: CallRegistry,
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
        self._registry = registry
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
        if not is_reentrant(self._conversation):
            await wait_for_end(self._tasks)

    async def _take_care(self, call: ToolCall, done: Done) -> None:
        step = step_of(call) or Step.RESULT
        try:
            with in_callback_of(self._conversation):
                fate = await (self._approve(call) if step is Step.APPROVAL else self._answer(call))
            if fate is not CallOutcome.LEFT:
                self._registry.settle(call.id, self._turn, step, fate)
        except asyncio.CancelledError as error:
            if self._cancelled:
                raise
            self.failure = self.failure or _cancelled_by_others(call, error)
            fate = CallOutcome.LEFT
        except BaseException as error:  # noqa: BLE001 - it is handed to the caller, who raises it
            self.failure = self.failure or (error.error if isinstance(error, _CallbackFailedError) else error)
            fate = CallOutcome.LEFT
        done(fate)

    async def _approve(self, call: ToolCall) -> CallOutcome:
        claimed = self._registry.take(call.id, self._turn, Step.APPROVAL)
        if claimed is None:
            return await self._approver.settle(call)
        if isinstance(claimed, CallOutcome):
            return claimed
        await _settled_by(claimed, call.id, claimed.calls.decided)
        return claimed.calls.decision(call.id)

    async def _answer(self, call: ToolCall) -> CallOutcome:
        callback = self._on_tool_call
        if callback is not None:
            async with self._one_callback:
                await invoke(self._invoker, callback, lambda: callback(call))
        if call.id in self._turn.calls.answered:
            return CallOutcome.ANSWERED
        tool = self._tools.get(call.name)
        if tool is None or tool.handler is None:
            if self._turn.calls.decided.get(call.id):
                logger.warning(
                    "chat %s: the call %s of the tool %s was approved here, but this agent has no handler for it: the "
                    "run waits until a program that has one goes on with it, or submit_tool_result answers it",
                    *(self._turn.chat_id, call.id, call.name),
                )
            return CallOutcome.LEFT
        claimed = self._registry.take(call.id, self._turn)
        if isinstance(claimed, CallOutcome):
            return claimed
        if claimed is not None:
            await _settled_by(claimed, call.id, claimed.calls.answered)
            return CallOutcome.ANSWERED if call.id in claimed.calls.answered else CallOutcome.LEFT
        async with self._slots:
            result = await self._execute(tool, call)
        try:
            await self._submit(call.id, result, accept_existing=True)
        except APIError as error:
            if error.status_code != _TOO_LARGE:
                raise
            logger.warning("the result of the tool %s is too large; the agent was told so", tool.name)
            await self._submit(call.id, _error_text(_too_large(result)), accept_existing=True)
        return CallOutcome.ANSWERED

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


_TOO_LARGE = 413  # the HTTP status


def _too_large(result: str) -> str:
    return f"the tool's result was refused as too large: it has {len(result):,} characters"


def _error_text(text: str) -> str:
    """A failure as a tool's result, in the form that the JavaScript SDK gives it."""
    return json.dumps({"error": text}, ensure_ascii=False)
