"""Builders of tools that the service runs: apps, other agents, web requests, and tools of MCP servers.

The wire forms are those that the official Python builders make, without explicit nulls.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Self
from urllib.parse import urlsplit

from .errors import ConfigurationError
from .schemas import input_schema
from .tool_builder import AnyToolBuilder, ParameterSteps, is_name

__all__ = [
    "AgentToolBuilder",
    "AppToolBuilder",
    "HTTPToolBuilder",
    "MCPToolBuilder",
    "WebhookToolBuilder",
    "agent_tool",
    "app_tool",
    "call_tool",
    "http_tool",
    "mcp_tool",
    "reference_problem",
    "url_problem",
    "webhook_tool",
]

_REFERENCE = re.compile(r"[^\s/@]+/[^\s/@]+(@[^\s/@]+)?")
_TEMPLATE = re.compile(r"\$?\{\{[^{}]+\}\}")  # {{context.NAME}}, which the service fills in
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


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


def reference_problem(reference: object) -> str | None:
    """What is wrong with the name of an app or agent, or None."""
    if isinstance(reference, str) and _REFERENCE.fullmatch(reference):
        return None
    return f"an app or agent is named by namespace/name or namespace/name@version, not {reference!r}"


class AppToolBuilder(AnyToolBuilder):
    """Builds a tool that runs an app; every step returns the builder.

    Args:
        name: The name by which the agent calls it.
        app_ref: The app: ``namespace/name[@version]``.
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


class WebhookToolBuilder(ParameterSteps):
    """Builds a tool that posts its arguments to a URL; every step returns the builder.

    Args:
        name: The name by which the agent calls it.
        url: The URL; ``{{context.NAME}}`` in it is filled in by the service.
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


class MCPToolBuilder(AnyToolBuilder):
    """Builds a tool that is one of an MCP server's; every step returns the builder.

    Args:
        name: The name by which the agent calls it.
        server: The server's short name at the service.
        tool_name: The name of the server's tool.

    Raises:
        ConfigurationError: One of them is missing.
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
    """
    return AppToolBuilder(name, app_ref)


def agent_tool(name: str, agent_ref: str) -> AgentToolBuilder:
    """Begin to build a tool that hands a task to another agent.

    Args:
        name: The name by which the agent calls it.
        agent_ref: The other agent: ``namespace/name[@version]``.

    Returns:
        A builder; end with ``.build()``.
    """
    return AgentToolBuilder(name, agent_ref)


def webhook_tool(name: str, url: str) -> WebhookToolBuilder:
    """Begin to build a tool that posts its arguments to a URL.

    Args:
        name: The name by which the agent calls it.
        url: The URL.

    Returns:
        A builder; end with ``.build()``.
    """
    return WebhookToolBuilder(name, url)


def http_tool(name: str, url: str) -> HTTPToolBuilder:
    """Begin to build a tool that makes a web request with credentials.

    Args:
        name: The name by which the agent calls it.
        url: The URL.

    Returns:
        A builder; end with ``.build()``.
    """
    return HTTPToolBuilder(name, url)


def call_tool(name: str, url: str) -> HTTPToolBuilder:
    """The other name of ``http_tool``; both make a tool of the type ``http``, as in the official SDKs.

    Args:
        name: The name by which the agent calls it.
        url: The URL.

    Returns:
        A builder; end with ``.build()``.
    """
    return HTTPToolBuilder(name, url)


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
    """
    return MCPToolBuilder(name, server=server, tool_name=tool_name)


def _is_header(name: object) -> bool:
    return isinstance(name, str) and _HEADER.fullmatch(name) is not None
