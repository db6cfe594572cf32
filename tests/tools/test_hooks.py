"""Lifecycle hooks, internal tools and widget actions: their wire forms, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from inferencesh import (
    BuiltinHook,
    ConfigurationError,
    HookEvent,
    internal_tools,
    learning_hooks,
    lifecycle_hook,
    tool,
    widget_action,
)
from inferencesh._turns.conversation import AgentSetup

URL = "https://example.com/hook"
FOUR = ("plan", "memory", "widget", "finish")
FLAGS = (*FOUR, "skills", "meta", "artifact", "agent", "remote", "knowledge")


@pytest.mark.parametrize("flag", FLAGS)
def test_each_internal_tool_is_switched_by_itself(flag: str) -> None:
    """Tools that are not named are not sent."""
    assert getattr(internal_tools(), flag)().build() == {flag: True}
    assert getattr(internal_tools(), flag)(False).build() == {flag: False}


def test_internal_tools_together() -> None:
    """``all`` and ``none`` mean four of them, as in the official builders; later steps win."""
    assert internal_tools().build() == {}
    assert internal_tools().all().build() == dict.fromkeys(FOUR, True)
    assert internal_tools().none().build() == dict.fromkeys(FOUR, False)
    assert internal_tools().none().plan().skills().build() == {
        **dict.fromkeys(FOUR, False),
        "plan": True,
        "skills": True,
    }


def test_what_is_built_does_not_change_with_the_builder() -> None:
    """A builder can be used again without changing earlier results."""
    builder = internal_tools().plan()
    built = builder.build()
    builder.memory()
    assert built == {"plan": True}


def test_a_flag_is_true_or_false() -> None:
    """The error names the tools whose flag is something else."""
    with pytest.raises(ConfigurationError, match="plan"):
        internal_tools().plan("yes").build()  # type: ignore[arg-type]  # what is tested


HOOKS: list[tuple[Any, dict[str, Any]]] = [
    (
        lifecycle_hook("agent.start").webhook(URL),
        {"event": "agent.start", "type": "webhook", "handler": URL},
    ),
    (
        lifecycle_hook(HookEvent.TOOL_CALL).task("acme/guard@v1").async_().timeout(30),
        {"event": "agent.tool_call", "type": "task", "handler": "acme/guard@v1", "async": True, "timeout": 30},
    ),
    (
        lifecycle_hook("agent.turn_start").builtin(BuiltinHook.BELT_SUGGEST).async_(False),
        {"event": "agent.turn_start", "type": "builtin", "handler": "belt:suggest", "async": False},
    ),
]


@pytest.mark.parametrize(("builder", "wire"), HOOKS)
def test_hooks(builder: Any, wire: dict[str, Any]) -> None:
    """The wire form has what was given, as plain strings and numbers."""
    built = builder.build()
    assert built == wire
    assert {type(value) for value in built.values()} <= {str, bool, int}


def test_every_event_of_the_wire_has_a_name() -> None:
    """They are the events of the official SDKs."""
    names = "start turn_start tool_call tool_result turn_complete error complete idle pre_compact post_compact"
    assert {str(event) for event in HookEvent} == {f"agent.{name}" for name in names.split()}


def test_learning_hooks() -> None:
    """Each is registered for the events at which the service needs it."""
    suggest = {"event": "agent.turn_start", "type": "builtin", "handler": "belt:suggest"}
    learn = [
        {"event": event, "type": "builtin", "handler": "belt:extract"}
        for event in ("agent.complete", "agent.pre_compact")
    ]
    assert learning_hooks() == []
    assert learning_hooks(suggest=True) == [suggest]
    assert learning_hooks(learn=True) == learn
    assert learning_hooks(True, True) == [suggest, *learn]


@pytest.mark.parametrize(
    ("begin", "says"),
    [
        (lambda: lifecycle_hook("agent.born").webhook(URL), "agent.start"),
        (lambda: lifecycle_hook(None).webhook(URL), "no such event"),  # type: ignore[arg-type]  # what is tested
        (lambda: lifecycle_hook("agent.start"), "does nothing yet"),
        (lambda: lifecycle_hook("agent.start").webhook("nowhere"), "not an http or https URL"),
        (lambda: lifecycle_hook("agent.start").task("guard"), "namespace/name"),
        (lambda: lifecycle_hook("agent.start").builtin(""), "builtin"),
        (lambda: lifecycle_hook("agent.start").webhook(URL).timeout(0), "timeout"),
        (lambda: lifecycle_hook("agent.start").webhook(URL).timeout(1.5), "timeout"),  # type: ignore[arg-type]  # as above
        (lambda: lifecycle_hook("agent.start").webhook(URL).timeout(True), "timeout"),
    ],
)
def test_hooks_that_cannot_work_are_refused_at_build(begin: Callable[[], Any], says: str) -> None:
    """The error says what would work."""
    builder = begin()
    with pytest.raises(ConfigurationError, match=says):
        builder.build()


# -- in an agent's configuration


def test_an_agent_takes_what_was_built_and_plain_mappings() -> None:
    """They are sent as they are."""
    hook = lifecycle_hook("agent.start").webhook(URL).build()
    other = {"event": "agent.idle", "type": "gate", "default_resolution": "deny"}
    config = AgentSetup.read({"internal_tools": internal_tools().plan().build(), "hooks": (hook, other)})
    assert config.body["agent_config"] == {"internal_tools": {"plan": True}, "hooks": [hook, other]}
    assert AgentSetup.read({"internal_tools": {"plan": False}}).body["agent_config"] == {
        "internal_tools": {"plan": False}
    }


@pytest.mark.parametrize(
    "config",
    [
        {"internal_tools": internal_tools().plan()},
        {"hooks": [lifecycle_hook("agent.start").webhook(URL)]},
        {"hooks": lifecycle_hook("agent.start").webhook(URL)},
        {"tools": tool("t")},
    ],
)
def test_what_is_not_built_yet_is_named(config: dict[str, Any]) -> None:
    """The error says to call ``build()``, wherever the builder is."""
    with pytest.raises(ConfigurationError, match=r"\.build\(\)"):
        AgentSetup.read(config)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"hooks": [learning_hooks(suggest=True)]}, r"added with \*"),
        ({"hooks": 5}, "hooks must be a list"),
        ({"hooks": ["agent.start"]}, "a hook must be"),
        ({"internal_tools": True}, "internal_tools must be"),
        ({"tools": [5]}, "a tool must be a function"),
        ({"tools": [print]}, "the function print takes any number of arguments"),
    ],
)
def test_what_is_none_of_it_is_refused(config: dict[str, Any], says: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigurationError, match=says):
        AgentSetup.read(config)


# -- widgets


def test_widget_actions() -> None:
    """The form that the official Python SDK takes; what was not given is not there."""
    assert widget_action("submit") == {"action": {"type": "submit"}}
    assert widget_action("pick", {"id": 3}, {"name": "Ann"}) == {
        "action": {"type": "pick", "payload": {"id": 3}},
        "form_data": {"name": "Ann"},
    }
    assert widget_action("submit", form_data={}) == {"action": {"type": "submit"}, "form_data": {}}


@pytest.mark.parametrize(
    "given", [("",), (None,), ("a", "x"), ("a", None, ["x"]), ("a", {"x": object()}), ("a", None, {"x": object()})]
)
def test_widget_actions_that_cannot_be_sent(given: tuple[Any, ...]) -> None:
    """They are refused where they are made."""
    with pytest.raises(ConfigurationError, match="widget"):
        widget_action(*given)
