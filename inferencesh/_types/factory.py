"""Make the node of a type hint: its JSON Schema and reader in one.

There is one function for each kind of hint. What no function knows has no JSON form, which is a ConfigurationError that
names the type and the fields that lead to it.
"""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import enum
import functools
import json
import operator
import pathlib
import sys
import types
import typing
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

import attrs

from inferencesh.errors import ConfigurationError

from .constraints import NO_DEFAULT, Default, is_pydantic, meaning_of, package_of
from .docstrings import annotated_text, docs_of, field_docs
from .encoding import dump_json
from .hints import alias_of, bare, hints_of, is_typed_dict, members_of, origin_of, type_name
from .nodes import (
    AnyNode,
    ChoiceNode,
    ClassNode,
    DescribedNode,
    DictNode,
    Field,
    ListNode,
    NamedNode,
    Node,
    PydanticNode,
    ScalarNode,
    TupleNode,
    UnionNode,
    in_field,
)
from .reading import SCALARS, MismatchError, Scalar
from .schemas import Schema

__all__ = ["TypeNodes", "default_note"]

_LISTS: Mapping[Any, Callable[[Any], Any]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    collections.deque: collections.deque,
    collections.abc.Iterable: list,
    collections.abc.Collection: list,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
}
_DICTS: Mapping[Any, Callable[[Any], Any]] = {
    dict: dict,
    collections.OrderedDict: collections.OrderedDict,
    collections.abc.Mapping: dict,
    collections.abc.MutableMapping: dict,
}
_BARE_TUPLES = (tuple, typing.Tuple)  # noqa: UP006 - the name that is deprecated
_PATHS = frozenset({pathlib.Path, pathlib.PurePath})


def default_note(default: Any) -> Schema:
    """Return the default for a schema; nothing for None, which says no more than that the value may be left out."""
    if default is NO_DEFAULT or default is None:
        return {}
    try:
        return {"default": json.loads(dump_json(default))}
    except TypeError:  # without a JSON form; the value can be left out without its default being known
        return {}


