"""What a type checker knows about web services, tests and errors; mypy and pyright check this, nothing runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, assert_type

from inferencesh import (
    APIConnectionError,
    APIError,
    AsyncInference,
    Inference,
    InferenceError,
    InputRequiredError,
    Message,
    OutputError,
    RateLimitError,
    RequirementsNotMetError,
    RunFailedError,
    Timeout,
    ToolCall,
    web,
)
from inferencesh.local import Conversation, LocalRuntime, Text
from inferencesh.local import ToolCall as Calls
from inferencesh.testing import ScriptedRuntime


async def respond(client: AsyncInference, text: str) -> AsyncIterator[bytes]:
    """A streaming response of any framework."""
    stream = await client.agent("a/b").send_message(text, stream=True, conflate=True)
    events = web.sse(stream, keep_alive=10, stop_on_disconnect=True)
    headers: Mapping[str, str] = web.SSE_HEADERS
    print(headers)
    async for event in events:
        yield event
    async for line in web.ndjson(client.agent("a/b").send_message(text, stream=True)):
        yield line


def test_a_program(inference_runtime: ScriptedRuntime, inference_client: Inference) -> None:
    """A test with the fixtures of the plugin."""
    inference_runtime.reply("Hello!")
    inference_runtime.reply(tool_calls=[("add", {"a": 1})])
    message = inference_client.agent("a/b").send_message("Hi")
    assert message.text == "Hello!"
    assert_type([request.text for request in inference_runtime.requests], list[str])


class Model:
    """A model of one's own."""

    async def respond(self, conversation: Conversation) -> AsyncIterator[Text | Calls]:
        """Answer."""
        yield Text(conversation.messages[-1].text)
        yield Calls("add", {"a": 1})


async def local() -> None:
    """The embedded runtime."""
    async with AsyncInference.local(model=Model(), pace=0) as client:
        assert_type(client, AsyncInference)
    runtime = LocalRuntime(model=Model())
    assert_type(runtime.base_url, str)
    with Inference("key", timeout=Timeout(total=None), max_retries=1) as other:
        assert_type(other, Inference)


def errors(client: Inference) -> None:
    """What errors carry."""
    try:
        client.agent("a/b").run("Hi")
    except RateLimitError as error:
        assert_type(error.retry_after, float | None)
    except RequirementsNotMetError as error:
        assert_type(error.errors, Sequence[Mapping[str, object]])
    except APIError as error:
        assert_type((error.status_code, error.code, error.request_id), tuple[int, str | None, str | None])
    except APIConnectionError as error:
        assert_type(error.sent, bool)
    except InputRequiredError as error:
        assert_type(error.pending_tool_calls, tuple[ToolCall, ...])
    except OutputError as error:
        assert_type(error.output, Any)
    except RunFailedError as error:
        assert_type(error.detail, str)
    except InferenceError as error:
        assert_type((error.message, error.chat_id), tuple[Message | None, str | None])
