"""What a person did with a widget that an agent has shown, in the form in which the agent is told."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Self
from urllib.parse import urlsplit

from ._types.codec import dump_json
from .errors import ConfigurationError
from .tools.builder import AnyToolBuilder, Builder, ParameterSteps, is_name
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
_TEMPLATE = re.compile(r"\$?\{\{[^{}]+\}\}")  # {{context.NAME}}, which the service fills in


def reference_problem(reference: object) -> str | None:
    """What is wrong with the name of an app or agent, or None."""
    if isinstance(reference, str) and _REFERENCE.fullmatch(reference):
        return None
    return f"an app or agent is named by namespace/name or namespace/name@version, not {reference!r}"


def url_problem(url: object) -> str | None:
    """What is wrong with a URL that the service is to call, or None."""
    if not isinstance(url, str):
        return f"a URL is text, not {url!r}"
    filled = _TEMPLATE.sub("x", url)
    try:
        parts = urlsplit(filled)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    begins_with_template = _TEMPLATE.match(url) is not None
    if not (valid or begins_with_template) or re.search(r"[\s\x00-\x1f\x7f]", filled):
        return f"{url!r} is no http or https URL"
    return None


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

    _type = _key = "app"

    def __init__(self, name: str, app_ref: str) -> None:
        super().__init__(name)
        self._ref = app_ref
        self._setup: Mapping[str, Any] = {}
        self._input: Mapping[str, Any] = {}
        self._function = ""
        self._session_enabled = False

    def setup(self, values: Mapping[str, Any]) -> Self:
        """Give values for the app's setup, which the agent does not see."""
        self._setup = values
        return self

    def input(self, values: Mapping[str, Any]) -> Self:
        """Give values for the app's input, which the agent may replace."""
        self._input = values
        return self

    def function(self, name: str) -> Self:
        """Name the function to call, of an app that has several."""
        self._function = name
        return self

    def session_enabled(self) -> Self:
        """Let the agent keep a session of the app from call to call."""
        self._session_enabled = True
        return self

    def _find_problems(self) -> Iterator[str]:
        yield from super()._find_problems()
        if problem := reference_problem(self._ref):
            yield problem
        given: dict[str, object] = {"setup": self._setup, "input": self._input}
        for what, values in given.items():
            if not isinstance(values, Mapping):
                yield f"{what} must be a mapping of values by name, not {type(values).__name__}"

    def _particulars(self) -> dict[str, Any]:
        optional = {
            "function": self._function,
            "session_enabled": self._session_enabled,
            "setup": dict(self._setup),
            "input": dict(self._input),
        }
        return {"ref": self._ref, **{key: value for key, value in optional.items() if value}}


class AgentToolBuilder(AnyToolBuilder):
    """Builds a tool that hands a task to another agent; every step returns the builder.

    Args:
        name: The name by which the agent calls it.
        agent_ref: The other agent: ``namespace/name[@version]``.

    Example:
        ```python
        proofread = agent_tool("proofread", "acme/proofreader").require_approval().build()
        ```
    """

    _type = _key = "agent"

    def __init__(self, name: str, agent_ref: str) -> None:
        super().__init__(name)
        self._ref = agent_ref

    def _find_problems(self) -> Iterator[str]:
        yield from super()._find_problems()
        if problem := reference_problem(self._ref):
            yield problem

    def _particulars(self) -> dict[str, Any]:
        return {"ref": self._ref}


class MCPToolBuilder(AnyToolBuilder):
    """Builds a tool that is one of an MCP server's; every step returns the builder.

    Args:
        name: The name by which the agent calls it.
        server: The server's short name at the service.
        tool_name: The name of the server's tool.

    Raises:
        ConfigurationError: One of them is missing.

    Example:
        ```python
        search = mcp_tool("web", server="exa", tool_name="web_search").describe("Search the web").build()
        ```
    """

    _type = _key = "mcp"

    def __init__(self, name: str, *, server: str | None = None, tool_name: str | None = None) -> None:
        super().__init__(name)
        if not is_name(server) or not is_name(tool_name):
            raise ConfigurationError(
                f"the tool {name!r} needs both server= (the MCP server's short name) and tool_name= (the server's tool)"
            )
        self._server, self._tool_name = server, tool_name

    def _particulars(self) -> dict[str, Any]:
        return {"server": self._server, "tool_name": self._tool_name}


def app_tool(name: str, app_ref: str) -> AppToolBuilder:
    """Begin to build a tool that runs an app of the service.

    Args:
        name: The name by which the agent calls it.
        app_ref: The app: ``namespace/name[@version]``.

    Returns:
        A builder; end with ``.build()``.

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


def agent_tool(name: str, agent_ref: str) -> AgentToolBuilder:
    """Begin to build a tool that hands a task to another agent.

    Args:
        name: The name by which the agent calls it.
        agent_ref: The other agent: ``namespace/name[@version]``.

    Returns:
        A builder; end with ``.build()``.

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


