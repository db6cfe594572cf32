"""The signatures of functions as they are called: a wrapper decides what can be passed to the function it wraps."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

__all__ = ["HIDDEN", "called_signature", "is_written_in_class"]


class _Hidden:
    def __repr__(self) -> str:
        return "hidden by functools.wraps"


HIDDEN = _Hidden()  # the annotation of a wrapper's parameter, where functools.wraps has replaced the annotations


def called_signature(function: Callable[..., Any]) -> Signature:
    """Return the arguments that a function can be called with.

    Unlike ``inspect.signature`` it reads the signature of the wrapper that ``functools.wraps`` made look like another
    function, and of that other function only what the wrapper passes on with ``*args`` and ``**kwargs``. A
    ``__signature__`` that the wrapper's author has set counts before either.

    Args:
        function: Any object that can be called.

    Returns:
        The signature; parameters without default whose hint cannot be known any more have the annotation ``HIDDEN``.

    Raises:
        TypeError: It cannot be called.
        ValueError: It does not tell its signature.
    """
    if isinstance(function, functools.partial):
        inner = _like(called_signature(function.func))
        return inspect.signature(functools.partial(inner, *function.args, **function.keywords))
    if isinstance(function, types.MethodType):
        return inspect.signature(types.MethodType(_like(called_signature(function.__func__)), function.__self__))
    wrapped, stated = getattr(function, "__wrapped__", None), getattr(function, "__signature__", None)
    # functools.wraps copies a wrapped function's __signature__ too; that one says nothing about the wrapper.
    if isinstance(function, type) or (stated is not None and stated is not getattr(wrapped, "__signature__", None)):
        return inspect.signature(function)
    try:
        own = _own_signature(function)
    except ValueError:  # of an object that is written in C, such as the wrappers of functools.cache
        if wrapped is None:
            raise
        return called_signature(wrapped)
    if wrapped is None:
        return own
    try:
        return _passed_on(own, called_signature(wrapped), function)
    except ValueError:  # of a function that is written in C
        return own


def is_written_in_class(function: Callable[..., Any]) -> bool:
    """Whether it may be a method, the first parameter of which is the object."""
    around = getattr(function, "__qualname__", "").rpartition(".")[0]
    return bool(around) and not around.endswith("<locals>")


def _like(signature: Signature) -> Callable[..., Any]:
    """Return a function with a signature, from which the inspect module makes those of partials and methods."""

    def stand_in(*_args: object, **_kwargs: object) -> None: ...

    vars(stand_in)["__signature__"] = signature
    return stand_in


def _own_signature(function: Callable[..., Any]) -> Signature:
    """Return the signature that a function was written with, without what functools.wraps has put over it."""
    if isinstance(function, types.FunctionType):
        bare = types.FunctionType(
            function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
        )
        bare.__kwdefaults__, bare.__annotations__ = function.__kwdefaults__, function.__annotations__
        return inspect.signature(bare)
    call = getattr(type(function), "__call__", None)  # noqa: B004 - what it is counts, not whether it is there
    if isinstance(call, types.FunctionType):
        return called_signature(types.MethodType(call, function))
    return inspect.signature(function, follow_wrapped=False)


def _passed_on(own: Signature, wrapped: Signature, wrapper: Callable[..., Any]) -> Signature:
    """Return what a wrapper takes itself and, where it takes any names, what is there for the wrapped function."""
    kinds = {each.kind for each in own.parameters.values()}
    by_place, by_name = Parameter.VAR_POSITIONAL in kinds, Parameter.VAR_KEYWORD in kinds
    if len(kinds) == 2 == len(own.parameters) and by_place and by_name:
        return wrapped
    hints = getattr(wrapper, "__annotations__", None)
    hides = bool(hints) and hints == _annotations_behind(wrapper)
    taken = [
        each.replace(annotation=HIDDEN)
        if hides and each.annotation is each.default is each.empty and each.name not in wrapped.parameters
        else each
        for each in own.parameters.values()
    ]
    if not by_name:
        return own.replace(parameters=taken)
    taken = [each for each in taken if each.kind not in {each.VAR_POSITIONAL, each.VAR_KEYWORD}]
    known = {each.name for each in taken}
    if taken and taken[0].kind is not Parameter.KEYWORD_ONLY and is_written_in_class(wrapper):
        known.update([*wrapped.parameters][:1])  # the object, whatever the wrapper calls it
    rest = [_by_name(each) for each in wrapped.parameters.values() if each.name not in known]
    rest = [each for each in rest if each.kind is not each.VAR_POSITIONAL]
    return own.replace(parameters=sorted([*taken, *rest], key=lambda each: each.kind))


def _annotations_behind(wrapper: Callable[..., Any]) -> object:
    return getattr(getattr(wrapper, "__wrapped__", None), "__annotations__", None)


def _by_name(parameter: Parameter) -> Parameter:
    kind = parameter.kind
    return parameter.replace(kind=Parameter.KEYWORD_ONLY) if kind is parameter.POSITIONAL_OR_KEYWORD else parameter
