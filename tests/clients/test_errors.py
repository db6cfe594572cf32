"""What goes wrong is a typed error with status, code and explanation, on requests and on streams, in both clients."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, get_args

import pytest

from inferencesh import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AsyncInference,
    AuthenticationError,
    ConfigurationError,
    Inference,
    InferenceError,
    NotFoundError,
    Timeout,
    async_inference,
    inference,
    tool,
)
from inferencesh.local._api.problems import Envelope
from tests.support import Kind

from .conftest import Connect, Serve
from .sides import Side, make_side

MAKERS = [AsyncInference, Inference, async_inference, inference]
KEY = "inf_secret_0123456789"
ENVELOPES = get_args(Envelope)
Use = Callable[[Side, Any], Any]

USES: dict[str, Use] = {
    "send_message": lambda side, agent: side.result(agent.send_message("Hi")),
    "a stream": lambda side, agent: side.snapshots(agent.send_message("Hi", stream=True)),
    "a stream's result": lambda side, agent: side.result(agent.send_message("Hi", stream=True).get_final_message()),
    "a block": lambda side, agent: side.within(agent.send_message("Hi", stream=True), lambda _stream: None),
    "stream_messages": lambda side, agent: side.snapshots(agent.stream_messages()),
    "wait": lambda side, agent: side.result(agent.wait()),
    "get_chat": lambda side, agent: side.result(agent.get_chat()),
    "stop": lambda side, agent: side.result(agent.stop()),
    "submit_tool_result": lambda side, agent: side.result(agent.submit_tool_result("call", "1")),
}

NO_TURN = {"get_chat", "stop", "submit_tool_result"}


@pytest.mark.parametrize("envelope", ENVELOPES)
@pytest.mark.parametrize("use", USES)
def test_a_wrong_key(serve: Serve, connect: Connect, use: str, envelope: Envelope) -> None:
    """AuthenticationError with 401, the server's code and its words; the key is not in it."""
    side = connect(serve(["Hello"], envelope=envelope), api_key=KEY)
    with pytest.raises(AuthenticationError) as caught:
        USES[use](side, side.agent(chat_id="chat"))
    error = caught.value
    assert (error.status_code, error.code) == (401, "unauthorized")
    assert "key is missing or unknown" in error.detail
    assert error.request_id
    assert str(error) == f"{error.detail} (HTTP 401, unauthorized; request {error.request_id})"
    assert KEY not in json.dumps([str(error), repr(error), repr(error.body), repr(vars(error))])


@pytest.mark.parametrize("envelope", ENVELOPES)
@pytest.mark.parametrize("use", USES)
def test_a_missing_chat_or_call(serve: Serve, connect: Connect, use: str, envelope: Envelope) -> None:
    """NotFoundError with 404 and the server's words; the client can be used on."""
    side = connect(serve(["Hello"], envelope=envelope))
    with pytest.raises(NotFoundError) as caught:
        USES[use](side, side.agent(chat_id="no/such chat?"))
    assert (caught.value.status_code, caught.value.code) == (404, "not_found")
    assert "There is no" in caught.value.detail
    assert caught.value.chat_id == (None if use in NO_TURN else "no/such chat?")
    assert side.result(side.agent().send_message("Hi")).text == "Hello"


@pytest.mark.parametrize("chat_id", ["", ".", "..", "\ud83d"], ids=ascii)
@pytest.mark.parametrize("use", USES)
def test_an_id_that_no_address_can_hold(serve: Serve, connect: Connect, use: str, chat_id: str) -> None:
    """ConfigurationError, and nothing is sent."""
    served = serve(["Hello"])
    side = connect(served)
    if use in NO_TURN:
        return
    with pytest.raises(ConfigurationError, match="is no chat id"):
        USES[use](side, side.agent(chat_id=chat_id))
    assert served.script.asked == []


