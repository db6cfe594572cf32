"""The strict cattrs converter for what a language model has written: JSON in, values of the caller's types out.

Unlike the lenient one for the service's own answers it takes nothing for what it is not: no text for a list, no list
for an object. Keys of objects that a class does not know are passed over.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import functools
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NoReturn

import attrs
from cattrs import Converter, transform_error
from cattrs.cols import is_namedtuple, list_structure_factory, mapping_structure_factory
from cattrs.errors import BaseValidationError, IterableValidationError, IterableValidationNote

from .errors import ConfigurationError
from .output_scalars import SCALARS, Hook, MismatchError, short
from .output_schema import type_name

__all__ = ["output_converter", "problems"]

_MOST_SHOWN = 300  # characters of one problem


def problems(error: BaseException) -> list[str]:
    """What was wrong with a value, one line for each place: ``address.zip: expected int, got 'abc'``.

    Args:
        error: What the converter raised.
    """
    lines = []
    for line in transform_error(error, path="\0", format_exception=_explain):
        text, _, path = line.rpartition(" @ \0")
        lines.append(_cut(f"{path.removeprefix('.')}: {text}" if path else text))
    return lines


def _explain(error: BaseException, _: object) -> str:
    if isinstance(error, KeyError):
        return "required, but missing"
    return _cut(str(error).partition("\n")[0] or type(error).__name__)  # a mismatch, or what a validator raised


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


@functools.cache
def output_converter() -> Converter:
    """The converter, made when it is first needed."""
    converter = Converter(structure_fallback_factory=_refuse)
    for cls, read in SCALARS.items():
        converter.register_structure_hook(cls, read)
    for fits, make in _FACTORIES:  # of those that fit, the last one counts
        converter.register_structure_hook_factory(fits, make)
    return converter


def _refuse(kind: Any) -> NoReturn:
    raise ConfigurationError(f"an agent's output cannot be read as {type_name(kind)}")


# -- what is made of others --------------------------------------------------------------------------------------------

_LISTS: Mapping[Any, Callable[[Any], Any]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    collections.abc.Collection: list,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
}
_MAPPINGS = frozenset({dict, collections.abc.Mapping, collections.abc.MutableMapping})


def _origin(kind: Any) -> Any:
    return typing.get_origin(kind) or kind


def _hook_of(kind: Any, converter: Converter) -> Hook:
    try:
        return converter.get_structure_hook(kind)
    except RecursionError:  # a class that holds itself: its hook is being made at this moment
        return converter.structure


def _only(shape: type, kind: Any, hook: Callable[..., Any]) -> Hook:
    """A hook that takes values of one JSON type only, and leaves what is in them to another."""

    def read(value: object, _: object) -> Any:
        if not isinstance(value, shape):
            raise MismatchError(kind, value)
        return hook(value, kind)

    return read


def _class_factory(kind: Any, converter: Converter) -> Hook:
    _resolve(_origin(kind))
    return _only(dict, kind, converter.gen_structure_attrs_fromdict(kind))


def _resolve(cls: Any) -> None:
    """Put the types in the places of their names, which cattrs leaves in ``list["Node"]`` as they are."""
    if attrs.has(cls):
        attrs.resolve_types(cls)
        return
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        field.type = hints[field.name]


def _resolve_required(cls: Any) -> None:
    """Note which keys a TypedDict requires: one whose annotations were written as strings has overlooked that."""
    marks = {name: typing.get_origin(hint) for name, hint in typing.get_type_hints(cls, include_extras=True).items()}
    required = {name for name, mark in marks.items() if mark is typing.Required}
    optional = {name for name, mark in marks.items() if mark is typing.NotRequired}
    cls.__required_keys__ = frozenset((cls.__required_keys__ - optional) | required)
    cls.__optional_keys__ = frozenset(marks.keys() - cls.__required_keys__)


def _typed_dict_factory(kind: Any, converter: Converter) -> Hook:
    _resolve_required(_origin(kind))
    return _only(dict, kind, converter.gen_structure_typeddict(kind))


def _list_factory(kind: Any, converter: Converter) -> Hook:
    make, arguments = _LISTS[_origin(kind)], typing.get_args(kind)
    items: Any = types.GenericAlias(list, arguments[:1] or (Any,))
    read = list_structure_factory(items, converter)
    return _only(list, kind, lambda value, _: make(read(value, kind)))


def _mapping_factory(kind: Any, converter: Converter) -> Hook:
    keys, values = typing.get_args(kind) or (Any, Any)
    if keys is not Any and keys is not str:
        keys = typing.Annotated[keys, _Key]
    entries: Any = types.GenericAlias(dict, (keys, values))
    read = mapping_structure_factory(entries, converter, dict, detailed_validation=True)
    return _only(dict, kind, read)


def _tuple_factory(kind: Any, converter: Converter) -> Hook:
    """Of tuples whose places each have a type, named tuples among them."""
    named = is_namedtuple(kind)
    places = tuple(typing.get_type_hints(kind, include_extras=True).values()) if named else typing.get_args(kind)
    hooks = [_hook_of(place, converter) for place in places]

    def read(value: Sequence[object], _: object) -> Any:
        if len(value) != len(places):
            raise MismatchError(f"{type_name(kind)} with {len(places)} items", value)
        items, errors = [], []
        for index, (item, place, hook) in enumerate(zip(value, places, hooks, strict=True)):
            try:
                items.append(hook(item, place))
            except Exception as error:  # noqa: BLE001 - told of with all the others
                error.add_note(IterableValidationNote(f"item {index}", index, place))
                errors.append(error)
        if errors:
            raise IterableValidationError(f"in {type_name(kind)}", errors, kind)
        return kind(*items) if named else tuple(items)

    return _only(list, kind, read)


def _union_factory(kind: Any, converter: Converter) -> Hook:
    members = [(member, _hook_of(member, converter)) for member in typing.get_args(kind)]

    def read(value: object, _: object) -> Any:
        within = []
        for member, hook in sorted(members, key=lambda pair: pair[0] is not type(value)):  # 1 is an int, 1.0 a float
            try:
                return hook(value, member)
            except BaseValidationError as error:
                within.append(error)
            except ValueError:  # it is none of this member
                continue
        if len(within) == 1:
            raise within[0]  # it is meant for that member, and says where in it something is wrong
        raise MismatchError(kind, value)

    return read


def _literal_factory(kind: Any, _: Converter) -> Hook:
    allowed = [(each.value if isinstance(each, enum.Enum) else each, each) for each in typing.get_args(kind)]

    def read(value: object, _: object) -> Any:
        for written, meant in allowed:
            if written == value and isinstance(written, bool) == isinstance(value, bool):
                return meant
        raise MismatchError(f"one of {short([written for written, _ in allowed])[1:-1]}", value)

    return read


class _Key:
    """Marks the type of an object's keys, which JSON has only as texts."""


