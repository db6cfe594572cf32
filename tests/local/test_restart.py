"""Restarts after the process was killed: everything that was sent to a client is still there."""

from __future__ import annotations

import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import httpx
import pytest

from tests.command_line import LIMIT, ROOT, piped, run
from tests.test_cli import hear_address

from .caller import AGENT, NDJSON, Json, invocations, text_of
from .test_files import PICTURE, PNG

LOST = "The runtime ended while this run was under way"


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Where a database may be made."""
    return tmp_path / "chats.db"


@attrs.frozen
class Server:
    """A runtime in a process of its own."""

    process: subprocess.Popen[str]
    http: httpx.Client

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """The data of an answer."""
        response = self.http.request(method, path, json=body)
        assert response.is_success, response.text
        return response.json()["data"]

    def send(self, text: str, **body: object) -> Json:
        """Run the agent on a message; returns the reply's placeholder, or the queued message."""
        agent = {} if "chat_id" in body else {"agent_config": AGENT}
        data = self.ask("POST", "/agents/run", {"input": {"text": text}, **agent, **body})
        reply: Json = data["assistant_message"] or data["user_message"]
        return reply

    def messages(self, chat_id: str) -> list[Json]:
        """The messages of a chat."""
        items: list[Json] = self.ask("GET", f"/chats/{chat_id}/messages")["items"]
        return items

    def follow(self, chat_id: str, until: Callable[[str], bool]) -> None:
        """Read a chat's stream up to a line."""
        with self.http.stream("GET", f"/chats/{chat_id}/stream", headers={"Accept": NDJSON}) as response:
            assert any(until(line) for line in response.iter_lines())

    def kill(self) -> None:
        """End it as a crash or the lack of memory would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(LIMIT)


def idle(line: str) -> bool:
    """Whether a line says that the run is over."""
    return '"status":"idle"' in line and '"active_run":{' in line


@contextmanager
def serving(db: Path, *options: str) -> Iterator[Server]:
    """``inferencesh serve --db``, with a client that has its key."""
    with piped("serve", "--port", "0", "--db", str(db), *options) as process:
        where = hear_address(process)
        headers = {"Authorization": f"Bearer {where['INFERENCE_API_KEY']}"}
        with httpx.Client(base_url=where["INFERENCE_BASE_URL"], headers=headers, timeout=LIMIT) as http:
            yield Server(process, http)


def test_what_a_client_was_told_survives(db: Path) -> None:
    """The answer that it has just read, a file that it has just uploaded, a chat that it has just deleted."""
    with serving(db, "--pace", "0") as server:
        gone = server.ask("POST", "/chats", {"agent": "a/b"})["id"]
        server.http.delete(f"/chats/{gone}").raise_for_status()
        (file,) = server.ask("POST", "/files", {"files": [PICTURE]})
        httpx.put(file["upload_url"], content=PNG, headers={"Content-Type": "image/png"}).raise_for_status()
        chat_id = server.send("Tell me a story")["chat_id"]
        server.follow(chat_id, idle)
        server.kill()
    with serving(db, "--pace", "0") as server:
        assert [each["id"] for each in server.ask("POST", "/chats/list")["items"]] == [chat_id]
        assert httpx.get(server.ask("GET", f"/files/{file['id']}")["uri"]).content == PNG
        question, answer = server.messages(chat_id)
        assert (question["status"], answer["status"]) == ("ready", "ready")
        assert len(text_of(answer)) > 500
        assert server.ask("GET", f"/chats/{chat_id}")["active_run"]["state"] == "completed"


def test_a_run_that_was_under_way_has_failed_and_what_queued_has_its_turn(db: Path) -> None:
    """The error says what happened and what to do."""
    with serving(db, "--pace", "60") as server:
        reply = server.send("Hello")
        chat_id = reply["chat_id"]
        assert server.send("Second", chat_id=chat_id)["status"] == "queued"
        assert server.send("Third", chat_id=chat_id)["status"] == "queued"
        server.kill()
    with serving(db, "--pace", "0.001") as server:
        server.follow(chat_id, idle)
        messages = server.messages(chat_id)
        assert [(each["role"], each["status"]) for each in messages] == [
            ("user", "ready"),
            ("assistant", "failed"),
            ("user", "ready"),
            ("assistant", "ready"),
            ("user", "ready"),
            ("assistant", "ready"),
        ]
        assert messages[1]["id"] == reply["id"]
        assert messages[1]["content"][-1]["error"].startswith(LOST)
        assert [text_of(each) for each in messages[::2]] == ["Hello", "Second", "Third"]


def test_a_run_that_waits_for_a_result_goes_on_with_it(db: Path) -> None:
    """Even when the runtime was killed twice while it waited."""
    with serving(db, "--pace", "0") as server:
        chat_id = server.send("What's 42 * 17?")["chat_id"]
        server.follow(chat_id, lambda line: '"status":"awaiting_input"' in line and '"active_run":{' in line)
        server.kill()
    with serving(db, "--pace", "0") as server:
        assert server.ask("GET", f"/chats/{chat_id}")["status"] == "awaiting_input"
        server.kill()
    with serving(db, "--pace", "0") as server:
        (call,) = invocations(server.messages(chat_id)[-1])
        server.ask("POST", f"/tools/{call['id']}", {"result": "714"})
        server.follow(chat_id, idle)
        assert text_of(server.messages(chat_id)[-1]) == "42 * 17 is 714."


def test_an_upload_that_was_under_way_leaves_nothing(db: Path) -> None:
    """The file is still to be uploaded, and its first bytes are cleared away."""
    size = 4 * 1024 * 1024
    with serving(db) as server:
        (file,) = server.ask("POST", "/files", {"files": [{**PICTURE, "size": size}]})
        where = urlsplit(file["upload_url"])
        assert where.hostname is not None
        with socket.create_connection((where.hostname, where.port or 0)) as connection:
            head = [f"PUT {where.path} HTTP/1.1", f"Host: {where.netloc}", "Content-Type: image/png"]
            connection.sendall("\r\n".join([*head, f"Content-Length: {size}", "", ""]).encode())
            connection.sendall(b"x" * (size // 2))
            # A request on a second connection is answered in between: what came so far has been taken in.
            server.ask("GET", f"/files/{file['id']}")
            server.kill()
    with serving(db) as server:
        record = server.ask("GET", f"/files/{file['id']}")
        assert record["upload_url"]
        assert httpx.get(record["uri"]).status_code == 404
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(LIMIT)
    with closing(sqlite3.connect(db)) as connection:
        assert connection.execute("SELECT count(*) FROM parts").fetchone() == (0,)


def test_a_file_that_another_process_uses_is_refused_in_one_line(db: Path) -> None:
    """And the other process goes on."""
    with serving(db, "--pace", "0") as server:
        second = run("serve", "--port", "0", "--db", str(db))
        assert (second.returncode, second.stdout) == (1, "")
        assert second.stderr == (
            f"inferencesh: error: {db} is in use by another runtime; stop that one, or name another file.\n"
        )
        assert server.send("Hello")["status"] == "pending"


@pytest.mark.parametrize("name", ["", ":memory:"])
def test_what_is_no_name_of_a_file_is_a_wrong_argument(name: str) -> None:
    """With the usage, as other wrong arguments."""
    done = run("serve", "--port", "0", "--db", name)
    assert done.returncode == 2
    assert "is not the name of a file" in done.stderr


# A child that ends in the ordinary way, and drops what it has, while its parent goes on.
_FORK = """
import asyncio, gc, os, sys, urllib.request, warnings
from inferencesh.local import LocalRuntime

