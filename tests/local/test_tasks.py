"""Apps, tasks and sessions of the embedded runtime, as a plain HTTP client sees them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import decimal
import enum
import json
import struct
import sys
import time
import zlib
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Annotated, Any

import attrs
import pydantic
import pytest

from inferencesh.local import LocalRuntime, OutputFile, Progress, TaskContext, task_engine

from .caller import NDJSON, SSE, Caller, Json, calling

INTERRUPTED = "The runtime ended while this task was under way"


async def run(caller: Caller, app: str, value: object = None, **body: object) -> Json:
    """Run an app to its end, and return the task."""
    created = await caller.post("/apps/run", {"app": app, "input": value or {}, **body})
    return await end_of(caller, created["id"])


async def end_of(caller: Caller, task_id: str) -> Json:
    """Wait for the end of a task, and return it."""
    return (await lines(caller, task_id))[-1]


async def lines(caller: Caller, task_id: str, accept: str = NDJSON) -> list[Json]:
    """The stream of a task, to its end."""
    async with caller.session.get(f"/tasks/{task_id}/stream", headers={"Accept": accept}) as response:
        assert response.status == 200
        assert response.content_type == accept
        text = (await response.read()).decode()
    if accept == SSE:
        text = text.replace("data: ", "")
        assert "event:" not in text
    return [json.loads(line) for line in text.splitlines() if line and not line.startswith(":")]


async def uploaded(caller: Caller, content: bytes) -> Json:
    """Upload a file, and return its record."""
    file = {"content_type": "text/plain", "filename": "a.txt"}
    (record,) = (await caller.ask("POST", "/files", {"files": [file]}))["data"]
    async with caller.session.put(record["upload_url"], data=content, headers={"Content-Type": "text/plain"}) as put:
        assert put.status == 200
    made: Json = record
    return made


async def opened(caller: Caller) -> None:
    """Wait until a stream is open."""
    while not caller.runtime.open_streams:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.001)


# -- apps --------------------------------------------------------------------------------------------------------------


@attrs.frozen
class Place:
    """A class as a type hint."""

    city: str
    zip: int | None = None


def sync_app(text: str, times: Annotated[int, "how often"] = 1) -> dict[str, str]:
    """A plain function."""
    return {"text": text * times}


async def async_app(place: Place) -> dict[str, Any]:
    """A coroutine function that takes the whole input as a class."""
    await asyncio.sleep(0)
    return {"city": place.city, "zip": place.zip}


def generator_app(to: int) -> Generator[Any, None, dict[str, int]]:
    """A generator with a return value."""
    for number in range(1, to + 1):
        yield number / to
        yield f"counted {number}"
    return {"to": to}


async def async_generator_app(to: int, context: TaskContext) -> AsyncIterator[Any]:
    """An async generator, whose last output counts."""
    context.log(f"task {len(context.task_id)}")
    for number in range(1, to + 1):
        yield Progress(number / to, f"counted {number}", {"so far": number})


def untyped(a, b=2):  # type: ignore[no-untyped-def]
    return {"a": a, "b": b}


async def log_number(context: TaskContext) -> None:
    """Logs what is no text."""
    context.log(5)  # type: ignore[arg-type]


APPS: Any = {
    "t/sync": sync_app,
    "t/async": async_app,
    "t/generator": generator_app,
    "t/async-generator": async_generator_app,
    "t/untyped": untyped,
    "t/several:one": lambda: 1,
    "t/several:two": lambda: 2,
    "t/file": lambda: [OutputFile(b"content", "f.txt", "text/plain"), b"bytes"],
    "t/odd": lambda: object(),
    "t/exit": lambda: (_ for _ in ()).throw(SystemError()),
    "t/stop": lambda: next(iter([])),
    "t/leave": lambda: sys.exit(3),
    "t/log-number": log_number,
    "t/text-as-file": lambda: {"report": OutputFile("text", "report.txt")},  # type: ignore[arg-type]
    "t/odd-type": lambda: {"report": OutputFile(b"text", "report.txt", "text/plain\r\nX-Evil: 1")},
}


@pytest.mark.parametrize(
    ("app", "value", "output", "log"),
    [
        ("t/sync", {"text": "a", "times": 3}, {"text": "aaa"}, ""),
        ("t/async", {"city": "Paris"}, {"city": "Paris", "zip": None}, ""),
        ("t/generator", {"to": 2}, {"to": 2}, "counted 1\ncounted 2\n"),
        ("t/async-generator", {"to": 2}, {"so far": 2}, "task 26\ncounted 1\ncounted 2\n"),
        ("t/untyped", {"a": [None]}, {"a": [None], "b": 2}, ""),
        ("t/several:two", {}, 2, ""),
        ("demo/text", {"template": "{a} {b}", "values": {"a": "1"}}, {"text": "1 {b}"}, ""),
        ("infsh/text-templating@53bk0yzk", {"template": "{1}!", "strings": ["Hi"]}, {"result": "Hi!"}, ""),
    ],
)
async def test_functions_of_every_kind_are_apps(app: str, value: object, output: object, log: str) -> None:
    """With their progress, logs and output."""
    async with calling(apps=APPS) as caller:
        task = await run(caller, app, value)
        assert (task["status"], task["status_text"], task["error"]) == (10, "completed", None)
        assert task["output"] == output
        assert "".join(entry["content"] for entry in task["logs"]) == log
        assert task["progress"] == 1.0


async def test_a_decorator_makes_an_app() -> None:
    """Before the runtime starts, or while it runs; hints may name what is local."""

    @attrs.frozen
    class Local:
        """A class that only this function knows."""

        number: int

    runtime = LocalRuntime(pace=0)

    @runtime.app("me/double")
    def double(value: Local) -> dict[str, int]:
        return {"number": value.number * 2}

    assert double(Local(2)) == {"number": 4}
    async with runtime:
        runtime.app("me/double:thrice")(lambda number: {"number": number * 3})
        async with calling() as other:
            caller = Caller(runtime, other.session)
            base = runtime.base_url
            headers = {"Authorization": f"Bearer {runtime.api_key}"}
            for function, expected in (("run", 10), ("thrice", 15)):
                body = {"app": "me/double", "function": function, "input": {"number": 5}, "wait": True}
                async with caller.session.post(f"{base}/apps/run", json=body, headers=headers) as response:
                    assert (await response.json())["data"]["output"] == {"number": expected}


@pytest.mark.parametrize(
    ("app", "value", "wrong"),
    [
        ("t/sync", {}, {"text": "is missing"}),
        (
            "t/sync",
            {"text": 1, "times": "x", "z": 0},
            {"text": "expected str, got 1", "times": "expected int, got 'x'", "z": "is unknown"},
        ),
        ("t/sync", [], {"input": "must be an object"}),
        ("t/async", {"city": 5, "zip": "x"}, {"city": "expected str, got 5", "zip": "expected int or None, got 'x'"}),
        ("t/async", {}, {"city": "is missing"}),
        ("t/async", 5, {"input": "expected Place, got 5"}),
    ],
)
async def test_an_input_that_does_not_fit_is_refused_with_each_field(app: str, value: object, wrong: object) -> None:
    """412 with the list that the service has, in no envelope; no task is created."""
    async with calling(apps=APPS) as caller:
        body = await caller.ask("POST", "/apps/run", {"app": app, "input": value}, status=412)
        assert {item["key"]: item["message"] for item in body["errors"]} == wrong
        assert (body["satisfied"], body["status"]) == (False, 412)
        assert all(item["type"] == "input" for item in body["errors"])
        assert (await caller.post("/tasks/list"))["items"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"app": "no/app"}, 404),
        ({"app": "t/several"}, 404),
        ({"app": "t/several", "function": "three"}, 404),
        ({"app": "t/sync", "session": "nothing", "input": {"text": ""}}, 404),
        ({"app": "t/sync", "session": "new", "session_timeout": 0, "input": {"text": ""}}, 422),
        ({"app": "t/sync", "run_at": "tomorrow", "input": {"text": ""}}, 422),
        ({"app": "t/sync", "run_at": "9999-12-31T23:59:59-01:00", "input": {"text": ""}}, 422),
        ({"app": 5}, 422),
    ],
)
async def test_requests_that_cannot_be_meant_are_refused(body: object, status: int) -> None:
    """With the status of the service."""
    async with calling(apps=APPS) as caller:
        await caller.ask("POST", "/apps/run", body, status=status)


@pytest.mark.parametrize(
    ("name", "function", "error"),
    [
        ("noslash", sync_app, ValueError),
        ("/name", sync_app, ValueError),
        ("a/", sync_app, ValueError),
        (5, sync_app, TypeError),
        ("a/b", "no function", TypeError),
        ("a/b", lambda *args: args, TypeError),
    ],
)
def test_what_cannot_be_an_app_is_refused_when_it_is_registered(
    name: Any, function: Any, error: type[Exception]
) -> None:
    """Not when a task wants it."""
    with pytest.raises(error):
        LocalRuntime(apps={name: function})
    with pytest.raises(error):
        LocalRuntime().app(name)(function)


async def test_a_hint_without_a_schema_is_refused_when_it_is_registered() -> None:
    """With its name."""

    class Odd:
        """Nothing that JSON could describe."""

        def __init__(self, *arguments: object) -> None: ...

    def odd(value: Odd) -> None: ...

    with pytest.raises(ValueError, match="Odd"):
        LocalRuntime(apps={"a/odd": odd})


@pytest.mark.parametrize(
    ("app", "error"),
    [
        ("t/odd", "An app gives out JSON values"),
        ("t/exit", "SystemError"),
        ("t/stop", "StopIteration"),
        ("t/leave", "SystemExit"),
        ("t/log-number", "A line of a log is a str, not 5"),
        ("t/text-as-file", "The content of an OutputFile is bytes, not str"),
        ("t/odd-type", "is no MIME type"),
    ],
)
async def test_an_app_that_fails_fails_its_task(app: str, error: str) -> None:
    """The runtime goes on."""
    async with calling(apps=APPS) as caller:
        task = await run(caller, app)
        assert task["status"] == 11
        assert error in task["error"]
        assert (await run(caller, "t/several:one"))["output"] == 1


def half_a_character_in_the_log(context: TaskContext) -> int:
    """Logs a file name that is no UTF-8."""
    context.log("read \udcff.txt")
    return 1


def half_a_character_in_the_error() -> None:
    """Fails with a file name that is no UTF-8."""
    raise ValueError("cannot read \udcff.txt")


def half_a_character_in_a_name() -> OutputFile:
    """Names a file so."""
    return OutputFile(b"content", "\udcff.txt")


@pytest.mark.parametrize(
    ("app", "where"),
    [
        (half_a_character_in_the_log, lambda task: task["logs"][0]["content"]),
        (half_a_character_in_the_error, lambda task: task["error"]),
        (half_a_character_in_a_name, lambda task: task["output"]["filename"]),
    ],
)
async def test_text_that_is_no_unicode_harms_nothing(app: Any, where: Any, tmp_path: Path) -> None:
    """Names of files may hold bytes that are no UTF-8; neither an answer nor the database can hold them."""
    async with calling(apps={"t/half": app}, db=tmp_path / "local.db") as caller:
        task = await run(caller, "t/half")
        assert "\ufffd.txt" in where(task)
        assert (await caller.post("/tasks/list"))["items"][0]["id"] == task["id"]
        assert isinstance((await caller.post("/files/list"))["items"], list)
    async with calling(apps={"t/half": app}, db=tmp_path / "local.db") as caller:
        assert where(await caller.get(f"/tasks/{task['id']}")) == where(task)


async def test_progress_may_be_any_kind_of_number() -> None:
    """As numpy and Decimal have them."""

    async def half(context: TaskContext) -> None:
        context.progress(decimal.Decimal("0.5"))  # type: ignore[arg-type]
        raise ValueError("only half of it")

    async with calling(apps={"t/half": half}) as caller:
        assert (await run(caller, "t/half"))["progress"] == 0.5


class Colour(enum.Enum):
    """A part of an output."""

    RED = "red"


class Drawing(pydantic.BaseModel):
    """What an app gives out."""

    made: datetime.date
    colours: list[Colour]


async def test_an_app_gives_out_what_has_a_json_form() -> None:
    """As a tool does: models of pydantic, enums, dates and the like, alone and in others."""
    drawing = Drawing(made=datetime.date(2026, 11, 28), colours=[Colour.RED])
    async with calling(apps={"t/draw": lambda: {"drawing": drawing, "at": datetime.time(9, 30)}}) as caller:
        task = await run(caller, "t/draw")
    assert task["output"] == {"drawing": {"made": "2026-11-28", "colours": ["red"]}, "at": "09:30:00"}


@attrs.frozen
class Page:
    """A part of an output, with a file."""

    text: OutputFile


@dataclasses.dataclass
class Book:
    """What an app gives out, with files in its parts."""

    pages: list[Page]


async def test_files_in_classes_are_files_too() -> None:
    """And not bytes in JSON."""
    async with calling(apps={"t/print": lambda: Book([Page(OutputFile(b"content", "f.txt", "text/plain"))])}) as caller:
        task = await run(caller, "t/print")
        (page,) = task["output"]["pages"]
        async with caller.session.get(page["text"]["uri"]) as response:
            assert await response.read() == b"content"


# -- demo apps ---------------------------------------------------------------------------------------------------------


async def test_the_picture_is_a_png() -> None:
    """That any program can read: its chunks, checksums and pixels are as they should be."""
    async with calling() as caller:
        task = await run(caller, "demo/image", {"width": 30, "height": 20})
        picture = task["output"]["image"]
        async with caller.session.get(picture["uri"]) as response:
            data = await response.read()
            assert response.content_type == picture["content_type"] == "image/png"
    assert len(data) == picture["size"]
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length]) == (zlib.crc32(kind + content),)
        chunks[kind], at = content, at + 12 + length
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (30, 20, 8, 2, 0, 0, 0)
    assert len(zlib.decompress(chunks[b"IDAT"])) == 20 * (1 + 30 * 3)
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]


# -- the wire ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", [NDJSON, SSE])
async def test_a_stream_has_bare_tasks_and_ends_with_the_task(accept: str) -> None:
    """In either format; one that is opened after the end has the end."""
    async with calling(pace=0.001) as caller:
        created = await caller.post("/apps/run", {"app": "demo/slow", "input": {"steps": 3, "seconds": 0.1}})
        assert (created["status"], created["status_text"]) == (1, "received")
        told = await lines(caller, created["id"], accept)
        assert [line["status"] for line in told] == sorted(line["status"] for line in told)
        assert told[-1]["status"] == 10
        assert all(line["id"] == created["id"] for line in told)
        again = await lines(caller, created["id"], accept)
        assert [line["status"] for line in again] == [10]
        assert [event["status"] for event in again[0]["events"]] == [1, 2, 3, 4, 7, 10]


async def test_heartbeats_are_sent_while_nothing_happens() -> None:
    """Every ``heartbeat`` seconds."""
    gate = asyncio.Event()

    async def wait() -> int:
        await gate.wait()
        return 1

    async with calling(apps={"t/wait": wait}, heartbeat=0.05) as caller:
        created = await caller.post("/apps/run", {"app": "t/wait"})
        path = f"/tasks/{created['id']}/stream"
        async with caller.session.get(path, headers={"Accept": NDJSON}) as response:
            while json.loads(await response.content.readline()) != {"type": "heartbeat"}:
                continue
            gate.set()
            rest = (await response.read()).splitlines()
        assert json.loads(rest[-1])["status"] == 10


async def test_wait_answers_with_the_end() -> None:
    """Of a task that fails with 422."""
    async with calling() as caller:
        done = await caller.post("/run", {"app": "demo/slow", "input": {"steps": 1}, "wait": True})
        assert (done["status"], done["output"]) == (10, {"steps": 1})
        body = {"app": "demo/slow", "input": {"steps": 1, "fail_at": 1}, "wait": True}
        failed = await caller.ask("POST", "/run", body, status=422)
        assert "The step 1 of 1 failed" in failed["detail"]
        assert failed["task"]["status"] == 11


async def test_stream_answers_with_a_stream() -> None:
    """On the POST itself."""
    async with calling() as caller:
        body = json.dumps({"app": "demo/slow", "input": {"steps": 2}, "stream": True})
        async with caller.session.post("/apps/run", data=body, headers={"Accept": NDJSON}) as response:
            told = [json.loads(line) for line in (await response.read()).splitlines()]
        assert told[-1]["output"] == {"steps": 2}


@pytest.mark.parametrize("envelope", ["v1", "v2", "v3"])
async def test_answers_are_in_the_envelope_of_the_runtime(envelope: Any) -> None:
    """Of each generation."""
    async with calling(envelope=envelope) as caller:
        answer = await caller.ask("POST", "/apps/run", {"app": "demo/slow"})
        task = answer if envelope == "v2" else answer["data"]
        assert task["status"] == 1


async def test_cancelling_ends_a_task_in_every_state() -> None:
    """Queued, running in a thread, running on the loop; and does nothing to one that has ended."""
    gate, running = asyncio.Event(), asyncio.Event()
    seen: list[TaskContext] = []

    async def wait(context: TaskContext) -> None:
        seen.append(context)
        running.set()
        await gate.wait()

    async with calling(apps={"t/wait": wait}, max_tasks=1) as caller:
        first = await caller.post("/apps/run", {"app": "t/wait"})
        second = await caller.post("/apps/run", {"app": "t/wait"})
        await running.wait()
        for task in (second, first):
            await caller.post(f"/tasks/{task['id']}/cancel")
            ended = await end_of(caller, task["id"])
            assert (ended["status"], ended["status_text"]) == (12, "cancelled")
        assert [context.cancelled for context in seen] == [True]
        again = await caller.post(f"/tasks/{first['id']}/cancel")
        assert again["status"] == 12
        await caller.ask("POST", "/tasks/nothing/cancel", status=404)


async def test_a_deleted_task_is_gone_and_its_stream_ends() -> None:
    """Even while it runs."""
    gate = asyncio.Event()
    async with calling(apps={"t/wait": gate.wait}) as caller:
        created = await caller.post("/apps/run", {"app": "t/wait"})
        following = asyncio.create_task(lines(caller, created["id"]))
        await opened(caller)
        await caller.ask("DELETE", f"/tasks/{created['id']}", status=204)
        await following
        await caller.ask("GET", f"/tasks/{created['id']}", status=404)


async def test_the_result_of_a_cancelled_task_is_ignored() -> None:
    """Also that of a coroutine function that catches its cancellation and returns."""
    waiting = asyncio.Event()

    async def stubborn(context: TaskContext) -> str:
        while not context.cancelled:
            waiting.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
        return "done all the same"

    async with calling(apps={"t/stubborn": stubborn}) as caller:
        created = await caller.post("/apps/run", {"app": "t/stubborn"})
        await waiting.wait()
        await caller.post(f"/tasks/{created['id']}/cancel")
        ended = await end_of(caller, created["id"])
        assert (ended["status_text"], ended["output"]) == ("cancelled", None)


async def test_an_app_that_cannot_be_stopped_does_not_keep_a_runtime_from_closing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is waited for once, and then left, with a word in the log."""
    monkeypatch.setattr(task_engine, "_CLOSE_TIMEOUT", 0.05)
    waiting, let_go = asyncio.Event(), asyncio.Event()

    async def unstoppable() -> None:
        while not let_go.is_set():
            waiting.set()
            with contextlib.suppress(asyncio.CancelledError):
                await let_go.wait()

    async with calling(apps={"t/unstoppable": unstoppable}) as caller:
        await caller.post("/apps/run", {"app": "t/unstoppable"})
        await waiting.wait()
    left = {task for task in asyncio.all_tasks() if task.get_name() == "inferencesh.local task"}
    let_go.set()
    await asyncio.wait(left)
    assert caplog.text.count("1 tasks are left") == 1


