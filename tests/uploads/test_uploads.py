"""What is on the wire when files are uploaded, in both clients."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
import attrs
import pytest

from inferencesh import FileError, FileRef, Message, StreamError
from tests.faults.forms import CALL, KEY, call_of, chat, message
from tests.faults.script import Reply, Scenario, Script
from tests.faults.server import FaultServer
from tests.faults.turns import POST, TEXT, call
from tests.support import Gate, Kind

from .storage import Storage, Way, service

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.faults.forms import Json

PNG = b"\x89PNG\r\n\x1a\n" + bytes(700_000)
REPLY: Script = (chat("working"), message(TEXT, "ready"), chat("completed"))
FILES = "POST /files"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A file on disk, of several chunks."""
    path = tmp_path / "picture.png"
    path.write_bytes(PNG)
    return path


def announcement(server: FaultServer, count: int = 0) -> dict[str, Any]:
    """What the service was told of a file."""
    (file,) = cast("list[dict[str, Any]]", server.seen(FILES)[count].json["files"])
    return file


def test_a_file_on_disk_is_announced_and_put(kind: Kind, picture: Path) -> None:
    """Its bytes arrive whole, with length and type, and nothing of the client's goes with them."""
    with Storage() as storage, FaultServer(service(storage.url)) as server:
        ref = call(kind, server, lambda client: client.files.upload(picture))
    size = len(PNG)
    assert announcement(server) == {"uri": "", "filename": "picture.png", "content_type": "image/png", "size": size}
    assert ref == FileRef("id-picture.png", "inf://files/picture.png", "picture.png", "image/png", size)
    (put,) = storage.puts
    assert put.line == "PUT /put/picture.png?signature=sesame HTTP/1.1"
    assert (put.size, put.digest) == (size, hashlib.sha256(PNG).hexdigest())
    assert put.headers["content-type"] == "image/png"
    assert put.headers["content-length"] == str(size)
    assert set(put.headers) <= {"host", "accept", "accept-encoding", "user-agent", "content-type", "content-length"}
    assert KEY not in str(put)


def test_an_agent_uploads_in_the_same_way(kind: Kind, picture: Path) -> None:
    """With a name and a type of the caller's."""
    with Storage() as storage, FaultServer(service(storage.url)) as server:
        ref = call(
            kind, server, lambda c: c.agent("a/b").upload_file(picture, filename="a.bin", content_type="x-test/thing")
        )
    assert (ref.filename, ref.content_type) == ("a.bin", "x-test/thing")
    assert announcement(server)["filename"] == "a.bin"
    assert storage.puts[0].headers["content-type"] == "x-test/thing"


SOURCES: list[Any] = [
    pytest.param(lambda: b"GIF89a...", "image/gif", "", b"GIF89a...", id="bytes"),
    pytest.param(lambda: bytearray(b"GIF89a"), "image/gif", "", b"GIF89a", id="bytearray"),
    pytest.param(lambda: memoryview(b"xGIF89ax")[1:7], "image/gif", "", b"GIF89a", id="memoryview"),
    pytest.param(lambda: b"", "application/octet-stream", "", b"", id="nothing"),
    pytest.param(lambda: io.BytesIO(b"%PDF-1.7"), "application/pdf", "", b"%PDF-1.7", id="file object"),
    pytest.param(lambda: named(b"a;b", "/x/table.csv"), "text/csv", "table.csv", b"a;b", id="named file object"),
    pytest.param(lambda: named(b"a;b", "<stdin>"), "application/octet-stream", "", b"a;b", id="stdin"),
    pytest.param(lambda: io.BytesIO(), "application/octet-stream", "", b"", id="empty file object"),
    pytest.param(lambda: "data:text/html;charset=utf-8,%3Cp%3E", "text/html;charset=utf-8", "", b"<p>", id="data URI"),
    pytest.param(lambda: "DATA:;base64,_-8", "text/plain;charset=US-ASCII", "", b"\xff\xef", id="bare data URI"),
]


def named(data: bytes, name: str) -> io.BytesIO:
    """A file object with a name."""
    file = io.BytesIO(data)
    file.name = name
    return file


