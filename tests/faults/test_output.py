"""Structured output: what run() posts, where it finds the output, what it returns, and how it says there is none."""

from __future__ import annotations

import socket
from collections.abc import Generator, Mapping, Sequence
from typing import Any, assert_type

import attrs
import pytest

from inferencesh import (
    Agent,
    AsyncAgent,
    ConfigurationError,
    InferenceError,
    InputRequiredError,
    NotFoundError,
    OutputError,
    RunFailedError,
    string,
    tool,
    web,
)
from tests.support import Kind

from .forms import CALL, CHAT, REPLY, Json, call_of, chat, chat_of, event, message, run
from .script import EOF, RST, STALL, Reply, Scenario, Script, after, hold, refuse
from .server import FaultServer
from .turns import POST, advance, call, rest_of

RESULT = f"POST /tools/{CALL}"
READ = f"GET /chats/{CHAT}"
BUSY = chat("working")
PAUSED = chat("input_required")
DONE = chat("completed")
READY = message("", "ready")


@attrs.define
class City:
    """What the agent is asked for."""

    name: str
    people: int


PARIS: Json = {"name": "Paris", "people": 2_000_000}
TEXT = '{"name": "Paris", "people": 2000000}'


def finished(
    arguments: Mapping[str, object] | str = TEXT, status: str = "completed", message_status: str = "ready"
) -> Json:
    """The message with the finish call."""
    finish = call_of(status, id="f1", name="finish", type="internal", arguments=arguments)
    return message("", message_status, calls=[finish])


def piece(text: str, seq: int) -> Json:
    """A delta of the finish call."""
    fragment: Json = {"index": 0, "function": {"arguments": text}}
    if seq == 1:
        fragment = {"index": 0, "id": "m1", "type": "function", "function": {"name": "finish", "arguments": text}}
    return event("delta", {"delta": {"tool_calls": [fragment]}, "seq": seq, "resource_id": REPLY})


def scenario(*lines: Any, then: Sequence[Script] = (), **answers: Any) -> Scenario:
    """A chat whose stream has these lines."""
    return Scenario(streams=[lines, *then], answers=answers.get("answers", {}))


def asking(
    kind: Kind, play: Scenario, config: Any = None, chat_id: str | None = None, **options: Any
) -> tuple[Any, Json]:
    """Run an agent; returns what run() returned, and the body that was posted."""
    with FaultServer(play) as server:

        def use(client: Any) -> Any:
            return client.agent({"name": "tester"} if config is None else config, chat_id=chat_id).run("Hi", **options)

        value = call(kind, server, use)
        server.wait_until_no_connections()
        posts = server.seen(POST)
    assert len(posts) == 1
    return value, posts[0].json


def failing(kind: Kind, play: Scenario, error: type[InferenceError], **options: Any) -> Any:
    """Run an agent that fails; returns the error."""
    with FaultServer(play) as server:

        def use(client: Any) -> Any:
            return client.agent({"name": "tester"}).run("Hi", **options)

        with pytest.raises(error) as caught:
            call(kind, server, use)
        server.wait_until_no_connections()
    return caught.value


SOURCES = {
    "the run's event": scenario(BUSY, READY, run("completed", output=PARIS)),
    "the run in the chat's event": scenario(
        BUSY,
        READY,
        event(
            "chats",
            chat_of(None) | {"active_run": {"id": "run1", "chat_id": CHAT, "state": "completed", "output": PARIS}},
        ),
    ),
    "the chat's event": scenario(BUSY, READY, chat("completed", output=PARIS)),
    "the chat, asked for": scenario(
        BUSY, READY, run("completed"), answers={READ: [(Reply(chat_of("completed", output=PARIS)),)]}
    ),
    "the finish call": scenario(BUSY, finished(), DONE),
    "the finish call, as an object": scenario(BUSY, finished(PARIS), DONE),
    "an earlier message's finish call": scenario(
        BUSY, finished(), message("Done.", "ready", id="reply2", order=14), DONE
    ),
    "deltas alone": scenario(BUSY, message(""), piece(TEXT[:9], 1), piece(TEXT[9:], 2), READY, DONE),
    "a second connection": scenario(BUSY, RST, then=[(BUSY, finished(), run("completed", output=PARIS))]),
}


