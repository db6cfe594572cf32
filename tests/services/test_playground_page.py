"""The playground in a real browser: streaming, tools, files, keys, reconnects, and hostile content.

Every page is watched: a script error, a dialog, a request to another origin or a violation of the page's content
security policy fails the test.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from playwright.async_api import Browser, Error, Page, Route, expect

from inferencesh.local import Ask, Fail, Finish, LocalRuntime, Reasoning, Text, ToolCall, Widget
from inferencesh.local._api.problems import Envelope
from inferencesh.local.feed import Updates
from tests.support import eventually

from .playgrounds import TOOL, Answers, Opened, hold_next_answer, say, use_agent, watched
from .support import GatedModel

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

HOSTILE = (
    "<img src=https://evil.example/i.png onerror=alert(1)><script>alert(2)</script>"
    "<svg onload=alert(3)><a href='javascript:alert(4)'>x</a><style>*{display:none}</style>"
    "<iframe src=https://evil.example></iframe> [md](javascript:alert(5)) ![i](https://evil.example/m.png)"
)
FROM_END = (
    "(() => { const e = document.getElementById('scroll'); return e.scrollHeight - e.scrollTop - e.clientHeight; })()"
)
ATTRIBUTES = """(all) => all.flatMap((each) => [...each.attributes].map((attribute) => attribute.name))
    .filter((name) => name.startsWith("on") || name === "srcdoc")"""
TOO_WIDE = """() => [...document.querySelectorAll("main *")]
    .filter((each) => each.offsetParent && each.getBoundingClientRect().right > innerWidth)
    .map((each) => each.outerHTML.slice(0, 80))"""
NAMELESS = """() => [...document.querySelectorAll("button, input, textarea, select")]
    .filter((each) => each.offsetParent)
    .filter((each) => !(each.getAttribute("aria-label") || each.textContent.trim() || each.closest("label")))
    .map((each) => each.outerHTML)"""
ATTACK = """async (url) => {
    const ask = (path, options) =>
        fetch(url + path, { credentials: "include", ...options }).then((response) => response.status, () => "blocked");
    const headers = { "X-Inferencesh-Playground": "1", "Content-Type": "application/json" };
    return [
        await ask("/chats/list", { method: "POST", headers, body: "{}" }),
        await ask("/playground/session", { headers }),
        await ask("/", {}),
    ];
}"""
BLIND_POST = """(url) => fetch(url + "/agents/run", { method: "POST", mode: "no-cors", credentials: "include" })
    .then((response) => response.type, () => "blocked")"""

JUNK_MESSAGE = (
    '{"event": "chat_messages", "data": {"id": "m2", "role": "assistant", "order": 9, "status": "ready", "content":'
    ' [null, 3, {"type": "<b>", "text": {}}, {"type": "image", "image": "javascript:alert(1)"},'
    ' {"type": "file", "file": "https://evil.example/<script>"}], "tool_invocations": [null, {"function": null,'
    ' "status": "<i>"}]}}'
)

# -- a conversation ----------------------------------------------------------------------------------------------------


async def test_a_reply_grows_as_markdown_and_finished_blocks_stay(opened: Opened) -> None:
    """What was typed is there at once; while text arrives, the elements of earlier blocks are not made again."""
    model = GatedModel(
        [Reasoning("Let me think."), Text("# Title\n\nOne "), Text("**two"), Text("** three\n\n- a"), Text("\n- b")]
    )
    async with opened(model) as (_, page):
        await say(page, "Show <b>me</b>")
        await expect(page.locator(".user")).to_have_text("Show <b>me</b>")
        model.let_on()
        await expect(page.locator("details.reasoning")).not_to_have_attribute("open", "")
        await expect(page.locator("details.reasoning summary")).to_have_text("Thinking …")
        model.let_on()
        text = page.locator(".assistant .text")
        await expect(text.locator("h1")).to_have_text("Title")
        await page.evaluate("document.querySelector('.assistant h1').kept = true")
        await expect(text.locator("p")).to_have_text("One")
        model.let_on(2)
        await expect(text.locator("strong")).to_have_text("two")
        await expect(page.locator(".growing")).to_have_count(1)
        model.let_on()
        await expect(text.locator("li")).to_have_text(["a", "b"])
        await expect(page.locator(".growing")).to_have_count(0)
        assert await page.evaluate("document.querySelector('.assistant h1').kept") is True
        await page.locator("details.reasoning summary").click()
        await expect(page.locator(".reasoning-text")).to_have_text("Let me think.")
        await expect(page.locator(".assistant .facts")).to_contain_text("first piece after")
        await expect(page.get_by_role("status").filter(has_text="The agent says: # Title")).to_be_attached()


async def test_without_the_library_texts_are_shown_as_they_are(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else is different."""
    monkeypatch.setitem(sys.modules, "markdown_it", None)
    async with opened(Answers([Text("# Not **a**\n"), Text("<b>title</b>")])) as (_, page):
        await say(page, "Hi")
        await expect(page.locator(".assistant .text")).to_have_text("# Not **a**\n<b>title</b>")


