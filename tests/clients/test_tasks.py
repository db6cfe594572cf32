"""Apps and tasks with both clients, against the embedded runtime."""

from __future__ import annotations

import asyncio
import datetime
import io
import json
import re
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pydantic
import pytest

from inferencesh import (
    AsyncInference,
    ConfigurationError,
    FileError,
    FileRef,
    Inference,
    InferenceError,
    NotFoundError,
    OutputError,
    RequirementsNotMetError,
    Task,
    TaskCancelledError,
    TaskFailedError,
    TaskStatus,
)
from inferencesh.local import OutputFile, Progress, TaskContext
from tests.support import Gate

from .conftest import Connect, Serve
from .sides import Side
from .styles import STYLES, styled


@attrs.frozen
class Answer:
    """What an app gives out."""

    answer: int
    why: str = ""


def echo(input: dict[str, Any]) -> dict[str, Any]:  # noqa: A002 - takes the whole
    """Give the input out again."""
    return {"input": input}


def measure(context: TaskContext, files: list[str], note: str = "") -> dict[str, Any]:
    """Give out the contents of files."""
    contents = [context.files[uri].decode() for uri in files if uri in context.files]
    return {"contents": contents, "note": note}


def answer(question: str) -> dict[str, Any]:
    """Know the answer."""
    return {"answer": len(question)}


def make_files() -> dict[str, Any]:
    """Make two files of one name, and one that has a bad one."""
    files = [OutputFile(b"one", "a.txt", "text/plain"), OutputFile(b"two", "a.txt", "text/plain")]
    return {"files": files, "odd": OutputFile(b"three", "../../etc/passwd", "text/plain")}


class Gated:
    """An app that waits at a gate."""

    def __init__(self) -> None:
        self.gate = Gate()

    async def run(self) -> AsyncIterator[Progress]:
        """Log, wait, and give out."""
        yield Progress(0.5, "waiting")
        await self.gate.passed()
        yield Progress(output={"passed": True})


APPS: dict[str, Callable[..., Any]] = {
    "t/echo": echo,
    "t/measure": measure,
    "t/answer": answer,
    "t/files": make_files,
}


@pytest.fixture
def side(serve: Serve, connect: Connect) -> Side:
    """A client of a runtime with some apps."""
    return connect(serve(apps=APPS))


def run(side: Side, *arguments: Any, **options: Any) -> Any:
    """Run an app to its end."""
    return side.result(side.client.tasks.run(*arguments, **options))


# -- running -----------------------------------------------------------------------------------------------------------


def test_an_app_is_run_to_its_end(side: Side) -> None:
    """The task has the output, the input and its times."""
    task = run(side, "t/answer@v1", {"question": "who?"})
    assert (task.status, task.done, task.progress) == (TaskStatus.COMPLETED, True, 1.0)
    assert (task.app, task.function, task.input, task.output) == (
        "t/answer",
        "run",
        {"question": "who?"},
        {"answer": 4},
    )
    assert task.created_at.tzinfo is not None
    assert task.created_at <= task.updated_at <= datetime.datetime.now(datetime.UTC)
    assert task.duration == task.updated_at - task.created_at
    assert [event.status for event in task.events][-1] == TaskStatus.COMPLETED
    assert [event.time for event in task.events] == sorted(event.time for event in task.events)


def test_run_has_a_short_name(side: Side) -> None:
    """Also in the form of the official SDK: one mapping with everything in it."""
    params = {"app": "t/answer", "input": {"question": "a"}}
    assert side.result(side.client.run("t/answer", {"question": "a"})).output == {"answer": 1}
    assert side.result(side.client.run(params)).output == {"answer": 1}
    assert side.result(side.client.run(params, wait=False)).status != TaskStatus.COMPLETED


def test_a_stream_has_every_snapshot_and_the_result(side: Side) -> None:
    """Progress and logs grow; the last one is the result."""
    stream = side.client.tasks.run("demo/slow", {"steps": 3, "seconds": 0.2}, stream=True)
    snapshots: list[Any] = side.snapshots(stream)
    final = side.result(stream.get_final_task())
    assert snapshots[-1] == final == stream.task
    assert [task.progress or 0.0 for task in snapshots] == sorted(task.progress or 0.0 for task in snapshots)
    assert final.log.splitlines() == ["step 1 of 3", "step 2 of 3", "step 3 of 3"]
    assert stream.task_id == final.id


