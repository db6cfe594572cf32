"""Builders of what an agent has beside tools: which of the service's own tools it may use, and its lifecycle hooks.

The wire forms are those that the official Python builders make, without explicit nulls.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self

from .errors import ConfigurationError
from .references import reference_problem, url_problem
from .tool_builder import Builder, is_name

__all__ = [
    "BuiltinHook",
    "HookEvent",
    "InternalToolsBuilder",
    "LifecycleHookBuilder",
    "internal_tools",
    "learning_hooks",
    "lifecycle_hook",
]


class HookEvent(StrEnum):
    """When a lifecycle hook runs."""

    AGENT_START = "agent.start"
    TURN_START = "agent.turn_start"
    TOOL_CALL = "agent.tool_call"
    TOOL_RESULT = "agent.tool_result"
    TURN_COMPLETE = "agent.turn_complete"
    AGENT_ERROR = "agent.error"
    AGENT_COMPLETE = "agent.complete"
    AGENT_IDLE = "agent.idle"
    PRE_COMPACT = "agent.pre_compact"
    POST_COMPACT = "agent.post_compact"


class BuiltinHook(StrEnum):
    """Hooks that the service runs itself."""

    BELT_SUGGEST = "belt:suggest"
    BELT_EXTRACT = "belt:extract"


class InternalToolsBuilder(Builder):
    """Says which of the service's own tools an agent may use; every step returns the builder.

    What is not named stays as the service has it.

    Example:
        ```python
        allowed = internal_tools().plan().memory().widget(False).build()
        agent = client.agent({"name": "planner", "internal_tools": allowed})
        ```
    """

    def __init__(self) -> None:
        self._flags: dict[str, bool] = {}

    def plan(self, enabled: bool = True) -> Self:  # noqa: FBT001 (as in the official builder, like those below)
        """Keep a plan: create, update and load one."""
        return self._set("plan", enabled)

    def memory(self, enabled: bool = True) -> Self:  # noqa: FBT001
        """Remember values in the chat: set and get them."""
        return self._set("memory", enabled)

    def widget(self, enabled: bool = True) -> Self:  # noqa: FBT001
        """Show forms and pages to people; for agents that people talk to."""
        return self._set("widget", enabled)

    def finish(self, enabled: bool = True) -> Self:  # noqa: FBT001
        """Hand over an output and end; for agents that other agents call."""
        return self._set("finish", enabled)

    def skills(self, enabled: bool = True) -> Self:  # noqa: FBT001
        """Read the skills that the agent is configured with."""
        return self._set("skills", enabled)

    def meta(self, enabled: bool = True) -> Self:  # noqa: FBT001
        """Search, list and run further tools."""
        return self._set("meta", enabled)

    def artifact(self, enabled: bool = True) -> Self:  # noqa: FBT001
        """Publish pages that can be shared."""
        return self._set("artifact", enabled)

    def agent(self, enabled: bool = True) -> Self:  # noqa: FBT001
        """Have a copy of itself do a side task."""
        return self._set("agent", enabled)

    def remote(self, enabled: bool = True) -> Self:  # noqa: FBT001
        """Run commands on the machines that the user has connected."""
        return self._set("remote", enabled)

    def knowledge(self, enabled: bool = True) -> Self:  # noqa: FBT001
        """Search, read and change the user's skills and knowledge entries."""
        return self._set("knowledge", enabled)

    def all(self) -> Self:
        """Allow plan, memory, widget and finish: the four that the official builders mean by this."""
        return self.plan().memory().widget().finish()

    def none(self) -> Self:
        """Forbid plan, memory, widget and finish: the four that the official builders mean by this."""
        return self.plan(False).memory(False).widget(False).finish(False)

    def build(self) -> dict[str, bool]:
        """Make the value of ``internal_tools`` in an agent's configuration.

        Raises:
            ConfigurationError: A flag is neither True nor False.
        """
        flags: dict[str, object] = {**self._flags}
        wrong = [name for name, enabled in flags.items() if not isinstance(enabled, bool)]
        if wrong:
            raise ConfigurationError(f"internal tools are switched by True or False; these are not: {', '.join(wrong)}")
        return dict(self._flags)

    def _set(self, name: str, enabled: bool) -> Self:  # noqa: FBT001 - what the steps are given
        self._flags[name] = enabled
        return self


