"""Resolve the type hints of functions and classes, including those written as strings."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TypeVar, Union

__all__ = [
    "alias_of",
    "bare",
    "filled",
    "hints_of",
    "is_typed_dict",
    "local_names",
    "members_of",
    "origin_of",
    "resolve",
    "type_name",
    "types_among",
    "underlying",
]

_MARKERS = {typing.Generic, typing.Protocol}
_QUALIFIER = re.compile(r"(?<!['\"\w.>])(?:[\w<>]+\.)+(?=\w)")  # of a name in a type's repr


def underlying(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function behind a partial, a method, a decorated function or a callable object."""
    found: Any = function
    while True:
        if isinstance(found, functools.partial):
            found = found.func
        elif isinstance(found, types.MethodType | staticmethod | classmethod):
            found = found.__func__
        elif hasattr(found, "__wrapped__"):
            found = found.__wrapped__
        else:
            break
    call = vars(type(found)).get("__call__")
    if not hasattr(found, "__globals__") and isinstance(call, types.FunctionType):
        return underlying(call)
    return typing.cast("Callable[..., Any]", found)


def local_names(function: Callable[..., Any], frame: types.FrameType | None) -> dict[str, Any]:
    """Return the local names of the enclosing functions and classes, which a function's hints may refer to.

    Args:
        function: The function.
        frame: The frame that defines it; the enclosing scopes are this frame or its callers.
    """
    written = underlying(function)
    place, names = getattr(written, "__qualname__", ""), getattr(written, "__globals__", None)
    found: dict[str, Any] = {}
    while frame is not None:
        if frame.f_globals is names and place.startswith(f"{frame.f_code.co_qualname}."):
            found = {**frame.f_locals, **found}
        frame = frame.f_back
    return found


