"""``Tool``, the wire form of a tool together with its handler, and how arguments are bound to a handler's parameters.

A handler takes either one mapping of all arguments or the arguments by name, and optionally a ``ToolContext``. Its
signature decides which; ``called_signature`` reads it through decorators.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import types
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, ParamSpec, TypeAlias, TypeVar

import attrs

from inferencesh._types.encoding import dump_json
from inferencesh._types.hints import members_of, resolve
from inferencesh.errors import ConfigurationError

__all__ = [
    "HIDDEN",
    "ArgumentsError",
    "Bind",
    "Handler",
    "Tool",
    "ToolContext",
    "ToolInfo",
    "called_signature",
    "check_json",
    "inline",
    "is_context",
    "is_inline",
    "may_be_method",
]

P = ParamSpec("P")
R = TypeVar("R")

_INLINE = "__inferencesh_inline__"

# Returns a string, which is sent as it is, or any other value, which is sent as JSON; may be async or a generator.
Handler: TypeAlias = Callable[..., Any]


@attrs.frozen
class ToolContext:
    """The context of a tool call, for its handler.

    The client passes it to a parameter of a handler or typed tool that has this class as its type hint, whatever its
    name; the agent does not see the parameter.

    Attributes:
        chat_id: The chat's id.
        call_id: The call's id.
        tool_name: The tool's name.
        agent: The agent whose turn it is: an ``Agent`` in the blocking client, an ``AsyncAgent`` in the async one.
        attempt: The number of this attempt to run the call, from 1. It is greater than 1 only if claims are shared and
            another worker has died during this call or released it. It grows with each attempt, so it can serve as a
            fencing token.

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
    agent: Any = None  # Any, so that a handler may use either kind of agent without a cast
    attempt: int = 1

    @property
    def idempotency_key(self) -> str:
        """A key that is unique to this call and the same for each of its attempts, in any process.

        Pass it to services that accept an idempotency key, such as payment services, so that a call that is run again
        after the death of a worker is charged only once. It has 32 hexadecimal digits.
        """
        import hashlib

        return hashlib.sha256(json.dumps([self.chat_id, self.call_id]).encode()).hexdigest()[:32]


# Binds the arguments of one call and its context to a handler; calling the result runs the handler.
Bind: TypeAlias = Callable[[dict[str, Any], ToolContext | None], Callable[[], Any]]


class ArgumentsError(ValueError):
    """The arguments of a call do not fit the tool; the message is sent to the agent, so that it can try again."""


class Tool(dict[str, Any]):
    """A tool: a read-only mapping of its wire form that also carries its handler.

    ``dict(t)``, ``t["name"]`` and JSON encoders see the wire form only. It is a ``dict`` because ``json`` encodes no
    other mapping. The handler never leaves the process.

    Args:
        wire: The wire form.
        handler: The function that runs it, or None if results are submitted by hand or the service runs it.
        bind: Binds arguments to the handler; derived from the handler's signature when None.

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

    is_method = False  # True for a method that is not bound to an object yet

    def __init__(self, wire: Mapping[str, Any], handler: Handler | None = None, bind: Bind | None = None) -> None:
        super().__init__(wire)
        self.handler = handler
        self._bind = bind or (_binder(handler, self._parameters()) if handler is not None else None)

    @property
    def name(self) -> str:
        """The name by which the agent calls it."""
        return str(self["name"])

    def bind(self, arguments: dict[str, Any], context: ToolContext | None = None) -> Callable[[], Any]:
        """Bind the arguments of one tool call to the handler without calling it.

        Args:
            arguments: The arguments as the agent gave them.
            context: The value for a parameter whose hint is ``ToolContext``.

        Returns:
            A function without parameters that calls the handler.

        Raises:
            TypeError: There is no handler, or the arguments do not fit its parameters.
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


