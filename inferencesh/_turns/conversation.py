"""One conversation with an agent: its chat, its latest turn, and the agent's configuration as it is sent."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, get_args

import attrs

from inferencesh._http.api import ChatAPI
from inferencesh._http.sources import FileSource
from inferencesh._http.uploads import attachments
from inferencesh._loops.invoke import is_reentrant
from inferencesh._protocol.turn import Turn
from inferencesh._text import decode_json
from inferencesh._types.codec import structure
from inferencesh._types.encoding import dump_json
from inferencesh._types.output import OutputType
from inferencesh.builders import reference_problem
from inferencesh.config import AgentConfig, check_fields, warn_of_unknown_names
from inferencesh.errors import ConfigurationError, InferenceError
from inferencesh.models import FINISH, Chat, FileRef, Interrupt
from inferencesh.tools.builder import Builder
from inferencesh.tools.function import make_function_tool
from inferencesh.tools.handler import Tool, ToolInfo, may_be_method

__all__ = ["AgentSetup", "Conversation", "read_context"]


class Conversation:
    """A conversation with an agent, in one chat at a time.

    Args:
        api: The service's API.
        setup: The agent's configuration.
        chat_id: An existing chat, or None for a new one.
        context: The variables of a new chat, or None.
    """

    def __init__(self, api: ChatAPI, setup: AgentSetup, chat_id: str | None, context: Mapping[str, str] | None) -> None:
        self.chat_id = chat_id
        self.api = api
        self.setup = setup
        self._context = context
        self._turn: Turn | None = None
        self._turn_before: Turn | None = None  # current again when the latest turn's message is refused
        self._pending_updates: list[Callable[[Turn], None]] = []  # for the next turn that is attached to
        self._beginning = threading.Lock()  # held while the first message is being sent; each chat has its own

    @property
    def turn(self) -> Turn | None:
        """The latest turn whose message was not refused."""
        return self._turn_before if self._turn is not None and self._turn.was_refused else self._turn

    @property
    def has_pending_updates(self) -> bool:
        """Whether results or decisions were posted while no turn was known."""
        return bool(self._pending_updates)

    def require_chat(self) -> str:
        """Return the chat's id.

        Raises:
            InferenceError: There is no chat yet.
        """
        if self.chat_id is None:
            raise InferenceError("this agent has no chat yet: send a message first, or pass chat_id= to take one up")
        return self.chat_id

    def require_free(self) -> None:
        """Check that no turn of this conversation waits for the handler or callback that calls this.

        Raises:
            InferenceError: A turn does. What the caller asks for would wait for that turn, and the turn for the caller.
        """
        if is_reentrant(self):
            raise InferenceError(
                "this was called from a handler or callback that a turn of the same conversation is waiting for: it "
                "would wait behind that turn, and the turn for it, for ever; use another agent, which has a "
                "conversation of its own, such as client.agent(config), or call it when the turn is over"
            )

    def reset(self) -> None:
        """Forget the chat.

        Raises:
            InferenceError: A turn of the conversation waits for the handler or callback that calls this.
        """
        self.require_free()
        self.chat_id = None
        self._turn = self._turn_before = None
        self._pending_updates.clear()
        self._beginning = threading.Lock()

    # -- turns -----------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def sending(self) -> AsyncIterator[Callable[[], bool]]:
        """Return a context in which a message is sent.

        Without a chat, one message begins it, and others that are sent meanwhile wait until they can follow it there.
        The value of the context is a function that returns whether the conversation is still in that chat, and was not
        reset meanwhile.
        """
        held = None
        while self.chat_id is None:
            beginning = self._beginning
            if beginning.acquire(blocking=False):
                held = beginning
                break
            await asyncio.sleep(_LOOK_AGAIN)  # the holder may be on another loop, with which no event can be shared
        chat = held or self._beginning
        try:
            yield lambda: self._beginning is chat
        finally:
            if held is not None:
                held.release()

    def next_turn(self) -> Turn:
        """Make the turn that the next message begins."""
        latest = self.turn
        return Turn(self.chat_id) if latest is None else latest.next()

    def message_body(
        self, text: str, output: OutputType[Any] | None = None, files: Sequence[FileRef] = ()
    ) -> dict[str, Any]:
        """Return the body of the request that posts a message.

        Args:
            text: The message.
            output: The type of the output that is asked for, or None.
            files: The uploaded files that go with the message.
        """
        chat_id, agent = self.chat_id, self.setup.body
        if chat_id is not None and agent.get("agent_config") == {}:
            agent = {}  # a chat keeps its agent: an empty configuration continues with it and does not replace it
        if output is not None and agent:
            agent = AgentSetup.with_output_schema(agent, output.schema)
        body: dict[str, Any] = {"chat_id": chat_id, **agent, "input": {"text": text}}
        if files:
            body["input"]["attachments"] = attachments(files)
        if chat_id is None and self._context is not None:
            body["context"] = self._context
        return body

    def begin_turn(self, turn: Turn) -> None:
        """Make a turn whose message was posted the latest one."""
        self.chat_id, self._turn, self._turn_before = turn.chat_id, turn, self.turn
        self._pending_updates.clear()

    def attach_turn(self, turn: Turn) -> None:
        """Make a turn that was found in the chat the latest one."""
        self._turn = turn
        while self._pending_updates:
            self._pending_updates.pop(0)(turn)

    # -- what a turn waits for -------------------------------------------------------------------------------------

    async def submit(
        self, call_id: str, result: str, *, accept_existing: bool = False, files: Sequence[FileRef] = ()
    ) -> None:
        """Post a tool call's result; the turn that waits for it goes on.

        Args:
            call_id: The call.
            result: The result's text.
            accept_existing: Whether a result that somebody else has posted will do as well.
            files: The uploaded files that go with the result.
        """
        await self.api.submit(call_id, result, accept_existing=accept_existing, files=files)
        self._update(lambda turn: turn.call_answered(call_id, _now()))

    async def upload(self, files: Sequence[FileSource]) -> Sequence[FileRef]:
        """Upload the files that go with a message, or with a tool's result.

        Args:
            files: The files, or what has been uploaded already.

        Raises:
            APIError: The service or its storage refused one.
        """
        return await self.api.upload(files) if files else ()

    async def decide(self, call_id: str, *, approved: bool, reason: str = "", accept_existing: bool = False) -> bool:
        """Approve or reject a tool call; the turn that waits for the decision goes on.

        Args:
            call_id: The call.
            approved: Whether the call may run.
            reason: Why not, for the agent.
            accept_existing: Whether a decision that somebody else has made will do as well.

        Returns:
            Whether this decision counts, and not an earlier one.
        """
        counts = await self.api.decide(call_id, approved=approved, reason=reason, accept_existing=accept_existing)
        self._update(lambda turn: turn.call_decided(call_id, _now(), approved=approved if counts else None))
        return counts

    async def resolve(self, interrupt_id: str, *, allow: bool) -> Interrupt:
        """Allow or deny what an interrupt asks; the turn that waits for the decision goes on."""
        interrupt = structure(await self.api.resolve_interrupt(interrupt_id, allow=allow), Interrupt)
        self._update(lambda turn: turn.interrupt_resolved(interrupt, _now(), allowed=allow))
        return interrupt

    async def always_allow(self, call_id: str, option: str | None) -> None:
        """Approve a tool call and later ones like it; the turn that waits for the decision goes on."""
        counts = await self.api.always_allow(self.require_chat(), call_id, option)
        self._update(lambda turn: turn.call_decided(call_id, _now(), approved=True if counts else None))

    async def interrupts(self) -> list[Interrupt]:
        """Return the interrupts of the current or last run, oldest first."""
        run = structure(await self.api.read_chat(self.require_chat()), Chat).active_run
        read = await self.api.read_interrupts(run.id) if run is not None and run.id else []
        return [structure(item, Interrupt) for item in read]

    async def set_agent(self, setup: AgentSetup) -> None:
        """Continue with another agent: at once where it is stored at the service, else with the next message."""
        self.require_free()
        reference = setup.body.get("agent")
        if self.chat_id is not None and isinstance(reference, str):
            await self.api.set_agent(self.chat_id, reference)
        self.setup = setup

    def _update(self, update: Callable[[Turn], None]) -> None:
        """Update the turn that is running or paused; without one, the next that is attached to."""
        turn = self.turn
        if turn is not None and turn.is_current:
            update(turn)
        else:
            self._pending_updates.append(update)


_LOOK_AGAIN = 0.02  # seconds


def _now() -> float:
    return asyncio.get_running_loop().time()


@attrs.frozen
class AgentSetup:
    """An agent's configuration.

    Attributes:
        body: The fields of a request that name or describe the agent.
        tools: The tools that have handlers, by name.
    """

    body: Mapping[str, Any]
    tools: Mapping[str, Tool]

    @staticmethod
    def with_output_schema(body: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a body with another output schema, for one run; an agent that is named keeps its own.

        Args:
            body: The fields that name or describe the agent.
            schema: The schema. The ``finish`` tool, which takes the output, is enabled with it.
        """
        config = body.get("agent_config")
        if config is None:
            return body
        switches = config.get("internal_tools")
        tools = {**(switches if isinstance(switches, Mapping) else {}), FINISH: True}
        return {**body, "agent_config": {**config, "output_schema": schema, "internal_tools": tools}}

    @classmethod
    def read(
        cls,
        config: str | AgentConfig | Mapping[str, Any] | None,
        fields: Mapping[str, Any] | None = None,
        chat_id: str | None = None,
    ) -> AgentSetup:
        """Read the configuration that a caller gave.

        Args:
            config: ``namespace/name[@version]`` of an agent stored at the service, or the description of an agent.
            fields: What was given by keyword.
            chat_id: The chat that is continued, if any.

        Raises:
            TypeError: A keyword is unknown.
            ConfigurationError: ``config`` is neither, repeats a keyword, or cannot be sent as JSON.
        """
        fields = fields or {}
        check_fields(fields)
        if isinstance(config, str):
            if problem := reference_problem(config):
                raise ConfigurationError(problem)
            return cls({"agent": config}, _handlers_for(config, fields))
        return cls._described(_with_fields(config, fields, chat_id))

    @classmethod
    def _described(cls, config: Mapping[str, Any]) -> AgentSetup:
        tools_given = [_tool(item) for item in _listed(config, "tools")]
        lists = {
            "tools": [dict(item) for item in tools_given],
            "hooks": [_hook(item) for item in _listed(config, "hooks")],
        }
        plain = {**config, **{key: value for key, value in lists.items() if key in config}}
        _check_internal_tools(config.get("internal_tools"))
        _check_output_schema(config.get("output_schema"))
        try:
            sent = decode_json(dump_json(plain))  # a copy, so that later changes by the caller are not sent
        except TypeError as error:
            raise ConfigurationError(f"the agent's configuration cannot be sent as JSON: {error}") from None
        warn_of_unknown_names(sent)
        names = Counter(item["name"] for item in tools_given if isinstance(item.get("name"), str))
        for name, count in names.items():
            if count > 1:
                raise ConfigurationError(f"two tools have the name {name!r}")
        tools = {item.name: item for item in tools_given if isinstance(item, Tool)}
        return cls({"agent_config": sent, "agent_name": sent.get("name")}, tools)


