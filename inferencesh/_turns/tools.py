"""Takes care of a turn's tool calls: asks for approvals, calls handlers and posts their results, each exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import json
import logging
import threading
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from typing import Any, TypeAlias

import attrs

from inferencesh._http.uploads import attachments, check_result_files
from inferencesh._loops.invoke import (
    Invoker,
    ThreadInvoker,
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
from inferencesh._protocol.turn import Turn
from inferencesh._types.codec import structure
from inferencesh._types.encoding import EncodedResult, encode_result, plain_result
from inferencesh.claims.store import ClaimState
from inferencesh.errors import (
    APIError,
    CallbackCancelledError,
    InferenceError,
    exception_text,
    typed_text,
)
from inferencesh.models import FileRef, ToolCall
from inferencesh.tools.handler import ArgumentsError, Tool, ToolContext

from .conversation import Conversation
from .leases import Lease, Leases, new_owner, reading_stored
from .request import TurnRequest
from .tracing import tool_span

__all__ = ["ToolLimits", "ToolRunner"]

logger = logging.getLogger("inferencesh")


@attrs.frozen
class ToolLimits:
    """The limits of tool calls.

    Attributes:
        at_once: How many handlers of one turn run at once.
        timeout: The seconds that one handler may take, or None. A handler that takes longer is reported to the agent as
            failed; a sync handler cannot be stopped, its thread goes on and its result is dropped.
    """

    at_once: int = 16
    timeout: float | None = None


class ToolRunner:
    """Takes care of the tool calls of one turn, several at once, and tells the turn what became of each.

    Args:
        turn: The turn.
        conversation: The conversation that the turn is part of.
        request: The callbacks, and the agent object for handlers that ask for it.
        limits: The limits of tool calls.
        leases: The claims of the client, without which no call is taken care of.
        invoker: Calls functions of the user that may block.
        on_settled: Called after each call that the turn was told about.

    Attributes:
        failure: The first exception that the caller of the turn has to get, such as one of a callback; or None.
    """

    def __init__(
        self,
        turn: Turn,
        conversation: Conversation,
        request: TurnRequest,
        limits: ToolLimits,
        leases: Leases,
        invoker: Invoker,
        on_settled: Callable[[], object],
    ) -> None:
        self.failure: BaseException | None = None
        self._turn = turn
        self._conversation = conversation
        self._request = request
        self._limits = limits
        self._leases = leases
        self._invoker = invoker
        self._on_settled = on_settled
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._cancelled = False
        self._slots = asyncio.Semaphore(limits.at_once)
        self._one_callback = asyncio.Lock()  # callbacks for several calls are called one after the other
        self._one_question = asyncio.Lock()  # so is on_approval
        self._approval_failed = False  # then nobody is asked any more, for the turn is about to raise

    def start(self, call: ToolCall) -> None:
        """Start a task that takes care of a call.

        Args:
            call: A call that waits for an approval or for a result.
        """
        task = asyncio.create_task(self._take_care(call), name=f"inferencesh tool {call.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        """Cancel all calls under way, on their loop; the turn is told nothing more. A second call does nothing."""
        if self._cancelled:  # handlers that clean up are not cancelled again
            return
        self._cancelled = True
        for task in self._tasks:
            task.cancel()

    async def aclose(self) -> None:
        """Cancel all calls under way and wait until they have stopped.

        On another event loop, or in a handler or callback that the turn waits for, it does not wait.
        """
        if asyncio.get_running_loop() is not self._loop:
            hand_over(self._loop, self.cancel)  # the tasks of a closed loop have ended
            return
        self.cancel()
        if not is_reentrant(self._conversation):
            await wait_for_end(self._tasks)

    async def _take_care(self, call: ToolCall) -> None:
        step = step_of(call) or Step.RESULT
        try:
            with in_callback_of(self._conversation):
                outcome = await (self._approve(call) if step is Step.APPROVAL else self._answer(call))
        except asyncio.CancelledError as error:
            if self._cancelled:
                raise
            self.failure = self.failure or _cancelled_by_others(call, error)
            outcome = CallOutcome.LEFT
        except BaseException as error:  # noqa: BLE001 - the driver raises it to the caller
            self.failure = self.failure or (error.error if isinstance(error, _CallbackFailedError) else error)
            outcome = CallOutcome.LEFT
        self._tell(call, step, outcome)

    def _tell(self, call: ToolCall, step: Step, outcome: CallOutcome) -> None:
        """Tell the turn what became of a call."""
        turn, now = self._turn, self._loop.time()
        if outcome is CallOutcome.LEFT:
            turn.call_declined(call.id, now, step)
        elif outcome is CallOutcome.ANSWERED:
            turn.call_answered(call.id, now)
        else:
            approved = {CallOutcome.APPROVED: True, CallOutcome.REJECTED: False}.get(outcome)
            turn.call_decided(call.id, now, approved=approved)
        self._on_settled()

    # -- claims ----------------------------------------------------------------------------------------------------

    async def _claim(self, call: ToolCall, step: Step = Step.RESULT) -> Lease | CallOutcome:
        """Claim a step of a call, as soon as nobody else has it.

        Returns:
            The lease, or what has become of the call.
        """
        turn = self._turn
        turn.owner = turn.owner or new_owner()
        key = f"{turn.chat_id}:call:{call.id}" + (":approval" if step is Step.APPROVAL else "")
        claim = await self._leases.wait(key, turn.owner, turn.run.user_message_id)
        if isinstance(claim, Lease):
            return claim
        if claim.state is not ClaimState.COMPLETED or not claim.result:
            return CallOutcome.LEFT
        with reading_stored():
            return CallOutcome[claim.result]

    async def _note_answer(self, call: ToolCall) -> None:
        """Note for other streams that a callback has answered a call."""
        try:
            claim = await self._claim(call)
        except InferenceError as error:  # of the store
            logger.warning(
                "%s; other streams learn only from the service that the call %s was answered", error, call.id
            )
            return
        if isinstance(claim, Lease):
            await claim.complete(CallOutcome.ANSWERED.name)

    # -- approvals -------------------------------------------------------------------------------------------------

    async def _approve(self, call: ToolCall) -> CallOutcome:
        """Get a decision about a call: that of ``on_approval``, or one that was made elsewhere."""
        claim = await self._claim(call, Step.APPROVAL)
        if isinstance(claim, CallOutcome):
            return claim
        async with claim, self._one_question:
            if self._approval_failed:
                return CallOutcome.LEFT
            try:
                outcome = await self._ask(call)
            except BaseException:
                self._approval_failed = True
                raise
            if outcome is not CallOutcome.LEFT:
                await claim.complete(outcome.name)
            return outcome

    async def _ask(self, call: ToolCall) -> CallOutcome:
        """Ask ``on_approval`` about a call and post the decision.

        Raises:
            TypeError: It returned something else than a decision.
            APIError, APIConnectionError: The decision could not be posted.
            Exception: What ``on_approval`` raised; nothing was decided then.
        """
        ask, calls = self._request.on_approval, self._turn.calls
        if ask is None or call.id in calls.decided:
            return calls.decision(call.id)
        calls.ask(call.id)
        answer = await self._call_back("on_approval", ask, call)
        decision = _read_decision(answer)
        if decision is None or call.id in calls.decided:  # the callback may itself have called approve_tool
            return calls.decision(call.id)
        approved, reason = decision
        if not await self._conversation.decide(call.id, approved=approved, reason=reason, accept_existing=True):
            return CallOutcome.DECIDED
        return CallOutcome.APPROVED if approved else CallOutcome.REJECTED

    # -- client tools ----------------------------------------------------------------------------------------------

    async def _answer(self, call: ToolCall) -> CallOutcome:
        """Call ``on_tool_call`` and the tool's handler, and post the result."""
        callback = self._request.on_tool_call
        if callback is not None:
            async with self._one_callback:
                await self._call_back("on_tool_call", callback, call)
        if call.id in self._turn.calls.answered:
            await self._note_answer(call)
            return CallOutcome.ANSWERED
        tool = self._conversation.setup.tools.get(call.name)
        if tool is None or tool.handler is None:
            if self._turn.calls.decided.get(call.id):
                logger.warning(
                    "chat %s: the call %s of the tool %s was approved here, but this agent has no handler for it: the "
                    "run waits until a program that has one goes on with it, or submit_tool_result answers it",
                    *(self._turn.chat_id, call.id, call.name),
                )
            return CallOutcome.LEFT
        while True:
            claim = await self._claim(call)
            if isinstance(claim, CallOutcome):
                return claim
            async with claim:
                if claim.attempt > 1 and not self._waits(call):  # the worker before had answered it, and then died
                    await claim.complete(CallOutcome.ANSWERED.name)
                    return CallOutcome.ANSWERED
                if await self._run(tool, tool.handler, call, claim):
                    return CallOutcome.ANSWERED

    def _waits(self, call: ToolCall) -> bool:
        """Whether a call still waits for its result, by what the chat has brought since it was found."""
        known = (each for message in self._turn.replies.current for each in message.tool_calls if each.id == call.id)
        return all(step_of(each) is not None for each in known)

    async def _run(self, tool: Tool, handler: Callable[..., Any], call: ToolCall, lease: Lease) -> bool:
        """Get the result of a claimed call and post it; a result that an earlier owner has recorded is posted as it is.

        Returns:
            Whether it was posted; False if another worker has the claim now, and with it the call.
        """
        if lease.result is not None:
            prepared = _Prepared.from_json(lease.result)
        else:
            try:
                async with asyncio.timeout(None) as held, self._slots:
                    lease.on_lost(lambda: held.reschedule(self._loop.time()))
                    result = await self._execute(tool, handler, call, lease.attempt)
                    prepared = await self._prepare(tool, result)
            except TimeoutError:
                if not held.expired():
                    raise
                logger.warning(
                    "the call %s of the tool %s was taken over by another worker, because this process did not renew "
                    "its lease in time",
                    *(call.id, tool.name),
                )
                return False
            lease.on_lost(None)
            if not await self._keep(prepared, lease):
                return False
        await self._submit(tool, call, prepared)
        await lease.complete(CallOutcome.ANSWERED.name)
        return True

    async def _keep(self, result: _Prepared, lease: Lease) -> bool:
        """Record a result, where another worker would otherwise run the call again if this process died now.

        Returns:
            Whether this process still has the claim, as far as it can tell: without the store nobody else gets it.
        """
        if not self._leases.shared:
            return True
        try:
            return await lease.record(result.to_json())
        except InferenceError as error:  # of the store
            logger.warning("%s; the result of a call that was already claimed is posted", error)
            return True

    async def _prepare(self, tool: Tool, result: EncodedResult) -> _Prepared:
        """Upload the images of a result; where the service refuses them, the agent is told so instead."""
        try:
            return _Prepared(result.text, await self._conversation.upload(result.images))
        except APIError as error:
            return _refused(tool, f"the images in the tool's result could not be uploaded: {exception_text(error)}")

    async def _submit(self, tool: Tool, call: ToolCall, result: _Prepared) -> None:
        """Post a result; where the service refuses it as too large, the agent is told so instead."""
        try:
            await self._conversation.submit(call.id, result.text, accept_existing=True, files=result.files)
        except APIError as error:
            if error.status_code != _TOO_LARGE:
                raise
            refused = f"the tool's result was refused as too large: it has {len(result.text):,} characters"
            await self._conversation.submit(call.id, _refused(tool, refused).text, accept_existing=True)

    async def _execute(self, tool: Tool, handler: Callable[..., Any], call: ToolCall, attempt: int) -> EncodedResult:
        """Call the handler; return the result to post, which for a failure says what went wrong."""
        try:
            if call.undecoded_arguments is not None:
                return _error_result("the arguments are not a JSON object")
            context = ToolContext(self._turn.chat_id or "", call.id, tool.name, self._request.agent, attempt)
            bound = tool.bind(call.arguments, context)
            async with asyncio.timeout(None) as limit:
                result = await self._call_handler(handler, call, self._timed(bound, limit))
                # Not on the loop, for code of the user may run, such as a pydantic serializer.
                invoker = ThreadInvoker(1) if runs_on_loop(self._invoker, handler) else self._invoker
                encoded = plain_result(result) or await invoke(invoker, encode_result, lambda: encode_result(result))
                check_result_files(encoded.images)
                return encoded
        except _CallbackFailedError:
            raise
        except ArgumentsError as error:
            logger.info("the agent gave the tool %s arguments that do not fit; it was told so", tool.name)
            return _error_result(exception_text(error))
        except Exception as error:
            if raised_by_signal_handler(error):
                raise  # such as a time limit: it is meant for the caller of the turn
            if isinstance(error, TimeoutError) and limit.expired():
                logger.warning("the handler of the tool %s took longer than %g s", tool.name, self._limits.timeout)
                return _error_result(f"the tool took longer than {self._limits.timeout:g} seconds")
            logger.warning("the handler of the tool %s failed; the agent was told so", tool.name, exc_info=error)
            return _error_result(typed_text(error))

    async def _call_handler(self, handler: Callable[..., Any], call: ToolCall, bound: Callable[[], Any]) -> Any:
        """Call a handler, on the loop or where it may block, and report what it yields.

        Args:
            handler: The handler.
            call: The tool call.
            bound: The call of the handler with its arguments.
        """
        on_loop = runs_on_loop(self._invoker, handler)
        invoker = None if on_loop else self._invoker
        with tool_span(call) as span:
            returned = await invoke(self._invoker, handler, span.carried(bound), on_loop=on_loop)
            result = await _last_value(returned, invoker, lambda value: self._report(call, value))
            span.record(result)
            return result

    async def _report(self, call: ToolCall, value: object) -> None:
        """Call ``on_tool_progress`` with what a handler has yielded."""
        callback = self._request.on_tool_progress
        if callback is None:
            return
        try:
            async with self._one_callback:
                await self._call_back("on_tool_progress", callback, call, value)
        except Exception as error:
            raise _CallbackFailedError(error) from error

    async def _call_back(self, name: str, callback: Callable[..., Any], call: ToolCall, *more: object) -> Any:
        """Call a callback about a tool call; what it raises has a note that says so."""
        try:
            return await invoke(self._invoker, callback, lambda: callback(call, *more))
        except Exception as error:
            error.add_note(f"raised by {name}, which was called about the call {call.id} of the tool {call.name}")
            raise

    def _timed(self, call: Callable[[], Any], limit: asyncio.Timeout) -> Callable[[], Any]:
        """Return a call whose time limit begins when it does, not while it waits for a thread."""
        timeout, loop = self._limits.timeout, self._loop
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
    """Carries an exception of ``on_tool_progress`` past the code that reports the handler's own to the agent."""

    def __init__(self, error: Exception) -> None:
        super().__init__(type(error).__name__)
        self.error = error


