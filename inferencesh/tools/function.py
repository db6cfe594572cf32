"""``FunctionTool``: a tool made of a function, whose arguments are checked and converted by its type hints."""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast, overload

import attrs

from inferencesh._types.codec import dump_json
from inferencesh._types.hints import local_names, resolve, underlying
from inferencesh._types.output import JsonTypes
from inferencesh._types.reading import short, told
from inferencesh._types.schemas import Schema, annotated_text, docs_of
from inferencesh.errors import ConfigurationError

from .handler import HIDDEN, ArgumentsError, Bind, Tool, ToolContext, called_signature, is_context, is_written_in_class

__all__ = ["ArgumentsError", "FunctionTool", "Parameter", "ToolTexts", "TypedSignature", "typed_tool"]


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
