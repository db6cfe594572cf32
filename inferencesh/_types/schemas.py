"""Build JSON Schemas of type hints with msgspec, self-contained and with descriptions.

msgspec supports attrs classes, dataclasses, TypedDicts, enums, unions and constraints. This module inlines nested
definitions (not every provider of language models follows references), takes descriptions from docstrings and strings
in ``Annotated``, and leaves out fields that a class's ``__init__`` does not take.
"""

from __future__ import annotations

import dataclasses
import datetime
import inspect
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, NotRequired, Required

import attrs

from .docstrings import annotated_text, docs_of, field_docs
from .hints import hints_of

__all__ = ["VALUE", "Schema", "TypeSchemas", "finish_schema"]

Schema = dict[str, Any]

VALUE = "value"  # the property that wraps an output that is not an object


def finish_schema(schema: Schema, definitions: Mapping[str, Schema]) -> tuple[Schema, bool]:
    """Return the schema of the finish tool's arguments, which must be an object.

    Args:
        schema: The schema of the output.
        definitions: The schemas that it refers to.

    Returns:
        The schema, and whether the output is wrapped in the property ``value`` because it is not an object.
    """
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    root = {**definitions[name], **{key: value for key, value in schema.items() if key != "$ref"}} if name else schema
    wrapped = root.get("type") != "object"
    if wrapped:
        root = {"type": "object", "properties": {VALUE: schema}, "required": [VALUE]}
    return ({**root, "$defs": dict(definitions)} if definitions else root), wrapped


_REF = "#/$defs/{name}"
_FORMATS: Mapping[Any, str] = {datetime.datetime: "date-time", datetime.time: "time"}


class TypeSchemas:
    """The schemas of some type hints.

    Args:
        hints: The hints, resolved.

    Attributes:
        schemas: Their schemas, in the same order; recursive classes are references to ``definitions``.
        definitions: The schemas of those classes, by name.

    Raises:
        Exception: Raised by msgspec for a type without JSON Schema; mostly a TypeError.
    """

    def __init__(self, hints: Sequence[Any]) -> None:
        import msgspec

        for hint in hints:
            msgspec.json.Decoder(hint)  # raises for unions whose members cannot be distinguished
        classes = list(dict.fromkeys(_classes_in(msgspec.inspect.multi_type_info(hints))))
        found, components = msgspec.json.schema_components(
            [*hints, *classes], schema_hook=_schema_of_other, ref_template=_REF
        )
        for schema, hint in zip(found, hints, strict=False):
            _tell_formats(schema, hint)
        for cls, reference in zip(classes, found[len(hints) :], strict=True):
            _describe(components[_name_in(reference)], cls)
        kept = {name for name in components if name in _reachable(name, components)}
        self.schemas = [_inlined(schema, components, kept) for schema in found[: len(hints)]]
        used = {name for schema in self.schemas for name in _reachable_from(schema, components)} & kept
        self.definitions = {name: _inlined(components[name], components, kept) for name in sorted(used)}


def _schema_of_other(cls: type) -> Schema:
    if cls is object:
        return {"title": "anything"}  # msgspec treats an empty schema as none; titles are removed later
    raise TypeError(f"{cls.__name__} has no JSON form")


def _classes_in(node: object, seen: set[int] | None = None) -> Iterator[type]:
    """Yield the classes with fields in msgspec's type descriptions; a class may be repeated."""
    import msgspec

    seen = set() if seen is None else seen
    if isinstance(node, tuple | list):
        for each in node:
            yield from _classes_in(each, seen)
    elif isinstance(node, msgspec.inspect.Type | msgspec.inspect.Field) and id(node) not in seen:
        seen.add(id(node))
        if isinstance(
            node, msgspec.inspect.DataclassType | msgspec.inspect.TypedDictType | msgspec.inspect.NamedTupleType
        ):
            yield node.cls
        for name in node.__struct_fields__:
            yield from _classes_in(getattr(node, name), seen)


