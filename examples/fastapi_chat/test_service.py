"""Test the chat service without a network, an API key or mocks. Run it with ``pytest`` in this directory.

The fixture ``inference_runtime`` comes with the extra ``testing``. It is a server that answers as
the test tells it to, and it sets the environment variables by which the app's client finds it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from service import app

from inferencesh.testing import ScriptedRuntime

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def visit() -> AsyncIterator[httpx.AsyncClient]:
    """Run the app, and return an HTTP client for it."""
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://chat") as browser,
    ):
        yield browser


async def test_the_reply_reaches_the_browser(inference_runtime: ScriptedRuntime) -> None:
    """The message reaches the agent, and the reply comes back."""
    inference_runtime.reply("Hello, Ada!")
    async with visit() as browser:
        answer = await browser.post("/chat", json={"text": "I am Ada"})
    assert answer.json()["text"] == "Hello, Ada!"
    assert inference_runtime.requests[0].text == "I am Ada"


async def test_the_calculator_is_used(inference_runtime: ScriptedRuntime) -> None:
    """A scripted tool call runs the service's own handler; the second reply follows its result."""
    inference_runtime.reply(tool_calls=[("calculator", {"expression": "42 * 17"})])
    inference_runtime.reply("It is 714.")
    async with visit() as browser:
        answer = await browser.post("/chat", json={"text": "What is 42 * 17?"})
    assert answer.json()["text"] == "It is 714."
    assert inference_runtime.tool_results[0].result == "714"


async def test_a_failed_run_is_a_bad_gateway(inference_runtime: ScriptedRuntime) -> None:
    """The response has the error of the agent service."""
    inference_runtime.reply("Well", fail="out of credit")
    async with visit() as browser:
        failed = await browser.post("/chat", json={"text": "Hi"})
    assert (failed.status_code, failed.json()["detail"]) == (502, "out of credit")
