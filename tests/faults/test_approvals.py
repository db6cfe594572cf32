"""A call that needs a person's approval: asked about once, never approved by itself, and then run once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import attrs
import pytest

from inferencesh import (
    ConfigurationError,
    ConflictError,
    InputRequiredError,
    Message,
    PermissionDeniedError,
    ToolCall,
    string,
    tool,
)
from tests.support import Kind

from .forms import (
    CALL,
    CHAT,
    Json,
    accepted_of,
    asked,
    call_of,
    chat,
    chat_of,
    message,
    message_of,
    page_of,
    run,
    run_of,
)
from .script import CUT, EOF, RST, Reply, Scenario, Script, after, bytewise, hold, refuse, together
from .server import FaultServer
from .turns import call, rest_of

INVOKE = f"POST /tools/{CALL}/invoke"
REJECT = f"POST /tools/{CALL}/reject"
RESULT = f"POST /tools/{CALL}"
TEXT = "It is 714."
SIGN_IN = refuse(403, "requires_sign_in", "Sign in to approve tools.")
ALREADY = refuse(409, "already_processed")
OK: Script = (Reply({}),)

BUSY = chat("working")
PAUSED = chat("input_required")
READY = message(TEXT, "ready", id="reply2", order=14)
DONE = chat("completed")


def says(status: str, kind: str = "client", **more: Any) -> Json:
    """The message whose call has got as far as this."""
    return message("Let me see.", calls=[call_of(status, type=kind, **more)])


WAITS = says("awaiting_approval")
ASKS = says("awaiting_input")
STALE = (PAUSED, WAITS, run("input_required"))
RUN_HERE: Script = (ASKS, PAUSED, after(RESULT), BUSY, says("completed"), READY, DONE)
RUN_THERE: Script = (BUSY, says("in_progress", "app"), says("completed", "app"), READY, DONE)
REJECTED: Script = (BUSY, says("cancelled"), READY, DONE)

HAPPENINGS: dict[str, Sequence[Script]] = {
    "plain": [(BUSY, WAITS, PAUSED, after(INVOKE), *RUN_HERE)],
    "the pause first": [(BUSY, PAUSED, WAITS, after(INVOKE), *RUN_HERE)],
    "no word about the run": [(WAITS, after(INVOKE), ASKS, after(RESULT), READY, DONE)],
    "in a message that is ready": [
        (
            BUSY,
            message("Let me see.", "ready", calls=[call_of("awaiting_approval")]),
            PAUSED,
            after(INVOKE),
            message("Let me see.", "ready", calls=[call_of()]),
            after(RESULT),
            READY,
            DONE,
        )
    ],
    "told five times": [(BUSY, *[WAITS, PAUSED] * 5, after(INVOKE), *STALE * 3, *RUN_HERE)],
    "stale behind the approval": [(BUSY, WAITS, PAUSED, after(INVOKE), *STALE, BUSY, WAITS, *RUN_HERE)],
    "stale behind the result": [
        (BUSY, WAITS, PAUSED, after(INVOKE), ASKS, PAUSED, after(RESULT), *STALE, ASKS, *STALE, BUSY, READY, DONE)
    ],
    "split at every byte": [(bytewise(WAITS), bytewise(PAUSED), after(INVOKE), *RUN_HERE)],
    "a drop before the answer": [(BUSY, WAITS, CUT), (*STALE, after(INVOKE), *RUN_HERE)],
    "a drop behind the answer": [(BUSY, WAITS, PAUSED, after(INVOKE), RST), (*STALE, BUSY, *RUN_HERE)],
    "an end of the stream": [(BUSY, WAITS, PAUSED, after(INVOKE), EOF), (*STALE, BUSY, *RUN_HERE)],
    "no approval seen again": [(BUSY, WAITS, PAUSED, after(INVOKE), BUSY, *RUN_HERE)],
}


@attrs.define
class Record:
    """What became of a tool on this side."""

    events: list[str] = attrs.field(factory=list)
    threads: set[int] = attrs.field(factory=set)

    def agent(self, client: Any, **options: Any) -> Any:
        """An agent with the tool."""

        def calculator(expression: str) -> str:
            self.events.append(f"run {expression}")
            return "714"

        built = tool("calculator").param("expression", string()).require_approval().handler(calculator).build()
        return client.agent({"name": "tester", "tools": [built]}, **options)

    def answers(self, *answers: object) -> Callable[[ToolCall], object]:
        """An ``on_approval`` that gives these answers, one after the other, and raises those that are errors."""
        given = iter(answers)

        def on_approval(tool_call: ToolCall) -> object:
            self.events.append(f"ask {tool_call.id}")
            self.threads.add(threading.get_ident())
            answer = next(given)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return on_approval

    def on_tool_call(self, tool_call: ToolCall) -> None:
        """Note when the call is told."""
        self.events.append(f"told {tool_call.status}")


@pytest.fixture
def record() -> Record:
    """A fresh one."""
    return Record()


def serving(*streams: Script, **answers: Sequence[Script]) -> FaultServer:
    """A server with these streams; ``invoke``, ``reject`` and ``result`` are the answers to the posts."""
    lines = {"invoke": INVOKE, "reject": REJECT, "result": RESULT}
    return FaultServer(Scenario(streams=streams, answers={lines[name]: given for name, given in answers.items()}))


def posts(server: FaultServer) -> list[tuple[str, Any]]:
    """What was posted about tools."""
    made = [request for request in server.requests if request.path.startswith("/tools/")]
    return [(request.path.removeprefix("/tools/"), request.json if request.body else None) for request in made]


# -- asked in the course of a turn


@pytest.mark.parametrize("name", HAPPENINGS)
def test_an_approved_call_is_asked_about_once_and_run_once(name: str, kind: Kind, record: Record) -> None:
    """However often it is told: first the question, then, when the server wants the result, callback and handler."""
    with serving(*HAPPENINGS[name]) as server:

        def turn(client: Any) -> Any:
            ask = record.answers(True)
            return record.agent(client).send_message("Hi", on_approval=ask, on_tool_call=record.on_tool_call)

        reply = call(kind, server, turn)
        assert (reply.text, reply.status) == (TEXT, "ready")
        assert posts(server) == [(f"{CALL}/invoke", None), (CALL, {"result": "714"})]
    assert record.events == [f"ask {CALL}", "told awaiting_input", "run 42 * 17"]


@pytest.mark.parametrize("stale", [(), STALE, (*STALE, BUSY, *STALE)], ids=["none", "once", "twice"])
def test_the_server_runs_an_approved_call_of_its_own(stale: Script, kind: Kind, record: Record) -> None:
    """The turn goes on, and is not taken for paused by what was said before the approval."""
    old = [says("awaiting_approval", "app") if step is WAITS else step for step in stale]
    with serving((BUSY, says("awaiting_approval", "app"), PAUSED, after(INVOKE), *old, *RUN_THERE)) as server:

        def turn(client: Any) -> Any:
            return record.agent(client).send_message("Hi", on_approval=record.answers(True))

        reply = call(kind, server, turn)
        assert (reply.text, reply.status) == (TEXT, "ready")
        assert posts(server) == [(f"{CALL}/invoke", None)]
    assert record.events == [f"ask {CALL}"]


@pytest.mark.parametrize(("answer", "reason"), [(False, ""), ("Too costly.", "Too costly."), ("", "")])
def test_a_rejected_call_is_not_run(answer: object, reason: str, kind: Kind, record: Record) -> None:
    """The agent reads the reason and goes on without it."""
    with serving((BUSY, WAITS, PAUSED, after(REJECT), *STALE, *REJECTED)) as server:

        def turn(client: Any) -> Any:
            return record.agent(client).send_message("Hi", on_approval=record.answers(answer))

        assert call(kind, server, turn).text == TEXT
        assert posts(server) == [(f"{CALL}/reject", {"reason": reason})]
    assert record.events == [f"ask {CALL}"]


@pytest.mark.parametrize("asked", [True, False], ids=["left alone", "nobody to ask"])
def test_a_call_that_nobody_decides_about_pauses_the_turn(asked: bool, kind: Kind, record: Record) -> None:
    """The message has it in pending_approvals, and nothing is posted."""
    with serving((BUSY, WAITS, PAUSED)) as server:

        def turn(client: Any) -> Any:
            return record.agent(client).send_message("Hi", on_approval=record.answers(None) if asked else None)

        reply = call(kind, server, turn)
        assert [each.id for each in reply.pending_approvals] == [CALL]
        assert reply.pending_approvals[0].arguments == {"expression": "42 * 17"}
        assert reply.pending_tool_calls == ()
        assert posts(server) == []
        server.wait_until_no_connections()
    assert record.events == ([f"ask {CALL}"] if asked else [])


@pytest.mark.parametrize("answer", [1, 0, [], object(), b"no"], ids=lambda value: type(value).__name__)
def test_an_answer_that_is_none_approves_nothing(answer: object, kind: Kind, record: Record) -> None:
    """Only True approves; what is merely truthy is an error that reaches the caller."""
    with serving((BUSY, WAITS, PAUSED)) as server:

        def turn(client: Any) -> Any:
            return record.agent(client).send_message("Hi", on_approval=record.answers(answer))

        with pytest.raises(TypeError, match="True to approve"):
            call(kind, server, turn)
        assert posts(server) == []


def test_what_the_callback_raises_reaches_the_caller(kind: Kind, record: Record) -> None:
    """Nothing is approved; the turn can be taken up, and the calls nobody was asked about are asked about then."""
    both = message("Both.", calls=[call_of("awaiting_approval"), call_of("awaiting_approval", id="call2")])
    with serving((BUSY, both, PAUSED)) as server:

        def turn(client: Any) -> Generator[Any, Any, Message]:
            agent = record.agent(client)
            with pytest.raises(ZeroDivisionError):
                yield agent.send_message("Hi", on_approval=record.answers(ZeroDivisionError(), True))
            assert record.events == [f"ask {CALL}"], "nobody is asked behind an error"
            stream = agent.stream_messages(on_approval=record.answers(None))
            return (yield stream.get_final_message())  # type: ignore[no-any-return]  # of either client

        reply = call(kind, server, turn)
        assert [each.id for each in reply.pending_approvals] == [CALL, "call2"]
        assert record.events == [f"ask {CALL}", "ask call2"]
        assert posts(server) == []


def test_a_sync_callback_runs_where_it_may_block(kind: Kind, record: Record) -> None:
    """On the caller's own thread in the blocking client, in a worker thread beside the loop otherwise."""
    with serving((BUSY, WAITS, PAUSED)) as server:

        def turn(client: Any) -> Any:
            return record.agent(client).send_message("Hi", on_approval=record.answers(None))

        call(kind, server, turn)
    assert (record.threads == {threading.get_ident()}) == (kind == "sync")


