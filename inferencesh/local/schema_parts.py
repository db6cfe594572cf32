"""Reading one JSON Schema: its references followed, its parts put together, its limits as numbers."""

from __future__ import annotations

import math
from typing import Any, TypeAlias
from urllib.parse import unquote

__all__ = ("Schema", "SchemaError", "limits", "merged", "resolved", "type_of")

Schema: TypeAlias = dict[str, Any]  # it came over the wire, and was found to have a schema's form there

_MAX_STEPS = 32
_FOLLOWED = ("#/$defs/", "#/definitions/", "#/properties/")


class SchemaError(Exception):
    """Nothing can be made for a place of the output; the text says which and why."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"{place}: {why}")


def resolved(place: str, schema: Schema, root: Schema) -> Schema:
    """Return a schema in which `$ref` and `allOf` are replaced by what they stand for.

    Args:
        place: Where in the output it applies.
        schema: The schema.
        root: The schema that its references point into.

    Raises:
        SchemaError: A reference leads nowhere, outside, or in a circle.
    """
    for _ in range(_MAX_STEPS):
        if "$ref" in schema:
            own = {key: value for key, value in schema.items() if key != "$ref"}
            schema = merged(_target(place, schema["$ref"], root), own)
        elif "allOf" in schema:
            parts = schema["allOf"]
            schema = {key: value for key, value in schema.items() if key != "allOf"}
            for part in parts:
                if not isinstance(part, dict):
                    raise SchemaError(place, "nothing is allowed there")
                schema = merged(schema, part)
        else:
            return schema
    raise SchemaError(place, "its references lead in a circle")


def merged(first: Schema, second: Schema) -> Schema:
    """Return what two schemas for one place say together; where they differ, the second counts."""
    both = {**first, **second}
    for key in ("properties", "$defs"):
        if key in first and key in second:
            both[key] = {**first[key], **second[key]}
    for key in ("required", "allOf"):
        if key in first and key in second:
            both[key] = [*first[key], *second[key]]
    return both


def type_of(schema: Schema) -> str:
    """Return the type a schema has or, going by its keywords, must mean; text where nothing tells."""
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    if isinstance(kind, str):
        return kind
    if "properties" in schema or "additionalProperties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    return "number" if "minimum" in schema or "maximum" in schema else "string"


def limits(schema: Schema, *, whole: bool) -> tuple[float, float]:
    """Return the least and the largest number that a schema allows."""
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if above is not None:
        low = max(low, math.floor(above) + 1 if whole else math.nextafter(above, math.inf))
    if below is not None:
        high = min(high, math.ceil(below) - 1 if whole else math.nextafter(below, -math.inf))
    if whole:
        low = math.ceil(low) if math.isfinite(low) else low
        high = math.floor(high) if math.isfinite(high) else high
    return low, high


def _target(place: str, reference: str, root: Schema) -> Schema:
    """Return the schema that a reference within the document points to."""
    target: object = root
    if reference != "#":
        if not reference.startswith(_FOLLOWED):
            raise SchemaError(place, f"the demo model does not follow the reference {reference}")
        for key in unquote(reference[2:]).split("/"):
            name = key.replace("~1", "/").replace("~0", "~")
            target = target.get(name) if isinstance(target, dict) else None
    if not isinstance(target, dict):
        raise SchemaError(place, f"the reference {reference} leads to no schema")
    return target
