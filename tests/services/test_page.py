"""The page of the chat service in a real browser."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from playwright.async_api import FilePayload, Page, async_playwright, expect

from inferencesh.testing import ScriptedRuntime

from .uvicorns import Uvicorn

pytestmark = pytest.mark.browser

CHROMIUM = Path("/usr/bin/chromium")
BOOK = ("book_trip", {"destination": "Lisbon", "nights": 2})
INTERNAL = re.compile(r"\w+Error\b|inf_|127\.0\.0\.1|upstream|run_|\b[a-z0-9]{20,}\b|\b[45]\d\d\b")
HOSTILE = (
    "<img src=https://evil.example/i.png onerror=alert(1)><script>alert(2)</script><svg onload=alert(3)>"
    "<a href='javascript:alert(4)'>x</a><style>*{display:none}</style><iframe src=https://evil.example></iframe>"
    " [md](javascript:alert(5)) ![i](https://evil.example/m.png)"
)
VIOLATIONS = """() => {
    window.violations = [];
    addEventListener("securitypolicyviolation", (event) => violations.push(event.blockedURI));
}"""
ASK = ("ask_person", {"question": "Which colour?"})


@pytest.fixture(scope="module", autouse=True)
def chromium() -> None:
    """Say what is missing, should it be missing."""
    assert CHROMIUM.exists(), "these tests need Chromium: apt-get install chromium"


@asynccontextmanager
async def opened(address: str) -> AsyncIterator[Page]:
    """The page; no script on it may fail."""
    failures: list[str] = []
    async with async_playwright() as playwright:
        # As root, which CI is, Chromium has no sandbox; it opens pages of this test alone.
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await (await browser.new_context()).new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on("dialog", lambda dialog: failures.append(dialog.message))
        await page.goto(address)
        yield page
        await browser.close()
    assert not failures


@pytest.fixture
async def page(service: Uvicorn) -> AsyncIterator[Page]:
    """The page of a service with a scripted agent."""
    async with opened(service.address) as page:
        yield page


async def say(page: Page, text: str) -> None:
    """Type a message and send it."""
    await page.get_by_label("Message").fill(text)
    await page.get_by_label("Message").press("Enter")


async def test_a_reply_grows_under_the_message(inference_runtime: ScriptedRuntime, page: Page) -> None:
    """What was typed is there at once, and the text of the reply is shown while it is written."""
    inference_runtime.reply(pieces=["Once ", "upon ", "a time."], pause=2)
    await say(page, "Tell me a story")
    await expect(page.locator(".user")).to_have_text("Tell me a story")
    reply = page.locator(".assistant .text")
    await expect(reply).to_have_text("Once")
    await expect(page.locator(".assistant")).to_have_class(re.compile("growing"))
    await expect(page.get_by_role("button", name="Stop")).to_be_visible()
    await expect(reply).to_have_text("Once upon")
    await expect(reply).to_have_text("Once upon a time.")
    await expect(page.get_by_role("button", name="Send")).to_be_visible()
    await expect(page.locator(".growing")).to_have_count(0)


async def test_a_reply_is_shown_as_markdown(inference_runtime: ScriptedRuntime, page: Page) -> None:
    """Headings, tables, code and links are what they are; what a visitor types stays as it was typed."""
    inference_runtime.reply(
        "# Plan\n\n| Day | Place |\n|---|---|\n| 1 | **Lisbon** |\n\n`x` [map](https://maps.example/)"
    )
    await say(page, "Plan **it**")
    reply = page.locator(".assistant .text")
    await expect(reply.locator("h1")).to_have_text("Plan")
    await expect(reply.locator("td strong")).to_have_text("Lisbon")
    await expect(reply.locator("code")).to_have_text("x")
    link = reply.get_by_role("link", name="map")
    await expect(link).to_have_attribute("href", "https://maps.example/")
    await expect(link).to_have_attribute("rel", "noopener noreferrer nofollow")
    await expect(page.locator(".user .text")).to_have_text("Plan **it**")


async def test_hostile_text_becomes_no_part_of_the_page(inference_runtime: ScriptedRuntime, page: Page) -> None:
    """Whatever a model or a person writes, in text or in a call's arguments: no element, no script, no request."""
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    await page.evaluate(VIOLATIONS)
    inference_runtime.reply(
        HOSTILE, tool_calls=[("ask_person", {"question": HOSTILE}), ("book_trip", {HOSTILE: HOSTILE})]
    )
    await say(page, HOSTILE)
    await expect(page.get_by_label("Your answer")).to_be_visible()
    await expect(page.locator(".assistant .text")).to_contain_text("<script>alert(2)</script>")
    await expect(page.locator(".user")).to_have_text(HOSTILE)
    elements = "img, script, svg, style, iframe, a[href^='javascript'], [onerror], [onload]"
    await expect(page.locator("#log").locator(elements)).to_have_count(0)
    assert [url for url in requests if "evil" in url] == []
    assert await page.evaluate("violations") == []
    assert await page.title() == "Chat"