def post(where):
    headers = {"Authorization": "Bearer inf_local"}
    with urllib.request.urlopen(urllib.request.Request(where + "/chats", b'{"agent": "a/b"}', headers)) as answer:
        answer.read()

loop = asyncio.new_event_loop()
runtime = LocalRuntime(db=sys.argv[1])
loop.run_until_complete(runtime.start())
loop.run_until_complete(asyncio.wait_for(asyncio.to_thread(post, runtime.base_url), 10))
if not (child := os.fork()):
    warnings.simplefilter("ignore")  # about the loop and the sockets that it did not close
    del runtime, loop
    gc.collect()
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
loop.run_until_complete(asyncio.wait_for(asyncio.to_thread(post, runtime.base_url), 10))
os.kill(os.getpid(), 9)
"""


def test_a_forked_child_does_not_touch_the_file(db: Path) -> None:
    """What the parent stores after the child's end is there, though the parent is killed then."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", _FORK, db], check=False, cwd=ROOT, timeout=LIMIT)
    assert done.returncode == -signal.SIGKILL
    with closing(sqlite3.connect(db)) as connection:
        assert connection.execute("SELECT count(*) FROM records").fetchone() == (2,)


def test_the_help_says_where_chats_live() -> None:
    """In memory, or in a file."""
    words = " ".join(run("serve", "--help").stdout.split())
    assert "in memory, until the runtime stops" in words
    assert "--db FILE" in words
