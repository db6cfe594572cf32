"""Tools with a handler run by themselves, in both clients, however the handler is written and whatever it does."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import pytest

from inferencesh import ConfigurationError, Tool, array, integer, number, obj, optional, string, tool
from inferencesh.local import ToolCall as Calls
from tests.support import Gate, Served, warnings_of

from .conftest import Connect, Serve
from .sides import Side
from .styles import STYLES, styled

CALL = Calls("calculator", {"expression": "6*7"})


def calculator(handler: Callable[..., Any]) -> Tool:
    """A tool with one parameter and this handler."""
    return tool("calculator").param("expression", string()).handler(handler).build()


def agent_with(*tools: Tool) -> dict[str, Any]:
    """An agent's configuration."""
    return {"name": "tester", "tools": list(tools)}


def results(served: Served) -> list[str]:
    """What the model was told that its tools returned, in the order of the calls."""
    return [message.text for message in served.script.asked[-1].messages if message.role == "tool"]


def ask(serve: Serve, connect: Connect, handler: Callable[..., Any], call: Calls = CALL, **options: Any) -> str:
    """Let a handler run for one call; returns the result that the model was told."""
    served = serve([call], ["done"])
    side = connect(served, **options)
    agent = side.agent(agent_with(calculator(handler)))
    assert side.result(agent.send_message("6*7?")).text == "done"
    (result,) = results(served)
    return result


# -- how a handler is called -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
def test_a_handler_may_be_written_in_any_way(serve: Serve, connect: Connect, style: str) -> None:
    """Sync or async, function or object: it is called with its arguments, and its result goes to the model."""
    assert ask(serve, connect, styled(style, lambda given: f"{given['expression']}=42")) == "6*7=42"


class Shop:
    """Something with a method for a handler."""

    def find(self, arguments: Mapping[str, Any]) -> str:
        """Take all arguments as one mapping."""
        return ",".join(f"{name}={value}" for name, value in arguments.items())


def by_name(item: str, amount: int) -> str:
    """Take the arguments by their names."""
    return f"item={item},amount={amount}"


def by_name_with_defaults(item: str, *, amount: int = 1, color: str = "red") -> str:
    """Take by name what there is."""
    return f"item={item},amount={amount}"


def by_whatever_name(**arguments: object) -> str:
    """Take all names there are."""
    return Shop().find(arguments)


def as_a_mapping(arguments: Mapping[str, Any]) -> str:
    """Take all arguments as one mapping, as in the documentation's examples."""
    return Shop().find(arguments)


@pytest.mark.parametrize(
    "handler",
    [by_name, by_name_with_defaults, by_whatever_name, as_a_mapping, Shop().find],
    ids=lambda handler: getattr(handler, "__qualname__", ""),
)
def test_a_handler_takes_a_mapping_or_names(serve: Serve, connect: Connect, handler: Callable[..., Any]) -> None:
    """Its signature tells which of the two."""
    served = serve([Calls("shop", {"item": "tea", "amount": 3})], ["done"])
    side = connect(served)
    shop = tool("shop").param("item", string()).param("amount", integer()).handler(handler).build()
    side.result(side.agent(agent_with(shop)).send_message("Tea"))
    assert results(served) == ["item=tea,amount=3"]


def test_a_single_parameter_with_the_arguments_name_gets_its_value(serve: Serve, connect: Connect) -> None:
    """A handler of one parameter that is called like the tool's takes the value, not a mapping of one."""
    assert ask(serve, connect, lambda expression: expression) == "6*7"
    assert json.loads(ask(serve, connect, lambda arguments: arguments)) == {"expression": "6*7"}


def test_arguments_arrive_with_their_types(serve: Serve, connect: Connect) -> None:
    """Nested values are what JSON says they are."""
    given = {"items": [{"name": "tea", "price": 2.5}], "count": 3}
    seen: list[object] = []
    schema = array(obj({"name": string(), "price": optional(number())}))
    basket = tool("basket").param("items", schema).param("count", integer()).handler(seen.append).build()
    served = serve([Calls("basket", given)], ["done"])
    side = connect(served)
    side.result(side.agent(agent_with(basket)).send_message("Buy"))
    assert seen == [given]