def test_an_error_ends_its_stream(serve: Serve, connect: Connect) -> None:
    """It is raised once; then the stream is over, and its result is the error again."""
    side = connect(serve(["Hello"]), api_key=KEY)
    stream = side.agent().send_message("Hi", stream=True)
    with pytest.raises(AuthenticationError):
        side.snapshots(stream)
    assert side.snapshots(stream) == []
    with pytest.raises(AuthenticationError):
        side.result(stream.get_final_message())


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("given", [None, "", "  "], ids=["none", "empty", "blank"])
def test_without_a_key(make: Callable[..., object], given: str | None) -> None:
    """ConfigurationError, which is a ValueError too, names what to set."""
    with pytest.raises(ConfigurationError, match="api_key") as caught:
        make(given)
    assert isinstance(caught.value, ValueError)
    assert "INFERENCE_API_KEY" in str(caught.value)
    assert "INFERENCE_BASE_URL" in str(caught.value)


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://api.example.com", "unencrypted"),
        ("http://10.0.0.1:8000", "unencrypted"),
        ("ftp://api.example.com", "must look like"),
        ("api.example.com", "must look like"),
        ("https://user:word@api.example.com", "user name"),
        ("https://api.example.com?x=1", "query"),
        ("https://api.example.com:port", "not a URL"),
    ],
)
def test_an_address_that_cannot_work(make: Callable[..., object], url: str, complaint: str) -> None:
    """Refused when the client is made; plain http is for this machine alone."""
    with pytest.raises(ConfigurationError, match=complaint):
        make(KEY, base_url=url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://example.com"])
def test_addresses_that_work(kind: Kind, url: str) -> None:
    """Loopback over http, anything over https."""
    with make_side(kind, api_key=KEY, base_url=url):
        pass


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": -1.0},
        {"timeout": True},
        {"timeout": float("inf")},
        {"tool_timeout": float("inf")},
        {"backoff": 3},
        {"backoff": None},
        {"proxy": 5},
        {"proxy": ""},
        {"ssl": False},
        {"max_retries": -1},
        {"max_retries": 1.5},
        {"max_retries": None},
        {"max_reconnects": "5"},
        {"max_parallel_tools": 0},
        {"max_line_bytes": 1},
        {"api_key": "with space"},
        {"api_key": "with\nbreak"},
        {"api_key": b"bytes"},
    ],
    ids=str,
)
def test_arguments_that_cannot_work(kind: Kind, options: dict[str, Any]) -> None:
    """ConfigurationError when the client is made; it does not show the key."""
    with pytest.raises(ConfigurationError) as caught:
        make_side(kind, **{"api_key": KEY, **options})
    assert not any(text in str(caught.value) for text in (KEY, "with space", "with\nbreak"))


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ("no-namespace", "namespace/name"),
        ("", "namespace/name"),
        (17, "must be a mapping .* not int"),
        ({"tools": ["calculator"]}, "returns, or a mapping, not str"),
        ({"tools": tool("calculator").build()}, "tools must be a list, even for a single item, not Tool"),
        ({"tools": "calculator"}, "tools must be a list, even for a single item, not str"),
        ({"hooks": {"event": "agent.complete"}}, "hooks must be a list, even for a single item, not dict"),
        ({"tools": [tool("calculator")]}, "end it with .build()"),
        ({"name": object()}, "JSON"),
        ({"output_schema": int}, r"output_schema .*agent\.run\(text, output_type=int\)"),
        ({"output_schema": list[int]}, r"output_schema .*agent\.run\(text, output_type=list\[int\]\)"),
    ],
    ids=[
        "no namespace",
        "empty",
        "a number",
        "a tool's name",
        "one tool",
        "a text",
        "one hook",
        "a tool not built",
        "no JSON",
        "a class for a schema",
        "a type for a schema",
    ],
)
def test_a_configuration_that_cannot_work(kind: Kind, config: Any, complaint: str) -> None:
    """Refused when the agent is made."""
    with make_side(kind, api_key=KEY) as side, pytest.raises(ConfigurationError, match=complaint):
        side.agent(config)


