"""``FunctionTool``: a tool made of a function, whose arguments are checked and converted by its type hints."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast, overload

import attrs

from .client_tool import Tool
from .converter import dump_json
from .errors import ConfigurationError
from .handlers import ArgumentsError, Bind
from .json_types import JsonTypes
from .schemas import Schema
from .strict_problems import short, told
from .tool_context import ToolContext
from .typed_signature import Parameter, TypedSignature

__all__ = ["ArgumentsError", "FunctionTool", "ToolTexts", "typed_tool"]

P = ParamSpec("P")
R = TypeVar("R")
Q = ParamSpec("Q")


@attrs.frozen
class ToolTexts:
    """What is said about a tool beside its function.

    Attributes:
        name: Its name, or None for the function's.
        description: What it does, or "" for what the docstring says.
        display_name: A name for people to read, or "" for the name.
        require_approval: Whether each call waits until a person approves it.
    """

    name: str | None = None
    description: str = ""
    display_name: str = ""
    require_approval: bool = False


class TypedArguments:
    """The arguments of a function, from JSON.

    Args:
        signature: What is known of the function.
        what: What it is called in errors.

    Raises:
        ConfigurationError: A parameter's hint has no JSON Schema, or cannot be read.
    """

    def __init__(self, signature: TypedSignature, what: str) -> None:
        self._parameters = {each.name: each for each in signature.parameters}
        self._contexts = signature.contexts
        for each in signature.parameters:  # one by one first, to know whose hint it is that has none
            _types_of([each], what)
        self._types = _types_of(signature.parameters, what)
        self._readers = dict(zip(self._parameters, self._types.readers, strict=True))

    def schema(self) -> Schema:
        """The JSON Schema of all arguments."""
        properties = {
            each.name: _described(schema, each)
            for each, schema in zip(self._parameters.values(), self._types.schemas, strict=True)
        }
        required = [each.name for each in self._parameters.values() if each.required]
        schema: Schema = {"type": "object", "properties": properties, "required": required}
        return {**schema, "$defs": self._types.definitions} if self._types.definitions else schema

    def binder(self, function: Callable[..., Any]) -> Bind:
        """How the function is called with the arguments of a tool call."""

        def bind(arguments: dict[str, Any], context: ToolContext | None) -> Callable[[], Any]:
            # Converted where the handler runs: classes of the user's may check their fields with code that blocks.
            return lambda: function(**self._convert(arguments), **dict.fromkeys(self._contexts, context))

        return bind

    def _convert(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments as the hints say.

        Raises:
            ArgumentsError: They do not fit; all that is wrong is told at once.
        """
        problems = [f"there is no argument {short(name)}" for name in arguments if name not in self._parameters]
        converted: dict[str, Any] = {}
        for name, read in self._readers.items():
            if name in arguments:
                try:
                    converted[name] = read(arguments[name])
                except Exception as error:  # noqa: BLE001 - whatever a class's own checks raise is for the agent
                    problems.append(told(error, name))
            elif self._parameters[name].required:
                problems.append(f"{name}: is missing")
            elif isinstance(default := self._parameters[name].default, list | dict | set):
                converted[name] = copy.deepcopy(default)  # what one call does to it must not reach the next chat
        if problems:
            raise ArgumentsError(f"invalid arguments: {'; '.join(problems)}")
        return converted


@attrs.frozen
class ToolParts:
    """What a tool of a function is made of beside the function.

    Attributes:
        wire: The wire form.
        arguments: The function's arguments.
    """

    wire: dict[str, Any]
    arguments: TypedArguments


