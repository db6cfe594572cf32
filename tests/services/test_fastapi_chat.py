"""The chat service of the examples, in a process of its own, over sockets."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from inferencesh.testing import ScriptedRuntime
from tests.support import wait_until

from .support import Event, parse_sse
from .uvicorns import Uvicorn

ASK = ("ask_person", {"question": "Which colour?"})


def stream(browser: httpx.Client, text: str, chat_id: str | None = None) -> list[Event]:
    """Send a message and read the whole reply."""
    answer = browser.post("/chat/stream", json={"text": text, "chat_id": chat_id})
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
    assert browser.post("/chat", json={"text": "Thanks", "chat_id": chat_id}).json()["text"] == "You are welcome."
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
    for path in ("/chat", "/chat/stream"):
        refused = browser.post(path, json={"text": "Never mind", "chat_id": chat_id})
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
        thanked = browser.post("/chat", json={"text": "Thanks", "chat_id": chat_id})
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
        ('{"text": 5, "chat_id": ["junk"]}', ["text", "chat_id"]),
        (json.dumps({"text": "junk" * 5000}), ["text"]),
        ('{"text": "junk \\ud800"}', ["text"]),
        ('{"text": "x", "chat_id": ""}', ["chat_id"]),
        ("junk", ["body"]),
        ("[]", ["body"]),
    ]
    for path in ("/chat", "/chat/stream"):
        for body, fields in junk:
            refused = browser.post(path, content=body, headers={"Content-Type": "application/json"})
            assert refused.status_code == 422, body
            assert [each["field"] for each in refused.json()["errors"]] == fields, body
            assert "junk" not in refused.text
    assert browser.post("/chat/x/tools/y", json={"result": None}).json()["errors"][0]["field"] == "result"


def test_an_unknown_chat_is_not_found(browser: httpx.Client) -> None:
    """404 wherever a chat is named, also by ids that are no ids."""
    for chat_id in ("nope", "..%2F..%2Fetc", "%00", "a b", "\u2028"):
        answers = [
            browser.get(f"/chat/{chat_id}"),
            browser.get(f"/chat/{chat_id}/stream"),
            browser.post(f"/chat/{chat_id}/stop"),
            browser.post(f"/chat/{chat_id}/tools/x", json={"result": "y"}),
        ]
        assert [answer.status_code for answer in answers] == [404] * 4, chat_id
    for path in ("/chat", "/chat/stream"):
        assert browser.post(path, json={"text": "Hi", "chat_id": "nope"}).status_code == 404


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