@pytest.mark.parametrize("name", SOURCES)
def test_the_output_is_found_wherever_it_is_told(name: str, kind: Kind) -> None:
    """In the run, the chat or the finish call, on the stream or by asking; as a City, and as it came."""
    assert asking(kind, SOURCES[name], output_type=City)[0] == City("Paris", 2_000_000)
    assert asking(kind, SOURCES[name])[0] == PARIS


def test_a_run_without_an_output_returns_none(kind: Kind) -> None:
    """Where no type was asked for."""
    assert asking(kind, scenario(BUSY, message("Just text.", "ready"), DONE))[0] is None


def test_an_output_of_an_earlier_run_is_none_of_this_one(kind: Kind) -> None:
    """A chat that goes on keeps its output; the run says that it has none."""
    old = chat_of("completed", output="old")
    ended = chat_of("completed", output="old")
    ended["active_run"] = {"id": "run2", "chat_id": CHAT, "state": "completed", "output": None}
    done = event("chats", ended)
    busy = chat("working", run_id="run2", output="old")
    plays = scenario(event("chats", old), after(POST), busy, READY, done)
    assert asking(kind, plays, chat_id=CHAT)[0] is None
    plays = scenario(event("chats", old), after(POST), busy, READY, run("completed", id="run2", output="new"))
    assert asking(kind, plays, chat_id=CHAT)[0] == "new"


# -- what is posted ----------------------------------------------------------------------------------------------------


def test_the_schema_goes_into_the_configuration_of_this_run(kind: Kind) -> None:
    """With the finish tool switched on; the next message is sent with the configuration as it was given."""
    config = {"name": "tester", "output_schema": {"type": "object"}, "internal_tools": {"plan": True, "finish": False}}
    lines = (BUSY, finished(), DONE)
    with FaultServer(Scenario(streams=[lines, (EOF,), lines])) as server:

        def use(client: Any) -> Generator[Any, Any, None]:
            agent = client.agent(config)
            yield agent.run("Hi", output_type=City)
            agent.reset()
            yield agent.send_message("Hi")

        call(kind, server, use)
        first, second = (request.json["agent_config"] for request in server.seen(POST))
    assert first == {
        "name": "tester",
        "output_schema": {
            "description": "What the agent is asked for.",
            "type": "object",
            "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
            "required": ["name", "people"],
        },
        "internal_tools": {"plan": True, "finish": True},
    }
    assert second == config


def test_a_run_without_a_type_changes_nothing(kind: Kind) -> None:
    """A schema that the configuration has by hand is sent as it is."""
    config = {"name": "tester", "output_schema": {"type": "object"}}
    value, body = asking(kind, scenario(BUSY, finished(), DONE), config=config)
    assert value == PARIS
    assert body["agent_config"] == config


def test_a_named_agent_keeps_its_own_schema(kind: Kind) -> None:
    """There is no configuration to put one into; its output is read as the type all the same."""
    value, body = asking(kind, scenario(BUSY, finished(), DONE), config="a/b", output_type=City)
    assert value == City("Paris", 2_000_000)
    assert body == {"chat_id": None, "agent": "a/b", "input": {"text": "Hi"}}


def test_what_is_no_object_is_asked_for_in_one(kind: Kind) -> None:
    """A list is the value of the one property; a server may have taken it out already."""
    value, body = asking(kind, scenario(BUSY, finished('{"value": [1, 2]}'), DONE), output_type=list[int])
    assert value == [1, 2]
    schema = {"type": "array", "items": {"type": "integer"}}
    assert body["agent_config"]["output_schema"]["properties"] == {"value": schema}  # type: ignore[index] # it is JSON
    bare = scenario(BUSY, READY, run("completed", output=[3]))
    assert asking(kind, bare, output_type=list[int])[0] == [3]


