"""``client.chats`` and ``client.agents``: lists are read page by page, whatever the pages look like."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from inferencesh import (
    AsyncInference,
    ConfigurationError,
    ConflictError,
    Inference,
    InferenceError,
    InternalServerError,
    Message,
    NotFoundError,
)
from inferencesh.errors import UnreadableError
from tests.support import Kind

from .forms import CHAT, TASK, Json, asked, chat, message, message_of, page_of
from .script import RST, Reply, Scenario, Script, delay, hold, refuse
from .server import FaultServer
from .turns import advance, call, client_options, rest_of

LIST = "POST /chats/list"
MESSAGES = f"GET /chats/{CHAT}/messages"
GONE = refuse(404, "not_found", "There is no such chat.")


def chats(*ids: str) -> list[Json]:
    """Chats with these ids."""
    return [{"id": each, "status": "idle", "name": f"Chat {each}"} for each in ids]


def page(*ids: str, **more: object) -> Script:
    """A page of chats; without more it is the last."""
    return (Reply({"items": chats(*ids)} | more),)


def serving(line: str, *answers: Script, envelope: str = "v3") -> FaultServer:
    """A server that answers one request so, one time after the other."""
    return FaultServer(Scenario(answers={line: answers}, envelope=envelope))


def cursors(server: FaultServer) -> list[object]:
    """The cursors that were asked for."""
    return [request.json.get("cursor") for request in server.seen(LIST)]


PAGES: list[tuple[str, Sequence[Script], list[str], list[object]]] = [
    ("one page", [page("a", "b", next_cursor=None, has_next=False)], ["a", "b"], [None]),
    ("no cursor", [page("a")], ["a"], [None]),
    ("an empty cursor", [page("a", next_cursor="", has_next=False)], ["a"], [None]),
    ("two pages", [page("a", next_cursor="c1", has_next=True), page("b", has_next=False)], ["a", "b"], [None, "c1"]),
    ("has_next missing", [page("a", next_cursor="c1"), page("b", next_cursor="")], ["a", "b"], [None, "c1"]),
    ("has_next null", [page("a", next_cursor="c1", has_next=None), page("b")], ["a", "b"], [None, "c1"]),
    ("has_next false with a cursor", [page("a", next_cursor="c1", has_next=False)], ["a"], [None]),
    ("has_next true without a cursor", [page("a", has_next=True)], ["a"], [None]),
    ("the same cursor again", [page("a", next_cursor="c1", has_next=True)], ["a", "a"], [None, "c1"]),
    (
        "a cursor from before",
        [page("a", next_cursor="c1"), page("b", next_cursor="c2"), page("c", next_cursor="c1")],
        ["a", "b", "c"],
        [None, "c1", "c2"],
    ),
    ("a cursor that is a number", [page("a", next_cursor=7, has_next=True)], ["a"], [None]),
    (
        "an empty page between",
        [page("a", next_cursor="c1"), page(next_cursor="c2"), page("b")],
        ["a", "b"],
        [None, "c1", "c2"],
    ),
    ("a bare list", [(Reply(chats("a", "b")),)], ["a", "b"], [None]),
    ("items null", [(Reply({"items": None, "next_cursor": None}),)], [], [None]),
    ("nonsense among the items", [(Reply({"items": ["x", None, *chats("a")]}),)], ["a"], [None]),
    ("nothing", [(Reply(b""),)], [], [None]),
]


@pytest.mark.parametrize("envelope", ["v1", "v2", "v3"])
@pytest.mark.parametrize(("answers", "ids", "asked_for"), [each[1:] for each in PAGES], ids=[each[0] for each in PAGES])
def test_chats_are_listed_page_by_page(
    answers: Sequence[Script], ids: list[str], asked_for: list[object], envelope: str, kind: Kind
) -> None:
    """To the last page, and never in circles; servers differ in how they say that there is more."""
    with serving(LIST, *answers, envelope=envelope) as server:
        listed = call(kind, server, lambda client: rest_of(kind, client.chats.list()))
        assert [each.id for each in listed] == ids
        assert cursors(server) == asked_for


def test_a_page_is_read_when_it_is_needed(kind: Kind) -> None:
    """Breaking out reads no further; the size and the search go with every request."""
    with serving(LIST, page("a", "b", next_cursor="c1"), page("c")) as server:

        def read(client: Any) -> Generator[Any, Any, None]:
            found = client.chats.list(search="trip", page_size=2)
            assert server.requests == []
            assert (yield advance(kind, found)).id == "a"
            assert (yield advance(kind, found)).name == "Chat b"
            assert len(server.requests) == 1
            assert (yield advance(kind, found)).id == "c"
            assert (yield from rest_of(kind, found)) == []
            assert (yield from rest_of(kind, found)) == []

        call(kind, server, read)
        sent = [request.json for request in server.seen(LIST)]
        assert sent == [{"limit": 2, "search": "trip"}, {"limit": 2, "search": "trip", "cursor": "c1"}]


def test_messages_come_newest_first_whatever_the_order_in_a_page(kind: Kind) -> None:
    """With their texts; the chat's id is quoted."""
    newer = [message_of("four", "ready", id="m4", order=4), message_of("three", "ready", id="m3", order=3)]
    older = [message_of("one", "ready", id="m1", order=1), asked(id="m2", order=2)]
    line = "GET /chats/a%2Fb/messages"
    with serving(line, (Reply({"items": newer, "next_cursor": "m3"}),), (Reply(page_of(*older)),)) as server:
        read = call(kind, server, lambda client: rest_of(kind, client.chats.messages("a/b", page_size=2)))
        assert [(each.id, each.role) for each in read] == [
            ("m4", "assistant"),
            ("m3", "assistant"),
            ("m2", "user"),
            ("m1", "assistant"),
        ]
        assert read[0].text == "four"
        assert [request.query for request in server.seen(line)] == ["limit=2", "limit=2&cursor=m3"]