def _describe(component: Schema, kind: Any) -> None:
    """Add descriptions of the fields to a class's schema, and remove fields that ``__init__`` does not take."""
    cls = typing.get_origin(kind) or kind
    general, named = docs_of(component.pop("description", None))[0], field_docs(cls)
    if general:
        component["description"] = general
    fields = component.get("properties") or dict(
        zip(getattr(cls, "_fields", ()), component.get("prefixItems", ()), strict=False)
    )
    for name, hint in hints_of(kind).items():
        if name not in fields:
            continue
        _tell_formats(fields[name], hint)
        if text := annotated_text(hint) or named.get(name):
            fields[name]["description"] = text
    unsettable = _fields_without_argument(cls)
    for name in unsettable:
        fields.pop(name, None)
    if unsettable:
        component["required"] = [name for name in component["required"] if name not in unsettable]


def _tell_formats(schema: Schema, hint: Any) -> None:
    """Add the formats of dates and times without a time zone constraint, which msgspec leaves out."""
    if typing.get_origin(hint) in {Annotated, Required, NotRequired, Final}:
        if not any(getattr(note, "tz", None) is False for note in getattr(hint, "__metadata__", ())):
            _tell_formats(schema, typing.get_args(hint)[0])
        return
    hint = getattr(hint, "__supertype__", hint)  # of a NewType
    kind, inside = schema.get("type"), typing.get_args(hint)
    for choice in schema.get("anyOf", ()):  # a union has at most one member of each type below
        for member in inside:
            _tell_formats(choice, member)
    if kind == "string" and hint in _FORMATS:
        schema.setdefault("format", _FORMATS[hint])
    elif kind == "array" and "prefixItems" in schema:
        for item, place in zip(schema["prefixItems"], inside, strict=False):
            _tell_formats(item, place)
    elif kind == "array" and "items" in schema and inside:
        _tell_formats(schema["items"], inside[0])
    elif kind == "object" and "additionalProperties" in schema and len(inside) == 2:
        _tell_formats(schema["additionalProperties"], inside[1])


def _inlined(schema: Mapping[str, Any], components: Mapping[str, Schema], kept: set[str]) -> Schema:
    """Return a schema with references inlined, without titles and null defaults, and with the type of each enum."""

    def inner(value: Any) -> Any:
        return _inlined(value, components, kept) if isinstance(value, Mapping) else value

    if "$ref" in schema and (name := _name_in(schema)) not in kept:
        schema = {**components[name], **{key: value for key, value in schema.items() if key != "$ref"}}
        return _inlined(schema, components, kept)
    result: Schema = {}
    for key, value in schema.items():
        if key == "title" or (key == "default" and value is None):
            continue
        if key == "description":
            result[key] = inspect.cleandoc(value)
        elif key == "properties":
            result[key] = {name: inner(each) for name, each in value.items()}
        elif key in {"items", "additionalProperties"}:
            result[key] = inner(value)
        elif key in {"anyOf", "prefixItems"}:
            result[key] = [inner(each) for each in value]
        else:
            result[key] = value
    kinds = {type(choice) for choice in result.get("enum", ())}
    if "type" not in result and (kinds == {str} or kinds == {int}):
        result = {"type": "string" if kinds == {str} else "integer", **result}
    return result


def _name_in(schema: Mapping[str, Any]) -> str:
    return str(schema["$ref"]).removeprefix(_REF.format(name=""))


def _references(node: object) -> Iterator[str]:
    if isinstance(node, Mapping):
        if isinstance(node.get("$ref"), str):
            yield _name_in(node)
        for each in node.values():
            yield from _references(each)
    elif isinstance(node, list):
        for each in node:
            yield from _references(each)


def _reachable(name: str, components: Mapping[str, Schema]) -> set[str]:
    return _reachable_from(components[name], components)


def _reachable_from(schema: Schema, components: Mapping[str, Schema]) -> set[str]:
    """Return the names of all components that a schema refers to, directly or indirectly."""
    found: set[str] = set()
    waiting = list(_references(schema))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _references(components[name])
    return found


def _fields_without_argument(cls: type) -> list[str]:
    """Return the names of the fields that ``__init__`` does not take."""
    if attrs.has(cls):
        return [field.name for field in attrs.fields(cls) if not field.init]
    return [field.name for field in dataclasses.fields(cls) if not field.init] if dataclasses.is_dataclass(cls) else []
