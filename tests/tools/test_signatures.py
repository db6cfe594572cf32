"""Tools of decorated functions: what the wrapper that will be called takes is what the agent is asked for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from inferencesh import ConfigurationError, FunctionTool, Tool, ToolContext, string, tool

CONTEXT = ToolContext(chat_id="chat", call_id="call", tool_name="find")
Function = Callable[..., Any]


def find(a: int, db: object, unit: str = "m") -> str:
    """Find something."""
    return f"{a!r} {db!r} {unit!r}"


def explicit(function: Function) -> Function:
    """Inject an argument; what is left is in the wrapper's signature."""

    @functools.wraps(function)
    def inner(a: int) -> Any:
        return function(a, db="db")

    return inner


def explicit_with_default(function: Function) -> Function:
    """Give another default, too."""

    @functools.wraps(function)
    def inner(a: int = 7, *, unit: str = "km") -> Any:
        return function(a, db="db", unit=unit)

    return inner


def passing_on(function: Function) -> Function:
    """Take what there is."""

    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


def by_name(function: Function) -> Function:
    """Take everything by name."""

    @functools.wraps(function)
    def inner(**kwargs: Any) -> Any:
        return function(**kwargs)

    return inner


def first_explicit(function: Function) -> Function:
    """Take one argument, and pass on what there is besides."""

    @functools.wraps(function)
    def inner(a: int, *args: Any, **kwargs: Any) -> Any:
        return function(a + 1, *args, **kwargs)

    return inner


def signed(function: Function) -> Function:
    """Inject an argument behind the back of any signature but the one that is stated."""

    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, db="db", **kwargs)

    signature = inspect.signature(function)
    rest = [each for name, each in signature.parameters.items() if name != "db"]
    inner.__dict__["__signature__"] = signature.replace(parameters=rest)
    return inner


def asynchronous(function: Function) -> Function:
    """Inject an argument into a plain function, to be awaited."""

    @functools.wraps(function)
    async def inner(a: int) -> Any:
        return function(a, db="db")

    return inner


class Wrapper:
    """An object around a function."""

    def __init__(self, function: Function) -> None:
        functools.update_wrapper(self, function)
        self._function = function

    def __call__(self, a: int) -> Any:
        """Inject an argument."""
        return self._function(a, db="db")