def _with_fields(config: Mapping[str, Any] | None, fields: Mapping[str, Any], chat_id: str | None) -> Mapping[str, Any]:
    """Return the configuration that a mapping and keywords make together.

    Raises:
        ConfigurationError: There is none, it is not a mapping, or something is given twice.
    """
    if config is None:
        if not fields and chat_id is None:
            raise ConfigurationError(
                "an agent needs a name or a configuration: agent('namespace/name'), agent(name=..., system_prompt=...) "
                "or agent({...}); agent(chat_id=...) takes up a chat with the agent it has"
            )
        return fields
    if not isinstance(config, Mapping):
        raise ConfigurationError(
            f"an agent must be a mapping (its configuration) or a str (namespace/name), not {type(config).__name__}"
        )
    for name in config.keys() & fields.keys():
        raise ConfigurationError(f"{name!r} is given twice, in the configuration and by keyword: leave one out")
    return {**config, **fields}


def _handlers_for(reference: str, fields: Mapping[str, Any]) -> dict[str, Tool]:
    """Return the tools whose handlers answer the calls of a stored agent.

    Raises:
        ConfigurationError: Anything else is given, which only the stored agent itself can define.
    """
    for name in fields.keys() - {"tools"}:
        raise ConfigurationError(
            f"{name!r} cannot be given for {reference!r}, an agent that the service has stored with its configuration: "
            "leave it out, or describe the agent instead of naming it"
        )
    tools = [_tool(item) for item in _listed(fields, "tools")]
    handlers = {item.name: item for item in tools if isinstance(item, Tool) and item.handler is not None}
    for item in tools:
        if item.get("name") not in handlers:
            raise ConfigurationError(
                f"the tool {item.get('name')!r} has no handler: {reference!r} has its tools at the service, and only "
                "the handlers of those that run in this program are given here"
            )
    if len(handlers) < len(tools):
        raise ConfigurationError("two of the tools have the same name")
    return handlers


