"""``ToolContext``: what a tool's handler may ask about the call that it answers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import attrs

from .hints import members_of, resolve

__all__ = ["ToolContext", "context_parameters", "is_context"]


@attrs.frozen
class ToolContext:
    """What a handler may know about the call that it answers.

    A parameter of a handler or typed tool with this class as its hint is filled in by the client, whatever its name;
    the agent does not see it.

    Attributes:
        chat_id: The chat's id.
        call_id: The call's id.
        tool_name: The tool's name.
        agent: The object whose turn it is: an ``Agent`` in the blocking client, an ``AsyncAgent`` in the async one.

    Example:
        ```python
        @tool
        def remember(note: str, context: ToolContext) -> str:
            "Remember a note."
            return f"kept for chat {context.chat_id}"


        agent = client.agent({"name": "secretary", "tools": [remember]})
        message = agent.send_message('Remember "milk"')
        ```
    """

    chat_id: str
    call_id: str
    tool_name: str
    agent: Any = None  # of the kind that the handler's author uses, without having to say so at each use


def context_parameters(handler: Callable[..., Any], signature: inspect.Signature) -> frozenset[str]:
    """The names of a handler's parameters that take the context."""
    return frozenset(each.name for each in signature.parameters.values() if is_context(each.annotation, handler))


def is_context(annotation: object, function: Callable[..., Any]) -> bool:
    """Whether a parameter with this annotation takes the context.

    Args:
        annotation: As it stands in the function's signature.
        function: The function.
    """
    if isinstance(annotation, str):
        try:
            annotation = resolve(annotation, function)
        except Exception:  # noqa: BLE001 - text that means nothing at run time, such as an import for checkers alone
            return ToolContext.__name__ in re.split(r"\W+", str(annotation))
    return any(member is ToolContext for member in members_of(annotation))
