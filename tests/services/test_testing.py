"""``inferencesh.testing``: scripted replies, recorded requests, and failures for unscripted steps."""

from __future__ import annotations

import datetime
import json
import logging
import os
import time
import urllib.request
from http.client import IncompleteRead

import attrs
import pytest

from inferencesh import (
    APIError,
    AsyncInference,
    Inference,
    NotFoundError,
    OutputError,
    RunFailedError,
    integer,
    string,
    tool,
)
from inferencesh.testing import ScriptedRuntime, SentResult
from tests.support import eventually, wait_until

pytest_plugins = ["pytester"]

add = (
    tool("add")
    .describe("Add two numbers")
    .param("a", integer("One"))
    .param("b", integer("Other"))
    .handler(lambda a, b: a + b)
    .build()
)
ask = tool("ask").describe("Ask a person").param("question", string("Question")).build()


def test_replies_come_in_the_order_in_which_they_were_scripted(
    inference_runtime: ScriptedRuntime, inference_client: Inference
) -> None:
    """Each message gets the next reply."""
    inference_runtime.reply("Hello there!")
    inference_runtime.reply("Goodbye.")
    agent = inference_client.agent({"name": "greeter"})
    assert agent.send_message("Hi").text == "Hello there!"
    assert agent.send_message("Bye").text == "Goodbye."


async def test_the_async_client_talks_to_the_same_runtime(
    inference_runtime: ScriptedRuntime, async_inference_client: AsyncInference
) -> None:
    """async_inference_client is of the same runtime, and closed after the test."""
    inference_runtime.reply("Hello there!")
    message = await async_inference_client.agent({}).send_message("Hi")
    assert message.text == "Hello there!"
    assert [request.text for request in inference_runtime.requests] == ["Hi"]


def test_each_piece_is_a_snapshot(inference_runtime: ScriptedRuntime, inference_client: Inference) -> None:
    """With pieces= a reader sees the text grow by exactly these."""
    pieces = ["Hel", "lo", " there", "!"]
    inference_runtime.reply(pieces=pieces)
    growing = [m.delta for m in inference_client.agent({}).send_message("Hi", stream=True) if not m.done and m.delta]
    assert growing == pieces


def test_delay_and_pause_take_their_time(inference_runtime: ScriptedRuntime, inference_client: Inference) -> None:
    """delay is the time before the first piece, pause the time between two."""
    inference_runtime.reply(pieces=["one ", "two ", "three"], delay=0.2, pause=0.1)
    started = time.monotonic()
    times = [time.monotonic() - started for _ in inference_client.agent({}).send_message("Hi", stream=True)]
    assert times[0] >= 0.2
    assert times[-1] >= 0.4


def test_tool_calls_are_made_and_their_results_remembered(
    inference_runtime: ScriptedRuntime, inference_client: Inference
) -> None:
    """A scripted call runs the program's handler, and the next reply follows its result."""
    inference_runtime.reply("Let me see. ", tool_calls=[("add", {"a": 2, "b": 3}), {"name": "ask", "arguments": {}}])
    inference_runtime.reply("It is 5.")
    agent = inference_client.agent({"tools": [add, ask]})
    paused = agent.send_message("What is 2 + 3?")
    (question,) = paused.pending_tool_calls
    agent.submit_tool_result(question.id, {"colour": "blue"})
    first, second = inference_runtime.tool_results
    assert (first.name, first.arguments, first.result) == ("add", {"a": 2, "b": 3}, "5")
    assert second == SentResult("ask", {}, '{"colour":"blue"}', question.id, str(agent.chat_id))
    assert agent.wait().text == "It is 5."


def test_what_was_sent_is_there_for_assertions(inference_runtime: ScriptedRuntime, inference_client: Inference) -> None:
    """requests has each message with its chat, agent and context; None stands for a new chat."""
    inference_runtime.reply("One")
    inference_runtime.reply("Two")
    agent = inference_client.agent("shop/helper@v2", context={"user": "ada"})
    agent.send_message("First")
    agent.send_message("Second")
    first, second = inference_runtime.requests
    assert (first.text, first.chat_id) == ("First", None)
    assert (first.body["agent"], first.body["context"]) == ("shop/helper@v2", {"user": "ada"})
    assert (second.text, second.chat_id) == ("Second", agent.chat_id)


def test_a_run_fails_as_scripted(inference_runtime: ScriptedRuntime, inference_client: Inference) -> None:
    """fail= ends the run after the text, with this detail."""
    inference_runtime.reply("I was about to", fail="out of credit")
    with pytest.raises(RunFailedError, match="out of credit") as failure:
        inference_client.agent({}).send_message("Hi")
    assert failure.value.message is not None
    assert failure.value.message.text == "I was about to"


