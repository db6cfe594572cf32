"""A page of another origin talks to a runtime in a real browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import Error, Page, async_playwright

from inferencesh.local import BackgroundRuntime

pytestmark = pytest.mark.browser

CHROMIUM = Path("/usr/bin/chromium")

# Sends a message, reads its stream to the end of the run, is refused something, and uploads a file, like an SDK.
TALK = """
async ([base, key]) => {
  const headers = { Authorization: `Bearer ${key}`, "Content-Type": "application/json", "X-Client-Source": "a-page" };
  const post = (path, body) =>
    fetch(base + path, { method: "POST", headers, body: JSON.stringify(body), credentials: "include" });
  const input = { text: "Hello" };
  const sent = await (await post("/agents/run", { agent_config: { name: "helper" }, input })).json();
  const chat = sent.data.assistant_message.chat_id;
  const accepting = { ...headers, Accept: "application/x-ndjson" };
  const stream = await fetch(`${base}/chats/${chat}/stream`, { headers: accepting });
  const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
  let read = "";
  while (!read.includes('"state":"completed"')) read += (await reader.read()).value;
  await reader.cancel();
  const refused = await post("/agents/run", { agent: "nobody", input });
  const [file] = (await (await post("/files", { files: [{ content_type: "text/plain" }] })).json()).data;
  const put = await fetch(file.upload_url, { method: "PUT", body: "Hi", headers: { "Content-Type": "text/plain" } });
  const deleted = await fetch(`${base}/chats/${chat}`, { method: "DELETE", headers });
  return {
    said: read.includes("You said:"),
    refused: [refused.status, (await refused.json()).field, refused.headers.get("X-Request-Id") !== null],
    put: put.status,
    file: await (await fetch(file.uri)).text(),
    deleted: deleted.status,
  };
}
"""


@asynccontextmanager
async def opened_page() -> AsyncIterator[tuple[Page, str]]:
    """Yield an empty page of an origin of its own, and that origin."""

    async def empty(_: web.Request) -> web.Response:
        return web.Response(text="<!doctype html>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", empty)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        origin = f"http://localhost:{runner.addresses[0][1]}"
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = await browser.new_page()
            await page.goto(origin)
            yield page, origin
            await browser.close()
    finally:
        await runner.cleanup()


async def test_the_page_of_an_allowed_origin_does_what_an_sdk_does() -> None:
    """Messages, streams, refusals, uploads and files; a page of another origin gets no response at all."""
    async with opened_page() as (page, origin):
        with BackgroundRuntime(pace=0.001, cors_origins=[origin]) as address:
            assert await page.evaluate(TALK, [address.base_url, address.api_key]) == {
                "said": True,
                "refused": [422, "agent", True],
                "put": 200,
                "file": "Hi",
                "deleted": 204,
            }
        with (
            BackgroundRuntime(pace=0, cors_origins=["http://localhost:1"]) as address,
            pytest.raises(Error, match="Failed to fetch"),
        ):
            await page.evaluate(TALK, [address.base_url, address.api_key])
