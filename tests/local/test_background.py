"""BackgroundRuntime, in this process and in other processes."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from inferencesh import AsyncInference, Inference
from inferencesh.local import BackgroundRuntime, Conversation, LocalAddress, Piece, Text


def call(address: LocalAddress, method: str, path: str, body: object = None) -> tuple[int, dict[str, object]]:
    """Make one request without any event loop."""
    connection = http.client.HTTPConnection(address.base_url.removeprefix("http://"), timeout=5)
    try:
        connection.request(method, path, json.dumps(body), {"Authorization": f"Bearer {address.api_key}"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def threads() -> set[str]:
    """The names of the threads that run."""
    return {thread.name for thread in threading.enumerate()}


def test_it_answers_until_it_is_stopped() -> None:
    """No thread is left, nothing listens any more, and stopping again does nothing."""
    before = threads()
    runtime = BackgroundRuntime(pace=0, api_keys=["inf_mine"])
    address = runtime.start()
    assert address.api_key == "inf_mine"
    assert runtime.start() == address
    status, answer = call(address, "POST", "/agents/run", {"agent": "acme/helper", "input": {"text": "Hello"}})
    assert (status, set(answer)) == (200, {"success", "data", "messages"})
    runtime.stop()
    assert threads() == before
    with pytest.raises(ConnectionRefusedError):
        call(address, "POST", "/chats/list")
    runtime.stop()
    with pytest.raises(RuntimeError, match="stopped"):
        runtime.start()


def test_a_with_statement_starts_and_stops_it() -> None:
    """The block is given the address; nothing is left when it ends."""
    before = threads()
    with BackgroundRuntime(pace=0) as address:
        assert call(address, "POST", "/chats/list", {})[0] == 200
    assert threads() == before
    with pytest.raises(ConnectionRefusedError):
        call(address, "POST", "/chats/list")


def test_many_threads_may_start_and_stop_it() -> None:
    """All get the same address, and the last one to stop finds it stopped."""
    before = threads()
    runtime = BackgroundRuntime(pace=0)
    with ThreadPoolExecutor(8) as pool:
        addresses = set(pool.map(lambda _: runtime.start(), range(16)))
        assert len(addresses) == 1
        list(pool.map(lambda _: runtime.stop(), range(16)))
    assert threads() == before


def test_one_that_never_started_can_be_stopped() -> None:
    """It cannot be started afterwards."""
    runtime = BackgroundRuntime()
    runtime.stop()
    with pytest.raises(RuntimeError, match="stopped"):
        runtime.start()


def test_what_keeps_it_from_starting_reaches_the_caller() -> None:
    """And leaves no thread behind."""
    before = threads()
    first = BackgroundRuntime()
    second = BackgroundRuntime(port=int(first.start().base_url.rpartition(":")[2]))
    with pytest.raises(OSError, match="address already in use"):
        second.start()
    first.stop()
    assert threads() == before
    with pytest.raises(ValueError, match="updates"):
        BackgroundRuntime(updates="all")  # type: ignore[arg-type]  # the mistake this is about


@pytest.mark.parametrize("make", [BackgroundRuntime, Inference.local, AsyncInference.local])
def test_an_option_that_it_does_not_have_is_refused_with_those_that_it_has(make: Any) -> None:
    """And with where options of clients go, which many try there first."""
    with pytest.raises(TypeError, match=r"no option 'tool_timeout'; it has .*model, .*pace") as refused:
        make(tool_timeout=20)
    assert "Inference(base_url=BackgroundRuntime(...), tool_timeout=...)" in str(refused.value)


class Quitter:
    """A model that stops the runtime it answers for."""

    def __init__(self) -> None:
        self.runtime: BackgroundRuntime | None = None
        self.stopped = False

    async def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        assert self.runtime is not None
        self.runtime.stop()
        self.stopped = True
        yield Text("I am off.")


def test_it_can_be_stopped_from_its_own_thread() -> None:
    """The call does not wait for its own thread."""
    before = threads()
    model = Quitter()
    runtime = model.runtime = BackgroundRuntime(model=model, pace=0)
    call(runtime.start(), "POST", "/agents/run", {"agent": "acme/helper", "input": {"text": "Hello"}})
    runtime.stop()
    assert model.stopped
    assert threads() == before


def run(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program with every warning an error; it has to end by itself."""
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_one_that_is_never_stopped_ends_with_the_program_and_says_nothing(host: str) -> None:
    """Although a run is under way and a stream is open; the run gets to clean up."""
    ended = run(f"""
        import asyncio, http.client, json
        from inferencesh.local import BackgroundRuntime, Text

        class Model:
            async def respond(self, conversation):
                try:
                    yield Text("So far")
                    await asyncio.Event().wait()
                finally:
                    print("cleaned up")

        address = BackgroundRuntime(model=Model(), pace=0, host={host!r}).start()
        headers = {{"Authorization": "Bearer " + address.api_key, "Accept": "application/x-ndjson"}}
        connection = http.client.HTTPConnection(address.base_url.removeprefix("http://"))
        body = {{"agent": "acme/helper", "input": {{"text": "Hello"}}, "stream": True}}
        connection.request("POST", "/agents/run", json.dumps(body), headers)
        response = connection.getresponse()
        print(response.status, response.readline()[:9])
        response.close()
        connection.close()
        """)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "200 b'{\"event\":'\ncleaned up\n", "")