async def test_the_end_is_followed_only_by_those_who_look_at_it(opened: Opened) -> None:
    """Who has scrolled up stays there, and is told that there is more."""
    model = GatedModel([Text("line\n\n" * 60), Text("more\n\n" * 20), Text("last\n\n" * 20)])
    async with opened(model) as (_, page):
        await say(page, "Much")
        model.let_on()
        await expect(page.locator(".assistant .text p")).to_have_count(60)
        await eventually(lambda: _less(page, FROM_END, 60), "the end of the page in sight", within=5)
        await page.locator("#scroll").evaluate("(e) => { e.scrollTop = 100; }")
        model.let_on()
        await expect(page.locator(".assistant .text p")).to_have_count(80)
        assert await page.locator("#scroll").evaluate("(e) => e.scrollTop") == 100
        await page.get_by_role("button", name="New text below").click()
        model.let_on()
        await expect(page.locator(".assistant .text p")).to_have_count(100)
        await eventually(lambda: _less(page, FROM_END, 60), "the end of the page in sight", within=5)


async def _less(page: Page, expression: str, limit: float) -> bool:
    return float(await page.evaluate(expression)) < limit


async def test_a_reply_is_stopped_and_a_failed_one_tried_again(opened: Opened) -> None:
    """Escape stops; the error of a run stands under its reply with a button."""
    model = GatedModel([Text("One "), Text("two")], [Text("I was about"), Fail("out of credit")], [Text("Fine.")])
    async with opened(model) as (_, page):
        await say(page, "Count")
        model.let_on()
        await expect(page.locator(".assistant .text")).to_have_text("One")
        await page.keyboard.press("Escape")
        await expect(page.locator(".assistant .note")).to_have_text("This reply was stopped.")
        await expect(page.get_by_role("button", name="Stop")).to_be_hidden()
        model.let_on(8)
        await say(page, "Again")
        await expect(page.locator(".assistant .note").last).to_contain_text("This reply failed: out of credit")
        await page.get_by_role("button", name="Try again").last.click()
        await expect(page.locator(".assistant .text").last).to_have_text("Fine.")
        await expect(page.locator(".user")).to_have_text(["Count", "Again", "Again"])


async def test_a_tool_is_answered_and_json_is_checked(opened: Opened) -> None:
    """What looks like JSON must be JSON, unless it is said to be text."""
    model = Answers([ToolCall("lookup", {"city": "Lisbon", "deep": {"a": [1]}})], [Text("Thank you.")])
    async with opened(model) as (_, page):
        await use_agent(page, TOOL % "false")
        await say(page, "Weather")
        panel = page.get_by_role("region", name="Tool call lookup")
        await expect(panel).to_contain_text("Lisbon")
        await expect(panel.locator(".call-state")).to_have_text("waits for you")
        box = page.get_by_label("Result of lookup")
        await box.fill('{"sun": true')
        await expect(panel.get_by_role("status")).to_contain_text("Not JSON yet")
        await panel.get_by_role("button", name="Answer").click()
        await expect(panel.locator(".call-state")).to_have_text("waits for you")
        await box.fill('{"sun": true}')
        await expect(panel.get_by_role("status")).to_have_text("JSON is valid.")
        await box.press("Enter")
        await expect(page.locator(".assistant .text").last).to_have_text("Thank you.")
        await expect(panel.locator(".call-result")).to_contain_text('"sun": true')
        assert model.asked[1].messages[-1].text == '{"sun": true}'


@pytest.mark.parametrize("decision", ["Approve", "Reject", "Always allow"])
async def test_a_call_is_approved_or_rejected_with_its_arguments_in_sight(opened: Opened, decision: str) -> None:
    """A rejected call has the reason; an approved one of a client tool is then answered."""
    model = Answers([ToolCall("lookup", {"to": "ann"})], [Text("Done.")])
    async with opened(model) as (_, page):
        await use_agent(page, TOOL % "true")
        await say(page, "Send it")
        panel = page.get_by_role("region", name="Tool call lookup")
        await expect(panel.locator("dd")).to_have_text("ann")
        await expect(page.locator("#state")).to_have_text("waits for you")
        await panel.get_by_label("Reason for rejecting").fill("not today")
        await panel.get_by_role("button", name=decision).click()
        if decision != "Reject":
            await page.get_by_label("Result of lookup").fill("sent")
            await panel.get_by_role("button", name="Answer").click()
        await expect(page.locator(".assistant .text").last).to_have_text("Done.")
        assert ("not today" if decision == "Reject" else "sent") in model.asked[1].messages[-1].text


