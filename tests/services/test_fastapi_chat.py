"""The chat service of the examples, in a process of its own, over sockets."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from inferencesh.testing import ScriptedRuntime
from tests.support import wait_until

from .support import Event, parse_sse
from .uvicorns import Uvicorn

ASK = ("ask_person", {"question": "Which colour?"})


def stream(browser: httpx.Client, text: str) -> list[Event]:
    """Begin a chat and read the whole reply."""
    answer = browser.post("/chat/stream", json={"text": text})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return parse_sse(answer.content)


def paused(runtime: ScriptedRuntime, browser: httpx.Client) -> tuple[str, str]:
    """A chat that waits for a person, and the call that it waits for."""
    runtime.reply("Let me ask. ", tool_calls=[ASK])
    (*_, last) = stream(browser, "Paint the door")
    assert last.name == "input_required"
    (call,) = last.data["tool_calls"]
    assert (call["pending"], call["arguments"]) == (True, ASK[1])
    return last.data["chat_id"], call["id"]


def test_a_message_gets_the_whole_reply(inference_runtime: ScriptedRuntime, browser: httpx.Client) -> None:
    """POST /chat waits for the end of the turn; handlers of tools run in the service meanwhile."""
    inference_runtime.reply(tool_calls=[("calculator", {"expression": "42 * 17"})])
    inference_runtime.reply("It is 714.")
    inference_runtime.reply("You are welcome.")
    first = browser.post("/chat", json={"text": " What is 42 * 17? "})
    assert first.status_code == 200
    assert (first.json()["text"], first.json()["done"]) == ("It is 714.", True)
    assert [sent.result for sent in inference_runtime.tool_results] == ["714"]

    chat_id = first.json()["chat_id"]
    assert browser.post(f"/chat/{chat_id}", json={"text": "Thanks"}).json()["text"] == "You are welcome."
    assert [(sent.text, sent.chat_id) for sent in inference_runtime.requests] == [
        ("What is 42 * 17?", None),
        ("Thanks", chat_id),
    ]


def test_what_a_model_writes_is_not_evaluated(
    inference_runtime: ScriptedRuntime, service: Uvicorn, browser: httpx.Client
) -> None:
    """The calculator refuses everything but two numbers, and the agent is told so."""
    service.may_log_tracebacks = True  # that of the handler
    inference_runtime.reply(tool_calls=[("calculator", {"expression": "__import__('os').getpid()"})])
    inference_runtime.reply("I cannot do that.")
    assert browser.post("/chat", json={"text": "Hack"}).json()["text"] == "I cannot do that."
    assert "write two numbers" in inference_runtime.tool_results[0].result


def test_a_reply_is_streamed_as_it_grows(inference_runtime: ScriptedRuntime, browser: httpx.Client) -> None:
    """POST /chat/stream shows each stage of the text before the next one exists, and then says done."""
    inference_runtime.reply(pieces=["One ", "two ", "three"], pause=0.2)
    texts: list[str] = []
    name = ""
    with browser.stream("POST", "/chat/stream", json={"text": "Count"}) as answer:
        chat_id = answer.headers["x-chat-id"]
        for line in answer.iter_lines():
            if line.startswith("data: "):
                texts.append(json.loads(line.removeprefix("data: "))["text"])
                if texts[-1] == "One ":
                    assert inference_runtime.open_streams == 1, "the reply is still being written"
            name = line if line.startswith("event: ") else name
    assert [text for text in dict.fromkeys(texts) if text] == ["One ", "One two ", "One two three"]
    assert name == "event: done"
    assert chat_id == browser.get(f"/chat/{chat_id}").json()["chat_id"]


def test_a_person_answers_a_tool(inference_runtime: ScriptedRuntime, browser: httpx.Client) -> None:
    """The turn pauses, POST /chat/{chat_id}/tools/{id} answers, GET /chat/{chat_id}/stream has the rest."""
    chat_id, call_id = paused(inference_runtime, browser)
    inference_runtime.reply("Green it is.")
    answered = browser.post(f"/chat/{chat_id}/tools/{call_id}", json={"result": "green"})
    assert (answered.status_code, answered.json()) == (202, {"chat_id": chat_id, "call_id": call_id})
    assert [(sent.name, sent.result) for sent in inference_runtime.tool_results] == [("ask_person", "green")]
    (*_, last) = parse_sse(browser.get(f"/chat/{chat_id}/stream").content)
    assert (last.name, last.data["text"]) == ("done", "Green it is.")

    again = browser.post(f"/chat/{chat_id}/tools/{call_id}", json={"result": "blue"})
    assert (again.status_code, again.json()["type"]) == (409, "conflict")


def test_a_conversation_is_taken_up_after_a_reload(inference_runtime: ScriptedRuntime, browser: httpx.Client) -> None:
    """GET /chat/{chat_id} has both sides, and its stream has the question that is open."""
    chat_id, call_id = paused(inference_runtime, browser)
    found = browser.get(f"/chat/{chat_id}").json()
    assert found["status"] == "awaiting_input"
    mine, its = found["messages"]
    assert (mine["role"], mine["text"]) == ("user", "Paint the door")
    assert (its["role"], its["text"], its["tool_calls"][0]["id"]) == ("assistant", "Let me ask. ", call_id)
    (*_, last) = parse_sse(browser.get(f"/chat/{chat_id}/stream").content)
    assert (last.name, last.data["tool_calls"][0]["pending"]) == ("input_required", True)


def test_a_message_to_a_paused_chat_is_told_what_is_pending(
    inference_runtime: ScriptedRuntime, browser: httpx.Client
) -> None:
    """409, with the question, on both ways to send; nothing is sent upstream."""
    chat_id, call_id = paused(inference_runtime, browser)
    for path in (f"/chat/{chat_id}", f"/chat/{chat_id}/stream"):
        refused = browser.post(path, json={"text": "Never mind"})
        assert (refused.status_code, refused.json()["type"]) == (409, "input_required")
        assert refused.json()["pending_tool_calls"] == [{"id": call_id, "name": ASK[0], "arguments": ASK[1]}]
    assert len(inference_runtime.requests) == 1


@pytest.mark.parametrize("way", ["a reload", "another message"])
def test_a_tool_called_while_no_browser_was_there_is_run_when_one_is_back(
    inference_runtime: ScriptedRuntime, browser: httpx.Client, way: str
) -> None:
    """Handlers run where a reply is streamed; a reply whose browser left at the wrong moment is not stuck for it."""
    inference_runtime.reply(delay=0.3, tool_calls=[("calculator", {"expression": "6 * 7"})])
    inference_runtime.reply("It is 42.")
    inference_runtime.reply("You are welcome.")
    with browser.stream("POST", "/chat/stream", json={"text": "What is 6 * 7?"}) as answer:
        chat_id = answer.headers["x-chat-id"]
    wait_until(lambda: browser.get(f"/chat/{chat_id}").json()["status"] == "awaiting_input", "the call", 2.0)
    assert inference_runtime.tool_results == []
    if way == "a reload":
        (*_, last) = parse_sse(browser.get(f"/chat/{chat_id}/stream").content)
        assert (last.name, last.data["text"]) == ("done", "It is 42.")
    else:
        thanked = browser.post(f"/chat/{chat_id}", json={"text": "Thanks"})
        assert thanked.json()["text"] == "You are welcome."
    assert [sent.result for sent in inference_runtime.tool_results] == ["42"]


def test_a_call_is_answered_in_its_own_chat_alone(inference_runtime: ScriptedRuntime, browser: httpx.Client) -> None:
    """Who knows one chat cannot answer the questions of another."""
    _, call_id = paused(inference_runtime, browser)
    inference_runtime.reply("Hello")
    other = browser.post("/chat", json={"text": "Hi"}).json()["chat_id"]
    refused = browser.post(f"/chat/{other}/tools/{call_id}", json={"result": "green"})
    assert (refused.status_code, refused.json()["type"]) == (404, "not_found")
    assert inference_runtime.tool_results == []


def test_junk_is_refused_with_the_field_named(browser: httpx.Client) -> None:
    """422 says which field is wrong, and repeats nothing of what was sent."""
    junk: list[tuple[str, list[str]]] = [
        ("{}", ["text"]),
        ('{"text": ""}', ["text"]),
        ('{"text": "   "}', ["text"]),
        ('{"text": 5, "files": "junk"}', ["text", "files"]),
        ('{"text": "x", "files": ["1", "2", "3", "4", "5", "junk"]}', ["files"]),
        (json.dumps({"text": "junk" * 5000}), ["text"]),
        ('{"text": "junk \\ud800"}', ["text"]),
        ("junk", ["body"]),
        ("[]", ["body"]),
    ]
    for path in ("/chat", "/chat/stream"):
        for body, fields in junk:
            refused = browser.post(path, content=body, headers={"Content-Type": "application/json"})
            assert refused.status_code == 422, body
            assert [each["field"] for each in refused.json()["errors"]] == fields, body
            assert "junk" not in refused.text


def test_an_unknown_chat_is_not_found(browser: httpx.Client) -> None:
    """404 wherever a chat is named, also by ids that are no ids."""
    for chat_id in ("nope", "..%2F..%2Fetc", "%00", "a b", "\u2028"):
        answers = [
            browser.get(f"/chat/{chat_id}"),
            browser.get(f"/chat/{chat_id}/stream"),
            browser.post(f"/chat/{chat_id}/stop"),
            browser.post(f"/chat/{chat_id}/tools/x", json={"result": "y"}),
            browser.post(f"/chat/{chat_id}/tools/x/decision", json={"approved": True}),
            browser.post(f"/chat/{chat_id}", json={"text": "Hi"}),
            browser.post(f"/chat/{chat_id}/stream", json={"text": "Hi"}),
        ]
        assert [answer.status_code for answer in answers] == [404] * 7, chat_id


@pytest.mark.parametrize(
    ("scripted", "type_", "status", "detail"),
    [
        ({"text": "Well", "fail": "the model is out of credit"}, "run_failed", 502, "the model is out of credit"),
        ({"refuse": 500}, "upstream_refused", 502, "The test's script refuses this message."),
        ({"refuse": 401}, "upstream_refused", 502, "The test's script refuses this message."),
    ],
)
def test_the_failure_of_the_upstream_is_a_502_with_its_detail(
    inference_runtime: ScriptedRuntime,
    browser: httpx.Client,
    scripted: dict[str, Any],
    type_: str,
    status: int,
    detail: str,
) -> None:
    """An error has type, detail and status, and neither key nor traceback."""
    inference_runtime.reply(**scripted)
    failed = browser.post("/chat", json={"text": "Hi"})
    assert failed.status_code == status
    assert failed.json() == {"type": type_, "detail": detail, "status": status}
    assert inference_runtime.api_key not in failed.text


def test_a_failure_in_the_middle_is_the_streams_last_event(
    inference_runtime: ScriptedRuntime, browser: httpx.Client
) -> None:
    """By then the response has begun, so the event says what the status cannot."""
    inference_runtime.reply("Well", fail="the model is out of credit")
    (*_, before, last) = stream(browser, "Hi")
    assert before.data["text"] == "Well"
    assert last == Event("error", {"type": "run_failed", "detail": "the model is out of credit", "status": 502})


def test_an_upstream_that_is_gone_is_a_502(inference_runtime: ScriptedRuntime, browser: httpx.Client) -> None:
    """Its address is not told to anybody."""
    inference_runtime.stop()
    for path in ("/chat", "/chat/stream"):
        failed = browser.post(path, json={"text": "Hi"})
        assert (failed.status_code, failed.json()["type"]) == (502, "upstream_unreachable")
        assert "127.0.0.1" not in failed.text


@pytest.mark.parametrize("silent", [False, True], ids=["while pieces come", "while nothing comes"])
def test_a_browser_that_leaves_leaves_no_upstream_stream(
    inference_runtime: ScriptedRuntime, browser: httpx.Client, *, silent: bool
) -> None:
    """Within a second, whether there is something to write to it or not; the reply is finished all the same."""
    pieces = [f"{number} " for number in range(40)]
    inference_runtime.reply(pieces=pieces, delay=1.5 if silent else 0.0, pause=0.0 if silent else 0.05)
    with browser.stream("POST", "/chat/stream", json={"text": "Count"}) as answer:
        chat_id = answer.headers["x-chat-id"]
        chunks = answer.iter_bytes()  # dropped, it would take the connection with it
        if not silent:
            next(chunks)
        wait_until(lambda: inference_runtime.open_streams == 1, "the service reads")
    wait_until(lambda: inference_runtime.open_streams == 0, "nobody reads", 1.0)
    (*_, last) = parse_sse(browser.get(f"/chat/{chat_id}/stream").content)
    assert (last.name, last.data["text"]) == ("done", "".join(pieces))


def test_a_reply_can_be_stopped(inference_runtime: ScriptedRuntime, browser: httpx.Client) -> None:
    """POST /chat/{chat_id}/stop ends the run; the stream ends with what there was."""
    inference_runtime.reply(pieces=["One ", "two"], pause=30)
    with browser.stream("POST", "/chat/stream", json={"text": "Count"}) as answer:
        assert browser.post(f"/chat/{answer.headers['x-chat-id']}/stop").status_code == 202
        (*_, last) = parse_sse(answer.read())
    assert (last.name, last.data["status"]) == ("done", "cancelled")


def test_a_dropped_upstream_stream_is_healed_before_the_browser_notices(
    inference_runtime: ScriptedRuntime, browser: httpx.Client
) -> None:
    """The SDK reconnects; the browser sees one reply."""
    inference_runtime.reply(pieces=["One ", "two ", "three"], pause=0.05, drop_after=1)
    (*_, last) = stream(browser, "Count")
    assert (last.name, last.data["text"]) == ("done", "One two three")


def test_the_service_stops_within_its_grace_period_while_streams_are_open(
    inference_runtime: ScriptedRuntime, service: Uvicorn, browser: httpx.Client
) -> None:
    """SIGTERM ends the process although a reply is being written, without a traceback, and upstream nobody reads."""
    inference_runtime.reply(pieces=["One ", "two"], pause=30)
    with browser.stream("POST", "/chat/stream", json={"text": "Count"}) as answer:
        events = answer.iter_bytes()
        next(events)
        assert service.stop() < 1 + 2, "the grace period, and time for the process to end"
        wait_until(lambda: inference_runtime.open_streams == 0, "nobody reads", 1.0)
        with pytest.raises(httpx.RemoteProtocolError):
            list(events)


# -- whose chats and files they are ------------------------------------------------------------------------------------


def test_a_chat_belongs_to_the_browser_that_began_it(
    inference_runtime: ScriptedRuntime, service: Uvicorn, browser: httpx.Client
) -> None:
    """Whoever learns the ids can neither read it, go on with it, decide nor stop it; a forged cookie is no help."""
    chat_id, call_id = wants_approval(inference_runtime, browser)
    (cookie,) = browser.cookies.jar
    assert (cookie.path, cookie.has_nonstandard_attr("HttpOnly")) == (f"/chat/{chat_id}", True)
    inference_runtime.reply("Hello.")
    with httpx.Client(base_url=service.address) as thief:
        own = thief.post("/chat", json={"text": "Hi"}).json()["chat_id"]
        (key,) = [each.value for each in thief.cookies.jar]
        assert thief.get(f"/chat/{own}").status_code == 200
        for cookies in ({}, {"Cookie": f"chat_key={key}"}, {"Cookie": "chat_key="}):
            refused = [
                thief.get(f"/chat/{chat_id}", headers=cookies),
                thief.get(f"/chat/{chat_id}/stream", headers=cookies),
                thief.post(f"/chat/{chat_id}", json={"text": "Hi"}, headers=cookies),
                thief.post(f"/chat/{chat_id}/stream", json={"text": "Hi"}, headers=cookies),
                thief.post(f"/chat/{chat_id}/stop", headers=cookies),
                thief.post(f"/chat/{chat_id}/tools/{call_id}", json={"result": "x"}, headers=cookies),
                thief.post(f"/chat/{chat_id}/tools/{call_id}/decision", json={"approved": True}, headers=cookies),
            ]
            assert [each.status_code for each in refused] == [404] * 7
        mixed = thief.post(f"/chat/{own}/tools/{call_id}/decision", json={"approved": True})
        assert (mixed.status_code, mixed.json()["type"]) == (404, "not_found")
    assert browser.get(f"/chat/{chat_id}").json()["status"] == "awaiting_input", "nothing was decided"


def wants_approval(runtime: ScriptedRuntime, browser: httpx.Client) -> tuple[str, str]:
    """A chat that waits for an approval, and the call that does."""
    runtime.reply("Shall I? ", tool_calls=[("book_trip", {"destination": "Lisbon", "nights": 2})])
    (*_, last) = stream(browser, "Book it")
    assert last.name == "input_required"
    (call,) = last.data["tool_calls"]
    assert (call["status"], call["pending"]) == ("awaiting_approval", False)
    return last.data["chat_id"], call["id"]


@pytest.mark.parametrize("approved", [True, False])
def test_a_tool_runs_only_if_it_was_approved(
    inference_runtime: ScriptedRuntime, browser: httpx.Client, *, approved: bool
) -> None:
    """Its handler runs in the service after the decision; a rejection and its reason are the agent's to know."""
    chat_id, call_id = wants_approval(inference_runtime, browser)
    busy = browser.post(f"/chat/{chat_id}", json={"text": "Hurry"})
    assert (busy.status_code, busy.json()["type"]) == (409, "input_required")
    assert [call["id"] for call in busy.json()["pending_tool_calls"]] == [call_id]
    assert len(inference_runtime.requests) == 1, "nothing is queued behind the question"
    assert inference_runtime.tool_results == []
    inference_runtime.reply("All right.")
    decision = f"/chat/{chat_id}/tools/{call_id}/decision"
    assert browser.post(decision, json={"approved": approved, "reason": "Too far"}).status_code == 202
    (*_, last) = parse_sse(browser.get(f"/chat/{chat_id}/stream").content)
    assert (last.name, last.data["text"]) == ("done", "All right.")
    results = [(sent.name, sent.result) for sent in inference_runtime.tool_results]
    assert results == ([("book_trip", "2 nights in Lisbon are booked.")] if approved else [])
    again = browser.post(decision, json={"approved": True})
    assert (again.status_code, again.json()["type"]) == (409, "conflict")