@attrs.frozen
class ToolInfo:
    """The fields that tools of every type have.

    Attributes:
        name: The name by which the agent calls it; None if the function's name is to be used.
        description: What it does.
        display_name: A name for people to read, or "" for ``name``.
        require_approval: Whether each call waits until a person approves it.
    """

    name: str | None = None
    description: str = ""
    display_name: str = ""
    require_approval: bool = False

    def to_wire(self, type_: str, details: Mapping[str, Any]) -> dict[str, Any]:
        """Return the wire form of a tool.

        Args:
            type_: The tool's type, which is also the key of the details.
            details: The fields of this type of tool.

        Raises:
            ConfigurationError: It cannot be sent as JSON.
        """
        wire = {
            "name": self.name,
            "display_name": self.display_name or self.name,
            "description": self.description,
            "type": type_,
            "require_approval": self.require_approval,
            type_: details,
        }
        check_json(wire, f"the tool {self.name!r}")
        return wire


def check_json(value: object, what: str) -> None:
    """Raise ConfigurationError unless a value can be sent as JSON; ``what`` names it in the error."""
    try:
        dump_json(value)
    except TypeError as error:
        raise ConfigurationError(f"{what} cannot be sent as JSON: {error}") from None


def _binder(handler: Handler, parameters: Mapping[str, object]) -> Bind:
    """Return how arguments are bound to a handler: as one mapping, or each by its name.

    Args:
        handler: The handler, whose signature decides.
        parameters: The tool's parameters by name.
    """
    try:
        signature = called_signature(handler)
    except (TypeError, ValueError):  # a builtin without a readable signature
        return lambda arguments, _: lambda: handler(arguments)
    contexts = [each.name for each in signature.parameters.values() if is_context(each.annotation, handler)]
    own = [each for each in signature.parameters.values() if each.name not in contexts]
    mapping = _mapping_parameter(own, parameters)

    def bind(arguments: dict[str, Any], context: ToolContext | None) -> Callable[[], Any]:
        given: dict[str, object] = dict.fromkeys(contexts, context)
        if mapping is None:
            # Raises TypeError if the agent gives an argument with the name of the context's parameter.
            signature.bind(**arguments, **given)
            # By keyword even where positional is possible: a wrapper may put arguments of its own in front.
            return lambda: handler(**arguments, **given)
        given[mapping.name] = (arguments,) if mapping.kind is mapping.VAR_POSITIONAL else arguments
        bound = inspect.BoundArguments(signature, given)
        return lambda: handler(*bound.args, **bound.kwargs)

    return bind


def _mapping_parameter(own: list[inspect.Parameter], parameters: Mapping[str, object]) -> inspect.Parameter | None:
    """Return the parameter that takes all arguments as one mapping, or None if they are passed by name."""
    by_position = [
        each for each in own if each.kind in {each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD, each.VAR_POSITIONAL}
    ]
    needed = [each for each in by_position if each.default is each.empty]
    if not by_position or len(needed) > 1:
        return None
    first = by_position[0]
    if first.kind is not first.POSITIONAL_OR_KEYWORD:
        return first
    # A parameter with a default takes the mapping only if the tool has parameters and none of them has its name.
    return first if first.name not in parameters and (needed or parameters) else None


def is_context(annotation: object, function: Callable[..., Any]) -> bool:
    """Whether a parameter with this annotation takes the ``ToolContext``.

    Args:
        annotation: The annotation as it is in the function's signature.
        function: The function.
    """
    if isinstance(annotation, str):
        try:
            annotation = resolve(annotation, function)
        except Exception:  # noqa: BLE001 - cannot be evaluated, such as a name imported under TYPE_CHECKING
            return ToolContext.__name__ in re.split(r"\W+", str(annotation))
    return any(member is ToolContext for member in members_of(annotation))


class _Hidden:
    def __repr__(self) -> str:
        return "hidden by functools.wraps"


HIDDEN = _Hidden()  # the annotation of a wrapper's parameter whose own annotation functools.wraps has replaced


