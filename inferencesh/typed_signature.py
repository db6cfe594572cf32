"""The signature of a function that is to be a tool: its parameters with their meaning, or why it cannot be one."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from .errors import ConfigurationError
from .hints import local_names, resolve, underlying
from .signatures import HIDDEN, called_signature, is_written_in_class
from .tool_context import is_context
from .type_schemas import annotated_text, docs_of

__all__ = ["Parameter", "TypedSignature"]


@attrs.frozen
class Parameter:
    """A parameter that the agent fills in.

    Attributes:
        name: Its name.
        hint: Its resolved hint; Any where it has none.
        description: What it stands for, or "".
        default: Its default, or ``inspect.Parameter.empty``.
    """

    name: str
    hint: Any
    description: str = ""
    default: Any = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is inspect.Parameter.empty


@attrs.frozen
class TypedSignature:
    """What is known of a function that is to be a tool.

    Attributes:
        description: What its docstring says about it.
        parameters: Those that the agent fills in, in order.
        contexts: The names of those that take the ToolContext.
    """

    description: str
    parameters: tuple[Parameter, ...]
    contexts: frozenset[str]

    @classmethod
    def of(cls, function: Callable[..., Any], what: str, frame: types.FrameType | None) -> TypedSignature:
        """Read a function's signature and docstring.

        Args:
            function: The function.
            what: What it is called in errors.
            frame: Where it is being defined, for the names of local classes.

        Raises:
            ConfigurationError: A parameter cannot be filled in by the agent, or its hint means nothing.
        """
        try:
            signature = called_signature(function)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"{what} cannot be a tool by itself, for it does not tell its parameters: wrap it in a function"
            ) from error
        description, texts = docs_of(_docstring(function))
        names = local_names(function, frame)
        fixed = function.keywords if isinstance(function, functools.partial) else {}
        parameters, contexts = [], set()
        for place, each in enumerate(signature.parameters.values()):
            if each.name in fixed:
                continue
            if is_context(each.annotation, function):
                contexts.add(each.name)
                continue
            if not (place == 0 and is_written_in_class(function)):
                _check(each, what)
            hint = _hint_of(each, function, names, what)
            if is_context(hint, function):  # known by a local name
                contexts.add(each.name)
                continue
            text = annotated_text(hint) or texts.get(each.name, "")
            parameters.append(Parameter(each.name, hint, text, each.default))
        return cls(description, tuple(parameters), frozenset(contexts))

    def bound(self) -> TypedSignature:
        """That of a method, of which the first parameter is the object."""
        return attrs.evolve(self, parameters=self.parameters[1:])


def _docstring(function: Callable[..., Any]) -> str | None:
    """What a function says of itself; for an object, what its call or else its class says."""
    if isinstance(function, functools.partial):  # which says of itself what partials are
        return _docstring(function.func)
    if inspect.isroutine(function):
        return inspect.getdoc(function)
    return underlying(function).__doc__ or type(function).__doc__


def _check(parameter: inspect.Parameter, what: str) -> None:
    problems = {
        parameter.POSITIONAL_ONLY: "is positional-only, but the agent gives arguments by name; take the / out",
        parameter.VAR_POSITIONAL: "takes any number of arguments, which have no names; take a list instead, or "
        "**kwargs besides where it is a wrapper's",
        parameter.VAR_KEYWORD: "takes arguments of any name, which no schema describes; take a dict instead",
    }
    if parameter.kind in problems:
        raise ConfigurationError(f"the parameter {str(parameter)!r} of {what} {problems[parameter.kind]}")
    if parameter.annotation is HIDDEN:
        raise ConfigurationError(
            f"the parameter {parameter.name!r} belongs to a wrapper of {what}, and its hint is lost, because "
            "functools.wraps has replaced the wrapper's annotations by those of the function: set __signature__ on the "
            "wrapper, or leave out '__annotations__' of the assigned= that is given to functools.wraps"
        )


def _hint_of(parameter: inspect.Parameter, function: Callable[..., Any], names: Mapping[str, Any], what: str) -> Any:
    if parameter.annotation is parameter.empty or parameter.annotation is HIDDEN:
        return Any
    try:
        return resolve(parameter.annotation, function, names)
    except Exception as error:
        raise ConfigurationError(
            f"the hint {parameter.annotation!r} of the parameter {parameter.name!r} of {what} cannot be resolved: "
            f"{error}; what it names must be defined before the function, at the top of its module or next to it"
        ) from error