def with_own_signature(function: Function) -> Function:
    """State the signature of a function, which functools.wraps copies to its wrappers."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    inner.__dict__["__signature__"] = signature
    return inner


CASES: list[tuple[Function, list[str], list[str], dict[str, Any], str]] = [
    (explicit(find), ["a"], ["a"], {"a": 1}, "1 'db' 'm'"),
    (explicit_with_default(find), ["a", "unit"], [], {}, "7 'db' 'km'"),
    (passing_on(find), ["a", "db", "unit"], ["a", "db"], {"a": 1, "db": 2}, "1 2 'm'"),
    (by_name(find), ["a", "db", "unit"], ["a", "db"], {"a": 1, "db": 2}, "1 2 'm'"),
    (first_explicit(find), ["a", "db", "unit"], ["a", "db"], {"a": 1, "db": 2}, "2 2 'm'"),
    (signed(find), ["a", "unit"], ["a"], {"a": 1, "unit": "cm"}, "1 'db' 'cm'"),
    (Wrapper(find), ["a"], ["a"], {"a": 1}, "1 'db' 'm'"),
    (passing_on(explicit(find)), ["a"], ["a"], {"a": 1}, "1 'db' 'm'"),
    (passing_on(signed(find)), ["a", "unit"], ["a"], {"a": 1}, "1 'db' 'm'"),
    (first_explicit(explicit(find)), ["a"], ["a"], {"a": 1}, "2 'db' 'm'"),
    (explicit(passing_on(find)), ["a"], ["a"], {"a": 1}, "1 'db' 'm'"),
    (explicit(with_own_signature(find)), ["a"], ["a"], {"a": 1}, "1 'db' 'm'"),
    (functools.partial(explicit_with_default(find), unit="mm"), ["a"], [], {"a": 1}, "1 'db' 'mm'"),
    (explicit(functools.partial(find, unit="mm")), ["a"], ["a"], {"a": 1}, "1 'db' 'mm'"),
    (functools.cache(explicit(find)), ["a"], ["a"], {"a": 1}, "1 'db' 'm'"),
]
NAMES = [str(number) for number in range(len(CASES))]


def run(built: Tool, arguments: dict[str, Any]) -> Any:
    """Call a tool as an agent does."""
    return built.bind(arguments, CONTEXT)()


@pytest.mark.parametrize(("function", "asked", "required", "given", "result"), CASES, ids=NAMES)
def test_a_typed_tool_asks_for_what_its_wrapper_takes(
    function: Function, asked: list[str], required: list[str], given: dict[str, Any], result: str
) -> None:
    """Names, defaults and all; hints are those that functools.wraps has left there."""
    built = tool("find")(function)
    schema = built["client"]["input_schema"]
    assert (list(schema["properties"]), schema["required"]) == (asked, required)
    assert schema["properties"]["a"]["type"] == "integer"
    assert run(built, given) == result


@pytest.mark.parametrize(("function", "asked", "required", "given", "result"), CASES, ids=NAMES)
def test_a_builders_handler_is_called_as_its_wrapper_takes_it(
    function: Function, asked: list[str], required: list[str], given: dict[str, Any], result: str
) -> None:
    """By the same rule."""
    builder = tool("find")
    for name in asked:
        builder = builder.param(name, string())
    assert run(builder.handler(function).build(), given) == result


def test_a_wrapper_of_a_function_that_does_not_tell_its_signature() -> None:
    """As some that are written in C."""

    @functools.wraps(max)
    def largest(a: int, b: int) -> int:
        return max(a, b)

    assert run(tool(largest), {"a": 1, "b": 2}) == 2


async def test_an_async_wrapper_of_a_plain_function() -> None:
    """It is awaited."""
    assert await run(tool(asynchronous(find)), {"a": 1}) == "1 'db' 'm'"


def explicit_method(function: Function) -> Function:
    """Inject an argument into a method."""

    @functools.wraps(function)
    def inner(self: Any, a: int) -> Any:
        return function(self, a, db="db")

    return inner


def passing_method(function: Function) -> Function:
    """Call the object something else."""

    @functools.wraps(function)
    def inner(thing: Any, *args: Any, **kwargs: Any) -> Any:
        return function(thing, *args, **kwargs)

    return inner


class Shop:
    """Methods with wrappers, one of which has another name for the object."""

    @tool
    @explicit_method
    def find(self, a: int, db: object) -> str:
        """Find something."""
        return f"{a} {db}"

    @tool
    @passing_method
    def look(self, a: int) -> str:
        """Look for something."""
        return f"looked for {a}"

    @tool
    @classmethod
    @passing_method
    def count(cls, a: int) -> str:
        """Count."""
        return f"{cls.__name__} {a}"


@pytest.mark.parametrize(
    ("built", "result"),
    [(Shop().find, "1 db"), (Shop().look, "looked for 1"), (Shop.count, "Shop 1")],
    ids=["explicit", "passing", "class"],
)
def test_wrappers_of_methods(built: FunctionTool[..., str], result: str) -> None:
    """The object is none of the agent's business."""
    assert list(built["client"]["input_schema"]["properties"]) == ["a"]
    assert run(built, {"a": 1}) == result


def test_the_context_of_a_wrapped_function_is_filled_in() -> None:
    """It is passed on like the rest."""

    @passing_on
    def where(a: int, context: ToolContext) -> str:
        return f"{a} {context.chat_id}"

    assert list(tool(where)["client"]["input_schema"]["properties"]) == ["a"]
    assert run(tool(where), {"a": 1}) == "1 chat"
    assert run(tool("where").param("a", string()).handler(where).build(), {"a": 1}) == "1 chat"


def test_the_context_that_a_wrapper_takes_is_filled_in() -> None:
    """Where functools.wraps has left its hints."""

    def inner(a: int, context: ToolContext) -> str:
        return find(a, context.chat_id)

    wrapper = functools.wraps(find, assigned=("__module__", "__name__", "__qualname__", "__doc__"))(inner)
    assert list(tool(wrapper)["client"]["input_schema"]["properties"]) == ["a"]
    assert run(tool(wrapper), {"a": 1}) == "1 'chat' 'm'"


def test_a_wrappers_parameter_whose_hint_is_lost_is_refused() -> None:
    """It could be the context, or anything: the error says whose it is and what to do."""

    @functools.wraps(find)
    def inner(a: int, context: ToolContext) -> str:
        return find(a, context.chat_id)

    with pytest.raises(ConfigurationError, match=r"'context' belongs to a wrapper of the function find.*__signature__"):
        tool(inner)


def test_a_wrapper_that_takes_nothing_by_name_is_refused() -> None:
    """The agent gives arguments by name."""

    @functools.wraps(find)
    def inner(*args: Any) -> Any:
        return find(*args)

    with pytest.raises(ConfigurationError, match=r"args.*\*\*kwargs"):
        tool(inner)