async def test_a_script_that_got_into_the_page_would_not_run(page: Page) -> None:
    """The policy refuses inline scripts, other servers' files, and markup made of strings."""
    refused = await page.evaluate("""async () => {
        const blocked = [];
        addEventListener("securitypolicyviolation", (event) => blocked.push(event.effectiveDirective));
        const script = document.createElement("script");
        try { script.textContent = "document.title = 'broken'"; } catch { blocked.push("trusted types"); }
        document.body.append(script);
        const image = document.createElement("img");
        image.src = "https://evil.example/i.png";
        document.body.append(image);
        await new Promise((resolve) => setTimeout(resolve, 200));
        return blocked;
    }""")
    assert "trusted types" in refused
    assert "img-src" in refused
    assert await page.title() == "Chat"


async def test_a_tool_is_answered_on_the_page(inference_runtime: ScriptedRuntime, page: Page) -> None:
    """The question has a box for its answer, and the reply goes on with it; a tool with a handler has none."""
    inference_runtime.reply(tool_calls=[("calculator", {"expression": "6 * 7"})])
    inference_runtime.reply("Let me ask. ", tool_calls=[ASK])
    inference_runtime.reply("Green it is.")
    await say(page, "Paint the door")
    question = page.locator(".call.waits")
    await expect(question).to_have_count(1)
    await expect(question).to_contain_text("Which colour?")
    await expect(page.get_by_label("Message")).to_be_disabled()
    await expect(question).not_to_contain_text("ask_person")
    await page.get_by_label("Your answer").fill("green")
    await question.get_by_role("button", name="Answer").click()
    await expect(page.locator(".assistant .text").last).to_have_text("Green it is.")
    await expect(page.locator(".call-state")).to_have_text(["completed", "completed"])
    await expect(page.locator(".call").last).to_contain_text("green")
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
    await expect(page.locator(".assistant .text")).to_have_text(["Hello.", "".join(pieces).strip()])
    assert len(inference_runtime.requests) == 2


async def test_a_reload_finds_the_question_that_is_open(inference_runtime: ScriptedRuntime, page: Page) -> None:
    """It can be answered after it as before."""
    inference_runtime.reply(tool_calls=[ASK])
    inference_runtime.reply("Green it is.")
    await say(page, "Paint the door")
    await expect(page.locator(".call.waits")).to_be_visible()
    await page.reload()
    await page.get_by_label("Your answer").fill("green")
    await page.get_by_label("Your answer").press("Enter")
    await expect(page.locator(".assistant .text").last).to_have_text("Green it is.")


async def test_an_approved_tool_runs(inference_runtime: ScriptedRuntime, page: Page) -> None:
    """The card shows what is to be approved, and the handler runs once the button is pressed."""
    inference_runtime.reply(tool_calls=[BOOK])
    inference_runtime.reply("Have a good time!")
    await say(page, "Book it")
    card = page.get_by_role("region", name="Book a trip")
    await expect(card).to_contain_text("asks for approval")
    await expect(card).to_contain_text("Lisbon")
    assert inference_runtime.tool_results == []
    await card.get_by_role("button", name="Approve").click()
    await expect(page.locator(".assistant .text")).to_have_text("Have a good time!")
    await expect(page.locator(".call-state")).to_have_text("completed")
    assert [sent.result for sent in inference_runtime.tool_results] == ["2 nights in Lisbon are booked."]