def test_an_approval_cannot_be_replaced_by_an_answer(inference_runtime: ScriptedRuntime, browser: httpx.Client) -> None:
    """Only questions are answered by people; results of other tools come from their handlers."""
    chat_id, call_id = wants_approval(inference_runtime, browser)
    forged = browser.post(f"/chat/{chat_id}/tools/{call_id}", json={"result": "It is booked."})
    assert (forged.status_code, forged.json()["type"]) == (409, "conflict")
    assert inference_runtime.tool_results == []


def test_nobody_can_forge_the_result_of_a_handler(inference_runtime: ScriptedRuntime, browser: httpx.Client) -> None:
    """Not even while its call waits for a browser to be back; then the handler runs."""
    inference_runtime.reply(delay=0.3, tool_calls=[("calculator", {"expression": "6 * 7"})])
    inference_runtime.reply("It is 42.")
    with browser.stream("POST", "/chat/stream", json={"text": "What is 6 * 7?"}) as answer:
        chat_id = answer.headers["x-chat-id"]
    wait_until(lambda: browser.get(f"/chat/{chat_id}").json()["status"] == "awaiting_input", "the call", 2.0)
    (call,) = browser.get(f"/chat/{chat_id}").json()["messages"][-1]["tool_calls"]
    forged = browser.post(f"/chat/{chat_id}/tools/{call['id']}", json={"result": "43"})
    assert (forged.status_code, forged.json()["type"]) == (409, "conflict")
    assert parse_sse(browser.get(f"/chat/{chat_id}/stream").content)[-1].data["text"] == "It is 42."
    assert [sent.result for sent in inference_runtime.tool_results] == ["42"]


