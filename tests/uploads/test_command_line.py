"""``inferencesh chat --file``: uploads with a bar, then streams the answer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.command_line import COMMAND, Terminal, address, run
from tests.faults.forms import KEY, chat, message
from tests.faults.script import Scenario, refuse
from tests.faults.server import FaultServer
from tests.faults.turns import POST
from tests.support import Gate

from .storage import Storage, Way, service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.script import Script

REPLY: Script = (chat("working"), message("A cat", "ready"), chat("completed"))
FILES = "POST /files"


@pytest.fixture
def storage() -> Iterator[Storage]:
    """Where the files go."""
    with Storage() as running:
        yield running


@pytest.fixture
def server(storage: Storage) -> Iterator[FaultServer]:
    """A service that has files sent there."""
    with FaultServer(service(storage.url, [REPLY])) as running:
        yield running


@pytest.fixture
def picture(tmp_path: Path) -> str:
    """A file on disk."""
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1_200_000))
    return str(path)


def chat_with(server: FaultServer, *arguments: str, stdin: str = "") -> Any:
    """Run ``inferencesh chat`` against the service."""
    return run("chat", "--agent", "a/b", *arguments, stdin=stdin, **address(server.url, KEY))


def attached(server: FaultServer, count: int = 0) -> list[str]:
    """The names of the files in a message."""
    sent = cast("dict[str, Any]", server.seen(POST)[count].json["input"])
    return [file["filename"] for file in sent.get("attachments", [])]


def test_files_go_with_the_message(server: FaultServer, picture: str, tmp_path: Path) -> None:
    """In their order; without a terminal each is one line on stderr, and stdout has the reply alone."""
    notes = tmp_path / "notes.txt"
    notes.write_text("hello", encoding="utf-8")
    done = chat_with(server, "--file", picture, "--file", str(notes), "What is this?")
    assert (done.returncode, done.stdout) == (0, "A cat\n")
    assert done.stderr.splitlines()[1:3] == [
        "inferencesh: uploaded picture.png (1.2 MB)",
        "inferencesh: uploaded notes.txt (5 bytes)",
    ]
    assert attached(server) == ["picture.png", "notes.txt"]


def test_files_go_with_the_first_message_of_a_conversation(server: FaultServer, picture: str) -> None:
    """And not with the next one."""
    done = chat_with(server, "--file", picture, stdin="What is this?\nAnd now?\n")
    assert done.returncode == 0
    assert (attached(server, 0), attached(server, 1)) == (["picture.png"], [])


def test_a_pipe_is_uploaded(server: FaultServer, storage: Storage) -> None:
    """As in ``--file /dev/stdin``, or with a process substitution of the shell."""
    done = chat_with(server, "--file", "/dev/stdin", "What is this?", stdin="piped")
    assert (done.returncode, done.stdout) == (0, "A cat\n")
    assert storage.puts[0].size == 5


def test_a_bar_in_a_terminal(picture: str) -> None:
    """It grows in its line, and the reply begins below it."""
    gate = Gate()
    with Storage(Way(reads=600_000, gate=gate), Way()) as storage, FaultServer(service(storage.url, [REPLY])) as server:
        command = [*COMMAND, "chat", "--agent", "a/b", "--file", picture, "What is this?"]
        with Terminal(command, **address(server.url, KEY)) as terminal:
            terminal.expect(r"picture\.png \[-{40}\]   0% of 1\.2 MB")
            terminal.expect(r"\rpicture\.png \[#+-+\]  \d\d% of 1\.2 MB")
            gate.open()
            terminal.expect(r"\rpicture\.png \[#{40}\] 100% of 1\.2 MB *\r\n")
            terminal.expect("A cat")
            status, rest = terminal.end()
    assert status == 0
    assert "uploaded" not in rest


def test_an_error_is_below_the_bar(picture: str) -> None:
    """Not in its line."""
    with Storage(Way(status=403)) as storage, FaultServer(service(storage.url, [REPLY])) as server:
        command = [*COMMAND, "chat", "--agent", "a/b", "--file", picture, "What is this?"]
        with Terminal(command, **address(server.url, KEY)) as terminal:
            terminal.expect(r"\d+% of 1\.2 MB *\r\ninferencesh: error: 127\.0\.0\.1 did not take the file")
            assert terminal.end()[0] == 1


@pytest.mark.parametrize("narrow", ["12", "30"])
def test_a_bar_fits_into_its_terminal(server: FaultServer, picture: str, narrow: str) -> None:
    """A line that wraps around would be drawn again and again."""
    command = ["/usr/bin/env", f"COLUMNS={narrow}", *COMMAND, "chat", "--agent", "a/b", "--file", picture, "What?"]
    with Terminal(command, **address(server.url, KEY)) as terminal:
        shown = terminal.expect("A cat")
    drawn = [line for line in shown.replace("\r\n", "\r").split("\r") if "%" in line or "picture" in line]
    assert drawn
    assert max(map(len, drawn)) < int(narrow)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("missing.png", "the file 'missing.png' cannot be uploaded: No such file or directory"),
        (os.curdir, "Is a directory"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(server: FaultServer, picture: str, path: str, says: str) -> None:
    """Said before anything is sent, the file that could be read included."""
    done = chat_with(server, "--file", picture, "--file", path, "What is this?")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("inferencesh: error: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert server.requests == []


def test_a_file_that_is_refused_is_one_line(picture: str) -> None:
    """And the message is not sent."""
    answers: dict[str, Any] = {FILES: [refuse(413, "invalid_request", "files may have 1 MB")]}
    with FaultServer(Scenario(answers=answers)) as server:
        done = chat_with(server, "--file", picture, "What is this?")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[1] == "inferencesh: error: files may have 1 MB (HTTP 413, invalid_request)"
    assert done.stderr.count("\n") == 2
    assert server.seen(POST) == []


def test_a_name_cannot_control_the_terminal(server: FaultServer, tmp_path: Path) -> None:
    """Files are named by anybody."""
    path = tmp_path / "a\x1b[2Jb\nc.txt"
    path.write_bytes(b"abc")
    done = chat_with(server, "--file", str(path), "What is this?")
    assert "inferencesh: uploaded a[2Jb c.txt (3 bytes)" in done.stderr.splitlines()
    assert "\x1b" not in done.stderr
