"""``client.request``, ``client.paginate`` and ``client.stream``: any endpoint, with the client's care."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import gc
import inspect
import json
import uuid
from collections.abc import Callable, Generator, Sequence
from typing import Any
from urllib.parse import parse_qsl

import attrs
import pytest

from inferencesh import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    Chat,
    ConfigurationError,
    FileRef,
    InferenceError,
    InternalServerError,
    Message,
    NotFoundError,
    Response,
    Timeout,
)
from tests.faults.forms import HEARTBEAT, KEY
from tests.faults.script import CUT, EOF, RST, STALL, Reply, Scenario, Script, Step, head, hold, refuse
from tests.faults.server import FaultServer
from tests.faults.turns import advance, call, meanwhile, rest_of
from tests.support import Kind

from .conftest import Connect, Serve

THING = "/things/t1"


@attrs.frozen
class Thing:
    """Something that this package knows nothing of."""

    id: str
    count: int = 0


class Odd:
    """Something that cannot be read from JSON."""

    def __init__(self, anything: object) -> None:
        self.anything = anything


def serving(line: str, *answers: Script, envelope: str = "v3") -> FaultServer:
    """A server that answers one request so, one time after the other."""
    return FaultServer(Scenario(answers={line: answers}, envelope=envelope))


# -- requests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("envelope", ["v1", "v2", "v3"])
def test_a_response_is_what_is_asked_for(kind: Kind, envelope: str) -> None:
    """Data without its envelope, a model, a class of the caller's, bytes, or all of it."""
    data = {"id": "t1", "count": 3, "later": True}
    line = f"GET {THING}"
    with serving(line, (Reply(data, headers={"X-Total": "7"}),), envelope=envelope) as server:

        def ask(client: Any) -> Generator[Any, Any, None]:
            assert (yield client.request("GET", THING)) == data
            assert (yield client.request("get", THING, cast_to=Thing)) == Thing("t1", 3)
            assert (yield client.request("GET", THING, cast_to=dict[str, Any])) == data
            assert (yield client.request("GET", THING, cast_to=FileRef)).id == "t1"
            body = yield client.request("GET", THING, cast_to=bytes)
            response = yield client.request("GET", THING, cast_to=Response)
            assert body == response.content == response.text.encode()
            assert (response.status_code, response.headers["x-total"]) == (200, "7")
            whole = response.json()
            assert (whole if envelope == "v2" else whole["data"]) == data

        call(kind, server, ask)
        assert all(request.headers["authorization"] == f"Bearer {KEY}" for request in server.requests)
        accepts = [request.headers["accept"] for request in server.seen(line)]
        assert accepts == [*["application/json"] * 4, "*/*", "*/*"]


def test_lists_and_nothing_are_read_too(kind: Kind) -> None:
    """A list of models from a list or a page; None where there is no data."""
    answers: dict[str, Sequence[Script]] = {
        "GET /list": [(Reply([{"id": "a"}, {"id": "b"}]),), (Reply({"items": [{"id": "c"}]}),), (Reply({"id": "d"}),)],
        "GET /nothing": [(Reply(b"", 204),)],
    }
    with FaultServer(Scenario(answers=answers)) as server:

        def ask(client: Any) -> Generator[Any, Any, None]:
            for ids in (["a", "b"], ["c"]):
                assert [each.id for each in (yield client.request("GET", "/list", cast_to=list[Chat]))] == ids
            with pytest.raises(InferenceError, match="dict where a list was expected"):
                yield client.request("GET", "/list", cast_to=list[Chat])
            assert (yield client.request("GET", "/nothing")) is None
            assert (yield client.request("GET", "/nothing", cast_to=bytes)) == b""

        call(kind, server, ask)


