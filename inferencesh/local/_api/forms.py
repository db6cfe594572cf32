"""Validation of agent definitions: the fields of tools, hooks and JSON Schemas as the SDKs' builders write them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from inferencesh.local.chats import FINISH, AgentDefinition
from inferencesh.local.errors import invalid
from inferencesh.local.model import OfferedTool

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from .fields import Fields

__all__ = ["check_schema", "read_agent"]

_REFERENCE = re.compile(r"[\w.-]+/[\w.-]+(@[\w.:-]+)?", re.ASCII)


def read_agent(body: Fields, *, required: bool) -> AgentDefinition | None:
    """Return the agent that a body refers to or defines; None if it does neither.

    A reference only has to be well formed; it stands for an agent without tools that may finish with an output,
    since no agents are stored here.

    Args:
        body: A request's body.
        required: Whether an agent is required, as for a new chat.

    Raises:
        ProblemError: 422 if an agent is missing, given more than once, or malformed.
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
        return AgentDefinition(stored=True)
    definition = body.nested(named[0])
    assert definition is not None
    return _read_definition(definition)


def _read_definition(definition: Fields) -> AgentDefinition:
    for name in ("name", "description"):
        definition.text(name)
    _check_hooks(definition)
    schema = definition.mapping("output_schema")
    if schema is not None:
        check_schema(schema, definition.path("output_schema"))
    finishes = schema is not None or FINISH in _read_internal_tools(definition)
    permissions = definition.nested("permissions")
    core_app = definition.nested("core_app")
    return AgentDefinition(
        system_prompt=definition.text("system_prompt") or "",
        tools=_read_tools(definition, reserved=FINISH if finishes else None),
        output_schema=schema,
        finishes=finishes,
        allow_all_tools=permissions.flag("allow_all_tools") if permissions else False,
        settings=(core_app.mapping("input") if core_app else None) or {},
    )


def _read_tools(definition: Fields, *, reserved: str | None) -> tuple[OfferedTool, ...]:
    names: set[str] = set()
    offered: list[OfferedTool] = []
    for tool in definition.objects("tools"):
        name = _check_tool(tool)
        if name in names:
            raise invalid(tool.path("name"), f"{name!r} is already the name of an earlier tool.")
        if name == reserved:
            raise invalid(tool.path("name"), f"{name!r} is the name of the tool that the agent finishes with.")
        names.add(name)
        if (tool.text("type") or "client") == "client":
            client = tool.nested("client")
            schema = client.mapping("input_schema") if client else None
            description = tool.text("description") or ""
            offered.append(OfferedTool(name, description, schema or {}, tool.flag("require_approval")))
    return tuple(offered)


def _read_internal_tools(definition: Fields) -> frozenset[str]:
    """Return the names of the service's own tools that are enabled.

    Raises:
        ProblemError: 422 if a flag is not a boolean.
    """
    flags = definition.nested("internal_tools")
    return frozenset(name for name in flags.data if flags.flag(name)) if flags else frozenset()


def _check_tool(tool: Fields) -> str:
    """Check a tool of any type, and return its name.

    Raises:
        ProblemError: 422 if a field is missing or invalid.
    """
    name = _require_text(tool, "name")
    for key in ("display_name", "description"):
        tool.text(key)
    tool.flag("require_approval")
    _check_least(tool, "approval_timeout")
    check = _TOOLS.get(tool.text("type") or "client")
    if check is not None:  # the service has, and will have, types that are not documented
        check(tool)
    return name


def _check_app(tool: Fields) -> None:
    app = _part(tool, "app")
    _check_reference(app)
    app.text("function")
    app.flag("session_enabled")
    for key in ("setup", "input", "fixed_input"):
        app.mapping(key)


def _check_agent(tool: Fields) -> None:
    _check_reference(_part(tool, "agent"))


def _check_hook(tool: Fields) -> None:
    hook = _part(tool, "hook")
    _require_text(hook, "url")
    for key in ("secret", "secret_ref"):
        hook.text(key)
    hook.mapping("input_schema")


def _check_http(tool: Fields) -> None:
    _check_request(_part(tool, "http"))


def _check_call(tool: Fields) -> None:
    # The wire has a type ``call`` with a key of its own; the builders of that name write the type ``http`` instead.
    _check_request(_part(tool, "call" if "call" in tool else "http"))


def _check_request(request: Fields) -> None:
    _require_text(request, "url")
    if (method := request.text("method")) is not None:
        _check_choice(request, "method", method.upper(), _METHODS)
    request.text_map("headers")
    request.mapping("input_schema")
    auth = request.nested("auth")
    if auth is None:
        return
    kind = auth.text("type") or "none"
    _check_choice(auth, "type", kind, _AUTH_NEEDS)
    for key in _AUTH_NEEDS[kind]:
        _require_text(auth, key)
    auth.text("header")


def _check_mcp(tool: Fields) -> None:
    mcp = _part(tool, "mcp")
    _require_text(mcp, "integration_id" if "integration_id" in mcp else "server")
    _require_text(mcp, "tool_name")


def _check_client(tool: Fields) -> None:
    client = tool.nested("client")
    if client is not None:
        client.mapping("input_schema")


def _check_internal(tool: Fields) -> None:
    internal = tool.nested("internal")
    if internal is not None:
        internal.text("category")
        internal.text("operation")


# Required fields by type of authentication; ``credential`` and ``integration`` are the SDKs' names for the same thing.
_AUTH_NEEDS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "credential": ("provider",),
    "integration": ("provider",),
    "api_key": ("secret",),
    "bearer": ("secret",),
}
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