def _read_decision(answer: object) -> tuple[bool, str] | None:
    """Return what ``on_approval`` decided, with the reason; only True approves, not any truthy value."""
    if answer is None:
        return None
    if isinstance(answer, bool):
        return answer, ""
    if isinstance(answer, str):
        return False, answer
    raise TypeError(
        f"on_approval returned a {type(answer).__name__}; it returns True to approve the call, False or the reason as "
        "a str to reject it, or None to leave it to approve_tool and reject_tool"
    )


def _cancelled_by_others(call: ToolCall, error: asyncio.CancelledError) -> CallbackCancelledError:
    failure = CallbackCancelledError(f"the task of a call of the tool {call.name} was cancelled, and not by its turn")
    failure.__cause__ = error
    return failure


_TOO_LARGE = 413  # the HTTP status of a request body that a server does not take


def _error_result(text: str) -> EncodedResult:
    """Return a result that reports a failure, in the form that the JavaScript SDK uses."""
    return EncodedResult(json.dumps({"error": text}, ensure_ascii=False))


@attrs.frozen
class _Prepared:
    """A result as it is posted.

    Attributes:
        text: The result's text.
        files: The uploaded files that go with it.
    """

    text: str
    files: Sequence[FileRef] = ()

    def to_json(self) -> str:
        """Return it as JSON, for the claim store."""
        return json.dumps({"text": self.text, "files": attachments(self.files)})

    @classmethod
    def from_json(cls, text: str) -> _Prepared:
        """Parse the JSON of ``to_json``.

        Raises:
            ClaimStoreError: It is malformed.
        """
        with reading_stored():
            given = json.loads(text)
            if not isinstance(given["text"], str):
                raise TypeError(f"the text of a result is of the type {type(given['text']).__name__}")
            return cls(given["text"], [structure(file, FileRef) for file in given["files"]])


