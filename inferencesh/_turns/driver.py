"""Drives one turn: begins it, reads its stream, reconnects, re-reads the chat and starts its tool calls.

A caller pulls snapshots with ``advance``. Between two pulls nothing is read from the connection, so a slow reader slows
the server down instead of filling memory. Tool calls go on meanwhile, as tasks.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import attrs

from inferencesh._http.events import EventDriver, Reconnects
from inferencesh._http.transport import Transport
from inferencesh._loops.invoke import Invoker
from inferencesh._loops.threads import WeakRegistry
from inferencesh._protocol.outcome import End, Outcome
from inferencesh._protocol.turn import Turn
from inferencesh.errors import (
    APIConnectionError,
    APIError,
    ConfigurationError,
    ConflictError,
    InferenceError,
    LeaseLostError,
    NotFoundError,
    RunFailedError,
    StreamError,
    UnreadableError,
)
from inferencesh.models import Message

from .conversation import Conversation
from .leases import Lease, Leases
from .output import read_output
from .request import TurnRequest
from .start import TurnStarter, stream_path
from .tools import ToolLimits, ToolRunner
from .tracing import TurnSpan

__all__ = ["AgentOptions", "TurnDriver"]

logger = logging.getLogger("inferencesh")

_RELEASING = 1.0  # seconds for which leaving a turn waits for the claim store


@attrs.frozen
class AgentOptions:
    """The options and the state that all agents of a client share.

    Attributes:
        reconnects: The limits of reconnecting to streams.
        tools: The limits of tool calls.
        leases: What the client's turns have claimed.
        runners: The tool runners that are alive; closing the client closes them.
    """

    reconnects: Reconnects = attrs.Factory(Reconnects)
    tools: ToolLimits = attrs.Factory(ToolLimits)
    leases: Leases = attrs.Factory(Leases)
    runners: WeakRegistry[ToolRunner] = attrs.Factory(WeakRegistry)


class TurnDriver(EventDriver[Message]):
    """One turn of a conversation.

    Args:
        transport: Makes the requests.
        conversation: The conversation.
        request: What the caller asks of the turn.
        options: The options of the client's agents.
        invoker: Calls functions of the user that may block.

    Attributes:
        turn: The turn's state; None until it has begun.
        closed: Whether the turn is over for this driver: it ended, paused, failed or was closed.
        fencing_token: The number of the turn's lease; None where claims are not shared, or another worker has the turn.
    """

    _advice = "the run may still be going on, agent.wait() takes it up again"

    def __init__(
        self,
        transport: Transport,
        conversation: Conversation,
        request: TurnRequest,
        options: AgentOptions,
        invoker: Invoker,
    ) -> None:
        super().__init__(transport, options.reconnects)
        self.turn: Turn | None = None
        self.fencing_token: int | None = None
        self.conversation = conversation
        self.request = request
        self.invoker = invoker
        self._api = conversation.api
        self._options = options
        self._span = TurnSpan(conversation.setup.body, request.text)
        self._starter: TurnStarter | None = None  # kept for a turn that is left before it has begun
        self._lease: Lease | None = None
        self._releasing: asyncio.Task[None] | None = None
        self._drives = False  # whether this driver, and no other one, drives the turn now
        self._runner: ToolRunner | None = None
        self._runners: list[ToolRunner] = []  # the present one, and those that may not have stopped yet

    # -- what the stream calls -------------------------------------------------------------------------------------

    async def read_output(self) -> Any:
        """Return the structured output of the turn, which is over; None when the agent gave none.

        Raises:
            InputRequiredError: The turn is paused.
            OutputError: The run was cancelled, or the output is incomplete.
            APIError, APIConnectionError: The chat could not be read.
        """
        assert self.turn is not None
        try:
            return await read_output(self.turn, self._api)
        except BaseException as error:
            await self._fail(error)
            raise

    async def stop(self) -> None:
        """End the run on the server; does nothing before the turn has begun."""
        if self.turn is not None and self.turn.chat_id is not None:
            await self._api.stop(self.turn.chat_id)

    async def leave(self) -> None:
        """Detach, and wait until the tool calls have stopped."""
        self.detach()
        for runner in list(self._runners):
            await runner.aclose()
        await self._wait_for_release()

    async def _wait_for_release(self) -> None:
        """Wait until the store has the lease back, so that the next stream, here or elsewhere, can claim it at once."""
        releasing = self._releasing
        if releasing is not None and releasing.get_loop() is asyncio.get_running_loop():
            await asyncio.wait({releasing}, timeout=_RELEASING)

    def _detach(self) -> None:
        """Close the connection and cancel the tool calls."""
        super()._detach()
        if self._runner is not None:
            self._runner.cancel()
            self._runner = None
        if self._lease is not None:
            self._releasing = self._options.leases.release_soon(self._lease)
            self._lease = None
        if self.turn is not None and self._drives:  # else another stream may have taken the turn up since
            self._drives = self.turn.driven = False
            self.turn.calls.abandon()
        self._span.end(self.turn)

    def _annotate(self, error: Exception) -> None:
        self._span.fail(error)
        turn = self.turn
        if isinstance(error, InferenceError):
            if turn is not None:
                error.message = error.message or turn.last_delivered
            error.chat_id = error.chat_id or (turn.chat_id if turn is not None else self.conversation.chat_id)

    # -- beginning -------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        if not self._drives:
            await self._take_up()

    async def _take_up(self) -> Turn:
        """Begin the turn, or take it up again where it was left."""
        turn = self.turn
        self._use_running_loop()
        if turn is None:
            starter = self._starter = self._starter or self._make_starter()
            with self._span.active():
                self.conversation.require_free()
                turn = await starter.start()
            self._starter = None
            self._snapshots += starter.snapshots
            turn.calls.asks = self.request.on_approval is not None
            turn.through_pauses = self.request.until == "end"
            self.turn = turn
            self._keep(starter.lease)
        elif self._options.leases.shared:
            starter = self._make_starter()
            await starter.follow(turn)
            self._keep(starter.lease)
        self._drives = turn.driven = True
        if self.closed:  # by another task, while the turn was begun
            await self.leave()
        return turn

    def _make_starter(self) -> TurnStarter:
        return TurnStarter(self.conversation, self.request, self._options.leases, self._connection, lambda: self.closed)

    def _keep(self, lease: Lease | None) -> None:
        """Keep the lease of the turn until it is left."""
        self._lease = lease
        self.fencing_token = lease.fencing_token if lease is not None else None
        if lease is not None:
            lease.on_lost(self._connection.wake)

    async def _confirm_lease(self, lease: Lease) -> None:
        """Check that no other worker has taken the turn over, after this process has not renewed its lease in time.

        Raises:
            LeaseLostError: One has. What was received since is not delivered.
        """
        if not lease.valid and not await lease.confirm():
            self._snapshots.clear()
            raise LeaseLostError(
                "another worker has taken over this turn, because this process was suspended or overloaded and did not "
                "renew its lease in time; the turn continues there"
            )

    # -- reading ---------------------------------------------------------------------------------------------------

    async def _fill(self) -> None:
        """Drive the turn until there are snapshots, or until it is over.

        Raises:
            RunFailedError: The run failed.
            LeaseLostError: Another worker has taken the turn over.
            Exception: What a request, or a callback, raised.
        """
        turn = self.turn
        if turn is None or not self._drives:
            turn = await self._take_up()
        connection = self._connection
        while not self._snapshots:
            if self.closed:  # by another task, while this one was waiting
                self._detach()
                return
            if self._lease is not None:
                await self._confirm_lease(self._lease)
            if self._runner is not None and self._runner.failure is not None:
                raise self._runner.failure
            if turn.wants_action or self._wait or not connection.is_open:
                with self._span.active():
                    await self._act(turn)
            elif connection.has_events:
                self._receive(turn)
            elif connection.ended:
                self._lost(turn, APIConnectionError("the server closed the stream before the turn was over"))
            else:
                await self._read(turn)
        if self._lease is not None:  # this process may have been stopped while it waited
            await self._confirm_lease(self._lease)

    async def _act(self, turn: Turn) -> None:
        """Do the next thing that has to be done before more events are received."""
        if turn.was_refused:
            await self._withdraw(turn)
            return
        if turn.outcome is not None:
            await self._conclude(turn, turn.outcome)
            return
        for call in turn.calls.take():
            self._tool_runner(turn).start(call)
        if self._wait:
            wait, self._wait = self._wait, 0.0
            await asyncio.sleep(wait)  # the driver may be closed, or a tool call fail, meanwhile
        elif turn.wants_reread:
            await self._reread(turn)
        elif not self._connection.is_open:
            assert turn.chat_id is not None
            await self._connect(turn, stream_path(turn.chat_id))

    async def _reread(self, turn: Turn) -> None:
        """Read the chat and its messages."""
        chat_id = turn.chat_id
        assert chat_id is not None
        try:
            chat = await self._api.read_chat(chat_id)
            messages = await self._api.read_messages(chat, chat_id, turn.replies.begins_after)
        except NotFoundError as error:
            if not self._connection.is_open:
                raise
            logger.info("chat %s: it streams but cannot be read (%s)", chat_id, error.status_code)
            self._snapshots += turn.reread_failed(self._now())
            return
        except (APIConnectionError, APIError, UnreadableError) as error:
            self._read_failed(turn, error)
            return
        try:
            self._snapshots += turn.reread(chat, messages, self._now())
        except UnreadableError as error:
            self._distrust(turn, [error])
            self._count_loss(turn, error)

    # -- tool calls and the end ------------------------------------------------------------------------------------

    def _tool_runner(self, turn: Turn) -> ToolRunner:
        """Return the runner of the turn's tool calls; the first call makes it."""
        if self._runner is None:
            options = self._options
            self._runner = ToolRunner(
                turn,
                self.conversation,
                self.request,
                options.tools,
                options.leases,
                self.invoker,
                on_settled=self._connection.wake,
            )
            self._runners.append(self._runner)
            options.runners.add(self._runner)
        return self._runner

    async def _withdraw(self, turn: Turn) -> None:
        """Withdraw the message, which is queued behind a run that waits for input.

        Returns only if the message is not queued any more.

        Raises:
            InputRequiredError: The message gets no turn before that input is given.
        """
        pause = turn.outcome.pause if turn.outcome is not None else None
        assert pause is not None
        failure: InferenceError | None = None
        try:
            withdrawn = turn.replies.withdrawn or await self._api.cancel_message(turn.run.user_message_id)
        except (APIError, APIConnectionError, ConfigurationError) as error:
            withdrawn, failure = False, error
        if not withdrawn and turn.may_be_withdrawn and (failure is None or isinstance(failure, ConflictError)):
            turn.withdrawal_refused(self._now())
            return
        if withdrawn:
            raise pause.error("the chat", "; the message was withdrawn: answer first, call wait(), then send it again")
        raise pause.error(
            "the chat",
            "; the message could not be withdrawn and may be answered after that, so do not send it again: answer what "
            "is waited for, call wait(), then look at history()",
        ) from failure

    async def _conclude(self, turn: Turn, outcome: Outcome) -> None:
        """Close the connection of a turn that is over or paused; raise its error if it failed."""
        if outcome.end is End.FAILED:
            raise RunFailedError(self._transport.masked(outcome.detail))
        if outcome.end not in {End.FINISHED, End.PAUSED}:
            raise StreamError(f"chat {turn.chat_id}: {outcome.detail}")
        await self.aclose()