def mcp_tool(name: str, *, server: str | None = None, tool_name: str | None = None) -> MCPToolBuilder:
    """Begin to build a tool that is one of an MCP server's.

    Args:
        name: The name by which the agent calls it.
        server: The server's short name at the service.
        tool_name: The name of the server's tool.

    Returns:
        A builder; end with ``.build()``.

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


_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class WebhookToolBuilder(ParameterSteps):
    """Builds a tool that posts its arguments to a URL; every step returns the builder.

    Args:
        name: The name by which the agent calls it.
        url: The URL; ``{{context.NAME}}`` in it is filled in by the service.

    Example:
        ```python
        publish = webhook_tool("publish", "https://press.example/hook").secret("...").param("title", string()).build()
        ```
    """

    _type = _key = "hook"

    def __init__(self, name: str, url: str) -> None:
        super().__init__(name)
        self._url = url
        self._secret: str | None = None

    def secret(self, key: str) -> Self:
        """Give a secret that the service sends along, so that the receiver knows who calls."""
        self._secret = key
        return self

    def _find_problems(self) -> Iterator[str]:
        yield from super()._find_problems()
        if problem := url_problem(self._url):
            yield problem
        if self._secret is not None and not is_name(self._secret):
            yield "the secret must be text that is not empty"

    def _particulars(self) -> dict[str, Any]:
        secret = {} if self._secret is None else {"secret": self._secret}
        return {"url": self._url, **secret, "input_schema": input_schema(self._params)}


class HTTPToolBuilder(ParameterSteps):
    """Builds a tool that makes a web request with credentials that the agent does not see.

    Every step returns the builder.

    Args:
        name: The name by which the agent calls it.
        url: The URL; ``{{context.NAME}}`` in it is filled in by the service.

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

    _type = _key = "http"

    def __init__(self, name: str, url: str) -> None:
        super().__init__(name)
        self._url = url
        self._method = "POST"
        self._auth: dict[str, str] = {}
        self._headers: dict[str, str] = {}

    def method(self, m: str) -> Self:
        """Choose the method: GET, POST, PUT, PATCH or DELETE; POST is the default."""
        if is_name(m) and m.upper() in _METHODS:
            self._method = m.upper()
        else:
            self._problems.append(f"the method must be one of {', '.join(_METHODS)}, not {m!r}")
        return self

    def auth(
        self,
        *,
        credential: str | None = None,
        api_key: str | None = None,
        bearer: str | None = None,
        header: str | None = None,
    ) -> Self:
        """Choose how the request is authorized, in exactly one way.

        Args:
            credential: A provider, for the access token of the login that the agent's user has there.
            api_key: The name of a stored secret, sent in a header.
            bearer: The name of a stored secret, sent as a bearer token.
            header: The header for ``api_key``; ``X-API-Key`` when None.
        """
        ways = {"credential": credential, "api_key": api_key, "bearer": bearer}
        given = {way: value for way, value in ways.items() if value is not None}
        if len(given) != 1:
            self._problems.append("auth takes exactly one of credential, api_key and bearer")
            return self
        ((way, value),) = given.items()
        if not is_name(value):
            self._problems.append(f"{way} must be a name that is not empty")
        if header is not None and (way != "api_key" or not _is_header(header)):
            self._problems.append("header must be a header's name, and goes with api_key only")
        self._auth = {"type": way, "provider" if way == "credential" else "secret": value}
        if way == "api_key":
            self._auth["header"] = "X-API-Key" if header is None else header
        return self

    def header(self, name: str, value: str) -> Self:
        """Add a header to each request.

        Args:
            name: Its name.
            value: Its value; ``${{secrets.NAME}}`` in it is a stored secret.
        """
        if not _is_header(name):
            self._problems.append(f"{name!r} is no name of a header")
        if not is_name(value) or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
            self._problems.append(f"the value of the header {name!r} must be text, on one line")
        self._headers[name] = value
        return self

    def _find_problems(self) -> Iterator[str]:
        yield from super()._find_problems()
        if problem := url_problem(self._url):
            yield problem

    def _particulars(self) -> dict[str, Any]:
        optional = {
            "method": self._method if self._method != "POST" else "",
            "auth": self._auth,
            "headers": self._headers,
        }
        given = {key: value for key, value in optional.items() if value}
        return {"url": self._url, **given, "input_schema": input_schema(self._params)}


def webhook_tool(name: str, url: str) -> WebhookToolBuilder:
    """Begin to build a tool that posts its arguments to a URL.

    Args:
        name: The name by which the agent calls it.
        url: The URL.

    Returns:
        A builder; end with ``.build()``.

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


def http_tool(name: str, url: str) -> HTTPToolBuilder:
    """Begin to build a tool that makes a web request with credentials.

    Args:
        name: The name by which the agent calls it.
        url: The URL.

    Returns:
        A builder; end with ``.build()``.

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
    """The other name of ``http_tool``; both make a tool of the type ``http``, as in the official SDKs.

    Args:
        name: The name by which the agent calls it.
        url: The URL.

    Returns:
        A builder; end with ``.build()``.

    Example:
        ```python
        search = call_tool("search", "https://search.example").build()
        print(search["type"])
        ```

        ```text
        http
        ```
    """
    return HTTPToolBuilder(name, url)


def _is_header(name: object) -> bool:
    return isinstance(name, str) and _HEADER.fullmatch(name) is not None


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


def widget_action(
    type: str,  # noqa: A002 - the wire's word, as in the official SDKs
    payload: Mapping[str, Any] | None = None,
    form_data: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a person did with a widget, for ``submit_tool_result``.

    The form is the one that the official Python SDK takes; it is sent as JSON text.

    Args:
        type: The action's type, as the widget names it.
        payload: What the widget says belongs to it, or None.
        form_data: What was filled in, by the names of the fields, or None.

    Raises:
        ConfigurationError: The type is no text, or the rest is no mapping or has no JSON form.

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
        raise ConfigurationError(f"a widget's action has a type, which is text, not {type!r}")
    given: dict[str, object] = {"payload": payload, "form_data": form_data}
    for name, value in given.items():
        if value is not None and not isinstance(value, Mapping):
            raise ConfigurationError(f"{name} of a widget's action must be a mapping, not {value!r}")
    action: dict[str, Any] = {"type": type, **({} if payload is None else {"payload": dict(payload)})}
    result = {"action": action, **({} if form_data is None else {"form_data": dict(form_data)})}
    try:
        dump_json(result)
    except TypeError as error:
        raise ConfigurationError(f"a widget's action cannot be sent as JSON: {error}") from None
    return result