async def test_questions_and_widgets_are_answered(opened: Opened) -> None:
    """A question has two buttons; a widget has its fields and sends its action with what they hold."""
    surface = {
        "version": "0.9",
        "surfaceId": "s",
        "components": [
            {"id": "all", "type": "column", "children": ["hint", "name", "size", "ok"]},
            {"id": "hint", "type": "text", "text": {"path": "/hint"}},
            {"id": "name", "TextField": {"label": "Name"}},
            {"id": "size", "component": {"Select": {"label": "Size", "options": ["small", "large"]}}},
            {"id": "ok", "Button": {"label": "Order", "action": {"type": "order", "payload": {"n": 1}}}},
        ],
        "dataModel": {"hint": "Who is it for?"},
    }
    model = Answers([Ask("Shall I?")], [Widget(surface)], [Text("Ordered.")])
    async with opened(model) as (_, page):
        await say(page, "Order")
        await expect(page.get_by_role("region", name="Tool call ask")).to_contain_text("Shall I?")
        await page.get_by_role("button", name="Yes").click()
        form = page.get_by_role("form", name="Widget")
        await expect(form).to_contain_text("Who is it for?")
        await form.get_by_label("Name").fill("Ann")
        await form.get_by_label("Size").select_option("large")
        await form.get_by_role("button", name="Order").click()
        await expect(page.locator(".assistant .text").last).to_have_text("Ordered.")
        answer = model.asked[2].messages[-1].text
        assert answer == '{"action":{"type":"order","payload":{"n":1}},"form_data":{"name":"Ann","size":"large"}}'


@pytest.mark.parametrize(
    ("updates", "envelope", "replay"), [("deltas", "v1", False), ("snapshots", "v2", True), ("deltas", "v3", True)]
)
async def test_every_form_of_the_wire_is_understood(
    chromium: Browser, updates: Updates, envelope: Envelope, replay: bool
) -> None:
    """Deltas alone, whole messages alone, the envelopes of each generation, and streams that replay nothing."""
    model = GatedModel([Text("One "), Text("two "), ToolCall("nothing", {})], [Text("**three**")])
    async with (
        LocalRuntime(
            model=model, playground="loopback", pace=0, updates=updates, envelope=envelope, replay=replay
        ) as runtime,
        watched(chromium, runtime.base_url) as page,
    ):
        await page.goto(runtime.base_url)
        await say(page, "Count")
        model.let_on()
        await expect(page.locator(".assistant .text")).to_have_text("One")
        await page.reload()
        await expect(page.locator(".assistant .text")).to_have_text("One")
        model.let_on(2)
        await expect(page.locator(".assistant .text")).to_have_text("One two")
        await expect(page.locator(".call-state")).to_have_text("failed")
        model.let_on()
        await expect(page.locator(".assistant strong")).to_have_text("three")
        await expect(page.locator(".user")).to_have_text("Count")


async def test_an_answer_that_is_late_does_not_replace_what_the_stream_has_brought(opened: Opened) -> None:
    """The answer to a message shows its reply as it was at first; meanwhile deltas have brought text."""
    model = GatedModel([Text("One "), Text("two.")])
    async with opened(model, updates="deltas") as (_, page):
        shown = await hold_next_answer(page, "**/agents/run")
        await say(page, "Count")
        model.let_on()
        await expect(page.locator(".assistant .text")).to_have_text("One")
        async with page.expect_response("**/agents/run"):
            shown.set()
        await expect(page.get_by_role("textbox", name="Message", exact=True)).to_have_value("")
        await expect(page.locator(".assistant .text")).to_have_text("One")
        model.let_on()
        await expect(page.locator(".assistant .text")).to_have_text("One two.")


async def test_text_that_was_read_and_streamed_is_shown_once(opened: Opened) -> None:
    """The stream is open before the messages are read, so both contain what was written in between."""
    model = GatedModel([Text("One "), Text("two "), Text("three.")])
    async with opened(model, updates="deltas", replay=False) as (_, page):
        await say(page, "Count")
        model.let_on()
        await expect(page.locator(".assistant .text")).to_have_text("One")

        async def read_late(route: Route) -> None:
            model.let_on()
            answer = await route.fetch()
            while "two" not in await answer.text():
                answer = await route.fetch()
            await route.fulfill(response=answer)

        await page.route("**/messages?*", read_late, times=1)
        await page.reload()
        await expect(page.locator(".assistant .text")).to_have_text("One two")
        model.let_on()
        await expect(page.locator(".assistant .text")).to_have_text("One two three.")


