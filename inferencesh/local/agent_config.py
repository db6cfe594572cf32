"""The agent a chat runs: a reference to a stored one, or a definition sent along."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attrs import frozen

from .model import OfferedTool
from .problems import invalid
from .schema_form import check_schema
from .tool_forms import check_hooks, check_tool, read_internal_tools
from .writer import FINISH

if TYPE_CHECKING:
    from .fields import Fields

__all__ = ("AgentConfig", "read_agent")

_REFERENCE = re.compile(r"[\w.-]+/[\w.-]+(@[\w.:-]+)?", re.ASCII)


@frozen
class AgentConfig:
    """What the runtime uses of an agent's definition.

    Only client tools are offered to the model: the others (apps, agents, webhooks) run on the service, not here.

    Args:
        system_prompt: Its instructions.
        tools: Its client tools.
        output_schema: The JSON Schema of what it finishes with, or None.
        finishes: Whether it may finish with an output: it has a schema, or the internal tool is turned on.
        allow_all_tools: Whether no call needs an approval, whatever its tool says.
    """

    system_prompt: str = ""
    tools: tuple[OfferedTool, ...] = ()
    output_schema: dict[str, object] | None = None
    finishes: bool = False
    allow_all_tools: bool = False


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
    check_hooks(definition)
    schema = definition.mapping("output_schema")
    if schema is not None:
        check_schema(schema, definition.path("output_schema"))
    finishes = schema is not None or "finish" in read_internal_tools(definition)
    permissions = definition.nested("permissions")
    return AgentConfig(
        system_prompt=definition.text("system_prompt") or "",
        tools=_read_tools(definition, reserved=FINISH if finishes else None),
        output_schema=schema,
        finishes=finishes,
        allow_all_tools=permissions.flag("allow_all_tools") if permissions else False,
    )


def _read_tools(definition: Fields, *, reserved: str | None) -> tuple[OfferedTool, ...]:
    names: set[str] = set()
    offered: list[OfferedTool] = []
    for tool in definition.objects("tools"):
        name = check_tool(tool)
        if name in names:
            raise invalid(tool.path("name"), f"{name!r} is the name of an earlier tool too.")
        if name == reserved:
            raise invalid(tool.path("name"), f"{name!r} is the name of the tool that the agent finishes with.")
        names.add(name)
        if (tool.text("type") or "client") == "client":
            client = tool.nested("client")
            schema = client.mapping("input_schema") if client else None
            description = tool.text("description") or ""
            offered.append(OfferedTool(name, description, schema or {}, tool.flag("require_approval")))
    return tuple(offered)