def test_a_task_can_be_created_without_waiting_and_followed_later(serve: Serve, connect: Connect) -> None:
    """By its id, from anywhere."""
    gated = Gated()
    side = connect(serve(apps={"t/gated": gated.run}))
    created = run(side, "t/gated", wait=False)
    assert created.status == TaskStatus.RECEIVED
    stream = side.client.tasks.stream(created.id)
    assert side.next(stream).id == created.id
    side.close(stream)
    gated.gate.open()
    assert side.result(side.client.tasks.wait(created.id)).output == {"passed": True}
    assert side.result(side.client.tasks.get(created.id)).output == {"passed": True}


def test_tasks_that_wait_have_a_place_in_the_queue(serve: Serve, connect: Connect) -> None:
    """Counted from 0, and None once they run."""
    gated = Gated()
    side = connect(serve(apps={"t/gated": gated.run}, max_tasks=1))
    first, second, third = [run(side, "t/gated", wait=False) for _ in range(3)]
    gated.gate.reached()
    positions = [side.result(side.client.tasks.get(each.id)).queue_position for each in (first, second, third)]
    assert positions == [None, 0, 1]
    gated.gate.open()
    assert side.result(side.client.tasks.wait(third.id)).queue_position is None


@pytest.mark.parametrize("style", STYLES)
def test_on_update_gets_each_snapshot(style: str, side: Side) -> None:
    """Written in any way; the final one is the last."""
    seen: list[Task] = []
    task = run(side, "demo/slow", {"steps": 2, "seconds": 0.1}, on_update=styled(style, seen.append))
    assert seen[-1] == task
    assert [each.status for each in seen] == sorted(each.status for each in seen)


def test_what_on_update_raises_reaches_the_caller(side: Side) -> None:
    """And this package's own errors get the task."""

    def on_update(task: Task) -> None:
        raise InferenceError("enough")

    with pytest.raises(InferenceError, match="enough") as raised:
        run(side, "demo/slow", {"steps": 2}, on_update=on_update)
    assert raised.value.task is not None


def test_a_callback_of_the_blocking_client_may_use_the_client(serve: Serve) -> None:
    """It runs on the thread that called."""
    seen: list[Any] = []
    with Inference(**serve(apps=APPS).address) as client:

        def on_update(task: Task) -> None:
            seen.append((threading.current_thread(), client.tasks.get(task.id).id))

        task = client.tasks.run("t/answer", {"question": ""}, on_update=on_update)
    assert set(seen) == {(threading.current_thread(), task.id)}


@pytest.mark.parametrize("callback", [5, lambda _: (yield)])
def test_callbacks_that_cannot_work_are_refused_before_anything_is_sent(callback: Any, side: Side) -> None:
    """Generator functions too, whose body would never run."""
    for name in ("on_update", "on_upload"):
        with pytest.raises(TypeError, match=name):
            side.client.tasks.run("t/echo", **{name: callback})
    assert side.result(_listed(side)) == []


def _listed(side: Side) -> Any:
    if side.kind == "sync":
        return list(side.client.tasks.list())

    async def read() -> list[Task]:
        return [task async for task in side.client.tasks.list()]

    return read()


# -- output types ------------------------------------------------------------------------------------------------------


def test_the_output_is_read_as_a_type(side: Side) -> None:
    """Returned instead of the task."""
    assert run(side, "t/answer", {"question": "12"}, output_type=Answer) == Answer(2)
    stream = side.client.tasks.run("t/answer", {"question": "12"}, output_type=dict[str, int], stream=True)
    assert side.result(stream.get_output()) == {"answer": 2}


def test_an_output_of_another_shape_raises(side: Side) -> None:
    """With the output as it came, and the task."""
    with pytest.raises(OutputError, match="the task's output is no valid") as raised:
        run(side, "t/answer", {"question": "12"}, output_type=list[int])
    assert raised.value.output == {"answer": 2}
    assert raised.value.task is not None
    assert raised.value.task.done


def test_an_output_type_without_a_schema_is_refused_at_the_call(side: Side) -> None:
    """Nothing is run."""
    with pytest.raises(ConfigurationError, match="output_type"):
        side.client.tasks.run("t/answer", {"question": ""}, output_type=threading.Lock)


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_an_unknown_app_is_not_found(side: Side) -> None:
    """And so is an unknown function."""
    for app in ("no/app", "t/echo:other"):
        with pytest.raises(NotFoundError):
            run(side, app)