def read_context(context: Mapping[Any, Any] | None) -> dict[str, str] | None:
    """Check and copy the variables of a new chat.

    Raises:
        ConfigurationError: They do not map names to texts.
    """
    if context is None:
        return None
    if not isinstance(context, Mapping):
        raise ConfigurationError(
            f"context must be a mapping of names to strings, not {type(context).__name__}; the variables themselves "
            "are described in the configuration: agent({'context': [...]})"
        )
    for name, value in context.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ConfigurationError(
                f"context maps names to texts, but {name!r} is of the type {type(name).__name__} and its value of the "
                f"type {type(value).__name__}; write numbers and the like as text, as in str(5)"
            )
    return dict(context)


def _listed(config: Mapping[str, Any], key: str) -> list[object]:
    """Return the items of a list in the configuration; raise if the list or an item is a builder."""
    listed = config.get(key) or ()
    if isinstance(listed, Builder):
        raise ConfigurationError(_unbuilt(key))
    # Mappings and strings can be iterated too, but a single tool is a mapping, and its keys are no tools.
    if isinstance(listed, Mapping | str | bytes) or not isinstance(listed, Iterable):
        raise ConfigurationError(f"{key} must be a list, even for a single item, not {type(listed).__name__}")
    given = list(listed)
    if any(isinstance(item, Builder) for item in given):
        raise ConfigurationError(_unbuilt(f"one of the {key}"))
    return given


