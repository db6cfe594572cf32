"""The outputs of the demo model: values that conform to a JSON Schema, made from the numbers and words of a text."""

from __future__ import annotations

import math
from typing import Any, TypeAlias
from urllib.parse import unquote

import attrs

from inferencesh._text import encode_json

from .tools import Filler

__all__ = ["SchemaError", "make_output"]

Schema: TypeAlias = dict[str, Any]  # received from a client and known to be well formed

_MAX_DEPTH = 24  # of objects, lists and choices; ends recursive types
_OPTIONAL_DEPTH = 4  # below this depth, optional values are left out
_MAX_VALUES = 5_000
_MAX_PADDING = 10_000
_LARGEST = 2**53  # JSON readers represent integers up to this value exactly
# Keywords that are not supported.
_UNSUPPORTED = ("not", "if", "contains", "pattern", "propertyNames", "dependentRequired", "dependentSchemas")
_FORMATS = {
    "date": "2024-01-31",
    "date-time": "2024-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "ada@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_MAX_REFERENCES = 32
_REFERENCE_PREFIXES = ("#/$defs/", "#/definitions/", "#/properties/")


def make_output(text: str, schema: Schema) -> object:
    """Return a value that conforms to a schema, made from a text as far as possible.

    Args:
        text: The source of numbers, quotations and words; each number and quotation is used once.
        schema: A well-formed JSON Schema.

    Raises:
        SchemaError: The schema allows no value, or has unsupported keywords.
    """
    return _Maker(Filler(text), schema).make("output", schema, 0).value


class SchemaError(Exception):
    """No value can be made for a place of the output; the text says which and why."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"{place}: {why}")


@attrs.frozen
class _Made:
    """A value, and whether any of it was found in the text."""

    value: object
    from_text: bool = False


@attrs.define
class _Maker:
    """Makes one output. Places in it are written like ``output.tags[0]``."""

    _filler: Filler
    _root: Schema
    _count: int = 0

    def make(self, place: str, schema: object, depth: int) -> _Made:
        """Make the value at a place of the output."""
        self._count += 1
        if self._count > _MAX_VALUES or depth > _MAX_DEPTH:
            raise SchemaError(place, "the schema asks for too much, or contains itself without an end")
        if not isinstance(schema, dict):
            if schema is not True:
                raise SchemaError(place, "the schema allows nothing there")
            schema = {}
        schema = _resolved(place, schema, self._root)
        if "const" in schema:
            return _Made(schema["const"])
        if "enum" in schema:
            return self._choose(schema["enum"], schema)
        options = _options(schema)
        if options:
            return self._make_one(place, options, depth)
        unsupported = next((key for key in _UNSUPPORTED if key in schema), None)
        if unsupported:
            raise SchemaError(place, f"the demo model does not know the keyword {unsupported}")
        return self._make_kind(place, schema, depth)

    def _make_kind(self, place: str, schema: Schema, depth: int) -> _Made:
        match _type_of(schema):
            case "null":
                return _Made(None)
            case "boolean":
                mentioned = self._filler.mentions(_name_of(place))
                return _Made(mentioned or schema.get("default") is True, mentioned)
            case "integer" | "number" as kind:
                return self._make_number(place, schema, whole=kind == "integer")
            case "array":
                return self._make_list(place, schema, depth)
            case "object":
                return self._make_object(place, schema, depth)
            case _:
                return self._make_text(place, schema)

    def _make_one(self, place: str, options: list[object], depth: int) -> _Made:
        """Make the first option found in the text, else null if allowed, else the first that can be made."""
        plain: _Made | None = None
        failure = SchemaError(place, "the schema allows nothing there")
        for option in options:
            made = self._try(place, option, depth)
            if isinstance(made, SchemaError):
                failure = made
            elif made.from_text:
                return made
            elif plain is None or made.value is None:
                plain = made
        if plain is None:
            raise failure
        return plain

    def _try(self, place: str, schema: object, depth: int) -> _Made | SchemaError:
        """Make a value, or return the error and restore what was taken from the text."""
        before = self._filler.state
        try:
            return self.make(place, schema, depth + 1)
        except SchemaError as error:
            self._filler.state = before
            return error

    def _choose(self, choices: list[object], schema: Schema) -> _Made:
        found = self._filler.find_choice(choices)
        if found is not None:
            return _Made(found, from_text=True)
        default = schema.get("default")
        return _Made(default if default in choices else choices[0])

    def _make_number(self, place: str, schema: Schema, *, whole: bool) -> _Made:
        low, high = _limits(schema, whole=whole)
        found = self._filler.find_number(whole=whole)
        start = schema.get("default", 1) if found is None else found
        value = min(max(start if isinstance(start, int | float) else 1, low), high)
        step = schema.get("multipleOf")
        if step is not None and value % step:
            value = math.ceil(value / step) * step
            value = value if value <= high else value - step
        if whole and value == int(value):
            value = int(value)
        if not low <= value <= high or (whole and not (isinstance(value, int) and abs(value) <= _LARGEST)):
            raise SchemaError(place, "no number is within the limits of the schema")
        return _Made(value, found is not None)

    def _make_text(self, place: str, schema: Schema) -> _Made:
        least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
        if least > min(most, _MAX_PADDING):
            raise SchemaError(place, f"the demo model makes no text of {least} characters or more there")
        sample = _FORMATS.get(schema.get("format", ""))
        if sample is not None and least <= len(sample) <= most:
            return _Made(sample)
        found = self._filler.find_text(_name_of(place))
        text = found or str(schema.get("default", ""))
        text = text[: int(most)] if len(text) > most else text.ljust(int(least), ".")
        return _Made(text, found is not None)

    def _make_list(self, place: str, schema: Schema, depth: int) -> _Made:
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        first, items = schema.get("prefixItems", []), schema.get("items", True)
        made: list[_Made] = []
        for each in first:
            if len(made) < most:
                made.append(self.make(f"{place}[{len(made)}]", each, depth + 1))
        words = self._filler.find_list() if _lists_words(items) else []
        if words and least <= len(words) <= most:
            made += [_Made(word, from_text=True) for word in words]
        elif "items" in schema and items is not False and depth < _OPTIONAL_DEPTH:
            made += self._make_items(place, items, depth, int(min(most - len(made), _MAX_VALUES)))
        while len(made) < least:
            made.append(self.make(f"{place}[{len(made)}]", items, depth + 1))
        if schema.get("uniqueItems") is True:
            made = list({encode_json(each.value): each for each in made}.values())
        if not least <= len(made) <= most:
            raise SchemaError(place, "the demo model finds no list of that length")
        return _Made([each.value for each in made], any(each.from_text for each in made))

    def _make_items(self, place: str, items: object, depth: int, most: int) -> list[_Made]:
        """Make items as long as the text has values for another one."""
        made: list[_Made] = []
        while len(made) < most:
            before = self._filler.state
            each = self._try(f"{place}[{len(made)}]", items, depth)
            if isinstance(each, SchemaError) or not each.from_text or (made and self._filler.state == before):
                break
            made.append(each)
        return made

    def _make_object(self, place: str, schema: Schema, depth: int) -> _Made:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        others = schema.get("additionalProperties", True)
        made: dict[str, _Made] = {}
        for name, each in properties.items():
            if name in required:
                made[name] = self.make(f"{place}.{name}", each, depth + 1)
            elif depth < _OPTIONAL_DEPTH:
                optional = self._try(f"{place}.{name}", each, depth)
                if isinstance(optional, _Made) and optional.from_text:
                    made[name] = optional
        for name in required:
            if name not in made:
                made[name] = self.make(f"{place}.{name}", others, depth + 1)
        while len(made) < schema.get("minProperties", 0):
            name = f"key{len(made) + 1}"
            made[name] = self.make(f"{place}.{name}", others, depth + 1)
        if len(made) > schema.get("maxProperties", math.inf):
            raise SchemaError(place, "the schema requires more properties than it allows")
        return _Made({name: each.value for name, each in made.items()}, any(each.from_text for each in made.values()))


def _options(schema: Schema) -> list[object]:
    """Return the alternatives of a schema, each merged with its other keywords; none if there is no choice."""
    for key in ("anyOf", "oneOf"):
        if key in schema:
            rest = {name: value for name, value in schema.items() if name != key}
            return [_merged(rest, option) if isinstance(option, dict) else option for option in schema[key]]
    kinds = schema.get("type")
    if isinstance(kinds, list) and len(kinds) > 1:
        return [{**schema, "type": kind} for kind in kinds]
    return []


def _lists_words(items: object) -> bool:
    """Whether the items of a list are unrestricted strings, which people separate by commas."""
    return isinstance(items, dict) and items.keys() <= {"type", "title", "description"} and _type_of(items) == "string"


def _name_of(place: str) -> str:
    """Return the name of the innermost property of a place."""
    return place.rpartition(".")[2].partition("[")[0]


def _resolved(place: str, schema: Schema, root: Schema) -> Schema:
    """Return a schema with ``$ref`` and ``allOf`` resolved.

    Args:
        place: The place in the output that the schema describes.
        schema: The schema.
        root: The document that references point into.

    Raises:
        SchemaError: A reference is broken, external, or circular.
    """
    for _ in range(_MAX_REFERENCES):
        if "$ref" in schema:
            own = {key: value for key, value in schema.items() if key != "$ref"}
            schema = _merged(_target(place, schema["$ref"], root), own)
        elif "allOf" in schema:
            parts = schema["allOf"]
            schema = {key: value for key, value in schema.items() if key != "allOf"}
            for part in parts:
                if not isinstance(part, dict):
                    raise SchemaError(place, "nothing is allowed there")
                schema = _merged(schema, part)
        else:
            return schema
    raise SchemaError(place, "its references lead in a circle")


def _target(place: str, reference: str, root: Schema) -> Schema:
    """Return the schema that a reference points to."""
    target: object = root
    if reference != "#":
        if not reference.startswith(_REFERENCE_PREFIXES):
            raise SchemaError(place, f"the demo model does not follow the reference {reference}")
        for key in unquote(reference[2:]).split("/"):
            name = key.replace("~1", "/").replace("~0", "~")
            target = target.get(name) if isinstance(target, dict) else None
    if not isinstance(target, dict):
        raise SchemaError(place, f"the reference {reference} leads to no schema")
    return target


def _merged(first: Schema, second: Schema) -> Schema:
    """Return the combination of two schemas for one place; the second takes precedence."""
    both = {**first, **second}
    for key in ("properties", "$defs"):
        if key in first and key in second:
            both[key] = {**first[key], **second[key]}
    for key in ("required", "allOf"):
        if key in first and key in second:
            both[key] = [*first[key], *second[key]]
    return both


def _type_of(schema: Schema) -> str:
    """Return the first type of a schema, inferred from its keywords if necessary; ``string`` by default."""
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


def _limits(schema: Schema, *, whole: bool) -> tuple[float, float]:
    """Return the minimum and the maximum of a schema, both inclusive."""
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
