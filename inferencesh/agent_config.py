"""What ``client.agent(...)`` is given: checked at once, and split into what is sent and what stays here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from .client_tool import Tool
from .config_names import AgentConfig, warn_of_unknown_names
from .converter import decode_json, dump_json
from .errors import ConfigurationError
from .finish import FINISH
from .references import reference_problem
from .tool_builder import Builder

__all__ = ["AgentSetup", "read_context"]


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
        tools: dict[str, Tool] = {}
        for item in given:
            if isinstance(item, Tool) and tools.setdefault(item.name, item) is not item:
                raise ConfigurationError(f"two tools have the name {item.name!r}")
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
