"""Read JSON written by a language model as values of the caller's types, strictly.

Both outputs of agents and arguments of tool calls are read here. Unlike ``codec.py``, which reads the service's own
responses leniently, this converts nothing: a string is not accepted for a list. Unknown keys are ignored. Instances are
made by the classes' own ``__init__``, so that their converters and validators run.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import decimal
import enum
import functools
import json
import math
import re
import reprlib
import types
import typing
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Literal, NoReturn, TypeVar

import attrs
from cattrs import Converter
from cattrs.dispatch import StructureHook
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ClassValidationError,
    IterableValidationError,
    IterableValidationNote,
)

from inferencesh.errors import ConfigurationError, exception_text

from .hints import hints_of, members_of, type_name

__all__ = [
    "CONTAINERS",
    "SCALARS",
    "Hook",
    "MismatchError",
    "hook_of",
    "only",
    "origin_of",
    "problems",
    "reader_of",
    "short",
    "told",
]

Hook = Callable[[Any, Any], Any]  # receives the JSON value and the type, returns the value of that type

_DECIMAL = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_LIMITS = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length", "tz")  # of msgspec.Meta
_MOST_SHOWN = 300  # characters of one problem
_MOST_TOLD = 5  # problems of one value

_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = _shortened.maxlong = 60
_shortened.maxlevel = 2


def short(value: object) -> str:
    """Return the repr of a value, shortened if it is long."""
    return _shortened.repr(value)


class MismatchError(ValueError):
    """A value does not have the expected type.

    Args:
        expected: The type, or a description of it.
        value: The value.
    """

    def __init__(self, expected: Any, value: object) -> None:
        self.expected = expected if isinstance(expected, str) else type_name(expected)
        super().__init__(f"expected {self.expected}, got {short(value)}")


def told(error: BaseException, root: str = "") -> str:
    """Return the problems of a value as one line; only the first ones if there are many.

    Args:
        error: The exception raised by reading it.
        root: The name of the value, with which the path of each place begins.
    """
    found = problems(error, root)
    rest = f" (and {len(found) - _MOST_TOLD} more)" if len(found) > _MOST_TOLD else ""
    return "; ".join(found[:_MOST_TOLD]) + rest


def problems(error: BaseException, root: str = "") -> list[str]:
    """Return the problems of a value, one text for each place: ``address.zip: expected int, got 'abc'``.

    Args:
        error: The exception raised by reading it.
        root: The name of the value, with which the path of each place begins.
    """
    from cattrs import transform_error

    found = []
    for line in transform_error(error, path="\0", format_exception=_explain):
        text, _, path = line.rpartition(" @ \0")
        place = root + path if root else path.removeprefix(".")
        found.append(_cut(f"{place}: {text}" if place else text))
    return found


def _explain(error: BaseException, kind: object) -> str:
    if isinstance(error, KeyError) and kind is not None:  # of a field, and not from a class's own code
        return "is missing"
    # The validators of attrs give the attribute and the value beside the text.
    said = error.args[0] if len(error.args) > 1 and isinstance(error.args[0], str) else exception_text(error)
    return _cut(said.partition("\n")[0] or type(error).__name__)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _read_text(value: object, cls: Any) -> Any:
    if issubclass(cls, enum.Enum):  # an enum of strings is found here as well
        return _read_enum(value, cls)
    if not isinstance(value, str):
        raise MismatchError(cls, value)
    return value


def _read_int(value: object, cls: Any) -> Any:
    if issubclass(cls, enum.Enum):
        return _read_enum(value, cls)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise MismatchError(cls, value)
    return value


def _read_float(value: object, cls: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise MismatchError(cls, value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise MismatchError(cls, value)
    return number


def _read_bool(value: object, cls: Any) -> bool:
    if not isinstance(value, bool):
        raise MismatchError(cls, value)
    return value


def _read_none(value: object, cls: Any) -> None:
    if value is not None:
        raise MismatchError(cls, value)


def _read_enum(value: object, cls: Any) -> Any:
    expected = f"one of {short([member.value for member in cls])[1:-1]}"
    if isinstance(value, bool):  # equal to 0 or 1
        raise MismatchError(expected, value)
    try:
        return cls(value)
    except ValueError:
        raise MismatchError(expected, value) from None


def _read_decimal(value: object, _: object) -> decimal.Decimal:
    text = value if isinstance(value, str) else repr(value)  # the repr of other types does not match
    if not _DECIMAL.fullmatch(text):
        raise MismatchError("a decimal number", value)
    try:
        return decimal.Decimal(text)
    except decimal.InvalidOperation:  # the exponent is out of range
        raise MismatchError("a decimal number", value) from None


def _written_as(form: str) -> Hook:
    """Return a hook that reads strings of a certain form with msgspec."""

    def hook(value: object, cls: Any) -> Any:
        import msgspec

        if not isinstance(value, str):
            raise MismatchError(form, value)
        try:
            return msgspec.convert(value, cls)
        except msgspec.ValidationError:
            raise MismatchError(form, value) from None

    return hook


_read_any_uuid = _written_as("a UUID")


def _read_uuid(value: object, cls: Any) -> uuid.UUID:
    read: uuid.UUID = _read_any_uuid(value, cls)
    if str(read) != str(value).lower():  # it had no hyphens
        raise MismatchError("a UUID with hyphens", value)
    return read


_read_base64 = _written_as("bytes in base64")

SCALARS: Mapping[Any, Hook] = {
    str: _read_text,
    int: _read_int,
    float: _read_float,
    bool: _read_bool,
    types.NoneType: _read_none,
    enum.Enum: _read_enum,
    decimal.Decimal: _read_decimal,
    uuid.UUID: _read_uuid,
    bytes: _read_base64,
    bytearray: _read_base64,
    memoryview: _read_base64,
    datetime.date: _written_as("a date such as 2024-01-31"),
    datetime.datetime: _written_as("a date and time such as 2024-01-31T12:00:00Z"),
    datetime.time: _written_as("a time such as 12:00:00"),
    datetime.timedelta: _written_as("a duration such as P1DT12H"),
}

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
    """Return a generic type without its arguments; any other type unchanged."""
    return typing.get_origin(kind) or kind


def hook_of(kind: Any, converter: Converter) -> Hook:
    """Return the converter's hook for a type, which may be a recursive class whose hook is being made."""
    try:
        return converter.get_structure_hook(kind)
    except RecursionError:  # looks the hook up when a value is read
        return converter.structure


