"""Types of the user's as JSON: their schemas for the agent, and readers of the values that the agent then writes."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .errors import ConfigurationError
from .schemas import Schema

if TYPE_CHECKING:
    from .type_schemas import TypeSchemas

__all__ = ["JsonTypes"]


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
    from .strict_converter import reader_of
    from .type_schemas import TypeSchemas

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
    try:
        return typing.get_type_hints(cls, include_extras=True) if isinstance(cls, type) else {}
    except NameError:
        return {}
