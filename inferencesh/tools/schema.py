"""JSON Schemas of tools' parameters: the helpers that make them, and the form in which they are sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inferencesh._types.schemas import Schema
from inferencesh.errors import ConfigurationError

__all__ = ["array", "boolean", "enum_of", "input_schema", "integer", "number", "obj", "optional", "string"]

_OPTIONAL = "optional"  # the marker that optional() sets; it is taken out again before a schema is sent


def _schema(kind: str, description: str, **rest: object) -> Schema:
    schema: Schema = {"type": kind}
    if description:
        schema["description"] = description
    return {**schema, **rest}


def string(description: str = "") -> Schema:
    """A JSON Schema for text.

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
    """A JSON Schema for any number.

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
    """A JSON Schema for a whole number.

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
    """A JSON Schema for true or false.

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
    """A JSON Schema for one of some texts.

    Args:
        values: The texts that are allowed.
        description: What they stand for.

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
    """A JSON Schema for a list.

    Args:
        items: The schema of its items.
        description: What the list is.

    Raises:
        ConfigurationError: The schema is no mapping.

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
    """A JSON Schema for an object; properties are required unless made with ``optional``.

    Args:
        properties: The schemas by name.
        description: What the object is.

    Raises:
        ConfigurationError: A schema is no mapping.

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
    """The same schema for something that may be left out.

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
    """The schema of all parameters of a tool; ``required`` is always there, as in the official builders' forms.

    Args:
        parameters: The schemas by name.

    Raises:
        ConfigurationError: A schema is no mapping.
    """
    return {"type": "object", "properties": _clean_all(parameters), "required": _required(parameters)}


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
