"""Builders of what an agent may have besides tools that run in your process.

Tools that the service runs (apps, other agents, MCP servers, webhooks, HTTP requests), the choice of the service's own
tools, lifecycle hooks, and the actions of widgets. The wire forms are the same as those of the official SDKs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Self
from urllib.parse import urlsplit

from .errors import ConfigurationError
from .tools.builder import AnyToolBuilder, Builder, ParameterSteps, is_name
from .tools.handler import check_json
from .tools.schema import input_schema

__all__ = [
    "AgentToolBuilder",
    "AppToolBuilder",
    "BuiltinHook",
    "HTTPToolBuilder",
    "HookEvent",
    "InternalToolsBuilder",
    "LifecycleHookBuilder",
    "MCPToolBuilder",
    "WebhookToolBuilder",
    "agent_tool",
    "app_tool",
    "call_tool",
    "http_tool",
    "internal_tools",
    "learning_hooks",
    "lifecycle_hook",
    "mcp_tool",
    "reference_problem",
    "url_problem",
    "webhook_tool",
    "widget_action",
]

_REFERENCE = re.compile(r"[^\s/@]+/[^\s/@]+(@[^\s/@]+)?")
_TEMPLATE = re.compile(r"\$?\{\{[^{}]+\}\}")  # such as {{context.NAME}}, which the service fills in
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def app_tool(name: str, app_ref: str) -> AppToolBuilder:
    """Begin to build a tool that runs an app of the service.

    Args:
        name: The name by which the agent calls it.
        app_ref: The app: ``namespace/name[@version]``.

    Returns:
        A builder, to be completed with ``.build()``.

    Example:
        ```python
        draw = app_tool("draw", "acme/painter@v2").describe("Draw a picture").build()
        print(draw["app"]["ref"])
        ```

        ```text
        acme/painter@v2
        ```
    """
    return AppToolBuilder(name, app_ref)


class AppToolBuilder(AnyToolBuilder):
    """Builds a tool that runs an app; every step returns the builder.

    Args:
        name: The name by which the agent calls it.
        app_ref: The app: ``namespace/name[@version]``.

    Example:
        ```python
        draw = app_tool("draw", "acme/painter@v2").describe("Draw a picture").input({"size": "small"}).build()
        ```
    """

    _type = "app"

    def __init__(self, name: str, app_ref: str) -> None:
        super().__init__(name)
        self._note(reference_problem(app_ref))
        self._app: dict[str, Any] = {"ref": app_ref}

    def setup(self, values: Mapping[str, Any]) -> Self:
        """Set values of the app's setup, which the agent does not see."""
        return self._set_values("setup", values)

    def input(self, values: Mapping[str, Any]) -> Self:
        """Set values of the app's input, which the agent may replace."""
        return self._set_values("input", values)

    def function(self, name: str) -> Self:
        """Choose the function to call, for an app that has several."""
        self._app["function"] = name
        return self

    def session_enabled(self) -> Self:
        """Let the agent keep a session of the app from call to call."""
        self._app["session_enabled"] = True
        return self

    def _set_values(self, key: str, values: object) -> Self:
        if not isinstance(values, Mapping):
            return self._note(f"{key} must be a mapping of values by name, not {type(values).__name__}")
        self._app[key] = dict(values)
        return self

    def _details(self) -> dict[str, Any]:
        return {key: value for key, value in self._app.items() if value}


def agent_tool(name: str, agent_ref: str) -> AgentToolBuilder:
    """Begin to build a tool that gives a task to another agent.

    Args:
        name: The name by which the agent calls it.
        agent_ref: The other agent: ``namespace/name[@version]``.

    Returns:
        A builder, to be completed with ``.build()``.

    Example:
        ```python
        proofread = agent_tool("proofread", "acme/proofreader").describe("Have a text proofread").build()
        print(proofread["agent"])
        ```

        ```text
        {'ref': 'acme/proofreader'}
        ```
    """
    return AgentToolBuilder(name, agent_ref)