async def test_a_deleted_task_tells_its_function_so() -> None:
    """A plain function cannot be interrupted; it asks, like that of a cancelled task."""
    seen, ended = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def patient(context: TaskContext) -> None:
        loop.call_soon_threadsafe(seen.set)
        while not context.cancelled:
            time.sleep(0.01)
        loop.call_soon_threadsafe(ended.set)

    async with calling(apps={"t/patient": patient}) as caller:
        created = await caller.post("/apps/run", {"app": "t/patient"})
        await seen.wait()
        await caller.ask("DELETE", f"/tasks/{created['id']}", status=204)
        await asyncio.wait_for(ended.wait(), 5)


async def test_a_task_whose_file_is_deleted_before_it_runs_fails() -> None:
    """It does not find an empty file instead."""
    gate = asyncio.Event()

    def size(file: str, context: TaskContext) -> int:
        return len(context.files[file])

    async with calling(apps={"t/wait": gate.wait, "t/size": size}, max_tasks=1) as caller:
        file = await uploaded(caller, b"x")
        await caller.post("/apps/run", {"app": "t/wait"})
        queued = await caller.post("/apps/run", {"app": "t/size", "input": {"file": file["uri"]}})
        await caller.ask("DELETE", f"/files/{file['id']}", status=204)
        gate.set()
        assert (await end_of(caller, queued["id"]))["error"] == "The file 'a.txt' was deleted or replaced."