def test_a_type_without_a_schema_is_refused_at_the_call(kind: Kind) -> None:
    """Before anything is sent, and before the coroutine is awaited."""
    with FaultServer(scenario(BUSY)) as server:

        def use(client: Any) -> Generator[Any, Any, None]:
            with pytest.raises(ConfigurationError, match="complex"):
                client.agent("a/b").run("Hi", output_type=complex)
            yield None

        call(kind, server, use)
        assert server.requests == []


# -- on the way --------------------------------------------------------------------------------------------------------


def test_tools_and_callbacks_work_as_ever(kind: Kind) -> None:
    """The turn is followed to its end; a handler's result is posted on the way."""
    told: list[Any] = []
    asks = message("", calls=[call_of()])
    answered = message("", "ready", calls=[call_of("completed", result="714")])
    last = finished()
    last["data"] = {**last["data"], "id": "reply2", "order": 14}  # type: ignore[dict-item] # it is a mapping
    calculator = tool("calculator").param("expression", string()).handler(lambda **_: "714").build()
    plays = scenario(BUSY, asks, PAUSED, after(RESULT), BUSY, answered, last, DONE)
    value, _ = asking(
        kind,
        plays,
        config={"name": "tester", "tools": [calculator]},
        output_type=City,
        on_message=lambda _, done: told.append(done),
        on_tool_call=lambda tool_call: told.append(tool_call.name),
    )
    assert value == City("Paris", 2_000_000)
    assert told.count("calculator") == 1
    assert told.count(True) == 1


def test_a_stream_shows_what_is_complete_so_far(kind: Kind) -> None:
    """Each snapshot has the output as far as it has come; the end has all of it, and so has get_final_output()."""
    lines = (
        BUSY,
        message(""),
        piece('{"name": "Pa', 1),
        hold("more"),
        piece('ris", "peo', 2),
        piece('ple": 2000000', 3),
    )
    with FaultServer(Scenario(streams=[(*lines, piece("}", 4), finished(), DONE)])) as server:

        def use(client: Any) -> Generator[Any, Any, list[Any]]:
            stream = client.agent({"name": "tester"}).send_message("Hi", stream=True)
            outputs = [(yield advance(kind, stream)).output]  # while the rest is not even sent
            server.release("more")
            outputs += [message.output for message in (yield from rest_of(kind, stream))]
            return [*outputs, (yield stream.get_final_output())]

        outputs = call(kind, server, use)
    assert outputs == [{}, {"name": "Paris"}, {"name": "Paris"}, PARIS, PARIS, PARIS]


# -- with send_message()


def sending(kind: Kind, play: Scenario, use: Any) -> tuple[Any, Json]:
    """Use an agent; returns what came of it, and the body that was posted."""
    with FaultServer(play) as server:
        value = call(kind, server, lambda client: use(client.agent({"name": "tester"})))
        (request,) = server.seen(POST)
    return value, request.json


@pytest.mark.parametrize(
    "lines",
    [(finished(), DONE), (READY, run("completed", output=PARIS)), (READY, chat("completed", output=PARIS))],
    ids=["in a finish call", "in the run", "in the chat"],
)
def test_a_message_has_the_output_as_the_type_that_was_asked_for(lines: tuple[Json, ...], kind: Kind) -> None:
    """Wherever it stands, and the schema was posted as by run()."""
    reply, body = sending(kind, scenario(BUSY, *lines), lambda agent: agent.send_message("Hi", output_type=City))
    assert reply.output == City("Paris", 2_000_000)
    assert reply.done
    _, by_run = asking(kind, scenario(BUSY, *lines), output_type=City)
    assert body == by_run