def test_an_async_callback_is_awaited(kind: Kind, record: Record) -> None:
    """In both clients."""

    async def on_approval(tool_call: ToolCall) -> bool:
        record.events.append(f"ask {tool_call.id}")
        return tool_call.arguments == {"expression": "42 * 17"}

    with serving(*HAPPENINGS["plain"]) as server:
        reply = call(kind, server, lambda client: record.agent(client).send_message("Hi", on_approval=on_approval))
        assert reply.text == TEXT
    assert record.events == [f"ask {CALL}", "run 42 * 17"]


@pytest.mark.parametrize("approve", [True, False], ids=["approve", "reject"])
@pytest.mark.parametrize("returns", [None, True, False])
def test_the_callback_may_decide_by_hand(approve: bool, returns: bool | None, kind: Kind, record: Record) -> None:
    """Then what it returns counts no longer."""
    rest = RUN_HERE if approve else REJECTED
    with serving((BUSY, WAITS, PAUSED, after(INVOKE if approve else REJECT), *STALE, *rest)) as server:

        def turn(client: Any) -> Any:
            agent = record.agent(client)

            async def decide(tool_call: ToolCall) -> bool | None:
                await (agent.approve_tool(tool_call.id) if approve else agent.reject_tool(tool_call.id, "no"))
                return returns

            def decide_blocking(tool_call: ToolCall) -> bool | None:
                _ = agent.approve_tool(tool_call.id) if approve else agent.reject_tool(tool_call.id, "no")
                return returns

            return agent.send_message("Hi", on_approval=decide_blocking if kind == "sync" else decide)

        assert call(kind, server, turn).text == TEXT
        decision = (f"{CALL}/invoke", None) if approve else (f"{CALL}/reject", {"reason": "no"})
        assert posts(server)[0] == decision
        assert len(posts(server)) == (2 if approve else 1)


