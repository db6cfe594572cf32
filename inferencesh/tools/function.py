"""``FunctionTool``, a tool made of a function: its parameters come from type hints, which also convert the arguments.

``make_function_tool`` reads the function's signature and docstring (``TypedSignature``) and derives from them the JSON
Schema and the conversion of the arguments (``TypedArguments``).
"""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast, overload

import attrs

from inferencesh._types.constraints import NO_DEFAULT, Default
from inferencesh._types.docstrings import annotated_text, docs_of, marker_text
from inferencesh._types.factory import default_note
from inferencesh._types.hints import local_names, resolve, types_among, underlying
from inferencesh._types.output import JsonType, JsonTypes
from inferencesh._types.reading import short, told
from inferencesh._types.schemas import Schema
from inferencesh.errors import ConfigurationError

from .handler import HIDDEN, ArgumentsError, Tool, ToolContext, ToolInfo, called_signature, is_context, may_be_method

__all__ = ["FunctionTool", "make_function_tool"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")


class FunctionTool(Tool, Generic[P, R]):
    """A tool made of a function by ``tool``; it can still be called like the function.

    As an attribute of a class it is a method: ``shop.find`` is a tool whose calls run the method of that object.

    Args:
        function: The function.
        parts: The wire form and the arguments.
        method_parts: Returns the same without the first parameter, for a method that is bound to an object; None if
            the function cannot be a method.
        of_class: Whether the method is bound to the class instead of the object.

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
        super().__init__(parts.wire, function, functools.partial(parts.arguments.bind, function))
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self.is_method = False
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
        """Return the tool bound to an object, if this is a method of its class."""
        first = owner if self._of_class else instance
        if self._method_parts is None or first is None:
            return self
        return FunctionTool(types.MethodType(self.function, first), self._method_parts())

    def __set_name__(self, owner: type, name: str) -> None:
        defined_there = getattr(self.function, "__qualname__", "").startswith(f"{owner.__qualname__}.")
        self.is_method = self._method_parts is not None and defined_there


def make_function_tool(
    function: Callable[P, R] | classmethod[Any, P, R], info: ToolInfo, frame: types.FrameType | None
) -> FunctionTool[P, R]:
    """Make a tool of a function.

    Args:
        function: The function.
        info: What has precedence over the function's name and docstring.
        frame: The frame in which the function is defined, for hints that refer to local names.

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
    name: object = _name_of(plain) if info.name is None else info.name

    def make_parts(read: TypedSignature) -> ToolParts:
        arguments = TypedArguments(read, what)
        if not isinstance(name, str) or not name.strip() or name == "<lambda>":
            raise ConfigurationError(f"{what} has no name for an agent to call it by: write tool('name')(function)")
        complete = attrs.evolve(info, name=name, description=info.description or read.description)
        return ToolParts(complete.to_wire("client", {"input_schema": arguments.schema()}), arguments)

    can_be_method = isinstance(plain, types.FunctionType) and not is_static and signature.parameters
    method_parts = functools.cache(lambda: make_parts(signature.without_first())) if can_be_method else None
    return FunctionTool(cast("Callable[P, R]", plain), make_parts(signature), method_parts, of_class=of_class)


@attrs.frozen
class ToolParts:
    """What a ``FunctionTool`` needs besides the function.

    Attributes:
        wire: The wire form.
        arguments: The function's arguments.
    """

    wire: dict[str, Any]
    arguments: TypedArguments


class TypedArguments:
    """The arguments of a function: their JSON Schema, and their conversion from JSON.

    Args:
        signature: The function's signature.
        what: The name of the function in errors.

    Raises:
        ConfigurationError: A parameter's hint has no JSON Schema, or values of it cannot be read.
    """

    def __init__(self, signature: TypedSignature, what: str) -> None:
        self._parameters = {each.name: each for each in signature.parameters}
        self._contexts = signature.contexts
        self._types = JsonTypes(signature.names)
        self._read = {each.name: _type_of(each, self._types, what) for each in signature.parameters}

    def schema(self) -> Schema:
        """Return the JSON Schema of all arguments."""
        properties = {name: _described(self._read[name].schema, each) for name, each in self._parameters.items()}
        required = [each.name for each in self._parameters.values() if each.required]
        schema: Schema = {"type": "object", "properties": properties, "required": required}
        return {**schema, "$defs": self._types.definitions} if self._types.definitions else schema

    def bind(
        self, function: Callable[..., Any], arguments: dict[str, Any], context: ToolContext | None
    ) -> Callable[[], Any]:
        """Bind the arguments of a tool call to the function without calling it.

        They are converted when the result is called, because that happens where the handler runs: classes of the
        user's may validate their fields with code that blocks.
        """
        return lambda: function(**self._convert(arguments), **dict.fromkeys(self._contexts, context))

    def _convert(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments converted to the types of the hints.

        Raises:
            ArgumentsError: They do not fit; the error names all problems.
        """
        problems = [f"there is no argument {short(name)}" for name in arguments if name not in self._parameters]
        converted: dict[str, Any] = {}
        for name, kind in self._read.items():
            if name in arguments:
                try:
                    converted[name] = kind.read(arguments[name])
                except Exception as error:  # noqa: BLE001 - whatever a class's validation raises is for the agent
                    problems.append(told(error, name))
            elif self._parameters[name].required:
                problems.append(f"{name}: is missing")
            else:
                converted |= self._defaults(name)
        if problems:
            raise ArgumentsError(f"invalid arguments: {'; '.join(problems)}")
        return converted

    def _defaults(self, name: str) -> dict[str, Any]:
        """Return the default of a parameter, by its name, if the function does not have it itself."""
        default = self._parameters[name].default
        if default.make is not None:
            return {name: default.make()}
        if type(default.value).__hash__ is None:  # it can be changed, which must not carry over to the next call
            return {name: copy.deepcopy(default.value)}
        return {}


@attrs.frozen
class TypedSignature:
    """The signature and docstring of a function that is made a tool.

    Attributes:
        description: The docstring's description of the function.
        parameters: The parameters that the agent fills in, in order.
        contexts: The names of the parameters that receive the ``ToolContext``.
        names: The local names of types that the classes in its hints may use.
    """

    description: str
    parameters: tuple[Parameter, ...]
    contexts: frozenset[str]
    names: Mapping[str, Any] = attrs.field(repr=False)

    @classmethod
    def of(cls, function: Callable[..., Any], what: str, frame: types.FrameType | None) -> TypedSignature:
        """Read a function's signature and docstring.

        Args:
            function: The function.
            what: The name of the function in errors.
            frame: The frame in which it is defined, for hints that refer to local names.

        Raises:
            ConfigurationError: A parameter cannot be filled in by the agent, or its hint cannot be resolved.
        """
        try:
            signature = called_signature(function)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"{what} cannot be made a tool, because its parameters cannot be read: wrap it in a function"
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
            if not (place == 0 and may_be_method(function)):
                _check(each, what)
            hint = _hint_of(each, function, names, what)
            if is_context(hint, function):  # ToolContext under a local name
                contexts.add(each.name)
                continue
            text = annotated_text(hint) or marker_text(each.default) or texts.get(each.name, "")
            hint, default = _default_of(each, hint, what)
            parameters.append(Parameter(each.name, hint, default, text))
        return cls(description, tuple(parameters), frozenset(contexts), types_among(names))

    def without_first(self) -> TypedSignature:
        """Return the signature of a bound method, whose first parameter is the object."""
        return attrs.evolve(self, parameters=self.parameters[1:])


@attrs.frozen
class Parameter:
    """A parameter that the agent fills in.

    Attributes:
        name: Its name.
        hint: Its resolved hint; Any if it has none.
        default: What it is when the agent does not give it.
        description: What it means, or "".
    """

    name: str
    hint: Any
    default: Default
    description: str = ""

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default.required


def _docstring(function: Callable[..., Any]) -> str | None:
    """Return a function's docstring; for a callable object, that of its ``__call__``, class or ``__init__``."""
    if isinstance(function, functools.partial):  # its own docstring describes functools.partial
        return _docstring(function.func)
    if inspect.isroutine(function):
        return inspect.getdoc(function)
    init = vars(type(function)).get("__init__")
    return underlying(function).__doc__ or type(function).__doc__ or (init.__doc__ if init is not None else None)


def _name_of(function: Callable[..., Any]) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def _check(parameter: inspect.Parameter, what: str) -> None:
    """Raise ConfigurationError for a parameter that the agent cannot fill in."""
    problems = {
        parameter.POSITIONAL_ONLY: "is positional-only, but the agent gives arguments by name: remove the /",
        parameter.VAR_POSITIONAL: "takes any number of arguments, which have no names: take a list instead, or, if it "
        "belongs to a wrapper, add **kwargs",
        parameter.VAR_KEYWORD: "takes arguments of any name, which no schema describes: take a dict instead",
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


def _default_of(parameter: inspect.Parameter, hint: Any, what: str) -> tuple[Any, Default]:
    """Return a parameter's hint and default, which pydantic's ``Field`` may state in either."""
    default = NO_DEFAULT if parameter.default is parameter.empty else parameter.default
    try:
        return Default.of(hint, default)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"the default of the parameter {parameter.name!r} of {what} has a meaning that is lost: {error}"
        ) from error


def _type_of(parameter: Parameter, types: JsonTypes, what: str) -> JsonType:
    try:
        return types.add(parameter.hint)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"the hint of the parameter {parameter.name!r} of {what} has no JSON Schema, so the agent cannot be told "
            f"what to give: {error}"
        ) from error


def _described(schema: Schema, parameter: Parameter) -> Schema:
    """Return a parameter's schema with its description and default."""
    text = {"description": parameter.description} if parameter.description else {}
    return {**schema, **text, **default_note(parameter.default.value)}
