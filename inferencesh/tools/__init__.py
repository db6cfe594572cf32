"""Tools that run in your process: ``tool`` makes them, and ``string``, ``number`` and so on describe their parameters.

The wire form (a ``client`` tool with its ``input_schema``) is the same as that of the official Python and JavaScript
builders.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast, overload

from .builder import ToolBuilder
from .function import FunctionTool, make_function_tool
from .handler import Handler, Tool, ToolInfo, inline, is_inline
from .schema import array, boolean, enum_of, integer, number, obj, optional, string

__all__ = [
    "FunctionTool",
    "Handler",
    "Tool",
    "ToolBuilder",
    "array",
    "boolean",
    "enum_of",
    "inline",
    "integer",
    "is_inline",
    "number",
    "obj",
    "optional",
    "string",
    "tool",
]

P = ParamSpec("P")
R = TypeVar("R")


@overload
def tool(
    name: Callable[P, R], *, description: str = "", display_name: str = "", require_approval: bool = False
) -> FunctionTool[P, R]: ...


@overload
def tool(
    name: str | None = None, *, description: str = "", display_name: str = "", require_approval: bool = False
) -> ToolBuilder: ...


def tool(
    name: str | Callable[..., Any] | None = None,
    *,
    description: str = "",
    display_name: str = "",
    require_approval: bool = False,
) -> ToolBuilder | FunctionTool[..., Any]:
    """Make a tool of a function, or begin to build a tool that runs in your process.

    As a decorator, ``@tool`` or ``@tool(description=...)``, it takes name, description and parameters from the
    function's signature, type hints and docstring (Google, NumPy or Sphinx style). The function can still be called
    as before.

    Args:
        name: The function; or the name by which the agent calls the tool, None for that of the decorated function.
        description: What it does, instead of the function's docstring.
        display_name: A name for people to read.
        require_approval: Whether each call waits until a person approves it.

    Returns:
        Given a function, its tool, which can be called like the function; otherwise a builder, to be completed with
        ``.build()`` or used as a decorator.

    Raises:
        ConfigurationError: The function has a parameter that cannot be described as JSON Schema.

    Example:
        ```python
        @tool
        def weather(city: str, days: int = 1) -> str:
            "Tell the weather."
            return f"Rain in {city} for {days} day(s)"


        agent = client.agent({"name": "forecaster", "tools": [weather]})
        print(agent.send_message("What will the weather be in London?").text)
        ```

        ```text
        ...Rain in London for 1 day(s)...
        ```
    """
    if callable(name) or isinstance(name, classmethod):
        info = ToolInfo(None, description, display_name, require_approval)
        return make_function_tool(name, info, sys._getframe(1))
    builder = ToolBuilder(cast("str", name)).describe(description).display(display_name)
    return builder.require_approval(require_approval)
