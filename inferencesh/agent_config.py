"""What ``client.agent(...)`` is given: checked at once, and split into what is sent and what stays here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import orjson

from .converter import dump_json
from .errors import ConfigurationError
from .finish import FINISH
from .tools import Tool, ToolBuilder

__all__ = ["AgentConfig"]

_REFERENCE = re.compile(r"[^\s/@]+/[^\s/@]+(@[^\s/@]+)?")


@attrs.frozen
class AgentConfig:
    """An agent's configuration.

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
    def read(cls, config: str | Mapping[str, Any]) -> AgentConfig:
        """Read what the caller gave.

        Args:
            config: ``namespace/name[@version]`` of an agent stored at the service, or the description of one.

        Raises:
            ConfigurationError: It is neither, or cannot be sent as JSON.
        """
        if isinstance(config, str):
            if not _REFERENCE.fullmatch(config):
                raise ConfigurationError(
                    f"an agent is named by namespace/name or namespace/name@version, not {config!r}"
                )
            return cls({"agent": config}, {})
        if not isinstance(config, Mapping):
            raise ConfigurationError(
                f"an agent is configured by a mapping or named by namespace/name, not by a {type(config).__name__}"
            )
        listed = config.get("tools") or ()
        if not isinstance(listed, Iterable):
            raise ConfigurationError(f"tools must be a list of tools, not a {type(listed).__name__}")
        given = list(listed)
        if any(isinstance(item, ToolBuilder) for item in given):
            raise ConfigurationError("a tool is not built yet: end it with .build()")
        plain = {**config, **({"tools": [_plain(item) for item in given]} if "tools" in config else {})}
        try:
            sent = orjson.loads(dump_json(plain))  # a copy: what the caller changes later is not sent
        except TypeError as error:
            raise ConfigurationError(f"the agent's configuration cannot be sent as JSON: {error}") from None
        tools: dict[str, Tool] = {}
        for item in given:
            if isinstance(item, Tool) and tools.setdefault(item.name, item) is not item:
                raise ConfigurationError(f"two tools have the name {item.name!r}")
        return cls({"agent_config": sent, "agent_name": sent.get("name")}, tools)


def _plain(item: object) -> dict[str, Any]:
    if isinstance(item, Mapping):
        return dict(item)
    raise ConfigurationError(f"a tool is what tool(...).build() returns, or a mapping, not a {type(item).__name__}")