def attach(
    browser: httpx.Client, data: bytes, content_type: str = "text/plain", name: str = "notes.txt"
) -> httpx.Response:
    """Upload a file as the page does."""
    return browser.post("/files", params={"filename": name}, content=data, headers={"Content-Type": content_type})


def test_an_uploaded_file_goes_with_a_message(inference_runtime: ScriptedRuntime, browser: httpx.Client) -> None:
    """Its token attaches it; the conversation says that there is a file, and not where."""
    inference_runtime.reply("Milk.")
    uploaded = attach(browser, b"Buy milk.")
    assert uploaded.status_code == 201
    sent = browser.post("/chat", json={"text": "What do I need?", "files": [uploaded.json()["token"]]})
    assert sent.json()["text"] == "Milk."
    body: Mapping[str, Any] = inference_runtime.requests[0].body
    (file,) = body["input"]["attachments"]
    assert (file["filename"], file["content_type"], file["size"]) == ("notes.txt", "text/plain", 9)
    conversation = browser.get(f"/chat/{sent.json()['chat_id']}")
    assert [each["attachments"] for each in conversation.json()["messages"]] == [["file"], []]
    assert file["uri"] not in conversation.text


def test_files_are_limited_in_size_type_and_name(browser: httpx.Client) -> None:
    """Whatever is declared; no more of a body is read than is allowed."""
    assert attach(browser, b"x" * 5_000_000).status_code == 201
    too_large = attach(browser, b"x" * 5_000_001)
    assert (too_large.status_code, too_large.json()["type"]) == (413, "too_large")
    for content_type in ("text/html", "image/svg+xml", "application/octet-stream", "", "text/plain, text/html"):
        refused = attach(browser, b"x", content_type)
        assert (refused.status_code, refused.json()["type"]) == (415, "wrong_type"), content_type
    for name in ("", "../x.txt", "a/b", "a\\b", "a\0", "a\n", "x" * 201):
        assert attach(browser, b"x", name=name).status_code == 422, name
    assert attach(browser, b"").status_code == 422