def test_calls_are_asked_about_one_after_the_other(kind: Kind, record: Record) -> None:
    """Each has its own decision."""
    both = message("Both.", calls=[call_of("awaiting_approval"), call_of("awaiting_approval", id="call2")])
    ended = message("Both.", calls=[call_of("cancelled"), call_of("completed", id="call2")])
    with serving((BUSY, both, PAUSED, after(REJECT), after("POST /tools/call2/invoke"), ended, READY, DONE)) as server:

        def turn(client: Any) -> Any:
            return record.agent(client).send_message("Hi", on_approval=record.answers("no", True))

        assert call(kind, server, turn).text == TEXT
        assert posts(server) == [(f"{CALL}/reject", {"reason": "no"}), ("call2/invoke", None)]


def test_two_streams_of_one_chat_ask_once(kind: Kind, record: Record) -> None:
    """The second one goes by what the first one's callback decides, though it was opened before that."""
    streams = ((BUSY, WAITS, PAUSED, after(INVOKE), *RUN_HERE), (PAUSED, WAITS, after(INVOKE), *RUN_HERE))
    with serving(*streams) as server:
        asked = threading.Event()

        def on_approval(tool_call: ToolCall) -> bool:
            record.events.append(f"ask {tool_call.id}")
            asked.set()
            server.wait_for_request(f"GET /chats/{CHAT}/messages", 2)  # by the other, to join and when it has joined
            return True

        def one(client: Any) -> Any:
            return record.agent(client).send_message("Hi", on_approval=on_approval)

        def two(client: Any) -> Any:
            return record.agent(client, chat_id=CHAT).stream_messages(on_approval=on_approval).get_final_message()

        async def awaiting(client: Any) -> list[Message]:
            first = asyncio.create_task(one(client))
            await asyncio.to_thread(asked.wait, 5)
            return [await two(client), await first]

        def blocking(client: Any) -> list[Message]:
            with ThreadPoolExecutor() as pool:
                first = pool.submit(one, client)
                asked.wait(5)
                return [two(client), first.result(5)]

        replies = call(kind, server, blocking if kind == "sync" else awaiting)
        assert [reply.text for reply in replies] == [TEXT, TEXT]
        assert posts(server) == [(f"{CALL}/invoke", None), (CALL, {"result": "714"})]
    assert record.events == [f"ask {CALL}", "run 42 * 17"]


