"""``ToolBuilder``, and the base classes that all builders of tools share.

Steps note problems and go on; ``build()`` raises one error that names all of them.
"""

from __future__ import annotations

import abc
import sys
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, ParamSpec, Self, TypeVar, overload

import attrs

from inferencesh.errors import ConfigurationError

from .function import FunctionTool, make_function_tool
from .handler import Handler, Tool, ToolInfo
from .schema import input_schema

__all__ = ["AnyToolBuilder", "Builder", "ParameterSteps", "ToolBuilder", "is_name"]

P = ParamSpec("P")
R = TypeVar("R")


class Builder:
    """A description that is completed step by step and ends with ``.build()``."""


class AnyToolBuilder(Builder, abc.ABC):
    """The steps that builders of all tools have; every step returns the builder.

    Args:
        name: The name by which the agent calls the tool.
    """

    _type: ClassVar[str]  # the tool's type, which is also the key of its details in the wire form

    def __init__(self, name: str) -> None:
        self._info = ToolInfo(name)
        self._handler: Handler | None = None
        self._problems: list[str] = []

    def describe(self, text: str) -> Self:
        """Say what the tool does; the agent decides by this text when to call it."""
        return self._set(description=text)

    def display(self, name: str) -> Self:
        """Give the tool a name for people to read."""
        return self._set(display_name=name)

    def display_name(self, name: str) -> Self:
        """Give the tool a name for people to read; the newer name of ``display`` in the official SDKs."""
        return self.display(name)

    def require_approval(self, required: bool = True) -> Self:  # noqa: FBT001 (as in the official builder)
        """Have each call wait until a person approves it."""
        return self._set(require_approval=required)

    def param(self, name: str, schema: Mapping[str, Any]) -> Self:
        """Have ``build()`` fail: the parameters of such a tool are defined by the service.

        Args:
            name: The parameter's name.
            schema: Its JSON Schema.
        """
        del schema
        return self._note(
            f"the parameter {name!r} cannot be added to a tool of the type {self._type}, whose parameters are defined "
            "by the service"
        )

    def build(self) -> Tool:
        """Make the tool.

        Raises:
            ConfigurationError: The description is not valid; the error names all problems.
        """
        name = self._info.name
        problems = [*([] if is_name(name) else ["it has no name"]), *self._problems]
        if problems:
            raise ConfigurationError(f"the tool {name!r} cannot be built: {'; '.join(problems)}")
        return Tool(self._info.to_wire(self._type, self._details()), self._handler)

    @abc.abstractmethod
    def _details(self) -> dict[str, Any]:
        """Return the fields of the wire form that only tools of this type have."""

    def _set(self, **changes: Any) -> Self:
        self._info = attrs.evolve(self._info, **changes)
        return self

    def _note(self, problem: str | None) -> Self:
        """Keep a problem for ``build()`` to report; None is none."""
        if problem is not None:
            self._problems.append(problem)
        return self


class ParameterSteps(AnyToolBuilder):
    """The steps of builders of tools whose parameters are defined here.

    Args:
        name: The name by which the agent calls the tool.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._params: dict[str, Mapping[str, Any]] = {}

    def param(self, name: str, schema: Mapping[str, Any]) -> Self:
        """Add a parameter.

        Args:
            name: The parameter's name.
            schema: Its JSON Schema, made with ``string``, ``number`` and so on; ``optional(...)`` for one that may be
                left out.
        """
        checked: object = name
        if not isinstance(checked, str) or not checked:
            return self._note(f"a parameter's name must be text, not {name!r}")
        if name in self._params:
            return self._note(f"the parameter {name!r} is defined twice")
        try:
            input_schema({name: schema})
        except ConfigurationError as error:
            return self._note(str(error))
        self._params[name] = schema
        return self


class ToolBuilder(ParameterSteps):
    """Builds a client tool step by step; every step returns the builder.

    It can also decorate a function, which completes the tool: name, description and parameters are taken from the
    function, except for those that were set before.

    Args:
        name: The name by which the agent calls the tool.

    Example:
        ```python
        calculator = (
            tool("calculator")
            .describe("Do math")
            .param("expression", string("Such as 42 * 17"))
            .handler(lambda expression: "714")
            .build()
        )
        agent = client.agent({"name": "mathematician", "tools": [calculator]})
        ```
    """

    _type = "client"

    # By the number of parameters, because with ``...`` alone a type checker does not know those of a lambda.
    @overload
    def handler(self, function: Callable[[Any], Any]) -> Self: ...

    @overload
    def handler(self, function: Callable[[Any, Any], Any]) -> Self: ...

    @overload
    def handler(self, function: Callable[[Any, Any, Any], Any]) -> Self: ...

    @overload
    def handler(self, function: Callable[[Any, Any, Any, Any], Any]) -> Self: ...

    @overload
    def handler(self, function: Callable[P, Any]) -> Self: ...

    def handler(self, function: Handler) -> Self:
        """Set the function that runs the calls, sync or async; without one, results are submitted by hand.

        Args:
            function: Takes the arguments as one mapping, or by name. A parameter whose hint is ``ToolContext`` receives
                the context of the call. The return value is the tool's result; an exception is sent to the agent as an
                error. What a generator yields before its result is passed to ``on_tool_progress``.
        """
        self._handler = function
        checked: object = function
        if checked is not None and not callable(checked):
            self._note(f"the handler must be a function, not {type(checked).__name__}")
        return self

    def __call__(self, function: Callable[P, R]) -> FunctionTool[P, R]:
        """Make a tool of a function, as ``tool(function)`` does, with what was set before.

        Args:
            function: The function.

        Raises:
            ConfigurationError: The function cannot be described, or the builder has parameters or a handler already.
        """
        if self._params or self._problems or self._handler is not None:
            raise ConfigurationError(
                f"the tool {self._info.name!r} has parameters or a handler already, so it cannot decorate a function, "
                "which brings its own"
            )
        return make_function_tool(function, self._info, sys._getframe(1))

    def _details(self) -> dict[str, Any]:
        return {"input_schema": input_schema(self._params)}


def is_name(value: object) -> bool:
    """Whether a value is text that is not blank."""
    return isinstance(value, str) and bool(value.strip())