class FunctionTool(Tool, Generic[P, R]):
    """A tool made of a function, which can be called like the function; made by ``tool``.

    As a class's attribute it is a method: ``shop.find`` is the tool of one object, whose method its calls run.

    Args:
        function: The function.
        parts: The rest of the tool.
        method_parts: The same for its methods, of which the first argument is known; None where it makes none.
        of_class: Whether that argument is the class.

    Example:
        ```python
        @tool
        def add(a: int, b: int) -> int:
            "Add two numbers."
            return a + b


        print(add(3, 4), add.name, add["description"])
        ```

        ```text
        7 add Add two numbers.
        ```
    """

    def __init__(
        self,
        function: Callable[P, R],
        parts: ToolParts,
        method_parts: Callable[[], ToolParts] | None = None,
        *,
        of_class: bool = False,
    ) -> None:
        super().__init__(parts.wire, function, parts.arguments.binder(function))
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self.is_method = False  # whether it is one that lacks its object
        self._method_parts = method_parts
        self._of_class = of_class

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function; nothing is checked or converted."""
        return self.function(*args, **kwargs)

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(
        self: FunctionTool[Concatenate[Any, Q], R], instance: object, owner: type | None = None
    ) -> FunctionTool[Q, R]: ...

    def __get__(self, instance: object, owner: type | None = None) -> FunctionTool[..., R]:
        """The tool of one object, where this is a method of its class."""
        first = owner if self._of_class else instance
        if self._method_parts is None or first is None:
            return self
        return FunctionTool(types.MethodType(self.function, first), self._method_parts())

    def __set_name__(self, owner: type, name: str) -> None:
        written_there = getattr(self.function, "__qualname__", "").startswith(f"{owner.__qualname__}.")
        self.is_method = self._method_parts is not None and written_there


def typed_tool(
    function: Callable[P, R] | classmethod[Any, P, R], texts: ToolTexts, frame: types.FrameType | None
) -> FunctionTool[P, R]:
    """Make a tool of a function.

    Args:
        function: The function.
        texts: What is said about it besides.
        frame: Where it is being defined, for the names of local classes.

    Raises:
        ConfigurationError: It has no name, or a parameter that cannot be described.
    """
    plain = function.function if isinstance(function, FunctionTool) else function
    is_static, of_class = isinstance(plain, staticmethod), isinstance(plain, classmethod)
    if isinstance(plain, staticmethod | classmethod):
        plain = plain.__func__
    if isinstance(plain, type) or not callable(plain):
        raise ConfigurationError(f"a tool is made of a function, not of {plain!r}")
    what = f"the function {getattr(plain, '__qualname__', type(plain).__qualname__)}"
    signature = TypedSignature.of(plain, what, frame)
    named = attrs.evolve(texts, name=_name_of(plain) if texts.name is None else texts.name)

    def parts(read: TypedSignature) -> ToolParts:
        arguments = TypedArguments(read, what)
        return ToolParts(_wire(named, read.description, arguments.schema(), what), arguments)

    is_method = isinstance(plain, types.FunctionType) and not is_static and signature.parameters
    method_parts = functools.cache(lambda: parts(signature.bound())) if is_method else None
    return FunctionTool(cast("Callable[P, R]", plain), parts(signature), method_parts, of_class=of_class)


def _wire(texts: ToolTexts, description: str, schema: Schema, what: str) -> dict[str, Any]:
    name = texts.name
    if not isinstance(name, str) or not name.strip() or name == "<lambda>":
        raise ConfigurationError(f"{what} has no name for an agent to call it by: write tool('name')(function)")
    wire = {
        "name": name,
        "display_name": texts.display_name or name,
        "description": texts.description or description,
        "type": "client",
        "require_approval": texts.require_approval,
        "client": {"input_schema": schema},
    }
    try:
        dump_json(wire)
    except TypeError as error:
        raise ConfigurationError(f"the tool {name!r} cannot be sent as JSON: {error}") from None
    return wire


def _name_of(function: Callable[..., Any]) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def _types_of(parameters: Sequence[Parameter], what: str) -> JsonTypes:
    try:
        return JsonTypes([each.hint for each in parameters])
    except ConfigurationError as error:
        names = ", ".join(repr(each.name) for each in parameters)
        raise ConfigurationError(
            f"the hint of the parameter {names} of {what} has no JSON Schema, so the agent cannot be told what to "
            f"give: {error}"
        ) from error


def _described(schema: Schema, parameter: Parameter) -> Schema:
    """A parameter's schema with what is known of it: its description, and what it is when it is left out."""
    if parameter.description:
        schema = {**schema, "description": parameter.description}
    if parameter.required or parameter.default is None:
        return schema
    import msgspec

    try:
        return {**schema, "default": msgspec.to_builtins(parameter.default)}
    except TypeError:  # one without a JSON form, which the agent need not know
        return schema
