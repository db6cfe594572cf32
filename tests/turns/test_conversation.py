"""What ``client.agent(...)`` is given."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest

from inferencesh._http.api import ChatAPI
from inferencesh._protocol.turn import Turn
from inferencesh._turns.conversation import AgentSetup, Conversation
from inferencesh.errors import ConfigurationError
from inferencesh.tools import string, tool


@pytest.mark.parametrize("name", ["okaris/poet", "okaris/poet@7jnx8hn0", "okaris/poet@latest", "a-b.c/d_e"])
def test_a_name_is_sent_as_it_is(name: str) -> None:
    """An agent stored at the service."""
    assert AgentSetup.read(name) == AgentSetup({"agent": name}, {})


@pytest.mark.parametrize("name", ["", "poet", "/poet", "okaris/", "a/b/c", "a/b@", "a /b", "a/b\n", "a/b@c@d"])
def test_what_is_no_name_is_refused(name: str) -> None:
    """The error says what one looks like."""
    with pytest.raises(ConfigurationError, match="namespace/name"):
        AgentSetup.read(name)


def test_a_description_is_sent_with_its_name_and_the_tools_stay_here() -> None:
    """Only schemas go over the wire; handlers stay in the process."""
    calculator = tool("calculator").param("expression", string()).handler(lambda expression: expression).build()
    plain = {"name": "search", "type": "app", "app": {"ref": "okaris/search"}}
    config = AgentSetup.read({"name": "helper", "system_prompt": "Help.", "tools": [calculator, plain]})
    assert config.body == {
        "agent_config": {"name": "helper", "system_prompt": "Help.", "tools": [dict(calculator), plain]},
        "agent_name": "helper",
    }
    assert config.tools == {"calculator": calculator}
    assert config.tools["calculator"] is calculator
    json.dumps(config.body)


def test_a_description_without_name_and_tools_is_fine() -> None:
    """Nothing is added to it."""
    assert AgentSetup.read({}) == AgentSetup({"agent_config": {}, "agent_name": None}, {})
    assert AgentSetup.read({"tools": None}).body["agent_config"]["tools"] == []
    assert AgentSetup.read({"tools": ()}).body["agent_config"]["tools"] == []


def test_what_the_caller_changes_later_is_not_sent() -> None:
    """The configuration is taken when the agent is made."""
    given: dict[str, Any] = {"core_app": {"ref": "a/b"}, "tools": [{"name": "x", "app": {"ref": "c/d"}}]}
    config = AgentSetup.read(given)
    given["core_app"]["ref"] = "changed"
    given["tools"][0]["app"]["ref"] = "changed"
    given["tools"].append({"name": "added"})
    assert "changed" not in json.dumps(config.body)
    assert "added" not in json.dumps(config.body)


@pytest.mark.parametrize("config", [None, 5, ["okaris/poet"], object()])
def test_anything_else_is_refused(config: Any) -> None:
    """The error says what is wanted."""
    with pytest.raises(ConfigurationError, match=r"an agent (must be a mapping|needs a name or a configuration)"):
        AgentSetup.read(config)


def test_a_tool_that_is_not_built_is_named_as_such() -> None:
    """A forgotten ``.build()`` is the likeliest mistake."""
    with pytest.raises(ConfigurationError, match=r"\.build\(\)"):
        AgentSetup.read({"tools": [tool("calculator")]})


@pytest.mark.parametrize("tools", ["calculator", [5], [None], 5, {"name": "calculator"}])
def test_tools_are_a_list_of_tools(tools: Any) -> None:
    """Anything else is refused before anything is sent."""
    with pytest.raises(ConfigurationError, match="tool"):
        AgentSetup.read({"tools": tools})


def test_two_tools_of_one_name_are_refused() -> None:
    """A call could not be told to belong to either."""
    first, second = tool("calculator").build(), tool("calculator").build()
    app = {"name": "calculator", "type": "app", "app": {"ref": "okaris/calculator"}}
    for tools in ([first, second], [first, first], [first, dict(second)], [app, first], [app, app]):
        with pytest.raises(ConfigurationError, match="two tools have the name 'calculator'"):
            AgentSetup.read({"tools": tools})


@pytest.mark.parametrize("value", [object(), {"inner": object()}, [lambda: None]])
def test_what_has_no_json_form_is_refused(value: Any) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigurationError, match="JSON"):
        AgentSetup.read({"core_app": {"setup": value}})


def test_a_message_that_waited_through_a_reset_belongs_to_the_chat_that_it_follows() -> None:
    """The chat that was begun meanwhile is the present one, so that the message's turn becomes its latest."""

    async def wait_through_a_reset() -> bool:
        conversation = Conversation(cast("ChatAPI", None), AgentSetup({}, {}), None, None)

        async def send() -> bool:
            async with conversation.sending() as is_current:
                assert conversation.chat_id == "chat2"
                return is_current()

        async with conversation.sending():
            waiting = asyncio.create_task(send())
            await asyncio.sleep(0)
            conversation.reset()
            async with conversation.sending():
                conversation.begin_turn(Turn("chat2"))
        return await waiting

    assert asyncio.run(wait_through_a_reset())