def test_a_message_is_refused_as_scripted(inference_runtime: ScriptedRuntime, inference_client: Inference) -> None:
    """refuse= answers the next message with this status; the one after it gets its reply."""
    inference_runtime.reply(refuse=404)
    inference_runtime.reply("Here I am.")
    agent = inference_client.agent({})
    with pytest.raises(NotFoundError):
        agent.send_message("Hi")
    assert agent.send_message("Hi again").text == "Here I am."
    assert [request.text for request in inference_runtime.requests] == ["Hi", "Hi again"]


def test_a_message_is_refused_with_a_status_that_has_no_name(
    inference_runtime: ScriptedRuntime, inference_client: Inference
) -> None:
    """As some services and proxies send it."""
    inference_runtime.reply(refuse=529)
    with pytest.raises(APIError, match="script refuses") as failure:
        inference_client.agent({}).send_message("Hi")
    assert failure.value.status_code == 529


@attrs.frozen
class Review:
    """What a program asks for."""

    stars: int
    when: datetime.date


@pytest.mark.parametrize("config", [{"name": "critic"}, "acme/critic"])
def test_an_output_is_returned_as_scripted(
    inference_runtime: ScriptedRuntime, inference_client: Inference, config: dict[str, str] | str
) -> None:
    """output= is what run() returns, of an agent that is described and of one that is stored."""
    review = Review(4, datetime.date(2026, 11, 28))
    inference_runtime.reply("Here it is.", output=review)
    inference_runtime.reply(output={"stars": 5, "when": "2026-11-27"})
    agent = inference_client.agent(config)
    assert agent.run("How was it?", output_type=Review) == review
    assert agent.run("And yesterday?", output_type=Review) == Review(5, datetime.date(2026, 11, 27))


def test_an_output_of_another_shape_is_sent_as_scripted(
    inference_runtime: ScriptedRuntime, inference_client: Inference
) -> None:
    """So that a program's answer to it can be tested."""
    inference_runtime.reply(output={"stars": "many"})
    with pytest.raises(OutputError, match="stars: expected int") as raised:
        inference_client.agent({}).run("How was it?", output_type=Review)
    assert raised.value.output == {"stars": "many"}


@pytest.mark.parametrize("pieces_before", [0, 1, 3])
def test_a_dropped_stream_is_taken_up_again(
    inference_runtime: ScriptedRuntime,
    inference_client: Inference,
    caplog: pytest.LogCaptureFixture,
    pieces_before: int,
) -> None:
    """drop_after= breaks the connection in the middle; the client reconnects and has the whole reply."""
    caplog.set_level(logging.INFO, "inferencesh")
    inference_runtime.reply(pieces=["one ", "two ", "three"], pause=0.05, drop_after=pieces_before)
    texts = [message.text for message in inference_client.agent({}).send_message("Hi", stream=True)]
    assert texts[-1] == "one two three"
    assert "connecting again" in caplog.text


def test_a_dropped_stream_is_broken_and_not_ended(inference_runtime: ScriptedRuntime) -> None:
    """What was written before is sent; then the connection ends in the middle of the response, as real ones break."""
    inference_runtime.reply(pieces=["one ", "two ", "three"], drop_after=2)
    headers = {"Authorization": f"Bearer {inference_runtime.api_key}"}
    body = json.dumps({"agent": "any/agent", "input": {"text": "Hi"}}).encode()
    post = urllib.request.Request(f"{inference_runtime.base_url}/agents/run", body, headers)
    with urllib.request.urlopen(post, timeout=5) as answer:
        chat_id = json.load(answer)["data"]["user_message"]["chat_id"]
    stream = urllib.request.Request(f"{inference_runtime.base_url}/chats/{chat_id}/stream", headers=headers)
    with urllib.request.urlopen(stream, timeout=5) as answer, pytest.raises(IncompleteRead) as broken:
        answer.read()
    assert b"one two " in broken.value.partial
    assert b"three" not in broken.value.partial


def test_nobody_reads_when_everybody_has_left(inference_runtime: ScriptedRuntime, inference_client: Inference) -> None:
    """open_streams shows whether the program under test lets go of its streams."""
    inference_runtime.reply(pieces=["one ", "two"], pause=30)
    for _ in inference_client.agent({}).send_message("Hi", stream=True):
        assert inference_runtime.open_streams == 1
        break
    wait_until(lambda: inference_runtime.open_streams == 0, "nobody reads")


def test_programs_that_read_the_environment_are_led_to_it(inference_runtime: ScriptedRuntime) -> None:
    """A client that the program under test makes without arguments talks to the runtime as well."""
    inference_runtime.reply("Found you.")
    assert os.environ["INFERENCE_BASE_URL"] == inference_runtime.base_url
    with Inference() as client:
        assert client.agent({}).send_message("Hi").text == "Found you."