def only(shape: type, kind: Any, hook: Callable[..., Any]) -> Hook:
    """Return a hook that checks the JSON type of a value before it calls ``hook``."""

    def read(value: object, _: object) -> Any:
        if not isinstance(value, shape):
            raise MismatchError(kind, value)
        return hook(value, kind)

    return read


def _list_factory(kind: Any, converter: Converter) -> Hook:
    make, arguments = _LISTS[origin_of(kind)], typing.get_args(kind)
    item = arguments[0] if arguments else Any
    hashable = all(getattr(origin_of(each), "__hash__", None) for each in members_of(item))
    if make in {set, frozenset} and not hashable:
        raise ConfigurationError(f"{type_name(item)} cannot be in a set, since it is not hashable")
    hook = hook_of(item, converter)
    return only(
        list,
        kind,
        lambda value, _: make(_read_each(kind, ((at, each, item, hook) for at, each in enumerate(value)))),
    )


def _read_each(kind: Any, parts: Iterable[tuple[int | str, object, Any, Hook]]) -> list[Any]:
    """Read the parts of a value and raise all their problems together.

    Args:
        kind: The type of the value.
        parts: The index or key, the value, the type and the hook of each part.
    """
    read, errors = [], []
    for index, part, place, hook in parts:
        try:
            read.append(hook(part, place))
        except Exception as error:  # noqa: BLE001 - raised together with the others
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
    """Return a hook for an object's keys, which are strings even if the type expects numbers."""

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
    """Return the hook for tuples of fixed length."""
    return _places_hook(kind, typing.get_args(kind), 0, tuple, converter)


def _named_tuple_factory(kind: Any, converter: Converter) -> Hook:
    cls = origin_of(kind)
    hints = hints_of(kind)
    places = [hints.get(name, Any) for name in cls._fields]
    return _places_hook(kind, places, len(cls._field_defaults), lambda items: cls(*items), converter)


