"""Files that are not there, cannot be read or change, and things that are no files: nothing is sent."""

from __future__ import annotations

import copy
import errno
import io
import os
import pickle
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from inferencesh import ConfigurationError, FileError, FileRef, Inference, InferenceError
from tests.faults.script import Scenario
from tests.faults.server import FaultServer
from tests.faults.turns import POST, call, meanwhile
from tests.support import Gate, Kind

from .storage import Storage, Way, service

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

FILES = "POST /files"


def refused(kind: Kind, use: Callable[[Any], Any], error: type[Exception], match: str) -> Any:
    """The error of a use that sends nothing."""
    caught: list[Any] = []
    with FaultServer(Scenario()) as server:

        def run(client: Any) -> Generator[Any, Any, None]:
            with pytest.raises(error, match=match) as raised:
                yield use(client)
            caught.append(raised.value)

        call(kind, server, run)
        assert server.requests == []
    return caught[0]


# -- files that cannot be read -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["upload", "upload_file", "send_message", "stream", "submit_tool_result"])
def test_a_missing_file_is_an_error_before_anything_is_sent(kind: Kind, tmp_path: Path, way: str) -> None:
    """Both of ours and of the system's kind, which says what and which."""
    path = tmp_path / "missing.png"

    def use(client: Any) -> Any:
        agent = client.agent("a/b", chat_id="chat1")
        if way == "upload":
            return client.files.upload(path)
        if way == "upload_file":
            return agent.upload_file(path)
        if way == "submit_tool_result":
            return agent.submit_tool_result("call1", "7", files=[b"abc", path])
        if way == "send_message":
            return agent.send_message("?", files=[b"abc", path])
        return agent.send_message("?", files=[b"abc", path], stream=True).get_final_message()

    error = refused(kind, use, FileError, "No such file or directory")
    assert isinstance(error, OSError)
    assert isinstance(error, InferenceError)
    assert (error.errno, error.filename, error.strerror) == (errno.ENOENT, str(path), "No such file or directory")
    assert isinstance(error.__cause__, FileNotFoundError)


def test_a_directory_is_no_file(kind: Kind, tmp_path: Path) -> None:
    """Nor is something below a file."""
    assert refused(kind, lambda c: c.files.upload(tmp_path), FileError, "directory").errno == errno.EISDIR
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "below"
    assert refused(kind, lambda c: c.files.upload(below), FileError, "Not a directory").errno == errno.ENOTDIR


def test_a_pipe_on_disk_is_not_opened(kind: Kind, tmp_path: Path) -> None:
    """It would block for ever; the error says what to do."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    refused(kind, lambda client: client.files.upload(path), FileError, "open it yourself and pass the file object")


def test_a_file_object_that_cannot_be_read(kind: Kind, tmp_path: Path) -> None:
    """One that is closed, and one that was opened for writing."""
    closed = io.BytesIO(b"abc")
    closed.close()
    error = refused(kind, lambda client: client.files.upload(closed), FileError, "the file object cannot be uploaded")
    assert error.filename is None
    with (tmp_path / "out").open("wb") as writable:
        refused(kind, lambda client: client.files.upload(writable), FileError, "cannot be read")


def test_a_file_object_that_fails(kind: Kind) -> None:
    """What the system says reaches the caller."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as file:
        ours.settimeout(0.05)
        refused(kind, lambda client: client.files.upload(cast("Any", file)), FileError, "timed out")


@pytest.mark.parametrize("size", [10, 400_000], ids=["shrunk", "grown"])
def test_a_file_that_changes_after_it_was_announced_is_not_sent(kind: Kind, tmp_path: Path, size: int) -> None:
    """Its size was told to the service, and is a different one now."""
    path = tmp_path / "log.txt"
    path.write_bytes(bytes(300_000))

    async def change(_exchange: Any) -> None:
        path.write_bytes(bytes(size))

    with Storage() as storage:
        plan = Scenario(answers={FILES: [(change, *service(storage.url).answers[FILES][0])]})
        with FaultServer(plan) as server:

            def send(client: Any) -> Generator[Any, Any, None]:
                with pytest.raises(FileError, match=f"changed from 300000 to {size} bytes"):
                    yield client.agent("a/b").send_message("?", files=[path])

            call(kind, server, send)
    assert (storage.puts, server.seen(POST)) == ([], [])