def _refused(tool: Tool, why: str) -> _Prepared:
    """Return what the agent gets in place of a result that the service refused."""
    logger.warning("the result of the tool %s was refused, or its images were; the agent was told so", tool.name)
    return _Prepared(_error_result(why).text)


Report: TypeAlias = Callable[[Any], Awaitable[None]]


async def _last_value(returned: Any, invoker: Invoker | None, report: Report) -> Any:
    """Return the result of a handler, after reporting what it yields.

    Args:
        returned: What the handler returned: a generator, sync or async, or the result itself.
        invoker: Calls the steps of a sync generator, which may block; None to call them on the loop.
        report: Called with each value that is yielded, before the generator goes on.

    Returns:
        What a sync generator returns, unless that is None, else the last value that was yielded, or None.
    """
    if isinstance(returned, types.AsyncGeneratorType):
        return await _drain(returned, report)
    if isinstance(returned, types.GeneratorType):
        return await _SyncGenerator(returned, invoker).run(report)
    return returned


async def _drain(values: AsyncGenerator[Any, None], report: Report) -> Any:
    last, end = None, object()
    try:
        while (value := await checked_await(anext(values, end))) is not end:
            last = value
            await report(last)
        return last
    finally:
        await checked_await(values.aclose())


@attrs.frozen
class _Yielded:
    value: Any


