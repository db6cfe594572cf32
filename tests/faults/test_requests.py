"""Requests are repeated where that is safe and nowhere else, within one deadline, and never to another host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from inferencesh import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    ConflictError,
    InferenceError,
    InternalServerError,
    RateLimitError,
    RequirementsNotMetError,
    Timeout,
)
from tests.clients.sides import Side, make_side
from tests.support import Kind, wait_until

from .forms import CHAT, KEY, accepted_of, chat, chat_of, message
from .script import CUT, RST, STALL, Reply, Scenario, Script, delay, page, raw, redirect, refuse
from .server import FaultServer
from .turns import POST, STREAM, TEXT, Case, RunTurn, call

WHOLE: Script = (chat("working"), message("Hel"), message(TEXT, "ready"), chat("completed"))
ACCEPTED: Script = (Reply(accepted_of()),)
GET_CHAT = f"GET /chats/{CHAT}"
CHAT_ANSWER: Script = (Reply(chat_of("completed")),)
QUICK = {"timeout": Timeout(connect=1, idle=0.3, total=1)}
BEGUN = raw(Reply(accepted_of()).render("v3")[:150])


def limited(**headers: str) -> Script:
    """An answer that puts the request off."""
    return refuse(429, "rate_limited", **headers)


def posted(name: str, *answers: Script, raises: type[InferenceError] | None = None, **more: Any) -> Case:
    """A case in which the answers to the posted message matter."""
    return Case(name, [WHOLE], None if raises else TEXT, post=answers, raises=raises, **more)


ACCEPTED_AT_LAST = [
    posted("a slow answer", (delay(0.3), *ACCEPTED)),
    posted("429, seconds", limited(Retry_After="1"), ACCEPTED, posts=2, pause=1.0),
    posted("429, milliseconds", limited(Retry_After_Ms="150"), ACCEPTED, posts=2, pause=0.15),
    posted("429, no time given", limited(), ACCEPTED, posts=2),
    posted("503 twice", *[refuse(503, "app_maintenance", Retry_After="0")] * 2, ACCEPTED, posts=3),
    posted("a connection closed behind the answer", (*ACCEPTED, CUT)),
]

NOT_REPEATED = [
    posted("RST instead of an answer", (RST,), raises=APIConnectionError),
    posted("FIN instead of an answer", (CUT,), raises=APIConnectionError),
    posted("half an answer, then FIN", (BEGUN, CUT), raises=APIConnectionError),
    posted("half an answer, then RST", (BEGUN, RST), raises=APIConnectionError),
    posted("half an answer, then nothing", (BEGUN, STALL), raises=APITimeoutError, options=QUICK),
    posted("no answer", (STALL,), raises=APITimeoutError, options=QUICK),
    posted("an answer that comes too late", (delay(2), *ACCEPTED), raises=APITimeoutError, options=QUICK),
    posted("no HTTP at all", (raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), CUT), raises=APIConnectionError),
    posted("500", refuse(500, "internal_error"), raises=InternalServerError),
    posted("502 from a proxy", page(status=502), raises=InternalServerError),
    posted("401", refuse(401, "unauthorized"), raises=AuthenticationError),
    posted("409", refuse(409, "conflict"), raises=ConflictError),
    posted("412", refuse(412, "requirements_not_met"), raises=RequirementsNotMetError),
    posted("a longer wait than is sensible", limited(Retry_After="86400"), raises=RateLimitError),
    posted("429 for ever", limited(), raises=RateLimitError, posts=3),
    posted("an HTML page", page(), raises=InferenceError),
    posted("an answer without ids", (Reply({}),), raises=InferenceError),
    posted("a redirect", redirect("http://127.0.0.1:9/elsewhere"), raises=APIError),
]


@pytest.mark.parametrize("case", ACCEPTED_AT_LAST, ids=lambda case: case.name)
def test_a_message_that_was_put_off_is_sent_again(case: Case, run_turn: RunTurn) -> None:
    """The server said that it took nothing, and when to come back."""
    run_turn(case)


@pytest.mark.parametrize("case", NOT_REPEATED, ids=lambda case: case.name)
def test_a_message_is_never_sent_twice(case: Case, run_turn: RunTurn) -> None:
    """What the server may have taken is not sent again; the caller gets a typed error."""
    outcome = run_turn(case)
    assert outcome.snapshots == []


@pytest.mark.parametrize("answer", [(RST,), (STALL,), refuse(401, "unauthorized")], ids=["RST", "stall", "401"])
def test_a_message_that_fails_in_a_known_chat_closes_its_stream(answer: Script, run_turn: RunTurn) -> None:
    """The stream that was opened ahead of the message ends with it."""
    stale = (chat("completed", run_id="run0"), STALL)
    outcome = run_turn(Case("follow-up", [stale], post=[answer], chat_id=CHAT, raises=InferenceError, options=QUICK))
    assert len(outcome.seen(STREAM)) == 1


@pytest.mark.parametrize(
    "answer",
    [(RST,), (CUT,), (BEGUN, CUT), (STALL,), refuse(500, "internal_error"), page(status=502), limited()],
    ids=["RST", "FIN", "half", "stall", "500", "502", "429"],
)
def test_reading_is_repeated(answer: Script, kind: Kind) -> None:
    """A GET has no effect, so it is sent again after anything that may pass."""
    with FaultServer(Scenario(answers={GET_CHAT: [answer, answer, CHAT_ANSWER]})) as server:
        told = call(
            kind,
            server,
            lambda client: client.agent("a/b", chat_id=CHAT).get_chat(),
            timeout=Timeout(connect=0.5, idle=0.3, total=5),
        )
        assert told.id == CHAT
        assert len(server.seen(GET_CHAT)) == 3
        server.wait_until_no_connections()


def test_reading_gives_up_in_the_end(kind: Kind) -> None:
    """After max_retries the last failure is raised."""
    with FaultServer(Scenario(answers={GET_CHAT: [(RST,)]})) as server:
        with pytest.raises(APIConnectionError):
            call(kind, server, lambda client: client.agent("a/b", chat_id=CHAT).get_chat())
        assert len(server.seen(GET_CHAT)) == 3


@pytest.mark.parametrize(
    "answer", [refuse(503, "app_maintenance", Retry_After="30"), (delay(0.3), RST), (STALL,)], ids=["503", "slow", "no"]
)
def test_one_deadline_spans_all_attempts(answer: Script, kind: Kind) -> None:
    """total bounds the call with its waits and retries, not each attempt."""
    with FaultServer(Scenario(answers={GET_CHAT: [answer]})) as server:
        began = time.monotonic()
        with pytest.raises((APITimeoutError, InternalServerError)):
            call(
                kind,
                server,
                lambda client: client.agent("a/b", chat_id=CHAT).get_chat(),
                timeout=Timeout(connect=1, idle=0.5, total=1),
                max_retries=50,
            )
        assert time.monotonic() - began < 2.5


def test_a_connection_that_was_never_made_is_tried_again(kind: Kind) -> None:
    """A server that starts late gets the message once."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    server = FaultServer(Case("late", [WHOLE], TEXT), port=port)
    starter = threading.Timer(0.2, server.__enter__)
    starter.start()
    try:
        message = call(kind, server, lambda client: client.agent("a/b").send_message("Hi"), max_retries=400, timeout=10)
        assert message.text == TEXT
        assert len(server.seen(POST)) == 1
    finally:
        starter.join()
        server.__exit__(None, None, None)


