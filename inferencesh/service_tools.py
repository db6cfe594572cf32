"""Builders of tools that the service runs by itself: apps, other agents, and tools of MCP servers.

The wire forms are those that the official Python builders make, without explicit nulls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

from .errors import ConfigurationError
from .references import reference_problem
from .tool_builder import AnyToolBuilder, is_name

__all__ = ["AgentToolBuilder", "AppToolBuilder", "MCPToolBuilder", "agent_tool", "app_tool", "mcp_tool"]


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