def test_a_stream_returns_the_output_as_the_type_that_was_asked_for(kind: Kind) -> None:
    """From get_final_output()."""

    def use(agent: Any) -> Generator[Any, Any, Any]:
        stream = agent.send_message("Hi", stream=True, output_type=City)
        return (yield stream.get_final_output())

    value, _ = sending(kind, scenario(BUSY, finished(), DONE), use)
    assert value == City("Paris", 2_000_000)


def test_a_message_without_the_output_that_was_asked_for_is_an_error(kind: Kind) -> None:
    """As by run(): missing, of another shape, or of a run that was cancelled."""
    for lines, says in (
        ((message("No idea.", "ready"), DONE), "without an output"),
        ((finished({"name": "Paris", "people": "many"}), DONE), "people: expected int"),
        ((finished(TEXT[:20], "pending", "cancelled"), chat("canceled")), "cancelled"),
    ):
        with pytest.raises(OutputError, match=says):
            sending(kind, scenario(BUSY, *lines), lambda agent: agent.send_message("Hi", output_type=City))


def test_a_message_that_waits_is_returned_before_there_is_an_output(kind: Kind) -> None:
    """The caller has to answer it first."""
    play = scenario(BUSY, message("", calls=[call_of()]), PAUSED, STALL)
    reply, _ = sending(kind, play, lambda agent: agent.send_message("Hi", output_type=City))
    assert ([each.id for each in reply.pending_tool_calls], reply.output) == ([CALL], None)


def test_a_type_without_a_schema_is_refused_by_the_call(kind: Kind) -> None:
    """Nothing is sent, whether a stream is asked for or not."""
    for options in ({}, {"stream": True}):
        with FaultServer(Scenario()) as server:

            def use(client: Any, options: Any = options) -> Any:
                return client.agent({}).send_message("Hi", output_type=socket.socket, **options)

            with pytest.raises(ConfigurationError, match="output_type=socket has no JSON Schema"):
                call(kind, server, use)
            assert server.seen(POST) == []


def test_a_stream_with_a_type_shows_values_of_it(kind: Kind) -> None:
    """As far as they are complete: a class when all that it requires is there; the end is read in whole, or refused."""
    lines = (BUSY, message(""), piece('{"name": "Paris", "peo', 1), hold("more"), piece('ple": 2000000, "x": [1', 2))
    with FaultServer(Scenario(streams=[(*lines, piece("]}", 3), finished(), DONE)])) as server:

        def use(client: Any) -> Generator[Any, Any, list[Any]]:
            stream = client.agent({"name": "tester"}).send_message("Hi", stream=True, output_type=City)
            outputs = [(yield advance(kind, stream)).output]
            server.release("more")
            snapshots = yield from rest_of(kind, stream)
            outputs += [message.output for message in snapshots]
            assert web.snapshot(snapshots[-1])["output"] == PARIS
            assert stream.message.output == City("Paris", 2_000_000)
            return [*outputs, (yield stream.get_final_output())]

        outputs = call(kind, server, use)
    whole = City("Paris", 2_000_000)
    complete = outputs.index(whole)
    assert complete > 0
    assert outputs == [None] * complete + [whole] * (len(outputs) - complete)


# -- other ends --------------------------------------------------------------------------------------------------------


def test_an_output_of_another_shape_names_the_field(kind: Kind) -> None:
    """And carries the raw output, the last message and the chat."""
    error = failing(
        kind, scenario(BUSY, finished({"name": "Paris", "people": "many"}), DONE), OutputError, output_type=City
    )
    assert "people: expected int, got 'many'" in str(error)
    assert error.output == {"name": "Paris", "people": "many"}
    assert error.message.id == REPLY
    assert error.chat_id == CHAT