class LifecycleHookBuilder(Builder):
    """Builds a hook: what is done when something happens in an agent's life; every step returns the builder.

    Args:
        event: When.

    Example:
        ```python
        done = lifecycle_hook("agent.complete").webhook("https://press.example/done").timeout(10).build()
        agent = client.agent({"name": "editor", "hooks": [done]})
        ```
    """

    def __init__(self, event: HookEvent | str) -> None:
        self._event = event
        self._type = ""
        self._handler: str = ""
        self._asynchronous: bool | None = None
        self._timeout: int | None = None

    def webhook(self, url: str) -> Self:
        """Have the service post to a URL."""
        return self._handle("webhook", url)

    def task(self, agent_ref: str) -> Self:
        """Have another agent run, named by ``namespace/name[@version]``."""
        return self._handle("task", agent_ref)

    def builtin(self, name: BuiltinHook | str) -> Self:
        """Have the service do something that it knows by itself."""
        return self._handle("builtin", name)

    def async_(self, enabled: bool = True) -> Self:  # noqa: FBT001 (as in the official builder)
        """Have the agent go on without waiting for the hook."""
        self._asynchronous = enabled
        return self

    def timeout(self, seconds: int) -> Self:
        """Limit the time that the hook may take, in whole seconds."""
        self._timeout = seconds
        return self

    def build(self) -> dict[str, Any]:
        """Make the hook, one of the ``hooks`` of an agent's configuration.

        Raises:
            ConfigurationError: The event is unknown, or what is to be done cannot be; all problems are told at once.
        """
        problems = [problem for problem in (self._event_problem(), self._handler_problem()) if problem]
        timeout: object = self._timeout
        if timeout is not None and (not isinstance(timeout, int) or isinstance(timeout, bool) or timeout <= 0):
            problems.append(f"the timeout must be a positive whole number of seconds, not {timeout!r}")
        if problems:
            raise ConfigurationError(f"the hook for {self._event!r} cannot be built: {'; '.join(problems)}")
        hook: dict[str, Any] = {"event": str(self._event), "type": self._type, "handler": str(self._handler)}
        if self._asynchronous is not None:
            hook["async"] = self._asynchronous
        if self._timeout is not None:
            hook["timeout"] = self._timeout
        return hook

    def _handle(self, kind: str, handler: str) -> Self:
        self._type, self._handler = kind, handler
        return self

    def _event_problem(self) -> str | None:
        if self._event in list(HookEvent):
            return None
        return f"there is no such event; there are {', '.join(HookEvent)}"

    def _handler_problem(self) -> str | None:
        match self._type:
            case "":
                return "it does nothing yet; say what with .webhook(url), .task(agent_ref) or .builtin(name)"
            case "webhook":
                return url_problem(self._handler)
            case "task":
                return reference_problem(self._handler)
        return None if is_name(self._handler) else f"a builtin hook is named by text, not {self._handler!r}"


def internal_tools() -> InternalToolsBuilder:
    """Begin to say which of the service's own tools an agent may use.

    Returns:
        A builder; end with ``.build()`` and put what that returns into the configuration as ``internal_tools``.

    Example:
        ```python
        print(internal_tools().plan().memory(False).build())
        ```

        ```text
        {'plan': True, 'memory': False}
        ```
    """
    return InternalToolsBuilder()


def lifecycle_hook(event: HookEvent | str) -> LifecycleHookBuilder:
    """Begin to build a hook.

    Args:
        event: When it runs.

    Returns:
        A builder; end with ``.build()`` and put what that returns into the list ``hooks`` of the configuration.

    Example:
        ```python
        print(lifecycle_hook(HookEvent.AGENT_COMPLETE).task("acme/archivist").build())
        ```

        ```text
        {'event': 'agent.complete', 'type': 'task', 'handler': 'acme/archivist'}
        ```
    """
    return LifecycleHookBuilder(event)


def learning_hooks(suggest: bool = False, learn: bool = False) -> list[dict[str, Any]]:  # noqa: FBT001 (as officially)
    """The service's own hooks by which an agent uses and adds to what its team knows.

    Args:
        suggest: Whether each turn begins with what the team's skills, knowledge and apps say about it.
        learn: Whether what is worth keeping of a conversation is saved, at its end and before it is compacted.

    Returns:
        Hooks for the list ``hooks`` of an agent's configuration.

    Example:
        ```python
        agent = client.agent({"name": "editor", "hooks": learning_hooks(suggest=True, learn=True)})
        ```
    """
    events: list[tuple[HookEvent, BuiltinHook]] = []
    if suggest:
        events.append((HookEvent.TURN_START, BuiltinHook.BELT_SUGGEST))
    if learn:
        events.append((HookEvent.AGENT_COMPLETE, BuiltinHook.BELT_EXTRACT))
        events.append((HookEvent.PRE_COMPACT, BuiltinHook.BELT_EXTRACT))
    return [lifecycle_hook(event).builtin(name).build() for event, name in events]
