"""``Tool``: a tool's wire form, which carries its handler."""

from __future__ import annotations

import functools
import inspect
import re
import types
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import Any, NoReturn, ParamSpec, TypeAlias, TypeVar

import attrs

from inferencesh._types.hints import members_of, resolve

__all__ = [
    "HIDDEN",
    "ArgumentsError",
    "Bind",
    "Handler",
    "Tool",
    "ToolContext",
    "binder",
    "called_signature",
    "context_parameters",
    "inline",
    "is_context",
    "is_inline",
    "is_written_in_class",
]

P = ParamSpec("P")
R = TypeVar("R")

_INLINE = "__inferencesh_inline__"


@attrs.frozen
class ToolContext:
    """What a handler may know about the call that it answers.

    A parameter of a handler or typed tool with this class as its hint is filled in by the client, whatever its name;
    the agent does not see it.

    Attributes:
        chat_id: The chat's id.
        call_id: The call's id.
        tool_name: The tool's name.
        agent: The object whose turn it is: an ``Agent`` in the blocking client, an ``AsyncAgent`` in the async one.

    Example:
        ```python
        @tool
        def remember(note: str, context: ToolContext) -> str:
            "Remember a note."
            return f"kept for chat {context.chat_id}"


        agent = client.agent({"name": "secretary", "tools": [remember]})
        message = agent.send_message('Remember "milk"')
        ```
    """

    chat_id: str
    call_id: str
    tool_name: str
    agent: Any = None  # of the kind that the handler's author uses, without having to say so at each use


def context_parameters(handler: Callable[..., Any], signature: inspect.Signature) -> frozenset[str]:
    """The names of a handler's parameters that take the context."""
    return frozenset(each.name for each in signature.parameters.values() if is_context(each.annotation, handler))


def is_context(annotation: object, function: Callable[..., Any]) -> bool:
    """Whether a parameter with this annotation takes the context.

    Args:
        annotation: As it stands in the function's signature.
        function: The function.
    """
    if isinstance(annotation, str):
        try:
            annotation = resolve(annotation, function)
        except Exception:  # noqa: BLE001 - text that means nothing at run time, such as an import for checkers alone
            return ToolContext.__name__ in re.split(r"\W+", str(annotation))
    return any(member is ToolContext for member in members_of(annotation))


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


# What it returns is sent as it is when it is a string, and as JSON otherwise; it may also be a coroutine of that.
Handler: TypeAlias = Callable[..., Any]
# From the arguments of one call and what is known about it to the handler's call, not made yet.
Bind: TypeAlias = Callable[[dict[str, Any], ToolContext | None], Callable[[], Any]]


_POSITIONAL = {
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
}


class ArgumentsError(ValueError):
    """The arguments of a call do not fit the tool; the message is for the agent, so that it can try again."""


def binder(handler: Handler, parameters: Mapping[str, object]) -> Bind:
    """How a handler takes arguments: one mapping of all, as in the documentation's examples, or each by its name.

    Args:
        handler: The handler, whose signature tells which of the two.
        parameters: The tool's parameters by name.
    """
    try:
        signature = called_signature(handler)
    except (TypeError, ValueError):  # a builtin that does not tell its signature
        return lambda arguments, _: lambda: handler(arguments)
    contexts = context_parameters(handler, signature)
    own = [each for each in signature.parameters.values() if each.name not in contexts]
    mapping = _mapping_parameter(own, parameters)

    def bind(arguments: dict[str, Any], context: ToolContext | None) -> Callable[[], Any]:
        given: dict[str, object] = dict.fromkeys(contexts, context)
        if mapping is None:
            # An argument with the name of the context's parameter is a TypeError: only the client gives one.
            signature.bind(**arguments, **given)
            # By name also where it could be by place: a wrapper may put arguments of its own before the others.
            return lambda: handler(**arguments, **given)
        given[mapping.name] = (arguments,) if mapping.kind is mapping.VAR_POSITIONAL else arguments
        bound = inspect.BoundArguments(signature, given)
        return lambda: handler(*bound.args, **bound.kwargs)

    return bind


def _mapping_parameter(own: list[inspect.Parameter], parameters: Mapping[str, object]) -> inspect.Parameter | None:
    """The parameter that takes all arguments as one mapping: there is one, and no argument has that name."""
    by_position = [each for each in own if each.kind in _POSITIONAL]
    needed = [each for each in by_position if each.default is each.empty]
    if not by_position or len(needed) > 1:
        return None
    first = by_position[0]
    if first.kind is not first.POSITIONAL_OR_KEYWORD:
        return first
    # One with a default is meant for the arguments only where there are any that it could not be one of.
    return first if first.name not in parameters and (needed or parameters) else None


class Tool(dict[str, Any]):
    """A tool: a read-only mapping of its wire form that also carries its handler.

    ``dict(t)``, ``t["name"]`` and JSON encoders see the wire form alone, which is why it is a dict: ``json`` knows no
    other mapping. The handler never leaves the process.

    Args:
        wire: The wire form.
        handler: The function that runs it, or None when results are submitted by hand or it does not run here.
        bind: How the handler takes arguments; by default its signature tells.

    Example:
        ```python
        look_up = tool("look_up").param("word", string("What to look up")).build()
        print(look_up.name, look_up["type"], look_up.handler)
        ```

        ```text
        look_up client None
        ```
    """

    __slots__ = ("_bind", "handler")

    is_method = False  # whether it is a method's that lacks its object

    def __init__(self, wire: Mapping[str, Any], handler: Handler | None = None, bind: Bind | None = None) -> None:
        super().__init__(wire)
        self.handler = handler
        self._bind = bind or (binder(handler, self._parameters()) if handler is not None else None)

    @property
    def name(self) -> str:
        """The name by which the agent calls it."""
        return str(self["name"])

    def bind(self, arguments: dict[str, Any], context: ToolContext | None = None) -> Callable[[], Any]:
        """The handler's call with the arguments of one tool call, not made yet.

        A handler either takes one mapping of all arguments, as in the documentation's examples, or the arguments by
        their names; its signature tells which.

        Args:
            arguments: The arguments as the agent gave them.
            context: What a handler with a parameter for it gets.

        Raises:
            TypeError: They do not fit the handler's parameters.
        """
        if self._bind is None:
            raise TypeError(f"the tool {self.name} has no handler")
        return self._bind(arguments, context)

    def _parameters(self) -> Mapping[str, object]:
        client = self.get("client")
        schema = client.get("input_schema") if isinstance(client, Mapping) else None
        properties = schema.get("properties") if isinstance(schema, Mapping) else None
        return properties if isinstance(properties, Mapping) else {}

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a tool is read-only; take dict(tool) for a copy that can be changed")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __repr__(self) -> str:
        return f"Tool({self.get('name')!r}, handler={'yes' if self.handler else 'no'})"


def inline(function: Callable[P, R]) -> Callable[P, R]:
    """Declare a plain function cheap, so that the async client calls it on the event loop and not in a worker thread.

    Args:
        function: A callback or tool handler that returns at once and never blocks.

    Returns:
        The same function.

    Example:
        ```python
        @inline
        def on_message(text, done):
            print(text)


        await agent.send_message("Hello", on_message=on_message)
        ```
    """
    setattr(function, _INLINE, True)
    return function


def is_inline(function: object) -> bool:
    """Whether a function was declared cheap with ``inline``."""
    return getattr(function, _INLINE, False) is True
