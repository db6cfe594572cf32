"""A tool call runs once, whatever is replayed, and its result is posted until the server has acknowledged it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from inferencesh import (
    APIError,
    AuthenticationError,
    NotFoundError,
    RunFailedError,
    StreamError,
    string,
    tool,
)
from tests.support import Kind

from .forms import CALL, CHAT, REPLY, Json, call_of, chat, event, message, run
from .script import (
    CUT,
    EOF,
    RST,
    STALL,
    Reply,
    Scenario,
    Script,
    Step,
    after,
    bytewise,
    delay,
    heartbeats,
    page,
    raw,
    refuse,
)
from .server import FaultServer
from .turns import Case, RunTurn, call

if TYPE_CHECKING:
    from collections.abc import Generator

RESULT = f"POST /tools/{CALL}"
TEXT = "It is 714."
BUSY = chat("working")
ASKS = message("Let me see.", calls=[call_of()])
PAUSED = chat("input_required")
ANSWERED = message("Let me see.", calls=[call_of("completed", result="714")])
SPOKE = message("Let me see.", "ready", calls=[call_of("completed", result="714")])
READY = message(TEXT, "ready", id="reply2", order=14)
DONE = chat("completed")
REST: Script = (BUSY, ANSWERED, SPOKE, READY, DONE)
WHOLE: Script = (BUSY, ASKS, PAUSED, after(RESULT), *REST)
OK: Script = (Reply({}),)
ALREADY = refuse(409, "already_processed")
BEGUN = raw(Reply({}).render("v3")[:40])


def calculator(expression: str) -> str:
    """The tool of these tests."""
    return str(714) if expression == "42 * 17" else f"?{expression}"


def tooled(name: str, *lines: Step, then: Script = (), acks: tuple[Script, ...] = (OK,), **more: Any) -> Case:
    """A case whose tool has a handler; ``acks`` are the answers to its posted result."""
    streams = [lines, then] if then else [lines]
    defaults: dict[str, Any] = {"tools": {"calculator": calculator}, "results": {CALL: "714"}}
    return Case(name, streams, TEXT, answers={RESULT: acks}, **(defaults | more))


def asks(status: str = "awaiting_input", **form: Any) -> Json:
    """The message that calls the tool, with the call in another form."""
    return message("Let me see.", calls=[call_of(status, **form)])


LATE_FRAGMENT = {"index": 0, "id": "model1", "function": {"name": "calculator", "arguments": '{"expression":"1"}'}}
FRAGMENT = event("delta", {"delta": {"tool_calls": [LATE_FRAGMENT]}, "seq": 1, "resource_id": REPLY})
EARLIER = message("4", "ready", id="reply0", order=2, calls=[call_of("completed", id="call0", result="4")])

CALLS = [
    tooled("a plain call", *WHOLE),
    tooled("without a pause", BUSY, ASKS, after(RESULT), *REST),
    tooled("in progress", BUSY, asks("in_progress"), PAUSED, after(RESULT), *REST),
    tooled("pending first", BUSY, asks("pending"), ASKS, PAUSED, after(RESULT), *REST),
    tooled("arguments as JSON text", BUSY, asks(arguments='{"expression": "42 * 17"}'), PAUSED, after(RESULT), *REST),
    tooled(
        "in a message that is ready", BUSY, message("Let me see.", "ready", calls=[call_of()]), after(RESULT), *REST
    ),
    tooled("the pause before the call", BUSY, PAUSED, ASKS, after(RESULT), *REST),
    tooled("the run's own pause", BUSY, ASKS, run("input_required"), after(RESULT), run("working"), *REST),
    tooled("call and pause five times", BUSY, *[ASKS, PAUSED] * 5, after(RESULT), *[ASKS, PAUSED] * 3, *REST),
    tooled("a stale pause behind the result", BUSY, ASKS, PAUSED, after(RESULT), PAUSED, ASKS, BUSY, ASKS, *REST),
    tooled("split at every byte", bytewise(ASKS), bytewise(PAUSED), after(RESULT), *REST),
    tooled("fragments of the call first", BUSY, message(""), FRAGMENT, ASKS, PAUSED, after(RESULT), *REST),
    tooled("a drop before the result", BUSY, ASKS, RST, then=WHOLE),
    tooled("a drop behind the result", *WHOLE[:4], RST, then=(PAUSED, ASKS, *REST)),
    tooled("a drop, with the call still waiting", *WHOLE[:4], RST, then=(BUSY, ASKS, PAUSED, *REST), connects=2),
    tooled("an end of the stream at the pause", BUSY, ASKS, PAUSED, EOF, then=WHOLE),
    tooled("an earlier turn's call", EARLIER, after("POST /agents/run"), EARLIER, *WHOLE, chat_id=CHAT),
]

RESULTS = [
    tooled("closed before the answer", *WHOLE, acks=((CUT,), ALREADY)),
    tooled("RST before the answer", *WHOLE, acks=((RST,), ALREADY)),
    tooled("half an answer", *WHOLE, acks=((BEGUN, RST), ALREADY)),
    tooled("RST three times", *WHOLE[:3], after(RESULT, 4), *REST, acks=((RST,), (RST,), (RST,), OK)),
    tooled("no answer", *WHOLE, acks=((STALL,), ALREADY)),
    tooled("500, then 200", *WHOLE[:3], after(RESULT, 2), *REST, acks=(refuse(500, "internal_error"), OK)),
    tooled("429", *WHOLE[:3], after(RESULT, 2), *REST, acks=(refuse(429, "limited", Retry_After="1"), OK), pause=1.0),
    tooled("503", *WHOLE[:3], after(RESULT, 2), *REST, acks=(refuse(503, "limited", Retry_After="0"), OK)),
    tooled("a slow answer, behind the turn's end", *WHOLE, acks=((delay(0.3), *OK),)),
    tooled("nothing but true", *WHOLE, acks=((Reply(b"true"),),)),
    tooled("an acknowledgement that is cut off", *WHOLE, acks=((Reply(b'{"id": "ca'),),)),
    tooled("no content", *WHOLE, acks=((raw(b"HTTP/1.1 204 No Content\r\n\r\n"),),)),
]


@pytest.mark.parametrize("case", CALLS, ids=lambda case: case.name)
def test_a_call_runs_once(case: Case, run_turn: RunTurn) -> None:
    """In whatever form and however often a call is told, its handler runs once and its result is posted once."""
    outcome = run_turn(case)
    assert outcome.tool_runs == {"calculator 42 * 17": 1}
    assert len(outcome.seen(RESULT)) == 1


@pytest.mark.parametrize("case", RESULTS, ids=lambda case: case.name)
def test_a_result_is_posted_until_it_is_acknowledged(case: Case, run_turn: RunTurn) -> None:
    """A result that may be lost is posted again but not worked out again; already_processed acknowledges it."""
    outcome = run_turn(case)
    assert outcome.tool_runs == {"calculator 42 * 17": 1}
    # Where the stream has told of the result as well, that is acknowledgement enough.
    assert 1 <= len(outcome.seen(RESULT)) <= len(case.answers[RESULT])


def test_two_calls_of_one_message_run_once_each(run_turn: RunTurn) -> None:
    """Each has its own result; a drop between them repeats neither."""
    first, second = call_of(), call_of(id="call2", arguments={"expression": "2"})
    both = message("", calls=[first, second])
    half = message("", calls=[call_of("completed"), second])
    rest = (message("", "ready", calls=[call_of("completed"), call_of("completed", id="call2")]), READY, DONE)
    streams = [(BUSY, both, PAUSED, after(RESULT), half, RST), (BUSY, half, PAUSED, after("POST /tools/call2"), *rest)]
    results = {CALL: "714", "call2": "?2"}
    outcome = run_turn(Case("two", streams, TEXT, tools={"calculator": calculator}, results=results))
    assert outcome.tool_runs == {"calculator 42 * 17": 1, "calculator 2": 1}


def test_a_handler_that_fails_answers_the_agent(run_turn: RunTurn) -> None:
    """Its error goes to the agent as the result, and into the log; the turn goes on."""

    def broken(expression: str) -> str:
        raise ZeroDivisionError("the sum is off")

    case = tooled("broken", *WHOLE, tools={"calculator": broken}, results={}, warns=True)
    outcome = run_turn(case)
    assert "the sum is off" in str(outcome.seen(RESULT)[0].json["result"])


def test_results_that_are_not_text_are_sent_as_json(run_turn: RunTurn) -> None:
    """A mapping that a handler returns arrives as its JSON text."""
    case = tooled("json", *WHOLE, tools={"calculator": lambda _: {"sum": 714}}, results={})
    outcome = run_turn(case)
    assert json.loads(str(outcome.seen(RESULT)[0].json["result"])) == {"sum": 714}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refuse(401, "unauthorized"), AuthenticationError),
        (refuse(404, "not_found"), NotFoundError),
        (refuse(400, "invalid_request"), APIError),
    ],
    ids=["401", "404", "400"],
)
def test_a_result_that_is_refused_is_an_error(answer: Script, error: type[APIError], run_turn: RunTurn) -> None:
    """The turn cannot go on: the error carries the snapshot with the call."""
    streams = [(BUSY, ASKS, PAUSED, STALL)]
    answers = {RESULT: [answer]}
    tools = {"calculator": calculator}
    case = Case("refused", streams, "Let me see.", raises=error, tools=tools, results={CALL: "714"}, answers=answers)
    assert len(run_turn(case).seen(RESULT)) == 1


def test_a_page_in_the_place_of_an_answer_acknowledges_no_result(run_turn: RunTurn) -> None:
    """A proxy answered, and the service has not seen the result: an error at once, not a run that waits for ever."""
    answers = {RESULT: [page("Sign in")]}
    tools = {"calculator": calculator}
    streams = [(BUSY, ASKS, PAUSED, STALL)]
    case = Case("page", streams, "Let me see.", raises=StreamError, tools=tools, results={CALL: "714"}, answers=answers)
    assert "HTML page" in str(run_turn(case).error)


def test_a_result_that_is_too_large_is_told_to_the_agent(run_turn: RunTurn) -> None:
    """It would be refused each time, and the run would wait for it for ever; the model can ask for less."""
    acks = (refuse(413, "too_large"), OK)
    tools = {"calculator": lambda _: "x" * 20_000}
    lines = (BUSY, ASKS, PAUSED, after(RESULT, 2), *REST)
    case = tooled("too large", *lines, acks=acks, tools=tools, results={}, warns=True)
    refused, told = (str(request.json["result"]) for request in run_turn(case).seen(RESULT))
    assert len(refused) == 20_000
    assert "too large" in json.loads(told)["error"]


@pytest.mark.parametrize("tools", [{"calculator": None}, {"other": calculator}, {}], ids=["manual", "unknown", "none"])
def test_a_call_without_a_handler_waits_for_the_caller(tools: dict[str, Any], run_turn: RunTurn) -> None:
    """The stream ends with the call pending, and nothing is posted."""
    case = Case("manual", [(BUSY, ASKS, PAUSED, STALL)], "Let me see.", status="pending", pending=[CALL], tools=tools)
    assert run_turn(case).seen(RESULT) == []


@pytest.mark.parametrize("kind_of", ["app", "http", "internal", "novel"])
def test_only_client_tools_are_run_here(kind_of: str, run_turn: RunTurn) -> None:
    """A call of another type belongs to the server, whatever its name."""
    other = asks("in_progress", type=kind_of)
    outcome = run_turn(Case(kind_of, [(BUSY, other, *REST)], TEXT, tools={"calculator": calculator}))
    assert not outcome.tool_runs
    assert outcome.seen(RESULT) == []


def test_a_call_that_awaits_approval_runs_when_it_was_given(run_turn: RunTurn) -> None:
    """Until somebody has approved it, the handler is not called."""
    waits = asks("awaiting_approval")
    outcome = run_turn(tooled("approval", BUSY, waits, heartbeats(3, 0.1), waits, *WHOLE))
    assert outcome.tool_runs == {"calculator 42 * 17": 1}


def test_a_result_given_by_hand_takes_the_turn_up_again(kind: Kind) -> None:
    """After a pause, a lost answer to submit_tool_result and a drop, wait() returns the turn's last message."""
    streams = [(BUSY, ASKS, PAUSED, STALL), (BUSY, ASKS, PAUSED, after(RESULT), ANSWERED, RST), REST]
    with FaultServer(Scenario(streams=streams, answers={RESULT: [(RST,), ALREADY]})) as server:

        def by_hand(client: Any) -> Generator[Any, Any, Any]:
            agent = client.agent({"name": "tester", "tools": [tool("calculator").param("x", string()).build()]})
            reply = yield agent.send_message("Hi")
            assert [call.arguments for call in reply.pending_tool_calls] == [{"expression": "42 * 17"}]
            yield agent.submit_tool_result(reply.pending_tool_calls[0].id, "714")
            return (yield agent.wait())

        assert call(kind, server, by_hand).text == TEXT
        assert len(server.seen(RESULT)) == 2
        server.wait_until_no_connections()