class AgentToolBuilder(AnyToolBuilder):
    """Builds a tool that gives a task to another agent; every step returns the builder.

    Args:
        name: The name by which the agent calls it.
        agent_ref: The other agent: ``namespace/name[@version]``.

    Example:
        ```python
        proofread = agent_tool("proofread", "acme/proofreader").require_approval().build()
        ```
    """

    _type = "agent"

    def __init__(self, name: str, agent_ref: str) -> None:
        super().__init__(name)
        self._note(reference_problem(agent_ref))
        self._ref = agent_ref

    def _details(self) -> dict[str, Any]:
        return {"ref": self._ref}


def mcp_tool(name: str, *, server: str | None = None, tool_name: str | None = None) -> MCPToolBuilder:
    """Begin to build a tool that calls a tool of an MCP server.

    Args:
        name: The name by which the agent calls it.
        server: The short name by which the service knows the server.
        tool_name: The name of the server's tool.

    Returns:
        A builder, to be completed with ``.build()``.

    Raises:
        ConfigurationError: ``server`` or ``tool_name`` is missing.

    Example:
        ```python
        search = mcp_tool("web", server="exa", tool_name="web_search").build()
        print(search["mcp"])
        ```

        ```text
        {'server': 'exa', 'tool_name': 'web_search'}
        ```
    """
    return MCPToolBuilder(name, server=server, tool_name=tool_name)


class MCPToolBuilder(AnyToolBuilder):
    """Builds a tool that calls a tool of an MCP server; every step returns the builder.

    Args:
        name: The name by which the agent calls it.
        server: The short name by which the service knows the server.
        tool_name: The name of the server's tool.

    Raises:
        ConfigurationError: ``server`` or ``tool_name`` is missing.

    Example:
        ```python
        search = mcp_tool("web", server="exa", tool_name="web_search").describe("Search the web").build()
        ```
    """

    _type = "mcp"

    def __init__(self, name: str, *, server: str | None = None, tool_name: str | None = None) -> None:
        super().__init__(name)
        if not is_name(server) or not is_name(tool_name):
            raise ConfigurationError(
                f"the tool {name!r} needs both server= (the MCP server's short name) and tool_name= (the server's tool)"
            )
        self._server, self._tool_name = server, tool_name

    def _details(self) -> dict[str, Any]:
        return {"server": self._server, "tool_name": self._tool_name}


def webhook_tool(name: str, url: str) -> WebhookToolBuilder:
    """Begin to build a tool that posts its arguments to a URL.

    Args:
        name: The name by which the agent calls it.
        url: The URL; the service fills in ``{{context.NAME}}``.

    Returns:
        A builder, to be completed with ``.build()``.

    Example:
        ```python
        publish = webhook_tool("publish", "https://press.example/hook").describe("Publish a text").build()
        print(publish["hook"]["url"])
        ```

        ```text
        https://press.example/hook
        ```
    """
    return WebhookToolBuilder(name, url)


class WebhookToolBuilder(ParameterSteps):
    """Builds a tool that posts its arguments to a URL; every step returns the builder.

    Args:
        name: The name by which the agent calls it.
        url: The URL; the service fills in ``{{context.NAME}}``.

    Example:
        ```python
        publish = webhook_tool("publish", "https://press.example/hook").secret("...").param("title", string()).build()
        ```
    """

    _type = "hook"

    def __init__(self, name: str, url: str) -> None:
        super().__init__(name)
        self._note(url_problem(url))
        self._url = url
        self._secret: str | None = None

    def secret(self, key: str) -> Self:
        """Set a secret that the service sends along, by which the receiver recognizes the caller."""
        self._secret = key
        given: object = key
        if given is not None and not is_name(given):
            self._note("the secret must be text that is not empty")
        return self

    def _details(self) -> dict[str, Any]:
        secret = {} if self._secret is None else {"secret": self._secret}
        return {"url": self._url, **secret, "input_schema": input_schema(self._params)}


def http_tool(name: str, url: str) -> HTTPToolBuilder:
    """Begin to build a tool that makes an HTTP request with credentials that the agent does not see.

    Args:
        name: The name by which the agent calls it.
        url: The URL; the service fills in ``{{context.NAME}}``.

    Returns:
        A builder, to be completed with ``.build()``.

    Example:
        ```python
        search = http_tool("search", "https://search.example").method("GET").param("query", string()).build()
        print(search["http"]["method"])
        ```

        ```text
        GET
        ```
    """
    return HTTPToolBuilder(name, url)


