"""The state of one conversation: its chat, its current turn, and the two ways in which a turn begins."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from .agent_config import AgentConfig
from .chat_api import ChatAPI
from .converter import structure
from .driver import TurnDriver
from .errors import InferenceError, StreamError
from .models import FileRef, Message, Role
from .run_state import goes_on
from .turn import End, Outcome, Turn
from .turn_request import TurnRequest
from .uploads import attachments

__all__ = ["Conversation"]


class Conversation:
    """A conversation with an agent, in one chat at a time.

    Args:
        api: The service's calls.
        agent: What names or describes the agent in the body of a posted message.
        chat_id: A chat to take up, or None for a new one.
        context: Variables for a new chat, or None.
    """

    def __init__(
        self, api: ChatAPI, agent: Mapping[str, Any], chat_id: str | None, context: Mapping[str, str] | None
    ) -> None:
        self.chat_id = chat_id
        self.api = api
        self._agent = agent
        self._context = context
        self._turn: Turn | None = None
        self._expects_more = False  # whether a result was submitted to a turn that is not at hand

    def reset(self) -> None:
        """Forget the chat."""
        self.chat_id = None
        self._turn = None
        self._expects_more = False

    def require_chat(self) -> str:
        """The chat's id.

        Raises:
            InferenceError: There is no chat yet.
        """
        if self.chat_id is None:
            raise InferenceError("this agent has no chat yet: send a message first, or pass chat_id= to take one up")
        return self.chat_id

    async def send(self, driver: TurnDriver, request: TurnRequest, files: Sequence[FileRef] = ()) -> Turn:
        """Begin a turn by posting a message.

        A chat that exists has its stream opened first, so that nothing of the reply can be missed.
        """
        before, chat_id = self._turn, self.chat_id
        turn = Turn(chat_id) if before is None else before.next()
        if chat_id is not None:
            await driver.connect(chat_id)
        # A chat keeps its agent: an empty description is there to take it up, not to replace it.
        agent = {} if chat_id is not None and self._agent.get("agent_config") == {} else self._agent
        if request.output_schema is not None and agent:
            agent = AgentConfig.with_output_schema(agent, request.output_schema)
        body: dict[str, Any] = {"chat_id": chat_id, **agent, "input": {"text": request.text}}
        if files:
            body["input"]["attachments"] = attachments(files)
        if chat_id is None and self._context is not None:
            body["context"] = self._context
        if driver.posted:
            raise StreamError(
                "sending this message was interrupted, and whether it has arrived is not known; "
                "look at the chat before you send it again"
            )
        driver.posted = True
        answer = await self.api.run(body)
        snapshot = turn.begin(_message(answer, "user_message"), _message(answer, "assistant_message"), _now())
        if turn.chat_id is None:
            raise StreamError("the server's answer to the message names no chat, so its reply cannot be found")
        self.chat_id, self._turn, self._expects_more = turn.chat_id, turn, False
        if before is not None and turn.run.queued and before.waits_for_results:
            raise StreamError(
                "the message is queued behind a turn that waits for the results of its tool calls; answer them with "
                "submit_tool_result, then wait() for the reply"
            )
        if snapshot is not None:
            driver.ready.append(snapshot)
        return turn

    async def attach(self, driver: TurnDriver) -> Turn:
        """Take up the turn that is running or paused; where there is none, one that is over with the last message."""
        chat_id = self.require_chat()
        turn = self._turn
        if turn is not None and not turn.driven and (turn.outcome is None or turn.outcome.end is End.PAUSED):
            await driver.connect(chat_id)
            turn.resume(_now())
            return turn
        chat = await self.api.read_chat(chat_id)
        messages = await self.api.read_messages(chat, chat_id, lambda message: message.get("role") == Role.USER)
        turn = Turn.latest(chat_id, messages, _now())
        if goes_on(chat) or self._expects_more:
            await driver.connect(chat_id)
            turn.wants_reread = True
            self._turn, self._expects_more = turn, False
        else:
            replies = [m for m in (structure(data, Message) for data in messages) if m.role == Role.ASSISTANT]
            turn.outcome = Outcome(End.FINISHED, max(replies, key=lambda message: message.order, default=None))
        return turn

    async def submit(
        self, call_id: str, result: object, *, anybodys: bool = False, files: Sequence[FileRef] = ()
    ) -> None:
        """Post a tool call's result; the turn that waits for it goes on."""
        await self.api.submit(call_id, result, anybodys=anybodys, files=files)
        turn = self._turn
        if turn is not None and (turn.outcome is None or turn.outcome.end is End.PAUSED):
            turn.call_answered(call_id, _now())
        else:
            self._expects_more = True

    async def approve(self, call_id: str) -> None:
        """Approve a tool call; the turn that waits for that goes on."""
        await self.api.approve(call_id)
        self._goes_on()

    async def reject(self, call_id: str, reason: str) -> None:
        """Reject a tool call; the turn that waits for that goes on."""
        await self.api.reject(call_id, reason)
        self._goes_on()

    async def resolve(self, interrupt_id: str, decision: str) -> Mapping[str, Any]:
        """Decide about an interrupt; the turn that waits for that goes on."""
        interrupt = await self.api.resolve_interrupt(interrupt_id, decision)
        self._goes_on()
        return interrupt

    def _goes_on(self) -> None:
        self._expects_more = True


def _message(answer: Mapping[str, Any], name: str) -> Message | None:
    data = answer.get(name)
    return structure(data, Message) if data is not None else None


def _now() -> float:
    return asyncio.get_running_loop().time()
