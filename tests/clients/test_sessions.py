"""Sessions of apps with both clients: kept alive while they are in use, ended by whatever way they are left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from inferencesh import (
    AsyncInference,
    ConfigurationError,
    ConflictError,
    Inference,
    InferenceError,
    NotFoundError,
    SessionExpiredError,
    SessionStatus,
    TaskFailedError,
    WorkerLostError,
)
from tests.faults.connection import Request
from tests.faults.forms import task_of
from tests.faults.script import Reply, Scenario, refuse
from tests.faults.server import FaultServer
from tests.faults.turns import client_options
from tests.support import Served, wait_until

from .conftest import Connect, Serve
from .sides import Side

APP = "infsh/session-test"


@pytest.fixture
def served(serve: Serve) -> Served:
    """A runtime with its demo apps."""
    return serve()


@pytest.fixture
def side(served: Served, connect: Connect) -> Side:
    """A client of it."""
    return connect(served)


def status(side: Side, session_id: str) -> SessionStatus:
    """The status of a session at the server."""
    found: SessionStatus = side.result(side.client.sessions.get(session_id)).status
    return found


def in_session(side: Side, use: Any, **options: Any) -> Any:
    """Enter a session, and use it; ``use`` gets the session and a function that runs the app in it."""
    session = side.client.session(APP, **options)
    if side.kind == "sync":
        with session:
            return use(session, session.run)

    async def enter() -> Any:
        async with session:
            return await _steps(use, session)

    return side.result(enter())


async def _steps(use: Any, session: Any) -> Any:
    """Run blocking-looking code that uses an async session, in a thread, on the present loop."""
    loop = asyncio.get_running_loop()

    def blocking(*arguments: Any, **options: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(session.run(*arguments, **options), loop).result(5)

    return await asyncio.to_thread(use, session, blocking)


def test_a_session_keeps_the_state_between_runs(side: Side) -> None:
    """The first run creates it, and leaving ends it."""

    def use(session: Any, run: Any) -> str:
        first = run({"key": "k", "value": [1]}, function="set_value")
        assert first.session_id == session.id
        assert run({"key": "k"}, function="get_value").output["value"] == [1]
        assert run({"key": "n", "amount": 5}, function="increment").output["current"] == 5
        assert run({}, function="get_all").output == {"state": {"k": [1], "n": 5}}
        session_id: str = session.id
        return session_id

    session_id = in_session(side, use)
    ended = side.result(side.client.sessions.get(session_id))
    assert (ended.status, ended.call_count) == (SessionStatus.ENDED, 4)
    assert ended.ended_at is not None


def test_sessions_do_not_share_their_state(side: Side) -> None:
    """Each has its own."""
    first = side.result(side.client.run(APP, {"key": "a", "value": 1}, function="set_value", session="new"))
    second = side.result(side.client.run(APP, {"key": "a"}, function="get_value", session="new"))
    assert first.session_id != second.session_id
    assert second.output["found"] is False
    listed = side.result(side.client.sessions.list())
    assert {session.id for session in listed} == {first.session_id, second.session_id}


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_error_ends_the_session_too(error: type[BaseException], served: Served) -> None:
    """Whatever leaves the block."""
    ids: list[Any] = []

    def block(client: Inference) -> None:
        with client.session(APP) as session:
            session.run(function="get_all")
            ids.append(session.id)
            raise error

    async def main() -> None:
        async with AsyncInference(**served.address) as client, client.session(APP) as session:
            await session.run(function="get_all")
            ids.append(session.id)
            raise error

    with Inference(**served.address) as client:
        with pytest.raises(error):
            block(client)
        with pytest.raises(error):
            asyncio.run(main())
        assert [client.sessions.get(each).status for each in ids] == ["ended", "ended"]


def test_a_cancelled_task_ends_its_session(served: Served) -> None:
    """Before the cancellation reaches the caller."""
    ids: list[Any] = []

    async def block(client: AsyncInference) -> None:
        async with client.session(APP) as session:
            await session.run(function="get_all")
            ids.append(session.id)
            await asyncio.sleep(60)

    async def main() -> None:
        async with AsyncInference(**served.address) as client:
            task = asyncio.create_task(block(client))
            await asyncio.to_thread(wait_until, lambda: ids, "a session")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await client.sessions.get(ids[0])).status == "ended"

    asyncio.run(main(), debug=True)


def test_a_generator_that_is_left_ends_its_session(served: Served) -> None:
    """As when a web framework drops a streaming response."""

    async def states(client: AsyncInference) -> AsyncIterator[str | None]:
        async with client.session(APP) as session:
            while True:
                await session.run(function="get_all")
                yield session.id

    async def main() -> None:
        async with AsyncInference(**served.address) as client:
            generator = states(client)
            session_id = await anext(generator)
            await generator.aclose()  # type: ignore[attr-defined]  # it is a generator
            assert session_id is not None
            assert (await client.sessions.get(session_id)).status == "ended"

    asyncio.run(main(), debug=True)


def test_a_session_that_was_not_used_sends_nothing(side: Side, served: Served) -> None:
    """There is nothing to end."""
    assert in_session(side, lambda session, _: session.id) is None
    assert side.result(side.client.sessions.list()) == []


def test_an_ended_session_refuses_runs(side: Side) -> None:
    """The object itself, and the server."""
    session = side.client.session(APP)
    task = side.result(session.run(function="get_all"))
    side.result(session.end())
    side.result(session.end())
    with pytest.raises(InferenceError, match="was ended"):
        side.result(session.run(function="get_all"))
    with pytest.raises(SessionExpiredError) as raised:
        side.result(side.client.run(APP, function="get_all", session=task.session_id))
    assert raised.value.code == "SESSION_ENDED"


def test_an_expired_session_raises(side: Side) -> None:
    """Once it was not used for its timeout."""
    task = side.result(side.client.run(APP, function="get_all", session="new", session_timeout=1))
    deadline = time.monotonic() + 5
    while status(side, task.session_id) != SessionStatus.EXPIRED:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(SessionExpiredError) as raised:
        side.result(side.client.run(APP, function="get_all", session=task.session_id))
    assert raised.value.code == "SESSION_EXPIRED"
    with pytest.raises(SessionExpiredError):
        side.result(side.client.sessions.keepalive(task.session_id))


def test_an_unknown_session_is_not_found(side: Side) -> None:
    """For every method, and for runs."""
    sessions = side.client.sessions
    for call in (sessions.get, sessions.keepalive, sessions.end):
        with pytest.raises(NotFoundError):
            side.result(call("no-such-session"))
    with pytest.raises(NotFoundError):
        side.result(side.client.run(APP, session="no-such-session"))


def test_a_session_of_another_app_conflicts(side: Side) -> None:
    """It keeps the state of one app."""
    task = side.result(side.client.run(APP, function="get_all", session="new"))
    with pytest.raises(ConflictError) as raised:
        side.result(side.client.run("demo/text", {"template": ""}, session=task.session_id))
    assert raised.value.code == "APP_MISMATCH"


def test_a_failed_run_leaves_the_session_as_it_was(side: Side) -> None:
    """It can go on being used."""

    def use(session: Any, run: Any) -> Any:
        run({"key": "a", "value": "text"}, function="set_value")
        with pytest.raises(TaskFailedError, match="is no number"):
            run({"key": "a"}, function="increment")
        return run({"key": "a"}, function="get_value").output["value"]

    assert in_session(side, use) == "text"


def test_a_session_is_kept_alive_while_it_is_in_use(side: Side) -> None:
    """Longer than its idle timeout, of which it is a fraction that the calls are apart."""

    def use(session: Any, run: Any) -> Any:
        run({"key": "a", "value": 1}, function="set_value")
        time.sleep(1.6)  # longer than the session lives without being used
        return run({"key": "a"}, function="get_value").output["value"]

    assert in_session(side, use, session_timeout=1) == 1


def test_a_session_object_outside_of_a_block_is_not_kept_alive(side: Side) -> None:
    """But can be by hand, and is ended by hand."""
    session = side.client.session(APP)
    with pytest.raises(InferenceError, match="first run creates it"):
        side.result(session.keepalive())
    side.result(session.run(function="get_all"))
    before = side.result(session.get())
    after = side.result(session.keepalive())
    assert after.expires_at >= before.expires_at
    side.result(session.end())


@pytest.mark.parametrize("timeout", [0, 3601, 1.5, True])
def test_a_timeout_that_cannot_be_is_refused(timeout: Any, side: Side) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigurationError):
        side.client.session(APP, session_timeout=timeout)


def test_runs_at_the_same_time_share_the_session_that_the_first_creates(served: Served) -> None:
    """The others wait until it is known."""

    async def main() -> None:
        async with AsyncInference(**served.address) as client, client.session(APP) as session:
            runs = [session.run({"key": "n"}, function="increment") for _ in range(5)]
            tasks = await asyncio.gather(*runs)
            assert {task.session_id for task in tasks} == {session.id}
            assert sorted(task.output["current"] for task in tasks) == [1, 2, 3, 4, 5]

    asyncio.run(main(), debug=True)


def test_a_session_can_be_streamed_in_and_only_entered_once(side: Side) -> None:
    """The stream is like that of any task."""
    session = side.client.session("demo/slow")
    stream = session.run({"steps": 2}, stream=True)
    assert str(side.snapshots(stream)[-1].status) == "completed"
    assert side.result(session.run({"steps": 2}, output_type=dict[str, int])) == {"steps": 2}
    side.result(session.end())


# -- what a server may do ----------------------------------------------------------------------------------------------

SESSION = "s1"
RUNNING = task_of(1, session_id=SESSION)
DONE = task_of(10, session_id=SESSION, output={})
END = f"DELETE /sessions/{SESSION}"


def with_server(kind: str, scenario: Scenario, **options: Any) -> tuple[list[str], BaseException | None]:
    """Run twice in a session of either client; return the requests, and what was raised."""
    error: BaseException | None = None
    with FaultServer(scenario) as server:

        def blocking() -> None:
            with Inference(**client_options(server, **options)) as client, client.session("a/b") as session:
                session.run()
                session.run()

        async def main() -> None:
            async with AsyncInference(**client_options(server, **options)) as client, client.session("a/b") as session:
                await session.run()
                await session.run()

        try:
            blocking() if kind == "sync" else asyncio.run(main(), debug=True)
        except InferenceError as failure:
            error = failure
        return [_line(request) for request in server.requests], error


def _line(request: Request) -> str:
    """A request with the session that it names, if any."""
    return f"{request.line} {request.json.get('session', '') if request.body else ''}".strip()


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_the_session_is_on_the_wire_as_it_should_be(kind: str) -> None:
    """``new`` first, then its id, and its end."""
    lines, error = with_server(kind, Scenario(runs=[(Reply(RUNNING),)], streams=[(DONE,)]))
    assert error is None
    assert [line for line in lines if "/apps/run" in line] == ["POST /apps/run new", f"POST /apps/run {SESSION}"]
    assert lines[-1] == END


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_an_id_that_comes_late_is_used(kind: str) -> None:
    """Only the end of the first task says which session it was."""
    lines, error = with_server(kind, Scenario(runs=[(Reply(task_of(1)),)], streams=[(DONE,)]))
    assert error is None
    assert f"POST /apps/run {SESSION}" in lines
    assert END in lines


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_lost_worker_raises(kind: str) -> None:
    """And the session is ended all the same."""
    runs = [(Reply(RUNNING),), refuse(500, "WORKER_LOST")]
    lines, error = with_server(kind, Scenario(runs=runs, streams=[(DONE,)]))
    assert isinstance(error, WorkerLostError)
    assert END in lines


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize("answer", [refuse(404, "SESSION_NOT_FOUND"), refuse(410, "SESSION_EXPIRED")])
def test_a_session_that_is_gone_at_its_end_is_no_error(answer: Any, kind: str) -> None:
    """It was to be gone."""
    _, error = with_server(kind, Scenario(runs=[(Reply(RUNNING),)], streams=[(DONE,)], answers={END: [answer]}))
    assert error is None


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_session_that_cannot_be_ended_says_so(kind: str) -> None:
    """Unless the block has raised something else."""
    refused = {END: [refuse(403, "forbidden")]}
    _, error = with_server(kind, Scenario(runs=[(Reply(RUNNING),)], streams=[(DONE,)], answers=refused))
    assert error is not None
    assert getattr(error, "status_code", None) == 403
    runs = [(Reply(RUNNING),), refuse(402, "payment_required")]
    _, error = with_server(kind, Scenario(runs=runs, streams=[(DONE,)], answers=refused))
    assert getattr(error, "status_code", None) == 402


def test_a_session_that_expires_while_it_is_kept_alive_tells_the_next_run() -> None:
    """Without another request."""
    alive = f"POST /sessions/{SESSION}/keepalive"
    scenario = Scenario(runs=[(Reply(RUNNING),)], streams=[(DONE,)], answers={alive: [refuse(410, "SESSION_EXPIRED")]})
    with FaultServer(scenario) as server:

        async def main() -> None:
            options = client_options(server)
            async with AsyncInference(**options) as client, client.session("a/b", session_timeout=1) as session:
                await session.run()
                await asyncio.to_thread(server.wait_for_request, alive)

                async def run_on() -> None:
                    while True:
                        await session.run()

                with pytest.raises(SessionExpiredError):
                    await run_on()

        asyncio.run(main(), debug=True)
        wait_until(lambda: server.seen(END), "the end of the session", 2)
