"""Lists, sets, tuples and mappings of what a language model has written, read strictly: each item by its own hook."""

from __future__ import annotations

import collections.abc
import json
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from cattrs import Converter
from cattrs.errors import IterableValidationError, IterableValidationNote

from .errors import ConfigurationError
from .hints import type_name
from .strict_problems import MismatchError
from .strict_scalars import Hook

__all__ = ["CONTAINERS", "hook_of", "only", "origin_of"]

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
_BARE_TUPLES = (tuple, typing.Tuple)  # noqa: UP006 - the name that is deprecated


def origin_of(kind: Any) -> Any:
    """A generic type without its arguments; any other as it is."""
    return typing.get_origin(kind) or kind


def hook_of(kind: Any, converter: Converter) -> Hook:
    """The converter's hook for a type, of which a value that is being described may be a part."""
    try:
        return converter.get_structure_hook(kind)
    except RecursionError:  # a class that holds itself: its hook is being made at this moment
        return converter.structure


def only(shape: type, kind: Any, hook: Callable[..., Any]) -> Hook:
    """A hook that takes values of one JSON type only, and leaves what is in them to another."""

    def read(value: object, _: object) -> Any:
        if not isinstance(value, shape):
            raise MismatchError(kind, value)
        return hook(value, kind)

    return read


def _list_factory(kind: Any, converter: Converter) -> Hook:
    make, arguments = _LISTS[origin_of(kind)], typing.get_args(kind)
    item = arguments[0] if arguments else Any
    if make in {set, frozenset} and getattr(origin_of(item), "__hash__", None) is None:
        raise ConfigurationError(f"{type_name(item)} cannot be in a set, since it is not hashable")
    hook = hook_of(item, converter)
    return only(
        list,
        kind,
        lambda value, _: make(_read_each(kind, ((at, each, item, hook) for at, each in enumerate(value)))),
    )


def _read_each(kind: Any, parts: Iterable[tuple[int | str, object, Any, Hook]]) -> list[Any]:
    """Read the parts of a value, and tell of all that is wrong with them.

    Args:
        kind: The type of the value.
        parts: Each with its index or key, and with its own type and that one's hook.
    """
    read, errors = [], []
    for index, part, place, hook in parts:
        try:
            read.append(hook(part, place))
        except Exception as error:  # noqa: BLE001 - told of with all the others
            error.add_note(IterableValidationNote("", index, place))
            errors.append(error)
    if errors:
        raise IterableValidationError(f"in {type_name(kind)}", errors, kind)
    return read


def _mapping_factory(kind: Any, converter: Converter) -> Hook:
    key, item = typing.get_args(kind) or (Any, Any)
    key_hook, item_hook = _key_hook(hook_of(key, converter)), hook_of(item, converter)

    def read(value: Mapping[str, object], _: object) -> dict[Any, Any]:
        keys = [(each, each, key, key_hook) for each in value]
        items = [(each, value[each], item, item_hook) for each in value]
        found = _read_each(kind, [*keys, *items])
        return dict(zip(found[: len(keys)], found[len(keys) :], strict=True))

    return only(dict, kind, read)


def _key_hook(hook: Hook) -> Hook:
    """A hook for an object's keys, which are texts also where the type wants numbers."""

    def read(value: str, kind: Any) -> Any:
        try:
            return hook(value, kind)
        except ValueError as error:
            try:
                return hook(json.loads(value), kind)
            except ValueError:
                raise error from None

    return read


def _tuple_factory(kind: Any, converter: Converter) -> Hook:
    """Of tuples whose places each have a type."""
    return _places_hook(kind, typing.get_args(kind), 0, tuple, converter)


def _named_tuple_factory(kind: Any, converter: Converter) -> Hook:
    cls = origin_of(kind)
    hints = typing.get_type_hints(cls, include_extras=True)
    given = dict(zip(getattr(cls, "__parameters__", ()), typing.get_args(kind), strict=False))
    places = [_filled(hints.get(name, Any), given) for name in cls._fields]
    return _places_hook(kind, places, len(cls._field_defaults), lambda items: cls(*items), converter)


def _filled(hint: Any, given: Mapping[Any, Any]) -> Any:
    """A hint with the type variables filled in for which something was given."""
    if isinstance(hint, TypeVar):
        return given.get(hint, hint)
    variables = getattr(hint, "__parameters__", ()) if typing.get_origin(hint) else ()
    return hint[tuple(given.get(each, each) for each in variables)] if variables else hint


def _places_hook(
    kind: Any, places: Sequence[Any], optional: int, make: Callable[[list[Any]], Any], converter: Converter
) -> Hook:
    """A hook for lists of fixed length.

    Args:
        kind: The type.
        places: The types of the items.
        optional: How many of the last ones may be left out.
        make: Makes the value from the items.
        converter: Knows the hooks of the items.
    """
    hooks = [hook_of(place, converter) for place in places]
    least = len(places) - optional
    length = f"{least} to {len(places)}" if optional else f"{least}"

    def read(value: Sequence[object], _: object) -> Any:
        if not least <= len(value) <= len(places):
            raise MismatchError(f"{type_name(kind)} with {length} items", value)
        return make(_read_each(kind, zip(range(len(value)), value, places, hooks, strict=False)))

    return only(list, kind, read)


def _is_tuple(kind: Any) -> bool:
    arguments = typing.get_args(kind)
    homogeneous = len(arguments) == 2 and arguments[1] is Ellipsis
    return origin_of(kind) is tuple and kind not in _BARE_TUPLES and not homogeneous


def _is_named_tuple(kind: Any) -> bool:
    cls = origin_of(kind)
    return isinstance(cls, type) and issubclass(cls, tuple) and hasattr(cls, "_fields")


CONTAINERS: Sequence[tuple[Callable[[Any], bool], Callable[[Any, Converter], Hook]]] = (
    (lambda kind: origin_of(kind) in _LISTS, _list_factory),
    (lambda kind: origin_of(kind) in _MAPPINGS, _mapping_factory),
    (_is_tuple, _tuple_factory),
    (_is_named_tuple, _named_tuple_factory),
)