def test_a_reader_that_skips_snapshots_sees_what_waits_for_approval(kind: Kind, record: Record) -> None:
    """conflate=True passes over what a newer snapshot replaces, but not over this."""
    lines = [says(status, "app") for status in ("pending", "awaiting_approval", "in_progress", "completed")]
    with serving((together(BUSY, *lines, message("", "ready", id="reply2", order=14), DONE),)) as server:

        def turn(client: Any) -> Generator[Any, Any, list[Message]]:
            return rest_of(kind, record.agent(client).send_message("Hi", stream=True, conflate=True))

        assert any(snapshot.pending_approvals for snapshot in call(kind, server, turn))


# -- decided by hand


def paused(client: Any, record: Record) -> Generator[Any, Any, tuple[Any, Message]]:
    """An agent whose turn has paused for the approval."""
    agent = record.agent(client)
    reply = yield agent.send_message("Hi")
    assert [each.id for each in reply.pending_approvals] == [CALL]
    return agent, reply


@pytest.mark.parametrize("way", ["wait", "stream"])
@pytest.mark.parametrize("again", [(), STALE, (*STALE, *STALE)], ids=["fresh", "stale", "very stale"])
def test_an_approval_by_hand_has_the_turn_go_on(way: str, again: Script, kind: Kind, record: Record) -> None:
    """It is taken up where it is; what is still said of the pause does not end it again."""
    with serving((BUSY, WAITS, PAUSED), (*again, hold("news"), *RUN_HERE)) as server:

        def by_hand(client: Any) -> Generator[Any, Any, Any]:
            agent, _ = yield from paused(client, record)
            yield agent.approve_tool(CALL)
            server.wait_until_no_streams()
            stream = agent.stream_messages()
            opener = threading.Timer(0.3, server.release, ["news"])
            opener.start()
            if way == "wait":
                reply = yield agent.wait()
                opener.join()
                return reply
            snapshots = yield from rest_of(kind, stream)
            opener.join()
            assert not any(snapshot.pending_approvals for snapshot in snapshots)
            return snapshots[-1]

        assert call(kind, server, by_hand).text == TEXT
        assert posts(server) == [(f"{CALL}/invoke", None), (CALL, {"result": "714"})]
    assert record.events == ["run 42 * 17"]