@pytest.mark.parametrize("size", [10, 40_000_000], ids=["shrunk", "grown"])
def test_a_file_that_changes_while_it_is_sent_does_not_arrive(kind: Kind, tmp_path: Path, size: int) -> None:
    """The attempt is cut off, and is the last."""
    path = tmp_path / "log.txt"
    path.write_bytes(bytes(32_000_000))
    gate = Gate()
    with Storage(Way(reads=1, then="leaving", gate=gate)) as storage, FaultServer(service(storage.url)) as server:

        def on_progress(sent: int, _total: int) -> None:
            if sent == 262144:
                os.truncate(path, size)
                gate.open()

        def upload(client: Any) -> Generator[Any, Any, None]:
            with pytest.raises(FileError, match=f"changed from 32000000 to {size} bytes") as caught:
                yield client.files.upload(path, on_progress=on_progress)
            assert caught.value.filename == str(path)
            yield meanwhile(kind, storage.wait_until_left)

        call(kind, server, upload)
    assert [put.size < 32_000_000 for put in storage.puts] == [True]


def test_a_file_error_survives_copying_and_pickling() -> None:
    """With the system's number, words and name."""
    for error in (FileError(errno.ENOENT, "No such file", "a.png"), FileError(errno.EIO, "broken")):
        error.chat_id = "c1"
        for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 (of our own making)
            assert type(twin) is FileError
            assert str(twin) == str(error)
            assert (twin.errno, twin.strerror, twin.filename) == (error.errno, error.strerror, error.filename)
            assert twin.chat_id == "c1"


# -- what is no file ---------------------------------------------------------------------------------------------------


class Reader:
    """Something with a read method that gives no bytes."""

    def read(self, _count: int = -1) -> str:
        return "text"


class Awaited:
    """An async file object."""

    async def read(self, _count: int = -1) -> bytes:
        return b"bytes"


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("picture.png", r"pass pathlib\.Path"),
        ("/etc/passwd", r"pass pathlib\.Path"),
        ("https://example.com/a.png", "a web address .* pass its bytes"),
        ("aGVsbG8gd29ybGQhISEhISE=", r"pass pathlib\.Path"),
        ("", r"pass pathlib\.Path"),
        (io.StringIO("text"), "binary mode"),
        (Reader(), "binary mode"),
        (Awaited(), "async file objects"),
        (None, "not NoneType"),
        (5, "not int"),
        ([b"abc"], "not list"),
        (Path, "not the class Path"),
        (io.BytesIO, "not the class BytesIO"),
    ],
    ids=lambda value: repr(value) if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_file_is_refused(kind: Kind, source: Any, match: str) -> None:
    """With a TypeError that says what one is, from an upload and from a message."""
    refused(kind, lambda client: client.files.upload(source), TypeError, match)
    refused(kind, lambda client: client.agent("a/b").send_message("?", files=[b"abc", source]), TypeError, match)
    refused(kind, lambda c: c.agent("a/b").submit_tool_result("call1", "7", files=[source]), TypeError, match)


def test_a_text_file_is_refused(kind: Kind, tmp_path: Path) -> None:
    """However it was wrapped; the error names the mode that is needed."""
    with (tmp_path / "a.txt").open("w+") as file, tempfile.NamedTemporaryFile("w+") as wrapped:
        refused(kind, lambda client: client.files.upload(cast("Any", file)), TypeError, "binary mode")
        refused(kind, lambda client: client.files.upload(cast("Any", wrapped)), TypeError, "binary mode")


