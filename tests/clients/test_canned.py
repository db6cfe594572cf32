"""What is on the wire, with canned answers: bodies and headers of requests, and answers no runtime would give.

Programs that use this package are also tested in this way, by mocking aiohttp.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from inferencesh import (
    APIConnectionError,
    APIError,
    ConflictError,
    InternalServerError,
    PermissionDeniedError,
    RateLimitError,
    RequirementsNotMetError,
    StreamError,
    ToolCallStatus,
    string,
    tool,
)
from tests.support import CannedAnswers, Kind

from .sides import make_side
from .test_errors import KEY

BASE = "https://api.inference.sh"
RUN = f"{BASE}/agents/run"
CHAT = f"{BASE}/chats/c1"
STREAM = f"{CHAT}/stream"
NDJSON = {"content_type": "application/x-ndjson"}


def message(text: str, status: str = "pending", **more: Any) -> dict[str, Any]:
    """An assistant message on the wire."""
    content = [{"type": "text", "text": text}] if text else []
    wire = {"id": "m2", "chat_id": "c1", "role": "assistant", "status": status, "order": 2, "content": content}
    return {**wire, "agent_run_id": "r1", **more}


def run(state: str, **more: Any) -> dict[str, Any]:
    """A chat's state on the wire."""
    return {"id": "c1", "status": "busy", "active_run": {"id": "r1", "chat_id": "c1", "state": state, **more}}


def lines(*events: tuple[str, dict[str, Any]]) -> str:
    """The body of a stream."""
    return "".join(json.dumps({"event": name, "data": data}) + "\n" for name, data in events)


ACCEPTED = {
    "data": {
        "user_message": {"id": "m1", "chat_id": "c1", "role": "user", "status": "ready", "order": 1, "content": []},
        "assistant_message": message(""),
    },
    "messages": [],
}
HELLO = lines(
    ("chats", run("working")),
    ("chat_messages", message("Hello")),
    ("chat_messages", message("Hello, world", "ready")),
    ("chats", run("completed")),
)


def test_a_whole_turn(canned: CannedAnswers, kind: Kind) -> None:
    """The message is posted with key, agent and text, then the chat's stream is opened."""
    canned.post(RUN, payload=ACCEPTED)
    canned.get(STREAM, body=HELLO, **NDJSON)
    with make_side(kind, api_key=KEY) as side:
        snapshots = side.snapshots(side.agent("a/b@1").send_message("Hi", stream=True))
    assert [snapshot.text for snapshot in snapshots] == ["Hello", "Hello, world"]
    (posted,) = canned.made("POST", RUN)
    assert json.loads(posted["data"]) == {"chat_id": None, "agent": "a/b@1", "input": {"text": "Hi"}}
    assert posted["headers"]["Authorization"] == f"Bearer {KEY}"
    assert posted["headers"]["Content-Type"] == "application/json"
    assert posted["headers"]["User-Agent"].startswith("inferencesh-python/")
    assert posted["allow_redirects"] is False
    (opened,) = canned.made("GET", STREAM)
    assert opened["headers"]["Accept"] == "application/x-ndjson"
    assert opened["headers"]["Authorization"] == f"Bearer {KEY}"


def test_the_body_of_a_described_agent(canned: CannedAnswers, kind: Kind) -> None:
    """Tools go as schemas without their handlers; context goes with the first message only; changes come too late."""
    canned.post(RUN, payload=ACCEPTED, repeat=True)
    canned.get(STREAM, body=HELLO, repeat=True, **NDJSON)
    calculator = tool("calculator").param("expression", string()).handler(print).build()
    core = {"ref": "a/b"}
    config = {"name": "helper", "core_app": core, "tools": [calculator]}
    with make_side(kind, api_key=KEY) as side:
        agent = side.agent(config, context={"customer": "Ada"})
        config["name"] = core["ref"] = "changed"
        side.result(agent.send_message("Hi"))
        side.result(agent.send_message("Again"))
    first, second = (json.loads(posted["data"]) for posted in canned.made("POST", RUN))
    sent = {"name": "helper", "core_app": {"ref": "a/b"}, "tools": [dict(calculator)]}
    expected = {"agent_config": sent, "agent_name": "helper", "input": {"text": "Hi"}}
    assert first == {**expected, "chat_id": None, "context": {"customer": "Ada"}}
    assert second == {**expected, "chat_id": "c1", "input": {"text": "Again"}}