@pytest.mark.parametrize("end", ["canceled", "failed"])
def test_a_tool_that_outlives_its_turn_is_cancelled(end: str, run_turn: RunTurn) -> None:
    """The run has ended: nobody wants the result any more."""
    ended: list[str] = []

    async def endless(expression: str) -> str:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(expression)
        raise AssertionError

    status = "cancelled" if end == "canceled" else "failed"
    last = message("Let me see.", status, calls=[call_of("cancelled")])
    lines = (BUSY, ASKS, PAUSED, heartbeats(2, 0.05), last, chat(end))
    raises = RunFailedError if end == "failed" else None
    case = Case(end, [lines], "Let me see.", status=status, raises=raises, tools={"calculator": endless})
    outcome = run_turn(case)
    assert ended == ["42 * 17"]
    assert outcome.seen(RESULT) == []


def test_async_tools_of_one_message_run_at_once(run_turn: RunTurn) -> None:
    """Two handlers that wait for each other both come to their end."""
    barrier = asyncio.Barrier(2)

    async def meet(expression: str) -> str:
        async with asyncio.timeout(5), barrier:
            return expression

    calls = [call_of(arguments={"expression": "1"}), call_of(id="call2", arguments={"expression": "2"})]
    ended = [call_of("completed"), call_of("completed", id="call2")]
    ends = (after(RESULT), after("POST /tools/call2"), message("", "ready", calls=ended), READY, DONE)
    case = Case("two", [(BUSY, message("", calls=calls), PAUSED, *ends)], TEXT, results={CALL: "1", "call2": "2"})
    run_turn(attrs.evolve(case, tools={"calculator": meet}))