@contextlib.contextmanager
def full_server() -> Iterator[str]:
    """The address of a server to which no further connection can be made; attempts stay without an answer."""
    with socket.socket() as server, contextlib.ExitStack() as waiting:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_connection_that_takes_too_long_is_tried_again(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing of the message was sent, so that is safe; in the end it is an APITimeoutError."""
    caplog.set_level("INFO", "inferencesh")
    limits = Timeout(connect=0.2, idle=20, total=20)
    with (
        full_server() as url,
        make_side(kind, api_key=KEY, base_url=url, timeout=limits, max_retries=2) as side,
        pytest.raises(APITimeoutError, match="connect timeout"),
    ):
        side.result(side.agent().send_message("Hi"))
    assert len([record for record in caplog.records if "retry" in record.getMessage()]) == 2


def test_a_server_that_is_not_there_is_a_connection_error(kind: Kind) -> None:
    """Nothing listens: the error comes after the retries and names the address, not the key."""
    with FaultServer(Scenario()) as gone:
        url = gone.url
    with pytest.raises(APIConnectionError, match=r"127\.0\.0\.1"):
        call(kind, gone, lambda client: client.agent("a/b").send_message("Hi"), base_url=url)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("line", [POST, GET_CHAT, STREAM])
def test_redirects_never_take_the_key_elsewhere(status: int, line: str, kind: Kind) -> None:
    """Whatever is redirected, the other host sees no key; the caller sees a typed error."""
    with FaultServer(Scenario(streams=[WHOLE])) as other:
        away = redirect(other.url + line.split(" ")[1], status)
        scenario = Scenario(
            post=[away if line == POST else ACCEPTED],
            streams=[away if line == STREAM else WHOLE],
            answers={GET_CHAT: [away]} if line == GET_CHAT else {},
        )
        with FaultServer(scenario) as server, pytest.raises(InferenceError):
            call(kind, server, lambda client: use(client, line))
        assert [request.line for request in other.requests] == []


def use(client: Any, line: str) -> Any:
    """The call that makes the request named ``line``."""
    if line == GET_CHAT:
        return client.agent("a/b", chat_id=CHAT).get_chat()
    return client.agent("a/b").send_message("Hi")


def connections_to(listener: socket.socket) -> list[int]:
    """The descriptors of this process's connections to a server that has accepted none of them."""
    found = []
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - the directory itself is one of them, and must be closed again
        with contextlib.suppress(OSError):  # the directory itself, closed by now, and sockets without another side
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as connection:
                    if connection.getpeername() == listener.getsockname():
                        found.append(int(name))
    return found


def close_meanwhile(side: Side, send: Callable[[], Any], listener: socket.socket) -> None:
    """Close a client while one of its messages is being sent."""

    def wait() -> None:
        assert select.select([listener], [], [], 5)[0]
        wait_until(lambda: connections_to(listener), "a connection")

    if side.kind == "sync":
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send)
            wait()
            side.client.close()
            assert isinstance(sending.exception(5), InferenceError)
        return

    async def close() -> None:
        sending = asyncio.ensure_future(send())
        await asyncio.to_thread(wait)
        await side.client.aclose()
        with pytest.raises(InferenceError):
            await asyncio.wait_for(sending, 5)

    side.result(close())


@pytest.mark.parametrize("size", [100_000, 30_000_000])
@pytest.mark.parametrize("way", ["timeout", "close"])
def test_a_message_that_is_given_up_keeps_no_connection(way: str, size: int, kind: Kind) -> None:
    """It does not wait, with what is unsent, for a server that does not read."""
    patience = 0.3 if way == "timeout" else 30
    with socket.create_server(("127.0.0.1", 0)) as listener:
        options = {"api_key": KEY, "base_url": f"http://127.0.0.1:{listener.getsockname()[1]}", "max_retries": 0}
        with make_side(kind, timeout=Timeout(connect=1, idle=patience, total=patience), **options) as side:
            sending = side.agent("a/b").send_message
            if way == "timeout":
                with pytest.raises(APITimeoutError):
                    side.result(sending("x" * size))
            else:
                close_meanwhile(side, lambda: sending("x" * size), listener)

            def wait() -> None:
                wait_until(lambda: not connections_to(listener), "the end of the connection")

            if kind == "sync":
                wait()
            else:
                side.result(asyncio.to_thread(wait))
