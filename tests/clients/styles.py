"""The ways in which a user may write a callback or a handler; all of them must work the same."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from inferencesh import inline

__all__ = ["ASYNC", "STYLES", "styled"]

Function = Callable[..., Any]


def _plain(function: Function) -> Function:
    return function


def _inline(function: Function) -> Function:
    @inline
    @functools.wraps(function)
    def cheap(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    return cheap


def _coroutine(function: Function) -> Function:
    @functools.wraps(function)
    async def asynchronous(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    return asynchronous


def _partial(function: Function) -> Function:
    async def asynchronous(function: Function, *arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    return functools.partial(asynchronous, function)


def _returns_coroutine(function: Function) -> Function:
    asynchronous = _coroutine(function)

    @functools.wraps(function)
    def plain(*arguments: Any, **named: Any) -> Any:
        return asynchronous(*arguments, **named)

    return plain


def _object(function: Function) -> Function:
    asynchronous = _coroutine(function)

    class Callback:
        async def __call__(self, *arguments: Any, **named: Any) -> Any:
            return await asynchronous(*arguments, **named)

    return Callback()


_STYLES: dict[str, Callable[[Function], Function]] = {
    "a plain function": _plain,
    "a function declared cheap": _inline,
    "a coroutine function": _coroutine,
    "a partial of a coroutine function": _partial,
    "a plain function that returns a coroutine": _returns_coroutine,
    "an object with an async call": _object,
}
STYLES = list(_STYLES)
ASYNC = ["a coroutine function", "a partial of a coroutine function", "an object with an async call"]


def styled(style: str, function: Function) -> Function:
    """The same function, written in one of the ways."""
    return _STYLES[style](function)
