"""``inferencesh.web``: what a browser gets of a stream, and what is left when it goes away."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import subprocess
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Self

import pytest

from inferencesh import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AsyncInference,
    AuthenticationError,
    ConfigurationError,
    ConflictError,
    Inference,
    InferenceError,
    InputRequiredError,
    InternalServerError,
    NotFoundError,
    RateLimitError,
    RunFailedError,
    StreamError,
    string,
    tool,
    web,
)
from inferencesh.local import Fail, LocalRuntime, Text, ToolCall
from tests.support import eventually

from .support import Event, GatedModel, parse_sse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from inferencesh import AsyncAgent, AsyncMessageStream
    from inferencesh.testing import ScriptedRuntime

STORY = [Text("Once "), Text("upon "), Text("a time\u2028\n…")]
WHOLE = "Once upon a time\u2028\n…"
ASK = tool("ask").describe("Ask a person").param("question", string("Question")).build()
KEY = "inf_canary_7f3a"


class Service:
    """A runtime, a client of it and an agent, on the test's own loop."""

    def __init__(self, model: GatedModel) -> None:
        self.model = model
        self.runtime = LocalRuntime(model=model, api_keys=[KEY], pace=0)

    async def __aenter__(self) -> Self:
        await self.runtime.start()
        self.client = AsyncInference(KEY, base_url=self.runtime.base_url, max_retries=0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await eventually(no_tasks, "the end of all tasks")
        await self.client.aclose()
        await self.runtime.aclose()

    def agent(self, chat_id: str | None = None) -> AsyncAgent:
        return self.client.agent({"name": "test", "tools": [ASK]}, chat_id=chat_id)

    async def begun(self) -> AsyncMessageStream:
        """A stream of which nothing has been read yet."""
        return await self.agent().send_message("Hello", stream=True)

    async def has_state(self, state: str, chat_id: str | None) -> bool:
        """Whether the chat's run is in a state."""
        chat = await self.agent(chat_id).get_chat()
        assert chat.active_run is not None
        return chat.active_run.state == state

    async def no_streams(self) -> None:
        await eventually(lambda: self.runtime.open_streams == 0, "the end of all streams")


def no_tasks() -> bool:
    """Whether nothing of inferencesh.web runs any more."""
    return not [task for task in asyncio.all_tasks() if task.get_name().startswith("inferencesh web")]


async def read(events: AsyncIterator[bytes]) -> list[Event]:
    return parse_sse(b"".join([chunk async for chunk in events]))


async def test_each_event_is_the_whole_message_so_far_and_the_last_one_says_done() -> None:
    """sse yields a message event for each snapshot, then done with the final one."""
    async with Service(GatedModel(STORY, gated=False)) as service:
        events = await read(web.sse(service.agent().send_message("Hello", stream=True)))
    assert {event.name for event in events[:-1]} == {"message"}
    texts = [event.data["text"] for event in events]
    assert all(WHOLE.startswith(text) for text in texts)
    assert "".join(event.data["delta"] for event in events) == WHOLE
    last = events[-1]
    assert last.name == "done"
    assert last.data["text"] == WHOLE
    assert (last.data["status"], last.data["done"], last.data["tool_calls"]) == ("ready", True, [])
    assert len({event.data["id"] for event in events}) == 1
    assert last.data["chat_id"]


async def test_each_chunk_is_one_event() -> None:
    """A chunk is never half an event nor two, so that what is sent is what is shown."""
    async with Service(GatedModel(STORY, gated=False)) as service:
        async for chunk in web.sse(await service.begun()):
            assert len(parse_sse(chunk)) == 1


async def test_ndjson_has_the_same_events_a_line_each() -> None:
    """ndjson yields the same objects with their names in the field event."""
    async with Service(GatedModel(STORY, gated=False)) as service:
        lines = [json.loads(line) async for line in web.ndjson(await service.begun())]
    assert {line["event"] for line in lines[:-1]} == {"message"}
    assert lines[-1]["event"] == "done"
    assert lines[-1]["text"] == WHOLE


async def test_keep_alives_are_sent_while_nothing_happens() -> None:
    """A silent stream brings comments (SSE) or keep_alive lines (NDJSON), and nothing of the reply is lost by it."""
    async with Service(GatedModel(STORY)) as service:
        for form, silence in ((web.sse, b": keep-alive\n\n"), (web.ndjson, b'{"event":"keep_alive"}\n')):
            events = form(await service.begun(), keep_alive=0.02)
            assert await anext(events) == silence
            assert await anext(events) == silence
            service.model.let_on(len(STORY))
            rest = [chunk async for chunk in events if chunk != silence]
            assert WHOLE in json.loads(rest[-1][rest[-1].index(b"{") :])["text"]


async def test_a_pause_is_named_and_carries_the_call_that_waits() -> None:
    """A turn that needs a person ends with input_required, its call pending and its arguments decoded."""
    async with Service(GatedModel([ToolCall("ask", {"question": "Which?"})], STORY, gated=False)) as service:
        events = await read(web.sse(await service.begun()))
        assert events[-1].name == "input_required"
        assert not any(call["pending"] for event in events[:-1] for call in event.data["tool_calls"])
        (call,) = events[-1].data["tool_calls"]
        assert (call["name"], call["arguments"], call["pending"]) == ("ask", {"question": "Which?"}, True)

        agent = service.agent(events[-1].data["chat_id"])
        await agent.submit_tool_result(call["id"], "secret answer")
        after = await read(web.sse(agent.stream_messages()))
        assert after[-1].name == "done"
        assert after[-1].data["text"] == WHOLE
        assert "secret answer" not in str(after), "results of tools are not shown"


async def test_a_failed_run_ends_with_an_error_event() -> None:
    """The last event says what the service said, in one line, and the status an API would answer with."""
    detail = f"quota of {KEY} used up\nTraceback (most recent call last): secrets"
    async with Service(GatedModel([Text("Well"), Fail(detail)], gated=False)) as service:
        events = await read(web.sse(await service.begun()))
    assert events[-1] == Event("error", {"type": "run_failed", "detail": "quota of *** used up", "status": 502})


async def test_an_unexpected_exception_is_told_without_particulars(caplog: pytest.LogCaptureFixture) -> None:
    """What a callback raises goes to the log; the browser gets a 500 that says nothing about it."""

    def on_message(text: str, done: bool) -> None:
        raise ZeroDivisionError("particulars")

    async with Service(GatedModel(STORY, gated=False)) as service:
        stream = service.agent().send_message("Hello", stream=True, on_message=on_message)
        events = await read(web.sse(stream))
        assert [event.name for event in events] == ["error"]
        assert (events[0].data["type"], events[0].data["status"]) == ("internal_error", 500)
        assert "particulars" not in str(events)
        assert "particulars" in caplog.text
        await service.no_streams()


async def test_an_unreachable_service_is_told_without_its_address(unused_tcp_port: int) -> None:
    """Connection errors name hosts and ports; the browser gets neither."""
    async with AsyncInference(KEY, base_url=f"http://127.0.0.1:{unused_tcp_port}", max_retries=0) as client:
        events = await read(web.sse(client.agent({}).send_message("Hello", stream=True)))
    assert events == [
        Event(
            "error",
            {"type": "upstream_unreachable", "detail": "The agent service could not be reached.", "status": 502},
        )
    ]


async def test_closing_in_the_middle_closes_the_upstream_stream_and_lets_the_run_go_on() -> None:
    """aclose leaves no connection, and the reply is finished at the server all the same."""
    async with Service(GatedModel(STORY)) as service:
        stream = await service.begun()
        async with aclosing(web.sse(stream)) as events:
            service.model.let_on()
            await anext(events)
            assert service.runtime.open_streams == 1
        await service.no_streams()
        service.model.let_on(len(STORY))
        assert (await service.agent(stream.chat_id).wait()).text == WHOLE


async def test_a_cancelled_reader_closes_the_upstream_stream() -> None:
    """Frameworks cancel the response's task when the browser goes away."""
    async with Service(GatedModel(STORY)) as service:
        stream = await service.begun()
        reading = asyncio.create_task(read(web.sse(stream)))
        await eventually(lambda: service.runtime.open_streams == 1, "a stream")
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert stream.message is None
        await service.no_streams()


async def test_a_dropped_reader_closes_the_upstream_stream() -> None:
    """Frameworks also just forget the iterator, when they were busy sending."""
    async with Service(GatedModel(STORY)) as service:
        events = web.sse(await service.begun())
        service.model.let_on()
        await anext(events)
        assert service.runtime.open_streams == 1
        del events
        gc.collect()
        await service.no_streams()


@pytest.mark.parametrize("way", ["aclose", "cancel", "drop", "drop before reading"])
async def test_the_run_is_stopped_with_the_reader_when_asked(way: str) -> None:
    """With stop_on_disconnect the run is cancelled at the server, however the reader leaves."""
    async with Service(GatedModel(STORY)) as service:
        stream = await service.begun()
        chat_id = stream.chat_id
        events = web.sse(stream, stop_on_disconnect=True)
        del stream
        if way != "drop before reading":
            service.model.let_on()
            await anext(events)
        assert await service.has_state("working", chat_id)
        if way == "aclose":
            await events.aclose()
        elif way == "cancel":
            reading = asyncio.create_task(read(events))
            await asyncio.sleep(0)  # it waits for the next event now
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        del events
        gc.collect()
        await eventually(lambda: service.has_state("canceled", chat_id), "the end of the run")
        await service.no_streams()


async def test_a_pause_that_was_delivered_is_not_stopped() -> None:
    """The browser closes the response of a paused turn as a matter of course; the question stays open."""
    async with Service(GatedModel([ToolCall("ask", {"question": "Which?"})], STORY, gated=False)) as service:
        stream = await service.begun()
        events = web.sse(stream, stop_on_disconnect=True)
        while parse_sse(await anext(events))[0].name != "input_required":
            continue
        await events.aclose()
        assert await service.has_state("input_required", stream.chat_id)


async def test_a_pause_that_was_not_delivered_is_not_stopped_either() -> None:
    """Nothing runs while a turn waits for a person, and the question can still be answered."""
    async with Service(GatedModel([ToolCall("ask", {"question": "Which?"})], gated=False)) as service:
        stream = await service.begun()
        events = web.sse(stream, stop_on_disconnect=True)
        while not parse_sse(await anext(events))[0].data["tool_calls"]:
            continue
        await service.no_streams()
        await events.aclose()
        assert await service.has_state("input_required", stream.chat_id)


async def test_a_slow_reader_is_not_read_ahead_of() -> None:
    """Memory does not fill with events that nobody takes: the stream is read as fast as its reader reads."""
    async with Service(GatedModel([Text(f"{n} ") for n in range(100)], gated=False)) as service:
        stream = await service.begun()
        events = web.sse(stream)
        await anext(events)
        await eventually(lambda: service.has_state("completed", stream.chat_id), "the end of the run")
        assert stream.message is not None
        assert "50" not in stream.message.text
        assert (await read(events))[-1].data["text"].endswith("99 ")


async def test_a_stop_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """When the service is gone as well, closing still ends, and the log says that the run may go on."""
    async with Service(GatedModel(STORY)) as service:
        events = web.sse(await service.begun(), stop_on_disconnect=True)
        service.model.let_on()
        await anext(events)
        await service.runtime.aclose()
        await events.aclose()
    assert "could not be stopped" in caplog.text


@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_what_another_task_ends_while_it_is_read_ends(how: str) -> None:
    """Its reader does not wait for what will never come."""
    async with Service(GatedModel(STORY)) as service:
        stream = await service.begun()
        events = web.ndjson(stream, keep_alive=None)
        service.model.let_on()
        await anext(events)
        waiting = asyncio.create_task(read(events))
        await asyncio.sleep(0.05)
        if how == "closed":
            await events.aclose()
        else:
            (reader,) = [task for task in asyncio.all_tasks() if task.get_name() == "inferencesh web"]
            reader.cancel()
        async with asyncio.timeout(5):
            assert await waiting == []
        await service.no_streams()


async def test_after_the_end_there_is_nothing_more() -> None:
    """A finished or closed reader is empty, and closing it again does nothing."""
    async with Service(GatedModel(STORY, gated=False)) as service:
        events = web.sse(await service.begun())
        await read(events)
        assert await read(events) == []
        await events.aclose()
        await events.aclose()


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
async def test_a_keep_alive_that_cannot_work_is_refused(seconds: float) -> None:
    """Zero would send without end."""
    async with Service(GatedModel(STORY, gated=False)) as service:
        with pytest.raises(ConfigurationError, match="keep_alive"):
            web.sse(service.agent().send_message("Hello", stream=True), keep_alive=seconds)


async def test_what_is_no_async_stream_is_refused_at_once() -> None:
    """A forgotten stream=True, or the blocking client's stream, would otherwise fail in the middle of a response."""
    client = Inference(KEY, base_url="http://127.0.0.1:1")
    with pytest.raises(TypeError, match="stream=True"):
        web.sse(client.agent({}).send_message("Hello", stream=True))  # type: ignore[arg-type]  # wrong on purpose
    async with Service(GatedModel(STORY, gated=False)) as service:
        reply = service.agent().send_message("Hello")
        with pytest.raises(TypeError, match=r"stream=True.*not coroutine"):
            web.ndjson(reply)  # type: ignore[arg-type]  # wrong on purpose
        reply.close()


@pytest.mark.parametrize(
    ("error", "type_", "status"),
    [
        (NotFoundError("no such chat", status_code=404), "not_found", 404),
        (ConflictError("not now", status_code=409), "conflict", 409),
        (AuthenticationError("bad key", status_code=401), "upstream_refused", 502),
        (APIError("odd", status_code=418), "upstream_refused", 502),
        (InternalServerError("oops", status_code=500), "upstream_refused", 502),
        (RateLimitError("slow down", status_code=429, retry_after=3), "rate_limited", 503),
        (RunFailedError("no credit"), "run_failed", 502),
        (APITimeoutError("GET http://10.0.0.7/chats"), "upstream_timeout", 504),
        (APIConnectionError("POST http://10.0.0.7/chats"), "upstream_unreachable", 502),
        (InputRequiredError("chat x: http://10.0.0.7"), "input_required", 409),
        (StreamError("chat x: http://10.0.0.7"), "stream_lost", 502),
        (InferenceError("http://10.0.0.7"), "internal_error", 500),
        (KeyError("10.0.0.7"), "internal_error", 500),
    ],
)
def test_errors_are_described_for_browsers(error: Exception, type_: str, status: int) -> None:
    """Each exception has a type and a status; what the service said is passed on, addresses are not."""
    problem = web.describe_error(error)
    assert (problem.type, problem.status) == (type_, status)
    assert "10.0.0.7" not in problem.detail
    if isinstance(error, APIError | RunFailedError):
        assert problem.detail == error.detail
    assert problem.as_dict() == {"type": type_, "detail": problem.detail, "status": status}


def test_the_wait_that_the_service_asks_for_becomes_a_header() -> None:
    """Retry-After is passed on as whole seconds, at least one."""
    limited = RateLimitError("slow down", status_code=429, retry_after=0.2)
    assert web.describe_error(limited).headers == {"Retry-After": "1"}
    assert web.describe_error(RunFailedError("no")).headers == {}


def test_a_long_detail_is_cut() -> None:
    """Some proxies answer with a whole page."""
    assert len(web.describe_error(InternalServerError("x" * 10_000, status_code=502)).detail) == 500


def test_no_framework_is_imported() -> None:
    """Importing inferencesh.web brings in neither a web framework nor aiohttp."""
    code = (
        "import sys, inferencesh.web; "
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & "
        "{'aiohttp', 'fastapi', 'flask', 'quart', 'starlette', 'uvicorn', 'werkzeug'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "\n"


# -- what a page needs -------------------------------------------------------------------------------------------------


def test_markdown_is_rendered_safely() -> None:
    """Block by block, with raw HTML as text, links to the web alone, and images as links."""
    rendered = web.render_markdown("# A\n\n<b>x</b> [l](javascript:x) ![i](https://x.example/i.png)\n\n- *e*")
    assert rendered.blocks[0] == "<h1>A</h1>\n"
    assert "&lt;b&gt;x&lt;/b&gt; [l](javascript:x) <a href=" in rendered.blocks[1]
    assert "<img" not in rendered.html
    assert rendered.html == "".join(rendered.blocks)
    assert rendered.last_line == 4


def test_a_text_that_is_too_long_is_not_rendered() -> None:
    """It would take too long."""
    with pytest.raises(ValueError, match="200,001 characters"):
        web.render_markdown("x" * 200_001)


def test_the_extra_that_is_missing_is_named() -> None:
    """Importing the module needs no extra, and rendering says what to install."""
    program = (
        "import sys\n"
        "sys.modules['markdown_it'] = None\n"
        "from inferencesh import ConfigurationError, web\n"
        "try:\n"
        "    web.render_markdown('x')\n"
        "except ConfigurationError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "rendering Markdown needs markdown-it-py: pip install 'inferencesh[web]'\n"


def test_the_files_of_a_page_are_complete() -> None:
    """What they import is among them, and nothing else is in their directory."""
    files = {path.name: path for path in web.page_files().iterdir()}
    assert {path.suffix for path in files.values()} == {".css", ".js"}
    for path in files.values():
        for name in re.findall(r'^import .* from "(.*)";$', path.read_text(encoding="utf-8"), re.MULTILINE):
            assert name.removeprefix("./") in files, path


async def test_a_snapshot_says_that_there_are_files(inference_runtime: ScriptedRuntime) -> None:
    """How many and of which kind; not where, since a browser has no business there."""
    inference_runtime.reply("Thanks.")
    async with AsyncInference() as client:
        agent = client.agent({"name": "reader"})
        await agent.send_message("Here", files=[b"GIF89a...", b"Buy milk."])
        mine, its = [web.snapshot(message) for message in await agent.history()]
    assert mine["attachments"] == ["image", "file"]
    assert its["attachments"] == []
    assert "http" not in str(mine)