async def test_two_messages_in_quick_succession_begin_one_chat(opened: Opened) -> None:
    """The second is sent before the runtime has answered that there is a chat."""
    async with opened(Answers([Text("Yes.")])) as (_, page):
        both = await hold_next_answer(page, "**/chats")
        await say(page, "First")
        await say(page, "Second")
        both.set()
        await expect(page.locator(".user")).to_have_text(["First", "Second"])
        await expect(page.locator(".assistant .text")).to_have_text(["Yes.", "Yes."])
        await page.get_by_role("button", name="New chat").click()
        await expect(page.locator("#chat-list li")).to_have_count(1)


async def test_what_is_answered_after_another_chat_was_opened_is_not_shown_there(opened: Opened) -> None:
    """Nor does the page go back to the chat that a message has begun meanwhile, or send a message to another one."""
    async with opened(Answers([Text("Yes.")])) as (_, page):
        await say(page, "In one chat")
        await expect(page.locator(".assistant .text")).to_have_text("Yes.")
        one = page.locator("#chat-list").get_by_role("button", name="In one chat", exact=True)
        await expect(one).to_be_visible()
        for held in ("**/chats", "**/agents/run"):
            await page.get_by_role("button", name="New chat").click()
            moved = await hold_next_answer(page, held)
            async with page.expect_response("**/agents/run"):
                await say(page, "In another")
                await one.click()
                await expect(page.locator(".user")).to_have_text("In one chat")
                moved.set()
            await expect(page.locator("#title")).to_have_text("In one chat")
            await expect(page.locator(".user")).to_have_text("In one chat")
        await expect(page.locator("#chat-list li")).to_have_count(3)
        await expect(page.locator(".user")).to_have_text("In one chat")


async def test_a_message_waits_in_the_queue_and_can_be_taken_back(opened: Opened) -> None:
    """While a run goes on."""
    model = GatedModel([Text("One "), Text("two.")])
    async with opened(model) as (_, page):
        await say(page, "Count")
        model.let_on()
        await expect(page.locator(".assistant .text")).to_have_text("One")
        await say(page, "And then")
        await expect(page.locator(".user.queued")).to_contain_text("Waits for the run before it.")
        await page.get_by_role("button", name="Take back").click()
        await expect(page.locator(".user .note").last).to_have_text("Taken back.")
        model.let_on()
        await expect(page.locator(".assistant .text")).to_have_text("One two.")


async def test_structured_output_grows(opened: Opened) -> None:
    """Its beginning is laid out before its end has come."""
    output = {"title": "Dinner", "guests": [{"name": f"guest {n}"} for n in range(20)]}
    async with opened(Answers([Finish(output)]), pace=0.05) as (_, page):
        await use_agent(page, '{"name": "x", "output_schema": {"type": "object"}}')
        await say(page, "Plan")
        panel = page.get_by_role("region", name="Structured output")
        await expect(panel.locator(".call-state")).to_have_text("being written")
        await expect(panel.locator("pre")).to_contain_text('"title": "Dinner"')
        assert "guest 19" not in await panel.locator("pre").inner_text()
        await expect(panel.locator("pre")).to_contain_text("guest 19", timeout=15_000)
        await expect(panel.locator(".call-state")).to_have_text("completed", timeout=15_000)


async def test_files_are_dropped_pasted_and_chosen(opened: Opened) -> None:
    """Each is uploaded, can be removed, and goes with the message."""
    model = Answers([Text("Got it.")])
    async with opened(model) as (_, page):
        hostile = "<img src=x onerror=alert(1)>.txt"
        await page.locator("#file").set_input_files({"name": hostile, "mimeType": "text/plain", "buffer": b"hi"})
        await expect(page.locator("#attached .uploaded .file-name")).to_have_text(hostile)
        for event, holder in (("drop", "dataTransfer"), ("paste", "clipboardData")):
            await page.evaluate(
                """([event, holder]) => {
                    const data = new DataTransfer();
                    data.items.add(new File(["x"], `${event}.png`, { type: "image/png" }));
                    const made = new Event(event, { bubbles: true, cancelable: true });
                    Object.defineProperty(made, holder, { value: data });
                    document.getElementById("text").dispatchEvent(made);
                }""",
                [event, holder],
            )
        await expect(page.locator("#attached .uploaded .file-name")).to_have_text([hostile, "drop.png", "paste.png"])
        await page.get_by_role("button", name="Remove drop.png").click()
        await say(page, "Here")
        await expect(page.locator(".assistant .text")).to_have_text("Got it.")
        await expect(page.locator("#attached li")).to_have_count(0)
        sent = model.asked[0].messages[-1].attachments
        assert [(each.filename, each.content_type) for each in sent] == [
            (hostile, "text/plain"),
            ("paste.png", "image/png"),
        ]


