"""Downloads in both clients: whole or not at all, never with the API key, and never to the wrong place."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from typing import Any

import pytest

from inferencesh import (
    APIConnectionError,
    APIError,
    AsyncInference,
    ConfigurationError,
    FileRef,
    InferenceError,
    NotFoundError,
    PermissionDeniedError,
)
from inferencesh.errors import UnreadableError
from tests.faults.forms import KEY
from tests.faults.script import CUT, RST, STALL, Scenario, Script, head, raw, redirect, refuse
from tests.faults.server import FaultServer
from tests.faults.turns import call, client_options
from tests.support import Kind

FILE = "GET /content/f1"
CONTENT = b"0123456789" * 50_000


def sized(content: bytes, size: int | None = None) -> Script:
    """A file as a storage server sends it."""
    top = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {size or len(content)}\r\n\r\n"
    return (raw(top.encode() + content),)


def download(kind: Kind, server: FaultServer, file: Any = "/content/f1", to: Any = None, **options: Any) -> Any:
    """Download a file with either client."""
    return call(kind, server, lambda client: client.files.download(file, to, **options))


def test_a_file_is_requested_without_the_key(kind: Kind, tmp_path: Path) -> None:
    """To memory and to disk; nothing else is left there."""
    with FaultServer(Scenario(answers={FILE: [sized(CONTENT)]})) as server:
        assert download(kind, server) == CONTENT
        assert download(kind, server, to=tmp_path / "f") == tmp_path / "f"
        assert not any(KEY in str(request.headers) for request in server.seen(FILE))
        assert all(request.headers["accept-encoding"] == "identity" for request in server.seen(FILE))
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_progress_only_grows(kind: Kind) -> None:
    """Also when a connection breaks and the file begins again."""
    told: list[tuple[int, int]] = []
    broken: Script = (*sized(CONTENT[:300_000], len(CONTENT)), CUT)
    with FaultServer(Scenario(answers={FILE: [broken, sized(CONTENT)]})) as server:
        assert download(kind, server, on_progress=lambda *given: told.append(given)) == CONTENT
    assert told == sorted(told)
    assert (told[0], told[-1]) == ((0, len(CONTENT)), (len(CONTENT), len(CONTENT)))


@pytest.mark.parametrize(
    "failure",
    [(RST,), (CUT,), (*sized(CONTENT[:300_000], len(CONTENT)), RST), refuse(503, "busy"), refuse(500, "oops")],
    ids=["reset", "cut", "half", "503", "500"],
)
def test_a_failure_is_repeated(failure: Script, kind: Kind, tmp_path: Path) -> None:
    """From the beginning; what was written before does not stay."""
    with FaultServer(Scenario(answers={FILE: [failure, sized(CONTENT)]})) as server:
        assert download(kind, server, to=tmp_path / "f").read_bytes() == CONTENT
        assert len(server.seen(FILE)) == 2


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((*sized(CONTENT[:300_000], len(CONTENT)), CUT), APIConnectionError),
        ((raw(head() + b"4\r\nhalf\r\n"), CUT), APIConnectionError),
        ((STALL,), APIConnectionError),
        (refuse(404, "not_found"), NotFoundError),
        (refuse(403, "forbidden"), PermissionDeniedError),
        (redirect("/content/f1"), APIError),
        (redirect("http://example.com/f1"), UnreadableError),
        (redirect("ftp://127.0.0.1/f1"), UnreadableError),
        (redirect("https://user:secret@127.0.0.1/f1"), UnreadableError),
    ],
    ids=["cut", "no end", "silence", "gone", "forbidden", "endless", "unencrypted", "ftp", "a user"],
)
def test_a_download_that_fails_leaves_nothing(
    answer: Script, error: type[InferenceError], kind: Kind, tmp_path: Path
) -> None:
    """Neither a part of the file, nor a change of one that was there."""
    (tmp_path / "f").write_text("before")
    with FaultServer(Scenario(answers={FILE: [answer]})) as server, pytest.raises(error):
        download(kind, server, to=tmp_path / "f")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_text() == "before"


def test_the_size_that_the_service_has_named_is_checked(kind: Kind) -> None:
    """Even if the storage ends the file properly."""
    chunked = (raw(head(content_type="text/plain") + b"4\r\nhalf\r\n"), raw(b"0\r\n\r\n"))
    ref = FileRef(uri="/content/f1", size=9)
    with FaultServer(Scenario(answers={FILE: [chunked]})) as server:
        assert download(kind, server) == b"half"
        with pytest.raises(APIConnectionError, match="4 of 9 bytes"):
            download(kind, server, ref)


def test_a_file_that_is_stored_compressed_is_decompressed(kind: Kind, tmp_path: Path) -> None:
    """Some storage sends such files so in any case; the sizes that are named are those of the compressed form."""
    packed = gzip.compress(CONTENT)
    top = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
    told: list[tuple[int, int | None]] = []
    with FaultServer(Scenario(answers={FILE: [(raw(top + packed),)]})) as server:
        file = FileRef(uri="/content/f1", size=len(packed))
        assert download(kind, server, file, on_progress=lambda *given: told.append(given)) == CONTENT
        assert download(kind, server, to=tmp_path / "f").read_bytes() == CONTENT
    assert (told[0], told[-1]) == ((0, None), (len(CONTENT), len(CONTENT)))


def test_redirects_are_followed(kind: Kind) -> None:
    """Relative ones too, each without the key."""
    answers = {FILE: [redirect("/content/f2")], "GET /content/f2": [redirect("f3")], "GET /content/f3": [sized(b"x")]}
    with FaultServer(Scenario(answers=answers)) as server:
        assert download(kind, server) == b"x"
        assert [request.path for request in server.requests] == ["/content/f1", "/content/f2", "/content/f3"]
        assert not any(KEY in str(request.headers) for request in server.requests)


@pytest.mark.parametrize(
    "uri", ["http://example.com/f", "file:///etc/passwd", "https://[", "https://u:p@example.com/f"]
)
def test_addresses_that_are_not_safe_are_refused(uri: str, kind: Kind) -> None:
    """Nothing is requested."""
    with FaultServer(Scenario()) as server:
        with pytest.raises(UnreadableError):
            download(kind, server, uri)
        assert server.requests == []


def test_an_id_is_no_address(kind: Kind) -> None:
    """Nothing is requested, which would be refused for want of a key; the error says how a file is got by its id."""
    with FaultServer(Scenario()) as server:
        with pytest.raises(ConfigurationError, match=r"no address of a file, .*; client\.files\.get\(id\)"):
            download(kind, server, "3n6c2kq0v")
        assert server.requests == []


def test_data_uris_are_files_too(kind: Kind, tmp_path: Path) -> None:
    """Nothing is requested for them."""
    with FaultServer(Scenario()) as server:
        assert download(kind, server, "data:text/plain,Hello") == b"Hello"
        assert download(kind, server, "data:;base64,SGk=", tmp_path / "f").read_bytes() == b"Hi"
        assert server.requests == []


def test_a_name_of_the_server_stays_in_the_directory(kind: Kind, tmp_path: Path) -> None:
    """Whatever the server calls the file."""
    inside = tmp_path / "inside"
    inside.mkdir()
    names = ["../up.txt", "/etc/passwd", "..\\up.txt", "..", "", "a\0b"]
    with FaultServer(Scenario(answers={FILE: [sized(b"x")]})) as server:
        paths = [download(kind, server, FileRef(uri="/content/f1", filename=name), inside) for name in names]
    assert {path.parent for path in paths} == {inside}
    assert [path.name for path in paths] == ["up.txt", "passwd", "up.txt", "f1", "f1", "ab"]
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]


@pytest.mark.parametrize(
    ("name", "length"),
    [("文" * 80, 240), ("文" * 100, 198), ("é" * 200, 200), ("a\ud800b", 2)],
    ids=["of the caller", "within a character", "between characters", "half a pair"],
)
def test_a_long_name_of_the_server_is_cut_in_bytes(name: str, length: int, kind: Kind, tmp_path: Path) -> None:
    """As file systems count them, and they take no half of a surrogate pair."""
    with FaultServer(Scenario(answers={FILE: [sized(b"x")]})) as server:
        into = tmp_path / name if length == 240 else tmp_path
        path = download(kind, server, FileRef(uri="/content/f1", filename=name), into)
    assert len(path.name.encode()) == length
    assert path.read_bytes() == b"x"


def test_what_a_callback_raises_ends_the_download(kind: Kind, tmp_path: Path) -> None:
    """It reaches the caller, and nothing is left."""

    def on_progress(received: int, total: int | None) -> None:
        if received:
            raise ZeroDivisionError(total)

    with FaultServer(Scenario(answers={FILE: [sized(CONTENT)]})) as server, pytest.raises(ZeroDivisionError):
        download(kind, server, to=tmp_path / "f", on_progress=on_progress)
    assert list(tmp_path.iterdir()) == []


def test_a_cancelled_download_leaves_nothing(tmp_path: Path) -> None:
    """Its connection is closed, and its part of the file deleted."""
    half: Script = (*sized(CONTENT[:300_000], len(CONTENT)), STALL)

    def listed() -> list[Path]:
        return list(tmp_path.iterdir())

    with FaultServer(Scenario(answers={FILE: [half]})) as server:

        async def main() -> None:
            received = asyncio.Event()

            async def on_progress(sent: int, _: int | None) -> None:
                if sent:
                    received.set()

            async with AsyncInference(**client_options(server)) as client:
                task = asyncio.create_task(
                    client.files.download("/content/f1", tmp_path / "f", on_progress=on_progress)
                )
                await received.wait()
                assert len(listed()) == 1
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert listed() == []

        asyncio.run(main(), debug=True)
        server.wait_until_no_connections()
