"""Build the schema of an output type for ``agent.run``, and read the agent's output as that type."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import attrs

from inferencesh.errors import ConfigurationError, OutputError
from inferencesh.models import Message

from .hints import hints_of, type_name
from .reading import reader_of, told
from .schemas import VALUE, Schema, TypeSchemas, finish_schema

__all__ = ["JsonTypes", "OutputType"]


class JsonTypes:
    """The JSON Schemas and readers of some types.

    Args:
        hints: Attrs classes, dataclasses, TypedDicts, NamedTuples, enums, and anything of builtin types, resolved.

    Attributes:
        schemas: Their JSON Schemas, in the same order; recursive classes are references to ``definitions``.
        definitions: The schemas of those classes, by name.
        readers: Functions that read JSON values as these types, in the same order.

    Raises:
        ConfigurationError: One of them has no JSON Schema, or cannot be read; the error names the reason and the field.
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
    return TypeSchemas(hints), [reader_of(hint) for hint in hints]


def _reason(error: Exception) -> str:
    """Return the message of an error from msgspec or cattrs, without the type's name, which the caller adds."""
    if isinstance(error, KeyError):
        return f"a class's field {error} has no hint"
    said = (str(error).splitlines() or [""])[0].partition(" - type ")[0] or type(error).__name__
    advice = "; what a class's hints name must be at the top of its module" if isinstance(error, NameError) else ""
    return said + advice


def _path_to_culprit(hint: Any, seen: frozenset[int] = frozenset()) -> tuple[str, ...]:
    """Return the path to the innermost field whose type has no JSON form; empty if there is none."""
    inside = seen | {id(hint)}
    for name, inner in (_fields(hint) if id(hint) not in seen else {}).items():
        try:
            _examined([inner])
        except Exception:  # noqa: BLE001 - any exception means that this field is the cause
            return (name, *_path_to_culprit(inner, inside))
    return next(filter(None, (_path_to_culprit(each, inside) for each in typing.get_args(hint))), ())


def _fields(hint: Any) -> Mapping[str, Any]:
    cls = typing.get_origin(hint) or hint
    if not isinstance(cls, type) or cls is types.UnionType:
        return {}
    try:
        return hints_of(hint)
    except Exception:  # noqa: BLE001 - an odd class may raise anything; the caller then reports the class itself
        return {}


T = TypeVar("T")


@attrs.frozen
class OutputType(Generic[T]):
    """The type of an agent's output.

    Attributes:
        name: The type, for error messages.
        schema: The JSON Schema of an object; any other output is the property ``value`` of that object.
        in_object: Whether the output is such a property.
        giver: Who gives the output, for error messages.
    """

    name: str
    schema: Mapping[str, Any]
    in_object: bool
    _read: Callable[[object], T]
    giver: str = "agent"

    @classmethod
    def of(cls, output_type: type[T], giver: str = "agent") -> OutputType[T]:
        """Return the output type for a type hint.

        Args:
            output_type: An attrs class, dataclass, TypedDict, NamedTuple, enum, or anything of builtin types.
            giver: Who gives the output, for error messages.

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
        return cls(name, schema, in_object, found.readers[0], giver)

    def read(self, output: object, message: Message | None = None, chat_id: str | None = None) -> T:
        """Read an output as this type.

        Args:
            output: The JSON value, or None if there is none.
            message: The turn's last message, added to the error.
            chat_id: The chat's id, added to the error.

        Raises:
            OutputError: There is none, or it does not match the type.
        """
        try:
            return self._checked(output)
        except OutputError as error:
            error.message, error.chat_id = message, chat_id
            raise

    def _checked(self, output: object) -> T:
        if output is None:
            raise OutputError(f"the {self.giver} ended without an output; expected {self.name}")
        value = output
        if self.in_object and isinstance(output, dict) and set(output) == {VALUE}:
            value = output[VALUE]  # otherwise the service has unwrapped it
        try:
            return self._read(value)
        except Exception as error:  # noqa: BLE001 - a class's own validators may raise anything
            raise OutputError(f"the {self.giver}'s output is no valid {self.name}: {told(error)}", output) from None