def test_bodies_and_queries_are_sent_as_json_and_texts(kind: Kind) -> None:
    """Of any JSON form, large ones too; None is left out of a query, and what is no text becomes JSON there."""
    line = f"POST {THING}"
    large = {"text": "x" * 300_000}
    with serving(line, (Reply({}),)) as server:

        def ask(client: Any) -> Generator[Any, Any, None]:
            params = {"text": "a b&c", "n": 5, "yes": True, "no": None, "list": ["x", 1]}
            yield client.request("POST", THING, json=[1, {"a": None}], params=params)
            yield client.request("POST", THING, json=Thing("t1"))
            yield client.request("POST", THING, json=large)
            yield client.request("POST", THING)

        call(kind, server, ask)
        sent = server.seen(line)
        assert [json.loads(request.body or b"null") for request in sent] == [
            [1, {"a": None}],
            {"id": "t1", "count": 0},
            large,
            None,
        ]
        assert sent[0].query.replace("%5B", "[").replace("%5D", "]") == "text=a+b%26c&n=5&yes=true&list=[%22x%22,1]"
        assert sent[0].headers["content-type"] == "application/json"


class Colour(str, enum.Enum):  # noqa: UP042 - whose text is "Colour.RED"
    """As many programs write an enum of texts."""

    RED = "red"


def test_a_query_has_the_texts_of_dates_and_the_like(kind: Kind) -> None:
    """Without the quotes that these have in JSON."""
    params = {
        "at": datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC),
        "day": datetime.date(2026, 1, 2),
        "colour": Colour.RED,
        "id": uuid.UUID(int=5),
        "price": decimal.Decimal("1.50"),
    }
    with serving(f"GET {THING}", (Reply({}),)) as server:
        call(kind, server, lambda client: client.request("GET", THING, params=params))
        assert dict(parse_qsl(server.requests[0].query)) == {
            "at": "2026-01-02T03:04:00+00:00",
            "day": "2026-01-02",
            "colour": "red",
            "id": "00000000-0000-0000-0000-000000000005",
            "price": "1.50",
        }


@pytest.mark.parametrize(
    ("method", "options", "tries"),
    [
        ("GET", {}, 3),
        ("PUT", {}, 3),
        ("DELETE", {}, 3),
        ("POST", {}, 1),
        ("PATCH", {}, 1),
        ("POST", {"idempotent": True}, 3),
        ("GET", {"idempotent": False}, 1),
    ],
)
@pytest.mark.parametrize("lost", [True, False], ids=["lost", "500"])
def test_a_request_is_repeated_only_if_that_is_safe(
    kind: Kind, method: str, options: dict[str, Any], tries: int, lost: bool
) -> None:
    """By its method, or as the caller says; what the server has put off is repeated in any case."""
    answer: Script = (RST,) if lost else refuse(500, "internal_error")
    with serving(f"{method} {THING}", answer) as server:

        def ask(client: Any) -> Generator[Any, Any, None]:
            with pytest.raises(APIConnectionError if lost else InternalServerError):
                yield client.request(method, THING, **options)

        call(kind, server, ask)
        assert len(server.requests) == tries
    with serving(f"{method} {THING}", refuse(503, "app_maintenance"), (Reply({"ok": 1}),)) as server:
        assert call(kind, server, lambda client: client.request(method, THING, **options)) == {"ok": 1}
        assert len(server.requests) == 2


def test_a_deletion_whose_answer_was_lost_has_been_made(kind: Kind) -> None:
    """A repetition that finds nothing is no error; a first attempt that does is one."""
    gone = refuse(404, "not_found", "There is no such thing.")
    with serving(f"DELETE {THING}", (RST,), gone) as server:

        def ask(client: Any) -> Generator[Any, Any, None]:
            assert (yield client.request("DELETE", THING)) is None
            with pytest.raises(NotFoundError, match="no such thing"):
                yield client.request("DELETE", THING)

        call(kind, server, ask)


def test_refusals_are_the_errors_of_the_package(kind: Kind) -> None:
    """With status and code; the API key is in none of them, not even when the server echoes it."""
    with serving(f"GET {THING}", refuse(401, "unauthorized", f"{KEY} is no key.")) as server:

        def ask(client: Any) -> Generator[Any, Any, None]:
            for cast_to in (None, bytes, Thing):
                with pytest.raises(AuthenticationError) as caught:
                    yield client.request("GET", THING, cast_to=cast_to)
                assert (caught.value.status_code, caught.value.code) == (401, "unauthorized")
                assert KEY not in str(caught.value)

        call(kind, server, ask)