def test_a_stream_over_server_sent_events(canned: CannedAnswers, kind: Kind) -> None:
    """A server that answers with them is understood all the same."""
    events = [json.loads(line) for line in HELLO.splitlines()]
    body = ": hello\n\n" + "".join(f"event: {e['event']}\ndata: {json.dumps(e['data'])}\n\n" for e in events)
    canned.post(RUN, payload=ACCEPTED)
    canned.get(STREAM, body=body, content_type="text/event-stream")
    with make_side(kind, api_key=KEY) as side:
        assert side.result(side.agent().send_message("Hi")).text == "Hello, world"


def test_what_the_agent_needs_and_has_not(canned: CannedAnswers, kind: Kind) -> None:
    """412 is an exception that lists what is missing."""
    missing = [{"type": "secret", "key": "OPENAI_KEY", "message": "add it", "action": {"type": "add_secret"}}]
    canned.post(RUN, status=412, payload={"satisfied": False, "errors": missing})
    with make_side(kind, api_key=KEY) as side, pytest.raises(RequirementsNotMetError) as caught:
        side.result(side.agent().send_message("Hi"))
    assert caught.value.status_code == 412
    assert list(caught.value.errors) == missing


def test_a_refusal_in_an_envelope_with_status_200(canned: CannedAnswers, kind: Kind) -> None:
    """The oldest generation of envelopes may say no with HTTP 200."""
    refusal = {"success": False, "status": 403, "error": {"code": "insufficient_scope", "message": "not yours"}}
    canned.get(CHAT, payload=refusal)
    with make_side(kind, api_key=KEY) as side, pytest.raises(PermissionDeniedError) as caught:
        side.result(side.agent(chat_id="c1").get_chat())
    assert (caught.value.code, caught.value.detail) == ("insufficient_scope", "not yours")


def test_a_rate_limit_is_waited_for(canned: CannedAnswers, kind: Kind) -> None:
    """A message that the server has put off is posted again, after the time it asked for."""
    canned.post(RUN, status=429, headers={"Retry-After": "0"}, payload={"detail": "slow down"})
    canned.post(RUN, payload=ACCEPTED)
    canned.get(STREAM, body=HELLO, **NDJSON)
    with make_side(kind, api_key=KEY) as side:
        assert side.result(side.agent().send_message("Hi")).text == "Hello, world"
    assert len(canned.made("POST", RUN)) == 2


def test_a_rate_limit_that_takes_too_long(canned: CannedAnswers, kind: Kind) -> None:
    """Its error says for how long."""
    canned.post(RUN, status=429, headers={"Retry-After": "3600"}, payload={"detail": "slow down"})
    with make_side(kind, api_key=KEY) as side, pytest.raises(RateLimitError, match="slow down") as caught:
        side.result(side.agent().send_message("Hi"))
    assert caught.value.retry_after == 3600
    assert len(canned.made("POST", RUN)) == 1


def test_a_message_is_not_sent_twice_when_the_server_fails(canned: CannedAnswers, kind: Kind) -> None:
    """500 may mean that it was taken, so it is not repeated; reading the chat is."""
    failure = {"type": f"{BASE}/errors/internal_error", "title": "Oops", "status": 500}
    canned.post(RUN, status=500, payload=failure, content_type="application/problem+json", repeat=True)
    canned.get(CHAT, status=500, payload=failure)
    canned.get(CHAT, payload={"data": run("completed")})
    with make_side(kind, api_key=KEY) as side:
        with pytest.raises(InternalServerError) as caught:
            side.result(side.agent().send_message("Hi"))
        assert (caught.value.code, caught.value.detail) == ("internal_error", "Oops")
        assert side.result(side.agent(chat_id="c1").get_chat()).id == "c1"
    assert len(canned.made("POST", RUN)) == 1
    assert len(canned.made("GET", CHAT)) == 2


def test_a_redirect_is_not_followed(canned: CannedAnswers, kind: Kind) -> None:
    """The key stays where it was meant to go; the error names where the server wants it."""
    canned.get(CHAT, status=307, headers={"Location": "https://elsewhere.example/chats/c1?token=1"})
    with make_side(kind, api_key=KEY) as side, pytest.raises(APIError, match="to https://elsewhere") as caught:
        side.result(side.agent(chat_id="c1").get_chat())
    assert "token" not in str(caught.value)
    assert len(canned.requests) == 1