# -- what it returns ---------------------------------------------------------------------------------------------------


@attrs.frozen
class Point:
    """A result of an own type."""

    x: int
    y: int


RESULTS = [
    ("text as it is", "text as it is"),
    ("", ""),
    (42, "42"),
    (2.5, "2.5"),
    (True, "true"),
    (None, "null"),
    ({"a": [1, 2]}, '{"a":[1,2]}'),
    ([1, "two"], '[1,"two"]'),
    (Point(1, 2), '{"x":1,"y":2}'),
    ("\u2028 é 🌍", "\u2028 é 🌍"),
]


@pytest.mark.parametrize(("returned", "told"), RESULTS, ids=lambda value: repr(value)[:20])
def test_text_is_sent_as_it_is_and_the_rest_as_json(
    serve: Serve, connect: Connect, returned: object, told: str
) -> None:
    """Whatever has a JSON form can be returned."""
    assert ask(serve, connect, lambda _given: returned) == told


@pytest.mark.parametrize(
    "returned",
    [object(), {"a": object()}, {1, object()}, {"mean": float("nan")}, {object(): "key"}],
    ids=["object", "inside", "in a set", "NaN", "an object as key"],
)
def test_a_result_without_a_json_form_is_told_to_the_agent(serve: Serve, connect: Connect, returned: object) -> None:
    """The turn goes on; the model learns that its tool failed, and why."""
    error = json.loads(ask(serve, connect, lambda _given: returned))["error"]
    assert "no JSON form" in error


@pytest.mark.parametrize("fails", [False, True], ids=["returned", "raised"])
def test_text_that_utf_8_cannot_carry_does_not_end_the_turn(serve: Serve, connect: Connect, fails: bool) -> None:
    """Names of files may hold half a surrogate pair; the agent gets an answer all the same."""

    def handle(expression: str) -> str:
        if fails:
            raise FileNotFoundError("caf\udce9.txt")
        return "caf\udce9.txt"

    assert "caf" in ask(serve, connect, handle)


# -- what it does wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
def test_a_handler_that_raises_answers_the_agent(
    serve: Serve, connect: Connect, style: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With the error's text instead of ending the turn; the exception is logged with its traceback."""

    def fail(arguments: Mapping[str, Any]) -> str:
        raise ValueError("not today")

    told = ask(serve, connect, styled(style, fail))
    assert json.loads(told) == {"error": "ValueError: not today"}
    (record,) = warnings_of(caplog)
    assert record.name == "inferencesh"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)


def test_arguments_that_do_not_fit_are_told_to_the_agent(serve: Serve, connect: Connect) -> None:
    """A model makes mistakes; it is told which, and the handler does not run."""
    ran: list[object] = []
    told = ask(serve, connect, lambda expression, base: ran.append((expression, base)))
    assert "missing a required argument: 'base'" in json.loads(told)["error"]
    assert ran == []


def test_a_handler_that_takes_too_long_is_given_up(serve: Serve, connect: Connect) -> None:
    """After tool_timeout the agent is told so; an async handler is cancelled."""
    cancelled: list[bool] = []

    async def endless(expression: str) -> str:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.append(True)
        raise AssertionError

    told = ask(serve, connect, endless, tool_timeout=0.05)
    assert json.loads(told) == {"error": "the tool took longer than 0.05 seconds"}
    assert cancelled == [True]


def test_a_handlers_own_timeout_is_an_error_like_any_other(serve: Serve, connect: Connect) -> None:
    """A TimeoutError of its own is not taken for the limit."""

    async def impatient(expression: str) -> str:
        raise TimeoutError("the shop does not answer")

    told = ask(serve, connect, impatient, tool_timeout=5)
    assert json.loads(told) == {"error": "TimeoutError: the shop does not answer"}


def test_the_time_a_handler_waits_for_its_turn_is_not_its_own(serve: Serve, connect: Connect) -> None:
    """tool_timeout counts from the handler's start: what another one takes is no fault of it."""
    served = serve([Calls("slow", {}), Calls("quick", {})], ["done"])
    side = connect(served, tool_timeout=0.1, max_parallel_tools=1)
    is_late = threading.Event()
    slow = tool("slow").handler(lambda: str(is_late.wait(0.3))).build()
    quick = tool("quick").handler(lambda: "quick").build()
    side.result(side.agent(agent_with(slow, quick)).send_message("Go"))
    assert "longer than 0.1 seconds" in results(served)[0]
    assert results(served)[1] == "quick"


