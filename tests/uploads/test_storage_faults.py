"""Storage servers that fail, refuse, stand still or lead elsewhere, met by both clients."""

from __future__ import annotations

import asyncio
import hashlib
import io
import socket
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme

from inferencesh import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AsyncInference,
    ConfigurationError,
    InferenceError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    Timeout,
)
from inferencesh._http.requests import storage_address
from inferencesh._http.session import without_url
from inferencesh.errors import UnreadableError
from tests.faults.forms import KEY, chat, message
from tests.faults.proxy import Proxy
from tests.faults.script import Reply, Scenario, page, refuse
from tests.faults.server import FaultServer
from tests.faults.turns import POST, TEXT, call, client_options, meanwhile, shown
from tests.support import Gate, Kind, eventually

from .storage import REFUSED, Storage, Way, service

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

LARGE = bytes(16 * 1024 * 1024)  # more than the sockets of both sides hold
FILES = "POST /files"
DIGEST = hashlib.sha256(LARGE).hexdigest()


def failing(kind: Kind, server: FaultServer, error: type[Exception], match: str | None = None, **options: Any) -> Any:
    """The error that the upload of a large file ends with."""
    caught: list[Any] = []

    def upload(client: Any) -> Generator[Any, Any, None]:
        with pytest.raises(error, match=match) as raised:
            yield client.files.upload(LARGE, filename="large.bin")
        caught.append(raised.value)

    call(kind, server, upload, **options)
    return caught[0]


# -- what is repeated --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "way",
    [
        Way(reads=1000, then="reset"),
        Way(then="reset"),
        Way(status=500),
        Way(status=503, headers={"Retry-After": "0"}),
        Way(status=429),
        Way(status=408, reads=1000),
        Way(reads=1000, then="silence"),
        Way(reads=1000, then="haste"),
    ],
    ids=["reset", "no answer", "500", "503", "429", "early 408", "stall", "early 200"],
)
def test_an_attempt_that_may_succeed_later_is_made_again(kind: Kind, way: Way) -> None:
    """From the beginning, so that the file arrives whole; it is not announced again."""
    with Storage(way, Way()) as storage, FaultServer(service(storage.url)) as server:
        call(kind, server, lambda client: client.files.upload(LARGE))
    assert [put.digest == DIGEST for put in storage.puts][-1]
    assert len(storage.puts) == 2
    assert len(server.seen(FILES)) == 1


@pytest.mark.parametrize("script", [refuse(500, "internal_error"), refuse(503, "app_maintenance"), page(status=502)])
def test_the_announcement_is_made_again(kind: Kind, script: Any) -> None:
    """It only makes a record; one too many harms nobody."""
    with Storage() as storage:
        plan = service(storage.url)
        answers = {FILES: [script, *plan.answers[FILES]]}
        with FaultServer(Scenario(answers=answers)) as server:
            call(kind, server, lambda client: client.files.upload(b"abc"))
    assert (len(server.seen(FILES)), len(storage.puts)) == (2, 1)


def test_attempts_come_to_an_end(kind: Kind) -> None:
    """After ``max_retries`` repetitions the last failure is raised."""
    with Storage(Way(status=500)) as storage, FaultServer(service(storage.url)) as server:
        error = failing(kind, server, InternalServerError, "127.0.0.1 did not take the file")
    assert error.repetitions == 2
    assert len(storage.puts) == 3