class TypeNodes:
    """Makes the nodes of type hints.

    A class is made once, so that classes may hold themselves.

    Args:
        names: Local names, for the hints of classes that are defined in functions.
    """

    def __init__(self, names: Mapping[str, Any]) -> None:
        self._names = names
        self._named: dict[object, NamedNode] = {}
        self._around: list[Any] = []  # the classes whose fields are being made, for typing.Self

    def of(self, hint: Any) -> Node:
        """Return the node of a hint.

        Args:
            hint: The hint, resolved.

        Raises:
            ConfigurationError: It has no JSON form.
        """
        hint, _ = bare(hint)
        if hint is None:  # as in list[None]
            hint = types.NoneType
        for fits, make in _KINDS:
            if fits(hint):
                node: Node = make(self, hint)
                return node
        raise ConfigurationError(f"{type_name(hint)} has no JSON form")

    # -- kinds of hints ------------------------------------------------------------------------------------------------

    def _any(self, _: Any) -> Node:
        return AnyNode()

    def _annotated(self, hint: Any) -> Node:
        inner, notes = hint.__origin__, hint.__metadata__
        meaning = meaning_of(notes)
        if meaning.foreign or (_is_of_pydantic(inner) and any(is_pydantic(note) for note in notes)):
            return PydanticNode(hint)
        node = self.of(inner)
        for limit in meaning.limits:
            limited = node.limited(limit)
            if limited is None:
                raise ConfigurationError(
                    f"the constraint {limit.kind}={limit.bound!r} does not apply to {type_name(inner)}"
                )
            node = limited
        return DescribedNode(node, dict(meaning.extra)) if meaning.extra else node

    def _new_type(self, hint: Any) -> Node:
        return self.of(hint.__supertype__)

    def _alias(self, hint: Any) -> Node:
        return self._once(hint, lambda: self.of(alias_of(hint)))

    def _variable(self, hint: TypeVar) -> Node:
        default = getattr(hint, "__default__", None)
        if hint.__constraints__:
            return self.of(typing.Union[hint.__constraints__])  # noqa: UP007 - made at run time
        if hint.__bound__ is not None:
            return self.of(hint.__bound__)
        has_default = getattr(hint, "has_default", lambda: False)()
        return self.of(default) if has_default else AnyNode()

    def _self(self, hint: Any) -> Node:
        if not self._around:
            raise ConfigurationError(f"{type_name(hint)} stands for no class here")
        return self.of(self._around[-1])

    def _union(self, hint: Any) -> Node:
        return UnionNode([self.of(each) for each in typing.get_args(hint)])

    def _literal(self, hint: Any) -> Node:
        return ChoiceNode(
            [(each.value if isinstance(each, enum.Enum) else each, each) for each in typing.get_args(hint)]
        )

    def _scalar(self, hint: Any) -> Node:
        return ScalarNode(hint, SCALARS[hint])

    def _path(self, hint: Any) -> Node:
        text = SCALARS[str].read
        schema = {"type": "string", "format": "path"}
        return ScalarNode(hint, Scalar(schema, lambda value: hint(text(value)), "a path"))

    def _pydantic(self, hint: Any) -> Node:
        if package_of(hint) in {"fastapi", "starlette"}:
            raise ConfigurationError(f"{type_name(hint)} belongs to FastAPI, which does not call this function")
        return PydanticNode(hint)

    def _enum(self, hint: Any) -> Node:
        if issubclass(hint, enum.Flag):
            return self._flag(hint)
        return ChoiceNode([(each.value, each) for each in hint], _description(hint), hint)

    def _flag(self, hint: Any) -> Node:
        every = functools.reduce(operator.or_, (each.value for each in hint), 0)
        expected = f"a sum of {', '.join(str(each.value) for each in hint)}"
        whole = SCALARS[int].read

        def read(value: object) -> Any:
            number = whole(value)
            if number < 0 or number & ~every:
                raise MismatchError.of(expected, value)
            return hint(number)

        return ScalarNode(hint, Scalar({"type": "integer", "minimum": 0, "maximum": every}, read, expected))

    def _list(self, hint: Any) -> Node:
        make, arguments = _LISTS[origin_of(hint)], typing.get_args(hint)
        item = arguments[0] if arguments else Any
        if make in {set, frozenset} and not all(
            getattr(origin_of(each), "__hash__", None) for each in members_of(item)
        ):
            raise ConfigurationError(f"{type_name(item)} cannot be in a set, since it is not hashable")
        return ListNode(hint, make, None if item is Any else self.of(item))

    def _dict(self, hint: Any) -> Node:
        key, item = typing.get_args(hint) or (Any, Any)
        return DictNode(hint, _DICTS[origin_of(hint)], self.of(key), None if item is Any else self.of(item))

    def _tuple(self, hint: Any) -> Node:
        return TupleNode(hint, [self.of(each) for each in typing.get_args(hint)], tuple)

    def _named_tuple(self, hint: Any) -> Node:
        return self._once(hint, lambda: self._places_of(hint))

    def _places_of(self, hint: Any) -> Node:
        cls = origin_of(hint)
        description, texts = _docs(cls)
        hints, defaults = hints_of(hint, self._names), cls._field_defaults
        places, notes = [], []
        for name in cls._fields:
            with in_field(name):
                places.append(self.of(hints.get(name, Any)))
            notes.append({**_text_note(hints.get(name), texts.get(name)), **default_note(defaults.get(name))})
        return TupleNode(
            hint, places, lambda items: cls(*items), optional=len(defaults), notes=notes, description=description
        )

    def _class(self, hint: Any) -> Node:
        return self._once(
            hint, lambda: ClassNode(hint, origin_of(hint), *self._fields_of(hint, _parameters(hint, self._names)))
        )

    def _typed_dict(self, hint: Any) -> Node:
        return self._once(hint, lambda: ClassNode(hint, dict, *self._fields_of(hint, _keys(hint, self._names))))

    def _fields_of(self, hint: Any, parameters: Iterator[_Parameter]) -> tuple[list[Field], str]:
        """Return the fields of a class, and its description."""
        description, texts = _docs(origin_of(hint))
        self._around.append(hint)
        try:
            return [self._field(each, texts) for each in parameters], description
        finally:
            self._around.pop()

    def _field(self, parameter: _Parameter, texts: Mapping[str, str]) -> Field:
        with in_field(parameter.name):
            hint, default = parameter.hint, parameter.settled
            if default is None:
                hint, default = Default.of(hint, parameter.default)
            node = self.of(hint)
        notes = {**_text_note(hint, texts.get(parameter.name)), **default_note(default.value)}
        return Field(parameter.name, parameter.argument, node, default, notes)

    def _once(self, hint: Any, make: Callable[[], Node]) -> Node:
        """Return the node of a class or alias, which may be under way because it holds itself."""
        key = _key_of(hint)
        named = self._named.get(key)
        if named is None:
            named = self._named[key] = NamedNode(type_name(hint))
            try:
                named.node = make()
            except BaseException:
                del self._named[key]
                raise
        elif named.node is None:
            named.holds_itself = True
        return named if named.holds_itself or named.node is None else named.node


def _key_of(hint: Any) -> object:
    try:
        hash(hint)
    except TypeError:
        return (repr(hint), id(origin_of(hint)))
    return hint


def _docs(cls: Any) -> tuple[str, dict[str, str]]:
    """Return the description in a class's docstring, and those of its fields."""
    written = vars(cls).get("__doc__") or ""
    generated = written.startswith(f"{cls.__name__}(")  # by dataclasses, and by NamedTuple
    return docs_of(None if generated else written)[0], field_docs(cls)


def _description(cls: Any) -> str:
    written = vars(cls).get("__doc__") or ""
    return "" if written == "An enumeration." else docs_of(written)[0]


def _text_note(hint: Any, text: str | None) -> Schema:
    found = annotated_text(hint) or text
    return {"description": found} if found else {}


# -- the fields of classes ---------------------------------------------------------------------------------------------


