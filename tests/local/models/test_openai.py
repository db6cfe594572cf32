"""``OpenAIChatModel`` against a scripted server: what it sends, what it reads, and what it makes of failures."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from inferencesh import AsyncInference, ConfigurationError, RunFailedError, obj, string, tool
from inferencesh.local import Conversation, ConversationMessage, OfferedTool, Piece, Reasoning, Text, ToolCall, Usage
from inferencesh.local.models import OpenAIChatModel

from .server import KEY, ChatServer, chat_server, chunk

CALCULATOR = OfferedTool(
    "calculator",
    "Do math",
    {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
)


def answer_408(expression: str) -> str:
    return "408"


@pytest.fixture
async def server() -> AsyncIterator[ChatServer]:
    async with chat_server() as running:
        yield running


async def pieces_of(model: OpenAIChatModel, text: str, *tools: OfferedTool, **more: Any) -> list[Piece]:
    conversation = Conversation((ConversationMessage("user", text),), tools=tools, **more)
    return [piece async for piece in model.respond(conversation)]


async def failure_of(model: OpenAIChatModel, text: str, *tools: OfferedTool) -> str:
    """The detail of the run that fails."""
    offered = [tool(each.name).describe(each.description).param("expression", string()).build() for each in tools]
    async with AsyncInference.local(model=model) as client:
        with pytest.raises(RunFailedError) as caught:
            await client.agent({"name": "x", "tools": offered}).send_message(text)
    return str(caught.value.detail)


async def test_instructions_settings_and_key_are_sent(server: ChatServer) -> None:
    """An agent's settings go before the model's; what is no setting is not passed on."""
    model = OpenAIChatModel(server.url, "m", api_key=KEY, settings={"temperature": 0.9, "top_k": 3})
    settings = {"temperature": 0.1, "stop": ["END"], "max_tokens": 9, "model": "other", "messages": []}
    async with AsyncInference.local(model=model) as client:
        config = {"name": "x", "system_prompt": "Be kind.", "core_app": {"ref": "a/b", "input": settings}}
        await client.agent(config).send_message("Hello")
    (body,) = server.bodies
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert body["model"] == "m"
    assert body["messages"] == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    assert (body["temperature"], body["top_k"], body["stop"], body["max_tokens"]) == (0.1, 3, ["END"], 9)
    assert body["stream"] is True


async def test_reasoning_comes_before_the_text(server: ChatServer) -> None:
    pieces = await pieces_of(OpenAIChatModel(server.url, "m"), "Hello")
    assert pieces[:2] == [Reasoning("Let me "), Reasoning("think.")]
    assert isinstance(pieces[2], Text)
    assert pieces[-1] == Usage(11, 7)


async def test_reasoning_has_another_name_elsewhere(server: ChatServer) -> None:
    server.reply = [chunk({"reasoning": "Hm."}), chunk({"content": "Yes."}, "stop")]
    assert await pieces_of(OpenAIChatModel(server.url, "m"), "Hello") == [Reasoning("Hm."), Text("Yes.")]


async def test_fragments_become_calls(server: ChatServer) -> None:
    """The fragments of two calls may alternate."""
    pieces = await pieces_of(OpenAIChatModel(server.url, "m"), "2 + 3 and 4 * 5", CALCULATOR)
    calls = [piece for piece in pieces if isinstance(piece, ToolCall)]
    assert calls == [ToolCall("calculator", {"expression": each}) for each in ("2 + 3", "4 * 5")]


async def test_whole_calls_under_one_index_stay_apart(server: ChatServer) -> None:
    def call(number: int) -> str:
        function = {"name": "calculator", "arguments": json.dumps({"expression": str(number)})}
        return chunk({"tool_calls": [{"index": 0, "id": f"c{number}", "function": function}]})

    server.reply = [call(1), call(2), chunk({}, "tool_calls")]
    pieces = await pieces_of(OpenAIChatModel(server.url, "m"), "x", CALCULATOR)
    assert pieces == [ToolCall("calculator", {"expression": each}) for each in ("1", "2")]


async def test_calls_and_results_are_sent_back(server: ChatServer) -> None:
    """The ids of calls and results belong together."""
    calculator = tool("calculator").describe("Do math").param("expression", string()).handler(answer_408)
    async with AsyncInference.local(model=OpenAIChatModel(server.url, "m")) as client:
        message = await client.agent({"name": "x", "tools": [calculator.build()]}).send_message("12 * 34")
    assert message.text == "It is 408."
    user, answer, result = server.bodies[1]["messages"]
    assert user == {"role": "user", "content": "12 * 34"}
    (call,) = answer["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"expression": "12 * 34"}
    assert result == {"role": "tool", "tool_call_id": call["id"], "content": "408"}


async def test_a_model_without_tools_gets_a_choice(server: ChatServer) -> None:
    """A refusal is learned once; the answer is held to a schema, and its text streamed."""
    server.knows_tools = False
    calculator = tool("calculator").describe("Do math").param("expression", string()).handler(answer_408)
    async with AsyncInference.local(model=OpenAIChatModel(server.url, "m")) as client:
        agent = client.agent({"name": "x", "tools": [calculator.build()]})
        texts = [message.text async for message in agent.send_message("12 * 34", stream=True)]
    assert texts[-1] == "It is so. The result of calculator is: 408"
    assert len(texts) > 5
    assert ["tools" in body for body in server.bodies] == [True, False, False]
    schema = server.bodies[-1]["response_format"]["json_schema"]["schema"]
    assert [list(option["properties"]) for option in schema["anyOf"]] == [["calls"], ["text"]]


@pytest.mark.parametrize(("supports", "sent"), [(True, True), (False, False)])
async def test_llama_cpp_is_asked_what_its_model_knows(server: ChatServer, supports: bool, sent: bool) -> None:
    server.props = {"chat_template_caps": {"supports_tools": supports}}
    await pieces_of(OpenAIChatModel(server.url, "m"), "Hello", CALCULATOR)
    assert ("tools" in server.bodies[0]) is sent


async def test_a_repeated_call_is_not_made_again(server: ChatServer) -> None:
    """A small model asks again for what it was told; it is then asked for a text."""
    call = '{"calls": [{"tool": "calculator", "arguments": {"expression": "1"}}]}'
    server.replies = [[chunk({"content": call}, "stop")], [chunk({"content": '{"text": "It is one."}'}, "stop")]]
    from inferencesh.local import PastCall

    messages = (
        ConversationMessage("user", "1?"),
        ConversationMessage("assistant", "", (PastCall("c", "calculator", {"expression": "1"}),)),
        ConversationMessage("tool", "one", tool_call_id="c"),
    )
    model = OpenAIChatModel(server.url, "m", tools="constrained")
    pieces = [piece async for piece in model.respond(Conversation(messages, tools=(CALCULATOR,)))]
    assert pieces == [Text("It is one.")]
    assert list(server.bodies[1]["response_format"]["json_schema"]["schema"]["properties"]) == ["text"]


async def test_tools_come_before_the_output(server: ChatServer) -> None:
    """An agent with both is asked for its output when it calls no more tools."""
    calculator = tool("calculator").describe("Do math").param("expression", string()).handler(answer_408)
    schema = obj({"name": string(), "age": {"type": "integer"}})
    async with AsyncInference.local(model=OpenAIChatModel(server.url, "m")) as client:
        agent = client.agent({"name": "x", "tools": [calculator.build()], "output_schema": schema})
        assert await agent.run("12 * 34") == {"name": "Ada", "age": 36}
    assert ["response_format" in body for body in server.bodies] == [False, False, True]
    assert server.bodies[-1]["response_format"]["json_schema"]["schema"] == schema


async def test_files_become_parts(server: ChatServer, tmp_path: Path) -> None:
    """Uploaded images, sounds, texts and other files are embedded; a URL elsewhere is passed on."""
    files = {"a.png": b"\x89PNG\r\n\x1a\n", "a.txt": "Grüße".encode(), "a.pdf": b"%PDF-1.4"}
    async with AsyncInference.local(model=OpenAIChatModel(server.url, "m")) as client:
        agent = client.agent({"name": "x"})
        sent = []
        for name, data in files.items():
            path = tmp_path / name
            path.write_bytes(data)
            sent.append(await agent.upload_file(path))
        await agent.send_message("Look", files=sent)
    text, image, note, other = server.bodies[0]["messages"][0]["content"]
    assert text == {"type": "text", "text": "Look"}
    assert image["image_url"]["url"] == "data:image/png;base64,iVBORw0KGgo="
    assert note == {"type": "text", "text": "a.txt:\nGrüße"}
    assert other["file"]["filename"] == "a.pdf"
    assert other["file"]["file_data"].startswith("data:application/pdf;base64,")


async def test_a_stopped_run_closes_its_request(server: ChatServer) -> None:
    async with AsyncInference.local(model=OpenAIChatModel(server.url, "m")) as client:
        agent = client.agent({"name": "x"})
        async with agent.send_message("forever", stream=True) as stream:
            async for message in stream:
                if message.text:
                    break
            await agent.stop()
            await asyncio.wait_for(server.closed.wait(), 5)


async def test_a_server_that_is_down_fails_the_run() -> None:
    detail = await failure_of(OpenAIChatModel("http://127.0.0.1:9/v1", "m"), "Hello")
    assert detail.startswith("The model's server at 127.0.0.1:9 cannot be used: no connection (")
    assert detail.endswith("is it running?.")


async def test_a_server_that_is_silent_fails_the_run(server: ChatServer) -> None:
    server.reply = []
    model = OpenAIChatModel(server.url, "m", timeout=0.05)

    async def never(_request: object) -> None:
        await asyncio.Event().wait()

    async def nobody_reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(nobody_reads, "127.0.0.1", 0)
    async with silent:
        port = silent.sockets[0].getsockname()[1]
        detail = await failure_of(OpenAIChatModel(f"http://127.0.0.1:{port}/v1", "m", timeout=0.05), "Hello")
    assert detail == f"The model's server at 127.0.0.1:{port} sent nothing for 0.05 seconds."
    assert repr(model) == f"<OpenAIChatModel m at {server.url}>"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (
            401,
            '{"error": {"message": "Incorrect API key provided: ' + KEY + '"}}',
            "check the key: Incorrect API key provided: ***",
        ),
        (404, '{"error": "model m not found"}', "whether the model 'm' is there: model m not found"),
        (400, '{"detail": "too long"}', "400: too long"),
        (500, "<html>oops</html>", "500: <html>oops</html>"),
        (502, "", "502"),
    ],
)
async def test_a_refusal_is_told_in_the_servers_words(
    server: ChatServer, status: int, body: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The key is left out even if the server repeats it."""
    server.status = status, body
    with caplog.at_level(logging.DEBUG):
        detail = await failure_of(OpenAIChatModel(server.url, "m", api_key=KEY), "Hello")
    assert detail.endswith(said)
    assert KEY not in detail + caplog.text