@pytest.mark.parametrize(("make", "content_type", "name", "data"), SOURCES)
def test_files_may_be_given_in_several_ways(kind: Kind, make: Any, content_type: str, name: str, data: bytes) -> None:
    """Each is announced with its size and type, and its bytes arrive."""
    with Storage() as storage, FaultServer(service(storage.url)) as server:
        ref = call(kind, server, lambda client: client.files.upload(make()))
    told = announcement(server)
    assert (told["size"], told["content_type"], told.get("filename", "")) == (len(data), content_type, name)
    assert (ref.size, ref.content_type, ref.filename) == (len(data), content_type, name)
    (put,) = storage.puts
    assert (put.size, put.digest) == (len(data), hashlib.sha256(data).hexdigest())
    assert put.headers["content-length"] == str(len(data))


def test_a_path_of_anyio_is_a_path(kind: Kind, picture: Path) -> None:
    """Anything with the file system protocol is."""
    with Storage() as storage, FaultServer(service(storage.url)) as server:
        ref = call(kind, server, lambda client: client.files.upload(anyio.Path(picture)))
    assert (ref.filename, storage.puts[0].size) == ("picture.png", len(PNG))


def test_a_file_object_is_read_from_where_it_stands(kind: Kind) -> None:
    """To its end; it stays open, and stands at its end."""
    file = io.BytesIO(b"skipped and sent")
    file.seek(8)
    with Storage() as storage, FaultServer(service(storage.url)) as server:
        call(kind, server, lambda client: client.files.upload(file))
    assert storage.puts[0].digest == hashlib.sha256(b"and sent").hexdigest()
    assert not file.closed
    assert file.tell() == 16


def test_a_file_object_is_not_uploaded_twice_at_once(kind: Kind) -> None:
    """Each upload would move the position of the other; one after the other is fine."""
    file = io.BytesIO(PNG)
    refused: list[FileError] = []

    def use(client: Any) -> Generator[Any, Any, None]:
        def again(*_: object) -> None:
            try:
                client.files.upload(file)
            except FileError as error:
                refused.append(error)

        async def again_async(*_: object) -> None:
            try:
                await client.files.upload(file)
            except FileError as error:
                refused.append(error)

        yield client.files.upload(file, on_progress=again if kind == "sync" else again_async)
        file.seek(0)
        yield client.files.upload(file)

    with Storage() as storage, FaultServer(service(storage.url)) as server:
        call(kind, server, use)
    assert "it is being uploaded already" in str(refused[0])
    assert [put.digest for put in storage.puts] == [hashlib.sha256(PNG).hexdigest()] * 2


def test_what_can_be_read_once_is_uploaded_too(kind: Kind) -> None:
    """A pipe: its size is announced, and a failed attempt is made again with the same bytes."""
    reader, writer = os.pipe()
    data = os.urandom(300_000)

    def write() -> None:
        with os.fdopen(writer, "wb") as file:
            file.write(data)

    thread = threading.Thread(target=write)
    thread.start()
    with (
        os.fdopen(reader, "rb") as pipe,
        Storage(Way(reads=1000, then="reset"), Way()) as storage,
        FaultServer(service(storage.url)) as server,
    ):
        ref = call(kind, server, lambda client: client.files.upload(pipe))
    thread.join()
    assert ref.size == announcement(server)["size"] == len(data)
    assert storage.puts[-1].digest == hashlib.sha256(data).hexdigest()


def test_an_uploaded_file_is_not_uploaded_again(kind: Kind) -> None:
    """It comes back as it is; another name or type makes it another reference to the same file."""
    known = FileRef("f1", "inf://files/f1", "a.png", "image/png", 3)
    with FaultServer(Scenario()) as server:
        assert call(kind, server, lambda client: client.files.upload(known)) is known
        renamed = call(kind, server, lambda client: client.files.upload(known, filename="b.png"))
    assert renamed == attrs.evolve(known, filename="b.png")
    assert server.requests == []


