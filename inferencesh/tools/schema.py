"""Helpers that make JSON Schemas of tools' parameters: ``string``, ``number``, ``array``, ``optional`` and so on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inferencesh._types.schemas import Schema
from inferencesh.errors import ConfigurationError

__all__ = ["array", "boolean", "enum_of", "input_schema", "integer", "number", "obj", "optional", "string"]

_OPTIONAL = "optional"  # the marker that optional() sets; it is removed before a schema is sent


def _schema(kind: str, description: str, **rest: object) -> Schema:
    schema: Schema = {"type": kind}
    if description:
        schema["description"] = description
    return {**schema, **rest}


def string(description: str = "") -> Schema:
    """Return a JSON Schema for text.

    Example:
        ```python
        print(string("A city"))
        ```

        ```text
        {'type': 'string', 'description': 'A city'}
        ```
    """
    return _schema("string", description)


def number(description: str = "") -> Schema:
    """Return a JSON Schema for any number.

    Example:
        ```python
        print(number("Degrees"))
        ```

        ```text
        {'type': 'number', 'description': 'Degrees'}
        ```
    """
    return _schema("number", description)


def integer(description: str = "") -> Schema:
    """Return a JSON Schema for a whole number.

    Example:
        ```python
        print(integer("How many"))
        ```

        ```text
        {'type': 'integer', 'description': 'How many'}
        ```
    """
    return _schema("integer", description)


def boolean(description: str = "") -> Schema:
    """Return a JSON Schema for true or false.

    Example:
        ```python
        print(boolean("Whether it rains"))
        ```

        ```text
        {'type': 'boolean', 'description': 'Whether it rains'}
        ```
    """
    return _schema("boolean", description)


def enum_of(values: Sequence[str], description: str = "") -> Schema:
    """Return a JSON Schema for one of several texts.

    Args:
        values: The texts that are allowed.
        description: What they mean.

    Example:
        ```python
        print(enum_of(["celsius", "fahrenheit"]))
        ```

        ```text
        {'type': 'string', 'enum': ['celsius', 'fahrenheit']}
        ```
    """
    return _schema("string", description, enum=list(values))


def array(items: Mapping[str, Any], description: str = "") -> Schema:
    """Return a JSON Schema for a list.

    Args:
        items: The schema of its items.
        description: What the list is.

    Raises:
        ConfigurationError: The schema is not a mapping.

    Example:
        ```python
        print(array(string()))
        ```

        ```text
        {'type': 'array', 'items': {'type': 'string'}}
        ```
    """
    return _schema("array", description, items=_clean(items, "the schema of a list's items"))


def obj(properties: Mapping[str, Mapping[str, Any]], description: str = "") -> Schema:
    """Return a JSON Schema for an object; properties are required unless made with ``optional``.

    Args:
        properties: The schemas by name.
        description: What the object is.

    Raises:
        ConfigurationError: A schema is not a mapping.

    Example:
        ```python
        place = obj({"city": string(), "zip": optional(string())}, "Where")
        print(place["required"])
        ```

        ```text
        ['city']
        ```
    """
    schema = _schema("object", description, properties=_clean_all(properties))
    required = _required(properties)
    return {**schema, "required": required} if required else schema


def optional(schema: Mapping[str, Any]) -> Schema:
    """Return a copy of a schema for a parameter or property that may be left out.

    Example:
        ```python
        search = tool("search").param("query", string()).param("since", optional(string("A date"))).build()
        print(search["client"]["input_schema"]["required"])
        ```

        ```text
        ['query']
        ```
    """
    return {**schema, _OPTIONAL: True}


def input_schema(parameters: Mapping[str, Mapping[str, Any]]) -> Schema:
    """Return the schema of all parameters of a tool; ``required`` is always present, as in the official builders.

    Args:
        parameters: The schemas by name.

    Raises:
        ConfigurationError: A schema is not a mapping.
    """
    return {"type": "object", "properties": _clean_all(parameters), "required": _required(parameters)}


def _clean(schema: Mapping[str, Any], what: str) -> Schema:
    """Return a schema without the marker of ``optional``, at any depth; ``what`` names it in errors."""
    if not isinstance(schema, Mapping):
        raise ConfigurationError(f"{what} must be a mapping such as string('...'), not {type(schema).__name__}")
    clean = {key: value for key, value in schema.items() if key != _OPTIONAL}
    properties, items, own = clean.get("properties"), clean.get("items"), clean.get("required")
    if isinstance(properties, Mapping):
        clean["properties"] = _clean_all(properties)
        listed = own if isinstance(own, list | tuple) else ()
        required = list(dict.fromkeys([*listed, *_required(properties, only_if_marked=True)]))
        if required:
            clean["required"] = required
    if isinstance(items, Mapping):
        clean["items"] = _clean(items, what)
    return clean


def _clean_all(properties: Mapping[str, Mapping[str, Any]]) -> dict[str, Schema]:
    return {name: _clean(schema, f"the schema of {name!r}") for name, schema in properties.items()}


def _required(properties: Mapping[str, Mapping[str, Any]], *, only_if_marked: bool = False) -> list[str]:
    """Return the names of the properties that are not marked as optional.

    Args:
        properties: The schemas by name.
        only_if_marked: Whether to return none if no property is marked, as in a schema written by hand, which has a
            ``required`` of its own.
    """
    if only_if_marked and not any(schema.get(_OPTIONAL) for schema in properties.values()):
        return []
    return [name for name, schema in properties.items() if schema.get(_OPTIONAL) is not True]