_TOOLS: Mapping[str, Callable[[Fields], None]] = {
    "app": _check_app,
    "agent": _check_agent,
    "hook": _check_hook,
    "http": _check_http,
    "call": _check_call,
    "mcp": _check_mcp,
    "client": _check_client,
    "internal": _check_internal,
}


def _part(tool: Fields, key: str) -> Fields:
    """Return the object that is required for a tool of this type."""
    tool.require(key)
    part = tool.nested(key)
    assert part is not None
    return part


def _check_reference(part: Fields) -> None:
    """Check the reference to an app or an agent, or its identifier."""
    part.text("version_id")
    if "id" in part:
        _require_text(part, "id")
    else:
        _require_text(part, "ref")


_HOOK_EVENTS = (
    "agent.start",
    "agent.turn_start",
    "agent.tool_call",
    "agent.tool_result",
    "agent.turn_complete",
    "agent.error",
    "agent.complete",
    "agent.idle",
    "agent.pre_compact",
    "agent.post_compact",
)
_HOOK_TYPES = ("webhook", "task", "gate", "builtin")
_BUILTIN_HOOKS = ("belt:suggest", "belt:extract")
_DECISIONS = ("allow", "deny")


def _check_hooks(definition: Fields) -> None:
    """Check the lifecycle hooks.

    Raises:
        ProblemError: 422 if a field is missing or invalid.
    """
    for hook in definition.objects("hooks"):
        _check_choice(hook, "event", _require_text(hook, "event"), _HOOK_EVENTS)
        kind = hook.text("type") or "webhook"
        _check_choice(hook, "type", kind, _HOOK_TYPES)
        handler = hook.text("handler")  # the JavaScript SDK sends an empty one by default
        if kind == "builtin":
            _check_choice(hook, "handler", handler or "", _BUILTIN_HOOKS)
        hook.flag("async")
        _check_least(hook, "timeout")
        if (resolution := hook.text("default_resolution")) is not None:
            _check_choice(hook, "default_resolution", resolution, _DECISIONS)


_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
_MAX_DEPTH = 64
# Keywords by the type of their value.
_SCHEMA = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_TEXT = ("$ref", "title", "description", "format", "pattern")
_NUMBER = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_COUNT = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")


def check_schema(schema: object, path: str, depth: int = 0) -> None:
    """Check that a value is a well-formed JSON Schema, so that later code need not.

    Args:
        schema: The value; below the top, a boolean is a schema as well.
        path: The path of the value in the request.
        depth: The number of schemas that contain it.

    Raises:
        ProblemError: 422 that names the invalid keyword.
    """
    if isinstance(schema, bool) and depth:
        return
    if not isinstance(schema, dict):
        raise invalid(path, "must be an object with a JSON Schema.")
    if depth > _MAX_DEPTH:
        raise invalid(path, f"is nested more than {_MAX_DEPTH} schemas deep.")
    _check_values(schema, path)
    for place, inner in _subschemas(schema, path):
        check_schema(inner, place, depth + 1)


def _check_values(schema: dict[str, object], path: str) -> None:
    """Check the keywords whose values are not schemas."""
    kinds = schema.get("type", [])
    listed = kinds if isinstance(kinds, list) else [kinds]
    if not all(isinstance(kind, str) and kind in _TYPES for kind in listed) or ("type" in schema and not listed):
        raise invalid(f"{path}.type", f"must be one or a list of {', '.join(_TYPES)}.")
    names = schema.get("required", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise invalid(f"{path}.required", "must be a list of names.")
    if "enum" in schema and not (isinstance(schema["enum"], list) and schema["enum"]):
        raise invalid(f"{path}.enum", "must be a list of one value or more.")
    for key in _TEXT:
        if not isinstance(schema.get(key, ""), str):
            raise invalid(f"{path}.{key}", "must be a string.")
    for key in (*_NUMBER, *_COUNT):
        value = schema.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise invalid(f"{path}.{key}", "must be a number.")
        if (key in _COUNT and (value < 0 or value != int(value))) or (
            key == "multipleOf" and key in schema and value <= 0
        ):
            raise invalid(
                f"{path}.{key}", "must be a whole number, 0 or more." if key in _COUNT else "must be above 0."
            )


def _subschemas(schema: dict[str, object], path: str) -> Iterator[tuple[str, object]]:
    """Yield the schemas directly in a schema, each with its path."""
    for key in _SCHEMA:
        if key in schema:
            yield f"{path}.{key}", schema[key]
    for key in _SCHEMAS:
        listed = schema.get(key, [])
        if not isinstance(listed, list) or (key in schema and not listed):
            raise invalid(f"{path}.{key}", "must be a list of one schema or more.")
        yield from ((f"{path}.{key}[{at}]", each) for at, each in enumerate(listed))
    for key in _NAMED_SCHEMAS:
        named = schema.get(key, {})
        if not isinstance(named, dict):
            raise invalid(f"{path}.{key}", "must be an object of schemas by name.")
        yield from ((f"{path}.{key}.{name}", each) for name, each in named.items())


def _require_text(fields: Fields, key: str) -> str:
    fields.require(key)
    text = fields.text(key)
    if not text:
        raise invalid(fields.path(key), "must not be empty.")
    return text


def _check_least(fields: Fields, key: str) -> None:
    if (fields.count(key) or 0) < 0:
        raise invalid(fields.path(key), "must be 0 or more.")


def _check_choice(fields: Fields, key: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise invalid(fields.path(key), f"must be one of {', '.join(choices)}.")