async def test_a_rejected_tool_does_not_run(inference_runtime: ScriptedRuntime, page: Page) -> None:
    """Also after a reload; the agent goes on without it."""
    inference_runtime.reply(tool_calls=[BOOK])
    inference_runtime.reply("Nothing was booked.")
    await say(page, "Book it")
    await expect(page.get_by_role("button", name="Approve")).to_be_visible()
    await page.reload()
    await page.get_by_label("Reason for rejecting").fill("Too far")
    await page.get_by_role("button", name="Reject").click()
    await expect(page.locator(".assistant .text")).to_have_text("Nothing was booked.")
    await expect(page.locator(".call-state")).to_have_text("cancelled")
    await expect(page.get_by_label("Message")).to_be_enabled()
    assert inference_runtime.tool_results == []


async def test_a_file_goes_with_a_message(inference_runtime: ScriptedRuntime, page: Page) -> None:
    """It is uploaded while the message is written, and is named in the conversation."""
    inference_runtime.reply("Milk.")
    await page.locator("#file").set_input_files({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"Buy milk."})
    await expect(page.locator("#attached .uploaded")).to_contain_text("notes.txt")
    await say(page, "What do I need?")
    await expect(page.locator(".user")).to_contain_text("notes.txt")
    await expect(page.locator(".assistant .text")).to_have_text("Milk.")
    await expect(page.locator("#attached li")).to_have_count(0)
    assert "'filename': 'notes.txt'" in str(inference_runtime.requests[0].body)
    await page.reload()
    await expect(page.locator(".user")).to_contain_text("A file")


async def test_a_file_that_is_refused_says_why(inference_runtime: ScriptedRuntime, page: Page) -> None:
    """The message is sent without it."""
    large = FilePayload(name="large.txt", mimeType="text/plain", buffer=b"x" * 5_000_001)
    program = FilePayload(name="program.exe", mimeType="application/x-msdownload", buffer=b"MZ")
    await page.locator("#file").set_input_files([large, program])
    await expect(page.locator("#attached li").first).to_contain_text("5 MB is the most")
    await expect(page.locator("#attached li").last).to_contain_text("only images, PDFs and texts")
    inference_runtime.reply("Hello.")
    await say(page, "Hi")
    await expect(page.locator(".assistant .text")).to_have_text("Hello.")


async def test_a_failed_reply_is_told_in_plain_words(inference_runtime: ScriptedRuntime, page: Page) -> None:
    """What the service calls it is for its operators; what there was of the reply stays."""
    inference_runtime.reply("I was about to", fail="StreamError: quota of org_81f exceeded")
    await say(page, "Hi")
    await expect(page.get_by_role("alert")).to_contain_text(
        "The assistant could not finish this reply. You can ask again."
    )
    await expect(page.locator(".assistant .text")).to_have_text("I was about to")
    assert not INTERNAL.search(await page.locator("body").inner_text())


async def test_an_agent_that_cannot_be_reached_is_told_in_plain_words(
    inference_runtime: ScriptedRuntime, page: Page
) -> None:
    """Nothing that was typed is lost, and the conversation stays as it was."""
    inference_runtime.reply("Hello.")
    await say(page, "Hi")
    await expect(page.locator(".assistant .text")).to_have_text("Hello.")
    inference_runtime.stop()
    await say(page, "Thanks")
    await expect(page.get_by_role("alert")).to_contain_text("The assistant cannot be reached right now.")
    await expect(page.get_by_label("Message")).to_have_value("Thanks")
    await expect(page.locator(".user")).to_have_text(["Hi"])
    assert not INTERNAL.search(await page.locator("body").inner_text())


async def test_somebody_elses_chat_is_told_in_plain_words(
    inference_runtime: ScriptedRuntime, service: Uvicorn, page: Page
) -> None:
    """Neither what it holds nor whether there is one."""
    inference_runtime.reply("A secret.")
    async with httpx.AsyncClient() as somebody:
        chat_id = (await somebody.post(f"{service.address}/chat", json={"text": "Hi"})).json()["chat_id"]
    await page.goto(f"{service.address}/?chat={chat_id}")
    await expect(page.get_by_role("alert")).to_contain_text("This chat was not found.")
    body = await page.locator("body").inner_text()
    assert "secret" not in body
    assert not INTERNAL.search(body)


