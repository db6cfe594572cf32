"""One description for each type: its JSON Schema and the strict reader of its values, which agree by construction.

``TypeNodes.of`` in ``factory.py`` makes a node of a type hint; each kind of type has a class of nodes here. Reading
converts nothing. Unknown keys of objects are ignored. Instances are made by the classes' own ``__init__``, so that
their converters and validators run.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from inferencesh.errors import ConfigurationError

from .constraints import Constraint, Default, Limit
from .hints import type_name
from .pydantic_types import PydanticReader
from .reading import MismatchError, Scalar, gathered, problems_of, same_json, short
from .schemas import Definitions, Schema, choices_of, overlap, tag_of, with_required

__all__ = [
    "AnyNode",
    "ChoiceNode",
    "ClassNode",
    "DescribedNode",
    "DictNode",
    "Field",
    "FieldError",
    "LimitedNode",
    "ListNode",
    "NamedNode",
    "Node",
    "PydanticNode",
    "ScalarNode",
    "TupleNode",
    "UnionNode",
    "in_field",
]


class Node(ABC):
    """A type: its JSON Schema and the reader of its values.

    Attributes:
        name: The type, as errors name it.
        trait: What its values are like, for constraints; "" if none applies.
        python: The type itself, for constraints and unions.
    """

    name: str = ""
    trait: str = ""
    python: Any = object

    @abstractmethod
    def schema(self, definitions: Definitions) -> Schema:
        """Return the JSON Schema.

        Args:
            definitions: Where the schemas of recursive types are.
        """

    @abstractmethod
    def read(self, value: object, *, growing: bool = False) -> Any:
        """Read a JSON value as this type.

        Args:
            value: The value.
            growing: Whether it is still being written, so that the last part of it may be incomplete.

        Raises:
            MismatchError: It does not fit.
        """

    def limited(self, limit: Limit) -> Node | None:
        """Return this type with a constraint; None if the constraint does not apply to it."""
        constraint = Constraint.of(limit, self.trait, self.python)
        return None if constraint is None else LimitedNode(self, constraint)


class AnyNode(Node):
    """Any JSON value."""

    name = "any JSON value"

    def schema(self, definitions: Definitions) -> Schema:  # noqa: ARG002 - as the base says
        return {}

    def read(self, value: object, *, growing: bool = False) -> Any:  # noqa: ARG002 - as the base says
        return value

    def limited(self, limit: Limit) -> Node | None:
        return super().limited(limit) if limit.kind == "predicate" else None


class ScalarNode(Node):
    """A type that is written as one string or number.

    Args:
        python: The type.
        scalar: How it is written.
    """

    def __init__(self, python: Any, scalar: Scalar) -> None:
        self.python, self.trait = python, scalar.trait
        self.name = scalar.expected or type_name(python)
        self._scalar = scalar

    def schema(self, definitions: Definitions) -> Schema:  # noqa: ARG002 - as the base says
        return dict(self._scalar.schema)

    def read(self, value: object, *, growing: bool = False) -> Any:  # noqa: ARG002 - as the base says
        try:
            return self._scalar.read(value)
        except MismatchError:
            raise
        except ValueError:
            raise MismatchError.of(self.name, value) from None


class ChoiceNode(Node):
    """The values of a ``Literal`` or the members of an enum.

    Args:
        choices: Each as it is written in JSON, with the value that is meant.
        description: The description of the enum, or "".
        other: Returns a member for another value, as an enum's ``_missing_`` does; raises ValueError for none.
    """

    def __init__(
        self, choices: Sequence[tuple[Any, Any]], description: str = "", other: Callable[[object], Any] | None = None
    ) -> None:
        for written, _ in choices:
            if not isinstance(written, str | int | float | bool | None):
                raise ConfigurationError(f"{short(written)} has no JSON form as a choice")
        self._choices = choices
        self._description = description
        self._other = other
        self.name = f"one of {short([written for written, _ in choices])[1:-1]}"

    def schema(self, definitions: Definitions) -> Schema:  # noqa: ARG002 - as the base says
        written = sorted(
            (each for each, _ in self._choices), key=lambda each: (type(each).__name__, each is None or each)
        )
        kinds = {type(each) for each in written}
        schema: Schema = {"enum": written}
        if kinds in ({str}, {int}):
            schema = {"type": "string" if kinds == {str} else "integer", **schema}
        return {**schema, "description": self._description} if self._description else schema

    def read(self, value: object, *, growing: bool = False) -> Any:  # noqa: ARG002 - as the base says
        for written, meant in self._choices:
            if same_json(written, value):
                return meant
        if self._other is not None and not isinstance(value, bool | list | dict):
            try:
                return self._other(value)
            except ValueError:
                pass
        raise MismatchError.of(self.name, value)


class ListNode(Node):
    """A list, set or tuple of any length.

    Args:
        hint: The type.
        make: Makes it from a list.
        item: The type of the items, or None for any.
    """

    def __init__(self, hint: Any, make: Callable[[list[Any]], Any], item: Node | None) -> None:
        self.name, self.python = type_name(hint), make
        self.trait = "set" if make in {set, frozenset} else "list"
        self._make, self._item = make, item

    def schema(self, definitions: Definitions) -> Schema:
        schema: Schema = {"type": "array"}
        if self._item is not None:
            schema["items"] = self._item.schema(definitions)
        return {**schema, "uniqueItems": True} if self.trait == "set" else schema

    def read(self, value: object, *, growing: bool = False) -> Any:
        if not isinstance(value, list):
            raise MismatchError.of(self.name, value)
        item = self._item
        if item is None:
            return self._make(list(value))
        whole, last = (value[:-1], value[-1:]) if growing else (value, [])
        read = gathered((f"[{at}]", functools.partial(item.read, each)) for at, each in enumerate(whole))
        for each in last:
            try:
                read.append(item.read(each, growing=True))
            except MismatchError:
                break  # it is not complete
        return self._make(read)


class DictNode(Node):
    """A dict.

    Args:
        hint: The type.
        key: The type of the keys.
        item: The type of the values, or None for any.
    """

    trait = "dict"
    python = dict

    def __init__(self, hint: Any, make: Callable[[dict[Any, Any]], Any], key: Node, item: Node | None) -> None:
        self.name = type_name(hint)
        self._make, self._key, self._item = make, _KeyNode(key), item
        self._key_schema = self._key.schema(Definitions())

    def schema(self, definitions: Definitions) -> Schema:
        schema: Schema = {"type": "object"}
        if self._key_schema:
            schema["propertyNames"] = self._key_schema
        if self._item is not None:
            schema["additionalProperties"] = self._item.schema(definitions)
        return schema

    def read(self, value: object, *, growing: bool = False) -> Any:
        if not isinstance(value, dict):
            raise MismatchError.of(self.name, value)
        last = next(reversed(value), None) if growing else None
        pairs = {}
        parts: list[tuple[str, Callable[[], Any]]] = []
        for key, each in value.items():
            parts.append((f"[{key!r}]", functools.partial(self._key.read, key)))
            if self._item is not None and key != last:
                parts.append((f"[{key!r}]", functools.partial(self._item.read, each)))
        read = iter(gathered(parts))
        for key, each in value.items():
            found = next(read)
            if self._item is None:
                pairs[found] = each
            elif key != last:
                pairs[found] = next(read)
            else:
                try:
                    pairs[found] = self._item.read(each, growing=True)
                except MismatchError:
                    break  # it is not complete
        return self._make(pairs)


_KEY_FORMS = {"integer": r"^-?(0|[1-9][0-9]*)$", "number": r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"}


class _KeyNode(Node):
    """The keys of an object, which are texts in JSON even where the type expects numbers.

    Args:
        node: The type of the keys.
    """

    def __init__(self, node: Node) -> None:
        self.name = node.name
        self._node = node
        schema = node.schema(Definitions())
        choices = choices_of(schema)
        branches = [each.get("type") for each in schema.get("anyOf", [schema])]
        if choices is None and not set(branches) <= {"string", "integer", "number", "boolean", None}:
            raise ConfigurationError(f"{node.name} cannot be the type of an object's keys, which are texts in JSON")
        self._is_text = choices is None and branches in (["string"], [None])
        self._form = _KEY_FORMS.get(schema.get("type", "")) if choices is None else None
        if self._is_text:
            self._schema = {key: each for key, each in schema.items() if key not in {"type", "description"}}
        elif choices is not None:
            self._schema = {"enum": [_as_key(each) for each in choices]}
        else:
            kinds = {"boolean": {"enum": ["true", "false"]}}
            self._schema = {"pattern": self._form} if self._form else kinds.get(schema.get("type", ""), {})

    def schema(self, definitions: Definitions) -> Schema:  # noqa: ARG002 - as the base says
        return self._schema

    def read(self, value: object, *, growing: bool = False) -> Any:  # noqa: ARG002 - as the base says
        try:
            return self._node.read(value)
        except MismatchError as error:
            if self._is_text or (self._form and not re.search(self._form, str(value))):
                raise
            try:
                return self._node.read(json.loads(str(value)))
            except ValueError:  # the key is no JSON, or does not fit either
                raise error from None


def _as_key(choice: object) -> str:
    return choice if isinstance(choice, str) else json.dumps(choice)


class TupleNode(Node):
    """A tuple or NamedTuple with a type for each place.

    Args:
        hint: The type.
        places: The types of the places.
        optional: The number of places at the end that may be left out.
        make: Makes it from a list.
        notes: What the schema of each place says besides its type: description and default.
        description: The description of the class, or "".
    """

    trait = "tuple"

    def __init__(
        self,
        hint: Any,
        places: Sequence[Node],
        make: Callable[[list[Any]], Any],
        *,
        optional: int = 0,
        notes: Sequence[Schema] = (),
        description: str = "",
    ) -> None:
        self.name, self.python = type_name(hint), hint
        self._places, self._make = places, make
        self._least = len(places) - optional
        self._notes = notes or [{} for _ in places]
        self._closed = not notes
        self._description = description
        self._length = f"{self._least} to {len(places)}" if optional else f"{self._least}"

    def schema(self, definitions: Definitions) -> Schema:
        schema: Schema = {"type": "array", "minItems": self._least, "maxItems": len(self._places)}
        if self._places:
            places = zip(self._places, self._notes, strict=True)
            schema["prefixItems"] = [{**each.schema(definitions), **note} for each, note in places]
            if self._closed:
                schema["items"] = False
        return {**schema, "description": self._description} if self._description else schema

    def read(self, value: object, *, growing: bool = False) -> Any:
        if not isinstance(value, list):
            raise MismatchError.of(self.name, value)
        if not self._least <= len(value) <= len(self._places):
            raise MismatchError.of(f"{self.name} with {self._length} items", value)
        last = len(value) - 1 if growing else -1
        parts = enumerate(zip(value, self._places, strict=False))
        return self._make(
            gathered((f"[{at}]", functools.partial(node.read, each, growing=at == last)) for at, (each, node) in parts)
        )


@attrs.frozen
class Field:
    """A field of a class, or a key of a TypedDict.

    Attributes:
        key: Its name in JSON.
        argument: Its parameter in the class's ``__init__``.
        node: Its type.
        default: What it is when it is not given.
        notes: What its schema says besides its type: description and default.
    """

    key: str
    argument: str
    node: Node
    default: Default
    notes: Schema = attrs.Factory(dict)


class ClassNode(Node):
    """An attrs class, dataclass or TypedDict.

    Args:
        hint: The type.
        make: Makes an instance from keyword arguments.
        fields: Its fields.
        description: Its description, or "".
    """

    def __init__(self, hint: Any, make: Callable[..., Any], fields: Sequence[Field], description: str = "") -> None:
        self.name, self.python = type_name(hint), hint
        self._make, self._fields, self._description = make, fields, description

    def schema(self, definitions: Definitions) -> Schema:
        properties = {}
        for each in self._fields:
            with in_field(each.key):
                properties[each.key] = {**each.node.schema(definitions), **each.notes}
        required = [each.key for each in self._fields if each.default.required]
        schema: Schema = {"type": "object", "properties": properties, "required": required}
        return {**schema, "description": self._description} if self._description else schema

    def read(self, value: object, *, growing: bool = False) -> Any:
        if not isinstance(value, dict):
            raise MismatchError.of(self.name, value)
        last = next(reversed(value), None) if growing else None
        arguments: dict[str, Any] = {}
        problems: list[tuple[str, str]] = []
        for each in self._fields:
            if each.key in value:
                try:
                    arguments[each.argument] = each.node.read(value[each.key], growing=growing and each.key == last)
                    continue
                except MismatchError as error:
                    if each.key != last or each.default.required:
                        problems += [(f".{each.key}{place}", text) for place, text in error.problems]
                        continue
            if each.default.required:
                problems.append((f".{each.key}", "is missing"))
            elif each.default.make is not None:
                arguments[each.argument] = each.default.make()
        if problems:
            raise MismatchError(problems)
        with own_code():
            return self._make(**arguments)


class PydanticNode(Node):
    """A type that pydantic describes and reads.

    Args:
        hint: The type.
    """

    def __init__(self, hint: Any) -> None:
        self._reader = PydanticReader(hint)
        self.name, self.python = self._reader.name, hint

    def schema(self, definitions: Definitions) -> Schema:
        return self._reader.schema(definitions)

    def read(self, value: object, *, growing: bool = False) -> Any:
        return self._reader.read(value, growing=growing)


class DescribedNode(Node):
    """A type whose schema says more about it, such as examples.

    Args:
        node: The type.
        extra: The keywords.
    """

    def __init__(self, node: Node, extra: Schema) -> None:
        self.name, self.trait, self.python = node.name, node.trait, node.python
        self._node, self._extra = node, extra

    def schema(self, definitions: Definitions) -> Schema:
        return {**self._node.schema(definitions), **self._extra}

    def read(self, value: object, *, growing: bool = False) -> Any:
        return self._node.read(value, growing=growing)

    def limited(self, limit: Limit) -> Node | None:
        limited = self._node.limited(limit)
        return None if limited is None else DescribedNode(limited, self._extra)


class LimitedNode(Node):
    """A type with a constraint.

    Args:
        node: The type.
        constraint: The constraint.
    """

    def __init__(self, node: Node, constraint: Constraint) -> None:
        self.name, self.trait, self.python = node.name, node.trait, node.python
        self._node, self._constraint = node, constraint

    def schema(self, definitions: Definitions) -> Schema:
        schema = self._node.schema(definitions)
        for keyword, bound in self._constraint.schema.items():
            if bound is None:
                schema.pop(keyword, None)
            elif keyword in schema:
                schema.setdefault("allOf", []).append({keyword: bound})
            else:
                schema[keyword] = bound
        return schema

    def read(self, value: object, *, growing: bool = False) -> Any:
        read = self._node.read(value, growing=growing)
        if not (growing and self._constraint.of_whole):
            with own_code():
                self._constraint.check(read, value)
        return read


class NamedNode(Node):
    """A class or alias that may hold itself.

    Attributes:
        node: What it stands for; None while that is being made.
        holds_itself: Whether it does, so that its schema is among the definitions.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.node: Node | None = None
        self.holds_itself = False

    def schema(self, definitions: Definitions) -> Schema:
        node = self.node
        assert node is not None
        return definitions.reference(self, self.name, lambda: node.schema(definitions))

    def read(self, value: object, *, growing: bool = False) -> Any:
        assert self.node is not None
        return self.node.read(value, growing=growing)

    def limited(self, limit: Limit) -> Node | None:
        return None if self.node is None else self.node.limited(limit)


