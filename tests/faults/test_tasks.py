"""Tasks in spite of everything that a network and a server do: nothing is lost, repeated or taken back."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import TYPE_CHECKING, Any

import pytest

from inferencesh import (
    APIConnectionError,
    APIError,
    AsyncInference,
    AuthenticationError,
    ConflictError,
    Inference,
    InferenceError,
    InternalServerError,
    NotFoundError,
    RequirementsNotMetError,
    StreamError,
    Task,
    TaskCancelledError,
    TaskFailedError,
    TaskTimeoutError,
    Timeout,
)
from inferencesh.config import Backoff
from tests.support import Kind, eventually

from .forms import HEARTBEAT, TASK, chat, delta, event, task_of
from .script import (
    CUT,
    EOF,
    HALF_CLOSE,
    RST,
    STALL,
    Reply,
    Scenario,
    bytewise,
    encode,
    half,
    head,
    heartbeats,
    hold,
    page,
    raw,
    refuse,
    together,
)
from .server import FaultServer
from .tasks import (
    CANCEL,
    DONE,
    HALF,
    OUTPUT,
    QUEUED,
    READ,
    RUN,
    RUNNING,
    STREAM,
    WHOLE,
    TaskCase,
    check_forward,
    check_task,
    play_task,
)
from .turns import advance, call, client_options, meanwhile

if TYPE_CHECKING:
    from collections.abc import Generator

MEBI = 2**20
AT_ONCE = Backoff(initial=0.001, factor=1.0, maximum=0.001)
SSE = head(content_type="text/event-stream")
GONE = refuse(404, "not_found")
READS_DONE = {READ: [(Reply(DONE),)]}


def sse(form: dict[str, Any], name: str = "") -> bytes:
    """A task as a server-sent event."""
    return (f"event: {name}\n" if name else "").encode() + b"data: " + encode(form) + b"\n"


CASES = [
    TaskCase("the whole stream", [WHOLE], connects=1),
    TaskCase("each byte by itself", [tuple(map(bytewise, WHOLE))], connects=1),
    TaskCase("all in one segment", [(together(*WHOLE),)], connects=1),
    TaskCase("in the form of events", [tuple(event("tasks", line) for line in WHOLE)]),
    TaskCase("in an object with data", [tuple({"data": line} for line in WHOLE)]),
    TaskCase("as partial states", [(QUEUED, {"data": {"progress": 0.5}, "fields": ["progress"]}, DONE)]),
    TaskCase("as server-sent events", [(sse(QUEUED), sse(HALF, "update"), sse(DONE, "done"))], head=SSE),
    TaskCase("server-sent events that break off", [(sse(QUEUED), CUT), (sse(DONE), EOF)], head=SSE),
    TaskCase("every line twice", [tuple(line for line in WHOLE for _ in range(2))], connects=1),
    TaskCase("all over again", [(*WHOLE[:-1], *WHOLE)], connects=1),
    TaskCase("a stale state at the beginning", [(task_of(1), RUNNING, task_of(2), task_of(1), DONE)]),
    TaskCase("states after the end", [(DONE, RUNNING, task_of(11, error="late"))]),
    TaskCase("heartbeats in between", [(HEARTBEAT, QUEUED, HEARTBEAT, HEARTBEAT, DONE)]),
    TaskCase("events that this version does not know", [(event("metrics", {"a": 1}), event("x", [1]), RUNNING, DONE)]),
    TaskCase("events of a chat", [(chat("completed"), delta("nothing", 1, resource_id="m"), DONE)]),
    TaskCase("the state of another task", [({"id": "other", "status": 10, "output": 1}, DONE)]),
    TaskCase("a stream that ends early", [(QUEUED, EOF), (HALF, EOF), (DONE, EOF)]),
    TaskCase("a connection that is cut", [(QUEUED, CUT), (HALF, RST), WHOLE]),
    TaskCase("a half-closed connection", [(QUEUED, HALF_CLOSE), WHOLE]),
    TaskCase("half a line", [(QUEUED, half(HALF), CUT), (DONE,)], connects=None),
    TaskCase("lost before its first byte", [(RST,), (CUT,), WHOLE]),
    TaskCase("refused for a while", [refuse(503, "busy"), refuse(429, "rate_limited"), refuse(500, "oops"), WHOLE]),
    TaskCase(
        "reads that are refused for a while",
        [(HALF, EOF), WHOLE],
        answers={READ: [refuse(502, "bad_gateway")] * 4 + [(Reply(HALF),)]},
    ),
    TaskCase(
        "reads that are refused for good",
        [(HALF, EOF)],
        answers={READ: [refuse(502, "bad_gateway")]},
        raises=StreamError,
        status="running",
    ),
    TaskCase("a page of a proxy in place of the stream", [page(), WHOLE]),
    TaskCase("a line that is no JSON", [(QUEUED, b"{oops\n", DONE)]),
    TaskCase("a line that is no object", [(QUEUED, b"[1, 2]\n", DONE)]),
    TaskCase(
        "a task without an id in it",
        [(QUEUED, {"data": {"status": 10, "output": OUTPUT}, "fields": ["status", "output"]})],
    ),
    TaskCase(
        "a task whose id is null",
        [(QUEUED, {"data": {"id": None, "status": 10, "output": OUTPUT}, "fields": ["status", "output"]})],
        connects=1,
    ),
    TaskCase("silence, and then the read tells", [(QUEUED, STALL)], answers=READS_DONE),
    TaskCase("the end is lost with the connection", [(HALF, CUT)], answers=READS_DONE, connects=1),
    TaskCase("the end lacks the output", [(HALF, task_of(10))], answers=READS_DONE),
    TaskCase(
        "the end as a partial state", [(HALF, {"data": {"status": 10}, "fields": ["status"]})], answers=READS_DONE
    ),
    TaskCase("statuses by name", [(task_of("queued"), task_of("running"), task_of("completed", output=OUTPUT))]),
    TaskCase("a status that this version does not know", [(RUNNING, task_of("hibernating"), DONE)]),
    TaskCase("completed at once", runs=[(Reply(DONE),)], connects=0),
    TaskCase("the older envelope", [WHOLE], envelope="v1"),
    TaskCase("no envelope", [WHOLE], envelope="v2"),
    TaskCase("put off", [WHOLE], runs=[(Reply(task_of(1)),)]),
    TaskCase("it fails", [(HALF, task_of(11, error="out of memory"))], raises=TaskFailedError, status="failed"),
    TaskCase("it fails without a reason", [(HALF, task_of(11))], raises=TaskFailedError, status="failed"),
    TaskCase("it is cancelled", [(HALF, task_of(8), task_of(12))], raises=TaskCancelledError, status="cancelled"),
    TaskCase("it is refused later", [(task_of(13, error="no balance"),)], raises=TaskFailedError, status="rejected"),
    TaskCase("it fails at once", runs=[(Reply(task_of(11, error="no")),)], raises=TaskFailedError, status="failed"),
    TaskCase(
        "it fails while disconnected",
        [(HALF, CUT)],
        answers={READ: [(Reply(task_of(11, error="x")),)]},
        raises=TaskFailedError,
        status="failed",
    ),
    TaskCase(
        "it is deleted while it is followed",
        [(HALF, EOF)],
        answers={READ: [GONE]},
        raises=NotFoundError,
        status="running",
    ),
    TaskCase("its stream is gone", [(HALF, EOF), GONE], raises=NotFoundError, status="running"),
    TaskCase(
        "the key is revoked", [(HALF, EOF), refuse(401, "unauthorized")], raises=AuthenticationError, status="running"
    ),
    TaskCase(
        "the stream breaks off again and again", [(HALF, CUT), (CUT,)], raises=StreamError, status="running", connects=5
    ),
    TaskCase("nothing but nonsense", [(b"nonsense\n", EOF)], raises=StreamError, status="received"),
    TaskCase(
        "a line without an end",
        [(b"{" * 3000,)],
        raises=StreamError,
        status="received",
        options={"max_line_bytes": 2048},
    ),
    TaskCase("a stream that was never opened", [refuse(500, "oops")], raises=StreamError, status="received"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_tasks(case: TaskCase, kind: Kind, canary: pytest.LogCaptureFixture) -> None:
    """Each scenario with either client."""
    assert canary is not None
    with FaultServer(case) as server:
        outcome = play_task(kind, case, server)
    check_task(case, outcome)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refuse(404, "not_found", "no such app"), NotFoundError),
        (refuse(401, "unauthorized"), AuthenticationError),
        (refuse(500, "oops"), InternalServerError),
        (refuse(402, "payment_required"), APIError),
        ((RST,), APIConnectionError),
        (page(), InferenceError),
        ((Reply([1]),), InferenceError),
        ((Reply({"status": 1}),), InferenceError),
    ],
    ids=["no app", "no key", "broken", "no money", "reset", "a page", "a list", "no id"],
)
def test_a_task_that_cannot_be_created_raises_and_is_not_created_twice(
    answer: Any, error: type[InferenceError], kind: Kind
) -> None:
    """A response that is lost or unreadable is no reason to run an app again."""
    with FaultServer(Scenario(runs=[answer])) as server:
        with pytest.raises(error):
            call(kind, server, lambda client: client.tasks.run("a/b", {}))
        assert len(server.seen(RUN)) == 1


def test_a_task_that_is_put_off_is_created_later(kind: Kind) -> None:
    """The server says that it has not taken it."""
    busy = refuse(503, "app_maintenance", Retry_After="0.05")
    with FaultServer(
        Scenario(runs=[busy, refuse(429, "rate_limited"), (Reply(task_of(1)),)], streams=[WHOLE])
    ) as server:
        task = call(kind, server, lambda client: client.tasks.run("a/b", {}))
        assert len(server.seen(RUN)) == 3
    assert task.output == OUTPUT


def test_an_input_that_does_not_fit_names_each_field(kind: Kind) -> None:
    """412 with a list; nothing is retried."""
    errors = [
        {"type": "input", "key": "prompt", "message": "is missing"},
        {"type": "input", "key": "n", "message": "no"},
    ]
    body = {"type": "https://api.inference.sh/errors/requirements_not_met", "satisfied": False, "errors": errors}
    answer = (Reply(body, 412, {}, "application/problem+json"),)
    with FaultServer(Scenario(runs=[answer])) as server:
        with pytest.raises(RequirementsNotMetError) as raised:
            call(kind, server, lambda client: client.tasks.run("a/b", {"n": 0}))
        assert len(server.seen(RUN)) == 1
    assert [item["key"] for item in raised.value.errors] == ["prompt", "n"]


def test_cancelling_a_task_that_has_ended_does_nothing(kind: Kind) -> None:
    """Whether the server takes that for a conflict or not; a conflict about one that goes on is told."""
    refused = [refuse(409, "invalid_transition")]
    with FaultServer(Scenario(answers={CANCEL: refused, READ: [(Reply(DONE),), (Reply(RUNNING),)]})) as server:

        def cancel(client: Any) -> Generator[Any, Any, None]:
            assert (yield client.tasks.cancel(TASK)) is None
            with pytest.raises(ConflictError):
                yield client.tasks.cancel(TASK)

        call(kind, server, cancel)


# -- the bytes ---------------------------------------------------------------------------------------------------------


def answer() -> bytes:
    """The whole stream as it travels, head and chunk sizes included."""
    chunks = [b"%x\r\n%b\r\n" % (len(data), data) for data in map(encode, WHOLE)]
    return head() + b"".join(chunks)


def cut_at(offset: int) -> Scenario:
    """The answer, cut by a RST behind so many of its bytes; the next connection tells everything."""
    return Scenario(streams=[(raw(answer()[:offset]), RST), WHOLE])


async def every_offset_async(server: FaultServer) -> int:
    """One task for each offset; returns how many there were."""
    async with AsyncInference(**client_options(server, backoff=AT_ONCE)) as client:
        for offset in range(len(answer())):
            server.play(cut_at(offset))
            snapshots = [snapshot async for snapshot in client.tasks.run("a/b", {}, stream=True)]
            check_offset(snapshots, server)
    return offset


def every_offset_sync(server: FaultServer) -> int:
    """The same with the blocking client."""
    with Inference(**client_options(server, backoff=AT_ONCE)) as client:
        for offset in range(len(answer())):
            server.play(cut_at(offset))
            check_offset(list(client.tasks.run("a/b", {}, stream=True)), server)
    return offset


def check_offset(snapshots: list[Task], server: FaultServer) -> None:
    """The task has come to its end, forward only, and was created once."""
    check_forward(snapshots)
    assert snapshots[-1].output == OUTPUT
    assert len(server.seen(RUN)) == 1


@pytest.mark.timeout(60)
def test_a_reset_at_any_byte_of_a_task_loses_nothing(kind: Kind) -> None:
    """RST at every byte offset of a whole stream."""
    with FaultServer(Scenario()) as server:
        done = asyncio.run(every_offset_async(server)) if kind == "async" else every_offset_sync(server)
        server.wait_until_no_connections()
    assert done == len(answer()) - 1 > 300


# -- slow readers and time limits --------------------------------------------------------------------------------------


def test_the_network_is_held_back_by_a_slow_reader(kind: Kind) -> None:
    """Of 40 MiB that wait to be sent only a few are taken; nothing is lost, and the pause is no idle stream."""
    size, count = 64 * 1024, 640
    lines = [task_of(7, logs=[{"content": "x" * size + "." * n}]) for n in range(count)]
    with FaultServer(Scenario(streams=[(*lines, DONE)])) as server:

        def slowly(client: Any) -> Generator[Any, Any, int]:
            stream = client.tasks.run("a/b", {}, stream=True)
            yield advance(kind, stream)
            yield advance(kind, stream)
            taken = yield meanwhile(kind, server.wait_until_held_back)
            assert taken < 16 * MEBI, f"{taken / MEBI:.1f} MiB"
            received = 2
            try:
                while True:
                    yield advance(kind, stream)
                    received += 1
            except (StopIteration, StopAsyncIteration):
                return received

        assert call(kind, server, slowly) == count + 2
        assert len(server.seen(STREAM)) == 1


def test_a_task_that_takes_too_long_raises_and_goes_on(kind: Kind) -> None:
    """After ``timeout``, with the last snapshot; it is not cancelled, and its stream is closed."""
    with FaultServer(Scenario(streams=[(HALF, heartbeats(100, 0.05))])) as server:
        with pytest.raises(TaskTimeoutError) as raised:
            call(kind, server, lambda client: client.tasks.run("a/b", {}, timeout=0.3))
        server.wait_until_no_streams()
        assert server.seen(CANCEL) == []
    assert raised.value.task is not None
    assert raised.value.task.progress == 0.5


def test_a_stream_without_heartbeats_is_opened_again(kind: Kind) -> None:
    """Once it was silent for longer than the idle timeout."""
    with FaultServer(Scenario(streams=[(HALF, STALL), WHOLE])) as server:
        options = {"timeout": Timeout(connect=2, idle=0.2, total=5)}
        task = call(kind, server, lambda client: client.tasks.run("a/b", {}), **options)
        assert len(server.seen(STREAM)) == 2
    assert task.output == OUTPUT


# -- leaving -----------------------------------------------------------------------------------------------------------

ENDLESS = Scenario(streams=[(QUEUED, RUNNING, hold("for ever"))])


async def _break(client: AsyncInference) -> None:
    async for _ in client.tasks.run("a/b", {}, stream=True):
        break
    gc.collect()


async def _raise(client: AsyncInference) -> None:
    async def follow() -> None:
        async with client.tasks.run("a/b", {}, stream=True) as stream:
            async for _ in stream:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await follow()


async def _close(client: AsyncInference) -> None:
    stream = await client.tasks.run("a/b", {}, stream=True)
    await anext(stream)
    await anext(stream)
    await stream.aclose()


async def _cancel_task(client: AsyncInference) -> None:
    waiting = asyncio.create_task(client.tasks.run("a/b", {}))
    await asyncio.sleep(0.2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def _time_out(client: AsyncInference) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await client.tasks.run("a/b", {})


async def _drop(client: AsyncInference) -> None:
    stream = await client.tasks.run("a/b", {}, stream=True)
    await anext(stream)
    await anext(stream)
    del stream
    gc.collect()


async def _callback(client: AsyncInference) -> None:
    def on_update(task: Task) -> None:
        raise ZeroDivisionError(task.id)

    with pytest.raises(ZeroDivisionError):
        await client.tasks.run("a/b", {}, on_update=on_update)


@pytest.mark.parametrize("way", [_break, _raise, _close, _cancel_task, _time_out, _drop, _callback])
def test_leaving_a_task_closes_its_connection(way: Any) -> None:
    """By whatever way, within a second; the task is not cancelled."""
    with FaultServer(ENDLESS) as server:

        async def main() -> None:
            async with AsyncInference(**client_options(server)) as client:
                await way(client)
                await eventually(lambda: server.streams == 0, "end of the stream")

        asyncio.run(main(), debug=True)
        assert server.seen(CANCEL) == []
        server.wait_until_no_connections()


def _break_sync(client: Inference) -> None:
    for _ in client.tasks.run("a/b", {}, stream=True):
        break


def _raise_sync(client: Inference) -> None:
    def follow() -> None:
        with client.tasks.run("a/b", {}, stream=True) as stream:
            for _ in stream:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        follow()


def _close_sync(client: Inference) -> None:
    stream = client.tasks.run("a/b", {}, stream=True)
    next(stream)
    next(stream)
    stream.close()


def _drop_sync(client: Inference) -> None:
    stream = client.tasks.run("a/b", {}, stream=True)
    next(stream)
    next(stream)
    del stream
    gc.collect()


def _interrupt_sync(client: Inference) -> None:
    def on_update(task: Task) -> None:
        raise KeyboardInterrupt(task.id)

    with pytest.raises(KeyboardInterrupt):
        client.tasks.run("a/b", {}, on_update=on_update)


@pytest.mark.parametrize("way", [_break_sync, _raise_sync, _close_sync, _drop_sync, _interrupt_sync])
def test_leaving_a_task_of_the_blocking_client_closes_its_connection(way: Any) -> None:
    """As with the async one."""
    with FaultServer(ENDLESS) as server:
        with Inference(**client_options(server)) as client:
            way(client)
            server.wait_until_no_streams()
        assert server.seen(CANCEL) == []
        server.wait_until_no_connections()


def test_a_task_that_was_left_is_taken_up_where_it_was(kind: Kind) -> None:
    """By iterating again; it is not created a second time."""
    with FaultServer(Scenario(streams=[(QUEUED, RUNNING, hold("left"), DONE), WHOLE])) as server:

        def use(client: Any) -> Generator[Any, Any, list[Task]]:
            stream = client.tasks.run("a/b", {}, stream=True)
            first = [(yield advance(kind, iter(stream) if kind == "sync" else aiter(stream)))]
            gc.collect()
            yield meanwhile(kind, server.wait_until_no_streams)
            try:
                while True:
                    first.append((yield advance(kind, stream)))
            except (StopIteration, StopAsyncIteration):
                return first

        snapshots = call(kind, server, use)
        assert len(server.seen(RUN)) == 1
    check_forward(snapshots)
    assert snapshots[-1].output == OUTPUT


def test_a_task_is_not_run_again_by_a_stream_that_was_left_while_it_was_created(kind: Kind) -> None:
    """Whether it was created is not known, and the stream says so."""
    with FaultServer(Scenario(runs=[(hold("for ever"),)])) as server:

        async def main() -> None:
            async with AsyncInference(**client_options(server)) as client:
                stream = client.tasks.run("a/b", {}, stream=True)
                opening = asyncio.ensure_future(stream.get_final_task())
                await asyncio.to_thread(server.wait_for_request, RUN)
                opening.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await opening
                with pytest.raises(StreamError, match="interrupted"):
                    await stream.get_final_task()

        if kind == "async":
            asyncio.run(main(), debug=True)
            assert len(server.seen(RUN)) == 1


def test_losses_are_logged_without_the_content(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    """Neither input nor output nor logs of a task are in a log record."""
    caplog.set_level(logging.DEBUG, "inferencesh")
    secret = "a very private matter"
    lines = (task_of(7, logs=[secret]), CUT)
    with FaultServer(Scenario(streams=[lines, (task_of(10, output=secret),)])) as server:
        task = call(kind, server, lambda client: client.tasks.run("a/b", {"prompt": secret}))
    assert task.output == secret
    assert f"task {TASK}" in caplog.text
    assert secret not in caplog.text
