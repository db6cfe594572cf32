"""The playground when answers are late, lost or refused, and when people do several things at once."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Browser, Locator, Page, Route, expect

from inferencesh.local import Fail, LocalRuntime, Text, ToolCall
from tests.support import eventually

from .playgrounds import TOOL, Answers, Opened, hold_next_answer, say, use_agent, watched
from .support import GatedModel

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


def row(page: Page, name: str) -> Locator:
    """Return the button that opens a chat."""
    return page.locator("#chat-list").get_by_role("button", name=name, exact=True)


async def near_end(page: Page) -> bool:
    """Whether the end of the conversation is in sight."""
    return bool(await page.locator("#scroll").evaluate("(e) => e.scrollHeight - e.scrollTop - e.clientHeight < 60"))


async def show_agent(page: Page) -> None:
    """Open the editor."""
    await page.get_by_role("button", name="Inspect", exact=True).click()
    await page.get_by_role("tab", name="Agent").click()


# -- another chat, while something is under way ------------------------------------------------------------------------


async def test_an_agent_that_was_applied_in_one_chat_is_not_sent_to_another(opened: Opened) -> None:
    """Neither before the page has read the other chat's agent, nor when the runtime has checked it late."""
    model = Answers([Text("Yes.")])
    async with opened(model) as (_, page):
        await say(page, "One")
        await expect(row(page, "One")).to_be_visible()
        await page.get_by_role("button", name="New chat").click()
        await say(page, "Two")
        await expect(row(page, "Two")).to_be_visible()
        await use_agent(page, '{"name": "x", "system_prompt": "Be brief."}')
        read = await hold_next_answer(page, "**/playground/chat-agent")
        await row(page, "One").click()
        await say(page, "Again")
        await expect(page.locator(".assistant .text")).to_have_text(["Yes.", "Yes."])
        read.set()
        assert model.asked[2].system_prompt != "Be brief."

        await show_agent(page)
        editor = page.get_by_label("The agent's configuration as JSON")
        await editor.fill('{"name": "x", "system_prompt": "Be long."}')
        checked = await hold_next_answer(page, "**/playground/agent")
        await page.get_by_role("button", name="Apply").click()
        await row(page, "Two").click()
        await expect(page.locator(".user")).to_have_text(["Two"])
        async with page.expect_response("**/playground/agent"):
            checked.set()
        await say(page, "And again")
        await expect(page.locator(".assistant .text")).to_have_text(["Yes.", "Yes."])
        assert model.asked[3].system_prompt != "Be long."


async def test_an_agent_that_is_being_edited_is_not_replaced(opened: Opened) -> None:
    """By the chat's own, should the runtime's answer come late."""
    model = Answers([Text("Yes.")])
    async with opened(model) as (_, page):
        await say(page, "One")
        await expect(row(page, "One")).to_be_visible()
        await show_agent(page)
        read = await hold_next_answer(page, "**/playground/chat-agent")
        await row(page, "One").click()
        editor = page.get_by_label("The agent's configuration as JSON")
        await editor.fill('{"name": "x", "system_prompt": "Be brief."}')
        async with page.expect_response("**/playground/chat-agent"):
            read.set()
        await page.get_by_role("button", name="Apply").click()
        await expect(page.locator("#config-note")).to_have_text("Applied: the next message uses this agent.")
        await say(page, "Two")
        await expect(page.locator(".assistant .text")).to_have_text(["Yes.", "Yes."])
        assert model.asked[1].system_prompt == "Be brief."


async def test_a_message_that_is_sent_before_the_page_is_ready_is_shown(opened: Opened) -> None:
    """The page does not know yet what kind of runtime it has; Markdown is rendered all the same."""
    async with opened(Answers([Text("**Yes.**")])) as (_, page):
        ready = await hold_next_answer(page, "**/playground/session")
        begun = await hold_next_answer(page, "**/chats")
        await page.reload()
        await say(page, "Hi")
        async with page.expect_response("**/playground/session"):
            ready.set()
        await expect(page.locator("#model")).to_have_text("Answers")
        begun.set()
        await expect(page.locator(".user")).to_have_text("Hi")
        await expect(page.locator(".assistant strong")).to_have_text("Yes.")
        await expect(page.locator("#title")).to_have_text("Hi")


