"""Misspelt names in an agent's configuration: a warning at the line that wrote them, and nothing lost."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from inferencesh import AgentConfig, AsyncInference, ConfigurationError, ConfigurationWarning, Inference, tool
from tests.faults.forms import KEY, chat, message
from tests.faults.script import Scenario
from tests.faults.server import FaultServer

Make = Callable[[Any], object]

CASES = [
    ({"nmae": "guide"}, "'nmae' .* did you mean 'name'?"),
    ({"instructions": "Help."}, "'instructions' .* did you mean 'system_prompt'?"),
    ({"prompt": "Help."}, "did you mean 'system_prompt'?"),
    ({"model": "a/b"}, "did you mean 'core_app', as in"),
    ({"output_type": "int"}, r"did you mean agent\.run\(\.\.\., output_type=\.\.\.\)"),
    ({"zzz": 1}, "known are context, core_app, core_app_ref, "),
    ({"core_app": {"reff": "a/b"}}, "'reff' is not a known name in 'core_app' .* did you mean 'ref'?"),
    ({"skills": [{"name": "a"}, {"contents": "b"}]}, "'contents' .* 'skills' .* 'content'"),
    ({"context": [{"name": "city", "requierd": True}]}, "'requierd' .* 'context' .* 'required'"),
    ({"context": {"city": "Paris"}}, r"client\.agent\(\.\.\., context=\.\.\.\)"),
    ({"tools": [{"nme": "search", "type": "app"}]}, "'nme' .* 'tools' .* 'name'"),
]


def ways(client: Any) -> list[Make]:
    """The ways to make an agent, each called from this file."""
    return [lambda config: client.agent(config), lambda config: client.agents.create(config)]


@pytest.mark.parametrize(("config", "says"), CASES, ids=[str(case[0]) for case in CASES])
async def test_a_misspelt_name_is_warned_of_where_it_was_written(config: Mapping[str, Any], says: str) -> None:
    """Once, with the nearest known name, by both clients and both ways to make an agent."""
    async with AsyncInference("inf_test") as client:
        with Inference("inf_test") as blocking:
            for make in [*ways(client), *ways(blocking)]:
                with pytest.warns(ConfigurationWarning, match=says) as caught:
                    make(config)
                assert [warning.filename for warning in caught] == [__file__]


def test_an_unknown_name_is_sent_all_the_same() -> None:
    """The service may know more than this package."""
    script = Scenario(streams=[(chat("working"), message("Hello", "ready"), chat("completed"))])
    with FaultServer(script) as server, Inference(KEY, base_url=server.url) as client:
        with pytest.warns(ConfigurationWarning):
            agent = client.agent({"novelty": {"of": 1}})
        agent.send_message("Hi")
        (request,) = server.seen("POST /agents/run")
        assert request.json["agent_config"] == {"novelty": {"of": 1}}


def test_known_names_are_no_reason_to_warn() -> None:
    """All of the protocol's, the flat form of the core app, and what the builders make."""

    @tool
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    config: AgentConfig = {
        "name": "guide",
        "description": "A guide.",
        "system_prompt": "Guide.",
        "example_prompts": ["Where?"],
        "core_app": {"ref": "a/b", "setup": {"any": 1}, "input": {"thing": 2}},
        "tools": [add, {"name": "search", "type": "app", "app": {"ref": "a/b"}}],
        "skills": [{"name": "walk", "description": "Walk.", "content": "Left, right.", "preload": True}],
        "context": [{"name": "city", "description": "Where.", "required": True, "default": "Paris", "in_prompt": True}],
        "internal_tools": {"plan": True},
        "permissions": {"allow_all_tools": True},
        "hooks": [],
        "output_schema": {"type": "object"},
    }
    flat: AgentConfig = {"core_app_ref": "a/b"}
    with Inference("inf_test") as client, warnings.catch_warnings():
        warnings.simplefilter("error")
        client.agent(config)
        client.agent(flat)
        client.agent({"name": "guide", "tools": [add]})
        client.agent("acme/support")


@pytest.mark.parametrize("context", [{"n": 5}, {"n": None}, {5: "n"}, [("n", "5")], "n"])
async def test_variables_that_are_no_texts_are_refused(context: Any) -> None:
    """Before anything is sent."""
    async with AsyncInference("inf_test") as client:
        with Inference("inf_test") as blocking:
            for make in (client.agent, client.agents.create, blocking.agent, blocking.agents.create):
                with pytest.raises(ConfigurationError, match="context"):
                    make("acme/support", context=context)


@pytest.mark.parametrize("timeout", [{"connect": 5}, [5], "5", True, 0, object()])
def test_time_limits_that_are_no_numbers_are_refused(timeout: Any) -> None:
    """Whatever they are."""
    with pytest.raises(ConfigurationError, match="timeout"):
        Inference("inf_test", timeout=timeout)