def test_an_input_that_does_not_fit_names_each_field(side: Side) -> None:
    """Missing, unknown and wrong ones."""
    with pytest.raises(RequirementsNotMetError) as raised:
        run(side, "demo/slow", {"steps": "three", "fast": True})
    assert {item["key"]: item["message"] for item in raised.value.errors} == {
        "fast": "is unknown",
        "steps": "expected int, got 'three'",
    }


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        ((5,), {}, TypeError),
        (("",), {}, ConfigurationError),
        (({"input": {}},), {}, ConfigurationError),
        (({"app": "a/b", "inputs": {}},), {}, ConfigurationError),
        (({"app": "a/b", "input": {}}, {}), {}, ConfigurationError),
        (("a/b",), {"timeout": 0}, ConfigurationError),
        (("a/b",), {"timeout": float("nan")}, ConfigurationError),
        (("a/b",), {"session": "new", "session_timeout": 0}, ConfigurationError),
        (("a/b",), {"session": "new", "session_timeout": True}, ConfigurationError),
        (("a/b",), {"session_timeout": 60}, ConfigurationError),
        (("a/b",), {"run_at": datetime.datetime(2026, 1, 1)}, ConfigurationError),  # noqa: DTZ001 - that is the point
        (("a/b",), {"run_at": 5}, TypeError),
        (("a/b",), {"workers": "w1"}, TypeError),
        (("a/b", {"file": io.StringIO("text")}), {}, TypeError),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused_at_the_call(
    arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], side: Side
) -> None:
    """Before anything is awaited or sent."""
    with pytest.raises(error):
        side.client.tasks.run(*arguments, **options)


def test_an_input_that_contains_itself_is_refused(side: Side) -> None:
    """It has no end."""
    value: dict[str, Any] = {}
    value["again"] = value
    with pytest.raises(ConfigurationError, match="contains itself"):
        side.client.tasks.run("t/echo", value)


def test_a_task_that_fails_half_way_raises_with_its_last_snapshot(side: Side) -> None:
    """Progress and logs up to then included, after its snapshots were delivered."""
    stream = side.client.tasks.run("demo/slow", {"steps": 4, "fail_at": 3}, stream=True)
    with pytest.raises(TaskFailedError, match="The step 3 of 4 failed") as raised:
        side.snapshots(stream)
    task = raised.value.task
    assert task is not None
    assert (task.status, task.progress, task) == (TaskStatus.FAILED, 0.5, stream.task)
    assert task.log.splitlines()[-1] == "gave up at step 3 of 4"


def test_a_cancelled_task_raises(serve: Serve, connect: Connect) -> None:
    """For whoever waits for it; cancelling it again does nothing."""
    side = connect(serve(apps={"t/gated": Gated().run}))
    stream = side.client.tasks.run("t/gated", stream=True)
    side.next(stream)
    side.result(stream.cancel())
    with pytest.raises(TaskCancelledError) as raised:
        side.result(stream.get_final_task())
    assert raised.value.task is not None
    assert raised.value.task.status == TaskStatus.CANCELLED
    side.result(side.client.tasks.cancel(raised.value.task.id))


def test_the_end_of_an_asyncio_task_does_not_cancel_the_task_at_the_server(serve: Serve) -> None:
    """Only ``cancel`` does."""
    gated = Gated()
    served = serve(apps={"t/gated": gated.run})

    async def main() -> None:
        async with AsyncInference(**served.address) as client:
            waiting = asyncio.create_task(client.tasks.run("t/gated"))
            await gated.gate.someone_there()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            gated.gate.open()
            (task,) = [task async for task in client.tasks.list()]
            assert (await client.tasks.wait(task.id)).output == {"passed": True}

    asyncio.run(main(), debug=True)


# -- the list ----------------------------------------------------------------------------------------------------------


