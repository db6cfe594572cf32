"""Tool handlers: how a function says that it is cheap, and how it takes the arguments of a call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeAlias, TypeVar

from .signatures import called_signature
from .tool_context import ToolContext, context_parameters

__all__ = ["ArgumentsError", "Bind", "Handler", "binder", "inline", "is_inline"]

# What it returns is sent as it is when it is a string, and as JSON otherwise; it may also be a coroutine of that.
Handler: TypeAlias = Callable[..., Any]
# From the arguments of one call and what is known about it to the handler's call, not made yet.
Bind: TypeAlias = Callable[[dict[str, Any], ToolContext | None], Callable[[], Any]]

P = ParamSpec("P")
R = TypeVar("R")

_INLINE = "__inferencesh_inline__"
_POSITIONAL = {
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
}


class ArgumentsError(ValueError):
    """The arguments of a call do not fit the tool; the message is for the agent, so that it can try again."""


def inline(function: Callable[P, R]) -> Callable[P, R]:
    """Declare a plain function cheap, so that the async client calls it on the event loop and not in a worker thread.

    Args:
        function: A callback or tool handler that returns at once and never blocks.

    Returns:
        The same function.

    Example:
        ```python
        @inline
        def on_message(text, done):
            print(text)


        await agent.send_message("Hello", on_message=on_message)
        ```
    """
    setattr(function, _INLINE, True)
    return function


def is_inline(function: object) -> bool:
    """Whether a function was declared cheap with ``inline``."""
    return getattr(function, _INLINE, False) is True


def binder(handler: Handler, parameters: Mapping[str, object]) -> Bind:
    """How a handler takes arguments: one mapping of all, as in the documentation's examples, or each by its name.

    Args:
        handler: The handler, whose signature tells which of the two.
        parameters: The tool's parameters by name.
    """
    try:
        signature = called_signature(handler)
    except (TypeError, ValueError):  # a builtin that does not tell its signature
        return lambda arguments, _: lambda: handler(arguments)
    contexts = context_parameters(handler, signature)
    own = [each for each in signature.parameters.values() if each.name not in contexts]
    mapping = _mapping_parameter(own, parameters)

    def bind(arguments: dict[str, Any], context: ToolContext | None) -> Callable[[], Any]:
        given: dict[str, object] = dict.fromkeys(contexts, context)
        if mapping is None:
            # An argument with the name of the context's parameter is a TypeError: only the client gives one.
            signature.bind(**arguments, **given)
            # By name also where it could be by place: a wrapper may put arguments of its own before the others.
            return lambda: handler(**arguments, **given)
        given[mapping.name] = (arguments,) if mapping.kind is mapping.VAR_POSITIONAL else arguments
        bound = inspect.BoundArguments(signature, given)
        return lambda: handler(*bound.args, **bound.kwargs)

    return bind


def _mapping_parameter(own: list[inspect.Parameter], parameters: Mapping[str, object]) -> inspect.Parameter | None:
    """The parameter that takes all arguments as one mapping: there is one, and no argument has that name."""
    by_position = [each for each in own if each.kind in _POSITIONAL]
    needed = [each for each in by_position if each.default is each.empty]
    if not by_position or len(needed) > 1:
        return None
    first = by_position[0]
    if first.kind is not first.POSITIONAL_OR_KEYWORD:
        return first
    # One with a default is meant for the arguments only where there are any that it could not be one of.
    return first if first.name not in parameters and (needed or parameters) else None