def test_a_message_takes_files_along(kind: Kind, picture: Path) -> None:
    """They are uploaded before it is sent, stand in it in the order given, and known ones are not sent again."""
    known = FileRef(uri="inf://files/f1")
    with Storage() as storage, FaultServer(service(storage.url, [REPLY])) as server:
        files = [b"GIF89a", picture, known, "data:text/csv,a;b"]
        reply = call(kind, server, lambda client: client.agent("a/b").send_message("What?", files=files))
    assert reply.text == TEXT
    sent = cast("dict[str, Any]", server.seen(POST)[0].json["input"])
    assert sent["text"] == "What?"
    assert [file.get("content_type") for file in sent["attachments"]] == ["image/gif", "image/png", None, "text/csv"]
    assert sent["attachments"][1] == {
        "id": "id-picture.png",
        "uri": "inf://files/picture.png",
        "filename": "picture.png",
        "content_type": "image/png",
        "size": len(PNG),
    }
    assert sent["attachments"][2] == {"uri": "inf://files/f1"}
    assert len(storage.puts) == 3
    assert [request.line for request in server.requests][:4] == [FILES, FILES, FILES, POST]


def test_a_message_without_files_has_no_word_of_them(kind: Kind) -> None:
    """As it was before there were any."""
    with FaultServer(Scenario(streams=[REPLY])) as server:
        call(kind, server, lambda client: client.agent("a/b").send_message("Hi", files=[]))
    assert server.seen(POST)[0].json["input"] == {"text": "Hi"}


def test_a_stream_takes_files_along(kind: Kind, picture: Path) -> None:
    """And a chat that exists has its stream opened when they are there, not while they are uploaded."""

    def talk(client: Any) -> Generator[Any, Any, Message]:
        agent = client.agent("a/b", chat_id="chat1")
        stream = agent.send_message("What?", stream=True, files=[picture])
        return cast("Message", (yield stream.get_final_message()))

    with Storage() as storage, FaultServer(service(storage.url, [REPLY])) as server:
        assert call(kind, server, talk).text == TEXT
    assert [request.line for request in server.requests][:3] == [FILES, "GET /chats/chat1/stream", POST]


def test_a_file_that_stands_twice_in_a_message_is_uploaded_once(kind: Kind) -> None:
    """Two uploads of one file object would take the bytes from each other."""
    file = io.BytesIO(b"GIF89a")
    with Storage() as storage, FaultServer(service(storage.url, [REPLY])) as server:
        call(kind, server, lambda client: client.agent("a/b").send_message("?", files=[file, file]))
    assert len(storage.puts) == 1
    sent = cast("dict[str, Any]", server.seen(POST)[0].json["input"])
    assert sent["attachments"] == [sent["attachments"][0]] * 2


def test_files_of_a_message_are_uploaded_side_by_side(kind: Kind) -> None:
    """Eight at once and no more."""
    gate = Gate()
    with Storage(Way(gate=gate)) as storage, FaultServer(service(storage.url, [REPLY])) as server:

        def let_go() -> None:
            storage.wait_for(8)
            gate.open()

        opener = threading.Thread(target=let_go)
        opener.start()
        files = [bytes([number]) for number in range(12)]
        call(kind, server, lambda client: client.agent("a/b").send_message("?", files=files))
        opener.join()
    assert len(storage.puts) == 12
    assert storage.most == 8


def test_a_tools_result_takes_files_along(kind: Kind, picture: Path) -> None:
    """They stand in its body as in that of a message."""
    paused: Script = (chat("working"), message("", calls=[call_of()]), chat("input_required"))

    def talk(client: Any) -> Generator[Any, Any, None]:
        agent = client.agent({"name": "tester"})
        reply = yield agent.send_message("?")
        yield agent.submit_tool_result(reply.pending_tool_calls[0].id, {"a": 1}, files=[picture])

    with Storage() as storage, FaultServer(service(storage.url, [paused])) as server:
        call(kind, server, talk)
    body = server.seen(f"POST /tools/{CALL}")[0].json
    assert body["result"] == '{"a":1}'
    (attached,) = cast("list[Json]", body["attachments"])
    assert attached["uri"] == "inf://files/picture.png"