@attrs.frozen
class _Returned:
    value: Any


class _SyncGenerator:
    """Runs a sync generator, each step where it may block.

    Args:
        generator: The generator.
        invoker: Calls the steps; None to call them on the loop.
    """

    def __init__(self, generator: Generator[Any, None, Any], invoker: Invoker | None) -> None:
        self._generator = generator
        self._invoker = invoker
        # One context for all steps, on whatever threads: a variable that the generator sets is set in its next step.
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._running = False
        self._left = threading.Event()

    async def run(self, report: Report) -> Any:
        """Run the generator to its end, or close it when its caller gives up before."""
        last = None
        try:
            while isinstance(step := await self._call(self._advance), _Yielded):
                last = step.value
                await report(last)
        finally:
            if self._leave():
                await self._close_in_thread()
        return last if step.value is None else step.value

    async def _call(self, call: Callable[[], Any]) -> Any:
        return call() if self._invoker is None else await self._invoker.call_blocking(call)

    def _advance(self) -> _Yielded | _Returned:
        """Run one step. The end is returned as a value, because StopIteration cannot pass through a future."""
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
            if left:  # while this step was running, when nobody else could close the generator
                self._close()

    def _step(self) -> _Yielded | _Returned:
        try:
            return _Yielded(self._context.run(next, self._generator))
        except StopIteration as end:
            return _Returned(end.value)

    def _leave(self) -> bool:
        """Prevent further steps; return whether the caller has to close the generator."""
        with self._lock:
            self._left.set()
            return not self._running and inspect.getgeneratorstate(self._generator) != inspect.GEN_CLOSED

    async def _close_in_thread(self) -> None:
        """Close the generator in a thread, because closing may block.

        The invoker is not used: the thread that makes its calls may be gone, and the call must have started even if
        this task is cancelled again.
        """
        try:
            closing = start_in_thread(self._close)
        except RuntimeError:  # the interpreter is shutting down and starts no more threads
            self._close()
            return
        await closing

    def _close(self) -> None:
        try:
            checked_call(lambda: self._context.run(self._generator.close))
        except Exception as error:
            if raised_by_signal_handler(error):
                raise
            logger.warning("a tool's handler failed while it was closed", exc_info=True)