@attrs.frozen
class _Parameter:
    """A parameter of a class's ``__init__``, or a key of a TypedDict.

    Attributes:
        name: The name of the field.
        argument: The name of the parameter.
        hint: Its type.
        default: Its default, or ``NO_DEFAULT``.
        settled: What it is when it is not given, if that is known without the default.
    """

    name: str
    argument: str
    hint: Any
    default: Any = NO_DEFAULT
    settled: Default | None = None


_MADE_ANEW = Default(required=False)  # by the class itself


def _parameters(kind: Any, names: Mapping[str, Any]) -> Iterator[_Parameter]:
    """Yield the parameters of an attrs class or a dataclass; fields that ``__init__`` does not take are left out."""
    cls, hints = origin_of(kind), hints_of(kind, names)
    if attrs.has(cls):
        for field in attrs.fields(cls):
            if field.init:
                hint = hints.get(field.name, field.type or Any)
                default = NO_DEFAULT if field.default is attrs.NOTHING else field.default
                anew = _MADE_ANEW if isinstance(default, attrs.Factory) else None  # type: ignore[arg-type]  # it is a class
                yield _Parameter(field.name, field.alias, hint, default, anew)
        return
    for each in cls.__dataclass_fields__.values():  # unlike fields() with those of InitVar
        hint, qualifiers = bare(hints.get(each.name, Any))
        if each.init and ("InitVar" in qualifiers or each in dataclasses.fields(cls)):
            missing = dataclasses.MISSING
            anew = _MADE_ANEW if each.default_factory is not missing else None
            default = NO_DEFAULT if each.default is missing else each.default
            yield _Parameter(each.name, each.name, hint, default, anew)


def _keys(kind: Any, names: Mapping[str, Any]) -> Iterator[_Parameter]:
    """Yield the keys of a TypedDict; ``__required_keys__`` is wrong if its annotations are strings."""
    cls = origin_of(kind)
    for name, hint in hints_of(kind, names).items():
        plain, qualifiers = bare(hint)
        required = "Required" in qualifiers or ("NotRequired" not in qualifiers and name in cls.__required_keys__)
        yield _Parameter(name, name, plain, settled=Default(required=required))


# -- which kind a hint is ----------------------------------------------------------------------------------------------


def _is_of_pydantic(hint: Any) -> bool:
    """Whether a type is one of pydantic's; none is before pydantic was imported."""
    if "pydantic" not in sys.modules:
        return False
    cls = origin_of(hint)
    names = ("__get_pydantic_core_schema__", "__pydantic_validator__", "__pydantic_config__")
    return isinstance(cls, type) and any(hasattr(cls, name) for name in names)


def _is_subclass(hint: Any, cls: type) -> bool:
    return isinstance(hint, type) and typing.get_origin(hint) is None and issubclass(hint, cls)


def _is_named_tuple(hint: Any) -> bool:
    return _is_subclass(origin_of(hint), tuple) and hasattr(origin_of(hint), "_fields")


def _is_tuple(hint: Any) -> bool:
    """Whether a type is a tuple of fixed length."""
    arguments = typing.get_args(hint)
    homogeneous = len(arguments) == 2 and arguments[1] is Ellipsis
    return origin_of(hint) is tuple and hint not in _BARE_TUPLES and not homogeneous


def _is_in(hint: Any, known: Container[Any]) -> bool:
    try:
        return hint in known
    except TypeError:  # not hashable
        return False


def _is_class(hint: Any) -> bool:
    cls = origin_of(hint)
    return isinstance(cls, type) and (attrs.has(cls) or dataclasses.is_dataclass(cls))


_KINDS: Sequence[tuple[Callable[[Any], bool], Callable[[TypeNodes, Any], Node]]] = (
    (lambda hint: hint is Any or hint is object, TypeNodes._any),
    (lambda hint: typing.get_origin(hint) is typing.Annotated, TypeNodes._annotated),
    (lambda hint: hasattr(hint, "__supertype__"), TypeNodes._new_type),
    (lambda hint: alias_of(hint) is not None, TypeNodes._alias),
    (lambda hint: isinstance(hint, TypeVar), TypeNodes._variable),
    (lambda hint: getattr(hint, "_name", None) == "Self", TypeNodes._self),
    (lambda hint: origin_of(hint) in {typing.Union, types.UnionType}, TypeNodes._union),
    (lambda hint: origin_of(hint) is Literal, TypeNodes._literal),
    (lambda hint: _is_in(hint, SCALARS), TypeNodes._scalar),
    (lambda hint: _is_in(hint, _PATHS), TypeNodes._path),
    (_is_of_pydantic, TypeNodes._pydantic),
    (lambda hint: _is_subclass(hint, enum.Enum), TypeNodes._enum),
    (_is_class, TypeNodes._class),
    (lambda hint: is_typed_dict(origin_of(hint)), TypeNodes._typed_dict),
    (_is_named_tuple, TypeNodes._named_tuple),
    (_is_tuple, TypeNodes._tuple),
    (lambda hint: _is_in(origin_of(hint), _LISTS), TypeNodes._list),
    (lambda hint: _is_in(origin_of(hint), _DICTS), TypeNodes._dict),
)