async def test_the_page_finds_the_rest_when_the_service_was_restarted(
    inference_runtime: ScriptedRuntime, service: Uvicorn, page: Page
) -> None:
    """It says that it reconnects, keeps what there was, and heals without anybody's help."""
    pieces = [f"{number} " for number in range(40)]
    inference_runtime.reply(pieces=pieces, pause=0.1)
    await say(page, "Count")
    await expect(page.locator(".assistant .text")).to_contain_text("3 ")
    service.kill()
    await expect(page.get_by_role("status")).to_have_text("Connection lost. Reconnecting …")
    await expect(page.locator(".assistant .text")).to_contain_text("0 1 2 3 ")
    with Uvicorn(inference_runtime.environment, port=int(service.address.rpartition(":")[2])):
        await expect(page.locator(".assistant .text")).to_have_text("".join(pieces).strip(), timeout=20_000)
        await expect(page.get_by_role("status")).to_be_empty()
        await expect(page.get_by_role("alert")).to_be_hidden()
        await expect(page.locator(".user")).to_have_text(["Count"])
        assert len(inference_runtime.requests) == 1, "a message is never sent twice"


async def test_the_page_finds_the_rest_when_the_network_is_back(inference_runtime: ScriptedRuntime, page: Page) -> None:
    """It notices at once that the network is gone, and again that it is back."""
    pieces = [f"{number} " for number in range(20)]
    inference_runtime.reply(pieces=pieces, pause=0.1)
    await say(page, "Count")
    await expect(page.locator(".assistant .text")).to_contain_text("3 ")
    await page.context.set_offline(True)
    await expect(page.get_by_role("status")).to_have_text("Connection lost. Reconnecting …")
    await page.context.set_offline(False)
    await expect(page.locator(".assistant .text")).to_have_text("".join(pieces).strip(), timeout=20_000)
    await expect(page.get_by_role("status")).to_be_empty()
    await expect(page.locator(".user")).to_have_text(["Count"])


async def test_a_message_that_was_not_sent_is_still_in_the_box(inference_runtime: ScriptedRuntime, page: Page) -> None:
    """A new chat is not begun without a network; in a chat the page looks whether the message has arrived."""
    await page.context.set_offline(True)
    await say(page, "Hi")
    await expect(page.get_by_role("alert")).to_contain_text("your message was not sent")
    await page.context.set_offline(False)
    inference_runtime.reply("Hello.")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator(".assistant .text")).to_have_text("Hello.")
    await expect(page.get_by_role("alert")).to_be_hidden()
    await page.context.set_offline(True)
    await say(page, "Thanks")
    await expect(page.get_by_role("status")).to_have_text("Connection lost. Reconnecting …")
    await page.context.set_offline(False)
    await expect(page.get_by_label("Message")).to_have_value("Thanks")
    await expect(page.locator(".user")).to_have_text(["Hi"])
    assert [sent.text for sent in inference_runtime.requests] == ["Hi"]


async def test_a_reply_is_stopped_on_the_page(inference_runtime: ScriptedRuntime, page: Page) -> None:
    """Stop ends the run, and what there was of the reply stays."""
    inference_runtime.reply(pieces=["One ", "two"], pause=30)
    await say(page, "Count")
    await expect(page.locator(".assistant .text")).to_have_text("One")
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
    await page.get_by_role("button", name="Tell me a story about the sea").click()
    await expect(page.locator(".assistant .text")).to_have_text("Hello again.")
    assert [sent.chat_id for sent in inference_runtime.requests] == [None, None]


@pytest.fixture
async def offline() -> AsyncIterator[Page]:
    """The page of a service without a key, which answers with the stand-in of the example."""
    with Uvicorn({"INFERENCE_API_KEY": "", "INFERENCE_BASE_URL": ""}) as service:
        async with opened(service.address) as page:
            yield page