async def test_a_chat_that_was_deleted_in_another_window_leaves_the_list(opened: Opened) -> None:
    """Of the window that has it open, which says that it is gone."""
    async with opened(Answers([Text("Yes.")])) as (_, page):
        await say(page, "Hi")
        await expect(row(page, "Hi")).to_be_visible()
        other = await page.context.new_page()
        await other.goto(page.url)
        await expect(other.locator(".user")).to_have_text("Hi")
        await other.locator("#chat-list li").hover()
        await other.get_by_role("button", name="Delete Hi").click()
        await other.get_by_role("button", name="Delete", exact=True).click()
        await expect(page.get_by_role("alert")).to_contain_text("This chat does not exist any more.")
        await expect(page.get_by_text("No chats yet")).to_be_visible()
        await other.close()


async def test_opening_or_deleting_what_another_window_has_deleted(opened: Opened) -> None:
    """Says so, and the list is that of now."""
    async with opened(Answers([Text("Yes.")])) as (_, page):
        for text in ("One", "Two", "Three"):
            await page.get_by_role("button", name="New chat").click()
            await say(page, text)
            await expect(row(page, text)).to_be_visible()
        listed = await page.evaluate(
            """async () => {
                const headers = { "X-Inferencesh-Playground": "1", "Content-Type": "application/json" };
                const answer = await (await fetch("/chats/list", { method: "POST", headers, body: "{}" })).json();
                const items = (answer.data ?? answer).items.filter((each) => each.name !== "Three");
                await Promise.all(items.map((each) => fetch(`/chats/${each.id}`, { method: "DELETE", headers })));
                return items.length;
            }"""
        )
        assert listed == 2
        await page.locator("#chat-list li", has_text="One").hover()
        await page.get_by_role("button", name="Delete One").click()
        await page.get_by_role("button", name="Delete", exact=True).click()
        await expect(page.get_by_role("alert")).to_be_visible()
        await expect(page.locator("#chat-list .open")).to_have_text(["Three"])


# -- a connection that is lost -----------------------------------------------------------------------------------------


async def test_an_answer_that_breaks_off_is_a_lost_connection(opened: Opened) -> None:
    """The page reads the chat again instead of giving up, and says nothing that people cannot understand."""
    model = GatedModel([Text("One "), Text("two.")])
    async with opened(model, updates="deltas") as (runtime, page):
        await say(page, "Count")
        model.let_on()
        await expect(page.locator(".assistant .text")).to_have_text("One")
        await page.evaluate(
            """() => {
                const real = window.fetch;
                window.broken = 0;
                window.fetch = async (path, options) => {
                    const response = await real(path, options);
                    if (!String(path).includes("/messages?") || broken) return response;
                    broken += 1;
                    return new Response(new ReadableStream({ start: (it) => it.error(new TypeError("lost")) }));
                };
            }"""
        )
        runtime.cut_streams()
        model.let_on()
        await expect(page.locator(".assistant .text")).to_have_text("One two.")
        assert await page.evaluate("broken") == 1
        await expect(page.locator("#banner")).to_be_hidden()


async def test_markdown_that_could_not_be_rendered_is_rendered_when_the_runtime_is_back(opened: Opened) -> None:
    """Not only after a reload of the page."""
    async with opened(Answers([Text("**One**")])) as (runtime, page):
        await say(page, "Count")
        await expect(page.locator(".assistant strong")).to_have_text("One")
        await page.route("**/playground/markdown", lambda route: route.abort())
        await page.reload()
        await expect(page.locator(".assistant .text.plain")).to_have_text("**One**")
        await page.unroute_all()
        runtime.cut_streams()
        await expect(page.locator(".assistant strong")).to_have_text("One")


async def test_a_page_that_finds_no_runtime_at_first_opens_its_chat_later(opened: Opened) -> None:
    """The chat that its address names."""
    async with opened(Answers([Text("Yes.")])) as (_, page):
        await say(page, "Hi")
        await expect(page.locator(".assistant .text")).to_have_text("Yes.")
        await page.route("**/playground/session", lambda route: route.abort(), times=1)
        await page.reload()
        await expect(page.locator(".user")).to_have_text("Hi")
        await expect(page.get_by_role("alert")).to_be_hidden()


async def test_a_chat_that_is_gone_after_a_restart_is_said_to_be(chromium: Browser) -> None:
    """Without a database; the news that the runtime is back does not take its place."""
    first = LocalRuntime(model=Answers([Text("Hello.")]), playground="loopback", pace=0)
    await first.start()
    origin, port = first.base_url, int(first.base_url.rpartition(":")[2])
    try:
        async with watched(chromium, origin) as page:
            await page.goto(origin)
            await say(page, "Hi")
            await expect(page.locator(".assistant .text")).to_have_text("Hello.")
            known = await hold_next_answer(page, "**/playground/session")
            await first.aclose()
            await expect(page.get_by_role("alert")).to_contain_text("The runtime is not running")
            async with LocalRuntime(model=Answers([Text("Hello.")]), playground="loopback", pace=0, port=port):
                await expect(page.get_by_role("alert")).to_contain_text(
                    "This chat does not exist any more.", timeout=15_000
                )
                known.set()
                await expect(page.get_by_text("No chats yet")).to_be_visible()
                await expect(page.get_by_role("alert")).to_contain_text("This chat does not exist any more.")
    finally:
        await first.aclose()