def call_tool(name: str, url: str) -> HTTPToolBuilder:
    """Begin to build an HTTP tool; the other name of ``http_tool`` in the official SDKs.

    Args:
        name: The name by which the agent calls it.
        url: The URL; the service fills in ``{{context.NAME}}``.

    Returns:
        A builder, to be completed with ``.build()``.

    Example:
        ```python
        search = call_tool("search", "https://search.example").build()
        print(search["type"])
        ```

        ```text
        http
        ```
    """
    return http_tool(name, url)


class HTTPToolBuilder(ParameterSteps):
    """Builds a tool that makes an HTTP request with credentials that the agent does not see.

    Every step returns the builder.

    Args:
        name: The name by which the agent calls it.
        url: The URL; the service fills in ``{{context.NAME}}``.

    Example:
        ```python
        search = (
            http_tool("search", "https://search.example/{{context.INDEX}}")
            .method("GET")
            .auth(bearer="SEARCH_TOKEN")
            .param("query", string("What to look for"))
            .build()
        )
        ```
    """

    _type = "http"

    def __init__(self, name: str, url: str) -> None:
        super().__init__(name)
        self._note(url_problem(url))
        self._url = url
        self._method = "POST"
        self._auth: dict[str, str] = {}
        self._headers: dict[str, str] = {}

    def method(self, m: str) -> Self:
        """Set the method: GET, POST, PUT, PATCH or DELETE; the default is POST."""
        if not is_name(m) or m.upper() not in _METHODS:
            return self._note(f"the method must be one of {', '.join(_METHODS)}, not {m!r}")
        self._method = m.upper()
        return self

    def auth(
        self,
        *,
        credential: str | None = None,
        api_key: str | None = None,
        bearer: str | None = None,
        header: str | None = None,
    ) -> Self:
        """Set how the request is authorized: exactly one of ``credential``, ``api_key`` and ``bearer``.

        Args:
            credential: A provider at which the agent's user has signed in; that sign-in's access token is sent.
            api_key: The name of a stored secret, sent in a header.
            bearer: The name of a stored secret, sent as a bearer token.
            header: The header for ``api_key``; ``X-API-Key`` when None.
        """
        ways = {"credential": credential, "api_key": api_key, "bearer": bearer}
        given = {way: value for way, value in ways.items() if value is not None}
        if len(given) != 1:
            return self._note("auth takes exactly one of credential, api_key and bearer")
        ((way, value),) = given.items()
        if not is_name(value):
            self._note(f"{way} must be a name that is not empty")
        if header is not None and (way != "api_key" or not _is_header(header)):
            self._note("header must be the name of a header, and is for api_key only")
        self._auth = {"type": way, "provider" if way == "credential" else "secret": value}
        if way == "api_key":
            self._auth["header"] = "X-API-Key" if header is None else header
        return self

    def header(self, name: str, value: str) -> Self:
        """Add a header to each request.

        Args:
            name: Its name.
            value: Its value; the service replaces ``${{secrets.NAME}}`` by a stored secret.
        """
        if not _is_header(name):
            self._note(f"{name!r} is not the name of a header")
        if not is_name(value) or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
            self._note(f"the value of the header {name!r} must be text, on one line")
        self._headers[name] = value
        return self

    def _details(self) -> dict[str, Any]:
        optional = {
            "method": self._method if self._method != "POST" else "",
            "auth": self._auth,
            "headers": self._headers,
        }
        given = {key: value for key, value in optional.items() if value}
        return {"url": self._url, **given, "input_schema": input_schema(self._params)}


def internal_tools() -> InternalToolsBuilder:
    """Begin to choose which of the service's own tools an agent may use.

    Returns:
        A builder; the result of its ``.build()`` goes into the agent's configuration as ``internal_tools``.

    Example:
        ```python
        print(internal_tools().plan().memory(False).build())
        ```

        ```text
        {'plan': True, 'memory': False}
        ```
    """
    return InternalToolsBuilder()