async def test_an_async_file_of_anyio_is_refused(tmp_path: Path) -> None:
    """Its reads would never be awaited."""
    path = anyio.Path(tmp_path / "a.txt")
    await path.write_bytes(b"abc")
    async with await path.open("rb") as file:
        with Inference("k") as client, pytest.raises(TypeError, match="async file objects"):
            client.agent("a/b").send_message("?", files=[cast("Any", file)])


@pytest.mark.parametrize(
    "files",
    ["a.png", "data:,a", b"abc", bytearray(b"abc"), Path("a.png"), FileRef(uri="inf://f"), io.BytesIO(b"abc")],
    ids=lambda files: type(files).__name__,
)
def test_a_single_file_where_a_list_is_meant(kind: Kind, files: Any) -> None:
    """Some of these could be taken for a list of strange things; the error says to make it a list."""
    match = r"files=\[\.\.\.\]"
    refused(kind, lambda client: client.agent("a/b").send_message("?", files=files), TypeError, match)
    refused(kind, lambda client: client.agent("a/b").submit_tool_result("c", "7", files=files), TypeError, match)


@pytest.mark.parametrize("files", [None, 5])
def test_what_is_no_list_of_files(kind: Kind, files: Any) -> None:
    """Says what it is instead."""
    match = f"not {type(files).__name__}"
    refused(kind, lambda client: client.agent("a/b").send_message("?", files=files), TypeError, match)


def test_wrong_files_are_refused_when_they_are_given() -> None:
    """Where the mistake is, not when the stream is read."""
    with Inference("k") as client, pytest.raises(TypeError, match="pathlib"):
        client.agent("a/b").send_message("?", files=["a.png"], stream=True)


@pytest.mark.parametrize("uri", ["data:no comma", "data:image/png;base64,a", "data:image/png;base64,?", "data:png,a"])
def test_a_bad_data_uri_is_refused(kind: Kind, uri: str) -> None:
    """It is a mistake of the program; what stands in it is not quoted."""
    error = refused(kind, lambda c: c.agent("a/b").send_message("?", files=[uri]), ConfigurationError, "data:|type")
    assert "?" not in str(error)


@pytest.mark.parametrize("content_type", ["", "png", "image/png\r\nX-Evil: 1", "image/p ng", "text/plain; a=\xfc"])
def test_a_content_type_that_is_none_is_refused(kind: Kind, content_type: str) -> None:
    """It would become a header."""
    use = lambda client: client.files.upload(b"abc", content_type=content_type)  # noqa: E731
    refused(kind, use, ConfigurationError, "is no content type")


def test_names_and_types_are_texts(kind: Kind) -> None:
    """Anything else is refused."""
    refused(kind, lambda client: client.files.upload(b"abc", filename=Path("a")), TypeError, "filename must be a str")
    refused(kind, lambda client: client.files.upload(b"abc", content_type=5), TypeError, "content_type must be a str")


def test_a_reference_to_nothing_is_refused(kind: Kind) -> None:
    """A FileRef that was made by hand and has neither uri nor id."""
    refused(kind, lambda client: client.files.upload(FileRef(filename="a")), ConfigurationError, "no uploaded file")
    use = lambda client: client.agent("a/b").send_message("?", files=[FileRef()])  # noqa: E731
    refused(kind, use, ConfigurationError, "no uploaded file")


def test_at_most_twenty_files_go_with_a_result(kind: Kind) -> None:
    """The service takes no more."""
    files = [FileRef(uri=f"inf://{number}") for number in range(21)]
    use = lambda client: client.agent("a/b").submit_tool_result("call1", "7", files=files)  # noqa: E731
    refused(kind, use, ConfigurationError, "at most 20 files")


def test_a_result_without_a_form_is_refused_before_its_files_are_sent(kind: Kind) -> None:
    """Both are checked first."""
    use = lambda client: client.agent("a/b").submit_tool_result("call1", object(), files=[b"abc"])  # noqa: E731
    refused(kind, use, TypeError, "object")
