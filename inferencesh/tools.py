"""Tools that run in your process: schema helpers, the ``tool`` builder, and ``Tool``, which carries its handler.

The wire form (a ``client`` tool with its ``input_schema``) is the one the official Python and JavaScript builders make.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, ParamSpec, Self, TypeVar

from .converter import dump_json
from .errors import ConfigurationError

__all__ = [
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

Schema = dict[str, Any]
# What it returns is sent as it is when it is a string, and as JSON otherwise; it may also be a coroutine of that.
Handler = Callable[..., Any]

P = ParamSpec("P")
R = TypeVar("R")

_OPTIONAL = "optional"  # the marker that optional() sets; it is taken out again before a schema is sent
_INLINE = "__inferencesh_inline__"


def _schema(kind: str, description: str, **rest: object) -> Schema:
    schema: Schema = {"type": kind}
    if description:
        schema["description"] = description
    return {**schema, **rest}


def string(description: str = "") -> Schema:
    """A JSON Schema for text."""
    return _schema("string", description)


def number(description: str = "") -> Schema:
    """A JSON Schema for any number."""
    return _schema("number", description)


def integer(description: str = "") -> Schema:
    """A JSON Schema for a whole number."""
    return _schema("integer", description)


def boolean(description: str = "") -> Schema:
    """A JSON Schema for true or false."""
    return _schema("boolean", description)


def enum_of(values: Sequence[str], description: str = "") -> Schema:
    """A JSON Schema for one of some texts.

    Args:
        values: The texts that are allowed.
        description: What they stand for.
    """
    return _schema("string", description, enum=list(values))


def array(items: Mapping[str, Any], description: str = "") -> Schema:
    """A JSON Schema for a list.

    Args:
        items: The schema of its items.
        description: What the list is.

    Raises:
        ConfigurationError: The schema is no mapping.
    """
    return _schema("array", description, items=_clean(items, "the schema of a list's items"))


def obj(properties: Mapping[str, Mapping[str, Any]], description: str = "") -> Schema:
    """A JSON Schema for an object; properties are required unless made with ``optional``.

    Args:
        properties: The schemas by name.
        description: What the object is.

    Raises:
        ConfigurationError: A schema is no mapping.
    """
    schema = _schema("object", description, properties=_clean_all(properties))
    required = _required(properties)
    return {**schema, "required": required} if required else schema


def optional(schema: Mapping[str, Any]) -> Schema:
    """The same schema for something that may be left out."""
    return {**schema, _OPTIONAL: True}


def _clean(schema: Mapping[str, Any], what: str) -> Schema:
    """A schema without the marker that ``optional`` sets, at any depth; ``what`` names it in an error."""
    if not isinstance(schema, Mapping):
        raise ConfigurationError(f"{what} must be a mapping such as string('...'), not {type(schema).__name__}")
    clean = {key: value for key, value in schema.items() if key != _OPTIONAL}
    properties, items, own = clean.get("properties"), clean.get("items"), clean.get("required")
    if isinstance(properties, Mapping):
        clean["properties"] = _clean_all(properties)
        listed = own if isinstance(own, list | tuple) else ()
        required = list(dict.fromkeys([*listed, *_required(properties, unless_marked=False)]))
        if required:
            clean["required"] = required
    if isinstance(items, Mapping):
        clean["items"] = _clean(items, what)
    return clean


def _clean_all(properties: Mapping[str, Mapping[str, Any]]) -> dict[str, Schema]:
    return {name: _clean(schema, f"the schema of {name!r}") for name, schema in properties.items()}


def _required(properties: Mapping[str, Mapping[str, Any]], *, unless_marked: bool = True) -> list[str]:
    """The names of the required properties; nothing where no property is marked and the schema may say so itself."""
    if not unless_marked and not any(schema.get(_OPTIONAL) for schema in properties.values()):
        return []
    return [name for name, schema in properties.items() if schema.get(_OPTIONAL) is not True]


def inline(function: Callable[P, R]) -> Callable[P, R]:
    """Declare a plain function cheap, so that the async client calls it on the event loop and not in a worker thread.

    Args:
        function: A callback or tool handler that returns at once and never blocks.

    Returns:
        The same function.
    """
    setattr(function, _INLINE, True)
    return function


def is_inline(function: object) -> bool:
    """Whether a function was declared cheap with ``inline``."""
    return getattr(function, _INLINE, False) is True


class Tool(dict[str, Any]):
    """A tool: a read-only mapping of its wire form that also carries its handler.

    ``dict(t)``, ``t["name"]`` and JSON encoders see the wire form alone, which is why it is a dict: ``json`` knows no
    other mapping. The handler never leaves the process.

    Args:
        wire: The wire form.
        handler: The function that runs it, or None when results are submitted by hand.
    """

    __slots__ = ("_takes_mapping", "handler")

    def __init__(self, wire: Mapping[str, Any], handler: Handler | None = None) -> None:
        super().__init__(wire)
        self.handler = handler
        self._takes_mapping = handler is not None and _takes_mapping(handler, self._parameters())

    @property
    def name(self) -> str:
        """The name by which the agent calls it."""
        return str(self["name"])

    def bind(self, arguments: dict[str, Any]) -> Callable[[], Any]:
        """The handler's call with the arguments of one tool call, not made yet.

        A handler either takes one mapping of all arguments, as in the documentation's examples, or the arguments by
        their names; its signature tells which.

        Raises:
            TypeError: They do not fit the handler's parameters.
        """
        handler = self.handler
        if handler is None:
            raise TypeError(f"the tool {self.name} has no handler")
        if self._takes_mapping:
            return lambda: handler(arguments)
        inspect.signature(handler).bind(**arguments)
        return lambda: handler(**arguments)

    def _parameters(self) -> Mapping[str, object]:
        client = self.get("client")
        schema = client.get("input_schema") if isinstance(client, Mapping) else None
        properties = schema.get("properties") if isinstance(schema, Mapping) else None
        return properties if isinstance(properties, Mapping) else {}

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a tool is read-only; take dict(tool) for a copy that can be changed")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __repr__(self) -> str:
        return f"Tool({self.get('name')!r}, handler={'yes' if self.handler else 'no'})"


def _takes_mapping(handler: Handler, parameters: Mapping[str, object]) -> bool:
    """Whether a handler takes all arguments as one mapping: it has one parameter, and no argument has that name."""
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # a builtin that does not tell its signature
        return True
    kinds = inspect.Parameter
    by_position = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind in {kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD, kinds.VAR_POSITIONAL}
    ]
    needed = [parameter for parameter in by_position if parameter.default is kinds.empty]
    if not by_position or len(needed) > 1:
        return False
    first = by_position[0]
    if first.kind is not kinds.POSITIONAL_OR_KEYWORD:
        return True
    # One with a default is meant for the arguments only where there are any that it could not be one of.
    return first.name not in parameters and (bool(needed) or bool(parameters))


class ToolBuilder:
    """Builds a client tool step by step; every step returns the builder.

    Args:
        name: The name by which the agent calls it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._description = ""
        self._display_name = ""
        self._params: dict[str, Mapping[str, Any]] = {}
        self._problems: list[str] = []
        self._handler: Handler | None = None
        self._require_approval = False

    def describe(self, text: str) -> Self:
        """Say what it does; the agent decides by this text when to call it."""
        self._description = text
        return self

    def display(self, name: str) -> Self:
        """Give it a name for people to read."""
        self._display_name = name
        return self

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

    def handler(self, function: Handler) -> Self:
        """Have calls run by a function, sync or async; without one, results are submitted by hand.

        Args:
            function: Takes the arguments as one mapping, or by their names. What it returns is the tool's result; what
                it raises is told to the agent as an error.
        """
        self._handler = function
        return self

    def require_approval(self, required: bool = True) -> Self:  # noqa: FBT001 (as in the official builder)
        """Have each call wait until a person approves it."""
        self._require_approval = required
        return self

    def build(self) -> Tool:
        """Make the tool.

        Raises:
            ConfigurationError: It has no name, a parameter twice, a schema that is not a mapping or has no JSON form.
        """
        problems = [*_problems_of(self._name, self._handler), *self._problems]
        if problems:
            raise ConfigurationError(f"the tool {self._name!r} cannot be built: {'; '.join(problems)}")
        schema = {
            "type": "object",
            "properties": _clean_all(self._params),
            "required": _required(self._params),
        }
        wire = {
            "name": self._name,
            "display_name": self._display_name or self._name,
            "description": self._description,
            "type": "client",
            "require_approval": self._require_approval,
            "client": {"input_schema": schema},
        }
        try:
            dump_json(wire)
        except TypeError as error:
            raise ConfigurationError(f"the tool {self._name!r} cannot be sent as JSON: {error}") from None
        return Tool(wire, self._handler)


def _problem_with(name: object, schema: Mapping[str, Any]) -> str | None:
    """What is wrong with a parameter, or None."""
    if not isinstance(name, str) or not name:
        return f"a parameter's name must be text, not {name!r}"
    try:
        _clean(schema, f"the schema of {name!r}")
    except ConfigurationError as error:
        return str(error)
    return None


def _problems_of(name: object, handler: object) -> Iterator[str]:
    """What is wrong with a tool's name and handler."""
    if not isinstance(name, str) or not name.strip():
        yield "it has no name"
    if handler is not None and not callable(handler):
        yield f"the handler must be a function, not {type(handler).__name__}"


def tool(name: str) -> ToolBuilder:
    """Begin to build a tool that runs in your process.

    Args:
        name: The name by which the agent calls it.

    Returns:
        A builder; end with ``.build()``.
    """
    return ToolBuilder(name)