@pytest.mark.parametrize("page_size", [0, -1, True, 2.5, "10", None])
def test_a_page_size_that_is_none_is_refused_at_the_call(page_size: Any, kind: Kind) -> None:
    """Not first where the list is read."""
    with serving(LIST) as server:

        def ask(client: Any) -> Generator[Any, Any, None]:
            with pytest.raises(ConfigurationError, match="whole number of at least 1"):
                client.chats.list(page_size=page_size)
            with pytest.raises(ConfigurationError, match="whole number of at least 1"):
                client.chats.messages(CHAT, page_size=page_size)
            yield from ()

        call(kind, server, ask)
        assert server.requests == []


def test_a_page_that_cannot_be_read_can_be_asked_for_again(kind: Kind) -> None:
    """A list is not over because of an error in its middle; what may pass is repeated by itself first."""
    failing = refuse(500, "internal_error")
    answers = [page("a", next_cursor="c1"), failing, (RST,), failing, page("b")]
    with serving(LIST, *answers) as server:

        def read(client: Any) -> Generator[Any, Any, list[str]]:
            listed = client.chats.list()
            first = yield advance(kind, listed)
            with pytest.raises(InternalServerError):
                yield advance(kind, listed)
            return [first.id, *[each.id for each in (yield from rest_of(kind, listed))]]

        assert call(kind, server, read) == ["a", "b"]
        assert cursors(server) == [None, "c1", "c1", "c1", "c1"]


def test_an_acknowledgement_that_is_cut_off_is_one(kind: Kind) -> None:
    """Of requests whose response tells nothing that is needed."""
    half: Sequence[Script] = [(Reply(b'{"id": "c'),)]
    lines = (f"POST /chats/{CHAT}/stop", f"POST /chats/{CHAT}/agent", f"POST /tasks/{TASK}/cancel")
    with FaultServer(Scenario(answers=dict.fromkeys(lines, half))) as server:

        def use(client: Any) -> Generator[Any, Any, None]:
            agent = client.agent("a/b", chat_id=CHAT)
            yield agent.stop()
            yield agent.set_agent("a/c")
            yield client.tasks.cancel(TASK)

        call(kind, server, use)
        assert {request.line for request in server.requests} == set(lines)