@pytest.mark.parametrize(
    "path",
    [
        *("https://elsewhere.example/x", "//elsewhere.example/x", "elsewhere.example", "", "@elsewhere.example"),
        *("/\\elsewhere.example", "/../admin", "/chats/%2e%2e/admin", "/a/./b", "/a b", "/a\nb", "/a?b=c", "/a#b"),
        "/\ud83d",
    ],
)
def test_a_path_that_may_lead_elsewhere_is_refused_before_anything_is_sent(kind: Kind, path: str) -> None:
    """The API key goes to the client's own base URL and nowhere else."""
    with FaultServer(Scenario()) as server:

        def ask(client: Any) -> Generator[Any, Any, None]:
            uses: tuple[Callable[[], Any], ...] = (
                lambda: client.request("GET", path),
                lambda: advance(kind, client.paginate("GET", path)),
                lambda: advance(kind, client.stream("GET", path)),
            )
            for use in uses:
                with pytest.raises(ConfigurationError, match="is no path"):
                    yield use()

        call(kind, server, ask)
        assert server.requests == []


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"method": "TRACE"}, ConfigurationError, "the method must be one of"),
        ({"method": b"GET"}, TypeError, "the method must be a str"),
        ({"path": b"/x"}, TypeError, "the path must be a str"),
        ({"params": "a=b"}, TypeError, "params must be a mapping"),
        ({"params": {"a": object()}}, TypeError, "no JSON form|cannot"),
        ({"json": {"a": float("nan")}}, TypeError, "NaN"),
        ({"cast_to": Odd}, ConfigurationError, "cannot be read from JSON"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(
    kind: Kind, arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    """Before anything is sent."""
    with FaultServer(Scenario()) as server:

        def ask(client: Any) -> Generator[Any, Any, None]:
            with pytest.raises(error, match=says):
                yield client.request(**{"method": "GET", "path": THING, **arguments})

        call(kind, server, ask)
        assert server.requests == []


def test_a_response_of_another_form_says_what_is_wrong(kind: Kind) -> None:
    """A strict type names the place; a page of a proxy is no data."""
    page = (Reply(b"<!doctype html><html></html>", 200, {}, "text/html"),)
    with serving(f"GET {THING}", (Reply({"id": "t1", "count": "three"}),), page) as server:

        def ask(client: Any) -> Generator[Any, Any, None]:
            with pytest.raises(InferenceError, match="no valid Thing: count: expected int, got 'three'"):
                yield client.request("GET", THING, cast_to=Thing)
            with pytest.raises(InferenceError, match="HTML page"):
                yield client.request("GET", THING)

        call(kind, server, ask)


def test_a_response_that_is_cut_off_is_an_error(kind: Kind) -> None:
    """Not no data, whatever it is read as, and in a stream either."""
    with serving(f"GET {THING}", (Reply(b'{"id": "t1", "cou'),)) as server:

        def ask(client: Any) -> Generator[Any, Any, None]:
            for cast_to in (None, Thing, Chat):
                with pytest.raises(InferenceError, match="cut off"):
                    yield client.request("GET", THING, cast_to=cast_to)
            with pytest.raises(InferenceError, match="cut off"):
                yield advance(kind, client.stream("GET", THING))

        call(kind, server, ask)


def test_redirects_are_not_followed(kind: Kind) -> None:
    """Wherever they lead."""
    answer = (Reply(b"", 307, {"Location": "https://elsewhere.example/x"}, "text/plain"),)
    with serving(f"GET {THING}", answer) as server:

        def ask(client: Any) -> Generator[Any, Any, None]:
            for cast_to in (None, bytes):
                with pytest.raises(InferenceError, match="redirects are not followed"):
                    yield client.request("GET", THING, cast_to=cast_to)

        call(kind, server, ask)


# -- pages -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_list_is_read_page_by_page(kind: Kind, method: str) -> None:
    """The cursor goes where the method has it; a page that fails is asked for again."""
    pages: list[Script] = [
        (Reply({"items": [{"id": "a"}, {"id": "b"}], "next_cursor": "c1", "has_next": True}),),
        (RST,),
        (Reply({"items": [{"id": "c"}], "has_next": False}),),
    ]
    line = f"{method} /things"
    with serving(line, *pages) as server:

        def ask(client: Any) -> Generator[Any, Any, None]:
            more = {"params": {"kind": "x"}} if method == "GET" else {"json": {"kind": "x"}}
            things = client.paginate(method, "/things", cast_to=Thing, page_size=2, **more)
            assert server.requests == []
            assert (yield advance(kind, things)) == Thing("a")
            assert len(server.requests) == 1
            assert [each.id for each in (yield from rest_of(kind, things))] == ["b", "c"]

        call(kind, server, ask)
        sent = server.seen(line)
        if method == "GET":
            assert [request.query for request in sent] == ["kind=x&limit=2", *["kind=x&limit=2&cursor=c1"] * 2]
            assert {request.body for request in sent} == {b""}
        else:
            assert [request.json for request in sent] == [
                {"kind": "x", "limit": 2},
                *[{"kind": "x", "limit": 2, "cursor": "c1"}] * 2,
            ]


def test_items_stay_dicts_and_a_body_must_be_a_mapping(serve: Serve, connect: Connect) -> None:
    """Against the embedded runtime."""
    side = connect(serve(["Hello"]))
    agent = side.agent()
    side.result(agent.send_message("Hi"))
    listed: list[Any] = list(side.snapshots(side.client.paginate("POST", "/chats/list")))
    assert [each["id"] for each in listed] == [agent.chat_id]
    read: list[Any] = list(
        side.snapshots(side.client.paginate("GET", f"/chats/{agent.chat_id}/messages", cast_to=Message))
    )
    assert sorted(each.text for each in read) == ["Hello", "Hi"]
    with pytest.raises(TypeError, match="must be a mapping"):
        side.client.paginate("POST", "/chats/list", json=[1])
    with pytest.raises(ConfigurationError, match="whole number"):
        side.client.paginate("POST", "/chats/list", page_size=0)


# -- streams -----------------------------------------------------------------------------------------------------------

STREAM = "/things/stream"
LINE = f"GET {STREAM}"
SSE = head(content_type="text/event-stream")


def test_each_line_is_a_value(kind: Kind) -> None:
    """However the bytes arrive; heartbeats and empty lines are none, a last line needs no end."""
    steps: list[Step] = [
        {"id": "a"},
        b'{"id"',
        b':"b"}\n\n[1]\n',
        HEARTBEAT,
        b'"\xe2\x80\xa8"',
        EOF,
    ]
    with serving(LINE, steps) as server:

        def ask(client: Any) -> Generator[Any, Any, None]:
            stream = client.stream("GET", STREAM)
            assert (stream.status_code, dict(stream.headers)) == (0, {})
            assert list[Any]((yield from rest_of(kind, stream))) == [{"id": "a"}, {"id": "b"}, [1], "\u2028"]
            assert (stream.status_code, stream.headers["content-type"]) == (200, "application/x-ndjson")
            assert (yield from rest_of(kind, stream)) == []

        call(kind, server, ask)
        assert server.seen(LINE)[0].headers["accept"] == "application/x-ndjson"


def test_server_sent_events_are_values_too(kind: Kind) -> None:
    """One with a name has it beside its data, as NDJSON has."""
    body = b': heartbeat\n\ndata: {"id": "a"}\n\nevent: update\ndata: [1,\ndata: 2]\n\ndata: "end"\n\n'
    with FaultServer(Scenario(answers={LINE: [[body, EOF]]}, head=SSE)) as server:
        values = call(kind, server, lambda client: rest_of(kind, client.stream("GET", STREAM)))
        assert values == [{"id": "a"}, {"event": "update", "data": [1, 2]}, "end"]


@pytest.mark.parametrize(
    ("cast_to", "expected"),
    [
        (Thing, [Thing("a", 1), Thing("b", 2)]),
        (str, ['{"id":"a","count":1}', '{"id":"b","count":2}']),
        (bytes, b'{"id":"a","count":1}\r\n{"id":"b","count":2}'),
    ],
    ids=["class", "lines", "bytes"],
)
def test_a_stream_yields_what_is_asked_for(kind: Kind, cast_to: Any, expected: Any) -> None:
    """Objects, lines or bytes."""
    with serving(LINE, [b'{"id":"a","count":1}\r\n', b'{"id":"b",', b'"count":2}', EOF]) as server:
        found: Any = call(kind, server, lambda client: rest_of(kind, client.stream("GET", STREAM, cast_to=cast_to)))
        assert (b"".join(found) if cast_to is bytes else found) == expected
        assert server.seen(LINE)[0].headers["accept"] == ("*/*" if cast_to is bytes else "application/x-ndjson")


def test_a_json_answer_in_place_of_a_stream_is_its_only_value(kind: Kind) -> None:
    """As the service answers where there is nothing to stream; without its envelope."""
    with serving(f"POST {STREAM}", (Reply({"id": "a", "count": 1}),)) as server:

        def ask(client: Any) -> Generator[Any, Any, Any]:
            return (yield from rest_of(kind, client.stream("POST", STREAM, json={"x": 1}, cast_to=Thing)))

        assert call(kind, server, ask) == [Thing("a", 1)]
        assert server.requests[0].json == {"x": 1}


def test_an_unreadable_line_is_an_error_after_what_came_before_it(kind: Kind) -> None:
    """It says what was found, without the key."""
    with serving(LINE, [b'{"id":"a"}\n{"id":' + KEY.encode() + b"\n", STALL]) as server:

        def ask(client: Any) -> Generator[Any, Any, None]:
            stream = client.stream("GET", STREAM)
            assert (yield advance(kind, stream)) == {"id": "a"}
            with pytest.raises(InferenceError, match="a line of the stream is unreadable") as caught:
                yield advance(kind, stream)
            assert KEY not in str(caught.value)
            yield meanwhile(kind, server.wait_until_no_streams)
            with pytest.raises(InferenceError, match="was left"):
                yield advance(kind, stream)

        call(kind, server, ask)


@pytest.mark.parametrize("way", [CUT, RST], ids=["cut", "reset"])
def test_a_lost_stream_is_an_error_and_is_not_opened_again(kind: Kind, way: Step) -> None:
    """Unlike the opening, which is repeated."""
    with serving(LINE, refuse(503, "app_maintenance"), [{"id": "a"}, hold("on"), way]) as server:

        def ask(client: Any) -> Generator[Any, Any, None]:
            stream = client.stream("GET", STREAM)
            assert (yield advance(kind, stream)) == {"id": "a"}
            server.release("on")
            with pytest.raises(APIConnectionError):
                yield advance(kind, stream)

        call(kind, server, ask)
        assert len(server.requests) == 2


def test_silence_is_a_timeout(kind: Kind) -> None:
    """Of the idle time limit."""
    with serving(LINE, [{"id": "a"}, STALL]) as server:

        def ask(client: Any) -> Generator[Any, Any, None]:
            stream = client.stream("GET", STREAM)
            yield advance(kind, stream)
            with pytest.raises(APITimeoutError, match="silent"):
                yield advance(kind, stream)

        call(kind, server, ask, timeout=Timeout(idle=0.1))


def test_a_post_is_not_repeated_by_a_stream_either(kind: Kind) -> None:
    """Unless the caller says that it may be; a refusal is the usual error."""
    with serving(f"POST {STREAM}", (RST,)) as server:

        def ask(client: Any) -> Generator[Any, Any, None]:
            for options, tries in ({}, 1), ({"idempotent": True}, 4):
                with pytest.raises(APIConnectionError):
                    yield advance(kind, client.stream("POST", STREAM, **options))
                assert len(server.requests) == tries

        call(kind, server, ask)


def leave_by_break(client: Any) -> None:
    """Out of a loop, while the stream is still referenced."""
    stream = client.stream("GET", STREAM)
    for _ in stream:
        break
    client.left = stream


def leave_by_close(client: Any) -> None:
    """With close()."""
    stream = client.left = client.stream("GET", STREAM)
    assert next(stream) == {"id": "a"}
    stream.close()
    assert list(stream) == []


def leave_by_block(client: Any) -> None:
    """With the end of a block, which a loop in it does not end."""
    with client.stream("GET", STREAM) as stream:
        for _ in stream:
            break
        assert next(stream) == {"id": "b"}
        client.left = stream


def leave_by_dropping(client: Any) -> None:
    """With the last reference."""
    next(client.stream("GET", STREAM))


def leave_by_closing_the_client(client: Any) -> None:
    """With all that it has open."""
    client.left = client.stream("GET", STREAM)
    next(client.left)
    client.close()


async def leave_async_by_break(client: Any) -> None:
    """As the blocking one."""
    stream = client.stream("GET", STREAM)
    async for _ in stream:
        break
    client.left = stream


async def leave_async_by_close(client: Any) -> None:
    """As the blocking one."""
    stream = client.left = client.stream("GET", STREAM)
    assert await anext(stream) == {"id": "a"}
    await stream.aclose()
    assert [each async for each in stream] == []


async def leave_async_by_block(client: Any) -> None:
    """As the blocking one."""
    async with client.stream("GET", STREAM) as stream:
        async for _ in stream:
            break
        assert await anext(stream) == {"id": "b"}
        client.left = stream


async def leave_async_by_dropping(client: Any) -> None:
    """As the blocking one."""
    await anext(client.stream("GET", STREAM))


async def leave_async_by_closing_the_client(client: Any) -> None:
    """As the blocking one."""
    client.left = client.stream("GET", STREAM)
    await anext(client.left)
    await client.aclose()


LEAVE = [leave_by_break, leave_by_close, leave_by_block, leave_by_dropping, leave_by_closing_the_client]
LEAVE_ASYNC = [
    *(leave_async_by_break, leave_async_by_close, leave_async_by_block, leave_async_by_dropping),
    leave_async_by_closing_the_client,
]


@pytest.mark.parametrize("leave", [*LEAVE, *LEAVE_ASYNC], ids=lambda leave: leave.__name__)
def test_leaving_a_stream_closes_its_connection(leave: Callable[[Any], Any]) -> None:
    """Within a second, by any way, and nothing is left behind."""
    kind: Kind = "async" if inspect.iscoroutinefunction(leave) else "sync"
    with serving(LINE, [{"id": "a"}, {"id": "b"}, STALL]) as server:

        def use(client: Any) -> Generator[Any, Any, None]:
            yield leave(client)
            gc.collect()
            yield meanwhile(kind, server.wait_until_no_streams)

        call(kind, server, use)


async def test_cancelling_a_task_that_reads_a_stream_closes_its_connection() -> None:
    """As everywhere in this package."""
    with serving(LINE, [{"id": "a"}, STALL]) as server:

        def use(client: Any) -> Generator[Any, Any, None]:
            async def read() -> None:
                seen.set()
                async for _ in client.stream("GET", STREAM):
                    pass

            async def cancel() -> None:
                task = asyncio.create_task(read())
                await asyncio.to_thread(server.wait_for_request, LINE)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await asyncio.to_thread(server.wait_until_no_streams)
                assert task.cancelled()

            seen = asyncio.Event()
            yield cancel()

        await asyncio.to_thread(call, "async", server, use)


def test_the_events_of_a_chat_can_be_read_so(serve: Serve, connect: Connect) -> None:
    """Against the embedded runtime."""
    side = connect(serve(["Hello"]))
    agent = side.agent()
    side.result(agent.send_message("Hi"))
    stream = side.client.stream("GET", f"/chats/{agent.chat_id}/stream")
    first: Any = side.next(stream)
    side.close(stream)
    assert (first["event"], first["data"]["id"]) == ("chats", agent.chat_id)


def test_raw_bytes_are_read_without_being_decoded(kind: Kind) -> None:
    """Of a request, whatever they are."""
    body = bytes(range(256)) * 10
    with serving(f"GET {THING}", (Reply(body, 200, {}, "image/png"),)) as server:
        assert call(kind, server, lambda client: client.request("GET", THING, cast_to=bytes)) == body