ARGUMENTS = {"index": 0, "id": "c", "function": {"name": "calculator", "arguments": '{"expression": '}}


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (
            [chunk({"tool_calls": [ARGUMENTS]}, "tool_calls")],
            "called calculator with arguments that are not a JSON object",
        ),
        ([chunk({"tool_calls": [ARGUMENTS]}, "length")], "it was cut off at the token limit"),
        (
            [chunk({"tool_calls": [{"id": "c", "function": {"name": "nope"}}]}, "stop")],
            "the tool 'nope', which the agent",
        ),
        ([chunk({"content": "Once"}, "length")], "the model's context is full"),
        ([chunk({"content": "Once"})], "ended before the answer was complete"),
        ([chunk({"content": "Once"}, "content_filter")], "has withheld the answer"),
        (['data: {"error": {"message": "out of memory"}}\n\n'], "failed: out of memory"),
        (["data: junk\n\n"], "not a JSON object: 'junk'"),
    ],
)
async def test_a_broken_answer_fails_the_run(server: ChatServer, reply: list[str], said: str) -> None:
    server.reply = reply
    assert said in await failure_of(OpenAIChatModel(server.url, "m"), "Hello", CALCULATOR)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("I would rather not", "not a JSON object"),
        ('{"something": "else"}', "neither text nor tool calls"),
        ('{"calls": [{"tool": "nope", "arguments": {}}]}', "the tool 'nope'"),
        ('{"calls": ["calculator"]}', "not a JSON object: 'calculator'"),
        ('{"calls": [{"tool": "calculator", "arguments": ["1"]}]}', "not a JSON object"),
    ],
)
async def test_a_broken_choice_fails_the_run(server: ChatServer, content: str, said: str) -> None:
    server.reply = [chunk({"content": content}, "stop")]
    assert said in await failure_of(OpenAIChatModel(server.url, "m", tools="constrained"), "Hello", CALCULATOR)


