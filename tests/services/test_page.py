"""The page of the chat service in a real browser."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright, expect

from inferencesh.testing import ScriptedRuntime

from .uvicorns import Uvicorn

pytestmark = pytest.mark.browser

CHROMIUM = Path("/usr/bin/chromium")
ASK = ("ask_person", {"question": "Which colour?"})


@pytest.fixture(scope="module", autouse=True)
def chromium() -> None:
    """Say what is missing, should it be missing."""
    assert CHROMIUM.exists(), "these tests need Chromium: apt-get install chromium"


@pytest.fixture
async def page(service: Uvicorn) -> AsyncIterator[Page]:
    """The page, opened; no script on it may fail."""
    failures: list[str] = []
    async with async_playwright() as playwright:
        # As root, which CI is, Chromium has no sandbox; it opens pages of this test alone.
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await browser.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: failures.append(str(error)))
        await page.goto(service.address)
        yield page
        await browser.close()
    assert not failures


async def say(page: Page, text: str) -> None:
    """Type a message and send it."""
    await page.get_by_label("Message").fill(text)
    await page.get_by_label("Message").press("Enter")


async def test_a_reply_grows_under_the_message(inference_runtime: ScriptedRuntime, page: Page) -> None:
    """What was typed is there at once, and the text of the reply is shown while it is written."""
    inference_runtime.reply(pieces=["Once ", "upon ", "a time."], pause=0.5)
    await say(page, "Tell me a story")
    await expect(page.locator(".user")).to_have_text("Tell me a story")
    reply = page.locator(".assistant .text")
    await expect(reply).to_have_text("Once ")
    await expect(page.locator(".assistant")).to_have_class(re.compile("growing"))
    await expect(page.get_by_role("button", name="Stop")).to_be_visible()
    await expect(reply).to_have_text("Once upon ")
    await expect(reply).to_have_text("Once upon a time.")
    await expect(page.get_by_role("button", name="Send")).to_be_visible()
    await expect(page.locator(".growing")).to_have_count(0)


async def test_text_is_shown_as_text(inference_runtime: ScriptedRuntime, page: Page) -> None:
    """Whatever a model or a person writes, nothing of it becomes a part of the page."""
    markup = "<img src=x onerror=\"document.title='broken'\"><b>bold</b>"
    inference_runtime.reply(pieces=[markup])
    await say(page, markup)
    await expect(page.locator(".assistant .text")).to_have_text(markup)
    await expect(page.locator(".user")).to_have_text(markup)
    assert await page.title() == "Chat"
    await expect(page.locator(".message img, .message b")).to_have_count(0)


async def test_a_tool_is_answered_on_the_page(inference_runtime: ScriptedRuntime, page: Page) -> None:
    """The question has a box for its answer, and the reply goes on with it; a tool with a handler has none."""
    inference_runtime.reply(tool_calls=[("calculator", {"expression": "6 * 7"})])
    inference_runtime.reply("Let me ask. ", tool_calls=[ASK])
    inference_runtime.reply("Green it is.")
    await say(page, "Paint the door")
    question = page.locator(".call.pending")
    await expect(question).to_have_count(1)
    await expect(question).to_contain_text("Which colour?")
    await expect(page.get_by_label("Message")).to_be_disabled()
    await page.get_by_label("Answer to ask_person").fill("green")
    await question.get_by_role("button", name="Answer").click()
    await expect(page.locator(".assistant .text").last).to_have_text("Green it is.")
    await expect(page.locator(".call-state")).to_have_text(["completed", "completed"])
    await expect(page.get_by_label("Message")).to_be_enabled()
    assert [sent.result for sent in inference_runtime.tool_results] == ["42", "green"]


async def test_a_reload_in_the_middle_finds_the_conversation(inference_runtime: ScriptedRuntime, page: Page) -> None:
    """The reply goes on growing after it, and the whole conversation is there."""
    inference_runtime.reply("Hello.")
    await say(page, "Hi")
    await expect(page.locator(".assistant .text")).to_have_text("Hello.")
    pieces = [f"{number} " for number in range(40)]
    inference_runtime.reply(pieces=pieces, pause=0.08)
    await say(page, "Count")
    await expect(page.locator(".assistant .text").last).to_contain_text("3 ")
    await page.reload()
    await expect(page.locator(".user")).to_have_text(["Hi", "Count"])
    await expect(page.locator(".growing")).to_have_count(1)
    await expect(page.locator(".assistant .text")).to_have_text(["Hello.", "".join(pieces)])
    assert len(inference_runtime.requests) == 2


async def test_a_reload_finds_the_question_that_is_open(inference_runtime: ScriptedRuntime, page: Page) -> None:
    """It can be answered after it as before."""
    inference_runtime.reply(tool_calls=[ASK])
    inference_runtime.reply("Green it is.")
    await say(page, "Paint the door")
    await expect(page.locator(".call.pending")).to_be_visible()
    await page.reload()
    await page.get_by_label("Answer to ask_person").fill("green")
    await page.get_by_label("Answer to ask_person").press("Enter")
    await expect(page.locator(".assistant .text").last).to_have_text("Green it is.")


async def test_a_failed_reply_is_shown(inference_runtime: ScriptedRuntime, page: Page) -> None:
    """The service's words stand in the page, and what there was of the reply stays."""
    inference_runtime.reply("I was about to", fail="the model is out of credit")
    await say(page, "Hi")
    await expect(page.get_by_role("alert")).to_contain_text("the model is out of credit")
    await expect(page.locator(".assistant .text")).to_have_text("I was about to")