def _tool(item: object) -> Mapping[str, Any]:
    """Return a tool as it was given, or made of a function that was given."""
    if callable(item) and not isinstance(item, Mapping):
        # Beginning with this frame, the scopes are searched whose local names its hints may refer to.
        made = make_function_tool(item, ToolInfo(), sys._getframe())
        parameters = list(made["client"]["input_schema"]["properties"])
        made.is_method = may_be_method(made.function) and parameters[:1] == ["self"]
        item = made
    if isinstance(item, Tool) and item.is_method:
        raise ConfigurationError(
            f"the tool {item.name!r} is a method without its object: take the tool of an object, as in shop.{item.name}"
        )
    if isinstance(item, Mapping):
        return item
    raise ConfigurationError(
        f"a tool must be a function, what tool(...).build() returns, or a mapping, not {type(item).__name__}"
    )


def _hook(item: object) -> dict[str, Any]:
    if isinstance(item, Mapping):
        return dict(item)
    raise ConfigurationError(
        f"a hook must be what lifecycle_hook(...).build() returns, or a mapping, not {type(item).__name__}; "
        "learning_hooks(...) returns a list, which is added with *"
    )


def _check_internal_tools(value: object) -> None:
    if isinstance(value, Builder):
        raise ConfigurationError(_unbuilt("internal_tools"))
    if value is not None and not isinstance(value, Mapping):
        raise ConfigurationError(
            f"internal_tools must be what internal_tools().build() returns, or a mapping, not {type(value).__name__}"
        )


def _check_output_schema(value: object) -> None:
    if value is not None and not isinstance(value, Mapping):
        name = value.__qualname__ if isinstance(value, type) and not get_args(value) else repr(value)
        raise ConfigurationError(
            f"output_schema is a JSON Schema, as a mapping; for a type write agent.run(text, output_type={name})"
        )


def _unbuilt(what: str) -> str:
    return f"{what} is not built yet: end it with .build()"