def test_tasks_are_listed_and_deleted(side: Side) -> None:
    """The newest first, over several pages."""
    ids = [run(side, "t/echo", {"n": n}).id for n in range(5)]
    listed = side.result(_pages(side, 2))
    assert [task.id for task in listed] == ids[::-1]
    side.result(side.client.tasks.delete(ids[0]))
    with pytest.raises(NotFoundError):
        side.result(side.client.tasks.get(ids[0]))
    with pytest.raises(NotFoundError):
        side.result(side.client.tasks.delete(ids[0]))


def _pages(side: Side, size: int) -> Any:
    if side.kind == "sync":
        return list(side.client.tasks.list(page_size=size))

    async def read() -> list[Task]:
        return [task async for task in side.client.tasks.list(page_size=size)]

    return read()


# -- files -------------------------------------------------------------------------------------------------------------


@attrs.frozen
class Letter:
    """An input with a file in it."""

    files: list[Any]
    note: str = "attrs"


def test_files_in_the_input_are_uploaded(side: Side, tmp_path: Path) -> None:
    """Paths, bytes and file objects, at any depth; a text stays a text even if it is the name of a file."""
    path = tmp_path / "letter.txt"
    path.write_text("from a path")
    known = side.result(side.client.files.upload(b"known before", filename="k.txt"))
    files = [path, b"bytes", io.BytesIO(b"a file object"), known, bytearray(b"an array")]
    task = run(side, "t/measure", {"files": files, "note": str(path)})
    assert task.output == {
        "contents": ["from a path", "bytes", "a file object", "known before", "an array"],
        "note": str(path),
    }
    named = side.result(side.client.tasks.files(task.id, role="input"))
    assert [file.filename for file in named][:1] == ["letter.txt"]
    assert {file.role for file in named} == {"input"}
    assert run(side, "t/measure", Letter([b"x"])).output == {"contents": ["x"], "note": "attrs"}


class Parcel(pydantic.BaseModel):
    """A model with a file in it."""

    content: Path = pydantic.Field(serialization_alias="theContent")
    day: datetime.date = datetime.date(2026, 1, 2)


class Crate(msgspec.Struct, tag="crate"):
    """A struct with a file in it."""

    content: Path


def parcels(path: Path) -> list[Any]:
    """Files in all kinds of objects, each beside what the app is to be given in its place."""
    return [
        (Parcel(content=path), {"theContent": "URI", "day": "2026-01-02"}),
        (pydantic.RootModel[list[Path]]([path]), ["URI"]),
        (Crate(path), {"type": "crate", "content": "URI"}),
        ({path}, ["URI"]),
        (deque([path]), ["URI"]),
    ]


def test_files_in_objects_of_all_kinds_are_uploaded(side: Side, tmp_path: Path) -> None:
    """Their paths on this machine are not sent in their place."""
    path = tmp_path / "letter.txt"
    path.write_text("from a path")
    for value, expected in parcels(path):
        sent = json.dumps(run(side, "t/echo", {"value": value}).output["input"]["value"])
        assert json.loads(re.sub(r'"http[^"]*"', '"URI"', sent)) == expected


def test_the_callers_input_is_not_changed(side: Side) -> None:
    """The URIs stand in a copy."""
    value = {"files": [b"x"], "note": "n"}
    run(side, "t/measure", value)
    assert value == {"files": [b"x"], "note": "n"}


def test_uploads_tell_their_progress(side: Side) -> None:
    """Of all files together, and never less than before."""
    told: list[tuple[int, int]] = []
    size = 600_000
    run(side, "t/measure", {"files": [b"a" * size, b"b" * size]}, on_upload=lambda *sent: told.append(sent))
    assert told[0][0] == 0
    assert told[-1] == (2 * size, 2 * size)
    assert told == sorted(told)
    assert {total for _, total in told} == {2 * size}


def test_a_file_that_cannot_be_read_means_no_task(side: Side, tmp_path: Path) -> None:
    """Nothing is created."""
    with pytest.raises(FileError):
        run(side, "t/measure", {"files": [tmp_path / "missing"]})
    assert side.result(_listed(side)) == []


def test_an_upload_that_is_refused_means_no_task(serve: Serve, connect: Connect) -> None:
    """The file is larger than the server takes."""
    side = connect(serve(apps=APPS, max_file_bytes=10))
    with pytest.raises(InferenceError, match="10 bytes"):
        run(side, "t/measure", {"files": [b"eleven bytes"]})
    assert side.result(_listed(side)) == []


