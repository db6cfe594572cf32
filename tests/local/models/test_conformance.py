"""What every model does, whichever it is: the demo model, a scripted server, llama.cpp's server, and ``LlamaModel``."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import aiohttp
import attrs
import pytest

from inferencesh import AsyncInference, MessageStatus, RunFailedError, obj, string, tool
from inferencesh.local import LocalRuntime, Model
from inferencesh.local.models import DemoModel, LlamaModel, OpenAIChatModel
from inferencesh.local.models.weights import find_weights

from .server import COMPLETION_TOKENS, PROMPT_TOKENS, chat_server

SMALL = {"temperature": 0, "max_tokens": 40}  # so that a real model is done soon, and always answers the same
STORY = "Tell me a short story about a robot."
SUM = "What is 12 * 34? Use the calculator."
SUMS = "What is 2 + 3, and what is 4 * 5?"


@attrs.frozen
class Subject:
    """A running model.

    Attributes:
        model: The model.
        runtime: The runtime that answers with it.
        client: A client of the runtime.
        failing: The configuration and message of a turn that the model cannot answer.
        why: What the error says then.
        exact: Whether the answers are known.
        tokens: What a step costs, if it is known.
    """

    model: Model
    runtime: LocalRuntime
    client: AsyncInference
    failing: tuple[dict[str, Any], str]
    why: str
    exact: bool = False
    tokens: tuple[int, int] | None = None


TOO_LONG = ({"name": "reader"}, "word " * 3000)


@asynccontextmanager
async def demo() -> AsyncIterator[tuple[Model, dict[str, Any]]]:
    impossible = {"name": "x", "output_schema": obj({"no": {"not": {}}})}
    yield DemoModel(), {"failing": (impossible, "Hi"), "why": "cannot make an output", "exact": True}


@asynccontextmanager
async def scripted() -> AsyncIterator[tuple[Model, dict[str, Any]]]:
    async with chat_server() as server:
        model = OpenAIChatModel(server.url, "scripted")
        why, tokens = "500: out of memory", (PROMPT_TOKENS, COMPLETION_TOKENS)
        yield model, {"failing": ({"name": "x"}, "fail"), "why": why, "exact": True, "tokens": tokens}


SERVER = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.port, params.verbosity = sys.argv[1], 2048, 1, 0, 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@asynccontextmanager
async def llama_server() -> AsyncIterator[tuple[Model, dict[str, Any]]]:
    path = str(find_weights(None, None).path)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER, path, stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = (await process.stdout.readline()).decode().strip()
        model = OpenAIChatModel(f"{url}/v1", "smollm2", settings=SMALL)
        yield model, {"failing": TOO_LONG, "why": "exceeds the available context size"}
    finally:
        process.stdin.close()
        await process.wait()


@asynccontextmanager
async def llama() -> AsyncIterator[tuple[Model, dict[str, Any]]]:
    model = LlamaModel(context=2048, threads=1, settings=SMALL)
    yield model, {"failing": TOO_LONG, "why": "exceeds the available context size"}


@pytest.fixture(
    params=[
        pytest.param(demo, id="demo"),
        pytest.param(scripted, id="scripted"),
        pytest.param(llama_server, id="llama_server", marks=[pytest.mark.llm, pytest.mark.timeout(180)]),
        pytest.param(llama, id="llama", marks=[pytest.mark.llm, pytest.mark.timeout(180)]),
    ]
)
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    async with (
        request.param() as (model, facts),
        LocalRuntime(model=model, pace=0) as runtime,
        AsyncInference(runtime.api_key, base_url=runtime.base_url) as client,
    ):
        yield Subject(model, runtime, client, **facts)


@attrs.frozen
class Person:
    """What is to be read from a sentence."""

    name: str
    age: int


class Calculator:
    """A tool that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.tool = tool("calculator").describe("Do math").param("expression", string()).handler(self.work_out).build()

    def work_out(self, expression: str) -> str:
        self.asked.append(expression)
        return "408"