def types_among(names: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of some local names that stand for types or modules; others would be kept alive by a tool."""
    return {
        name: value
        for name, value in names.items()
        if isinstance(value, type | types.ModuleType)
        or typing.get_origin(value) is not None
        or type(value).__module__ in {"typing", "typing_extensions"}
    }


def resolve(hint: object, function: Callable[..., Any], names: Mapping[str, Any] | None = None) -> Any:
    """Evaluate a hint; the metadata of ``Annotated`` is kept.

    Args:
        hint: The hint from the signature; a string if annotations are not evaluated.
        function: The function, whose globals are used.
        names: Local names.

    Raises:
        NameError: A name is not defined there.
        Exception: Raised by the evaluation.
    """
    holder = types.SimpleNamespace(__annotations__={"hint": hint})
    names_there = getattr(underlying(function), "__globals__", {})
    parameters = {each.__name__: each for each in getattr(underlying(function), "__type_params__", ())}
    return typing.get_type_hints(holder, names_there, {**parameters, **(names or {})}, include_extras=True)["hint"]


def members_of(hint: Any) -> Iterator[Any]:
    """Yield the members of a union, or the hint itself, each without ``Annotated``."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        yield from members_of(hint.__origin__)
    elif origin is Union or origin is types.UnionType:
        for member in typing.get_args(hint):
            yield from members_of(member)
    else:
        yield hint


_QUALIFIERS = frozenset({"Required", "NotRequired", "ReadOnly", "Final", "ClassVar", "InitVar"})


def origin_of(kind: Any) -> Any:
    """Return a generic type without its arguments; any other type unchanged."""
    return typing.get_origin(kind) or kind


def bare(hint: Any) -> tuple[Any, frozenset[str]]:
    """Return a hint without ``Required``, ``NotRequired``, ``ReadOnly``, ``Final`` and ``InitVar``, and their names."""
    found: set[str] = set()
    while True:
        if isinstance(hint, dataclasses.InitVar):
            found.add("InitVar")
            hint = hint.type
            continue
        origin = typing.get_origin(hint)
        name = getattr(origin, "_name", None) or getattr(origin, "__name__", None)
        if name not in _QUALIFIERS or isinstance(origin, type):
            return (Any if hint is typing.Final else hint), frozenset(found)
        found.add(str(name))
        hint = typing.get_args(hint)[0]


def alias_of(hint: Any) -> Any:
    """Return what the alias of a ``type`` statement stands for; None if the hint is no such alias."""
    alias = origin_of(hint)
    if type(alias).__name__ != "TypeAliasType":
        return None
    names = {**vars(sys.modules.get(alias.__module__, typing)), alias.__name__: alias}
    holder = types.SimpleNamespace(__annotations__={"value": alias.__value__})  # which may hold strings
    value = typing.get_type_hints(holder, names, include_extras=True)["value"]
    return filled(value, dict(zip(alias.__type_params__, typing.get_args(hint), strict=False)))


def is_typed_dict(cls: Any) -> bool:
    """Whether a class is a TypedDict, made by typing or typing_extensions."""
    return isinstance(cls, type) and issubclass(cls, dict) and hasattr(cls, "__required_keys__")


_NO_NAMES: Mapping[str, Any] = types.MappingProxyType({})


def hints_of(kind: Any, names: Mapping[str, Any] = _NO_NAMES) -> dict[str, Any]:
    """Return the hints of a class's fields, with the type arguments of a generic class filled in.

    Args:
        kind: The class.
        names: Local names of functions, for a class that is defined in one.

    Raises:
        NameError: A hint uses a name that is defined neither there nor in the class's module.
    """
    cls = origin_of(kind)
    given = dict(zip(getattr(cls, "__parameters__", ()), typing.get_args(kind), strict=False))
    inherited: dict[str, Any] = {}
    for base in reversed(vars(cls).get("__orig_bases__") or getattr(cls, "__bases__", ())):
        if isinstance(origin_of(base), type) and typing.get_origin(base) not in _MARKERS:
            inherited.update(hints_of(filled(base, given), names))
    # A TypedDict's own annotations include those of its bases.
    own = () if is_typed_dict(cls) else inspect.get_annotations(cls)
    return {
        name: inherited[name] if name in inherited and name not in own else filled(hint, given)
        for name, hint in typing.get_type_hints(cls, localns=_names_in(cls, names), include_extras=True).items()
    }


def _names_in(cls: Any, names: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the names that a class's hints may use, if there are some which ``get_type_hints`` does not look up.

    Those are local names, and, in Python 3.12, type parameters.
    """
    parameters = {each.__name__: each for base in cls.__mro__ for each in getattr(base, "__type_params__", ())}
    around = names if "<locals>" in cls.__qualname__ else {}
    if not parameters and not around:
        return None
    # A field has often the name of its type, as in ``date: date = TODAY``: those of the module come before the class's.
    return {**vars(cls), **vars(sys.modules.get(cls.__module__, typing)), **around, **parameters}


def filled(hint: Any, given: Mapping[Any, Any]) -> Any:
    """Return a hint with type arguments in place of its type variables."""
    if isinstance(hint, TypeVar):
        return given.get(hint, hint)
    variables = getattr(hint, "__parameters__", ()) if given and typing.get_origin(hint) else ()
    return hint[tuple(given.get(each, each) for each in variables)] if variables else hint


def type_name(hint: Any) -> str:
    """Return a type as it is written in code: ``Person``, ``list[int]``, ``int | None``."""
    if isinstance(hint, type) and not typing.get_args(hint):
        return "None" if hint is type(None) else hint.__name__
    return _QUALIFIER.sub("", repr(_without_metadata(hint)))


def _without_metadata(hint: Any) -> Any:
    """Return a hint without the metadata of each ``Annotated`` in it."""
    if "Annotated[" not in repr(hint):
        return hint
    holder = types.SimpleNamespace(__annotations__={"hint": hint})
    try:
        return typing.get_type_hints(holder)["hint"]
    except Exception:  # noqa: BLE001 - it names something that is not defined, and is shown as it is written
        return hint
