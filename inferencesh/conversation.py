"""The state of one conversation: its chat, its current turn, and the two ways in which a turn begins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .agent_config import AgentSetup
from .chat_api import ChatAPI
from .converter import structure
from .driver import TurnDriver
from .errors import InferenceError, StreamError
from .models import FileRef, Interrupt, Message, Role
from .reentry import waits
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
        self._before: Turn | None = None  # the turn before, which stays the present one where a message is refused
        self._untold: list[Callable[[Turn], None]] = []  # what was settled while the turn was not at hand

    def reset(self) -> None:
        """Forget the chat.

        Raises:
            InferenceError: The conversation's turn waits for the function that calls this.
        """
        self.require_free()
        self.chat_id = None
        self._turn = self._before = None
        self._untold.clear()

    def require_free(self) -> None:
        """Check that no turn waits for the function that asks.

        Raises:
            InferenceError: One does: what it asks for would wait behind that turn, and the turn for it.
        """
        if waits(self):
            raise InferenceError(
                "this was called from a handler or callback that a turn of the same conversation is waiting for: it "
                "would wait behind that turn, and the turn for it, for ever; use another agent, which has a "
                "conversation of its own, such as client.agent(config), or call it when the turn is over"
            )

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
        before, chat_id = self._present, self.chat_id
        turn = Turn(chat_id) if before is None else before.next()
        if chat_id is not None:
            await driver.connect(chat_id)
        # A chat keeps its agent: an empty description is there to take it up, not to replace it.
        agent = {} if chat_id is not None and self._agent.get("agent_config") == {} else self._agent
        if request.output is not None and agent:
            agent = AgentSetup.with_output_schema(agent, request.output.schema)
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
        self.chat_id, self._turn, self._before = turn.chat_id, turn, before
        self._untold.clear()
        if snapshot is not None:
            driver.ready.append(snapshot)
        return turn

    async def attach(self, driver: TurnDriver) -> Turn:
        """Take up the turn that is running or paused; where there is none, one that is over with the last message."""
        chat_id = self.require_chat()
        turn = self._present
        if turn is not None and not turn.driven and turn.is_current:
            await driver.connect(chat_id)
            turn.resume(_now())
            return turn
        chat = await self.api.read_chat(chat_id)
        messages = await self.api.read_messages(chat, chat_id, lambda message: message.get("role") == Role.USER)
        turn = Turn.latest(chat_id, messages, _now())
        if goes_on(chat) or self._untold:
            await driver.connect(chat_id)
            turn.wants_reread = True
            self._turn = turn
            while self._untold:
                self._untold.pop(0)(turn)
        else:
            replies = [m for m in (structure(data, Message) for data in messages) if m.role == Role.ASSISTANT]
            turn.outcome = Outcome(End.FINISHED, max(replies, key=lambda message: message.order, default=None))
        return turn

    async def submit(
        self, call_id: str, result: object, *, anybodys: bool = False, files: Sequence[FileRef] = ()
    ) -> None:
        """Post a tool call's result; the turn that waits for it goes on."""
        await self.api.submit(call_id, result, anybodys=anybodys, files=files)
        self._tell(lambda turn: turn.call_answered(call_id, _now()))

    async def decide(self, call_id: str, *, approved: bool, reason: str = "", anybodys: bool = False) -> bool:
        """Approve or reject a tool call; the turn that waits for that goes on. Returns as ``ChatAPI.decide``."""
        counts = await self.api.decide(call_id, approved=approved, reason=reason, anybodys=anybodys)
        self._tell(lambda turn: turn.call_decided(call_id, _now(), approved=approved if counts else None))
        return counts

    async def resolve(self, interrupt_id: str, *, allow: bool) -> Interrupt:
        """Decide about an interrupt; the turn that waits for that goes on."""
        interrupt = structure(await self.api.resolve_interrupt(interrupt_id, allow=allow), Interrupt)
        self._tell(lambda turn: turn.interrupt_resolved(interrupt, _now(), allowed=allow))
        return interrupt

    @property
    def _present(self) -> Turn | None:
        """The latest turn that has begun, or is to begin."""
        return self._before if self._turn is not None and self._turn.was_refused else self._turn

    def _tell(self, news: Callable[[Turn], None]) -> None:
        """Tell the turn that goes on or is paused; where none is at hand, the next that is taken up."""
        turn = self._present
        if turn is not None and turn.is_current:
            news(turn)
        else:
            self._untold.append(news)


def _message(answer: Mapping[str, Any], name: str) -> Message | None:
    data = answer.get(name)
    return structure(data, Message) if data is not None else None


def _now() -> float:
    return asyncio.get_running_loop().time()
