"""Whether a JSON value has the form of a JSON Schema, so that those who read it later need not ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .problems import invalid

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("check_schema",)

_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
_MAX_DEPTH = 64
# Keywords by what they hold.
_SCHEMA = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_TEXT = ("$ref", "title", "description", "format", "pattern")
_NUMBER = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_COUNT = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")


def check_schema(schema: object, path: str, depth: int = 0) -> None:
    """Check a schema and all schemas in it.

    Args:
        schema: What should be one: an object, or a boolean that allows everything or nothing.
        path: Where it stands in the request.
        depth: How many schemas it stands in.

    Raises:
        ProblemError: 422 that names the keyword which is not as it should be.
    """
    if isinstance(schema, bool) and depth:
        return
    if not isinstance(schema, dict):
        raise invalid(path, "must be an object with a JSON Schema.")
    if depth > _MAX_DEPTH:
        raise invalid(path, f"is nested more than {_MAX_DEPTH} schemas deep.")
    _check_values(schema, path)
    for place, inner in _inner(schema, path):
        check_schema(inner, place, depth + 1)


def _check_values(schema: dict[str, object], path: str) -> None:
    """Check the keywords that hold no schemas."""
    kinds = schema.get("type", [])
    listed = kinds if isinstance(kinds, list) else [kinds]
    if not all(isinstance(kind, str) and kind in _TYPES for kind in listed) or ("type" in schema and not listed):
        raise invalid(f"{path}.type", f"must be one or a list of {', '.join(_TYPES)}.")
    names = schema.get("required", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise invalid(f"{path}.required", "must be a list of names.")
    if "enum" in schema and not (isinstance(schema["enum"], list) and schema["enum"]):
        raise invalid(f"{path}.enum", "must be a list of one value or more.")
    for key in _TEXT:
        if not isinstance(schema.get(key, ""), str):
            raise invalid(f"{path}.{key}", "must be a string.")
    for key in (*_NUMBER, *_COUNT):
        value = schema.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise invalid(f"{path}.{key}", "must be a number.")
        if (key in _COUNT and (value < 0 or value != int(value))) or (
            key == "multipleOf" and key in schema and value <= 0
        ):
            raise invalid(
                f"{path}.{key}", "must be a whole number, 0 or more." if key in _COUNT else "must be above 0."
            )


def _inner(schema: dict[str, object], path: str) -> Iterable[tuple[str, object]]:
    """Yield the schemas that stand directly in one, with their places."""
    for key in _SCHEMA:
        if key in schema:
            yield f"{path}.{key}", schema[key]
    for key in _SCHEMAS:
        listed = schema.get(key, [])
        if not isinstance(listed, list) or (key in schema and not listed):
            raise invalid(f"{path}.{key}", "must be a list of one schema or more.")
        yield from ((f"{path}.{key}[{at}]", each) for at, each in enumerate(listed))
    for key in _NAMED_SCHEMAS:
        named = schema.get(key, {})
        if not isinstance(named, dict):
            raise invalid(f"{path}.{key}", "must be an object of schemas by name.")
        yield from ((f"{path}.{key}.{name}", each) for name, each in named.items())
