"""The agent a chat runs: a reference to a stored one, or a definition sent along."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attrs import frozen

from .model import OfferedTool
from .problems import invalid

if TYPE_CHECKING:
    from .fields import Fields

__all__ = ("AgentConfig", "read_agent")

_REFERENCE = re.compile(r"[\w.-]+/[\w.-]+(@[\w.:-]+)?", re.ASCII)


@frozen
class AgentConfig:
    """What the runtime uses of an agent's definition.

    Only client tools are offered to the model: the others (apps, agents, webhooks) run on the service, not here.
    """

    system_prompt: str = ""
    tools: tuple[OfferedTool, ...] = ()


def read_agent(body: Fields, *, required: bool) -> AgentConfig | None:
    """Return the agent a body names or defines; None when it does neither.

    A reference is checked for its form and stands for an agent without tools: there is nothing here to look it up in.

    Args:
        body: A request's body.
        required: Whether the body must name one, as for a new chat.

    Raises:
        ProblemError: 422 when it names several, or one that is not well formed.
    """
    named = [name for name in ("agent", "agent_id", "agent_config", "config") if name in body]
    if len(named) > 1:
        raise invalid(named[1], f"cannot be given together with {named[0]}; send one of them.")
    if not named:
        if required:
            raise invalid("agent", "is missing; send one of agent, agent_id and agent_config.")
        return None
    if named[0] in {"agent", "agent_id"}:
        reference = body.text(named[0]) or ""
        if named[0] == "agent" and not _REFERENCE.fullmatch(reference):
            raise invalid("agent", "must be written namespace/name or namespace/name@version.")
        return AgentConfig()
    definition = body.nested(named[0])
    assert definition is not None
    return _read_definition(definition)


def _read_definition(definition: Fields) -> AgentConfig:
    for name in ("name", "description"):
        definition.text(name)
    tools: dict[str, OfferedTool] = {}
    for tool in definition.objects("tools"):
        tool.require("name")
        name = tool.text("name") or ""
        if not name:
            raise invalid(tool.path("name"), "must not be empty.")
        if name in tools:
            raise invalid(tool.path("name"), f"{name!r} is the name of an earlier tool too.")
        client = tool.nested("client")
        if (tool.text("type") or "client") == "client":
            schema = client.mapping("input_schema") if client else None
            tools[name] = OfferedTool(name, tool.text("description") or "", schema or {})
    return AgentConfig(definition.text("system_prompt") or "", tuple(tools.values()))