async def test_a_file_that_an_input_names_twice_is_deleted_once() -> None:
    """Here by two names of this machine."""
    async with calling(apps={"t/two": lambda a, b: [a, b]}) as caller:
        file = await uploaded(caller, b"x")
        task = await run(caller, "t/two", {"a": file["uri"], "b": file["uri"].replace("127.0.0.1", "localhost")})
        assert await files_of(caller, task["id"]) == [file["id"]]
        await caller.ask("DELETE", f"/tasks/{task['id']}?files=true", status=204)
        await caller.ask("GET", f"/files/{file['id']}", status=404)


async def test_what_is_read_of_a_task() -> None:
    """Its status, logs and files."""
    async with calling(apps=APPS) as caller:
        task = await run(caller, "t/file")
        task_id = task["id"]
        assert (await caller.get(f"/tasks/{task_id}/status"))["status"] == 10
        assert set(await caller.get(f"/tasks/{task_id}/logs")) == {"task_id", "status", "events", "logs"}
        files: Any = await caller.get(f"/tasks/{task_id}/files?role=output")
        assert [(each["role"], each["filename"], each["size"]) for each in files] == [
            ("output", "f.txt", 7),
            ("output", "output.bin", 5),
        ]
        assert not await caller.get(f"/tasks/{task_id}/files?role=input")
        await caller.ask("GET", f"/tasks/{task_id}/files?role=all", status=422)
        deleted = (await caller.ask("DELETE", f"/tasks/{task_id}/files"))["data"]
        assert deleted == {"deleted": [each["id"] for each in files], "skipped": []}