async def test_a_key_is_never_taken_for_the_answer_to_another_question(chromium: Browser) -> None:
    """The page needs the key while the new name of a chat is asked for: one question after the other."""
    first = LocalRuntime(model=Answers([Text("Hello.")]), api_keys=["inf_secret"], playground="loopback", pace=0)
    await first.start()
    try:
        async with watched(chromium, first.base_url) as page:
            await page.goto(first.base_url)
            key = page.get_by_role("textbox", name="Enter the API key")
            await key.fill("inf_secret")
            await page.keyboard.press("Enter")
            await say(page, "Hi")
            await expect(row(page, "Hi")).to_be_visible()
            await page.locator("#chat-list li").hover()
            await page.get_by_role("button", name="Rename Hi").click()
            name = page.get_by_role("textbox", name="Rename the chat")
            await expect(name).to_be_focused()
            await page.context.clear_cookies()
            async with page.expect_response("**/playground/session"):
                first.cut_streams()
            await expect(name).to_be_visible()
            await name.fill("Other")
            await page.keyboard.press("Enter")
            await key.fill("inf_secret")
            await page.keyboard.press("Enter")
            await expect(page.locator("#title")).to_have_text("Other")
    finally:
        await first.aclose()


# -- several things at once --------------------------------------------------------------------------------------------


async def test_a_refused_message_is_put_before_what_was_typed_since(opened: Opened) -> None:
    """Nothing that was typed is lost."""
    async with opened(Answers([Text("Yes.")])) as (_, page):
        refused = asyncio.Event()

        async def refuse(route: Route) -> None:
            await refused.wait()
            await route.fulfill(status=503, json={"detail": "Too much to do."})

        await page.route("**/chats", refuse)
        await say(page, "First")
        box = page.get_by_role("textbox", name="Message", exact=True)
        await expect(box).to_have_value("")
        await box.fill("Second")
        refused.set()
        await expect(page.get_by_role("alert")).to_contain_text("Too much to do.")
        await expect(box).to_have_value("First\nSecond")


async def test_a_double_click_sends_one_message(opened: Opened) -> None:
    """On a suggestion and on “Try again”; a draft in the message box stays where it is."""
    model = Answers([Text("No"), Fail("out of credit")], [Text("Yes.")])
    async with opened(model) as (_, page):
        box = page.get_by_role("textbox", name="Message", exact=True)
        await box.fill("A draft")
        checked = await hold_next_answer(page, "**/playground/agent")
        await page.get_by_role("button", name="Tell me a story about the sea").dblclick()
        checked.set()
        await expect(page.locator(".user")).to_have_text(["Tell me a story about the sea"])
        await expect(page.locator(".assistant .note").first).to_contain_text("out of credit")
        await expect(box).to_have_value("A draft")
        await page.get_by_role("button", name="Try again").dblclick()
        await expect(page.locator(".assistant .text").last).to_have_text("Yes.")
        await say(page, "Last")
        await expect(page.locator(".user")).to_have_text(["Tell me a story about the sea"] * 2 + ["Last"])


async def test_a_queued_message_moves_behind_the_run_before_it(opened: Opened) -> None:
    """The run writes another message after it was queued, and the chat's order is the page's."""
    model = GatedModel([Text("Let me see. "), ToolCall("lookup", {})], [Text("Sunny.")], [Text("Rain.")])
    async with opened(model) as (_, page):
        await use_agent(page, TOOL % "false")
        await say(page, "Weather")
        model.let_on(2)
        await expect(page.get_by_label("Result of lookup")).to_be_visible()
        await say(page, "And tomorrow?")
        await expect(page.locator(".user.queued")).to_be_visible()
        await page.get_by_label("Result of lookup").fill("sun")
        await page.get_by_role("button", name="Answer").click()
        model.let_on(2)
        await expect(page.locator(".assistant .text").last).to_have_text("Rain.")
        await expect(page.locator(".message .text")).to_have_text(
            ["Weather", "Let me see.", "Sunny.", "And tomorrow?", "Rain."]
        )