async def test_a_server_killed_in_the_middle_is_an_error_and_its_return_heals_it(
    inference_runtime: ScriptedRuntime, service: Uvicorn, page: Page
) -> None:
    """The page says that it reconnects, then that the connection was lost; later it finds the reply, whole."""
    pieces = [f"{number} " for number in range(30)]
    inference_runtime.reply(pieces=pieces, pause=0.1)
    await say(page, "Count")
    await expect(page.locator(".assistant .text")).to_contain_text("3 ")
    service.kill()
    await expect(page.get_by_role("status")).to_have_text("Reconnecting …")
    await expect(page.get_by_role("alert")).to_contain_text("The connection to the server was lost.")
    await expect(page.locator(".assistant .text")).to_contain_text("0 1 2 3 ")
    with Uvicorn(inference_runtime.environment, port=int(service.address.rpartition(":")[2])):
        await page.get_by_role("button", name="Try again").click()
        await expect(page.locator(".assistant .text")).to_have_text("".join(pieces))
        await expect(page.get_by_role("alert")).to_be_hidden()
    assert len(inference_runtime.requests) == 1, "a message is never sent twice"


async def test_a_short_loss_of_the_connection_is_healed_by_the_page(
    inference_runtime: ScriptedRuntime, service: Uvicorn, page: Page
) -> None:
    """A server that is back in time is found without anybody's help."""
    pieces = [f"{number} " for number in range(40)]
    inference_runtime.reply(pieces=pieces, pause=0.1)
    await say(page, "Count")
    await expect(page.locator(".assistant .text")).to_contain_text("3 ")
    service.kill()
    with Uvicorn(inference_runtime.environment, port=int(service.address.rpartition(":")[2])):
        await expect(page.locator(".assistant .text")).to_have_text("".join(pieces))
        await expect(page.get_by_role("alert")).to_be_hidden()


async def test_a_reply_is_stopped_on_the_page(inference_runtime: ScriptedRuntime, page: Page) -> None:
    """Stop ends the run, and what there was of the reply stays."""
    inference_runtime.reply(pieces=["One ", "two"], pause=30)
    await say(page, "Count")
    await expect(page.locator(".assistant .text")).to_have_text("One ")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator(".assistant .note")).to_have_text("This reply was stopped.")
    await expect(page.get_by_role("button", name="Send")).to_be_visible()


async def test_a_new_chat_is_another_one(inference_runtime: ScriptedRuntime, page: Page) -> None:
    """The button leaves the conversation alone and begins an empty one."""
    inference_runtime.reply("Hello.")
    inference_runtime.reply("Hello again.")
    await say(page, "Hi")
    await expect(page.locator(".assistant .text")).to_have_text("Hello.")
    await page.get_by_role("button", name="New chat").click()
    await expect(page.get_by_role("heading", name="What shall we talk about?")).to_be_visible()
    await page.get_by_role("button", name="Tell me a story").click()
    await expect(page.locator(".assistant .text")).to_have_text("Hello again.")
    assert [sent.chat_id for sent in inference_runtime.requests] == [None, None]
