"""Tracebacks: the caller's line and the callback that failed are not buried under this package's frames."""

from __future__ import annotations

import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import inferencesh
from inferencesh import APIConnectionError, NotFoundError, RunFailedError, tool
from inferencesh.local import Fail
from inferencesh.local import ToolCall as Calls
from tests.faults.forms import KEY
from tests.support import Kind

from .conftest import Connect, Serve
from .sides import Side, make_side

PACKAGE = str(Path(inferencesh.__file__).parent)
MOST = 1  # the frame that has raised


class MineError(Exception):
    """What a callback raises."""


def failing(text: str, done: bool) -> None:
    """A callback."""
    raise MineError


async def failing_slowly(text: str, done: bool) -> None:
    """An async callback."""
    raise MineError


def ours(error: BaseException) -> list[str]:
    """The frames of this package in a traceback."""
    return [frame.name for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(PACKAGE)]


def call(side: Side, use: Callable[[Any], Any]) -> None:
    """Use an agent."""
    side.result(use(side.agent()))


CALLS: list[tuple[Callable[[Any], Any], type[Exception]]] = [
    (lambda agent: agent.send_message("Hi"), RunFailedError),
    (lambda agent: agent.send_message("Hi", output_type=int), RunFailedError),
    (lambda agent: agent.run("Hi"), RunFailedError),
    (lambda agent: agent.send_message("Hi", stream=True).get_final_message(), RunFailedError),
    (lambda agent: agent.stream_messages().get_final_message(), inferencesh.InferenceError),
    (lambda agent: agent.wait(), inferencesh.InferenceError),
    (lambda agent: agent.get_chat(), inferencesh.InferenceError),
]


@pytest.mark.parametrize(("use", "error"), CALLS, ids=range(len(CALLS)))
def test_a_call_that_fails_has_one_frame_of_ours(
    serve: Serve, connect: Connect, use: Callable[[Any], Any], error: type[Exception]
) -> None:
    """Behind the line that made it."""
    side = connect(serve([Fail("no credit")]))
    with pytest.raises(error) as caught:
        call(side, use)
    assert len(ours(caught.value)) <= MOST


def test_a_loop_that_fails_has_one_frame_of_ours(serve: Serve, connect: Connect) -> None:
    """Over the snapshots of a stream."""
    side = connect(serve(["Hello", Fail("no credit")]))
    with pytest.raises(RunFailedError) as caught:
        side.snapshots(side.agent().send_message("Hi", stream=True))
    assert len(ours(caught.value)) <= MOST


def test_other_requests_that_fail_have_one_frame_of_ours(serve: Serve, connect: Connect) -> None:
    """Of the resources, and of a client that cannot connect."""
    side = connect(serve(["Hello"]))
    with pytest.raises(NotFoundError) as caught:
        side.result(side.client.chats.get("nothing"))
    assert len(ours(caught.value)) <= MOST


def test_an_unreachable_server_has_one_frame_of_ours(kind: Kind) -> None:
    """Its cause is kept, and says what the system has said."""
    with make_side(kind, api_key=KEY, base_url="http://127.0.0.1:1", max_retries=0) as side:
        with pytest.raises(APIConnectionError) as caught:
            call(side, lambda agent: agent.send_message("Hi"))
        assert len(ours(caught.value)) <= MOST
        assert "Connect" in type(caught.value.__cause__).__name__


@pytest.mark.parametrize("callback", [failing, failing_slowly])
def test_a_callback_that_fails_is_next_to_the_call(
    serve: Serve, connect: Connect, callback: Callable[..., Any]
) -> None:
    """With no frame of ours between or behind."""
    side = connect(serve(["Hello"]))
    with pytest.raises(MineError) as caught:
        call(side, lambda agent: agent.send_message("Hi", on_message=callback))
    assert ours(caught.value) == []
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == callback.__name__


def failing_about_a_call(*_: object) -> None:
    """A callback about a tool call."""
    raise MineError


def steps(expression: str) -> Iterator[int]:
    """A handler that reports its progress."""
    yield 1


@pytest.mark.parametrize("name", ["on_message", "on_tool_call", "on_approval", "on_tool_progress"])
def test_what_a_callback_raises_says_which_it_was(serve: Serve, connect: Connect, name: str) -> None:
    """In a note, once; the exception itself is the callback's."""
    calculator = tool("calculator", require_approval=name == "on_approval")(steps)
    side = connect(serve(["Let me see. ", Calls("calculator", {"expression": "1"})], ["done"]))
    with pytest.raises(MineError) as caught:
        side.result(side.client.agent(tools=[calculator]).send_message("Hi", **{name: failing_about_a_call}))
    (note,) = caught.value.__notes__
    about = "the message " if name == "on_message" else r"the call \w+ of the tool calculator"
    assert re.match(f"raised by {name}, which was called about {about}", note)


def test_the_whole_traceback_can_be_had(serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an environment variable, for those who look for an error in this package."""
    monkeypatch.setenv("INFERENCESH_FULL_TRACEBACKS", "1")
    side = connect(serve(["Hello"]))
    with pytest.raises(MineError) as caught:
        call(side, lambda agent: agent.send_message("Hi", on_message=failing))
    assert len(ours(caught.value)) > MOST


PROGRAM = """
from inferencesh import Inference

with Inference.local(pace=0) as client:
    client.chats.get("nothing")
"""


def test_what_a_script_prints_is_short(tmp_path: Path) -> None:
    """The script's line comes first, then one of ours, then the error."""
    script = tmp_path / "script.py"
    script.write_text(PROGRAM)
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=30, check=False)
    assert ended.stderr.count("Traceback (most recent call last)") == 1
    frames = [line for line in ended.stderr.splitlines() if line.strip().startswith("File ")]
    assert str(script) in frames[0]
    assert len(frames) == 1 + MOST