def test_a_rejection_by_hand_has_the_turn_go_on(kind: Kind, record: Record) -> None:
    """Without the call, which shows as cancelled until the server says what became of it."""
    with serving((BUSY, WAITS, PAUSED), (*STALE, after(REJECT), *REJECTED)) as server:

        def by_hand(client: Any) -> Generator[Any, Any, Any]:
            agent, _ = yield from paused(client, record)
            yield agent.reject_tool(CALL, "Not now.")
            return (yield agent.wait())

        assert call(kind, server, by_hand).text == TEXT
        assert posts(server) == [(f"{CALL}/reject", {"reason": "Not now."})]
    assert record.events == []


@pytest.mark.parametrize("first", ["look", "approve"])
def test_another_program_approves_with_the_chats_id_alone(first: str, kind: Kind, record: Record) -> None:
    """Whether it looks at the chat before or not, and whatever old state it is shown then."""
    page = page_of(cast("Json", WAITS["data"]))
    answers: dict[str, Sequence[Script]] = {
        f"GET /chats/{CHAT}": [(Reply(chat_of("input_required")),)],
        f"GET /chats/{CHAT}/messages": [(Reply(page),)],
    }
    looked: Sequence[Script] = [(PAUSED, WAITS)] if first == "look" else []
    streams = [*looked, (*STALE, hold("news"), *RUN_HERE)]
    with FaultServer(Scenario(streams=streams, answers=answers)) as server:

        def heir(client: Any) -> Generator[Any, Any, Any]:
            agent = record.agent(client, chat_id=CHAT)
            if first == "look":
                reply = yield agent.wait()
                assert [each.id for each in reply.pending_approvals] == [CALL]
            yield agent.approve_tool(CALL)
            opener = threading.Timer(0.2, server.release, ["news"])
            opener.start()
            reply = yield agent.wait()
            opener.join()
            return reply

        assert call(kind, server, heir).text == TEXT
    assert record.events == ["run 42 * 17"]


def test_a_stream_with_a_callback_asks_about_what_nobody_was_asked_before(kind: Kind, record: Record) -> None:
    """A turn that paused without one is taken up with one."""
    with serving((BUSY, WAITS, PAUSED), (*STALE, after(INVOKE), *RUN_HERE)) as server:

        def turn(client: Any) -> Generator[Any, Any, Any]:
            agent, _ = yield from paused(client, record)
            return (yield agent.stream_messages(on_approval=record.answers(True)).get_final_message())

        assert call(kind, server, turn).text == TEXT
    assert record.events == [f"ask {CALL}", "run 42 * 17"]