# -- the list, the inspector, the agent --------------------------------------------------------------------------------


async def test_chats_are_found_renamed_and_deleted(opened: Opened) -> None:
    """With a title that would like to be markup."""
    async with opened(Answers([Text("Hello.")])) as (_, page):
        for text in ("First", HOSTILE):
            await page.get_by_role("button", name="New chat").click()
            await say(page, text)
            await expect(page.locator(".assistant .text")).to_have_text("Hello.")
        await expect(page.locator("#chat-list li")).to_have_count(2)
        await expect(page.locator("#title")).to_contain_text("<img src=https")
        await page.get_by_role("searchbox", name="Search chats").fill("fir")
        await expect(page.locator("#chat-list .open")).to_have_text(["First"])
        await page.locator("#chat-list li").hover()
        await page.get_by_role("button", name="Rename First").click()
        await page.get_by_role("textbox", name="Rename the chat").fill(HOSTILE[:60])
        await page.keyboard.press("Enter")
        await expect(page.locator("#no-chats")).to_have_text("No chat has this in its title.")
        await page.get_by_role("searchbox", name="Search chats").fill("")
        await page.locator("#chat-list .open").last.click()
        await expect(page.locator(".user")).to_have_text("First")
        await expect(page.locator("#title")).to_have_text(HOSTILE[:60])
        await page.locator("#chat-list li").last.hover()
        await page.get_by_role("button", name="Delete").last.click()
        await page.get_by_role("button", name="Delete", exact=True).click()
        await expect(page.locator("#chat-list li")).to_have_count(1)
        await expect(page.get_by_role("heading", name="Try an agent")).to_be_visible()


async def test_the_inspector_filters_pauses_clears_and_copies_a_test(opened: Opened) -> None:
    """The copied source is the test of what was seen."""
    async with opened(Answers([Text("One "), Text("two.")])) as (_, page):
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Inspect", exact=True).click()
        await say(page, "Hi")
        await expect(page.locator(".assistant .text")).to_have_text("One two.")
        rows = page.locator("#event-list li")
        await page.get_by_label("Filter events").fill("delta")
        await expect(rows).to_have_count(2)
        await rows.first.locator("summary").click()
        await expect(rows.first.locator("pre")).to_contain_text('"response": "One "')
        await page.get_by_role("button", name="Copy as test").click()
        source = page.get_by_label("The test's source")
        await expect(source).not_to_have_value("")
        code = await source.input_value()
        assert "runtime.reply('One two.')" in code
        assert "agent.send_message('Hi')" in code
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Pause").click()
        await say(page, "Again")
        await expect(page.locator(".assistant .text")).to_have_count(2)
        await expect(page.locator("#event-count")).to_contain_text("waiting")
        await expect(rows).to_have_count(2)
        await page.get_by_role("button", name="Go on").click()
        await expect(rows).to_have_count(4)
        await page.get_by_role("button", name="Clear").click()
        await expect(rows).to_have_count(0)
        await page.get_by_role("tab", name="Run").click()
        await expect(page.locator("#facts")).to_contain_text("completed")
        await expect(page.locator("#facts")).to_contain_text("Answers")


async def test_the_agent_is_edited_with_messages_about_what_is_wrong(opened: Opened) -> None:
    """First by the page, then by the runtime; a change is used from the next message on."""
    model = Answers([Text("Hello.")])
    async with opened(model) as (_, page):
        await page.get_by_role("button", name="Inspect", exact=True).click()
        await page.get_by_role("tab", name="Events").press("ArrowRight")
        editor, note = page.get_by_label("The agent's configuration as JSON"), page.locator("#config-note")
        await editor.fill('{"name": "x",}')
        await expect(note).to_contain_text("line 1 column 14")
        await editor.fill('{"name": "x", "tools": [{"name": 3, "type": "client"}]}')
        await page.get_by_role("button", name="Apply").click()
        await expect(note).to_contain_text("tools[0].name: ")
        await editor.fill('{"name": "x", "system_prompt": "Be brief."}')
        await page.get_by_role("button", name="Apply").click()
        await say(page, "Hi")
        await expect(page.locator(".assistant .text")).to_have_text("Hello.")
        await editor.fill('{"name": "x", "system_prompt": "Be long."}')
        await page.get_by_role("button", name="Apply").click()
        await say(page, "Hi")
        await expect(page.locator(".assistant .text")).to_have_text(["Hello.", "Hello."])
        assert [each.system_prompt for each in model.asked] == ["Be brief.", "Be long."]
        await page.reload()
        await expect(page.locator(".user")).to_have_count(2)
        await page.get_by_role("button", name="Inspect", exact=True).click()
        await page.get_by_role("tab", name="Agent").click()
        await expect(editor).to_have_value(re.compile("Be long"))