async def test_tasks_and_their_files_are_listed_as_filters_want() -> None:
    """Like chats; a malformed filter is refused with its place."""
    async with calling(apps=APPS) as caller:
        await run(caller, "t/odd")
        made = await run(caller, "t/file")
        for path, field, value in (
            ("/tasks/list", "status", 10),
            ("/tasks/list", "app.name", "file"),
            ("/files/list", "filename", "f.txt"),
        ):
            wanted: Json = {"filters": [{"field": field, "operator": "eq", "value": value}]}
            (found,) = (await caller.post(path, wanted))["items"]
            assert found["id"] in {made["id"], *(await files_of(caller, made["id"]))}
            wanted["filters"][0]["operator"] = "is"
            assert (await caller.ask("POST", path, wanted, status=422))["field"] == "filters[0].operator"


async def files_of(caller: Caller, task_id: str) -> list[str]:
    """The ids of a task's files."""
    files: Any = await caller.get(f"/tasks/{task_id}/files")
    return [file["id"] for file in files]


async def test_a_request_that_is_refused_leaves_nothing() -> None:
    """Neither a session nor what an observer would take for a task."""
    seen: list[object] = []
    async with calling(apps=APPS, observer=seen.append) as caller:
        body = {"app": "t/several:one", "session": "new", "wait": "yes"}
        assert (await caller.ask("POST", "/apps/run", body, status=422))["field"] == "wait"
        assert (await caller.ask("GET", "/sessions"))["data"] == []
        assert seen == []


