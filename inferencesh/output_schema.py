"""The JSON Schema of a Python type, in the form an agent's finish tool takes: an object that refers to nothing outside.

msgspec makes the schema. It puts every class under ``$defs``; of these only the recursive ones stay there, since not
every language model's provider follows references.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from .errors import ConfigurationError

__all__ = ["VALUE", "is_object", "schema_of", "wrapped"]

VALUE = "value"  # the name of the one property that holds an output which is no object

_REF = "#/$defs/"
_QUALIFIER = re.compile(r"(?<!['\"\w.>])(?:[\w<>]+\.)+(?=\w)")  # of a name in a type's repr
_NO_SCHEMA = (TypeError, ValueError, NameError, AttributeError, RecursionError)  # what the making of a schema raises

Schema = dict[str, Any]


def schema_of(output_type: Any) -> Schema:
    """The JSON Schema of a type.

    Args:
        output_type: An attrs class, dataclass, TypedDict, NamedTuple, enum, or anything of builtin types.

    Raises:
        ConfigurationError: It has none.
    """
    import msgspec

    try:
        schema = msgspec.json.schema(output_type)
    except _NO_SCHEMA as error:
        raise ConfigurationError(_complaint(output_type, error)) from error
    return _self_contained(schema)


def is_object(schema: Mapping[str, Any]) -> bool:
    """Whether every value of a schema is an object, as a tool's arguments have to be."""
    return schema.get("type") == "object"


def wrapped(schema: Mapping[str, Any]) -> Schema:
    """The schema of an object with one property, whose value is of the schema given."""
    inner = {name: value for name, value in schema.items() if name != "$defs"}
    outer: Schema = {"type": "object", "properties": {VALUE: inner}, "required": [VALUE]}
    return outer | {name: schema[name] for name in ("$defs",) if name in schema}


def _self_contained(schema: Mapping[str, Any]) -> Schema:
    """Put definitions in the places of the references to them, as far as they are not recursive."""
    definitions: Mapping[str, Schema] = schema.get("$defs", {})
    uses = {name: set(_references(body)) for name, body in definitions.items()}
    kept = {name for name in definitions if name in _reachable(name, uses)}

    def resolve(part: Any, *, of_root: bool = False) -> Any:
        if isinstance(part, list):
            return [resolve(item) for item in part]
        if not isinstance(part, dict):
            return part
        name = _referred(part)
        if name is not None and (of_root or name not in kept):
            return resolve(definitions[name]) | {key: value for key, value in part.items() if key != "$ref"}
        return {key: _in_keyword(key, value, resolve) for key, value in part.items()}

    whole: Schema = resolve({key: value for key, value in schema.items() if key != "$defs"}, of_root=True)
    if kept and (needed := set(_references(whole))):
        for name in tuple(needed):
            needed |= _reachable(name, uses) & kept
        whole["$defs"] = {name: resolve(definitions[name]) for name in sorted(needed)}
    return whole


def _in_keyword(key: str, value: Any, resolve: typing.Callable[[Any], Any]) -> Any:
    """The value of one keyword, resolved where it is made of schemas."""
    if key == "description" and isinstance(value, str):
        return inspect.cleandoc(value)
    if key == "properties":
        return {name: resolve(each) for name, each in value.items()}
    if key in {"items", "prefixItems", "additionalProperties", "propertyNames", "anyOf", "oneOf", "allOf"}:
        return resolve(value)
    return value


def _referred(part: Mapping[str, Any]) -> str | None:
    target = part.get("$ref")
    return target.removeprefix(_REF) if isinstance(target, str) else None


def _references(part: Any) -> Iterator[str]:
    """The names of the definitions that a schema refers to directly."""
    if isinstance(part, list):
        for item in part:
            yield from _references(item)
    elif isinstance(part, dict):
        name = _referred(part)
        if name is not None:
            yield name
        for value in part.values():
            yield from _references(value)


def _reachable(name: str, uses: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for each in uses[waiting.pop()] - found:
            found.add(each)
            waiting.append(each)
    return found


# -- complaints --------------------------------------------------------------------------------------------------------


def _complaint(output_type: Any, error: Exception) -> str:
    """What is wrong with a type that has no schema, and where."""
    path, culprit = _culprit(output_type)
    where = f" because of its field {'.'.join(path)}: {type_name(culprit)}" if path else ""
    reason = str(error).partition("\n")[0].partition(" - type ")[0]
    why = "" if reason.startswith("Generating JSON schema for custom types") or not reason else f" ({reason})"
    return (
        f"output_type={type_name(output_type)} has no JSON Schema{where}{why}; take attrs classes, dataclasses, "
        "TypedDicts, enums and builtin types, and the same for their fields"
    )


def _culprit(output_type: Any, seen: frozenset[int] = frozenset()) -> tuple[tuple[str, ...], Any]:
    """The path to the innermost field that has no schema, and its type."""
    import msgspec

    if id(output_type) not in seen:
        for name, hint in _fields(output_type).items():
            try:
                msgspec.json.schema(hint)
            except _NO_SCHEMA:
                path, culprit = _culprit(hint, seen | {id(output_type)})
                return (name, *path), culprit
    for argument in typing.get_args(output_type):
        path, culprit = _culprit(argument, seen | {id(output_type)}) if _fields(argument) else ((), argument)
        if path:
            return path, culprit
    return (), output_type


def _fields(output_type: Any) -> Mapping[str, Any]:
    cls = typing.get_origin(output_type) or output_type
    try:
        return typing.get_type_hints(cls, include_extras=True) if isinstance(cls, type) else {}
    except NameError:
        return {}


def type_name(output_type: Any) -> str:
    """A type as a reader knows it: ``Person``, ``list[int]``, ``int | None``."""
    if isinstance(output_type, type) and not typing.get_args(output_type):
        return "None" if output_type is type(None) else output_type.__name__
    return _QUALIFIER.sub("", repr(output_type))