# -- hostile content ---------------------------------------------------------------------------------------------------


async def test_hostile_content_is_shown_and_never_runs(opened: Opened) -> None:
    """In text, reasoning, names and arguments of calls, results, questions, widgets and outputs."""
    widget = {
        "components": [
            {"id": "root", "type": "column", "children": ["root", "t", "i", HOSTILE, "b"]},
            {"id": "t", "type": "text", "text": HOSTILE},
            {"id": "i", "Image": {"url": "javascript:alert(1)", "alt": HOSTILE}},
            {"id": "j", "Image": {"url": "https://evil.example/x.png"}},
            {"id": "__proto__", "type": HOSTILE, "onclick": HOSTILE},
            {"id": "b", "Button": {"label": HOSTILE, "action": {"type": HOSTILE}}},
            HOSTILE,
            None,
        ],
        "dataModel": HOSTILE,
    }
    model = Answers(
        [Reasoning(HOSTILE), Text(HOSTILE), ToolCall(HOSTILE, {HOSTILE: HOSTILE, "__proto__": {"x": HOSTILE}})],
        [Ask(HOSTILE)],
        [Widget(widget)],
        [Text(f"```{HOSTILE}\n{HOSTILE}\n```\n\n| {HOSTILE} |\n|---|\n| x |\n\n{HOSTILE}")],
    )
    async with opened(model) as (_, page):
        await page.get_by_role("button", name="Inspect", exact=True).click()
        await say(page, HOSTILE)
        await page.get_by_role("button", name="Yes").click()
        await page.get_by_role("form", name="Widget").get_by_role("button").first.click()
        await expect(page.locator(".assistant pre code")).to_contain_text("<script>alert(2)</script>")
        await page.locator("details").evaluate_all("(all) => all.forEach((each) => { each.open = true; })")
        assert await page.locator("#log :is(script, iframe, style, img, svg, object, embed)").count() == 0
        addresses = await page.locator("a[href]").evaluate_all("(all) => all.map((each) => each.getAttribute('href'))")
        assert [each for each in addresses if not each.startswith(("https://", "#text"))] == []
        assert await page.locator("*").evaluate_all(ATTRIBUTES) == []
        await page.get_by_role("button", name="Copy as test").click()
        await expect(page.get_by_label("The test's source")).to_have_value(re.compile("alert"))
        assert "Playground" in await page.title()


async def test_the_page_trusts_nobody_with_its_markup(opened: Opened) -> None:
    """Not even its own server: unknown elements and attributes are dropped, and no script can make markup of a text."""
    html = f"<p onclick='alert(1)'>Kept <b>bold</b> {HOSTILE} <a href='javascript:alert(6)'>l</a></p>"

    async def render(route: Route) -> None:
        await route.fulfill(json={"blocks": [html, HOSTILE], "last_line": 0})

    async with opened(Answers([Text("Hello.")])) as (_, page):
        await page.route("**/playground/markdown", render)
        await say(page, "Hi")
        await expect(page.locator(".assistant .text")).to_contain_text("Kept bold")
        made = page.locator(".assistant .text *")
        assert set(await made.evaluate_all("(all) => all.map((each) => each.localName)")) <= {"div", "p", "a"}
        assert await made.evaluate_all("(all) => all.flatMap((each) => each.getAttributeNames())") == []
        for attack in (
            "innerHTML = '<b>x</b>'",
            "append(Object.assign(document.createElement('script'), {text: 'hit = 1'}))",
        ):
            with pytest.raises(Error, match=r"Trusted(HTML|Script)"):
                await page.evaluate(f"document.body.{attack}")
        assert await page.evaluate("typeof hit") == "undefined"
        blocked = await page.evaluate("violations.splice(0)")  # also what the parser met in the hostile HTML
        assert sum("require-trusted-types-for" in each for each in blocked) == 2
        assert {each.partition("script-src")[0] for each in blocked if "script-src" in each} == {"inline"}


