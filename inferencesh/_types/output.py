"""What ``agent.run`` is to return: the schema the agent is given for it, and its output read as that type."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from inferencesh.errors import ConfigurationError, OutputError
from inferencesh.models import Message

from .hints import hints_of, type_name
from .reading import told
from .schemas import VALUE, Schema, finish_schema

if TYPE_CHECKING:
    from .schemas import TypeSchemas

__all__ = ["JsonTypes", "OutputType"]


class JsonTypes:
    """Some types as JSON.

    Args:
        hints: Attrs classes, dataclasses, TypedDicts, NamedTuples, enums, and anything of builtin types, resolved.

    Attributes:
        schemas: Their JSON Schemas, in the same order; classes that hold themselves are references to ``definitions``.
        definitions: The schemas of those classes, by name.
        readers: What makes values of them from JSON values, in the same order.

    Raises:
        ConfigurationError: One of them has no JSON Schema, or cannot be read; the text says why, and in which field.
    """

    schemas: Sequence[Schema]
    definitions: Mapping[str, Schema]
    readers: Sequence[Callable[[object], Any]]

    def __init__(self, hints: Sequence[Any]) -> None:
        try:
            found, self.readers = _examined(hints)
        except Exception as error:  # an odd class may make them raise anything
            path = next(filter(None, map(_path_to_culprit, hints)), ())
            where = f"in its field {'.'.join(path)}: " if path else ""
            raise ConfigurationError(f"{where}{_reason(error)}") from error
        self.schemas, self.definitions = found.schemas, found.definitions


def _examined(hints: Sequence[Any]) -> tuple[TypeSchemas, list[Callable[[object], Any]]]:
    from .reading import reader_of
    from .schemas import TypeSchemas

    return TypeSchemas(hints), [reader_of(hint) for hint in hints]


def _reason(error: Exception) -> str:
    """What msgspec or the converter has said, without a type's name at the end, which those who ask tell themselves."""
    if isinstance(error, KeyError):
        return f"a class's field {error} has no hint"
    said = (str(error).splitlines() or [""])[0].partition(" - type ")[0] or type(error).__name__
    advice = "; what a class's hints name must be at the top of its module" if isinstance(error, NameError) else ""
    return said + advice


def _path_to_culprit(hint: Any, seen: frozenset[int] = frozenset()) -> tuple[str, ...]:
    """The path to the innermost field that is the reason why a type cannot be had as JSON; empty where none is."""
    inside = seen | {id(hint)}
    for name, inner in (_fields(hint) if id(hint) not in seen else {}).items():
        try:
            _examined([inner])
        except Exception:  # noqa: BLE001 - that it raises is what is asked here
            return (name, *_path_to_culprit(inner, inside))
    return next(filter(None, (_path_to_culprit(each, inside) for each in typing.get_args(hint))), ())


def _fields(hint: Any) -> Mapping[str, Any]:
    cls = typing.get_origin(hint) or hint
    if not isinstance(cls, type) or cls is types.UnionType:
        return {}
    try:
        return hints_of(hint)
    except Exception:  # noqa: BLE001 - an odd class may raise anything, and then it is itself the culprit
        return {}


T = TypeVar("T")


@attrs.frozen
class OutputType(Generic[T]):
    """A type that an agent's output is read as.

    Attributes:
        name: The type, for people.
        schema: Its JSON Schema, of an object: what is no object stands in the property ``value`` of one.
        in_object: Whether it does.
    """

    name: str
    schema: Mapping[str, Any]
    in_object: bool
    _read: Callable[[object], T]

    @classmethod
    def of(cls, output_type: type[T]) -> OutputType[T]:
        """Look at a type.

        Args:
            output_type: An attrs class, dataclass, TypedDict, NamedTuple, enum, or anything of builtin types.

        Raises:
            ConfigurationError: It has no schema, or cannot be read.
        """
        name = type_name(output_type)
        try:
            found = JsonTypes([output_type])
        except ConfigurationError as error:
            raise ConfigurationError(
                f"output_type={name} has no JSON Schema: {error}; take attrs classes, dataclasses, TypedDicts, enums "
                "and builtin types, and the same for their fields"
            ) from error
        schema, in_object = finish_schema(found.schemas[0], found.definitions)
        return cls(name, schema, in_object, found.readers[0])

    def read(self, output: object, message: Message | None = None, chat_id: str | None = None) -> T:
        """Read an output as this type.

        Args:
            output: The JSON value; None means that there is none.
            message: The turn's last message, for the error to carry.
            chat_id: The chat, likewise.

        Raises:
            OutputError: There is none, or it is of another shape.
        """
        try:
            return self._checked(output)
        except OutputError as error:
            error.message, error.chat_id = message, chat_id
            raise

    def _checked(self, output: object) -> T:
        if output is None:
            raise OutputError(f"the agent ended without an output; expected {self.name}")
        value = output
        if self.in_object and isinstance(output, dict) and set(output) == {VALUE}:
            value = output[VALUE]  # else the service has taken it out already
        try:
            return self._read(value)
        except Exception as error:  # noqa: BLE001 - whatever a class's own validators raise is a shape that is wrong
            raise OutputError(f"the agent's output is no valid {self.name}: {told(error)}", output) from None
