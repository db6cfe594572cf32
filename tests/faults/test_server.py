"""The fault server does what its scripts say; everything else in this folder rests on it."""

from __future__ import annotations

import json
import socket
from contextlib import closing

import aiohttp
import pytest

from .forms import CHAT, HEARTBEAT, REPLY, asked, chat, message, message_of, part
from .script import (
    CUT,
    EOF,
    HALF_CLOSE,
    RST,
    STALL,
    Reply,
    Scenario,
    Script,
    after,
    bytewise,
    encode,
    half,
    heartbeats,
    hold,
    raw,
    redirect,
    refuse,
    together,
)
from .server import FaultServer

STREAM = f"GET /chats/{CHAT}/stream"
LINE = message("Grüße\u2028")


def connect(server: FaultServer, line: str = STREAM, body: bytes = b"") -> socket.socket:
    """A connection that has sent one request."""
    peer = socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=5)
    peer.sendall(f"{line} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return peer


def read_to_end(peer: socket.socket) -> bytes:
    """Everything until a FIN; a RST raises."""
    return b"".join(iter(lambda: peer.recv(65536), b""))


def body_of(data: bytes) -> bytes:
    """The body of a chunked answer, however far it came."""
    _, rest = data.split(b"\r\n\r\n", 1)
    body = b""
    while rest and not rest.startswith(b"0\r\n"):
        size, rest = rest.split(b"\r\n", 1)
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


@pytest.mark.parametrize(
    ("script", "body"),
    [
        ((chat("working"), LINE, CUT), encode(chat("working")) + encode(LINE)),
        ((bytewise(LINE), CUT), encode(LINE)),
        ((together(LINE, HEARTBEAT), CUT), encode(LINE) + encode(HEARTBEAT)),
        ((half(LINE), CUT), encode(LINE)[: len(encode(LINE)) // 2]),
        ((heartbeats(2, 0.01), CUT), encode(HEARTBEAT) * 2),
        ((LINE, HALF_CLOSE), encode(LINE)),
        ((b"x" * 300_000, CUT), b"x" * 300_000),
    ],
    ids=["lines", "bytewise", "together", "half", "heartbeats", "half-close", "long"],
)
def test_a_body_arrives_as_scripted(script: Script, body: bytes) -> None:
    """What the steps send is what arrives before the FIN."""
    with FaultServer(Scenario(streams=[script])) as server, closing(connect(server)) as peer:
        assert body_of(read_to_end(peer)) == body


def test_a_reset_is_a_reset() -> None:
    """RST raises in the client where a FIN would not."""
    with FaultServer(Scenario(streams=[(LINE, RST)])) as server, closing(connect(server)) as peer:
        with pytest.raises(ConnectionResetError):
            read_to_end(peer)
        server.wait_until_no_connections()


def test_each_byte_can_be_a_segment_of_its_own() -> None:
    """A reader that is fast enough sees bytewise lines in pieces."""
    with FaultServer(Scenario(streams=[(bytewise(LINE), CUT)])) as server, closing(connect(server)) as peer:
        pieces = list(iter(lambda: peer.recv(65536), b""))
    assert len(pieces) > 5


def test_a_proper_end_keeps_the_connection_and_scripts_follow_each_other() -> None:
    """After EOF the same connection is answered again, by the next script; the last one serves all further requests."""
    scenario = Scenario(streams=[(chat("working"), EOF), (LINE, CUT)])
    with FaultServer(scenario) as server:
        with closing(connect(server)) as peer:
            first = b""
            while not first.endswith(b"\r\n0\r\n\r\n"):
                first += peer.recv(65536)
            peer.sendall(f"{STREAM} HTTP/1.1\r\n\r\n".encode())
            assert body_of(read_to_end(peer)) == encode(LINE)
        with closing(connect(server)) as peer:
            assert body_of(read_to_end(peer)) == encode(LINE)


def test_open_connections_and_streams_are_counted() -> None:
    """A stream that stalls is open until the client leaves, and waiting for its end fails until then."""
    with FaultServer(Scenario(streams=[(STALL,)])) as server:
        with closing(connect(server)):
            server.wait_for_request(STREAM)
            assert (server.streams, len(server.connections)) == (1, 1)
            with pytest.raises(AssertionError, match="1 connections"):
                server.wait_until_no_connections(0.05)
        server.wait_until_no_streams()
        server.wait_until_no_connections()


def test_scripts_wait_for_requests_and_for_the_test() -> None:
    """after() holds a stream until another request has come, hold() until the test says so."""
    scenario = Scenario(streams=[(chat("working"), after("POST /tools/call1"), hold("go"), LINE, CUT)])
    with FaultServer(scenario) as server, closing(connect(server)) as stream:
        told = b""
        while encode(chat("working")) not in told:
            told += stream.recv(65536)
        stream.settimeout(0.05)
        with pytest.raises(TimeoutError):
            stream.recv(1)
        with closing(connect(server, "POST /tools/call1", b'{"result": "1"}')):
            assert server.wait_for_request("POST /tools/call1").json == {"result": "1"}
        with pytest.raises(TimeoutError):
            stream.recv(1)
        server.release("go")
        stream.settimeout(5)
        assert encode(LINE) in read_to_end(stream)


@pytest.mark.parametrize("envelope", ["v1", "v2", "v3"])
async def test_answers_agree_with_the_streams_in_each_envelope(envelope: str) -> None:
    """An ordinary HTTP client reads the post, the chat and its messages as the streams have told them."""
    script: Script = (chat("completed"), message("All"), part("chat_messages", REPLY, status="ready"), EOF)
    scenario = Scenario(streams=[script], envelope=envelope)

    def data(answer: object) -> object:
        return answer if envelope == "v2" else answer["data"]  # type: ignore[index] # an envelope

    with FaultServer(scenario) as server:
        async with aiohttp.ClientSession(server.url) as session:
            async with session.post("/agents/run", json={}) as response:
                posted = data(await response.json())
            async with session.get(f"/chats/{CHAT}/stream") as response:
                lines = (await response.read()).splitlines()
            async with session.get(f"/chats/{CHAT}") as response:
                told = data(await response.json())
            async with session.get(f"/chats/{CHAT}/messages?limit=9") as response:
                messages = data(await response.json())
    assert isinstance(posted, dict)
    assert posted["assistant_message"] == message_of("")
    assert json.loads(lines[0])["data"] == told
    assert isinstance(messages, dict)
    assert messages["items"] == [message_of("All", "ready"), asked()]
    assert [request.query for request in server.requests] == ["", "", "", "limit=9"]


async def test_errors_and_redirects_are_whole_answers() -> None:
    """refuse() is a problem with its headers, redirect() points elsewhere."""
    post = [refuse(429, "rate_limited", Retry_After="1"), redirect("http://other.invalid/")]
    with FaultServer(Scenario(post=post)) as server:
        async with aiohttp.ClientSession(server.url) as session:
            async with session.post("/agents/run") as response:
                assert (response.status, response.headers["Retry-After"]) == (429, "1")
                assert (await response.json())["type"].endswith("/errors/rate_limited")
            async with session.post("/agents/run", allow_redirects=False) as response:
                assert (response.status, response.headers["Location"]) == (307, "http://other.invalid/")


def test_raw_bytes_are_sent_outside_of_chunks() -> None:
    """raw() decides every byte of an answer, its head included."""
    with FaultServer(Scenario(streams=[(raw(b"HTTP/1.1 200 O"), RST)])) as server, closing(connect(server)) as peer:
        assert peer.recv(100) == b"HTTP/1.1 200 O"
        with pytest.raises(ConnectionResetError):
            peer.recv(1)


def test_a_mistake_in_a_script_fails_the_test() -> None:
    """It surfaces when the server is left, instead of looking like a fault of the client."""

    async def broken(_: object) -> None:
        raise LookupError("a mistake in the script")

    def play() -> None:
        with FaultServer(Scenario(streams=[(broken,)])) as server, closing(connect(server)) as peer:
            assert read_to_end(peer) == b""

    with pytest.raises(LookupError, match="mistake"):
        play()


def test_play_starts_over() -> None:
    """One server can serve many scenarios, one after the other."""
    with FaultServer(Scenario(streams=[(LINE, CUT)])) as server:
        with closing(connect(server)) as peer:
            read_to_end(peer)
        server.play(Scenario(post=[(Reply({"fine": True}),)]))
        assert server.requests == []
        with closing(connect(server, "POST /agents/run")) as peer:
            assert b'"fine":true' in peer.recv(65536)


def test_the_server_stops_with_connections_open() -> None:
    """Leaving the server ends its thread and what is still connected."""
    with FaultServer(Scenario(streams=[(STALL,)])) as server:
        peer = connect(server)
        server.wait_for_request(STREAM)
    with closing(peer):
        assert read_to_end(peer) == b""
    assert not server.connections