class InternalToolsBuilder(Builder):
    """Chooses which of the service's own tools an agent may use; every step returns the builder.

    Tools that are not named keep the service's default.

    Example:
        ```python
        allowed = internal_tools().plan().memory().widget(False).build()
        agent = client.agent({"name": "planner", "internal_tools": allowed})
        ```
    """

    def __init__(self) -> None:
        self._flags: dict[str, bool] = {}

    def plan(self, enabled: bool = True) -> Self:  # noqa: FBT001 (as in the official builder, like those below)
        """Allow creating, updating and loading a plan."""
        return self._set("plan", enabled)

    def memory(self, enabled: bool = True) -> Self:  # noqa: FBT001
        """Allow storing values in the chat and reading them."""
        return self._set("memory", enabled)

    def widget(self, enabled: bool = True) -> Self:  # noqa: FBT001
        """Allow showing forms and pages to people; for agents that people talk to."""
        return self._set("widget", enabled)

    def finish(self, enabled: bool = True) -> Self:  # noqa: FBT001
        """Allow returning an output and ending the run; for agents that other agents call."""
        return self._set("finish", enabled)

    def skills(self, enabled: bool = True) -> Self:  # noqa: FBT001
        """Allow reading the skills that the agent is configured with."""
        return self._set("skills", enabled)

    def meta(self, enabled: bool = True) -> Self:  # noqa: FBT001
        """Allow searching, listing and running further tools."""
        return self._set("meta", enabled)

    def artifact(self, enabled: bool = True) -> Self:  # noqa: FBT001
        """Allow publishing pages that can be shared."""
        return self._set("artifact", enabled)

    def agent(self, enabled: bool = True) -> Self:  # noqa: FBT001
        """Allow running a copy of the agent for a subtask."""
        return self._set("agent", enabled)

    def remote(self, enabled: bool = True) -> Self:  # noqa: FBT001
        """Allow running commands on the machines that the user has connected."""
        return self._set("remote", enabled)

    def knowledge(self, enabled: bool = True) -> Self:  # noqa: FBT001
        """Allow searching, reading and changing the user's skills and knowledge entries."""
        return self._set("knowledge", enabled)

    def all(self) -> Self:
        """Allow plan, memory, widget and finish, the four that ``all`` means in the official builders."""
        return self.plan().memory().widget().finish()

    def none(self) -> Self:
        """Forbid plan, memory, widget and finish, the four that ``none`` means in the official builders."""
        return self.plan(False).memory(False).widget(False).finish(False)

    def build(self) -> dict[str, bool]:
        """Return the value of ``internal_tools`` for an agent's configuration.

        Raises:
            ConfigurationError: A flag is neither True nor False.
        """
        flags: dict[str, object] = {**self._flags}
        wrong = [name for name, enabled in flags.items() if not isinstance(enabled, bool)]
        if wrong:
            raise ConfigurationError(f"internal tools take True or False; these have another value: {', '.join(wrong)}")
        return dict(self._flags)

    def _set(self, name: str, enabled: bool) -> Self:  # noqa: FBT001 - passed on from the steps
        self._flags[name] = enabled
        return self


class HookEvent(StrEnum):
    """The events at which a lifecycle hook can run."""

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
    """Hooks that the service implements itself."""

    BELT_SUGGEST = "belt:suggest"
    BELT_EXTRACT = "belt:extract"


def lifecycle_hook(event: HookEvent | str) -> LifecycleHookBuilder:
    """Begin to build a lifecycle hook.

    Args:
        event: The event at which it runs.

    Returns:
        A builder; the result of its ``.build()`` goes into the list ``hooks`` of the agent's configuration.

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
    """Return the service's own hooks by which an agent uses its team's knowledge and adds to it.

    Args:
        suggest: Whether each turn begins with what the team's skills, knowledge and apps have on the subject.
        learn: Whether knowledge is extracted from the conversation at its end and before it is compacted.

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


