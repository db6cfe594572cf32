"""``inferencesh.testing``: scripted tasks."""

from __future__ import annotations

import pytest

from inferencesh import (
    AsyncInference,
    ConflictError,
    Inference,
    RequirementsNotMetError,
    TaskFailedError,
)
from inferencesh.local import OutputFile
from inferencesh.testing import ScriptedRuntime

pytest_plugins = ["pytester"]


def test_tasks_take_what_was_scripted_in_order(inference_runtime: ScriptedRuntime, inference_client: Inference) -> None:
    """Whatever their apps are called; what was received is kept."""
    inference_runtime.task({"n": 1}, progress=[0.5, 0.75], logs=["one", "two", "three"])
    inference_runtime.task({"n": 2})
    first = inference_client.run("any/app", {"a": 1})
    second = inference_client.run("demo/slow:other", {"b": [2]}, infra="private")
    assert (first.output, second.output) == ({"n": 1}, {"n": 2})
    assert first.log.splitlines() == ["one", "two", "three"]
    received = [(task.app, task.function, task.input) for task in inference_runtime.tasks]
    assert received == [("any/app", "run", {"a": 1}), ("demo/slow", "run", {"b": [2]})]
    assert inference_runtime.tasks[1].body["infra"] == "private"


async def test_steps_are_snapshots(inference_runtime: ScriptedRuntime, async_inference_client: AsyncInference) -> None:
    """Which a reader who is there sees one by one."""
    inference_runtime.task("done", progress=[0.25, 0.5, 0.75], pause=0.05)
    seen = [task.progress async for task in async_inference_client.tasks.run("a/b", stream=True)]
    assert [fraction for fraction in seen if fraction is not None] == [0.25, 0.5, 0.75, 1.0]


def test_tasks_can_fail_and_be_refused(inference_runtime: ScriptedRuntime, inference_client: Inference) -> None:
    """With the errors that a program has to expect."""
    inference_runtime.task(fail="out of memory", logs=["before"])
    inference_runtime.task(refuse=409)
    inference_runtime.task(errors={"prompt": "is missing"})
    with pytest.raises(TaskFailedError, match="out of memory") as raised:
        inference_client.run("a/b")
    assert raised.value.task is not None
    assert raised.value.task.log == "before"
    with pytest.raises(ConflictError):
        inference_client.run("a/b")
    with pytest.raises(RequirementsNotMetError) as refused:
        inference_client.run("a/b")
    assert [item["key"] for item in refused.value.errors] == ["prompt"]


@pytest.mark.parametrize("after", [0, 1, 3])
def test_streams_break_where_the_script_says(
    after: int, inference_runtime: ScriptedRuntime, inference_client: Inference
) -> None:
    """And nothing is lost."""
    inference_runtime.task({"ok": True}, progress=[0.2, 0.4, 0.6], drop_after=after)
    assert inference_client.run("a/b").output == {"ok": True}


def test_outputs_can_hold_files(inference_runtime: ScriptedRuntime, inference_client: Inference) -> None:
    """Which are downloaded like any other."""
    inference_runtime.task({"picture": OutputFile(b"pixels", "p.png", "image/png")})
    task = inference_client.run("a/b")
    assert inference_client.files.download(task.output["picture"]) == b"pixels"


@pytest.mark.parametrize("wrong", [{"delay": -1.0}, {"progress": [2.0]}, {"drop_after": 1}, {"refuse": 200}])
def test_scripts_that_cannot_be_meant_are_refused(wrong: dict[str, object]) -> None:
    """When they are written."""
    with ScriptedRuntime() as runtime, pytest.raises(ValueError, match=r"\w"):
        runtime.task(**wrong)  # type: ignore[arg-type]  # that is the point


def test_an_unscripted_task_fails_the_test(pytester: pytest.Pytester) -> None:
    """Even if the program hides the error."""
    pytester.makepyfile(
        """
        from inferencesh import InferenceError

        def test_hidden(inference_runtime, inference_client):
            try:
                inference_client.run("a/b", {"prompt": "a cat"})
            except InferenceError:
                pass
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*an app was run with the input*a cat*"])
