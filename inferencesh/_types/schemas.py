"""JSON Schemas: their definitions, those that pydantic makes, and whether two of them can be told apart.

Schemas are self-contained: what a type refers to is inlined, since not every provider of language models follows
references, and only recursive types are under ``$defs``.
"""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from .docstrings import docs_of
from .reading import same_json, short

__all__ = [
    "VALUE",
    "Definitions",
    "Schema",
    "choices_of",
    "finish_schema",
    "inlined",
    "overlap",
    "tag_of",
    "with_required",
]

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


class Definitions:
    """The schemas of recursive types, which other schemas refer to.

    Attributes:
        schemas: The schemas by name.
    """

    def __init__(self) -> None:
        self.schemas: dict[str, Schema] = {}
        self._names: dict[object, str] = {}

    def reference(self, key: object, name: str, make: Callable[[], Schema]) -> Schema:
        """Return a reference to a schema, which is made when it is first referred to.

        Args:
            key: Tells the schema from others of the same name.
            name: The name, to which a number is added if it is taken.
            make: Makes the schema; it may refer to itself.
        """
        if key not in self._names:
            plain = re.sub(r"\W+", "_", name).strip("_") or "type"
            numbered = (f"{plain}_{number}" for number in itertools.count(2))
            free = next(each for each in itertools.chain([plain], numbered) if each not in self.schemas)
            self._names[key] = free
            self.schemas[free] = {}
            self.schemas[free] = make()
        return {"$ref": f"#/$defs/{self._names[key]}"}

    def resolved(self, schema: Schema) -> Schema:
        """Return a schema with a reference at its top replaced by what it refers to."""
        seen = 0
        while "$ref" in schema and seen < 10:  # of an alias of an alias
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            schema, seen = {**self.schemas[schema["$ref"].rpartition("/")[2]], **rest}, seen + 1
        return schema


_LISTED = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_SINGLE = frozenset({"items", "additionalProperties", "contains", "propertyNames", "not"})
_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas"})
_LEFT_OUT = frozenset({"title", "$defs", "discriminator", "$ref"})


def inlined(schema: Schema, definitions: Definitions, key: object) -> Schema:
    """Return a schema made by pydantic in the form of ours: inlined, without titles and defaults of null.

    Args:
        schema: The schema with its ``$defs``.
        definitions: Where those of its definitions go that are recursive.
        key: Tells its definitions from those of other types.
    """
    made: Schema = _Inliner(schema.get("$defs", {}), definitions, key).inlined(schema)
    if made.get("type") == "object" and "properties" in made:
        made.setdefault("required", [])
    return made


@attrs.frozen
class _Inliner:
    """Inlines the definitions of one schema.

    Attributes:
        theirs: The definitions.
        definitions: Where those go that are recursive.
        key: Tells them from those of other types.
    """

    theirs: Mapping[str, Schema]
    definitions: Definitions
    key: object

    def inlined(self, schema: Any) -> Any:
        """Return a schema, or a bool that stands for one, inlined."""
        if not isinstance(schema, dict):
            return schema
        result = {
            word: self._inner(word, each)
            for word, each in schema.items()
            if word not in _LEFT_OUT and not (word == "default" and each is None)
        }
        if len(result.get("allOf", ())) == 1:  # as pydantic before 2.9 writes a reference with a description
            result = {**result.pop("allOf")[0], **result}
        if "const" in result:  # before 2.10 there is the same as an enum
            result.pop("enum", None)
        tag = schema["discriminator"].get("propertyName") if isinstance(schema.get("discriminator"), dict) else None
        if tag is not None and "oneOf" in result:
            result["oneOf"] = [with_required(each, tag) for each in result["oneOf"]]
        if isinstance(result.get("properties"), dict) and "description" in result:
            result = _documented(result)
        return {**self._referred(schema["$ref"].rpartition("/")[2]), **result} if "$ref" in schema else result

    def _inner(self, word: str, value: Any) -> Any:
        if word in _LISTED:
            return [self.inlined(each) for each in value]
        if word in _NAMED:
            return {name: self.inlined(each) for name, each in value.items()}
        if word == "description":
            return inspect.cleandoc(value)
        return self.inlined(value) if word in _SINGLE else value

    def _referred(self, name: str) -> Schema:
        if self._refers_to_itself(name):
            return self.definitions.reference((self.key, name), name, lambda: self.inlined(self.theirs[name]))
        referred: Schema = self.inlined(self.theirs[name])
        return referred

    def _refers_to_itself(self, name: str) -> bool:
        seen: set[str] = set()
        waiting = [*_references(self.theirs[name])]
        while waiting:
            found = waiting.pop()
            if found not in seen:
                seen.add(found)
                waiting += _references(self.theirs[found])
        return name in seen


def _documented(schema: Schema) -> Schema:
    """Return the schema of a model with what the docstring of its class says of the fields where these have no text."""
    text, fields = docs_of(schema["description"])
    found = {key: {"description": each} for key, each in fields.items()}
    properties = {
        key: {**found.get(key, {}), **each} if isinstance(each, dict) else each
        for key, each in schema["properties"].items()
    }
    description = {"description": text} if text else {}
    return {
        **{key: each for key, each in schema.items() if key != "description"},
        "properties": properties,
        **description,
    }


def with_required(schema: Schema, key: str) -> Schema:
    """Return the schema of an object that also requires a certain property."""
    required = schema.get("required", ())
    return schema if key in required else {**schema, "required": [*required, key]}


def _references(node: object) -> Iterator[str]:
    if isinstance(node, Mapping):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rpartition("/")[2]
        for each in node.values():
            yield from _references(each)
    elif isinstance(node, list):
        for each in node:
            yield from _references(each)