def test_nobody_at_the_address(kind: Kind) -> None:
    """A connection that cannot be made."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with FaultServer(service(f"http://127.0.0.1:{port}")) as server:
        failing(kind, server, APIConnectionError, "no connection could be made")


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reads", [None, 1000], ids=["read", "unread"])
def test_a_refusal_of_the_storage_is_explained(kind: Kind, reads: int | None) -> None:
    """By the code and the words in its XML; the rest of the file is not sent, and nothing is repeated."""
    with Storage(Way(403, REFUSED, reads)) as storage, FaultServer(service(storage.url)) as server:
        error = failing(kind, server, PermissionDeniedError, "127.0.0.1 did not take the file: Too large")
        storage.wait_until_left()
    assert (error.status_code, error.code) == (403, "EntityTooLarge")
    assert len(storage.puts) == 1


def test_a_refusal_in_json_is_read_as_the_services_own(kind: Kind) -> None:
    """Storage may be the service itself."""
    body = b'{"type": "https://api.inference.sh/errors/not_found", "detail": "no such upload"}'
    with Storage(Way(404, body)) as storage, FaultServer(service(storage.url)) as server:
        error = failing(kind, server, NotFoundError, "no such upload")
    assert error.code == "not_found"


def test_a_refusal_without_end_is_not_read_to_its_end(kind: Kind) -> None:
    """Bodies of storage servers are not trusted; the status is enough."""
    with Storage(Way(400, bytes(2_000_000))) as storage, FaultServer(service(storage.url)) as server:
        assert failing(kind, server, APIError).status_code == 400


def test_a_body_that_is_more_than_was_announced_harms_nobody(kind: Kind) -> None:
    """What comes with a success is not looked at."""
    with Storage(Way(201, bytes(2_000_000))) as storage, FaultServer(service(storage.url)) as server:
        call(kind, server, lambda client: client.files.upload(b"abc"))
        storage.wait_until_left()


def test_a_file_goes_nowhere_but_where_the_service_says(kind: Kind) -> None:
    """A redirect is an error, and the place it names gets nothing."""
    with Storage() as other, Storage(Way(307, headers={"Location": f"{other.url}/put/x"})) as storage:
        with FaultServer(service(storage.url)) as server:
            error = failing(kind, server, APIError, "redirects")
        assert error.status_code == 307
        assert other.puts == []


def test_a_file_over_its_limit_is_refused_before_it_is_sent(kind: Kind) -> None:
    """When it is announced; a message that it goes with is not sent either."""
    with Storage() as storage:
        answers = {FILES: [refuse(413, "invalid_request", "files may have 10 MB")]}
        with FaultServer(Scenario(answers=answers)) as server:

            def send(client: Any) -> Generator[Any, Any, None]:
                with pytest.raises(APIError, match="files may have 10 MB") as caught:
                    yield client.agent("a/b").send_message("?", files=[LARGE])
                assert caught.value.status_code == 413

            call(kind, server, send)
    assert (storage.puts, server.seen(POST)) == ([], [])


def test_one_refused_file_ends_the_message_and_the_other_uploads(kind: Kind) -> None:
    """The message is not sent, and nothing goes on behind the caller's back."""
    gate = Gate()
    with (
        Storage(Way(gate=gate)) as slow,
        Storage(Way(403, REFUSED)) as refusing,
        FaultServer(Scenario(answers={FILES: [service(slow.url).answers[FILES][0], _late(slow, refusing)]})) as server,
    ):

        def send(client: Any) -> Generator[Any, Any, None]:
            with pytest.raises(PermissionDeniedError):
                yield client.agent("a/b").send_message("?", files=[b"abc", b"def", LARGE])
            gate.open()
            yield meanwhile(kind, slow.wait_until_left)

        call(kind, server, send)
    assert server.seen(POST) == []


def _late(slow: Storage, refusing: Storage) -> Any:
    """The announcement of a file for the refusing storage, answered when the other storage is at work."""

    async def wait(_exchange: Any) -> None:
        await asyncio.to_thread(slow.wait_for, 1)

    return (wait, *service(refusing.url).answers[FILES][0])


# -- time --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reads", [1000, None], ids=["in the middle", "before the answer"])
def test_a_storage_that_stands_still_is_given_up(kind: Kind, reads: int | None) -> None:
    """After the idle time, in each attempt."""
    with Storage(Way(reads=reads, then="silence")) as storage, FaultServer(service(storage.url)) as server:
        begun = time.monotonic()
        failing(kind, server, APITimeoutError, r"no progress within 0\.2 seconds", timeout=Timeout(1, 0.2, 5))
    assert time.monotonic() - begun < 10
    assert len(storage.puts) == 3


def test_a_slow_upload_takes_its_time(kind: Kind) -> None:
    """Neither the total time nor the idle time ends an upload that makes progress."""
    limits = Timeout(connect=1, idle=0.6, total=0.6)
    with Storage(Way(pace=0.008)) as storage, FaultServer(service(storage.url)) as server:
        begun = time.monotonic()
        call(kind, server, lambda client: client.files.upload(LARGE), timeout=limits)
    assert time.monotonic() - begun > 1.5
    assert storage.puts[0].digest == DIGEST


