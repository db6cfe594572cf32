"""The ways to make an agent: by name, by a mapping, by keywords, and with plain functions as tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from inferencesh import ConfigurationError, Tool, app_tool, string, tool
from inferencesh.local import ToolCall as Calls
from tests.faults.forms import CALL, CHAT, KEY, call_of, chat, message
from tests.faults.script import Scenario, after
from tests.faults.server import FaultServer
from tests.support import Kind

from .conftest import Connect, Serve
from .sides import make_side
from .test_tool_handlers import results


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


async def slowly(a: int) -> str:
    """Answer with a number."""
    return f"slowly {a}"


@tool
def decorated(a: int) -> str:
    """Answer with a number."""
    return f"decorated {a}"


class Shop:
    """Something with methods."""

    def price(self, item: str) -> float:
        """Tell the price of an item."""
        return float(len(item))

    @tool
    async def stock(self, item: str) -> int:
        """Tell how many there are."""
        return len(item)

    @staticmethod
    def clean(item: str) -> str:
        """Clean an item."""
        return item


class Doubler:
    """Something that can be called."""

    __name__ = "double"

    def __call__(self, a: int) -> int:
        """Double a number."""
        return 2 * a


BUILT = tool("built").param("a", string("A text")).handler(lambda a: f"built {a}").build()
SHOP = Shop()
TOOLS: list[Any] = [
    *(add, slowly, decorated, SHOP.price, SHOP.stock, Shop.clean, Doubler(), BUILT),
    app_tool("draw", "acme/painter").build(),
]
CALLS: list[tuple[str, dict[str, Any], str]] = [
    ("add", {"a": 3}, "4"),
    ("slowly", {"a": 3}, "slowly 3"),
    ("decorated", {"a": 3}, "decorated 3"),
    ("price", {"item": "tea"}, "3.0"),
    ("stock", {"item": "tea"}, "3"),
    ("clean", {"item": "tea"}, "tea"),
    ("double", {"a": 3}, "6"),
    ("built", {"a": "x"}, "built x"),
]


@pytest.mark.parametrize(("name", "arguments", "result"), CALLS)
def test_functions_of_every_kind_are_tools(
    serve: Serve, connect: Connect, name: str, arguments: dict[str, Any], result: str
) -> None:
    """Decorated or not, sync and async, methods and objects, in one list."""
    served = serve([Calls(name, arguments)], ["done"])
    side = connect(served)
    agent = side.agent({"name": "helper", "tools": TOOLS})
    assert side.result(agent.send_message("Go")).text == "done"
    assert results(served) == [result]


def test_a_function_is_described_and_checked_as_by_tool(serve: Serve, connect: Connect) -> None:
    """Its docstring and hints reach the agent, and arguments that do not fit are refused."""
    served = serve([Calls("add", {"a": "three"})], ["done"])
    side = connect(served)
    side.result(side.client.agent(tools=[add]).send_message("Go"))
    (offered,) = served.script.asked[0].tools
    assert (offered.name, offered.description) == ("add", "Add two numbers.")
    assert dict(offered.input_schema) == tool(add)["client"]["input_schema"]
    assert "a: " in str(results(served))


def test_hints_may_name_what_is_local(connect: Connect, serve: Serve) -> None:
    """A function defined next to the agent, with a class defined there."""
    import attrs

    @attrs.frozen
    class Place:
        city: str

    def visit(place: Place) -> str:
        return place.city

    served = serve([Calls("visit", {"place": {"city": "Paris"}})], ["done"])
    side = connect(served)
    side.result(side.client.agents.create(tools=[visit]).send_message("Go"))
    assert results(served) == ["Paris"]


def test_what_was_given_is_not_changed(connect: Connect, serve: Serve) -> None:
    """Neither the list nor the mapping; it can be given again."""
    tools, side = [add, decorated], connect(serve(["done"]))
    config = {"name": "helper", "tools": tools}
    for _ in range(2):
        side.result(side.agent(config).send_message("Go"))
    assert config == {"name": "helper", "tools": tools}
    assert [each is given for each, given in zip(tools, [add, decorated], strict=True)] == [True, True]


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (Shop.price, "a method without its object: take the tool of an object, as in shop.price"),
        (lambda a: a, r"has no name for an agent to call it by: write tool\('name'\)\(function\)"),
        (Shop, "a tool is made of a function, not of <class"),
        (5, "a tool must be a function, what tool"),
    ],
)
def test_what_is_no_function_is_refused(kind: Kind, item: Any, says: str) -> None:
    """With a sentence that says what to give."""
    with make_side(kind, api_key=KEY) as side, pytest.raises(ConfigurationError, match=says):
        side.client.agent(tools=[item])


# -- by keyword


def bodies(kind: Kind, *args: Any, **options: Any) -> Mapping[str, Any]:
    """The body of the message that such an agent posts."""
    with FaultServer(Scenario(streams=[(chat("working"), message("Hi", "ready"), chat("completed"))])) as server:
        with make_side(kind, api_key=KEY, base_url=server.url) as side:
            side.result(side.client.agent(*args, **options).send_message("Hi"))
        (request,) = server.seen("POST /agents/run")
        body: Mapping[str, Any] = request.json
    return {name: value for name, value in body.items() if name != "input"}


def test_keywords_are_the_names_of_the_configuration(kind: Kind) -> None:
    """The same is sent as for a mapping with those names, and both can be given together."""
    config = {"name": "guide", "system_prompt": "Be brief.", "tools": [add]}
    sent = bodies(kind, config)
    assert sent["agent_config"]["tools"][0]["name"] == "add"
    assert bodies(kind, **config) == sent
    assert bodies(kind, {"name": "guide", "tools": [add]}, system_prompt="Be brief.") == sent
    assert bodies(kind, {"name": "guide"}, context={"a": "b"})["context"] == {"a": "b"}


def test_a_stored_agent_is_given_handlers_only(kind: Kind) -> None:
    """It has its tools at the service: nothing of them is sent."""
    assert bodies(kind, "acme/guide", tools=[add, BUILT]) == bodies(kind, "acme/guide")
    assert bodies(kind, "acme/guide")["agent"] == "acme/guide"


def test_the_handlers_of_a_stored_agent_answer_its_calls(kind: Kind) -> None:
    """As if the agent was described here."""
    posted = f"POST /tools/{CALL}"
    waiting = message("Let me see.", calls=[call_of(name="add", arguments={"a": 3})])
    lines = (chat("working"), waiting, after(posted), message("Let me see. 4", "ready"), chat("completed"))
    with FaultServer(Scenario(streams=[lines])) as server, make_side(kind, api_key=KEY, base_url=server.url) as side:
        side.result(side.client.agent("acme/guide", tools=[add]).send_message("Hi"))
        assert [each.json["result"] for each in server.seen(posted)] == ["4"]


def test_a_chat_is_taken_up_without_a_configuration(kind: Kind) -> None:
    """Its agent is known to the service."""
    with make_side(kind, api_key=KEY) as side:
        assert side.client.agent(chat_id=CHAT).chat_id == CHAT


@pytest.mark.parametrize(
    ("config", "fields", "error", "says"),
    [
        (None, {}, ConfigurationError, r"agent\('namespace/name'\), agent\(name=..., system_prompt=...\)"),
        ({"name": "a"}, {"name": "b"}, ConfigurationError, "'name' is given twice"),
        ("a/b", {"system_prompt": "x"}, ConfigurationError, "'system_prompt' cannot be given for 'a/b'"),
        ("a/b", {"tools": [tool("t").build()]}, ConfigurationError, "the tool 't' has no handler"),
        ("a/b", {"tools": [{"name": "t"}]}, ConfigurationError, "the tool 't' has no handler"),
        ("a/b", {"tools": [add, add]}, ConfigurationError, "two of the tools have the same name"),
        (None, {"tools": [add, add]}, ConfigurationError, "two tools have the name 'add'"),
        (None, {"tools": add}, ConfigurationError, "tools must be a list"),
        (None, {"instructions": "x"}, TypeError, r"no argument 'instructions': did you mean 'system_prompt'\?"),
        (None, {"nmae": "x"}, TypeError, r"no argument 'nmae': did you mean 'name'\? .* in a mapping"),
        (None, {"name": "x", "context": [{"name": "city"}]}, ConfigurationError, r"agent\({'context': \[...\]}\)"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    kind: Kind, config: Any, fields: dict[str, Any], error: type[Exception], says: str
) -> None:
    """Before anything is sent, with what to write instead."""
    with make_side(kind, api_key=KEY) as side:
        for make in (side.client.agent, side.client.agents.create):
            with pytest.raises(error, match=says):
                make(config, **fields)


def test_tools_that_are_made_of_functions_are_tools(kind: Kind) -> None:
    """The agent's own, not the caller's objects."""
    assert isinstance(decorated, Tool)
    assert not isinstance(add, Tool)