async def test_a_broken_output_fails_the_run(server: ChatServer) -> None:
    server.reply = [chunk({"content": "Well, "}), chunk({"content": "no."}, "stop")]
    async with AsyncInference.local(model=OpenAIChatModel(server.url, "m")) as client:
        with pytest.raises(RunFailedError) as caught:
            await client.agent({"name": "x", "output_schema": obj({})}).run("Hello")
    assert caught.value.detail == "The model's output is not JSON: 'Well, no.'."


async def test_an_answer_may_come_whole(server: ChatServer) -> None:
    """Some servers do not stream."""
    message = {"choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}]}
    server.status = 200, json.dumps(message)
    assert await pieces_of(OpenAIChatModel(server.url, "m"), "Hi") == [Text("Hello.")]


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("ftp://a/v1", {}, "must look like"),
        ("http://user:pw@a/v1", {}, "must not hold a user name"),
        ("http://example.com/v1", {"api_key": KEY}, "unencrypted"),
        ("https://example.com/v1", {"api_key": "a\nb"}, "cannot be sent in a header"),
        ("https://example.com/v1", {"tools": "maybe"}, "native, constrained or auto"),
        ("https://example.com/v1", {"timeout": 0}, "more than 0 seconds"),
    ],
)
def test_what_cannot_work_is_refused_at_once(url: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        OpenAIChatModel(url, "m", **options)
    assert KEY not in str(caught.value)