class LifecycleHookBuilder(Builder):
    """Builds a hook: something that is done at an event in an agent's life; every step returns the builder.

    Args:
        event: The event at which it runs.

    Example:
        ```python
        done = lifecycle_hook("agent.complete").webhook("https://press.example/done").timeout(10).build()
        agent = client.agent({"name": "editor", "hooks": [done]})
        ```
    """

    def __init__(self, event: HookEvent | str) -> None:
        self._event = event
        self._handler: dict[str, str] = {}
        self._handler_problem: str | None = (
            "it does nothing yet; complete it with .webhook(url), .task(agent_ref) or .builtin(name)"
        )
        self._options: dict[str, Any] = {}

    def webhook(self, url: str) -> Self:
        """Have the service post to a URL."""
        return self._handle("webhook", url, url_problem(url))

    def task(self, agent_ref: str) -> Self:
        """Have another agent run: ``namespace/name[@version]``."""
        return self._handle("task", agent_ref, reference_problem(agent_ref))

    def builtin(self, name: BuiltinHook | str) -> Self:
        """Have the service run one of its own hooks."""
        return self._handle("builtin", name, None if is_name(name) else f"a builtin hook has a name, not {name!r}")

    def async_(self, enabled: bool = True) -> Self:  # noqa: FBT001 (as in the official builder)
        """Have the agent continue without waiting for the hook."""
        self._options["async"] = enabled
        return self

    def timeout(self, seconds: int) -> Self:
        """Limit the time that the hook may take, in whole seconds."""
        self._options["timeout"] = seconds
        return self

    def build(self) -> dict[str, Any]:
        """Make the hook, for the list ``hooks`` of an agent's configuration.

        Raises:
            ConfigurationError: The hook is not valid; the error names all problems.
        """
        problems = [] if self._handler_problem is None else [self._handler_problem]
        if self._event not in list(HookEvent):
            problems.insert(0, f"there is no such event; there are {', '.join(HookEvent)}")
        options = {key: value for key, value in self._options.items() if value is not None}
        timeout = options.get("timeout", 1)
        if not isinstance(timeout, int) or isinstance(timeout, bool) or timeout <= 0:
            problems.append(f"the timeout must be a positive whole number of seconds, not {timeout!r}")
        if problems:
            raise ConfigurationError(f"the hook for {self._event!r} cannot be built: {'; '.join(problems)}")
        return {"event": str(self._event), **self._handler, **options}

    def _handle(self, kind: str, handler: str, problem: str | None) -> Self:
        self._handler = {"type": kind, "handler": str(handler)}
        self._handler_problem = problem
        return self


def widget_action(
    type: str,  # noqa: A002 - the wire's word, as in the official SDKs
    payload: Mapping[str, Any] | None = None,
    form_data: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what a person did with a widget, as a result for ``submit_tool_result``.

    The form is the same as in the official Python SDK; it is sent as JSON text.

    Args:
        type: The action's type, as the widget names it.
        payload: The payload that the widget defines for the action, or None.
        form_data: The values that were filled in, by the names of the fields, or None.

    Raises:
        ConfigurationError: The type is not text, or the rest is not a mapping or cannot be sent as JSON.

    Example:
        ```python
        action = widget_action("submit", {"id": 3}, {"name": "Ann"})
        print(action)
        ```

        ```text
        {'action': {'type': 'submit', 'payload': {'id': 3}}, 'form_data': {'name': 'Ann'}}
        ```
    """
    if not is_name(type):
        raise ConfigurationError(f"the type of a widget's action must be text, not {type!r}")
    given: dict[str, object] = {"payload": payload, "form_data": form_data}
    for name, value in given.items():
        if value is not None and not isinstance(value, Mapping):
            raise ConfigurationError(f"{name} of a widget's action must be a mapping, not {value!r}")
    action: dict[str, Any] = {"type": type, **({} if payload is None else {"payload": dict(payload)})}
    result = {"action": action, **({} if form_data is None else {"form_data": dict(form_data)})}
    check_json(result, "a widget's action")
    return result


def reference_problem(reference: object) -> str | None:
    """Return what is wrong with the name of an app or agent, or None."""
    if isinstance(reference, str) and _REFERENCE.fullmatch(reference):
        return None
    return f"an app or agent is named by namespace/name or namespace/name@version, not {reference!r}"


def url_problem(url: object) -> str | None:
    """Return what is wrong with a URL that the service is to call, or None."""
    if not isinstance(url, str):
        return f"a URL must be text, not {url!r}"
    filled = _TEMPLATE.sub("x", url)
    try:
        parts = urlsplit(filled)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    begins_with_template = _TEMPLATE.match(url) is not None
    if not (valid or begins_with_template) or re.search(r"[\s\x00-\x1f\x7f]", filled):
        return f"{url!r} is not an http or https URL"
    return None


def _is_header(name: object) -> bool:
    return isinstance(name, str) and _HEADER.fullmatch(name) is not None
