"""Puts a turn together: its driver, what runs its tools, and the stream that hands its snapshots on."""

from __future__ import annotations

import weakref

import attrs

from .agent_config import AgentSetup
from .approvals import Approver
from .claims import Claims
from .conflate import Conflator
from .conversation import Conversation
from .driver import Reconnects, TurnDriver
from .errors import InferenceError, StreamError
from .invoke import Invoker, ThreadInvoker
from .models import FileRef
from .stream import AsyncMessageStream, SnapshotSource
from .tool_runner import ToolLimits, ToolRunner
from .tracing import runner_class, turn_driver
from .transport import Transport
from .turn import Turn
from .turn_request import TurnRequest
from .uploads import upload_all

__all__ = ["AgentOptions", "open_turn"]


@attrs.frozen
class AgentOptions:
    """What a client's agents have in common.

    Attributes:
        reconnects: How lost streams are taken up again.
        tools: Limits of tool calls.
        claims: The calls that are taken care of.
        runners: What takes care of them at present.
    """

    reconnects: Reconnects = attrs.Factory(Reconnects)
    tools: ToolLimits = attrs.Factory(ToolLimits)
    claims: Claims = attrs.Factory(Claims)
    runners: weakref.WeakSet[ToolRunner] = attrs.Factory(weakref.WeakSet)


def open_turn(
    transport: Transport,
    conversation: Conversation,
    config: AgentSetup,
    options: AgentOptions,
    request: TurnRequest,
    invoker: Invoker | None = None,
) -> AsyncMessageStream:
    """Make a turn's stream; nothing is sent yet.

    Args:
        transport: Makes the requests.
        conversation: What the turn is part of.
        config: The agent, with the tools that run here.
        options: What the client's agents have in common.
        request: What is asked of the turn.
        invoker: Calls functions that may block; worker threads by default.
    """
    limits = options.tools
    caller: Invoker = invoker or ThreadInvoker(limits.at_once + 1)

    def runner(turn: Turn) -> ToolRunner:
        make = runner_class()
        made = make(
            turn,
            config.tools,
            request.on_tool_call,
            caller,
            conversation.submit,
            Approver(turn, request.on_approval, caller, conversation.decide),
            limits,
            options.claims,
            conversation,
            on_tool_progress=request.on_tool_progress,
            agent=request.agent,
        )
        options.runners.add(made)
        return made

    uploaded: list[FileRef] = []  # once, also for a turn that is left before its message was sent, and taken up again

    async def begin(driver: TurnDriver) -> Turn:
        conversation.require_free()
        try:
            turn = await _begin(driver)
        except InferenceError as error:
            error.chat_id = error.chat_id or conversation.chat_id
            raise
        turn.calls.asks = request.on_approval is not None
        turn.through_pauses = request.until == "end"
        return turn

    async def _begin(driver: TurnDriver) -> Turn:
        if request.text is None:
            return await conversation.attach(driver)
        if request.files and not uploaded:
            uploaded.extend(await upload_all(transport, request.files))
            if driver.closed:
                raise StreamError("the stream was closed while files were uploaded; the message was not sent")
        return await conversation.send(driver, request, uploaded)

    driver = turn_driver(transport, begin, runner, options.reconnects, agent=config.body, text=request.text)
    source: SnapshotSource = Conflator(driver) if request.conflate else driver
    return AsyncMessageStream(driver, source, caller, request.on_message, conversation)
