"""What the tests of the playground share: its page in Chromium, watched, and what people do on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, Page, Route, async_playwright, expect

from inferencesh.local import Conversation, LocalRuntime, Model, Piece

__all__ = ["TOOL", "Answers", "Opened", "hold_next_answer", "launched", "opened", "say", "use_agent", "watched"]

CHROMIUM = Path("/usr/bin/chromium")
VIOLATIONS = """
    window.violations = [];
    addEventListener("securitypolicyviolation", (event) => violations.push(event.blockedURI + event.violatedDirective));
"""
TOOL = (
    '{"name": "x", "tools": [{"name": "lookup", "type": "client", "require_approval": %s,'
    ' "client": {"input_schema": {"type": "object"}}}]}'
)

Opened = Callable[..., AbstractAsyncContextManager[tuple[LocalRuntime, Page]]]


class Answers:
    """A model with one answer for each step; the last one again for all later steps."""

    def __init__(self, *steps: list[Piece]) -> None:
        self.steps = steps
        self.asked: list[Conversation] = []

    async def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        self.asked.append(conversation)
        for piece in self.steps[min(len(self.asked), len(self.steps)) - 1]:
            yield piece


def chromium_path() -> Path:
    """Return where Chromium is, and say so if it is missing."""
    assert CHROMIUM.exists(), "these tests need Chromium: apt-get install chromium"
    return CHROMIUM


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """Chromium, for all tests of a module."""
    async with async_playwright() as playwright:
        # As root, which CI is, Chromium has no sandbox; it opens pages of these tests alone.
        browser = await playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
        yield browser
        await browser.close()


@asynccontextmanager
async def watched(browser: Browser, origin: str, **context: Any) -> AsyncIterator[Page]:
    """A new page that must not do what hostile content wants."""
    wrong: list[str] = []
    pages: BrowserContext = await browser.new_context(**context)
    try:
        await pages.add_init_script(VIOLATIONS)
        page = await pages.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: wrong.append(f"error {error}"))
        page.on("dialog", lambda dialog: wrong.append(f"dialog {dialog.message}"))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith((origin, "blob:")) else wrong.append(f"request {request.url}")
            ),
        )
        yield page
        wrong += await page.evaluate("window.violations")
        assert wrong == []
    finally:
        await pages.close()


def opened(chromium: Browser) -> Opened:
    """Return what opens the page of a runtime with a model."""

    @asynccontextmanager
    async def opening(
        model: Model, *, context: dict[str, Any] | None = None, pace: float = 0.0, **options: Any
    ) -> AsyncIterator[tuple[LocalRuntime, Page]]:
        async with (
            LocalRuntime(model=model, playground="loopback", pace=pace, **options) as runtime,
            watched(chromium, runtime.base_url, **(context or {})) as page,
        ):
            await page.goto(runtime.base_url)
            await expect(page.get_by_text("No chats yet")).to_be_attached()
            yield runtime, page

    return opening


async def say(page: Page, text: str) -> None:
    """Type a message and send it."""
    await page.get_by_role("textbox", name="Message", exact=True).fill(text)
    await page.keyboard.press("Enter")


async def hold_next_answer(page: Page, address: str) -> asyncio.Event:
    """Hold the answer to the next request until the event that is returned is set."""
    released = asyncio.Event()
    held: list[Route] = []

    # Not ``times=1``: when such a route has ended, Playwright lets go of all requests that no other one matches.
    async def hold(route: Route) -> None:
        if held:
            await route.fallback()
            return
        held.append(route)
        answer = await route.fetch()
        await released.wait()
        await route.fulfill(response=answer)

    await page.route(address, hold)
    return released


async def use_agent(page: Page, config: str) -> None:
    """Set the agent of the next chat through the editor."""
    await page.get_by_role("button", name="Inspect", exact=True).click()
    await page.get_by_role("tab", name="Agent").click()
    await page.get_by_label("The agent's configuration as JSON").fill(config)
    await page.get_by_role("button", name="Apply").click()
    await expect(page.locator("#config-note")).to_have_text("Applied: the next message uses this agent.")
    await page.get_by_role("button", name="Inspect", exact=True).click()