async def test_a_task_can_be_put_off() -> None:
    """Until ``run_at``."""
    async with calling() as caller:
        body = {"app": "demo/text", "input": {"template": "x"}, "run_at": "2999-01-01T00:00:00Z"}
        created = await caller.post("/apps/run", body)
        await asyncio.sleep(0.05)
        assert (await caller.get(f"/tasks/{created['id']}"))["status"] == 1
        body["run_at"] = "2000-01-01T00:00:00Z"
        assert (await caller.post("/apps/run", {**body, "wait": True}))["status"] == 10


async def test_a_reader_that_does_not_read_costs_no_memory() -> None:
    """A newer state replaces an unread one."""

    async def flood() -> AsyncIterator[Any]:
        for number in range(300):
            yield Progress(output={"text": "x" * 100_000, "number": number})
            await asyncio.sleep(0)

    async with calling(apps={"t/flood": flood}) as caller:
        created = await caller.post("/apps/run", {"app": "t/flood"})
        told = await lines(caller, created["id"])
        assert told[-1]["output"]["number"] == 299


# -- the database ------------------------------------------------------------------------------------------------------


async def test_tasks_files_and_sessions_survive_a_restart(tmp_path: Path) -> None:
    """URIs of files have the new address, the state of a session goes on, and what was active has failed."""
    gate = asyncio.Event()
    apps = {**APPS, "t/wait": gate.wait}
    db = tmp_path / "runtime.db"
    async with calling(apps=apps, db=db) as caller:
        done = await run(caller, "t/file")
        state = {"function": "set_value", "session": "new", "session_timeout": 600}
        task = await run(caller, "infsh/session-test", {"key": "k", "value": [1]}, **state)
        active = await caller.post("/apps/run", {"app": "t/wait"})
        gone = await run(caller, "t/several:one")
        await caller.ask("DELETE", f"/tasks/{gone['id']}", status=204)
        session_id = task["session_id"]
    async with calling(apps=apps, db=db) as caller:
        again = await caller.get(f"/tasks/{done['id']}")
        assert {**again, "output": None} == {**done, "output": None}
        uri = again["output"][0]["uri"]
        assert uri.startswith(caller.runtime.base_url)
        async with caller.session.get(uri) as response:
            assert await response.read() == b"content"
        failed = await caller.get(f"/tasks/{active['id']}")
        assert failed["status"] == 11
        assert failed["error"].startswith(INTERRUPTED)
        await caller.ask("GET", f"/tasks/{gone['id']}", status=404)
        body = {"function": "get_value", "session": session_id}
        value = await run(caller, "infsh/session-test", {"key": "k"}, **body)
        assert value["output"]["value"] == [1]
        assert (await caller.get(f"/sessions/{session_id}"))["call_count"] == 2
        assert len((await caller.post("/tasks/list"))["items"]) == 4