class UnionNode(Node):
    """A union of types.

    Classes are told apart by a field with values of its own in each (the tag), or else by the fields that they require.
    Of the other types that a value fits, the more special one is meant.

    Args:
        members: The types.
    """

    def __init__(self, members: Sequence[Node]) -> None:
        self.name = " or ".join(each.name for each in members)
        self._members = members
        self._is_settled = False  # whether it is known how they are told apart
        self._tag: str | None = None
        self._tagged: list[tuple[list[Any], Node]] = []
        self._classes: dict[int, tuple[set[str], set[str]]] = {}  # required and known keys, by the member's place
        self._ranks = [0] * len(members)

    def _settle(self) -> None:
        """Find out how the members are told apart; not earlier than for the first schema, when all of them are made.

        Raises:
            ConfigurationError: Two of them cannot be told apart.
        """
        self._is_settled = True
        definitions = Definitions()
        schemas = [definitions.resolved(each.schema(definitions)) for each in self._members]
        objects = [at for at, each in enumerate(schemas) if "properties" in each]
        self._tag = tag_of([schemas[at] for at in objects])
        if self._tag is not None:
            self._tagged = [
                (choices_of(schemas[at]["properties"][self._tag]) or [], self._members[at]) for at in objects
            ]
            for at in objects:
                schemas[at] = with_required(schemas[at], self._tag)
        self._ranks = [_rank(each) for each in schemas]
        self._classes = {at: ({*schemas[at].get("required", ())}, {*schemas[at]["properties"]}) for at in objects}
        for (one, a), (other, b) in itertools.combinations(zip(self._members, schemas, strict=True), 2):
            if reason := overlap(a, b, definitions):
                raise ConfigurationError(f"{one.name} and {other.name} cannot be told apart in JSON: {reason}")

    def schema(self, definitions: Definitions) -> Schema:
        if not self._is_settled:
            self._settle()
        branches = []
        for at, each in enumerate(self._members):
            branch = each.schema(definitions)
            if self._tag is not None and at in self._classes:
                branch = with_required(branch, self._tag)  # even if it has a default
            branches.append(branch)
        return {"anyOf": branches}

    def read(self, value: object, *, growing: bool = False) -> Any:
        if self._tag is not None and isinstance(value, dict):
            return self._of_tag(value).read(value, growing=growing)
        failures: dict[int, MismatchError] = {}
        for at in self._order(value):
            try:
                return self._members[at].read(value, growing=growing)
            except MismatchError as error:
                failures[at] = error
        within = next((each for each in failures.values() if not each.expected), None)
        if within is not None:
            raise within  # a value of the right kind with a problem inside
        raise MismatchError.of(" or ".join(failures[at].expected for at in sorted(failures)), value)

    def _of_tag(self, value: Mapping[str, object]) -> Node:
        tag = self._tag
        assert tag is not None
        choices = [choice for listed, _ in self._tagged for choice in listed]
        expected = f"expected one of {short(choices)[1:-1]}"
        if tag not in value:
            raise MismatchError([(f".{tag}", f"is missing, {expected}")])
        for listed, node in self._tagged:
            if any(same_json(each, value[tag]) for each in listed):
                return node
        raise MismatchError([(f".{tag}", f"{expected}, got {short(value[tag])}")])

    def _order(self, value: object) -> list[int]:
        """Return the places of the members in the order in which they are tried."""

        def fit(at: int) -> tuple[int, bool, bool, int]:
            required, known = self._classes.get(at, (set(), set()))
            given = value.keys() if isinstance(value, dict) else set()
            exact = self._members[at].python is type(value)  # 1 is an int, 1.0 a float
            return self._ranks[at], not exact, not required <= given, -len(known & given)

        return sorted(range(len(self._members)), key=fit)

    def limited(self, limit: Limit) -> Node | None:
        limited = [each.limited(limit) for each in self._members]
        if all(each is None for each in limited):
            return None
        return UnionNode([new or old for new, old in zip(limited, self._members, strict=True)])


def _rank(schema: Schema) -> int:
    """Return how special a type is: choices first, then texts of a certain form, anything last."""
    if choices_of(schema) is not None:
        return 0
    if not schema.keys() - {"description"}:
        return 3
    return 1 if "format" in schema or "contentEncoding" in schema else 2


@contextlib.contextmanager
def own_code() -> Iterator[None]:
    """Run a user's class or function; whatever it raises becomes a MismatchError."""
    try:
        yield
    except (MismatchError, RecursionError):
        raise
    except Exception as error:
        raise MismatchError(problems_of(error)) from error


class FieldError(ConfigurationError):
    """A type that has no JSON Schema because of one of its fields.

    Args:
        path: The names of the fields that lead to it.
        reason: Why it has none.
    """

    def __init__(self, path: tuple[str, ...], reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"in its field {'.'.join(path)}: {reason}")


@contextlib.contextmanager
def in_field(name: str) -> Iterator[None]:
    """Have a ConfigurationError name the field in which it is raised."""
    try:
        yield
    except FieldError as error:
        raise FieldError((name, *error.path), error.reason) from error.__cause__
    except ConfigurationError as error:
        raise FieldError((name,), str(error)) from error.__cause__
