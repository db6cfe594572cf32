"""The schema of an agent's output, in the form its finish tool takes: an object that refers to nothing outside."""

from __future__ import annotations

from collections.abc import Mapping

from .schemas import Schema

__all__ = ["VALUE", "finish_schema"]

VALUE = "value"  # the name of the one property that holds an output which is no object


def finish_schema(schema: Schema, definitions: Mapping[str, Schema]) -> tuple[Schema, bool]:
    """The schema of the finish tool's arguments, which have to be an object.

    Args:
        schema: The schema of the output.
        definitions: What it refers to.

    Returns:
        The schema, and whether the output stands in the property ``value`` of an object, being none itself.
    """
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    root = {**definitions[name], **{key: value for key, value in schema.items() if key != "$ref"}} if name else schema
    wrapped = root.get("type") != "object"
    if wrapped:
        root = {"type": "object", "properties": {VALUE: schema}, "required": [VALUE]}
    return ({**root, "$defs": dict(definitions)} if definitions else root), wrapped