def test_it_can_be_used_without_pytest() -> None:
    """ScriptedRuntime is a context manager that starts and stops the server."""
    with ScriptedRuntime() as runtime:
        runtime.reply("Hello!")
        with Inference(runtime.api_key, base_url=runtime.base_url) as client:
            assert client.agent({}).send_message("Hi").text == "Hello!"
        address = runtime.base_url
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{address}/chats/x", timeout=5)


async def test_an_unscripted_step_is_noted(inference_runtime: ScriptedRuntime) -> None:
    """The run fails and says what is missing, for messages and for what follows tool results alike."""
    with ScriptedRuntime() as runtime:
        client = AsyncInference(runtime.api_key, base_url=runtime.base_url)
        with pytest.raises(RunFailedError, match=r"runtime\.reply"):
            await client.agent({}).send_message("Anybody there?")
        runtime.reply(tool_calls=[("add", {"a": 1, "b": 1})])
        with pytest.raises(RunFailedError, match="go on after the tool result '2'"):
            await client.agent({"tools": [add]}).send_message("1 + 1?")
        assert len(runtime.unscripted) == 2
        await client.aclose()
        await eventually(lambda: runtime.open_streams == 0, "the end of all streams")
    assert inference_runtime.unscripted == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"text": "ab", "pieces": ["a", "c"]}, "do not add up"),
        ({"pieces": "abc"}, "list of strings"),
        ({"pieces": [1]}, "list of strings"),
        ({"tool_calls": ["add"]}, "a tool call is"),
        ({"tool_calls": ["ab"]}, "a tool call is"),
        ({"tool_calls": [{"arguments": {}}]}, "a tool call is"),
        ({"tool_calls": [("add", 5)]}, "a tool call is"),
        ({"delay": -1}, "seconds"),
        ({"text": "one", "drop_after": 2}, "drop_after"),
        ({"refuse": 200}, "error status"),
        ({"text": "one", "refuse": 500}, "refuse= alone"),
        ({"output": {}, "refuse": 500}, "refuse= alone"),
        ({"output": {}, "fail": "why"}, "output= ends the run"),
        ({"output": {}, "tool_calls": [("add", {})]}, "output= ends the run"),
    ],
)
def test_a_reply_that_cannot_be_is_refused_when_it_is_scripted(arguments: dict[str, object], complaint: str) -> None:
    """The error is raised where the test makes the mistake."""
    runtime = ScriptedRuntime()
    with pytest.raises((TypeError, ValueError), match=complaint):
        runtime.reply(**arguments)  # type: ignore[arg-type]  # wrong on purpose


PROJECT = """
import pytest

def swallowing(client, text):
    try:
        return client.agent({}).send_message(text).text
    except Exception:
        return "sorry"

def test_scripted(inference_runtime, inference_client):
    inference_runtime.reply("Hello!")
    assert swallowing(inference_client, "Hi") == "Hello!"

def test_unscripted(inference_runtime, inference_client):
    assert swallowing(inference_client, "Is anybody there?") == "sorry"

def test_unscripted_and_failing(inference_runtime, inference_client):
    assert swallowing(inference_client, "Is anybody there?") == "Hello!"

def test_without_the_fixtures():
    pass
"""


def test_an_unscripted_message_fails_the_test_with_a_message_that_says_so(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the program under test swallows the error; the other tests are left alone."""
    for name in ("CI", "BUILD_NUMBER"):  # with these pytest's summary repeats every message in full
        monkeypatch.delenv(name, raising=False)
    pytester.makepyfile(PROJECT)
    result = pytester.runpytest_subprocess("-p", "no:asyncio", "-v")
    result.assert_outcomes(passed=2, failed=2)
    output = result.stdout.str()
    assert output.count("no reply was scripted for what happened:") == 2
    assert "the agent was sent the message 'Is anybody there?'" in output
    assert "AssertionError" in output


def test_the_async_client_works_with_other_async_plugins(pytester: pytest.Pytester) -> None:
    """Without pytest-asyncio it ends with the loop of the test, silently."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.anyio
        async def test_scripted(anyio_backend, inference_runtime, async_inference_client):
            inference_runtime.reply("Hello!")
            assert (await async_inference_client.agent({}).send_message("Hi")).text == "Hello!"

        @pytest.fixture
        def anyio_backend():
            return "asyncio"
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:asyncio", "-W", "error")
    result.assert_outcomes(passed=1)


def test_starting_pytest_imports_next_to_nothing(pytester: pytest.Pytester) -> None:
    """The plugin costs those who do not use it no import of the client."""
    pytester.makepyfile(
        """
        import sys

        def test_nothing():
            print("loaded", sorted(name for name in sys.modules if name.startswith("inferencesh")))
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:asyncio", "-s")
    loaded = next(line.partition("loaded ")[2] for line in result.outlines if "loaded " in line)
    names = json.loads(loaded.replace("'", '"'))
    assert names == [
        "inferencesh",
        "inferencesh.testing",
        "inferencesh.testing.plugin",
        "inferencesh.testing.unclosed_client",
    ]