def test_an_error_that_ends_the_program_is_the_only_thing_to_be_seen() -> None:
    """The runtime adds nothing to it."""
    ended = run("""
        from inferencesh.local import BackgroundRuntime

        BackgroundRuntime().start()
        raise SystemExit("that is all")
        """)
    assert (ended.returncode, ended.stderr) == (1, "that is all\n")


def test_a_forked_child_uses_its_parents_runtime_and_does_not_stop_it() -> None:
    """The child ends without waiting for a thread it does not have; one not started before the fork is its own."""
    ended = run("""
        import os, sys, urllib.request
        from inferencesh.local import BackgroundRuntime

        def status(address):
            headers = {"Authorization": "Bearer " + address.api_key}
            request = urllib.request.Request(address.base_url + "/chats/list", b"", headers)
            with urllib.request.urlopen(request, timeout=5) as response:
                return response.status

        runtime, fresh = BackgroundRuntime(), BackgroundRuntime()
        address = runtime.start()
        child = os.fork()
        if child == 0:
            assert runtime.start() == address
            runtime.stop()
            assert status(fresh.start()) == 200
            fresh.stop()
            sys.exit(7)
        _, result = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(result), status(address))
        """)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "7 200\n", "")


@pytest.mark.parametrize("slow", ["LocalRuntime", "TCPSite"], ids=["before it starts", "while it starts"])
def test_a_child_forked_while_another_thread_starts_it_is_not_held_up(slow: str) -> None:
    """The locks that thread holds are held for ever in the child; there the runtime is the child's own."""
    program = """
        import asyncio, os, threading
        from aiohttp.web import TCPSite
        from inferencesh.local import BackgroundRuntime, LocalRuntime

        start, entered, go_on = LocalRuntime.start, threading.Event(), threading.Event()

        async def slow(self):
            entered.set()
            while not go_on.is_set():
                await asyncio.sleep(0.01)
            await start(self)

        LocalRuntime.start = slow
        runtime = BackgroundRuntime()
        thread = threading.Thread(target=runtime.start)
        thread.start()
        entered.wait()
        child = os.fork()
        if child == 0:
            runtime.stop()
            go_on.set()
            address = runtime.start()
            runtime.stop()
            os._exit(7)
        _, result = os.waitpid(child, 0)
        go_on.set()
        thread.join()
        runtime.stop()
        print(os.waitstatus_to_exitcode(result))
        """
    ended = run(program.replace("LocalRuntime.start", f"{slow}.start"))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "7\n", "")