def _annotated_factory(kind: Any, converter: Converter) -> Hook:
    """Reads the type that is annotated, and checks what ``msgspec.Meta`` asks of it besides."""
    import msgspec

    inner, *notes = typing.get_args(kind)
    hook = _hook_of(inner, converter)
    if _Key in notes:
        return lambda value, _: _read_key(value, inner, hook)
    if not any(isinstance(note, msgspec.Meta) for note in notes):
        return lambda value, _: hook(value, inner)

    def read(value: object, _: object) -> Any:
        result = hook(value, inner)
        try:
            msgspec.convert(value, kind, str_keys=True)
        except msgspec.ValidationError as error:
            text = str(error).partition(" - at ")[0].replace("`", "")
            raise ValueError(f"{text[:1].lower()}{text[1:]}, got {short(value)}") from None
        return result

    return read


def _read_key(value: object, kind: Any, hook: Hook) -> Any:
    try:
        return hook(value, kind)
    except ValueError:
        try:
            number = json.loads(str(value))
        except ValueError:
            number = value
        return hook(number, kind)


def _is_class(kind: Any) -> bool:
    return attrs.has(_origin(kind)) or dataclasses.is_dataclass(_origin(kind))


def _is_tuple(kind: Any) -> bool:
    arguments = typing.get_args(kind)
    return is_namedtuple(kind) or (_origin(kind) is tuple and bool(arguments) and arguments[-1] is not Ellipsis)


_FACTORIES: Sequence[tuple[Callable[[Any], bool], Callable[[Any, Converter], Hook]]] = (
    (_is_class, _class_factory),
    (lambda kind: typing.is_typeddict(_origin(kind)), _typed_dict_factory),
    (lambda kind: _origin(kind) in _LISTS, _list_factory),
    (lambda kind: _origin(kind) in _MAPPINGS, _mapping_factory),
    (_is_tuple, _tuple_factory),
    (lambda kind: _origin(kind) in {typing.Union, types.UnionType}, _union_factory),
    (lambda kind: _origin(kind) is Literal, _literal_factory),
    (lambda kind: _origin(kind) is typing.Annotated, _annotated_factory),
)