def test_what_was_left_alone_is_not_asked_about_again(kind: Kind, record: Record) -> None:
    """It is for approve_tool and reject_tool then."""
    with serving((BUSY, WAITS, PAUSED)) as server:

        def turn(client: Any) -> Generator[Any, Any, Any]:
            agent, ask = record.agent(client), record.answers(None, True)
            yield agent.send_message("Hi", on_approval=ask)
            return (yield agent.stream_messages(on_approval=ask).get_final_message())

        assert [each.id for each in call(kind, server, turn).pending_approvals] == [CALL]
        assert posts(server) == []
    assert record.events == [f"ask {CALL}"]


def test_a_message_behind_an_approval_is_told_so(kind: Kind, record: Record) -> None:
    """It would wait for ever: the caller has to decide first."""
    queued = {"user_message": asked(status="queued", id="asked2", order=15)}
    accepted = ((Reply(accepted_of()),), (Reply(queued),))
    with FaultServer(Scenario(post=accepted, streams=[(BUSY, WAITS, PAUSED)])) as server:

        def turn(client: Any) -> Generator[Any, Any, None]:
            agent, _ = yield from paused(client, record)
            with pytest.raises(InputRequiredError, match="approve_tool or reject_tool") as caught:
                yield agent.send_message("And then?")
            assert [each.id for each in caught.value.pending_approvals] == [CALL]

        call(kind, server, turn)


# -- what the server says to a message that comes after a pause

BEHIND: Json = {"user_message": asked(status="queued", id="asked2", order=15)}
UNNOTED: Json = {
    "user_message": asked(id="asked2", order=15),
    "assistant_message": message_of("", id="reply2", order=16, agent_run_id="run2"),
}
CANCEL = "POST /chats/messages/asked2/cancel"


def sent_behind(
    kind: Kind, record: Record, answer: Json, withdrawal: Script, more: Script = ()
) -> tuple[list[str], InputRequiredError | Message]:
    """A message that a new agent sends to the paused chat; returns the withdrawals, and what came of it."""
    waiting = (chat("input_required", active_run=run_of("input_required", user_message_id="asked1")), WAITS)
    scenario = Scenario(post=[(Reply(answer),)], streams=[(*waiting, *more)], answers={CANCEL: [withdrawal]})
    with FaultServer(scenario) as server:

        def turn(client: Any) -> Generator[Any, Any, Any]:
            agent = record.agent(client, chat_id=CHAT)
            try:
                return (yield agent.send_message("And then?"))
            except InputRequiredError as error:
                return error

        came = call(kind, server, turn, max_reconnects=50)  # the silent stream is lost twice a second
        server.wait_until_no_streams()
        return [request.line for request in server.seen(CANCEL)], came


@pytest.mark.timeout(10)
@pytest.mark.parametrize("answer", [BEHIND, UNNOTED], ids=["queued", "not said to be queued"])
@pytest.mark.parametrize(
    "withdrawal", [refuse(404, "not_found"), refuse(500, "internal_error"), (RST,)], ids=["404", "500", "RST"]
)
def test_a_message_that_cannot_be_withdrawn_is_said_to_be_left(
    withdrawal: Script, answer: Json, kind: Kind, record: Record
) -> None:
    """It may still be answered, so that the caller must not send it again."""
    withdrawals, error = sent_behind(kind, record, answer, withdrawal)
    assert isinstance(error, InputRequiredError)
    assert "could not be withdrawn" in str(error)
    assert [each.id for each in error.pending_approvals] == [CALL]
    assert error.__cause__ is not None
    assert withdrawals


