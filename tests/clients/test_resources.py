"""``client.chats`` and ``client.files`` beyond lists of chats; approvals for good, interrupts, another agent, usage."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import pytest

from inferencesh import ChatStatus, ConfigurationError, ConflictError, FileRef, NotFoundError, RunState, string, tool
from inferencesh.local import Ask
from inferencesh.local import ToolCall as Calls
from tests.faults.forms import CHAT, chat_of
from tests.faults.script import RST, Reply, Scenario, Script, refuse
from tests.faults.server import FaultServer
from tests.faults.turns import call, rest_of
from tests.support import Kind

from .conftest import Connect, Serve


def test_a_chat_is_renamed(serve: Serve, connect: Connect) -> None:
    """The answer is the chat after the change, and what was not named stays as it is."""
    side = connect(serve(["Hello"]))
    agent = side.agent()
    side.result(agent.send_message("Hi"))
    changed = side.result(side.client.chats.update(agent.chat_id, name="First steps"))
    assert (changed.id, changed.name) == (agent.chat_id, "First steps")
    assert side.result(agent.get_chat()).name == "First steps"
    with pytest.raises(ConfigurationError, match="nothing of the chat is to be changed"):
        side.result(side.client.chats.update(agent.chat_id))


def test_the_status_of_a_chat_is_read_alone(serve: Serve, connect: Connect) -> None:
    """As one of the words for it."""
    side = connect(serve(["Hello"], [Ask("Publish it?")]))
    agent = side.agent()
    side.result(agent.send_message("Hi"))
    assert side.result(side.client.chats.status(agent.chat_id)) == side.result(agent.get_chat()).status
    side.result(agent.send_message("Publish it"))
    assert side.result(side.client.chats.status(agent.chat_id)) is ChatStatus.AWAITING_INPUT


def test_what_is_sent_of_a_chat_and_read_of_its_trace(kind: Kind) -> None:
    """Only what is to be changed; a lost answer is asked for again; unknown fields of a trace remain in ``raw``."""
    update, trace = f"POST /chats/{CHAT}", f"GET /chats/{CHAT}/trace"
    steps = {"graph_id": "g1", "nodes": [{"id": "n1"}, None], "edges": None, "total_steps": 2, "failed_steps": 1}
    answers: dict[str, Sequence[Script]] = {
        update: [(RST,), (Reply({"id": CHAT, "name": "x", "visibility": "team"}),)],
        trace: [(RST,), (Reply({**steps, "later": True}),)],
        f"GET /chats/{CHAT}/status": [(Reply({"id": CHAT, "status": "of_a_later_version"}),)],
    }
    with FaultServer(Scenario(answers=answers)) as server:

        def use(client: Any) -> Generator[Any, Any, None]:
            chat = yield client.chats.update(CHAT, name="x", visibility="team")
            assert (chat.name, chat["visibility"]) == ("x", "team")
            found = yield client.chats.trace(CHAT)
            assert (found.graph_id, found.total_steps, found.failed_steps, found.running_steps) == ("g1", 2, 1, 0)
            assert (found.nodes, found.edges, found.raw["later"]) == ([{"id": "n1"}], [], True)
            assert (yield client.chats.status(CHAT)) == "of_a_later_version"

        call(kind, server, use)
        assert [request.json for request in server.seen(update)] == [{"name": "x", "visibility": "team"}] * 2


def test_files_are_listed_read_and_deleted(serve: Serve, connect: Connect) -> None:
    """Newest first, page by page; a file that is gone is not found, whether it is named by itself or by its id."""
    side = connect(serve(["Hello"]))
    files = side.client.files
    sent = [side.result(files.upload(b"x" * size, filename=f"{size}.txt")) for size in (1, 2, 3)]
    listed: list[Any] = list(side.snapshots(files.list(page_size=2)))
    assert [(each.filename, each.size, each.content_type) for each in listed] == [
        ("3.txt", 3, "text/plain"),
        ("2.txt", 2, "text/plain"),
        ("1.txt", 1, "text/plain"),
    ]
    assert all(isinstance(each, FileRef) for each in listed)
    assert side.result(files.get(sent[0])).uri == side.result(files.get(sent[0].id)).uri == sent[0].uri
    side.result(files.delete(sent[0]))
    side.result(files.delete(sent[1].id))
    assert [each.id for each in side.snapshots(files.list())] == [sent[2].id]
    for use in (files.get, files.delete):
        with pytest.raises(NotFoundError):
            side.result(use(sent[0]))
    with pytest.raises(ConfigurationError, match="whole number of at least 1"):
        files.list(page_size=0)


@pytest.mark.parametrize("nothing", ["", ".", "..", FileRef(uri="https://elsewhere/x")], ids=repr)
def test_what_is_no_file_of_the_account_is_refused_before_anything_is_sent(kind: Kind, nothing: str | FileRef) -> None:
    """Such as a reference without an id."""
    with FaultServer(Scenario()) as server:

        def use(client: Any) -> Generator[Any, Any, None]:
            for method in (client.files.get, client.files.delete):
                with pytest.raises(ConfigurationError, match="is no file id"):
                    yield method(nothing)

        call(kind, server, use)
        assert server.requests == []


def test_a_file_whose_deletion_was_not_acknowledged_is_deleted(kind: Kind) -> None:
    """A repetition that finds it gone has deleted it; pages that fail are asked for again."""
    line, listing = "DELETE /files/f1", "POST /files/list"
    page: Script = (Reply({"items": [{"id": "f1", "uri": "u"}], "has_next": False}),)
    answers: dict[str, Sequence[Script]] = {
        line: [(RST,), refuse(404, "not_found")],
        listing: [refuse(503, "app_maintenance"), page],
    }
    with FaultServer(Scenario(answers=answers)) as server:

        def use(client: Any) -> Generator[Any, Any, None]:
            assert (yield client.files.delete("f1")) is None
            assert [each.id for each in (yield from rest_of(kind, client.files.list(page_size=7)))] == ["f1"]

        call(kind, server, use)
        assert len(server.seen(line)) == 2
        assert [request.json for request in server.seen(listing)] == [{"limit": 7}] * 2


# -- an agent's approvals, interrupts and agent ------------------------------------------------------------------------


def janitor(runs: list[str]) -> dict[str, Any]:
    """An agent with a tool that needs approval."""
    built = tool("delete").param("path", string()).require_approval().handler(lambda path: runs.append(path)).build()
    return {"name": "janitor", "tools": [built]}


@pytest.mark.parametrize("by", ["id", "call"])
@pytest.mark.parametrize("option", [None, "tool:delete"])
def test_a_tool_that_is_always_allowed_is_not_asked_about_again(
    serve: Serve, connect: Connect, by: str, option: str | None
) -> None:
    """The call that waits is approved as well; calls of later turns run at once."""
    side = connect(serve([Calls("delete", {"path": "a"})], ["1"], [Calls("delete", {"path": "b"})], ["2"]))
    runs: list[str] = []
    agent = side.agent(janitor(runs))
    (waiting,) = side.result(agent.send_message("Delete a")).pending_approvals
    assert runs == []
    side.result(agent.always_allow_tool(waiting if by == "call" else waiting.id, option))
    assert side.result(agent.wait()).text == "1"
    assert runs == ["a"]
    reply = side.result(agent.send_message("Delete b"))
    assert (reply.text, reply.paused, runs) == ("2", False, ["a", "b"])


def test_an_option_that_there_is_not_is_refused(serve: Serve, connect: Connect) -> None:
    """The call goes on waiting."""
    side = connect(serve([Calls("delete", {"path": "a"})], ["1"]))
    agent = side.agent(janitor([]))
    (waiting,) = side.result(agent.send_message("Delete a")).pending_approvals
    with pytest.raises(ConflictError, match="no option 'stale'"):
        side.result(agent.always_allow_tool(waiting, "stale"))
    assert side.result(agent.wait()).pending_approvals == (waiting,)


def test_an_approval_for_good_whose_answer_was_lost_is_made_once(kind: Kind) -> None:
    """It is posted until it was acknowledged, and a conflict then is the acknowledgement."""
    line = f"POST /chats/{CHAT}/tools/t%2F1/always-allow"
    with FaultServer(Scenario(answers={line: [(RST,), refuse(409, "already_processed")]})) as server:
        call(kind, server, lambda client: client.agent("a/b", chat_id=CHAT).always_allow_tool("t/1", "exact:x"))
        assert [request.json for request in server.seen(line)] == [{"option": "exact:x"}] * 2


def test_interrupts_of_the_run_are_listed(serve: Serve, connect: Connect) -> None:
    """Pending and ended ones, oldest first."""
    side = connect(serve([Ask("Publish it?")], ["So be it."], ["Hello"]))
    agent = side.agent()
    side.result(agent.send_message("Publish it"))
    (interrupt,) = side.result(agent.interrupts())
    assert (interrupt.reason, interrupt.status, interrupt.chat_id) == ("confirmation", "pending", agent.chat_id)
    side.result(agent.resolve_interrupt(interrupt, "allow"))
    side.result(agent.wait())
    (interrupt,) = side.result(agent.interrupts())
    assert interrupt.status == "resolved"
    side.result(agent.send_message("Hi"))
    assert side.result(agent.interrupts()) == []


def test_a_chat_without_a_run_has_no_interrupts(kind: Kind) -> None:
    """Nothing more is asked."""
    with FaultServer(Scenario(answers={f"GET /chats/{CHAT}": [(Reply({"id": CHAT, "status": "idle"}),)]})) as server:
        assert call(kind, server, lambda client: client.agent("a/b", chat_id=CHAT).interrupts()) == []
        assert len(server.requests) == 1


Use = Callable[[Any], Any]


@pytest.mark.parametrize(
    "use", [lambda agent: agent.interrupts(), lambda agent: agent.always_allow_tool("t1")], ids=["interrupts", "allow"]
)
def test_without_a_chat_there_is_nothing_to_decide(serve: Serve, connect: Connect, use: Use) -> None:
    """An error that says what to do."""
    side = connect(serve(["Hello"]))
    with pytest.raises(Exception, match="no chat yet: send a message first"):
        side.result(use(side.agent()))


def test_another_stored_agent_takes_the_chat_over(kind: Kind) -> None:
    """For everybody: the service is told, and the next message names it too."""
    line = f"POST /chats/{CHAT}/agent"
    with FaultServer(
        Scenario(answers={line: [refuse(404, "not_found"), (RST,), (Reply({"chat_id": CHAT}),)]})
    ) as server:

        def use(client: Any) -> Generator[Any, Any, None]:
            agent = client.agent("acme/first", chat_id=CHAT)
            with pytest.raises(NotFoundError):
                yield agent.set_agent("acme/none")
            yield agent.set_agent("acme/second")

        call(kind, server, use)
        assert [request.json for request in server.seen(line)] == [
            {"agent": "acme/none"},
            *[{"agent": "acme/second"}] * 2,
        ]


def test_another_configuration_is_used_from_the_next_message_on(serve: Serve, connect: Connect) -> None:
    """In the same chat, with its own tools."""
    served = serve(["Hello"], [Calls("count", {})], ["Done."])
    side = connect(served)
    agent = side.agent({"name": "first", "system_prompt": "Be first."})
    chat_id = side.result(agent.send_message("Hi")).chat_id
    ran: list[str] = []
    count = tool("count").handler(lambda: ran.append("count")).build()
    side.result(agent.set_agent({"name": "second", "system_prompt": "Be second.", "tools": [count]}))
    reply = side.result(agent.send_message("Go on"))
    assert (reply.chat_id, reply.text, ran) == (chat_id, "Done.", ["count"])
    assert [asked.system_prompt for asked in served.script.asked] == ["Be first.", "Be second.", "Be second."]
    with pytest.raises(ConfigurationError, match="namespace/name"):
        side.result(agent.set_agent("nonsense"))


@pytest.mark.parametrize("place", ["run", "metadata of the run", "message", "delta"])
def test_usage_is_read_wherever_the_server_reports_it(kind: Kind, place: str) -> None:
    """With the names of either form of it; a final form without it keeps what a delta has reported."""
    told = {"prompt_tokens": 10, "completion_tokens": 5, "cached_input_tokens": 4, "cost_usd": 0.25}
    run: dict[str, Any] = {"id": "run1", "chat_id": CHAT, "state": "completed", "user_message_id": "asked1"}
    run |= {"usage": told} if place == "run" else {"usage": None, "metadata": {"usage": told}}
    reply: dict[str, Any] = {"id": "reply1", "chat_id": CHAT, "role": "assistant", "order": 2, "agent_run_id": "run1"}
    text = [{"type": "text", "text": "Hello"}]
    ready = {**reply, "status": "ready", "content": text, **({"usage": told} if place == "message" else {})}
    lines: list[Any] = [
        {"event": "chats", "data": chat_of("working")},
        {"event": "chat_messages", "data": {**reply, "status": "pending", "content": []}},
        {"event": "delta", "data": {"resource_id": "reply1", "seq": 1, "delta": {"response": "Hello"}}},
        *(
            [{"event": "delta", "data": {"resource_id": "reply1", "seq": 2, "delta": {"usage": told}}}]
            * (place == "delta")
        ),
        {"event": "chat_messages", "data": ready},
        {"event": "chats", "data": chat_of("completed")},
    ]
    answers: dict[str, Sequence[Script]] = {f"GET /chats/{CHAT}": [(Reply({"id": CHAT, "active_run": run}),)]}
    with FaultServer(Scenario(streams=[lines], answers=answers)) as server:

        def use(client: Any) -> Generator[Any, Any, Any]:
            agent = client.agent("a/b")
            message = yield agent.send_message("Hi")
            chat = yield agent.get_chat()
            assert chat.active_run.state is RunState.COMPLETED
            return chat.active_run.usage if "run" in place else message.usage

        usage = call(kind, server, use)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (10, 5, 15)
    assert (usage.cached_tokens, usage.cost, usage.raw) == (4, 0.25, told)


def test_a_message_without_usage_has_none(serve: Serve, connect: Connect) -> None:
    """Rather than zeros."""
    side = connect(serve(["Hello"]))
    agent = side.agent()
    assert side.result(agent.send_message("Hi")).usage is None
    assert side.result(agent.get_chat()).active_run.usage is None