# -- whether two schemas can be told apart ---------------------------------------------------------------------------

_KINDS = ("null", "boolean", "integer", "number", "string", "array", "object")
# Texts that are read as something else than a str, and that look like any other text.
_LIKE_TEXT = {
    "base64": "bytes in base64 look like any other text",
    "path": "a path looks like any other text",
    "password": "a secret looks like any other text",
}


def choices_of(schema: Schema) -> list[Any] | None:
    """Return the values of a schema that lists them; None for any other schema."""
    if "const" in schema:
        return [schema["const"]]
    return list(schema["enum"]) if "enum" in schema else None


def _kinds(schema: Schema) -> set[str]:
    choices = choices_of(schema)
    if choices is not None:
        return {_kind_of(each) for each in choices}
    stated = schema.get("type", _KINDS)
    found = {stated} if isinstance(stated, str) else set(stated)
    if schema.get("format") == "decimal":
        found |= {"number", "integer"}
    return found | {"integer"} if "number" in found else found


def _kind_of(value: object) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "null")


def _branches(schema: Schema, definitions: Definitions) -> list[Schema]:
    schema = definitions.resolved(schema)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return [branch for each in schema[word] for branch in _branches(each, definitions)]
    return [schema]


def _apart(one: Schema, other: Schema, definitions: Definitions) -> bool:
    """Whether no value fits both schemas, as far as their types, choices and forms say."""
    return all(_are_apart(a, b) for a in _branches(one, definitions) for b in _branches(other, definitions))


def _are_apart(a: Schema, b: Schema) -> bool:
    of_a, of_b = choices_of(a), choices_of(b)
    if of_a is not None and of_b is not None:
        return not any(same_json(x, y) for x in of_a for y in of_b)
    forms = {a.get("format"), b.get("format")} - {None, "decimal", "path", "password", "email"}
    return not _kinds(a) & _kinds(b) or len(forms) == 2


def overlap(one: Schema, other: Schema, definitions: Definitions) -> str:
    """Return why a value that fits two schemas could be meant as either; "" if it is clear which of them is meant.

    Where a value fits both, the more special one is meant: a choice before a date, a date before any other text.
    """
    for a in _branches(one, definitions):
        for b in _branches(other, definitions):
            reason = "" if _are_apart(a, b) else _overlap(a, b, definitions)
            if reason:
                return reason
    return ""


def _overlap(a: Schema, b: Schema, definitions: Definitions) -> str:
    of_a, of_b = choices_of(a), choices_of(b)
    if of_a is not None and of_b is not None:
        both = next(x for x in of_a for y in of_b if same_json(x, y))
        return f"{short(both)} may be meant as either"
    if of_a is not None or of_b is not None or "type" not in a or "type" not in b:
        return ""
    shared = _kinds(a) & _kinds(b)
    if "object" in shared:
        return _overlap_of_objects(a, b, definitions)
    if "array" in shared:
        return _overlap_of_arrays(a, b, definitions)
    if "decimal" in {a.get("format"), b.get("format")}:
        return "a decimal is written as a text or as a number"
    forms = {each.get("contentEncoding") or each.get("format") for each in (a, b)}
    like = next((text for form, text in _LIKE_TEXT.items() if form in forms), "")
    return like if "string" in shared else ""


def _overlap_of_arrays(a: Schema, b: Schema, definitions: Definitions) -> str:
    if a.get("maxItems", float("inf")) < b.get("minItems", 0) or b.get("maxItems", float("inf")) < a.get("minItems", 0):
        return ""
    places = itertools.zip_longest(a.get("prefixItems", ()), b.get("prefixItems", ()))
    pairs = [(x or a.get("items") or {}, y or b.get("items") or {}) for x, y in places]
    pairs = pairs or [(a.get("items", {}), b.get("items", {}))]
    if any(_apart(x, y, definitions) for x, y in pairs):
        return ""
    if ("prefixItems" in a, a.get("uniqueItems")) != ("prefixItems" in b, b.get("uniqueItems")) or a == b:
        return "the same list may be meant as either"
    return next(filter(None, (overlap(x, y, definitions) for x, y in pairs)), "")


def _overlap_of_objects(a: Schema, b: Schema, definitions: Definitions) -> str:
    if ("properties" in a) != ("properties" in b):
        return "an object with those fields may be meant as either"
    if "properties" not in a:
        one, other = a.get("additionalProperties"), b.get("additionalProperties")
        if not isinstance(one, dict) or not isinstance(other, dict):
            return "any object may be meant as either"
        return overlap(one, other, definitions)
    required = {*a.get("required", ())}, {*b.get("required", ())}
    if required[0] - {*b["properties"]} or required[1] - {*a["properties"]}:
        return ""
    shared = required[0] & required[1]
    if any(_apart(a["properties"].get(key, {}), b["properties"].get(key, {}), definitions) for key in shared):
        return ""
    return (
        "neither requires a field that the other one lacks; give each class a field such as kind: Literal['...'] with "
        "a value of its own"
    )


def tag_of(schemas: list[Schema]) -> str | None:
    """Return the property that tells some objects apart, because each lists values of its own for it; None without."""
    if len(schemas) < 2 or not all("properties" in each for each in schemas):
        return None
    for key in schemas[0]["properties"]:
        listed = [choices_of(each["properties"].get(key, {})) for each in schemas]
        if None in listed:
            continue
        pairs = itertools.combinations([each for each in listed if each is not None], 2)
        if not any(same_json(x, y) for one, other in pairs for x in one for y in other):
            return str(key)
    return None