@pytest.mark.parametrize("envelope", ["v1", "v2", "v3"])
@pytest.mark.parametrize("shape", ["list", "files", "items", "object"])
def test_the_record_is_found_in_every_form_of_an_answer(kind: Kind, envelope: str, shape: str) -> None:
    """What the DTO leaves out is known from the announcement; a relative address is the service's own."""
    record = {"id": "f1", "uri": "inf://files/f1", "upload_url": "/put/f1", "filename": None}
    answer = {"list": [record], "object": record}.get(shape, {shape: [record]})
    plan = Scenario(answers={FILES: [(Reply(answer),)]}, envelope=envelope)
    with FaultServer(plan) as server:
        ref = call(kind, server, lambda client: client.files.upload(b"GIF89a", filename="a.gif"))
        (put,) = server.seen("PUT /put/f1")
    assert ref == FileRef("f1", "inf://files/f1", "a.gif", "image/gif", 6)
    assert put.body == b"GIF89a"
    assert "authorization" not in put.headers, "the same host or not: who has the address needs no key"


# -- progress ----------------------------------------------------------------------------------------------------------


def test_progress_is_told(kind: Kind, picture: Path) -> None:
    """From nothing to all, in bytes, and never back."""
    told: list[tuple[int, int]] = []
    with Storage() as storage, FaultServer(service(storage.url)) as server:
        call(kind, server, lambda c: c.files.upload(picture, on_progress=lambda sent, all_: told.append((sent, all_))))
    size = len(PNG)
    assert told == [(0, size), (262144, size), (524288, size), (size, size)]


def test_progress_of_nothing(kind: Kind) -> None:
    """An empty file has a beginning and an end as well."""
    told: list[tuple[int, int]] = []
    with Storage() as storage, FaultServer(service(storage.url)) as server:
        call(kind, server, lambda c: c.files.upload(b"", on_progress=lambda sent, all_: told.append((sent, all_))))
    assert told == [(0, 0), (0, 0)]


def test_progress_of_a_repeated_attempt_does_not_go_back(kind: Kind, picture: Path) -> None:
    """It goes on when the new attempt has come as far as the old one; the end is told once, when all is there."""
    told: list[int] = []
    with Storage(Way(status=503), Way()) as storage, FaultServer(service(storage.url)) as server:
        call(kind, server, lambda c: c.files.upload(picture, on_progress=lambda sent, _all: told.append(sent)))
    assert len(storage.puts) == 2
    assert told == [0, 262144, 524288, len(PNG)]


def test_progress_may_be_async(kind: Kind) -> None:
    """In either client."""
    told: list[int] = []

    async def on_progress(sent: int, _total: int | None) -> None:
        told.append(sent)

    with Storage() as storage, FaultServer(service(storage.url)) as server:
        call(kind, server, lambda client: client.files.upload(b"abc", on_progress=on_progress))
    assert told == [0, 3]


def test_progress_is_told_on_the_calling_thread_of_the_blocking_client() -> None:
    """So it may use the client itself; in the async client it is a worker thread, where it may block."""
    threads: dict[str, set[threading.Thread]] = {"sync": set(), "async": set()}
    for kind in ("sync", "async"):
        with Storage() as storage, FaultServer(service(storage.url)) as server:

            def upload(client: Any, kind: str = kind) -> Any:
                def on_progress(_sent: int, _total: int) -> None:
                    threads[kind].add(threading.current_thread())
                    if kind == "sync":
                        client.files.upload(b"from within")

                return client.files.upload(b"abc", on_progress=on_progress)

            call(kind, server, upload)
            assert len(storage.puts) == (3 if kind == "sync" else 1)
    assert threads["sync"] == {threading.current_thread()}
    assert threading.current_thread() not in threads["async"]


@pytest.mark.parametrize("at", [0, 262144, len(PNG)])
@pytest.mark.parametrize("error", [ValueError("enough"), TimeoutError("enough"), StreamError("enough")])
def test_what_progress_raises_ends_the_upload(kind: Kind, picture: Path, at: int, error: Exception) -> None:
    """It reaches the caller, nothing is repeated, and the connection is closed."""

    with Storage() as storage, FaultServer(service(storage.url)) as server:

        def on_progress(sent: int, _total: int) -> None:
            if sent == at:
                storage.wait_for(min(at, 1))  # cutting the connection also discards what was not received yet
                raise error

        def upload(client: Any) -> Generator[Any, Any, None]:
            with pytest.raises(type(error), match="enough"):
                yield client.files.upload(picture, on_progress=on_progress)

        call(kind, server, upload)
        storage.wait_until_left()
    assert len(storage.puts) == (0 if at == 0 else 1)
    assert len(server.seen(FILES)) == (0 if at == 0 else 1)