def test_a_tool_that_takes_too_long_answers_the_agent(run_turn: RunTurn) -> None:
    """tool_timeout: the agent is told so, and the turn goes on."""

    async def endless(expression: str) -> str:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    options = {"tool_timeout": 0.1}
    outcome = run_turn(tooled("slow", *WHOLE, tools={"calculator": endless}, results={}, options=options, warns=True))
    assert "0.1 seconds" in str(outcome.seen(RESULT)[0].json["result"])


def test_no_more_tools_run_at_once_than_allowed(run_turn: RunTurn) -> None:
    """max_parallel_tools=2 of four calls: never three, and every result arrives."""
    running, most = 0, 0

    async def count(expression: str) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        return expression

    ids = ["call1", "call2", "call3", "call4"]
    calls = [call_of(id=name, arguments={"expression": name}) for name in ids]
    ended = message("", "ready", calls=[call_of("completed", id=name) for name in ids])
    lines = (
        BUSY,
        message("", calls=calls),
        PAUSED,
        *[after(f"POST /tools/{name}") for name in ids],
        ended,
        READY,
        DONE,
    )
    results = {name: name for name in ids}
    case = Case("four", [lines], TEXT, tools={"calculator": count}, results=results)
    run_turn(attrs.evolve(case, options={"max_parallel_tools": 2}))
    assert most == 2