@pytest.mark.parametrize("limit", [0, -1, float("nan"), "5", True])
def test_a_limit_that_cannot_work_is_refused(serve: Serve, connect: Connect, limit: object) -> None:
    """When the client is made, not when the first tool runs."""
    with pytest.raises(ConfigurationError, match="tool_timeout"):
        connect(serve(), tool_timeout=limit)


# -- several at once ---------------------------------------------------------------------------------------------------


def several(served: Served, side: Side, handler: Callable[..., Any]) -> None:
    """One turn in which the handler is called with 0, 1, 2 and 3."""
    worker = tool("worker").param("n", integer()).handler(handler).build()
    assert side.result(side.agent(agent_with(worker)).send_message("Go")).text == "done"
    assert results(served) == ["0", "1", "2", "3"]


FOUR = [Calls("worker", {"n": n}) for n in range(4)]


def test_async_handlers_run_at_once(serve: Serve, connect: Connect) -> None:
    """All four stand at one barrier, which none could pass alone; results belong to their calls."""
    served = serve(FOUR, ["done"])
    barriers: list[asyncio.Barrier] = []

    async def handle(n: int) -> int:
        if not barriers:
            barriers.append(asyncio.Barrier(4))
        async with asyncio.timeout(5):
            await barriers[0].wait()
        return n

    several(served, connect(served), handle)


def test_max_parallel_tools_limits_how_many_run(serve: Serve, connect: Connect) -> None:
    """Two at a time: a pair passes the barrier together, and never a third runs beside it."""
    served = serve(FOUR, ["done"])
    barriers: list[asyncio.Barrier] = []
    running = most = 0

    async def handle(n: int) -> int:
        nonlocal running, most
        if not barriers:
            barriers.append(asyncio.Barrier(2))
        running += 1
        most = max(most, running)
        async with asyncio.timeout(5):
            await barriers[0].wait()
        running -= 1
        return n

    several(served, connect(served, max_parallel_tools=2), handle)
    assert most == 2


def test_an_unfinished_handler_does_not_hold_up_another(serve: Serve, connect: Connect) -> None:
    """The second call's result is posted while the first handler still runs."""
    gate = Gate()
    served = serve([Calls("slow", {}), Calls("quick", {})], ["done"])
    side = connect(served)

    async def wait_for_the_other() -> str:
        await gate.passed()
        return "slow"

    async def let_the_other_go() -> str:
        gate.open()
        return "quick"

    tools = [tool("slow").handler(wait_for_the_other).build(), tool("quick").handler(let_the_other_go).build()]
    side.result(side.agent(agent_with(*tools)).send_message("Go"))
    assert results(served) == ["slow", "quick"]


def test_tools_may_follow_one_another(serve: Serve, connect: Connect) -> None:
    """The model calls a tool again after it has got a result; the turn ends with its last words."""
    served = serve(["First. ", CALL], ["Then. ", CALL], ["Done."])
    side = connect(served)
    agent = side.agent(agent_with(calculator(lambda _given: "42")))
    snapshots = side.snapshots(agent.send_message("6*7?", stream=True))
    ends = {snapshot.id: snapshot.text for snapshot in snapshots}
    assert list(ends.values()) == ["First. ", "Then. ", "Done."]
    assert len(served.script.asked) == 3


def test_snapshots_show_the_calls_that_wait(serve: Serve, connect: Connect) -> None:
    """With name, decoded arguments, and the id that a result is submitted for."""
    served = serve(["Let me see.", CALL], ["done"])
    side = connect(served)
    agent = side.agent(agent_with(calculator(lambda _given: "42")))
    snapshots = side.snapshots(agent.send_message("6*7?", stream=True))
    (call,) = next(snapshot.pending_tool_calls for snapshot in snapshots if snapshot.pending_tool_calls)
    assert (call.name, call.arguments, call.type) == ("calculator", {"expression": "6*7"}, "client")
    assert call.id