def _places_hook(
    kind: Any, places: Sequence[Any], optional: int, make: Callable[[list[Any]], Any], converter: Converter
) -> Hook:
    """A hook for lists of fixed length.

    Args:
        kind: The type.
        places: The types of the items.
        optional: The number of items at the end that may be left out.
        make: Makes the value from the items.
        converter: The converter for the items.
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


def reader_of(hint: Any) -> Callable[[object], Any]:
    """Return a function that reads JSON values as a type and raises all problems together, for ``problems``.

    Args:
        hint: The type; msgspec must support it.

    Raises:
        ConfigurationError: The type is not supported.
    """
    hook = hook_of(hint, _converter())
    return lambda value: hook(value, hint)


@functools.cache
def _converter() -> Converter:
    """Return the converter, created on first use."""
    converter = _StrictConverter(structure_fallback_factory=_refuse)
    for cls, read in SCALARS.items():
        converter.register_structure_hook(cls, read)
    for fits, make in _FACTORIES:  # the last one that fits is used
        converter.register_structure_hook_factory(fits, make)
    return converter


class _StrictConverter(Converter):
    """A converter that also supports unhashable types, such as ``Annotated`` with unhashable metadata."""

    def get_structure_hook(self, type: Any, cache_result: bool = True) -> StructureHook:  # noqa: A002, FBT001 - cattrs's
        try:
            hash(type)
        except TypeError:
            hook: Hook = next(make for fits, make in reversed(_FACTORIES) if fits(type))(type, self)
            return hook
        return super().get_structure_hook(type, cache_result)


def _refuse(kind: Any) -> NoReturn:
    raise ConfigurationError(f"no {type_name(kind)} can be made of JSON")


@attrs.frozen
class _Field:
    """A field of a class, or a key of a TypedDict.

    Attributes:
        key: Its name in JSON.
        argument: Its parameter in the class's ``__init__``.
        hint: Its type.
        required: Whether it must be given.
        hook: Reads its value.
    """

    key: str
    argument: str
    hint: Any
    required: bool
    hook: Hook


# The classes whose hooks are being made, to detect a recursive class.
_under_way: ContextVar[tuple[Any, ...]] = ContextVar("_under_way", default=())


def _fields(kind: Any, found: Sequence[tuple[str, str, Any, bool]], converter: Converter) -> tuple[_Field, ...]:
    """Return a class's fields with their hooks.

    Raises:
        RecursionError: The class is recursive, and its hooks are already being made.
    """
    cls = origin_of(kind)
    if cls in _under_way.get():
        raise RecursionError(f"{type_name(kind)} holds itself")
    token = _under_way.set((*_under_way.get(), cls))
    try:
        return tuple(_Field(*each, hook_of(each[2], converter)) for each in found)
    finally:
        _under_way.reset(token)


def _read_fields(kind: Any, fields: Sequence[_Field], value: Mapping[str, object]) -> dict[str, Any]:
    """Read an object's fields and raise all their problems together."""
    read: dict[str, Any] = {}
    errors: list[Exception] = []
    for each in fields:
        try:
            if each.required or each.key in value:
                read[each.argument] = each.hook(value[each.key], each.hint)
        except Exception as error:  # noqa: BLE001 - raised together with the others
            error.add_note(AttributeValidationNote("", each.key, each.hint))
            errors.append(error)
    if errors:
        raise ClassValidationError(f"in {type_name(kind)}", errors, origin_of(kind))
    return read


def _class_factory(kind: Any, converter: Converter) -> Hook:
    cls, hints = origin_of(kind), hints_of(kind)
    found = [(name, argument, hints.get(name, Any), needed) for name, argument, needed in _init_fields(cls)]
    fields = _fields(kind, found, converter)

    def read(value: Mapping[str, object], _: object) -> Any:
        arguments = _read_fields(kind, fields, value)
        try:
            return cls(**arguments)
        except Exception as error:
            raise ClassValidationError(f"in {type_name(kind)}", [error], cls) from error

    return only(dict, kind, read)


def _init_fields(cls: Any) -> Iterator[tuple[str, str, bool]]:
    """Yield the name, the parameter and whether it is required, for each field that ``__init__`` takes."""
    if attrs.has(cls):
        yield from ((each.name, each.alias, each.default is attrs.NOTHING) for each in attrs.fields(cls) if each.init)
        return
    missing = dataclasses.MISSING
    for field in dataclasses.fields(cls):
        if field.init:
            yield field.name, field.name, field.default is missing and field.default_factory is missing