def test_a_missing_output_is_said_to_be_missing(kind: Kind) -> None:
    """The agent ended without its finish tool."""
    error = failing(kind, scenario(BUSY, message("No idea.", "ready"), DONE), OutputError, output_type=City)
    assert "without an output" in str(error)
    assert error.output is None
    assert error.message.text == "No idea."
    assert error.chat_id == CHAT


def test_an_output_that_was_cut_off_is_no_output(kind: Kind) -> None:
    """Half of it is not taken for the whole, with a type or without."""
    for options in ({}, {"output_type": City}):
        error = failing(kind, scenario(BUSY, finished(TEXT[:20]), DONE), OutputError, **options)
        assert "cut off" in str(error)
        assert error.output == TEXT[:20]
        assert error.message.id == REPLY


@pytest.mark.parametrize(
    ("waiting", "text"),
    [
        (call_of(), "the result of calculator (call1)"),
        (call_of("awaiting_approval", type="app"), "the approval of calculator (call1)"),
    ],
    ids=["a result", "an approval"],
)
def test_a_pause_is_an_error_that_says_what_is_waited_for(waiting: Json, text: str, kind: Kind) -> None:
    """It carries the message, with the calls that wait."""
    play = scenario(BUSY, message("", calls=[waiting]), PAUSED, STALL)
    error = failing(kind, play, InputRequiredError, output_type=City)
    assert text in str(error)
    assert [each.id for each in (*error.message.pending_tool_calls, *error.message.pending_approvals)] == [CALL]
    assert error.chat_id == CHAT


def test_a_pause_can_be_answered_and_the_output_read(kind: Kind) -> None:
    """By submit_tool_result, and the rest of the turn's stream."""
    asks = message("", calls=[call_of()])
    rest = (BUSY, message("", "ready", calls=[call_of("completed", result="x")]), run("completed", output=PARIS))
    with FaultServer(Scenario(streams=[(BUSY, asks, PAUSED, STALL), rest])) as server:

        def use(client: Any) -> Generator[Any, Any, Any]:
            agent = client.agent({"name": "tester"})
            try:
                yield agent.run("Hi")
            except InputRequiredError as error:
                [waiting] = error.message.pending_tool_calls if error.message else ()
                yield agent.submit_tool_result(waiting.id, "x")
            return (yield agent.stream_messages().get_final_output())

        assert call(kind, server, use) == PARIS


def test_a_failed_run_fails_as_ever(kind: Kind) -> None:
    """With the reason, whatever output there was."""
    play = scenario(BUSY, message("", "failed"), run("failed", error="no credit", output=PARIS))
    error = failing(kind, play, RunFailedError, output_type=City)
    assert error.detail == "no credit"


def test_a_cancelled_run_has_no_output(kind: Kind) -> None:
    """Which is an error, with a type or without."""
    for options in ({}, {"output_type": City}):
        error = failing(
            kind, scenario(BUSY, finished(TEXT[:20], "pending", "cancelled"), chat("canceled")), OutputError, **options
        )
        assert "cancelled" in str(error)
        assert error.message.status == "cancelled"
        assert error.chat_id == CHAT


def test_a_chat_that_cannot_be_read_is_an_error(kind: Kind) -> None:
    """Nothing is passed off as no output that could not be looked for."""
    play = scenario(BUSY, READY, DONE, answers={READ: [refuse(404, "not_found")]})
    failing(kind, play, NotFoundError, output_type=City)


# For mypy alone, which reads the tests: a type gives an instance of it; none, or what is no class, any JSON value.


async def typed(agent: AsyncAgent) -> None:
    """What run() of the async client returns."""
    assert_type(await agent.run("Hi", output_type=City), City)
    assert_type(await agent.run("Hi", output_type=list[int]), list[int])
    assert_type(await agent.run("Hi"), Any)


def typed_too(agent: Agent) -> None:
    """What run() of the sync client returns."""
    assert_type(agent.run("Hi", output_type=City), City)
    assert_type(agent.run("Hi"), Any)