def test_a_slow_progress_function_takes_its_time(kind: Kind) -> None:
    """The idle time is that of the network, not of the caller."""
    limits = Timeout(connect=1, idle=0.2, total=0.2)
    with Storage() as storage, FaultServer(service(storage.url)) as server:

        def on_progress(sent: int, _total: int) -> None:
            if sent == 262144:
                time.sleep(0.7)

        upload: Callable[[Any], Any] = lambda client: client.files.upload(bytes(400_000), on_progress=on_progress)  # noqa: E731
        call(kind, server, upload, timeout=limits)
    assert len(storage.puts) == 1


# -- addresses ---------------------------------------------------------------------------------------------------------

SERVICE = "https://api.inference.sh"
HERE = "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("upload_url", "base_url", "whole"),
    [
        ("https://s3.example/b/k?X-Sig=a%2Fb", SERVICE, "https://s3.example/b/k?X-Sig=a%2Fb"),
        ("https://s3.example/a b%20\xfc?c=d\r\n", SERVICE, "https://s3.example/a%20b%20%C3%BC?c=d"),
        ("/uploads/1", SERVICE, f"{SERVICE}/uploads/1"),
        ("/uploads/1", f"{SERVICE}/base", f"{SERVICE}/uploads/1"),
        ("uploads/1", HERE, f"{HERE}/uploads/1"),
        ("//s3.example/k", SERVICE, "https://s3.example/k"),
        ("http://localhost:9/k", HERE, "http://localhost:9/k"),
        ("http://[::1]:9/k", HERE, "http://[::1]:9/k"),
    ],
)
def test_addresses_that_are_taken(upload_url: str, base_url: str, whole: str) -> None:
    """Https anywhere; plain http on this machine; relative ones at the service's own host."""
    assert storage_address(upload_url, base_url) == whole


@pytest.mark.parametrize(
    ("upload_url", "base_url"),
    [
        ("http://s3.example/k", SERVICE),
        ("http://s3.example/k", HERE),
        ("http://127.0.0.1:6379/k", SERVICE),
        ("//s3.example/k", HERE),
        ("ftp://s3.example/k", SERVICE),
        ("file:///etc/passwd", SERVICE),
        ("https://[::1/k", SERVICE),
        ("https://s3.example:port/k", SERVICE),
        ("https://user:password@s3.example/k", SERVICE),
        ("https://s3.example/\ud800", SERVICE),
    ],
)
def test_addresses_that_are_refused(upload_url: str, base_url: str) -> None:
    """A file is sent neither in the clear, nor to a port of this machine that a distant service names."""
    with pytest.raises(UnreadableError, match="was not sent"):
        storage_address(upload_url, base_url)


@pytest.mark.parametrize("record", [{"upload_url": "http://192.0.2.1/k"}, {"upload_url": None}, {"upload_url": 5}])
def test_a_record_without_a_usable_address(kind: Kind, record: dict[str, Any]) -> None:
    """A clear error, and nothing is sent."""
    with Storage() as storage, FaultServer(service(storage.url, **record)) as server:
        failing(kind, server, InferenceError, "not sent|no address")
    assert storage.puts == []


@pytest.mark.parametrize("answer", [[], {}, [1], {"files": 1}, [{"upload_url": "/a"}, {"upload_url": "/b"}], b"true"])
def test_an_answer_without_a_record(kind: Kind, answer: Any) -> None:
    """Or with more than one: none of them is this file's for certain."""
    with FaultServer(Scenario(answers={FILES: [(Reply(answer),)]})) as server:
        failing(kind, server, InferenceError, "record of the file|no address")


def test_a_record_that_names_no_file(kind: Kind) -> None:
    """Without uri and id it could not be attached to anything."""
    with Storage() as storage, FaultServer(service(storage.url, id=None, uri=None)) as server:
        failing(kind, server, InferenceError, "neither uri nor id")
    assert storage.puts == []