async def test_an_answer_that_is_being_written_stays_when_another_call_is_answered(opened: Opened) -> None:
    """And a call that was answered in another window says nothing of the answer that came too late."""
    model = Answers([ToolCall("lookup", {"n": 1}), ToolCall("lookup", {"n": 2})], [Text("Thanks.")])
    async with opened(model) as (_, page):
        await use_agent(page, TOOL % "false")
        await say(page, "Look")
        boxes = page.get_by_label("Result of lookup")
        await expect(boxes).to_have_count(2)
        await boxes.last.fill("half an ans")
        await boxes.first.fill("one")
        await page.get_by_role("button", name="Answer").first.click()
        await expect(boxes).to_have_count(1)
        await expect(boxes).to_have_value("half an ans")
        refused = asyncio.Event()

        async def late(route: Route) -> None:
            await route.fetch()
            await refused.wait()
            await route.fulfill(status=409, json={"detail": "The tool call is completed."})

        await page.route("**/tools/*", late)
        await boxes.press("Enter")
        await expect(page.locator(".assistant .text").last).to_have_text("Thanks.")
        async with page.expect_response("**/tools/*"):
            refused.set()
        await say(page, "Bye")
        await expect(page.locator(".user")).to_have_count(2)
        await expect(page.locator(".refused")).to_have_count(0)


async def test_the_end_is_followed_although_text_comes_faster_than_the_browser_scrolls(opened: Opened) -> None:
    """Only who scrolls up stays where they are."""
    model = GatedModel([Text("line\n\n" * 60), Text("more\n\n" * 20)])
    async with opened(model) as (_, page):
        await say(page, "Much")
        model.let_on()
        await expect(page.locator(".assistant .text p")).to_have_count(60)
        await page.evaluate(
            """() => new Promise((scrolled) => {
                const box = document.getElementById("scroll");
                const grow = () => {
                    const more = document.createElement("div");
                    more.style.height = "500px";
                    document.getElementById("log").append(more);
                };
                grow();
                box.addEventListener("scroll", () => requestAnimationFrame(scrolled), { once: true });
                box.scrollTop = box.scrollHeight;
                grow();
            })"""
        )
        model.let_on()
        await expect(page.locator(".assistant .text p")).to_have_count(80)
        await eventually(lambda: near_end(page), "the end of the page in sight", within=5)


async def test_escape_in_a_search_field_clears_it_and_stops_nothing(opened: Opened) -> None:
    """It is the browser's key there; in an empty one it stops the reply as everywhere."""
    model = GatedModel([Text("One "), Text("two.")])
    async with opened(model) as (_, page):
        await say(page, "Count")
        model.let_on()
        await expect(page.locator(".assistant .text")).to_have_text("One")
        search = page.get_by_role("searchbox", name="Search chats")
        await search.fill("Cou")
        await search.press("Escape")
        await expect(search).to_have_value("")
        model.let_on()
        await expect(page.locator(".assistant .text")).to_have_text("One two.")


async def test_a_message_of_files_alone_is_tried_again_with_them(opened: Opened) -> None:
    """What failed is sent as it was."""
    model = Answers([Fail("out of credit")], [Text("Yes.")])
    async with opened(model) as (_, page):
        await page.locator("#file").set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"hi"})
        await expect(page.locator("#attached .uploaded")).to_have_count(1)
        await page.get_by_role("button", name="Send", exact=True).click()
        await page.get_by_role("button", name="Try again").click()
        await expect(page.locator(".assistant .text").last).to_have_text("Yes.")
        assert len(model.asked[1].messages[-1].attachments) == 1


async def test_a_long_chat_is_shown_whole(opened: Opened) -> None:
    """Also what is not on the first page of its messages."""
    async with opened(Answers([Text("Yes.")])) as (_, page):
        await say(page, "Message 0")
        await expect(page.locator(".assistant .text")).to_have_text("Yes.")
        await page.evaluate(
            """async () => {
                const headers = { "X-Inferencesh-Playground": "1", "Content-Type": "application/json" };
                const chat_id = new URLSearchParams(location.hash.slice(1)).get("chat");
                for (let n = 1; n < 130; n += 1) {
                    const body = JSON.stringify({ chat_id, input: { text: `Message ${n}` } });
                    await fetch("/agents/run", { method: "POST", headers, body });
                }
            }"""
        )
        await expect(page.locator(".user")).to_have_count(130)
        await expect(page.locator(".assistant")).to_have_count(130)
        await page.reload()
        await expect(page.locator(".assistant .text")).to_have_count(130)
        await expect(page.locator(".user").first).to_have_text("Message 0")
        await expect(page.locator(".user").last).to_have_text("Message 129")
