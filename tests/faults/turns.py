"""One turn of either client through a scenario, and what must hold whatever the scenario is."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from inferencesh import AsyncInference, Inference, InferenceError, Message, Timeout, Tool, string, tool
from inferencesh.config import Backoff
from tests.support import Kind, eventually

from .forms import CHAT, KEY
from .script import Scenario, Script, Step

if TYPE_CHECKING:
    from .connection import Request
    from .server import FaultServer

RunTurn = Callable[["Case"], "Outcome"]
HERE = Path(__file__).parent
POST = "POST /agents/run"
STREAM = f"GET /chats/{CHAT}/stream"
TEXT = "Hello, world"
STOP = f"POST /chats/{CHAT}/stop"


@attrs.frozen
class Case(Scenario):
    """A scenario, what the caller does in it, and how it must end.

    Args:
        name: What happens.
        streams: What consecutive connections to the chat's stream get.
        text: The final text; of an error, the text of the snapshot it carries, None for no snapshot.
        raises: The error it ends with, if it does.
        status: The status of the last snapshot.
        pending: The ids of the calls that wait for the caller at the end.
        chat_id: The chat that the agent takes up, for a turn that is not the first.
        tools: The tools the agent has, by name; a value is a handler, or None for a tool without one.
        results: The results that must have been acknowledged, by call id.
        connects: How often the stream must have been opened, where that is certain.
        posts: How often the message must have been posted.
        pause: Seconds that must lie between the first two requests of the same kind.
        warns: Whether a warning must have been logged, or must not; None where either will do.
        options: Arguments of the client that differ from the tests' own.
    """

    name: str
    streams: Sequence[Script] = ()
    text: str | None = None
    raises: type[InferenceError] | None = attrs.field(default=None, kw_only=True)
    status: str = attrs.field(default="ready", kw_only=True)
    pending: Sequence[str] = attrs.field(default=(), kw_only=True)
    chat_id: str | None = attrs.field(default=None, kw_only=True)
    tools: Mapping[str, Callable[..., Any] | None] = attrs.field(factory=dict, kw_only=True)
    results: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    connects: int | None = attrs.field(default=None, kw_only=True)
    posts: int = attrs.field(default=1, kw_only=True)
    pause: float = attrs.field(default=0.0, kw_only=True)
    warns: bool | None = attrs.field(default=False, kw_only=True)
    options: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)


def told(name: str, *lines: Step, text: str | None = TEXT, **more: Any) -> Case:
    """A case with one stream, whose lines matter."""
    return Case(name, [lines], text, **more)


@attrs.define
class Outcome:
    """What a turn came to."""

    snapshots: list[Message] = attrs.field(factory=list)
    final: Message | None = None
    error: InferenceError | None = None
    tool_runs: Counter[str] = attrs.field(factory=Counter)
    requests: list[Request] = attrs.field(factory=list)
    shown: list[str] = attrs.field(factory=list)

    def seen(self, line: str) -> list[Request]:
        """The requests named ``line``."""
        return [request for request in self.requests if request.line == line]


def client_options(server: FaultServer, **changes: Any) -> dict[str, Any]:
    """Arguments for a client that meets a fault server: the defaults, made quick."""
    options = {
        "api_key": KEY,
        "base_url": server.url,
        "timeout": Timeout(connect=2, idle=0.5, total=5),
        "max_retries": 2,
        "max_reconnects": 4,
        "backoff": Backoff(initial=0.01, factor=1.0, maximum=0.01),
    }
    return options | changes


def call(kind: Kind, server: FaultServer, use: Callable[[Any], Any], **options: Any) -> Any:
    """Use either client, as one text.

    Args:
        kind: Which client.
        server: What it talks to.
        use: Gets the client and returns a call's result (to be awaited with the async client), or is a generator that
            yields one such result after the other and gets back what they come to.
        options: Arguments of the client that differ from the tests' own.
    """
    arguments = client_options(server, **options)
    if kind == "sync":
        with Inference(**arguments) as blocking:
            return _run_blocking(use(blocking))

    async def main() -> Any:
        async with AsyncInference(**arguments) as client:
            return await _run_awaiting(use(client))

    return asyncio.run(main(), debug=True)


def advance(kind: Kind, stream: Any) -> Any:
    """The next snapshot, for a generator given to ``call``."""
    return next(stream) if kind == "sync" else anext(stream)


def rest_of(kind: Kind, stream: Any) -> Generator[Any, Any, list[Message]]:
    """Every snapshot that is still to come, for a generator given to ``call``."""
    snapshots = []
    try:
        while True:
            snapshots.append((yield advance(kind, stream)))
    except (StopIteration, StopAsyncIteration):
        return snapshots


def meanwhile(kind: Kind, wait: Callable[..., object], *arguments: object) -> Any:
    """Wait for something outside of the client while its loop goes on, for a generator given to ``call``."""
    return wait(*arguments) if kind == "sync" else asyncio.to_thread(wait, *arguments)


def _run_blocking(steps: Any) -> Any:
    if not inspect.isgenerator(steps):
        return steps
    result: Any = None
    try:
        while True:
            result = steps.send(result)
    except StopIteration as end:
        return end.value


async def _run_awaiting(steps: Any) -> Any:
    if not inspect.isgenerator(steps):
        return await steps
    result: Any = None
    failure: Exception | None = None
    try:
        while True:
            awaitable = steps.throw(failure) if failure is not None else steps.send(result)
            failure = None
            try:
                result = await awaitable if inspect.isawaitable(awaitable) else awaitable
            except Exception as error:  # noqa: BLE001 - it is the generator's to handle
                failure = error
    except StopIteration as end:
        return end.value


def play(kind: Kind, case: Case, server: FaultServer) -> Outcome:
    """One turn of a new client; every connection must be closed within a second of its end."""
    outcome = Outcome()
    options = client_options(server, **case.options)
    if kind == "async":
        asyncio.run(_play_async(case, server, options, outcome), debug=True)
    else:
        _play_sync(case, server, options, outcome)
    server.wait_until_no_connections()
    outcome.requests = list(server.requests)
    return outcome


async def _play_async(case: Case, server: FaultServer, options: dict[str, Any], outcome: Outcome) -> None:
    async with AsyncInference(**options) as client:
        agent = client.agent(config(case, outcome), chat_id=case.chat_id)
        stream = agent.send_message("Hi", stream=True)
        try:
            async for snapshot in stream:
                outcome.snapshots.append(snapshot)
            outcome.final = await stream.get_final_message()
        except InferenceError as error:
            outcome.error = error
        outcome.shown = [repr(client), repr(agent), repr(stream), *shown(outcome.error)]
        await eventually(lambda: server.streams == 0, "end of the stream")


def _play_sync(case: Case, server: FaultServer, options: dict[str, Any], outcome: Outcome) -> None:
    with Inference(**options) as client:
        agent = client.agent(config(case, outcome), chat_id=case.chat_id)
        stream = agent.send_message("Hi", stream=True)
        try:
            for snapshot in stream:
                outcome.snapshots.append(snapshot)
            outcome.final = stream.get_final_message()
        except InferenceError as error:
            outcome.error = error
        outcome.shown = [repr(client), repr(agent), repr(stream), *shown(outcome.error)]
        server.wait_until_no_streams()


def config(case: Case, outcome: Outcome) -> dict[str, object]:
    """The agent of a case; what its tools run is counted."""
    return {"name": "tester", "tools": [_tool(name, handler, outcome) for name, handler in case.tools.items()]}


def _tool(name: str, handler: Callable[..., Any] | None, outcome: Outcome) -> Tool:
    builder = tool(name).describe("for the test").param("expression", string("what to work out"))
    if handler is None:
        return builder.build()

    if inspect.iscoroutinefunction(handler):

        async def counted_async(expression: str) -> Any:
            outcome.tool_runs[f"{name} {expression}"] += 1
            return await handler(expression)

        return builder.handler(counted_async).build()

    def counted(expression: str) -> Any:
        outcome.tool_runs[f"{name} {expression}"] += 1
        return handler(expression)

    return builder.handler(counted).build()


def shown(error: BaseException | None) -> list[str]:
    """Everything a program, a log or a crash reporter could print of an error."""
    if error is None:
        return []
    frames = error.__traceback__
    while frames is not None and Path(frames.tb_frame.f_code.co_filename).parent == HERE:
        frames = frames.tb_next  # the test's own frames know the key
    told = traceback.TracebackException(type(error), error, frames, capture_locals=True)
    return [repr(error), str(error), repr(error.args), repr(vars(error)), *told.format()]


# What must hold


def check(case: Case, outcome: Outcome) -> None:
    """Everything that holds for every scenario, and the end that this one names."""
    check_snapshots(outcome.snapshots)
    check_end(case, outcome)
    check_requests(case, outcome)
    assert not [text for text in outcome.shown if KEY in text], "the API key is shown"


def check_snapshots(snapshots: Sequence[Message]) -> None:
    """Each is more than the one before it of the same message, and nothing follows a final one."""
    latest: dict[str, Message] = {}
    for snapshot in snapshots:
        before = latest.get(snapshot.id)
        assert snapshot.role == "assistant"
        if before is not None:
            assert not before.done, f"{snapshot!r:.200} follows a final snapshot"
            assert attrs.evolve(snapshot, delta=before.delta) != before, f"{snapshot!r:.200} comes twice"
            assert snapshot.delta is not None, "the text was rewritten"
            assert before.text + snapshot.delta == snapshot.text
        latest[snapshot.id] = snapshot


def check_end(case: Case, outcome: Outcome) -> None:
    """The turn ended as the case says: with its text, a pause, or an error that carries the last snapshot."""
    if case.raises is None:
        if outcome.error is not None:
            raise AssertionError(f"{case.name}: raised") from outcome.error
        assert outcome.final is not None
        assert outcome.snapshots[-1] == outcome.final
        assert outcome.final.status == case.status
        assert [call.id for call in outcome.final.pending_tool_calls] == list(case.pending)
    else:
        assert outcome.error is not None, f"no {case.raises.__name__}, but {outcome.final!r:.200}"
        if not isinstance(outcome.error, case.raises):
            raise AssertionError(f"not {case.raises.__name__}") from outcome.error
        assert outcome.error.message == (outcome.snapshots[-1] if outcome.snapshots else None)
        outcome.final = outcome.error.message
    text = None if outcome.final is None else outcome.final.text
    same = text == case.text  # outside of the assert: a diff of 16 MiB helps nobody
    assert same, f"{text!r:.100}, not {case.text!r:.100}"


def check_requests(case: Case, outcome: Outcome) -> None:
    """The message was posted once, tools ran once, results arrived, and nobody stopped the run."""
    assert len(outcome.seen(POST)) == case.posts
    assert outcome.seen(STOP) == []
    assert all(request.headers.get("authorization") == f"Bearer {KEY}" for request in outcome.requests)
    if case.connects is not None:
        assert len(outcome.seen(STREAM)) == case.connects
    assert set(outcome.tool_runs.values()) <= {1}, outcome.tool_runs
    for call, result in case.results.items():
        given = {request.json["result"] for request in outcome.seen(f"POST /tools/{call}")}
        assert given == {result}
    if case.pause:
        assert longest_pause(outcome.requests) >= case.pause * 0.98  # an HTTP date is rounded


def longest_pause(requests: Sequence[Request]) -> float:
    """The longest time between the first two requests of one name."""
    times: dict[str, list[float]] = defaultdict(list)
    for request in requests:
        times[request.line].append(request.at)
    return max((at[1] - at[0] for at in times.values() if len(at) > 1), default=0.0)
