"""Builders of tools: the steps that all have in common, and that of the tools that run in your process."""

from __future__ import annotations

import abc
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, Self, TypeVar

from inferencesh._types.codec import dump_json
from inferencesh.errors import ConfigurationError

from .handler import Handler, Tool
from .schema import input_schema

if TYPE_CHECKING:
    from .function import FunctionTool

__all__ = ["AnyToolBuilder", "Builder", "ParameterSteps", "ToolBuilder"]

P = ParamSpec("P")
R = TypeVar("R")


def is_name(value: object) -> bool:
    """Whether something can be the name of a tool."""
    return isinstance(value, str) and bool(value.strip())


class Builder:
    """Something that is described step by step and ends with ``.build()``."""


class AnyToolBuilder(Builder, abc.ABC):
    """The steps that builders of all tools have; every step returns the builder.

    Args:
        name: The name by which the agent calls it.
    """

    _type: ClassVar[str]  # the wire's word for this kind of tool
    _key: ClassVar[str]  # where the wire form has what is particular to it

    def __init__(self, name: str) -> None:
        self._name = name
        self._description = ""
        self._display_name = ""
        self._problems: list[str] = []
        self._require_approval = False

    def describe(self, text: str) -> Self:
        """Say what it does; the agent decides by this text when to call it."""
        self._description = text
        return self

    def display(self, name: str) -> Self:
        """Give it a name for people to read."""
        self._display_name = name
        return self

    def display_name(self, name: str) -> Self:
        """Give it a name for people to read; the newer name of ``display`` in the official SDKs."""
        return self.display(name)

    def require_approval(self, required: bool = True) -> Self:  # noqa: FBT001 (as in the official builder)
        """Have each call wait until a person approves it."""
        self._require_approval = required
        return self

    def param(self, name: str, schema: Mapping[str, Any]) -> Self:
        """Refused where it is not overridden: the schema of such a tool's parameters is the service's affair.

        Args:
            name: Its name.
            schema: Its JSON Schema.
        """
        self._problems.append(
            f"the parameter {name!r} has no place in a tool of the type {self._type}, whose parameters "
            "the service knows by itself"
        )
        del schema
        return self

    def build(self) -> Tool:
        """Make the tool.

        Raises:
            ConfigurationError: Something about it cannot work; all problems are told at once.
        """
        problems = [*self._find_problems(), *self._problems]
        if problems:
            raise ConfigurationError(f"the tool {self._name!r} cannot be built: {'; '.join(problems)}")
        wire = {
            "name": self._name,
            "display_name": self._display_name or self._name,
            "description": self._description,
            "type": self._type,
            "require_approval": self._require_approval,
            self._key: self._particulars(),
        }
        try:
            dump_json(wire)
        except TypeError as error:
            raise ConfigurationError(f"the tool {self._name!r} cannot be sent as JSON: {error}") from None
        return self._make(wire)

    def _find_problems(self) -> Iterator[str]:
        """What is wrong with what was given."""
        if not is_name(self._name):
            yield "it has no name"

    @abc.abstractmethod
    def _particulars(self) -> dict[str, Any]:
        """What is particular to this kind of tool, in the wire form."""

    def _make(self, wire: dict[str, Any]) -> Tool:
        return Tool(wire)


class ParameterSteps(AnyToolBuilder):
    """The step that builders of tools with parameters of their own have beside the others.

    Args:
        name: The name by which the agent calls it.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._params: dict[str, Mapping[str, Any]] = {}

    def param(self, name: str, schema: Mapping[str, Any]) -> Self:
        """Add a parameter.

        Args:
            name: Its name.
            schema: Its JSON Schema, made with ``string``, ``number`` and so on; ``optional(...)`` for one that may be
                left out.
        """
        problem = _problem_with(name, schema)
        if problem:
            self._problems.append(problem)
        elif name in self._params:
            self._problems.append(f"the parameter {name!r} is defined twice")
        else:
            self._params[name] = schema
        return self


class ToolBuilder(ParameterSteps):
    """Builds a client tool step by step; every step returns the builder.

    As a decorator of a function it ends the building: name, description and parameters come from the function, but for
    what was given before.

    Args:
        name: The name by which the agent calls it.

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

    _type = _key = "client"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._handler: Handler | None = None

    def handler(self, function: Handler) -> Self:
        """Have calls run by a function, sync or async; without one, results are submitted by hand.

        Args:
            function: Takes the arguments as one mapping, or by their names; a parameter whose hint is ``ToolContext``
                gets what is known about the call. What it returns is the tool's result; what it raises is told to the
                agent as an error. What a generator yields before its result is reported to ``on_tool_progress``.
        """
        self._handler = function
        return self

    def __call__(self, function: Callable[P, R]) -> FunctionTool[P, R]:
        """Make a tool of a function; as ``tool(function)``, with what was given before.

        Args:
            function: The function.

        Raises:
            ConfigurationError: It cannot be described, or the builder has parameters or a handler already.
        """
        if self._params or self._problems or self._handler is not None:
            raise ConfigurationError(
                f"the tool {self._name!r} has parameters or a handler already, so it cannot decorate a function, "
                "which brings its own"
            )
        from .function import ToolTexts, typed_tool

        texts = ToolTexts(self._name, self._description, self._display_name, self._require_approval)
        return typed_tool(function, texts, sys._getframe(1))

    def _find_problems(self) -> Iterator[str]:
        yield from super()._find_problems()
        handler: object = self._handler
        if handler is not None and not callable(handler):
            yield f"the handler must be a function, not {type(handler).__name__}"

    def _particulars(self) -> dict[str, Any]:
        return {"input_schema": input_schema(self._params)}

    def _make(self, wire: dict[str, Any]) -> Tool:
        return Tool(wire, self._handler)


def _problem_with(name: object, schema: Mapping[str, Any]) -> str | None:
    """What is wrong with a parameter, or None."""
    if not isinstance(name, str) or not name:
        return f"a parameter's name must be text, not {name!r}"
    try:
        input_schema({name: schema})
    except ConfigurationError as error:
        return str(error)
    return None
