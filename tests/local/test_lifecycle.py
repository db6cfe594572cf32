"""Starting and closing a runtime on an event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from inferencesh.local import Conversation, LocalRuntime, Piece, Text
from inferencesh.local import engine as engine_module

from .caller import NDJSON, Scripted, calling, text_of


async def refused(base_url: str) -> bool:
    """Whether nothing listens there."""
    host, port = base_url.removeprefix("http://").split(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except ConnectionRefusedError:
        return True
    writer.close()
    await writer.wait_closed()
    return False


async def test_closing_ends_runs_and_streams_and_leaves_nothing_behind() -> None:
    """Streams end as if their chat had; no task and no socket is left when ``aclose`` returns."""
    before = asyncio.all_tasks()
    model = Scripted([asyncio.Event()], [Text("Never.")])
    async with calling(model=model, heartbeat=60) as caller:
        _, reply = await caller.send("Hello")
        await caller.send("And then", chat_id=reply["chat_id"])
        async with caller.follow(reply["chat_id"]) as first, caller.follow(reply["chat_id"]) as second:
            await first.until("chats")
            started = asyncio.get_running_loop().time()
            await caller.runtime.aclose()
            assert asyncio.get_running_loop().time() - started < 0.5
            assert asyncio.all_tasks() == before
            assert caller.runtime.open_streams == 0
            await first.rest()
            await second.rest()
        assert model.closed == 1


class Slow:
    """A model that takes a while to stop."""

    def __init__(self) -> None:
        self.began, self.stopping, self.may_stop = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.under_way = 0

    async def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        self.under_way += 1
        self.began.set()
        try:
            yield Text("Hm.")
            await asyncio.Event().wait()
        finally:
            self.stopping.set()
            await self.may_stop.wait()
            self.under_way -= 1


async def test_closing_ends_a_run_that_begins_meanwhile() -> None:
    """A message that comes while the runs are being stopped leaves no run behind, on a loop that is about to close."""
    model = Slow()
    async with calling(model=model) as caller:
        await caller.send("Hello")
        await model.began.wait()
        closing = asyncio.create_task(caller.runtime.aclose())
        await model.stopping.wait()
        model.began.clear()
        await caller.send("Too late")
        await model.began.wait()
        model.may_stop.set()
        await closing
        assert model.under_way == 0
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("inferencesh.local run")]


async def test_it_stops_listening_and_stays_closed() -> None:
    """Closing twice is one closing; starting again is a mistake."""
    async with LocalRuntime(pace=0) as runtime:
        base_url = runtime.base_url
        assert base_url in repr(runtime)
        assert not await refused(base_url)
    assert await refused(base_url)
    await runtime.aclose()
    assert repr(runtime) == "<LocalRuntime closed>"
    with pytest.raises(RuntimeError, match="closed"):
        await runtime.start()
    with pytest.raises(RuntimeError, match="not running"):
        _ = runtime.base_url


async def test_starting_twice_is_starting_once() -> None:
    """The address stays."""
    async with LocalRuntime() as runtime:
        base_url = runtime.base_url
        await runtime.start()
        assert runtime.base_url == base_url


async def test_two_who_start_it_at_once_start_it_once(tmp_path: Path) -> None:
    """The second one waits for the first."""
    runtime = LocalRuntime(db=tmp_path / "local.db")
    await asyncio.gather(runtime.start(), runtime.start())
    base_url = runtime.base_url
    await runtime.aclose()
    assert await refused(base_url)


async def test_one_that_is_closed_while_it_starts_is_closed(tmp_path: Path) -> None:
    """Nothing listens afterwards, and the file is free."""
    runtime = LocalRuntime(db=tmp_path / "local.db")
    starting = asyncio.create_task(runtime.start())
    await asyncio.sleep(0)
    await runtime.aclose()
    await asyncio.wait({starting})
    assert repr(runtime) == "<LocalRuntime closed>"
    async with LocalRuntime(db=tmp_path / "local.db"):
        pass


async def test_a_runtime_that_never_started_can_be_closed() -> None:
    """There is nothing to do."""
    runtime = LocalRuntime()
    assert repr(runtime) == "<LocalRuntime not started>"
    await runtime.aclose()


async def test_a_port_that_is_taken_is_an_error_of_the_system() -> None:
    """It names the address, and nothing is left running."""
    before = asyncio.all_tasks()
    async with LocalRuntime() as first:
        second = LocalRuntime(port=int(first.base_url.rpartition(":")[2]))
        with pytest.raises(OSError, match="address already in use"):
            await second.start()
        await second.aclose()
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "http://127.0.0.1:"), ("::1", "http://[::1]:"), ("0.0.0.0", "http://127.0.0.1:")]
)
async def test_the_base_url_is_one_that_clients_on_this_machine_can_use(host: str, shown: str) -> None:
    """Also for an address with colons, and for one that means all addresses."""
    async with LocalRuntime(host=host) as runtime:
        assert runtime.base_url.startswith(shown)
        headers = {"Authorization": f"Bearer {runtime.api_key}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(f"{runtime.base_url}/chats/list") as response,
        ):
            assert response.status == 200


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"api_keys": ()}, "api_keys"),
        ({"api_keys": "inf_local"}, "api_keys"),
        ({"api_keys": ["inf_local", ""]}, "api_keys"),
        ({"api_keys": ["inf_local\n"]}, "api_keys"),
        ({"api_keys": ["inf local"]}, "api_keys"),
        ({"api_keys": [5]}, "api_keys"),
        ({"approvals": "nobody"}, "approvals must be api_key or sign_in, not 'nobody'"),
        ({"envelope": "v4"}, "envelope must be v1, v2 or v3, not 'v4'"),
        ({"updates": "all"}, "updates must be snapshots, deltas or both, not 'all'"),
        ({"pace": -1}, "pace"),
        ({"pace": float("nan")}, "pace"),
        ({"heartbeat": 0}, "heartbeat"),
    ],
)
def test_a_wrong_option_is_refused_when_the_runtime_is_made(options: dict[str, Any], complaint: str) -> None:
    """And not when the first request comes."""
    with pytest.raises(ValueError, match=complaint):
        LocalRuntime(**options)


class Parrot:
    """A model whose number of words, 0, is no reason to use another one."""

    def __len__(self) -> int:
        return 0

    async def respond(self, conversation: Conversation) -> AsyncIterator[Text]:
        """Say what was said."""
        yield Text(conversation.messages[-1].text)


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        ("llama", r"a method respond\(conversation\).*LlamaModel\(\).*not 'llama'"),
        (Parrot, r"an instance of Parrot, not the class: Parrot\(\.\.\.\)"),
    ],
)
def test_what_is_no_model_is_refused_when_the_runtime_is_made(model: Any, complaint: str) -> None:
    """And not by the first run."""
    with pytest.raises(TypeError, match=complaint):
        LocalRuntime(model=model)


async def test_any_object_can_be_a_model() -> None:
    """Also an empty one."""
    async with calling(model=Parrot()) as caller:
        chat_id = (await caller.send("Hello"))[1]["chat_id"]
        async with caller.follow(chat_id) as events:
            await events.until_idle()
        (*_, reply) = await caller.messages(chat_id)
    assert text_of(reply) == "Hello"


async def test_pieces_are_paced(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a pause after each piece, and a longer one before the first, in which clients connect."""
    pauses: list[float] = []
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", noted)
    async with calling(model=Scripted([Text("One "), Text("two.")]), pace=0.25) as caller:
        _, reply = await caller.send("Hello")
        await caller.finish(reply["chat_id"])
    assert [pause for pause in pauses if pause] == [2.5, 0.25, 0.25]