async def test_a_task_that_was_put_off_is_run_after_a_restart(tmp_path: Path) -> None:
    """At its time, with its file and its session; without its app it has failed, and it can be cancelled."""
    apps: Any = {"t/put-off": put_off, "t/gone": lambda: 1}
    async with calling(apps=apps, db=tmp_path / "local.db") as caller:
        file = await uploaded(caller, b"hi")
        soon = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=0.5)).isoformat()
        body: Json = {"app": "t/put-off", "input": {"file": file["uri"]}, "run_at": soon, "session": "new"}
        first = await caller.post("/apps/run", body)
        gone = await caller.post("/apps/run", {"app": "t/gone", "run_at": "9999-01-01T00:00:00Z"})
        late = await caller.post("/apps/run", {**body, "run_at": "9999-01-01T00:00:00Z"})
    async with calling(apps={"t/put-off": put_off}, db=tmp_path / "local.db") as caller:
        ended = await end_of(caller, first["id"])
        assert (ended["status_text"], ended["output"], ended["run_at"]) == ("completed", [1, 2], first["run_at"])
        failed = await caller.get(f"/tasks/{gone['id']}")
        assert (failed["status_text"], failed["error"]) == ("failed", "There is no app 't/gone' in this runtime.")
        assert (await caller.get(f"/tasks/{late['id']}"))["status_text"] == "received"
        await caller.post(f"/tasks/{late['id']}/cancel")
        assert (await end_of(caller, late["id"]))["status_text"] == "cancelled"


def put_off(file: str, context: TaskContext) -> list[Any]:
    """Counts its calls, and the bytes of its file."""
    context.state["calls"] = 1 + context.state.get("calls", 0)  # type: ignore[operator]
    return [context.state["calls"], len(context.files[file])]


async def test_closing_the_runtime_ends_tasks_and_streams() -> None:
    """At once, whatever they are waiting for."""
    gate = asyncio.Event()
    async with calling(apps={"t/wait": gate.wait}) as caller:
        created = await caller.post("/apps/run", {"app": "t/wait"})
        following = asyncio.create_task(lines(caller, created["id"]))
        await opened(caller)
        await caller.runtime.aclose()
        await asyncio.wait([following], timeout=2)
        assert following.done()
        following.cancel()
        following.exception()
