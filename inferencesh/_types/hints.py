"""Type hints of the user's functions: what they mean, also those that are written as text."""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TypeVar, Union

__all__ = ["hints_of", "local_names", "members_of", "resolve", "type_name", "underlying"]

_MARKERS = {typing.Generic, typing.Protocol}
_QUALIFIER = re.compile(r"(?<!['\"\w.>])(?:[\w<>]+\.)+(?=\w)")  # of a name in a type's repr


def underlying(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function behind a partial, a method, a decorated function or an object that can be called."""
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
    """The local names that a function's hints may refer to: those of the functions and classes it is written in.

    Args:
        function: The function.
        frame: Where it is being defined; what it is written in is there or has called there.
    """
    written = underlying(function)
    place, names = getattr(written, "__qualname__", ""), getattr(written, "__globals__", None)
    found: dict[str, Any] = {}
    while frame is not None:
        if frame.f_globals is names and place.startswith(f"{frame.f_code.co_qualname}."):
            found = {**frame.f_locals, **found}
        frame = frame.f_back
    return found


def resolve(hint: object, function: Callable[..., Any], names: Mapping[str, Any] | None = None) -> Any:
    """What a hint means, with what ``Annotated`` adds to it.

    Args:
        hint: The hint as it stands in the signature; text where annotations are not evaluated.
        function: The function, whose module knows the names.
        names: Local names.

    Raises:
        Exception: Whatever its evaluation raises; a NameError where it cannot be seen from the function's module.
    """
    holder = types.SimpleNamespace(__annotations__={"hint": hint})
    names_there = getattr(underlying(function), "__globals__", {})
    return typing.get_type_hints(holder, names_there, dict(names or {}), include_extras=True)["hint"]


def members_of(hint: Any) -> Iterator[Any]:
    """The hint itself, without what ``Annotated`` adds, or the members of a union."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        yield from members_of(hint.__origin__)
    elif origin is Union or origin is types.UnionType:
        for member in typing.get_args(hint):
            yield from members_of(member)
    else:
        yield hint


def hints_of(kind: Any) -> dict[str, Any]:
    """The hints of a class's fields, with what a generic one was given in the places of its type variables.

    Raises:
        NameError: One names something that cannot be seen from the class's module.
    """
    cls = typing.get_origin(kind) or kind
    given = dict(zip(getattr(cls, "__parameters__", ()), typing.get_args(kind), strict=False))
    inherited: dict[str, Any] = {}
    for base in reversed(vars(cls).get("__orig_bases__") or getattr(cls, "__bases__", ())):
        if isinstance(typing.get_origin(base) or base, type) and typing.get_origin(base) not in _MARKERS:
            inherited.update(hints_of(_filled(base, given)))
    # The annotations of a TypedDict are those of its bases too.
    own = () if typing.is_typeddict(cls) else inspect.get_annotations(cls)
    return {
        name: inherited[name] if name in inherited and name not in own else _filled(hint, given)
        for name, hint in typing.get_type_hints(cls, include_extras=True).items()
    }


def _filled(hint: Any, given: Mapping[Any, Any]) -> Any:
    if isinstance(hint, TypeVar):
        return given.get(hint, hint)
    variables = getattr(hint, "__parameters__", ()) if given and typing.get_origin(hint) else ()
    return hint[tuple(given.get(each, each) for each in variables)] if variables else hint


def type_name(hint: Any) -> str:
    """A type as a reader knows it: ``Person``, ``list[int]``, ``int | None``."""
    if isinstance(hint, type) and not typing.get_args(hint):
        return "None" if hint is type(None) else hint.__name__
    return _QUALIFIER.sub("", repr(hint))
