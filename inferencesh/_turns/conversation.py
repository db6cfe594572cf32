"""The state of one conversation: its chat, its current turn, and the two ways in which a turn begins."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

import anyio
import attrs

from inferencesh._http.api import ChatAPI
from inferencesh._http.uploads import attachments
from inferencesh._loops.invoke import is_reentrant
from inferencesh._protocol.outcome import End, Outcome
from inferencesh._protocol.run import goes_on
from inferencesh._protocol.turn import Turn
from inferencesh._text import decode_json
from inferencesh._types.codec import dump_json, structure
from inferencesh.builders import reference_problem
from inferencesh.config import AgentConfig, warn_of_unknown_names
from inferencesh.errors import ConfigurationError, InferenceError, StreamError
from inferencesh.models import FINISH, FileRef, Interrupt, Message, Role
from inferencesh.tools.builder import Builder
from inferencesh.tools.handler import Tool

from .driver import TurnDriver
from .request import TurnRequest

__all__ = ["AgentSetup", "Conversation", "read_context"]


@attrs.frozen
class AgentSetup:
    """An agent as the caller has configured it.

    Attributes:
        body: What names or describes the agent in a request.
        tools: The tools with handlers, by name.
    """

    body: Mapping[str, Any]
    tools: Mapping[str, Tool]

    @staticmethod
    def with_output_schema(body: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """A body's description of an agent with another output schema, for one run; a named agent keeps its own.

        The official documentation has the ``finish`` tool, which takes the output, switched on for that.
        """
        config = body.get("agent_config")
        if config is None:
            return body
        switches = config.get("internal_tools")
        tools = {**(switches if isinstance(switches, Mapping) else {}), FINISH: True}
        return {**body, "agent_config": {**config, "output_schema": schema, "internal_tools": tools}}

    @classmethod
    def read(cls, config: str | AgentConfig | Mapping[str, Any]) -> AgentSetup:
        """Read what the caller gave.

        Args:
            config: ``namespace/name[@version]`` of an agent stored at the service, or the description of one.

        Raises:
            ConfigurationError: It is neither, or cannot be sent as JSON.
        """
        if isinstance(config, str):
            if problem := reference_problem(config):
                raise ConfigurationError(problem)
            return cls({"agent": config}, {})
        if not isinstance(config, Mapping):
            raise ConfigurationError(
                f"an agent is configured by a mapping or named by namespace/name, not by a {type(config).__name__}"
            )
        given = _listed(config, "tools")
        made = {"tools": [_plain(item) for item in given], "hooks": [_hook(item) for item in _listed(config, "hooks")]}
        plain = {**config, **{key: value for key, value in made.items() if key in config}}
        _check_internal_tools(config.get("internal_tools"))
        try:
            sent = decode_json(dump_json(plain))  # a copy: what the caller changes later is not sent
        except TypeError as error:
            raise ConfigurationError(f"the agent's configuration cannot be sent as JSON: {error}") from None
        warn_of_unknown_names(sent)
        names = Counter(
            item["name"] for item in given if isinstance(item, Mapping) and isinstance(item.get("name"), str)
        )
        for name, count in names.items():
            if count > 1:
                raise ConfigurationError(f"two tools have the name {name!r}")
        tools = {item.name: item for item in given if isinstance(item, Tool)}
        return cls({"agent_config": sent, "agent_name": sent.get("name")}, tools)


def read_context(context: Mapping[Any, Any] | None) -> dict[str, str] | None:
    """Read the variables for a new chat.

    Raises:
        ConfigurationError: They are not texts by name.
    """
    if context is None:
        return None
    if not isinstance(context, Mapping):
        raise ConfigurationError(f"context is a mapping of names to texts, not a {type(context).__name__}")
    for name, value in context.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ConfigurationError(
                f"context maps names to texts, but {name!r} is of the type {type(name).__name__} and its value of the "
                f"type {type(value).__name__}; write numbers and the like as text, as in str(5)"
            )
    return dict(context)


def _listed(config: Mapping[str, Any], key: str) -> list[object]:
    """The members of a list in the configuration, none of which may be unfinished."""
    listed = config.get(key) or ()
    if isinstance(listed, Builder):
        raise ConfigurationError(_unbuilt(key))
    if not isinstance(listed, Iterable):
        raise ConfigurationError(f"{key} must be a list of {key}, not a {type(listed).__name__}")
    given = list(listed)
    if any(isinstance(item, Builder) for item in given):
        raise ConfigurationError(_unbuilt(f"one of the {key}"))
    return given


def _hook(item: object) -> dict[str, Any]:
    if isinstance(item, Mapping):
        return dict(item)
    raise ConfigurationError(
        f"a hook is what lifecycle_hook(...).build() returns, or a mapping, not a {type(item).__name__}; "
        "learning_hooks(...) returns a list, which is added with *"
    )


def _check_internal_tools(value: object) -> None:
    if isinstance(value, Builder):
        raise ConfigurationError(_unbuilt("internal_tools"))
    if value is not None and not isinstance(value, Mapping):
        raise ConfigurationError(
            f"internal_tools is what internal_tools().build() returns, or a mapping, not a {type(value).__name__}"
        )


def _unbuilt(what: str) -> str:
    return f"{what} is not built yet: end it with .build()"


def _plain(item: object) -> dict[str, Any]:
    if isinstance(item, Tool) and item.is_method:
        raise ConfigurationError(
            f"the tool {item.name!r} is a method without its object: take the tool of an object, as in shop.{item.name}"
        )
    if isinstance(item, Mapping):
        return dict(item)
    hint = "; make one of a function with tool(function)" if callable(item) else ""
    raise ConfigurationError(
        f"a tool is what tool(...).build() returns, or a mapping, not a {type(item).__name__}{hint}"
    )


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
        self._first = threading.Lock()  # held by the message that begins the chat until it was answered

    def reset(self) -> None:
        """Forget the chat.

        Raises:
            InferenceError: The conversation's turn waits for the function that calls this.
        """
        self.require_free()
        self.chat_id = None
        self._turn = self._before = None
        self._untold.clear()
        self._first = threading.Lock()

    def require_free(self) -> None:
        """Check that no turn waits for the function that asks.

        Raises:
            InferenceError: One does: what it asks for would wait behind that turn, and the turn for it.
        """
        if is_reentrant(self):
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

        A chat that exists has its stream opened first, so that nothing of the reply can be missed. Where there is none
        yet, one message begins it, and others that are sent meanwhile wait until they can follow it there.
        """
        async with self._one_begins_the_chat():
            return await self._send(driver, request, files)

    @contextlib.asynccontextmanager
    async def _one_begins_the_chat(self) -> AsyncIterator[None]:
        held = None
        while self.chat_id is None:
            first = self._first  # another one after a reset
            if first.acquire(blocking=False):
                held = first
                break
            await anyio.sleep(_LOOK_AGAIN)  # who holds it may be on another loop: there is no event to share with it
        try:
            yield
        finally:
            if held is not None:
                held.release()

    async def _send(self, driver: TurnDriver, request: TurnRequest, files: Sequence[FileRef]) -> Turn:
        before, chat_id, first = self._present, self.chat_id, self._first
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
        if self._first is first:  # else the conversation was reset meanwhile
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
        self, call_id: str, result: object, *, accept_existing: bool = False, files: Sequence[FileRef] = ()
    ) -> None:
        """Post a tool call's result; the turn that waits for it goes on."""
        await self.api.submit(call_id, result, accept_existing=accept_existing, files=files)
        self._tell(lambda turn: turn.call_answered(call_id, _now()))

    async def decide(self, call_id: str, *, approved: bool, reason: str = "", accept_existing: bool = False) -> bool:
        """Approve or reject a tool call; the turn that waits for that goes on. Returns as ``ChatAPI.decide``."""
        counts = await self.api.decide(call_id, approved=approved, reason=reason, accept_existing=accept_existing)
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


_LOOK_AGAIN = 0.02  # seconds


def _message(answer: Mapping[str, Any], name: str) -> Message | None:
    data = answer.get(name)
    return structure(data, Message) if data is not None else None


def _now() -> float:
    return asyncio.get_running_loop().time()