async def test_junk_events_are_shown_and_never_run(opened: Opened) -> None:
    """Lines that are not JSON, of the wrong types, unknown and hostile; the conversation goes on."""
    junk = [
        "not json <script>alert(1)</script>",
        "[]",
        "null",
        '{"event": "<img src=x onerror=alert(1)>", "data": "<svg onload=alert(1)>"}',
        '{"event": "chats", "data": {"id": {}, "name": 3}}',
        '{"event": "chat_messages", "data": {"id": "m1", "role": "assistant", "order": "x", "status": 7}}',
        JUNK_MESSAGE,
        '{"event": "delta", "data": {"resource_id": "m2", "delta": {"tool_calls": [null, 4, {"index": "__proto__"}]}}}',
        '{"event": "delta", "data": {"resource_id": "m2", "delta": {"response": "Still **here**"}}}',
        '{"event": "agent_runs", "data": {"id": "r", "state": "<b>", "error": {}}}',
    ]

    async def stream(route: Route) -> None:
        await route.fulfill(status=200, content_type="application/x-ndjson", body="\n".join(junk) + "\n")

    async with opened(Answers([Text("Hello.")])) as (_, page):
        await say(page, "Hi")
        await expect(page.locator(".assistant .text")).to_have_text("Hello.")
        await page.route("**/chats/*/stream", stream)
        await page.reload()
        await expect(page.locator(".text", has_text="Still here").first).to_be_visible()
        await page.get_by_role("button", name="Inspect", exact=True).click()
        await expect(page.locator('#event-list [data-event="unreadable"]').first).to_contain_text("<script>alert(1)")
        await expect(page.locator("#event-list .event-name", has_text="<img").first).to_be_visible()
        await page.unroute_all()


# -- keys, sizes, reconnects -------------------------------------------------------------------------------------------


async def test_everything_can_be_done_with_the_keyboard(opened: Opened) -> None:
    """Each shortcut, the order of the focus, and a list of the shortcuts."""
    async with opened(Answers([Text("Hello.")])) as (_, page):
        box = page.get_by_role("textbox", name="Message", exact=True)
        await expect(box).to_be_focused()
        await page.keyboard.type("one")
        await page.keyboard.press("Shift+Enter")
        await page.keyboard.type("two/?")
        await page.keyboard.press("Enter")
        await expect(page.locator(".user")).to_have_text("one\ntwo/?")
        await expect(page.locator(".assistant .text")).to_have_text("Hello.")
        await expect(page.locator("#chat-list .open")).to_have_text("one")
        await box.evaluate("(e) => e.blur()")
        await page.keyboard.press("/")
        await expect(page.get_by_role("searchbox", name="Search chats")).to_be_focused()
        await page.keyboard.press("ArrowDown")
        await expect(page.locator("#chat-list .open")).to_be_focused()
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
        await page.keyboard.press("Escape")
        await page.keyboard.press("i")
        await expect(page.get_by_role("complementary", name="Inspector")).to_be_visible()
        await page.keyboard.press("n")
        await expect(page.get_by_role("heading", name="Try an agent")).to_be_visible()
        await expect(box).to_be_focused()
        assert await page.evaluate(NAMELESS) == [], "controls without a name"


async def test_it_fits_on_a_phone(opened: Opened) -> None:
    """The chats are in a drawer, nothing is wider than the screen."""
    phone = {"viewport": {"width": 375, "height": 700}, "has_touch": True}
    async with opened(Answers([Text("Hello. " + "wide" * 100)]), context=phone) as (_, page):
        await say(page, "Hi")
        await expect(page.locator(".assistant .text")).to_contain_text("Hello.")
        await expect(page.get_by_role("searchbox", name="Search chats")).to_be_hidden()
        await page.get_by_role("button", name="Open the list of chats").tap()
        await expect(page.get_by_role("searchbox", name="Search chats")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("searchbox", name="Search chats")).to_be_hidden()
        await page.get_by_role("button", name="Inspect", exact=True).tap()
        await page.get_by_role("button", name="Close the inspector").tap()
        assert await page.evaluate(TOO_WIDE) == []


async def test_the_theme_follows_the_system_or_the_choice(opened: Opened) -> None:
    """The choice is kept; colours are read from the page."""
    async with opened(Answers([Text("Hello.")]), context={"color_scheme": "dark"}) as (_, page):
        paper = "getComputedStyle(document.body).backgroundColor"
        dark = await page.evaluate(paper)
        await page.emulate_media(color_scheme="light")
        light = await page.evaluate(paper)
        assert dark != light
        await page.get_by_role("button", name="Theme").click()
        assert await page.evaluate(paper) == dark
        await page.reload()
        assert await page.evaluate(paper) == dark
        assert await page.evaluate("Object.keys(localStorage)") == ["inferencesh-theme"]