def test_the_environment_has_key_and_address(serve: Serve, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read when the argument is absent; an argument wins."""
    served = serve(["Hello"])
    monkeypatch.setenv("INFERENCE_API_KEY", served.runtime.api_key)
    monkeypatch.setenv("INFERENCE_BASE_URL", served.runtime.base_url)
    with make_side(kind) as side:
        assert side.result(side.agent().send_message("Hi")).text == "Hello"
    with make_side(kind, api_key=KEY) as side, pytest.raises(AuthenticationError):
        side.result(side.agent().send_message("Hi"))
    monkeypatch.setenv("INFERENCE_BASE_URL", "http://127.0.0.1:1")
    with make_side(kind, base_url=served.runtime.base_url) as side:
        assert side.result(side.agent().send_message("Hi")).text == "Hello"


def test_an_unreachable_server(kind: Kind) -> None:
    """APIConnectionError, which says where and why."""
    with make_side(kind, api_key=KEY, base_url="http://127.0.0.1:1", max_retries=0) as side:
        for use in ("send_message", "get_chat", "wait"):
            with pytest.raises(APIConnectionError, match="no connection could be made") as caught:
                USES[use](side, side.agent(chat_id="chat"))
            assert not isinstance(caught.value, APITimeoutError)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, Timeout(None, None, None)),
        (2, Timeout(2, 2, 2)),
        (Timeout(connect=1), Timeout(connect=1, idle=30, total=120)),
    ],
    ids=str,
)
def test_a_timeout_may_be_given_in_short(given: float | Timeout | None, expected: Timeout) -> None:
    """Seconds stand for all limits, None for no limits; a Timeout says each."""
    assert Timeout.of(given) == expected


def test_a_server_that_does_not_answer_is_given_up(kind: Kind, silent_server: str) -> None:
    """APITimeoutError after the time that was given."""
    with make_side(kind, api_key=KEY, base_url=silent_server, timeout=0.1, max_retries=0) as side:
        for use in ("send_message", "get_chat"):
            with pytest.raises(APITimeoutError, match=r"0\.1 seconds"):
                USES[use](side, side.agent(chat_id="chat" if use == "get_chat" else None))


def test_nothing_shows_the_key(kind: Kind) -> None:
    """Neither the client nor its agents and streams, by repr or str."""
    with make_side(kind, api_key=KEY) as side:
        agent = side.agent()
        client = getattr(side, "client")  # noqa: B009 - sides keep it to themselves
        for thing in (client, agent, agent.send_message("Hi", stream=True)):
            assert KEY not in f"{thing!r} {thing}"
        assert "***" in repr(client)


def test_every_error_is_an_inference_error() -> None:
    """One except clause catches them all; the ones of the server have the facts as attributes."""
    error = APIError("gone", status_code=410, code="app_retired", request_id="r", body={"a": 1}, retry_after=2.0)
    assert isinstance(error, InferenceError)
    assert str(error) == "gone (HTTP 410, app_retired; request r)"
    assert (error.detail, error.body, error.retry_after, error.message) == ("gone", {"a": 1}, 2.0, None)


def test_a_closed_client_says_so(serve: Serve, kind: Kind) -> None:
    """Calls after close fail with a sentence, and close may be called again."""
    served = serve(["Hello"])
    with make_side(kind, **served.address) as side:
        agent = side.agent()
        assert side.result(agent.send_message("Hi")).text == "Hello"
        client = getattr(side, "client")  # noqa: B009 - sides keep it to themselves
        for _ in range(2):
            side.result(client.aclose() if kind == "async" else client.close())
        for use in ("send_message", "a stream", "wait", "get_chat", "stop", "submit_tool_result"):
            with pytest.raises(InferenceError, match="closed"):
                USES[use](side, agent)


def test_a_forgotten_await_is_told_of_by_the_name_that_was_called() -> None:
    """Python's warning names what stands in the program."""
    reply = AsyncInference(KEY).agent("a/b").send_message("Hi")
    with pytest.warns(RuntimeWarning, match=r"coroutine 'AsyncAgent\.send_message' was never awaited"):
        del reply
