"""Puts a turn together: its driver, what runs its tools, and the stream that hands its snapshots on."""

from __future__ import annotations

import attrs

from .agent_config import AgentConfig
from .approvals import Approver
from .claims import Claims
from .conflate import Conflator
from .conversation import Conversation
from .driver import Reconnects, TurnDriver
from .invoke import Invoker, ThreadInvoker
from .stream import AsyncMessageStream, SnapshotSource
from .tool_runner import ToolLimits, ToolRunner
from .tracing import runner_class, turn_driver
from .transport import Transport
from .turn import Turn
from .turn_request import TurnRequest

__all__ = ["AgentOptions", "open_turn"]


@attrs.frozen
class AgentOptions:
    """What a client's agents have in common.

    Attributes:
        reconnects: How lost streams are taken up again.
        tools: Limits of tool calls.
        claims: The calls that are taken care of.
    """

    reconnects: Reconnects = attrs.Factory(Reconnects)
    tools: ToolLimits = attrs.Factory(ToolLimits)
    claims: Claims = attrs.Factory(Claims)


def open_turn(
    transport: Transport,
    conversation: Conversation,
    config: AgentConfig,
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
        approver = Approver(turn, request.on_approval, caller, conversation.decide)
        submit = conversation.submit
        return make(turn, config.tools, request.on_tool_call, caller, submit, approver, limits, options.claims)

    async def begin(driver: TurnDriver) -> Turn:
        turn = await (conversation.attach(driver) if request.text is None else conversation.send(driver, request))
        turn.calls.asks = request.on_approval is not None
        return turn

    driver = turn_driver(transport, begin, runner, options.reconnects, agent=config.body, text=request.text)
    source: SnapshotSource = Conflator(driver) if request.conflate else driver
    return AsyncMessageStream(driver, source, caller, request.on_message)