@pytest.mark.parametrize(
    ("last", "warns"),
    [
        (page("b", next_cursor="c1"), True),
        (page("b", next_cursor="c1", has_next=True), True),
        (page("b", next_cursor=None, has_next=True), True),
        (page("b", next_cursor="", has_next=False), False),
        (page("b", next_cursor="c1", has_next=False), False),
        (page("b"), False),
    ],
    ids=["a cursor again", "and more", "more without a cursor", "the end", "the end with a cursor", "nothing said"],
)
def test_a_list_that_cannot_be_read_to_its_end_is_told(
    last: Script, warns: bool, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log, for what the server says is missing."""
    with serving(LIST, page("a", next_cursor="c1"), last) as server:
        listed = call(kind, server, lambda client: rest_of(kind, client.chats.list()))
    assert [each.id for each in listed] == ["a", "b"]
    assert ("the rest of a list" in caplog.text) == warns


LISTS: list[tuple[str, Callable[[Any], Any]]] = [
    ("POST /tasks/list", lambda client: client.tasks.list()),
    (MESSAGES, lambda client: client.chats.messages(CHAT)),
    ("GET /things", lambda client: client.paginate("GET", "/things", cast_to=Message)),
]


@pytest.mark.parametrize(("line", "read"), LISTS, ids=["tasks", "messages", "any list"])
def test_an_item_that_cannot_be_read_is_an_error_in_its_place(
    line: str, read: Callable[[Any], Any], kind: Kind
) -> None:
    """Those before it and behind it are given, each once."""
    items = [{"id": "a", "order": 3}, {"id": None, "order": 2}, {"id": "b", "order": 1}]
    with serving(line, (Reply({"items": items, "next_cursor": "c"}),), (Reply({"items": [{"id": "c"}]}),)) as server:

        def use(client: Any) -> Generator[Any, Any, list[str]]:
            listed = read(client)
            first = yield advance(kind, listed)
            with pytest.raises(UnreadableError, match="without an id"):
                yield advance(kind, listed)
            return [first.id, *[each.id for each in (yield from rest_of(kind, listed))]]

        assert call(kind, server, use) == ["a", "b", "c"]


@pytest.mark.parametrize("line", ["POST /tasks/list", "POST /files/list", "GET /sessions"])
@pytest.mark.parametrize("body", [b'{"items": [{"id": "a"}, {"i', b'[{"id": "\xe9"}]'], ids=["cut off", "not UTF-8"])
def test_a_response_that_is_cut_off_is_no_empty_list(line: str, body: bytes, kind: Kind) -> None:
    """As behind a proxy that ends responses with the connection."""
    with serving(line, (Reply(body),)) as server:

        def use(client: Any) -> Generator[Any, Any, None]:
            reads: dict[str, Callable[[], Any]] = {
                "POST /tasks/list": lambda: advance(kind, client.tasks.list()),
                "POST /files/list": lambda: advance(kind, client.files.list()),
                "GET /sessions": client.sessions.list,
            }
            with pytest.raises(UnreadableError):
                yield reads[line]()

        call(kind, server, use)


def test_a_list_that_several_share_gives_each_item_once(kind: Kind) -> None:
    """As a queue of work, to tasks or to threads; a page is read for one of them."""
    with serving(LIST, (delay(0.2), *page("a", "b", "c", next_cursor="c1")), page("d")) as server:

        def share(client: Any) -> Generator[Any, Any, list[str]]:
            listed = client.chats.list()
            if kind == "sync":
                with ThreadPoolExecutor(4) as threads:
                    return [each.id for each in threads.map(lambda _: next(listed), range(4))]
            found: list[str] = yield together(listed)
            return found

        async def together(listed: Any) -> list[str]:
            return [each.id for each in await asyncio.gather(*(anext(listed) for _ in range(4)))]

        assert sorted(call(kind, server, share)) == ["a", "b", "c", "d"]
        assert cursors(server) == [None, "c1"]


def test_a_list_is_read_on_one_event_loop_at_a_time() -> None:
    """On another one meanwhile that is an error, and afterwards it goes on there."""
    with serving(LIST, (hold("page"), *page("a", "b", next_cursor="c1")), page("c")) as server:
        listed = AsyncInference(**client_options(server)).chats.list()

        def read() -> str:
            async def first() -> str:
                return (await anext(listed)).id

            return asyncio.run(first())

        with ThreadPoolExecutor(1) as threads:
            reading = threads.submit(read)
            server.wait_for_request(LIST)
            with pytest.raises(InferenceError, match="on another event loop"):
                read()
            server.release("page")
            assert [reading.result(), read(), read()] == ["a", "b", "c"]


def test_a_chat_that_there_is_not(kind: Kind) -> None:
    """NotFoundError from everything that is about it; from a list with its first page."""
    answers = {line: [GONE] for line in (f"GET /chats/{CHAT}", MESSAGES, f"DELETE /chats/{CHAT}")}
    answers["POST /chats/messages/m1/cancel"] = [refuse(404, "not_found")]
    with FaultServer(Scenario(answers=answers)) as server:

        def ask(client: Any) -> Generator[Any, Any, None]:
            uses: list[Callable[[], Any]] = [
                lambda: client.chats.get(CHAT),
                lambda: advance(kind, client.chats.messages(CHAT)),
                lambda: client.chats.delete(CHAT),
                lambda: client.chats.cancel_message("m1"),
            ]
            for use in uses:
                with pytest.raises(NotFoundError) as caught:
                    yield use()
                assert caught.value.code == "not_found"

        call(kind, server, ask)


def test_ids_that_are_none_are_refused_before_anything_is_sent(kind: Kind) -> None:
    """They would lead to another place, such as the list of all chats."""
    with serving(LIST) as server:

        def ask(client: Any) -> Generator[Any, Any, None]:
            for nothing in ("", ".", ".."):
                for method in (client.chats.get, client.chats.delete, client.chats.cancel_message):
                    with pytest.raises(ConfigurationError, match=r"is no (chat|message) id"):
                        yield method(nothing)
                with pytest.raises(ConfigurationError, match="is no chat id"):
                    yield advance(kind, client.chats.messages(nothing))
            with pytest.raises(TypeError, match="the chat id must be a str, not NoneType"):
                yield client.chats.get(None)

        call(kind, server, ask)
        assert server.requests == []


def test_a_chat_is_read_and_deleted(kind: Kind) -> None:
    """A repetition that finds it gone has deleted it, its first answer being lost."""
    found: Script = (Reply(chats(CHAT)[0]),)
    answers: dict[str, Sequence[Script]] = {f"GET /chats/{CHAT}": [found], f"DELETE /chats/{CHAT}": [(RST,), GONE]}
    with FaultServer(Scenario(answers=answers)) as server:

        def use(client: Any) -> Generator[Any, Any, None]:
            assert (yield client.chats.get(CHAT)).name == f"Chat {CHAT}"
            assert (yield client.chats.delete(CHAT)) is None

        call(kind, server, use)


@pytest.mark.parametrize("answers", [[(Reply({}),)], [(RST,), refuse(409, "conflict")]], ids=["taken", "taken before"])
def test_a_queued_message_is_withdrawn(answers: list[Script], kind: Kind) -> None:
    """Its post is repeated until it was answered; without a body."""
    line = "POST /chats/messages/m1/cancel"
    with serving(line, *answers) as server:
        assert call(kind, server, lambda client: client.chats.cancel_message("m1")) is None
        assert [request.body for request in server.seen(line)] == [b""] * len(answers)


def test_a_message_whose_turn_has_come_is_not_withdrawn(kind: Kind) -> None:
    """A conflict without a repetition."""
    with serving("POST /chats/messages/m1/cancel", refuse(409, "conflict", "It is running.")) as server:

        def use(client: Any) -> Generator[Any, Any, None]:
            with pytest.raises(ConflictError, match="It is running"):
                yield client.chats.cancel_message("m1")

        call(kind, server, use)


def test_leaving_a_list_leaves_nothing_behind(kind: Kind) -> None:
    """No connection in use, no task, and no warning when it is dropped."""
    with serving(LIST, page("a", "b", next_cursor="c1")) as server:

        def read(client: Any) -> Generator[Any, Any, None]:
            if kind == "sync":
                for each in client.chats.list():
                    assert each.id == "a"
                    break
            else:
                yield first(client)
            gc.collect()

        async def first(client: AsyncInference) -> None:
            async for each in client.chats.list():
                assert each.id == "a"
                break

        call(kind, server, read)
        assert len(server.requests) == 1
        server.wait_until_no_connections()


def test_a_blocking_list_of_a_closed_client_says_so() -> None:
    """Every time, whether it had begun or not."""
    with serving(LIST, page("a", next_cursor="c1")) as server:
        client = Inference(**client_options(server))
        begun, fresh = client.chats.list(), client.chats.list()
        assert next(begun).id == "a"
        client.close()
        for each in (begun, fresh, begun):
            with pytest.raises(InferenceError, match="this client has been closed"):
                next(each)


async def test_an_async_list_of_a_closed_client_says_so() -> None:
    """As the blocking one."""
    with serving(LIST, page("a", next_cursor="c1")) as server:
        client = AsyncInference(**client_options(server))
        begun = client.chats.list()
        assert (await anext(begun)).id == "a"
        await client.aclose()
        for each in (begun, client.chats.list()):
            with pytest.raises(InferenceError, match="closed"):
                await anext(each)


@pytest.mark.parametrize("reference", ["no-slash", "a/b/c", "a/b@", "a b/c", ""])
def test_agents_are_created_as_by_client_agent(reference: str, kind: Kind) -> None:
    """With the same arguments and the same checks of what names an agent."""
    with FaultServer(Scenario()) as server:

        def create(client: Any) -> Generator[Any, Any, None]:
            agent = client.agents.create("acme/helper@v2", chat_id=CHAT, context={"a": "b"})
            assert type(agent) is type(client.agent("acme/helper"))
            assert agent.chat_id == CHAT
            for make in (client.agent, client.agents.create):
                with pytest.raises(ConfigurationError, match="namespace/name"):
                    make(reference)
            yield from ()

        call(kind, server, create)


def test_a_created_agent_sends_what_it_was_given(kind: Kind) -> None:
    """Its reference and the variables of the new chat."""
    with FaultServer(Scenario(streams=[(message("Hello", "ready"), chat("completed"))])) as server:

        def talk(client: Any) -> Any:
            return client.agents.create("acme/helper", context={"city": "Rome"}).send_message("Hi")

        assert call(kind, server, talk).text == "Hello"
        (sent,) = server.seen("POST /agents/run")
        assert json.loads(sent.body) == {
            "chat_id": None,
            "agent": "acme/helper",
            "input": {"text": "Hi"},
            "context": {"city": "Rome"},
        }
