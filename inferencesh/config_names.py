"""The names in an agent's configuration: what they are for type checkers, and a warning for those that are unknown."""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypedDict

from .errors import ConfigurationWarning

__all__ = ["AgentConfig", "warn_of_unknown_names"]


class CoreApp(TypedDict, total=False):
    """The app that is an agent's model; it is named by one of ``ref``, ``id`` and ``version_id``."""

    ref: str
    id: str
    version_id: str
    setup: Mapping[str, Any]
    input: Mapping[str, Any]


class Skill(TypedDict, total=False):
    """Instructions that an agent reads when it needs them."""

    name: str
    description: str
    skill_id: str
    version_id: str
    url: str
    content: str
    preload: bool


class ContextField(TypedDict, total=False):
    """A variable that a chat is begun with."""

    name: str
    description: str
    required: bool
    default: str
    in_prompt: bool


class AgentConfig(TypedDict, total=False):
    """The configuration of an agent, for editors and type checkers; a plain dict with these keys.

    Attributes:
        name: The agent's name.
        description: What it is for.
        system_prompt: Its instructions.
        example_prompts: What a user could ask it.
        core_app: Its model: ``{"ref": "namespace/name"}``.
        core_app_ref: The same as a name alone.
        tools: Its tools, made with ``tool`` and the other builders.
        skills: Instructions that it reads when it needs them.
        context: The variables that a chat is begun with; their values are given to ``client.agent(..., context=...)``.
        internal_tools: Which of the service's own tools it has, made with ``internal_tools``.
        permissions: What it may do without asking.
        hooks: What is called when something happens, made with ``lifecycle_hook``.
        output_schema: The JSON Schema of its output.

    Example:
        ```python
        config: AgentConfig = {"name": "guide", "system_prompt": "Answer in one sentence."}
        message = client.agent(config).send_message("Hello")
        ```
    """

    name: str
    description: str
    system_prompt: str
    example_prompts: Sequence[str]
    core_app: CoreApp
    core_app_ref: str
    tools: Sequence[Mapping[str, Any]]
    skills: Sequence[Skill]
    context: Sequence[ContextField]
    internal_tools: Mapping[str, bool]
    permissions: Mapping[str, Any]
    hooks: Sequence[Mapping[str, Any]]
    output_schema: Mapping[str, Any]


_CONFIG = frozenset(AgentConfig.__annotations__)
_PARTS: Mapping[str, frozenset[str]] = {
    "core_app": frozenset(CoreApp.__annotations__),
    "skills": frozenset(Skill.__annotations__),
    "context": frozenset(ContextField.__annotations__),
    "tools": frozenset(
        {"name", "display_name", "description", "type", "require_approval", "approval_timeout"}
        | {"app", "agent", "hook", "http", "call", "mcp", "client", "internal", "harness"}
    ),
}
# What other libraries call it, and what to write here.
_ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(("instructions", "instruction", "prompt", "system", "system_message"), "'system_prompt'"),
    **dict.fromkeys(("model", "model_name", "llm"), '\'core_app\', as in {"core_app": {"ref": "namespace/name"}}'),
    **dict.fromkeys(("output_type", "result_type"), "agent.run(..., output_type=...)"),
    "response_format": "'output_schema', or agent.run(..., output_type=...)",
    "functions": "'tools'",
    "chat_id": "client.agent(..., chat_id=...)",
}


def warn_of_unknown_names(config: Mapping[str, Any]) -> None:
    """Warn of the names in a configuration that the service is not known to read, at the line that gave it.

    Args:
        config: The configuration in the form in which it is sent.
    """
    for text in _unknown(config):
        warnings.warn(text, ConfigurationWarning, stacklevel=_frames_to_user())


def _unknown(config: Mapping[str, Any]) -> Iterator[str]:
    for name in config.keys() - _CONFIG:
        yield _told(name, _CONFIG, "an agent's configuration", _ELSEWHERE)
    if isinstance(config.get("context"), Mapping):
        yield (
            "'context' in an agent's configuration is a list of what a chat can be told, each with a 'name'; the "
            "values for a chat go into client.agent(..., context=...)"
        )
    for key, known in _PARTS.items():
        part = config.get(key)
        items = [part] if key == "core_app" else part if isinstance(part, list) else []
        for item in items:
            for name in item.keys() - known if isinstance(item, Mapping) else ():
                yield _told(name, known, f"{key!r} of an agent's configuration", {})


def _told(name: str, known: Iterable[str], where: str, elsewhere: Mapping[str, str]) -> str:
    near = elsewhere.get(name) or next(map(repr, difflib.get_close_matches(name, sorted(known), 1)), None)
    advice = f"did you mean {near}?" if near else f"known are {', '.join(sorted(known))}."
    return f"{name!r} is not a known name in {where}; it is sent, but may have no effect: {advice}"


def _frames_to_user() -> int:
    """Return the stacklevel, for the caller, of the first frame outside this package."""
    package, level = __name__.partition(".")[0], 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    return level