class Unstoppable:
    """A model that does not end when it is cancelled, until it is let go."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.resisted = asyncio.Event()
        self.let_go = asyncio.Event()

    async def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        yield Text("So far")
        self.began.set()
        while not self.let_go.is_set():
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                self.resisted.set()


async def test_closing_that_is_cancelled_closes_the_rest(tmp_path: Path) -> None:
    """As by a limit of time: nothing listens, the file is free, and the model is closed."""
    model = Unstoppable()
    runtime = LocalRuntime(model=model, pace=0, db=tmp_path / "local.db")
    await runtime.start()
    base_url = runtime.base_url
    async with aiohttp.ClientSession(base_url, headers={"Authorization": f"Bearer {runtime.api_key}"}) as session:
        async with session.post("/agents/run", json={"agent": "acme/helper", "input": {"text": "Hello"}}) as response:
            assert response.status == 200
        await model.began.wait()
    closing = asyncio.create_task(runtime.aclose())
    await model.resisted.wait()
    closing.cancel()
    asyncio.get_running_loop().call_later(0.1, model.let_go.set)
    await asyncio.wait({closing})
    assert await refused(base_url)
    async with LocalRuntime(db=tmp_path / "local.db"):
        pass


async def test_a_model_that_cannot_be_stopped_does_not_keep_a_runtime_from_closing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is waited for a short while and then left, with a word in the log."""
    monkeypatch.setattr(engine_module, "CLOSE_TIMEOUT", 0.05)
    model = Unstoppable()
    async with LocalRuntime(model=model, pace=0) as runtime:
        headers = {"Authorization": f"Bearer {runtime.api_key}"}
        async with aiohttp.ClientSession(runtime.base_url, headers=headers) as session:
            body = json.dumps({"agent": "acme/helper", "input": {"text": "Hello"}})
            async with session.post("/agents/run", data=body, headers={"Accept": NDJSON}) as response:
                assert response.status == 200
            await model.began.wait()
    left = {task for task in asyncio.all_tasks() if task.get_name().startswith("inferencesh.local run")}
    model.let_go.set()
    await asyncio.wait(left)
    assert caplog.text.count("1 runs are left") == 1