def test_a_file_that_was_deleted_is_refused_as_input(side: Side) -> None:
    """412, with the place."""
    made = run(side, "t/files")
    uri = made.output["files"][0]["uri"]
    side.result(side.client.tasks.delete_files(made.id))
    with pytest.raises(RequirementsNotMetError) as raised:
        run(side, "t/measure", {"files": [uri]})
    assert [item["key"] for item in raised.value.errors] == ["files[0]"]


def test_output_files_are_downloaded(side: Side, tmp_path: Path) -> None:
    """To memory, to a path, to a directory; under names that are safe and of which each is there once."""
    task = run(side, "t/files")
    first = task.output["files"][0]
    assert side.result(side.client.files.download(first)) == b"one"
    assert side.result(side.client.files.download(first["uri"])) == b"one"
    assert side.result(side.client.files.download(first, tmp_path / "x.txt")) == tmp_path / "x.txt"
    assert side.result(side.client.files.download(first, str(tmp_path))) == tmp_path / "a.txt"
    told: list[tuple[int, int]] = []
    paths = side.result(side.client.tasks.download(task.id, tmp_path / "all", on_progress=lambda *x: told.append(x)))
    assert {path.name: path.read_bytes() for path in paths} == {
        "a.txt": b"one",
        "a (2).txt": b"two",
        "passwd": b"three",
    }
    assert {path.parent for path in paths} == {tmp_path / "all"}
    assert told[-1] == (11, 11)
    assert told == sorted(told)


def test_an_output_file_that_has_vanished_is_not_found(side: Side, tmp_path: Path) -> None:
    """And nothing is left on disk."""
    task = run(side, "t/files")
    done = side.result(side.client.tasks.delete_files(task.id, role="output"))
    assert (len(done.deleted), done.skipped) == (3, {})
    assert side.result(side.client.tasks.files(task.id)) == []
    with pytest.raises(NotFoundError):
        side.result(side.client.files.download(task.output["odd"], tmp_path / "x"))
    assert list(tmp_path.iterdir()) == []


def test_a_task_can_be_deleted_with_its_files(side: Side) -> None:
    """Or without them."""
    kept, gone = run(side, "t/files"), run(side, "t/files")
    side.result(side.client.tasks.delete(kept.id))
    side.result(side.client.tasks.delete(gone.id, files=True))
    assert side.result(side.client.files.download(kept.output["odd"])) == b"three"
    with pytest.raises(NotFoundError):
        side.result(side.client.files.download(gone.output["odd"]))


@pytest.mark.parametrize("file", [5, None, FileRef(id="f1"), {"name": "x"}, ""])
def test_what_is_no_file_is_not_downloaded(file: Any, side: Side) -> None:
    """Refused before anything is sent."""
    with pytest.raises((TypeError, ConfigurationError)):
        side.result(side.client.files.download(file))


def test_a_role_that_there_is_not_is_refused(side: Side) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigurationError, match="role"):
        side.result(side.client.tasks.files("t", role="both"))


def test_a_download_that_cannot_be_written_says_so(side: Side, tmp_path: Path) -> None:
    """As an OSError of this package."""
    task = run(side, "t/files")
    with pytest.raises(FileError, match="cannot be written") as raised:
        side.result(side.client.files.download(task.output["odd"], tmp_path / "no" / "such" / "place"))
    assert isinstance(raised.value, OSError)


def test_tasks_of_one_client_run_at_the_same_time(serve: Serve) -> None:
    """Each with its own stream."""
    gated = Gated()
    served = serve(apps={"t/gated": gated.run}, max_tasks=20)

    async def main() -> None:
        async with AsyncInference(**served.address) as client:
            waiting = [asyncio.create_task(client.tasks.run("t/gated")) for _ in range(20)]
            await gated.gate.someone_there()
            gated.gate.open()
            tasks = await asyncio.gather(*waiting)
        assert len({task.id for task in tasks}) == 20
        assert all(task.output == {"passed": True} for task in tasks)

    asyncio.run(main(), debug=True)


def test_a_task_is_a_value(side: Side) -> None:
    """Immutable, and changing its JSON changes nothing."""
    task = run(side, "t/echo", {"list": [1]})
    task.output["input"]["list"].append(2)
    assert task.output == {"input": {"list": [1]}}
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        task.status = TaskStatus.FAILED
    assert task.raw["id"] == task.id