async def test_asking_to_be_asked_gets_a_question(offline: Page) -> None:
    """As a newcomer would say it, or with the button; the reply goes on with the answer."""
    await offline.get_by_role("button", name="Ask me something").click()
    await expect(offline.get_by_role("region", name="A question for you")).to_contain_text("waits for you")
    await offline.get_by_label("Your answer").fill("Lisbon")
    await offline.get_by_role("button", name="Answer").click()
    await expect(offline.locator(".assistant .text")).to_contain_text("Lisbon")
    for sentence in ("please ask me a question!", "Ask me “Which colour?”"):
        await say(offline, sentence)
        await offline.get_by_label("Your answer").fill("blue")
        await offline.get_by_role("button", name="Answer").click()
        await expect(offline.locator(".assistant .text").last).to_contain_text("blue")
    await expect(offline.get_by_text("Which colour?").last).to_be_visible()


async def test_a_trip_is_planned_and_booked(offline: Page) -> None:
    """A question, a plan with a table, and an approval, one after the other."""
    await say(offline, "plan a trip for me")
    await offline.get_by_label("Your answer").fill("Porto | <b>")
    await offline.get_by_role("button", name="Answer").click()
    await expect(offline.get_by_role("heading", name="Three days in Porto")).to_be_visible()
    await expect(offline.locator("table tr")).to_have_count(4)
    await offline.get_by_role("button", name="Approve").click()
    await expect(offline.locator(".assistant .text").last).to_contain_text("2 nights in Porto b are booked.")


# -- late and lost answers, and several windows ------------------------------------------------------------------------

HOLD = """() => {
    const real = window.fetch;
    const answered = new Promise((resolve) => { window.release = resolve; });
    window.fetch = async (path, options) => {
        const response = await real(path, options);
        if (options.method === "POST" && path.endsWith("/stream")) await answered;
        return response;
    };
}"""


async def test_a_reply_is_stopped_before_the_page_knows_that_it_has_begun(
    inference_runtime: ScriptedRuntime, page: Page
) -> None:
    """The click is not lost, also in the first message of a chat."""
    await page.evaluate(HOLD)
    inference_runtime.reply(pieces=["One ", "two"], pause=30)
    await say(page, "Count")
    await page.get_by_role("button", name="Stop").click()
    await page.evaluate("release()")
    await expect(page.locator(".assistant .note")).to_have_text("This reply was stopped.")


async def test_an_answer_that_came_too_late_is_not_shown_as_the_answer(
    inference_runtime: ScriptedRuntime, page: Page
) -> None:
    """The question was answered in another window."""
    inference_runtime.reply(tool_calls=[ASK])
    inference_runtime.reply("Green it is.")
    await say(page, "Paint the door")
    await expect(page.get_by_label("Your answer")).to_be_visible()
    other = await page.context.new_page()
    await other.goto(page.url)
    await other.get_by_label("Your answer").fill("green")
    await other.get_by_label("Your answer").press("Enter")
    await expect(other.locator(".assistant .text").last).to_have_text("Green it is.")
    await page.get_by_label("Your answer").fill("blue")
    await page.get_by_label("Your answer").press("Enter")
    await expect(page.locator(".assistant .text").last).to_have_text("Green it is.")
    await expect(page.locator(".call-state")).to_have_text("completed")
    await expect(page.locator("#log")).not_to_contain_text("blue")
    assert [sent.result for sent in inference_runtime.tool_results] == ["green"]


async def test_an_upload_that_fails_before_the_service_is_told_in_plain_words(page: Page) -> None:
    """A proxy answers in its own words, which are not for visitors."""
    await page.route("**/files?*", lambda route: route.fulfill(status=502, body="<html>Bad Gateway</html>"))
    await page.locator("#file").set_input_files({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"Buy milk."})
    await expect(page.locator("#attached .wrong")).to_contain_text("Something went wrong. Please try again.")


async def test_the_focus_stays_where_it_is_when_a_reply_ends(inference_runtime: ScriptedRuntime, page: Page) -> None:
    """Who has gone on to something else is not taken back to the message box."""
    inference_runtime.reply(pieces=["One ", "two"], pause=1)
    await say(page, "Count")
    await expect(page.locator(".assistant .text")).to_have_text("One")
    await page.get_by_role("button", name="New chat").focus()
    await expect(page.locator(".assistant .text")).to_have_text("One two")
    await expect(page.get_by_role("button", name="Send")).to_be_visible()
    await expect(page.get_by_role("button", name="New chat")).to_be_focused()