# -- secrets, certificates, proxies ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "way",
    [
        Way(),
        Way(then="reset"),
        Way(reads=9, then="reset"),
        Way(400, f"{KEY} no".encode()),
        Way(reads=9, then="silence"),
    ],
    ids=["taken", "no answer", "reset", "refused", "stall"],
)
def test_neither_key_nor_signature_is_shown(kind: Kind, way: Way, canary: pytest.LogCaptureFixture) -> None:
    """The key is in no request to the storage; the address's query, which opens the door there, in no log or error."""
    said: list[str] = []
    with Storage(way) as storage, FaultServer(service(storage.url)) as server:

        def upload(client: Any) -> Generator[Any, Any, None]:
            try:
                yield client.files.upload(LARGE)
            except InferenceError as error:
                said.extend([str(error), repr(error), repr(error.__cause__), repr(error.__context__)])

        call(kind, server, upload)
    assert bool(said) == (way != Way())
    assert KEY not in "".join(said)
    logged = "\n".join(map(canary.handler.format, [r for r in canary.records if r.name.startswith("inferencesh")]))
    assert logged
    assert "sesame" not in logged + "".join(said)
    assert KEY not in "".join(str(put) for put in storage.puts)
    assert KEY in server.seen(FILES)[0].headers["authorization"]


@pytest.mark.parametrize(("code", "says"), [(32, "Broken pipe"), (None, "ClientOSError")])
def test_an_error_that_tells_the_whole_address_is_replaced(code: int | None, says: str) -> None:
    """aiohttp has such errors; which of them comes of a broken connection is a matter of chance."""
    url = "https://s3.example/k?signature=sesame"
    told = without_url(aiohttp.ClientOSError(code, f"Can not write request body for {url}"), url)
    assert says in str(told)
    assert "sesame" not in repr(told)
    other = aiohttp.ClientOSError(code, "Connection lost")
    assert without_url(other, url) is other


def test_a_timeout_of_the_callers_shows_no_key() -> None:
    """Nor any frame of a cancelled upload."""

    async def main(server: FaultServer) -> BaseException:
        async with AsyncInference(**client_options(server)) as client:
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(0.3):
                    await client.files.upload(LARGE)
        return caught.value

    with Storage(Way(reads=1, then="silence")) as storage, FaultServer(service(storage.url)) as server:
        told = "".join(shown(asyncio.run(main(server))))
    assert KEY not in told


def test_a_cancelled_upload_leaves_nothing_behind(tmp_path: Path) -> None:
    """Its connection is closed at once, and a file object stands where it stood, so that it can be uploaded again."""
    file = io.BytesIO(LARGE)
    file.seek(5)

    async def main(server: FaultServer, storage: Storage) -> None:
        async with AsyncInference(**client_options(server)) as client:
            task = asyncio.create_task(client.agent("a/b").send_message("?", files=[file]))
            await eventually(lambda: storage.puts, "upload", 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gate.open()
            await eventually(lambda: not storage.peers, "end of the connection")

    gate = Gate()
    with Storage(Way(reads=1, then="leaving", gate=gate)) as storage, FaultServer(service(storage.url)) as server:
        asyncio.run(main(server, storage), debug=True)
    assert server.seen(POST) == []
    assert storage.puts[0].size < len(LARGE) - 5, "what was given up does not arrive behind the caller's back"
    assert file.tell() == 5


def test_ctrl_c_in_a_progress_function_ends_the_upload() -> None:
    """It reaches the caller of the blocking client, which can be used further."""

    def on_progress(sent: int, _total: int) -> None:
        if sent:
            raise KeyboardInterrupt

    with Storage() as storage, FaultServer(service(storage.url)) as server:

        def upload(client: Any) -> Any:
            with pytest.raises(KeyboardInterrupt):
                client.files.upload(LARGE, on_progress=on_progress)
            storage.wait_until_left()
            return client.files.upload(b"abc")

        assert call("sync", server, upload).size == 3


def test_tls_and_proxy_of_the_client_count_for_uploads(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """A private certificate is accepted, and the tunnel of the environment's proxy is used."""
    authority = trustme.CA()
    serving, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    authority.configure_trust(trusting)
    plan = service(streams=[(message(TEXT, "ready"), chat("completed"))])
    with Proxy() as proxy, FaultServer(plan, tls=serving) as server:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        call(kind, server, lambda client: client.files.upload(LARGE[:500_000]), ssl=trusting)
        (put,) = server.seen("PUT /put/nameless")
        assert len(put.body) == 500_000
        proxy.wait_until_left()
    assert proxy.heads
    with FaultServer(plan, tls=serving) as server, pytest.raises(ConfigurationError, match="not socks5"):
        call(kind, server, lambda client: client.files.upload(b"abc"), ssl=trusting, proxy="socks5://127.0.0.1:1")