def test_a_page_of_html_instead_of_a_stream(canned: CannedAnswers, kind: Kind) -> None:
    """Most likely a proxy's; it is never taken for an empty reply."""
    canned.post(RUN, payload=ACCEPTED)
    canned.get(STREAM, body="<html>Sign in</html>", content_type="text/html", repeat=True)
    canned.get(CHAT, payload={"data": run("working")}, repeat=True)
    with make_side(kind, api_key=KEY, max_reconnects=0) as side, pytest.raises(StreamError, match="text/html"):
        side.result(side.agent().send_message("Hi"))


def test_an_answer_without_a_chat(canned: CannedAnswers, kind: Kind) -> None:
    """The reply could not be found without one: an error, not an empty reply."""
    canned.post(RUN, payload={"data": {"user_message": None, "assistant_message": None}})
    with make_side(kind, api_key=KEY) as side, pytest.raises(StreamError, match="contains no chat id"):
        side.result(side.agent().send_message("Hi"))


def test_an_answer_that_is_no_object(canned: CannedAnswers, kind: Kind) -> None:
    """Something else answers at this address; the error says what was expected."""
    canned.get(CHAT, payload=["a", "list"])
    with make_side(kind, api_key=KEY) as side, pytest.raises(StreamError, match="where an object was expected"):
        side.result(side.agent(chat_id="c1").get_chat())


def test_unknown_values_are_kept(canned: CannedAnswers, kind: Kind) -> None:
    """Fields, events, blocks and enum values of later server versions neither fail nor get lost."""
    block = {"type": "hologram", "text": None, "depth": 3}
    call = {"id": "t1", "function": {"name": "f", "arguments": "{}"}, "status": "dreaming", "type": "oracle"}
    final = message("Hi", "ready", mood="good", tool_invocations=[call])
    final["content"].append(block)
    events = lines(("chats", run("pondering")), ("weather", {"id": "w"}), ("chat_messages", final))
    canned.post(RUN, payload=ACCEPTED)
    canned.get(STREAM, body=events + lines(("chats", run("completed"))), **NDJSON)
    with make_side(kind, api_key=KEY) as side:
        reply = side.result(side.agent().send_message("Hi"))
    assert (reply.text, reply.raw["mood"]) == ("Hi", "good")
    assert (reply.content[1].type, reply.content[1].raw) == ("hologram", block)
    assert (reply.tool_calls[0].status, reply.tool_calls[0].type) == (ToolCallStatus("dreaming"), "oracle")


def test_a_tool_result_on_the_wire(canned: CannedAnswers, kind: Kind) -> None:
    """One field, always text, at the address of the call."""
    canned.post(f"{BASE}/tools/t1", status=204)
    with make_side(kind, api_key=KEY) as side:
        side.result(side.agent(chat_id="c1").submit_tool_result("t1", {"a": 1}))
    (posted,) = canned.made("POST", f"{BASE}/tools/t1")
    assert json.loads(posted["data"]) == {"result": '{"a":1}'}


def test_a_result_is_posted_until_it_is_acknowledged(canned: CannedAnswers, kind: Kind) -> None:
    """Whatever the failure; a conflict after a repetition means that the first one had arrived."""
    canned.post(f"{BASE}/tools/t1", status=502, headers={"Retry-After": "0"})
    canned.post(f"{BASE}/tools/t1", status=409, payload={"detail": "already", "code": "already_processed"})
    canned.post(f"{BASE}/tools/t2", status=409, payload={"detail": "already", "code": "already_processed"})
    with make_side(kind, api_key=KEY) as side:
        agent = side.agent(chat_id="c1")
        side.result(agent.submit_tool_result("t1", "1"))
        with pytest.raises(ConflictError):
            side.result(agent.submit_tool_result("t2", "1"))
    assert len(canned.made("POST", f"{BASE}/tools/t1")) == 2


def test_a_mocked_failure_of_the_network(canned: CannedAnswers, kind: Kind) -> None:
    """aiohttp's own exceptions come out as this package's, without the request in them."""
    import aiohttp

    canned.get(CHAT, exception=aiohttp.ServerDisconnectedError())
    with make_side(kind, api_key=KEY, max_retries=0) as side, pytest.raises(APIConnectionError) as caught:
        side.result(side.agent(chat_id="c1").get_chat())
    assert KEY not in repr([caught.value, caught.value.__cause__, caught.value.__context__])
