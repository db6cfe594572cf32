"""The strict cattrs converter for what a language model has written: JSON in, values of the caller's types out.

It reads both an agent's outputs and the arguments of its tool calls. Unlike the lenient one for the service's own
answers it takes nothing for what it is not: no text for a list, no list for an object. Keys of objects that a class
does not know are passed over. Classes are made by their own ``__init__``, so that their converters and validators run.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Literal, NoReturn, TypeVar

import attrs
from cattrs import Converter
from cattrs.dispatch import StructureHook
from cattrs.errors import AttributeValidationNote, BaseValidationError, ClassValidationError

from .errors import ConfigurationError
from .hints import hints_of, type_name
from .strict_containers import CONTAINERS, hook_of, only, origin_of
from .strict_problems import MismatchError, short
from .strict_scalars import SCALARS, Hook

__all__ = ["reader_of"]

_LIMITS = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length", "tz")


def reader_of(hint: Any) -> Callable[[object], Any]:
    """What reads JSON values as a type; it raises all that is wrong with one together, for ``problems`` to tell.

    Args:
        hint: The type, of which msgspec has a JSON Schema.

    Raises:
        ConfigurationError: It cannot be read.
    """
    hook = hook_of(hint, _converter())
    return lambda value: hook(value, hint)


@functools.cache
def _converter() -> Converter:
    """The converter, made when it is first needed."""
    converter = _StrictConverter(structure_fallback_factory=_refuse)
    for cls, read in SCALARS.items():
        converter.register_structure_hook(cls, read)
    for fits, make in _FACTORIES:  # of those that fit, the last one counts
        converter.register_structure_hook_factory(fits, make)
    return converter


class _StrictConverter(Converter):
    """One that reads types that are not hashable too, as notes in ``Annotated`` make them."""

    def get_structure_hook(self, type: Any, cache_result: bool = True) -> StructureHook:  # noqa: A002, FBT001 - cattrs's
        try:
            hash(type)
        except TypeError:
            hook: Hook = next(make for fits, make in reversed(_FACTORIES) if fits(type))(type, self)
            return hook
        return super().get_structure_hook(type, cache_result)


def _refuse(kind: Any) -> NoReturn:
    raise ConfigurationError(f"no {type_name(kind)} can be made of JSON")


# -- classes and mappings with known keys ------------------------------------------------------------------------------


@attrs.frozen
class _Field:
    """A field of a class, or a key of a TypedDict.

    Attributes:
        key: Its name in JSON.
        argument: What the class's ``__init__`` calls it.
        hint: Its type.
        required: Whether it must be given.
        hook: Reads its value.
    """

    key: str
    argument: str
    hint: Any
    required: bool
    hook: Hook


# The classes whose hooks are being made: one that holds itself is met again meanwhile.
_under_way: ContextVar[tuple[Any, ...]] = ContextVar("_under_way", default=())


def _fields(kind: Any, found: Sequence[tuple[str, str, Any, bool]], converter: Converter) -> tuple[_Field, ...]:
    """Add the hooks to what is known of a class's fields.

    Raises:
        RecursionError: They are being made already.
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
    """Read an object's fields, and tell of all that is wrong with them."""
    read: dict[str, Any] = {}
    errors: list[Exception] = []
    for each in fields:
        try:
            if each.required or each.key in value:
                read[each.argument] = each.hook(value[each.key], each.hint)
        except Exception as error:  # noqa: BLE001 - told of with all the others
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
    """The name, the argument and the necessity of each field that ``__init__`` takes."""
    if attrs.has(cls):
        yield from ((each.name, each.alias, each.default is attrs.NOTHING) for each in attrs.fields(cls) if each.init)
        return
    missing = dataclasses.MISSING
    for field in dataclasses.fields(cls):
        if field.init:
            yield field.name, field.name, field.default is missing and field.default_factory is missing


def _typed_dict_factory(kind: Any, converter: Converter) -> Hook:
    """Reads the known keys; which of them are required a class with annotations in strings does not know itself."""
    cls, hints = origin_of(kind), hints_of(kind)
    found = []
    for name, hint in hints.items():
        mark = typing.get_origin(hint)
        required = mark is typing.Required or (mark is not typing.NotRequired and name in cls.__required_keys__)
        marked = mark in {typing.Required, typing.NotRequired}
        found.append((name, name, typing.get_args(hint)[0] if marked else hint, required))
    fields = _fields(kind, found, converter)
    return only(dict, kind, lambda value, _: _read_fields(kind, fields, value))


# -- choices -----------------------------------------------------------------------------------------------------------


def _union_factory(kind: Any, converter: Converter) -> Hook:
    members = [(member, hook_of(member, converter)) for member in typing.get_args(kind)]

    def read(value: object, _: object) -> Any:
        expected, within = [], []
        for member, hook in sorted(members, key=lambda pair: pair[0] is not type(value)):  # 1 is an int, 1.0 a float
            try:
                return hook(value, member)
            except MismatchError as error:  # it is none of this member
                expected.append(error.expected)
            except (BaseValidationError, ValueError) as error:
                within.append(error)
        if within:
            raise within[0]  # it is meant for that member, and says where in it something is wrong
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
    """Of a type variable that nothing was given for."""
    bound = _most(kind)
    hook = hook_of(bound, converter)
    return lambda value, _: hook(value, bound)


def _most(variable: TypeVar) -> Any:
    return Any if variable.__bound__ is None else variable.__bound__


# -- limits ------------------------------------------------------------------------------------------------------------


def _annotated_factory(kind: Any, converter: Converter) -> Hook:
    """Reads the type that is annotated, and checks what ``msgspec.Meta`` asks of it besides."""
    import msgspec

    inner, *notes = typing.get_args(kind)
    hook = hook_of(inner, converter)
    metas = tuple(each for each in notes if isinstance(each, msgspec.Meta))
    limits = tuple(each for each in metas if any(getattr(each, name) is not None for name in _LIMITS))
    if not limits:
        return lambda value, _: hook(value, inner)

    limited: dict[type, Any] = {}  # by the type that a value was read as

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