def test_only_files_that_were_uploaded_here_can_be_attached(
    inference_runtime: ScriptedRuntime, browser: httpx.Client
) -> None:
    """A token that was not signed by the service is refused before anything is sent."""
    token = attach(browser, b"x").json()["token"]
    for forged in ("", "https://internal.example/secret", token[:-1], token + "x", token.partition(".")[2]):
        refused = browser.post("/chat", json={"text": "Read it", "files": [forged]})
        assert refused.status_code == 422, forged
        assert "internal" not in refused.text
    assert inference_runtime.requests == []


def test_markdown_is_rendered_without_markup_of_the_text(browser: httpx.Client) -> None:
    """Raw HTML is text, scripts are no links, and a text that is too long is refused."""
    rendered = browser.post("/markdown", json={"text": "**a** <script>x</script>\n\n[b](javascript:x)"})
    blocks = ["<p><strong>a</strong> &lt;script&gt;x&lt;/script&gt;</p>\n", "<p>[b](javascript:x)</p>\n"]
    assert rendered.json() == {"blocks": blocks, "last_line": 2}
    assert browser.post("/markdown", json={"text": "x" * 100_001}).status_code == 422


def test_the_page_may_run_and_load_its_own_files_only(browser: httpx.Client) -> None:
    """Its policy is that of the package, and what it needs is there."""
    page = browser.get("/")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    assert "unsafe" not in policy
    for path in re.findall(r'(?:src|href)="(/[^"]+)"', page.text):
        assert browser.get(path).status_code == 200, path