@pytest.mark.timeout(10)
def test_a_message_that_is_not_said_to_be_queued_is_refused_too(kind: Kind, record: Record) -> None:
    """The chat shows another message's run, and that it waits."""
    withdrawals, error = sent_behind(kind, record, UNNOTED, OK)
    assert isinstance(error, InputRequiredError)
    assert "was withdrawn" in str(error)
    assert withdrawals == [CANCEL]


@pytest.mark.timeout(10)
def test_a_withdrawal_whose_answer_is_lost_counts(kind: Kind, record: Record) -> None:
    """A conflict after the repetition leaves open what has happened; the chat tells."""
    waiting = (chat("input_required", active_run=run_of("input_required", user_message_id="asked1")), WAITS)
    withdrawn = message("And then?", "cancelled", id="asked2", order=15, role="user")
    scenario = Scenario(
        post=[(Reply(BEHIND),)],
        streams=[(*waiting, after(CANCEL, 2), withdrawn)],
        answers={CANCEL: [(RST,), refuse(409, "conflict")]},
    )
    with FaultServer(scenario) as server:

        def turn(client: Any) -> Generator[Any, Any, None]:
            with pytest.raises(InputRequiredError, match="was withdrawn"):
                yield record.agent(client, chat_id=CHAT).send_message("And then?")

        call(kind, server, turn)


@pytest.mark.timeout(10)
def test_a_withdrawal_that_is_refused_for_no_reason_is_not_repeated_for_ever(kind: Kind, record: Record) -> None:
    """The message is still shown as queued."""
    shown = message("And then?", "queued", id="asked2", order=15, role="user")
    withdrawals, error = sent_behind(kind, record, BEHIND, refuse(409, "conflict"), (shown,))
    assert isinstance(error, InputRequiredError)
    assert "could not be withdrawn" in str(error)
    assert withdrawals == [CANCEL] * 2


@pytest.mark.timeout(10)
def test_a_message_whose_turn_has_come_before_it_was_withdrawn_gets_its_reply(kind: Kind, record: Record) -> None:
    """The conflict says that it is not queued any more."""
    own = run_of("working", id="run2", user_message_id="asked2")
    own_done = run_of("completed", id="run2", user_message_id="asked2")
    rest: Script = (
        after(CANCEL),
        message("", "ready", id="asked2", order=15, role="user"),
        chat("working", active_run=own),
        message(TEXT, "ready", id="reply2", order=16, agent_run_id="run2"),
        chat("completed", active_run=own_done),
    )
    _, came = sent_behind(kind, record, BEHIND, refuse(409, "conflict"), rest)
    assert isinstance(came, Message)
    assert came.text == TEXT


# -- what the server says to a decision


@pytest.mark.parametrize("lost", [(RST,), (CUT,), refuse(500, "internal_error")], ids=["RST", "FIN", "500"])
@pytest.mark.parametrize("then", [OK, ALREADY], ids=["taken now", "taken before"])
@pytest.mark.parametrize("way", ["callback", "hand"])
@pytest.mark.parametrize("approve", [True, False], ids=["approve", "reject"])
def test_a_decision_whose_answer_is_lost_is_posted_again(
    approve: bool, way: str, then: Script, lost: Script, kind: Kind, record: Record
) -> None:
    """The server takes one, and a conflict after a repetition says that it has; the handler runs once."""
    line, rest = (INVOKE, RUN_HERE) if approve else (REJECT, REJECTED)
    streams = [(BUSY, WAITS, PAUSED, after(line, 2), *rest)] * 2
    with FaultServer(Scenario(streams=streams, answers={line: [lost, then]})) as server:

        def turn(client: Any) -> Generator[Any, Any, Any]:
            if way == "callback":
                return (yield record.agent(client).send_message("Hi", on_approval=record.answers(approve)))
            agent, _ = yield from paused(client, record)
            yield agent.approve_tool(CALL) if approve else agent.reject_tool(CALL)
            return (yield agent.wait())

        assert call(kind, server, turn).text == TEXT
        assert len(server.seen(line)) == 2
    assert record.events.count("run 42 * 17") == int(approve)