def called_signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the arguments that a function can be called with.

    For a wrapper made with ``functools.wraps``, ``inspect.signature`` returns the signature of the wrapped function,
    which may take other arguments. This reads the wrapper itself, and adds the wrapped function's parameters only where
    the wrapper passes on ``*args`` or ``**kwargs``. A ``__signature__`` set by the wrapper's author has precedence.

    Args:
        function: Any callable.

    Returns:
        The signature. Parameters without a default whose annotation is lost have the annotation ``HIDDEN``.

    Raises:
        TypeError: It is not callable.
        ValueError: It has no readable signature.
    """
    if isinstance(function, functools.partial):
        inner = _with_signature(called_signature(function.func))
        return inspect.signature(functools.partial(inner, *function.args, **function.keywords))
    if isinstance(function, types.MethodType):
        inner = _with_signature(called_signature(function.__func__))
        return inspect.signature(types.MethodType(inner, function.__self__))
    wrapped, stated = getattr(function, "__wrapped__", None), getattr(function, "__signature__", None)
    # functools.wraps copies a wrapped function's __signature__ too; that one says nothing about the wrapper.
    if isinstance(function, type) or (stated is not None and stated is not getattr(wrapped, "__signature__", None)):
        return inspect.signature(function)
    try:
        own = _own_signature(function)
    except ValueError:  # an object implemented in C, such as a wrapper made by functools.cache
        if wrapped is None:
            raise
        return called_signature(wrapped)
    if wrapped is None:
        return own
    try:
        return _merged(own, called_signature(wrapped), function)
    except ValueError:  # the wrapped function is implemented in C
        return own


def may_be_method(function: Callable[..., Any]) -> bool:
    """Whether a function is defined in a class, so that its first parameter may be the object."""
    around = getattr(function, "__qualname__", "").rpartition(".")[0]
    return bool(around) and not around.endswith("<locals>")


def _with_signature(signature: inspect.Signature) -> Callable[..., Any]:
    """Return a function with a signature, from which ``inspect`` computes those of its partials and methods."""

    def stand_in(*_args: object, **_kwargs: object) -> None: ...

    vars(stand_in)["__signature__"] = signature
    return stand_in


def _own_signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a function itself, without the attributes that ``functools.wraps`` has set."""
    if isinstance(function, types.FunctionType):
        bare = types.FunctionType(
            function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
        )
        bare.__kwdefaults__, bare.__annotations__ = function.__kwdefaults__, function.__annotations__
        return inspect.signature(bare)
    call = getattr(type(function), "__call__", None)  # noqa: B004 - its type is needed, not whether it exists
    if isinstance(call, types.FunctionType):
        return called_signature(types.MethodType(call, function))
    return inspect.signature(function, follow_wrapped=False)


def _merged(own: inspect.Signature, wrapped: inspect.Signature, wrapper: Callable[..., Any]) -> inspect.Signature:
    """Return a wrapper's own parameters and, if it takes ``**kwargs``, those that it can pass on.

    Args:
        own: The signature of the wrapper itself.
        wrapped: The signature of the wrapped function.
        wrapper: The wrapper.
    """
    kinds = {each.kind for each in own.parameters.values()}
    takes_any_name = inspect.Parameter.VAR_KEYWORD in kinds
    if takes_any_name and inspect.Parameter.VAR_POSITIONAL in kinds and len(own.parameters) == 2:
        return wrapped
    hints = getattr(wrapper, "__annotations__", None)
    replaced = bool(hints) and hints == getattr(getattr(wrapper, "__wrapped__", None), "__annotations__", None)
    taken = [
        each.replace(annotation=HIDDEN)
        if replaced and each.annotation is each.default is each.empty and each.name not in wrapped.parameters
        else each
        for each in own.parameters.values()
    ]
    if not takes_any_name:
        return own.replace(parameters=taken)
    taken = [each for each in taken if each.kind not in {each.VAR_POSITIONAL, each.VAR_KEYWORD}]
    known = {each.name for each in taken}
    if taken and taken[0].kind is not inspect.Parameter.KEYWORD_ONLY and may_be_method(wrapper):
        known.update([*wrapped.parameters][:1])  # the object, which the wrapper may call by another name
    passed_on = [
        each.replace(kind=each.KEYWORD_ONLY) if each.kind is each.POSITIONAL_OR_KEYWORD else each
        for each in wrapped.parameters.values()
        if each.name not in known and each.kind is not each.VAR_POSITIONAL
    ]
    return own.replace(parameters=sorted([*taken, *passed_on], key=lambda each: each.kind))


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
