"""The fleet's page in a browser, with answers that are late, lost or refused; ``test_launch.py`` has a whole fleet."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, Route, async_playwright, expect

from inferencesh import web
from tests.services.playgrounds import chromium_path

from .processes import EXAMPLE

pytestmark = pytest.mark.browser

ORIGIN = "http://localhost:8000"  # nothing listens there: all requests are answered by the tests
TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}


def snapshot(text: str, *calls: dict[str, Any]) -> dict[str, Any]:
    """Return a message as the events of a turn have it."""
    return {
        "id": "m1",
        "chat_id": "c1",
        "role": "assistant",
        "status": "ready",
        "text": text,
        "attachments": [],
        "tool_calls": list(calls),
    }


BOOKING = {"id": "t1", "name": "book_trip", "arguments": {}, "status": "awaiting_approval", "pending": False}
WORKER = ("1-0", "worker", {"worker": "worker 1", "attempt": 1})
ASKS = ("2-0", "input_required", snapshot("Shall I book it?", BOOKING))
DONE = ("3-0", "done", snapshot("Booked.", {**BOOKING, "status": "completed"}))


class Front:
    """A front with scripted answers.

    Attributes:
        turns: For each response with events, what it has before it ends; later ones are as the last.
        sent: The messages that were sent.
        refuse: The statuses and types of errors, by the last part of a path.
    """

    def __init__(self) -> None:
        self.turns: list[list[tuple[str, str, dict[str, Any]]]] = [[WORKER, DONE]]
        self.sent: list[dict[str, Any]] = []
        self.refuse: dict[str, tuple[int, str]] = {}
        self.ready = asyncio.Event()
        self.ready.set()
        self.asked = 0

    async def answer(self, route: Route) -> None:
        path = route.request.url.removeprefix(ORIGIN)
        name = path.rpartition("/")[2]
        if name in self.refuse:
            status, type_ = self.refuse[name]
            await route.fulfill(status=status, json={"type": type_, "detail": "", "status": status})
        elif file := file_of(path):
            await route.fulfill(body=file.read_bytes(), content_type=TYPES[file.suffix])
        elif name == "ready":
            await self.ready.wait()
            await route.fulfill(json={"demo": True})
        elif name == "events":
            events = self.turns[min(self.asked, len(self.turns) - 1)]
            self.asked += 1
            body = "".join(f"id: {id_}\nevent: {event}\ndata: {json.dumps(data)}\n\n" for id_, event, data in events)
            await route.fulfill(body=body, content_type="text/event-stream", headers={"X-Front": "front 1"})
        elif name == "markdown":
            text = json.loads(route.request.post_data or "")["text"]
            await route.fulfill(json={"blocks": [f"<p>{text}</p>"], "last_line": 0})
        else:
            if name == "chat":
                self.sent.append(json.loads(route.request.post_data or ""))
            await route.fulfill(status=202, json={})


def file_of(path: str) -> Path | None:
    """Return the file of the page that a path means."""
    if path == "/":
        return EXAMPLE / "static" / "index.html"
    folders = {"static": EXAMPLE / "static", "parts": web.page_files()}
    _, folder, *rest = path.split("/")
    return folders[folder].joinpath(*rest) if folder in folders else None


@pytest.fixture
def front() -> Front:
    """What answers the page."""
    return Front()


@pytest.fixture
async def page(front: Front) -> AsyncIterator[Page]:
    """The page, opened; no script on it may fail."""
    failures: list[str] = []
    async with async_playwright() as playwright:
        # Chromium has no sandbox when it runs as root, as in CI; it opens only pages of this test.
        browser = await playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
        page = await browser.new_page()
        page.on("pageerror", lambda error: failures.append(str(error)))
        await page.route(f"{ORIGIN}/**", front.answer)
        await page.goto(ORIGIN)
        yield page
        await browser.close()
    assert not failures


async def say(page: Page, text: str) -> None:
    """Type a message and send it."""
    await page.get_by_label("Message").fill(text)
    await page.get_by_label("Message").press("Enter")


async def test_a_decision_that_has_no_events_yet_is_waited_for(front: Front, page: Page) -> None:
    """The front shuts down right after the decision; the turn is not what it was before it."""
    front.turns = [[WORKER, ASKS], [], [WORKER, DONE]]
    await say(page, "Book it")
    await page.get_by_role("button", name="Approve").click()
    await expect(page.locator(".assistant .text")).to_have_text("Booked.")
    await expect(page.get_by_label("Message")).to_be_enabled()


async def test_a_decision_that_another_window_made_is_shown(front: Front, page: Page) -> None:
    """As it went on there."""
    front.turns = [[WORKER, ASKS], [WORKER, DONE]]
    await say(page, "Book it")
    front.refuse["decision"] = (409, "conflict")
    await page.get_by_role("button", name="Approve").click()
    await expect(page.locator(".assistant .text")).to_have_text("Booked.")


async def test_two_decisions_are_followed_once(front: Front, page: Page) -> None:
    """The second is made before there is an event after the first."""
    other = {**BOOKING, "id": "t2"}
    front.turns = [[WORKER, ("2-0", "input_required", snapshot("Both?", BOOKING, other))], [WORKER, DONE]]
    await say(page, "Book both")
    approve = page.get_by_role("button", name="Approve")
    await expect(approve).to_have_count(2)
    let_on = asyncio.Event()

    async def hold(route: Route) -> None:
        await let_on.wait()
        await route.fallback()

    await page.route("**/events", hold)
    for number in range(2):
        async with page.expect_request("**/events"):
            await approve.nth(number).click()
    let_on.set()
    await expect(page.locator(".assistant .text")).to_have_text("Booked.")
    await say(page, "Thanks")
    await expect(page.locator(".user")).to_have_count(2)
    await expect(page.locator(".worker-note")).to_have_count(3)


async def test_a_decision_without_a_connection_can_be_made_again(front: Front, page: Page) -> None:
    """The page says so, and does not say that it reconnects."""
    front.turns = [[WORKER, ASKS], [WORKER, DONE]]
    await say(page, "Book it")
    front.refuse["decision"] = (503, "unavailable")
    await page.get_by_role("button", name="Approve").click()
    await expect(page.locator(".refused")).to_have_text("There is no connection. Please try again.")
    front.refuse.clear()
    await page.get_by_role("button", name="Approve").click()
    await expect(page.locator(".assistant .text")).to_have_text("Booked.")


async def test_a_connection_that_is_lost_after_the_last_event_is_not_needed(front: Front, page: Page) -> None:
    """The turn has ended, whatever becomes of the response."""
    await page.evaluate(
        """() => {
            const real = window.fetch;
            window.fetch = async (path, options) => {
                const response = await real(path, options);
                if (!path.endsWith("/events")) return response;
                const text = new TextEncoder().encode(await response.text());
                let sent = false;
                const pull = (it) => (sent ? it.error(new TypeError("lost")) : it.enqueue(text), sent = true);
                return new Response(new ReadableStream({ pull }), { headers: response.headers });
            };
        }"""
    )
    await say(page, "Hi")
    await expect(page.locator(".assistant .text")).to_have_text("Booked.")
    await expect(page.get_by_role("button", name="Send")).to_be_enabled()
    await expect(page.get_by_role("status").first).to_be_empty()
    await say(page, "Again")
    await expect(page.locator(".user")).to_have_count(2)
    assert front.asked == 2


async def test_a_message_that_was_sent_stays_although_its_turn_cannot_be_followed(front: Front, page: Page) -> None:
    """It is not in the box again, where it would be sent twice."""
    front.refuse["events"] = (404, "not_found")
    await say(page, "Hi")
    await expect(page.get_by_role("alert")).to_contain_text("This turn or chat was not found.")
    await expect(page.locator(".user")).to_have_text("Hi")
    await expect(page.get_by_label("Message")).to_have_value("")


async def test_a_message_can_be_sent_after_a_decision_failed(front: Front, page: Page) -> None:
    """The box does not wait for a decision any more."""
    front.turns = [[WORKER, ASKS]]
    await say(page, "Book it")
    await expect(page.get_by_label("Message")).to_be_disabled()
    front.refuse["events"] = (404, "not_found")
    await page.get_by_role("button", name="Approve").click()
    await expect(page.get_by_role("alert")).to_contain_text("This turn or chat was not found.")
    await expect(page.get_by_label("Message")).to_be_enabled()


async def test_a_refused_message_is_put_before_what_was_typed_since(front: Front, page: Page) -> None:
    """Nothing that was typed is lost."""
    let_on = asyncio.Event()

    async def refuse(route: Route) -> None:
        await let_on.wait()
        await route.fulfill(status=429, json={"type": "too_many_turns"})

    await page.route("**/chat", refuse)
    await say(page, "First")
    await expect(page.get_by_label("Message")).to_have_value("")
    await page.get_by_label("Message").fill("Second")
    let_on.set()
    await expect(page.get_by_role("alert")).to_contain_text("Too many of your replies")
    await expect(page.get_by_label("Message")).to_have_value("First\nSecond")
    await expect(page.locator(".user")).to_have_count(0)


async def test_a_message_after_a_reload_belongs_to_the_chat_before_it(front: Front, page: Page) -> None:
    """Although the page does not know yet whether workers may be killed."""
    await say(page, "Hi")
    await expect(page.locator(".assistant .text")).to_have_text("Booked.")
    front.ready.clear()
    await page.reload()
    await expect(page.get_by_role("button", name="Send")).to_be_enabled()
    await say(page, "And now?")
    await expect(page.locator(".user")).to_have_text(["Hi", "And now?"])
    front.ready.set()
    await expect(page.locator(".user")).to_have_text(["Hi", "And now?"])
    assert [each["chat_id"] for each in front.sent] == [None, "c1"]


async def test_a_worker_that_cannot_be_killed_is_said_to_be_alive(front: Front, page: Page) -> None:
    """And the reply goes on meanwhile: the next message waits for it."""
    front.turns = [[WORKER]]
    front.refuse["kill"] = (404, "not_found")
    await say(page, "Hi")
    await page.get_by_role("button", name="Kill this worker").click()
    await expect(page.get_by_role("alert")).to_be_visible()
    await expect(page.get_by_role("button", name="Send")).to_be_disabled()
