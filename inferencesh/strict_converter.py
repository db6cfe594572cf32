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
from collections.abc import Callable, Sequence
from typing import Any, Literal, NoReturn, TypeVar

import attrs
from cattrs import Converter
from cattrs.dispatch import StructureHook
from cattrs.errors import BaseValidationError
from cattrs.gen import make_dict_structure_fn

from .errors import ConfigurationError
from .hints import type_name
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


def _class_factory(kind: Any, converter: Converter) -> Hook:
    _resolve(origin_of(kind))
    return only(dict, kind, make_dict_structure_fn(_specified(kind), converter))


def _specified(kind: Any) -> Any:
    """A generic class that nothing was given for, with what its type variables can be at most."""
    variables = () if typing.get_origin(kind) else getattr(kind, "__parameters__", ())
    return kind[tuple(_most(each) for each in variables)] if variables else kind


def _resolve(cls: Any) -> None:
    """Put the types in the places of their names, which cattrs leaves in ``list["Node"]`` as they are."""
    if attrs.has(cls):
        attrs.resolve_types(cls)
        return
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        field.type = hints[field.name]


def _typed_dict_factory(kind: Any, converter: Converter) -> Hook:
    cls = origin_of(kind)
    _resolve_required(cls)
    known = cls.__required_keys__ | cls.__optional_keys__
    read = converter.gen_structure_typeddict(_specified(kind))  # which would keep the other keys
    return only(dict, kind, lambda value, _: read({key: value[key] for key in value if key in known}, kind))


def _resolve_required(cls: Any) -> None:
    """Note which keys a TypedDict requires: one whose annotations were written as strings has overlooked that."""
    marks = {name: typing.get_origin(hint) for name, hint in typing.get_type_hints(cls, include_extras=True).items()}
    required = {name for name, mark in marks.items() if mark is typing.Required}
    optional = {name for name, mark in marks.items() if mark is typing.NotRequired}
    cls.__required_keys__ = frozenset((cls.__required_keys__ - optional) | required)
    cls.__optional_keys__ = frozenset(marks.keys() - cls.__required_keys__)


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