def _typed_dict_factory(kind: Any, converter: Converter) -> Hook:
    """Return the hook for a TypedDict; ``__required_keys__`` is wrong if its annotations are strings."""
    cls, hints = origin_of(kind), hints_of(kind)
    found = []
    for name, hint in hints.items():
        mark = typing.get_origin(hint)
        required = mark is typing.Required or (mark is not typing.NotRequired and name in cls.__required_keys__)
        marked = mark in {typing.Required, typing.NotRequired}
        found.append((name, name, typing.get_args(hint)[0] if marked else hint, required))
    fields = _fields(kind, found, converter)
    return only(dict, kind, lambda value, _: _read_fields(kind, fields, value))


def _union_factory(kind: Any, converter: Converter) -> Hook:
    members = [(member, hook_of(member, converter)) for member in typing.get_args(kind)]

    def read(value: object, _: object) -> Any:
        expected, within = [], []
        for member, hook in sorted(members, key=lambda pair: pair[0] is not type(value)):  # 1 is an int, 1.0 a float
            try:
                return hook(value, member)
            except MismatchError as error:  # not of this member's type
                expected.append(error.expected)
            except (BaseValidationError, ValueError) as error:
                within.append(error)
        if within:
            raise within[0]  # a value of the right kind with a problem inside; this error has the path
        raise MismatchError(" or ".join(expected), value)

    return read


def _literal_factory(kind: Any, _: Converter) -> Hook:
    allowed = [(each.value if isinstance(each, enum.Enum) else each, each) for each in typing.get_args(kind)]
    expected = f"one of {short([written for written, _ in allowed])[1:-1]}"

    def read(value: object, _: object) -> Any:
        for written, meant in allowed:
            if written == value and isinstance(written, bool) == isinstance(value, bool):
                return meant
        raise MismatchError(expected, value)

    return read


def _variable_factory(kind: TypeVar, converter: Converter) -> Hook:
    """Return the hook for an unbound type variable: that of its bound, or of Any."""
    bound = Any if kind.__bound__ is None else kind.__bound__
    hook = hook_of(bound, converter)
    return lambda value, _: hook(value, bound)


def _annotated_factory(kind: Any, converter: Converter) -> Hook:
    """Return the hook for an annotated type, which also checks the constraints of ``msgspec.Meta``."""
    import msgspec

    inner, *notes = typing.get_args(kind)
    hook = hook_of(inner, converter)
    metas = tuple(each for each in notes if isinstance(each, msgspec.Meta))
    limits = tuple(each for each in metas if any(getattr(each, name) is not None for name in _LIMITS))
    if not limits:
        return lambda value, _: hook(value, inner)

    limited: dict[type, Any] = {}  # by the type of the value

    def read(value: object, _: object) -> Any:
        result = hook(value, inner)
        made = type(result)
        if made not in limited:
            limited[made] = typing.Annotated[(made, *limits)]
        try:
            msgspec.convert(result, limited[made])
        except msgspec.ValidationError as error:
            text = str(error).replace("`", "")
            raise ValueError(f"{text[:1].lower()}{text[1:]}, got {short(value)}") from None
        return result

    return read


def _is_class(kind: Any) -> bool:
    return attrs.has(origin_of(kind)) or dataclasses.is_dataclass(origin_of(kind))


_FACTORIES: Sequence[tuple[Callable[[Any], bool], Callable[[Any, Converter], Hook]]] = (
    (lambda kind: kind is object, lambda _kind, _converter: lambda value, _: value),
    (lambda kind: kind is None, lambda _kind, _converter: SCALARS[types.NoneType]),  # in list[None]
    (_is_class, _class_factory),
    (lambda kind: typing.is_typeddict(origin_of(kind)), _typed_dict_factory),
    *CONTAINERS,
    (lambda kind: origin_of(kind) in {typing.Union, types.UnionType}, _union_factory),
    (lambda kind: origin_of(kind) is Literal, _literal_factory),
    (lambda kind: isinstance(kind, TypeVar), _variable_factory),
    (lambda kind: origin_of(kind) is typing.Annotated, _annotated_factory),
)