async def test_a_text_is_streamed(subject: Subject) -> None:
    """It comes in many snapshots, of which each continues the one before."""
    texts = [message.text async for message in subject.client.agent({"name": "x"}).send_message(STORY, stream=True)]
    assert len(texts) > 10
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert "robot" in texts[-1].lower() or not subject.exact


async def test_a_tool_is_called_and_its_result_used(subject: Subject) -> None:
    """The arguments are what the schema asks for, and the turn ends with a text."""
    calculator = Calculator()
    message = await subject.client.agent({"name": "x", "tools": [calculator.tool]}).send_message(SUM)
    assert calculator.asked
    assert all(isinstance(each, str) for each in calculator.asked)
    assert message.text
    if subject.exact:
        assert calculator.asked == ["12 * 34"]
        assert "408" in message.text


async def test_several_tools_are_called_at_once(subject: Subject) -> None:
    """A real model may call them one after the other."""
    calculator = Calculator()
    message = await subject.client.agent({"name": "x", "tools": [calculator.tool]}).send_message(SUMS)
    assert calculator.asked
    assert message.text
    if subject.exact:
        assert sorted(calculator.asked) == ["2 + 3", "4 * 5"]


async def test_an_output_has_the_type_that_was_asked_for(subject: Subject) -> None:
    person = await subject.client.agent({"name": "x"}).run('"Ada" is 36 years old.', output_type=Person)
    assert isinstance(person, Person)
    assert person == Person("Ada", 36) or not subject.exact


async def test_a_stopped_turn_ends_at_once_and_the_next_one_is_answered(subject: Subject) -> None:
    agent = subject.client.agent({"name": "x", "core_app": {"ref": "a/b", "input": {"max_tokens": 2000}}})
    prompt = "forever" if subject.tokens else STORY
    async with agent.send_message(prompt, stream=True) as stream:
        async for message in stream:
            if message.text and not message.done:
                await agent.stop()
        last = stream.message
    assert last is not None
    # The demo model may be done before it is stopped.
    assert last.status == MessageStatus.CANCELLED or isinstance(subject.model, DemoModel)
    agent.reset()
    assert (await subject.client.agent({"name": "x"}).send_message("Hello")).text


async def test_a_failure_fails_the_run_and_not_the_runtime(subject: Subject) -> None:
    config, prompt = subject.failing
    with pytest.raises(RunFailedError) as caught:
        await subject.client.agent(config).send_message(prompt)
    assert subject.why in str(caught.value.detail)
    assert (await subject.client.agent({"name": "x"}).send_message("Hello")).text


async def test_a_long_conversation_goes_on(subject: Subject) -> None:
    """Each message is answered in the light of all before it."""
    agent = subject.client.agent({"name": "x", "core_app": {"ref": "a/b", "input": {"max_tokens": 4}}})
    turns = 12 if subject.exact else 4
    for number in range(turns):
        message = await agent.send_message(f"This is message {number + 1}.")
        assert message.text
    if subject.tokens:
        assert message.text.startswith(f"This is answer number {turns}.")


async def test_the_tokens_used_are_in_the_record_of_the_run(subject: Subject) -> None:
    """They are the sum over the steps of the run; the demo model uses none."""
    calculator = Calculator()
    agent = subject.client.agent({"name": "x", "tools": [calculator.tool]})
    await agent.send_message(SUM)
    headers = {"Authorization": f"Bearer {subject.runtime.api_key}"}
    url = f"{subject.runtime.base_url}/chats/{agent.chat_id}"
    async with aiohttp.ClientSession(headers=headers) as http, http.get(url) as response:
        metadata = (await response.json())["data"]["active_run"]["metadata"]
    if isinstance(subject.model, DemoModel):
        assert metadata is None
        return
    usage = metadata["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens"] > 0
    if subject.tokens:
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == tuple(2 * each for each in subject.tokens)