async def test_it_reconnects_by_itself(chromium: Browser, tmp_path: Path) -> None:
    """Without the runtime the page says how to start one; when it is back, it gets a new session for the same chat."""
    model = Answers([Text("Hello.")], [Text("Welcome back.")])
    db = tmp_path / "chats.db"
    first = LocalRuntime(model=model, playground="loopback", pace=0, db=db)
    await first.start()
    origin, port = first.base_url, int(first.base_url.rpartition(":")[2])
    try:
        async with watched(chromium, origin) as page:
            await page.goto(origin)
            await say(page, "Hi")
            await expect(page.locator(".assistant .text")).to_have_text("Hello.")
            await first.aclose()
            await expect(page.get_by_role("alert")).to_contain_text("The runtime is not running: start it with")
            await say(page, "Are you there?")
            await expect(page.get_by_role("textbox", name="Message", exact=True)).to_have_value("Are you there?")
            async with LocalRuntime(model=model, playground="loopback", pace=0, db=db, port=port):
                await expect(page.get_by_role("alert")).to_be_hidden()
                await page.get_by_role("textbox", name="Message", exact=True).press("Enter")
                await expect(page.locator(".assistant .text")).to_have_text(["Hello.", "Welcome back."])
    finally:
        await first.aclose()


async def test_a_page_that_waits_for_its_runtime_finds_it(opened: Opened) -> None:
    """Also without a chat that is open, and a stream that broke is continued without a gap."""
    model = GatedModel([Text("One "), Text("two.")])
    async with opened(model) as (runtime, page):
        await say(page, "Count")
        model.let_on()
        await expect(page.locator(".assistant .text")).to_have_text("One")
        runtime.cut_streams()
        model.let_on()
        await expect(page.locator(".assistant .text")).to_have_text("One two.")
        await expect(page.locator("#banner")).to_be_hidden()
        await page.context.set_offline(True)
        await page.get_by_role("button", name="New chat").click()
        await say(page, "Hi")
        await expect(page.get_by_role("alert")).to_contain_text("The runtime is not running")
        await page.context.set_offline(False)
        await expect(page.get_by_role("alert")).to_be_hidden()


# -- the key -----------------------------------------------------------------------------------------------------------


async def test_the_key_is_entered_once_and_is_nowhere_on_the_page(chromium: Browser) -> None:
    """Not in the address, the storage, the HTML, nor in a cookie that scripts can read."""
    model = Answers([Text("Hello.")])
    async with (
        LocalRuntime(model=model, api_keys=["inf_secret"], playground="loopback") as runtime,
        watched(chromium, runtime.base_url) as page,
    ):
        sent: list[str] = []
        page.on("request", lambda request: sent.append(f"{request.url} {request.headers}"))
        await page.goto(runtime.base_url)
        for key, hint in (("inf_wrong", "a key of its own"), ("inf_secret", "This is not a key of the runtime.")):
            await expect(page.get_by_role("dialog")).to_contain_text(hint)
            await page.get_by_role("textbox", name="Enter the API key").fill(key)
            await page.get_by_role("button", name="Sign in").click()
        await say(page, "Hi")
        await expect(page.locator(".assistant .text")).to_have_text("Hello.")
        await page.reload()
        await expect(page.locator(".assistant .text")).to_have_text("Hello.")
        everything = await page.evaluate(
            "JSON.stringify([location.href, {...localStorage}, {...sessionStorage}, document.cookie,"
            " document.documentElement.outerHTML, [...document.querySelectorAll('input')].map((e) => e.value)])"
        )
        assert "inf_secret" not in everything + "".join(sent)
        assert "inferencesh_playground" not in everything
        (cookie,) = await page.context.cookies()
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Strict"
        assert "inf_secret" not in cookie["value"]


async def test_another_site_gets_nothing(opened: Opened) -> None:
    """A page of another port of this machine, which browsers count to the same site, can neither ask nor embed."""
    async with opened(Answers([Text("Hello.")])) as (runtime, page):
        async with LocalRuntime(playground="loopback") as other:
            attacker = await page.context.new_page()
            await attacker.goto(f"{other.base_url}/playground/icon.svg")
            assert await attacker.evaluate(ATTACK, runtime.base_url) == ["blocked", "blocked", "blocked"]
            assert await attacker.evaluate(BLIND_POST, runtime.base_url) in {"opaque", "blocked"}
            await attacker.close()
        await page.reload()
        await expect(page.get_by_text("No chats yet")).to_be_visible()
