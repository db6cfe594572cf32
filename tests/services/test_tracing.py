"""Traces: one connected trace for a turn with its tools, no content in it unless asked, and no cost without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from inferencesh.testing import ScriptedRuntime

KINDS = pytest.mark.parametrize("kind", ["sync", "async"])
CALLS = [("double", {"number": 21}), ("triple", {"number": 5})]


def run_program(*arguments: str, **environment: str) -> list[dict[str, Any]]:
    """The spans of a traced program, by name as far as names are unique."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.services.traced_program", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    spans: list[dict[str, Any]] = json.loads(done.stdout)
    return spans


def by_name(spans: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    assert len({span["name"] for span in spans}) == len(spans)
    return {span["name"]: span for span in spans}


@KINDS
def test_a_turn_with_two_tools_is_one_connected_trace(inference_runtime: ScriptedRuntime, kind: str) -> None:
    """request > invoke_agent > execute_tool > what the handlers do, through threads and loops."""
    inference_runtime.reply("Let me see. ", tool_calls=CALLS)
    inference_runtime.reply("It is 42 and 15.")
    spans = by_name(run_program(kind))
    assert {name: span["parent"] for name, span in spans.items()} == {
        "request": None,
        "invoke_agent mathematician": "request",
        "execute_tool double": "invoke_agent mathematician",
        "execute_tool triple": "invoke_agent mathematician",
        "inside double": "execute_tool double",
        "inside triple": "execute_tool triple",
    }
    assert len({span["trace"] for span in spans.values()}) == 1
    assert {span["status"] for span in spans.values()} == {"UNSET"}

    turn = spans["invoke_agent mathematician"]
    assert turn["kind"] == "CLIENT"
    chat_id = inference_runtime.tool_results[0].chat_id
    assert turn["attributes"] == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "inference.sh",
        "gen_ai.agent.name": "mathematician",
        "gen_ai.conversation.id": chat_id,
        "inferencesh.outcome": "finished",
    }
    ids = {sent.name: sent.call_id for sent in inference_runtime.tool_results}
    assert spans["execute_tool double"]["attributes"] == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "double",
        "gen_ai.tool.call.id": ids["double"],
        "gen_ai.tool.type": "function",
    }


@KINDS
def test_what_was_said_is_recorded_only_when_asked(inference_runtime: ScriptedRuntime, kind: str) -> None:
    """The switch that other instrumentations have turns it on."""
    for _ in range(2):
        inference_runtime.reply(tool_calls=CALLS[:1])
        inference_runtime.reply("It is 42.")
    silent = str(run_program(kind))
    assert not any(said in silent for said in ("What is it?", "It is 42.", "number"))

    spans = by_name(run_program(kind, OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="true"))
    turn = spans["invoke_agent mathematician"]["attributes"]
    assert json.loads(turn["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "What is it?"}]}
    ]
    assert json.loads(turn["gen_ai.output.messages"])[0]["parts"] == [{"type": "text", "content": "It is 42."}]
    call = spans["execute_tool double"]["attributes"]
    assert (call["gen_ai.tool.call.arguments"], call["gen_ai.tool.call.result"]) == ('{"number":21}', "42")


@KINDS
def test_a_failed_run_is_a_failed_span(inference_runtime: ScriptedRuntime, kind: str) -> None:
    """The kind of error is recorded; its text, which may hold what was said, is not."""
    inference_runtime.reply("Well", fail="the private detail")
    spans = by_name(run_program(kind))
    turn = spans["invoke_agent mathematician"]
    assert (turn["status"], turn["description"], turn["events"]) == ("ERROR", None, 0)
    assert turn["attributes"]["error.type"] == "RunFailedError"
    assert turn["attributes"]["inferencesh.outcome"] == "failed"
    assert "private" not in str(spans)


@KINDS
def test_a_message_that_is_refused_is_a_failed_span(inference_runtime: ScriptedRuntime, kind: str) -> None:
    """There is no chat then."""
    inference_runtime.reply(refuse=500)
    turn = by_name(run_program(kind))["invoke_agent mathematician"]
    assert (turn["status"], turn["attributes"]["error.type"]) == ("ERROR", "InternalServerError")


@KINDS
def test_a_handler_that_raises_fails_its_own_span_alone(inference_runtime: ScriptedRuntime, kind: str) -> None:
    """The turn goes on, as the agent is told of it."""
    inference_runtime.reply(tool_calls=[("double", {"number": -1})])
    inference_runtime.reply("Sorry.")
    spans = by_name(run_program(kind))
    call = spans["execute_tool double"]
    assert (call["status"], call["attributes"]["error.type"], call["events"]) == ("ERROR", "ValueError", 0)
    assert spans["invoke_agent mathematician"]["status"] == "UNSET"


@KINDS
def test_the_steps_of_a_generator_are_in_its_span(inference_runtime: ScriptedRuntime, kind: str) -> None:
    """Whichever threads make them."""
    inference_runtime.reply(tool_calls=[("count", {"number": 3})])
    inference_runtime.reply("Three.")
    spans = by_name(run_program(kind))
    assert spans["inside count"]["parent"] == "execute_tool count"
    assert spans["execute_tool count"]["parent"] == "invoke_agent mathematician"


@KINDS
def test_a_turn_that_is_left_ends_its_span(inference_runtime: ScriptedRuntime, kind: str) -> None:
    """What the browser did not wait for is in the trace all the same."""
    inference_runtime.reply(pieces=["One ", "two"], pause=30)
    turn = by_name(run_program(kind, "leave"))["invoke_agent mathematician"]
    assert (turn["status"], turn["attributes"]["inferencesh.outcome"]) == ("UNSET", "left")


@KINDS
def test_a_pause_ends_the_span(inference_runtime: ScriptedRuntime, kind: str) -> None:
    """Nothing runs while a person thinks; what follows the answer is another span."""
    inference_runtime.reply(tool_calls=[("ask", {})])
    turn = by_name(run_program(kind))["invoke_agent mathematician"]
    assert (turn["status"], turn["attributes"]["inferencesh.outcome"]) == ("UNSET", "paused")


@KINDS
def test_reading_the_output_is_part_of_no_other_turn(inference_runtime: ScriptedRuntime, kind: str) -> None:
    """One turn is one span, whatever is read once it has ended."""
    inference_runtime.reply("It is 42.")
    assert [span["name"] for span in run_program(kind, "run")] == ["invoke_agent mathematician", "request"]


def test_without_tracing_nothing_of_it_is_loaded() -> None:
    """Installed or not, OpenTelemetry is not imported by a turn."""
    program = (
        "import sys\n"
        "from inferencesh import Inference\n"
        "with Inference.local(pace=0) as client:\n"
        "    client.agent({}).send_message('Hi')\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
