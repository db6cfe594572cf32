"""The forms in which builders write an agent's tools, hooks and flags, checked field by field.

They are those of the official Python and JavaScript SDKs; where the two differ, both are taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .problems import invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from .fields import Fields

__all__ = ("check_hooks", "check_tool", "read_internal_tools")

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
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
# What each kind of authentication needs; the two kinds of logins are the SDKs' different names for one thing.
_AUTH_NEEDS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "credential": ("provider",),
    "integration": ("provider",),
    "api_key": ("secret",),
    "bearer": ("secret",),
}


def check_tool(tool: Fields) -> str:
    """Return a tool's name.

    Raises:
        ProblemError: 422 when a field of it is missing or not as it should be.
    """
    name = _require_text(tool, "name")
    for key in ("display_name", "description"):
        tool.text(key)
    tool.flag("require_approval")
    _check_least(tool, "approval_timeout")
    kind = tool.text("type") or "client"
    _check_choice(tool, "type", kind, _TOOLS)
    _TOOLS[kind](tool)
    return name


def read_internal_tools(definition: Fields) -> frozenset[str]:
    """Return the names of the service's own tools that are turned on.

    Raises:
        ProblemError: 422 when a flag is no boolean.
    """
    flags = definition.nested("internal_tools")
    return frozenset(name for name in flags.data if flags.flag(name)) if flags else frozenset()


def check_hooks(definition: Fields) -> None:
    """Check the lifecycle hooks.

    Raises:
        ProblemError: 422 when a field of one is missing or not as it should be.
    """
    for hook in definition.objects("hooks"):
        _check_choice(hook, "event", _require_text(hook, "event"), _HOOK_EVENTS)
        kind = hook.text("type") or "webhook"
        _check_choice(hook, "type", kind, _HOOK_TYPES)
        handler = hook.text("handler")  # the JavaScript SDK writes an empty one when it was not given any
        if kind == "builtin":
            _check_choice(hook, "handler", handler or "", _BUILTIN_HOOKS)
        hook.flag("async")
        _check_least(hook, "timeout")
        if (resolution := hook.text("default_resolution")) is not None:
            _check_choice(hook, "default_resolution", resolution, _DECISIONS)


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
    # The wire has a type of this name and a key for it; the builders of this name write the type http instead.
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


def _check_harness(_tool: Fields) -> None:
    """What belongs to such a tool was not published."""


_TOOLS: Mapping[str, Callable[[Fields], None]] = {
    "app": _check_app,
    "agent": _check_agent,
    "hook": _check_hook,
    "http": _check_http,
    "call": _check_call,
    "mcp": _check_mcp,
    "client": _check_client,
    "internal": _check_internal,
    "harness": _check_harness,
}


def _part(tool: Fields, key: str) -> Fields:
    """Return the object that a tool of this type must have."""
    tool.require(key)
    part = tool.nested(key)
    assert part is not None
    return part


def _check_reference(part: Fields) -> None:
    """Check what names an app or an agent: a reference, or an identifier."""
    part.text("version_id")
    if "id" in part:
        _require_text(part, "id")
    else:
        _require_text(part, "ref")


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