@pytest.mark.parametrize("approve", [True, False], ids=["approve", "reject"])
def test_somebody_else_was_faster_than_the_callback(approve: bool, kind: Kind, record: Record) -> None:
    """Then that decision counts, and the turn goes on with it."""
    line = INVOKE if approve else REJECT
    rest = REJECTED if approve else RUN_HERE
    with FaultServer(
        Scenario(streams=[(BUSY, WAITS, PAUSED, after(line), *rest)], answers={line: [ALREADY]})
    ) as server:

        def turn(client: Any) -> Any:
            return record.agent(client).send_message("Hi", on_approval=record.answers(approve))

        assert call(kind, server, turn).text == TEXT
    assert record.events.count("run 42 * 17") == int(not approve)


@pytest.mark.parametrize("method", ["approve_tool", "reject_tool"])
def test_a_second_decision_by_hand_is_a_conflict(method: str, kind: Kind, record: Record) -> None:
    """The server keeps the first; the caller learns it."""
    with serving((BUSY, WAITS, PAUSED), invoke=[ALREADY], reject=[ALREADY]) as server:

        def turn(client: Any) -> Generator[Any, Any, None]:
            agent, _ = yield from paused(client, record)
            with pytest.raises(ConflictError) as caught:
                yield getattr(agent, method)(CALL)
            assert caught.value.code == "already_processed"

        call(kind, server, turn)


@pytest.mark.parametrize("answer", [True, False], ids=["approve", "reject"])
def test_the_refusal_of_a_decision_reaches_the_caller_of_the_turn(answer: bool, kind: Kind, record: Record) -> None:
    """With the last snapshot; nothing is approved, no handler runs, and the turn can be taken up by hand."""
    with serving((BUSY, WAITS, PAUSED), invoke=[SIGN_IN], reject=[SIGN_IN]) as server:

        def turn(client: Any) -> Generator[Any, Any, Message]:
            agent = record.agent(client)
            with pytest.raises(PermissionDeniedError) as caught:
                yield agent.send_message("Hi", on_approval=record.answers(answer))
            assert caught.value.code == "requires_sign_in"
            assert caught.value.chat_id == CHAT
            assert caught.value.message is not None
            assert [each.id for each in caught.value.message.pending_approvals] == [CALL]
            return (yield agent.wait())  # type: ignore[no-any-return]  # of either client

        assert [each.id for each in call(kind, server, turn).pending_approvals] == [CALL]
        assert len(posts(server)) == 1
    assert record.events == [f"ask {CALL}"]


@pytest.mark.parametrize("method", ["approve_tool", "reject_tool"])
def test_the_refusal_of_a_decision_by_hand(method: str, kind: Kind, record: Record) -> None:
    """Is raised at once; the pause lasts."""
    with serving((BUSY, WAITS, PAUSED), invoke=[SIGN_IN], reject=[SIGN_IN]) as server:

        def turn(client: Any) -> Generator[Any, Any, Message]:
            agent, _ = yield from paused(client, record)
            with pytest.raises(PermissionDeniedError, match="Sign in to approve tools"):
                yield getattr(agent, method)(CALL)
            return (yield agent.wait())  # type: ignore[no-any-return]  # of either client

        assert [each.id for each in call(kind, server, turn).pending_approvals] == [CALL]
        assert len(posts(server)) == 1


def test_ids_that_are_none_are_refused_before_anything_is_sent(kind: Kind, record: Record) -> None:
    """An empty id, or one that leads elsewhere in the path."""
    with serving() as server:

        def turn(client: Any) -> Generator[Any, Any, None]:
            agent = record.agent(client)
            for method in (agent.approve_tool, agent.reject_tool):
                for nothing in ("", ".", ".."):
                    with pytest.raises(ConfigurationError, match="is no tool call id"):
                        yield method(nothing)
                with pytest.raises(TypeError, match="must be a str, not NoneType"):
                    yield method(None)

        call(kind, server, turn)
        assert server.requests == []
