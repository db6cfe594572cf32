"""Runs: a message is posted, the reply grows, and the run ends."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import pytest

from inferencesh.local import Ask, Attachment, Conversation, Fail, Piece, Reasoning, Text, ToolCall, Usage
from inferencesh.local.chats import AgentDefinition, StoredRun

from .caller import AGENT, Scripted, calling, text_of, words

MESSAGE_KEYS = set(
    "id short_id created_at updated_at deleted_at user_id user team_id team visibility chat_id chat agent_run_id order "  # noqa: SIM905 - as prose it can be read
    "status task_id role content tools tool_call_id tool_invocations compaction_meta".split()
)
BLOCK_KEYS = {"type", "error", "text", "image", "file", "tool_calls"}


async def test_a_run_answers_with_the_users_message_and_an_empty_placeholder() -> None:
    """The POST does not wait for the run; both messages have the service's fields, ids and times."""
    async with calling() as caller:
        user, reply = await caller.send("Hello")
        assert set(user) == set(reply) == MESSAGE_KEYS
        assert set(user["content"][0]) == BLOCK_KEYS
        assert (user["role"], user["status"], text_of(user)) == ("user", "ready", "Hello")
        assert (reply["role"], reply["status"], reply["content"]) == ("assistant", "pending", [])
        assert reply["order"] > user["order"]
        assert re.fullmatch(r"[0-9a-z]{26}", reply["id"])
        assert reply["short_id"] == reply["id"][:8]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", reply["created_at"])
        chat = await caller.get(f"/chats/{reply['chat_id']}")
        assert chat["active_run"]["user_message_id"] == user["id"]
        assert chat["active_run"]["id"] == user["agent_run_id"] == reply["agent_run_id"]


@pytest.mark.parametrize("path", ["/agents/run", "/agents/message", "/agents/messages"])
async def test_a_run_has_three_addresses(path: str) -> None:
    """The aliases do the same."""
    async with calling() as caller:
        data = await caller.post(path, {"agent": "acme/helper@latest", "input": {"text": "Hello"}})
        assert data["assistant_message"]["status"] == "pending"


async def test_a_run_goes_from_submitted_through_working_to_completed() -> None:
    """The chat is busy meanwhile and idle afterwards, and still shows the run that ended."""
    go = asyncio.Event()
    async with calling(model=Scripted([go, Text("Hi.")])) as caller:
        _, reply = await caller.send("Hello")
        async with caller.follow(reply["chat_id"]) as events:
            await events.until("chats", lambda chat: chat["active_run"]["state"] == "working")
            assert (await caller.get(f"/chats/{reply['chat_id']}/status"))["status"] == "busy"
            go.set()
            await events.until_idle()
        states = [run["state"] for run in events.named("agent_runs")]
        assert states[-1] == "completed"
        chat = await caller.get(f"/chats/{reply['chat_id']}")
        assert (chat["status"], chat["active_run"]["state"]) == ("idle", "completed")
        assert chat["active_run"]["finished_at"] is not None
        assert all(each["chat_messages"] is None for each in events.named("chats"))


async def test_the_last_message_is_final_before_the_run_is() -> None:
    """Who stops reading at the end of the run has the whole reply."""
    go = asyncio.Event()
    async with calling(model=Scripted([go, *words("one two three")])) as caller:
        _, reply = await caller.send("Count")
        async with caller.follow(reply["chat_id"]) as events:
            await events.until("chats")
            go.set()
            seen = await events.until_idle()
        names = [name for name, data in seen if data.get("status") == "ready" or data.get("state") == "completed"]
        assert names[-2:] == ["chat_messages", "agent_runs"]
        assert seen[-1][0] == "chats"


async def test_a_chat_is_taken_up_with_its_id_alone() -> None:
    """A follow-up runs with the definition the chat has, and the model sees what was said before."""
    model = Scripted([Text("Hi.")], [Text("Again.")])
    async with calling(model=model) as caller:
        _, first = await caller.send("Hello", context={"name": "Ada"})
        await caller.finish(first["chat_id"])
        await caller.send("And again", chat_id=first["chat_id"])
        messages = await caller.finish(first["chat_id"])
    assert [text_of(message) for message in messages] == ["Hello", "Hi.", "And again", "Again."]
    assert [message["order"] for message in messages] == [0, 1, 2, 3]
    asked = model.asked[1]
    assert [(message.role, message.text) for message in asked.messages] == [
        ("user", "Hello"),
        ("assistant", "Hi."),
        ("user", "And again"),
    ]
    assert asked.system_prompt == "Be kind."
    assert [tool.name for tool in asked.tools] == ["calculator"]
    assert asked.context == {"name": "Ada"}


async def test_a_definition_that_comes_with_a_follow_up_takes_over() -> None:
    """A template named in a follow-up changes nothing, for it has no definition to bring along."""
    model = Scripted([Text("1")], [Text("2")], [Text("3")])
    async with calling(model=model) as caller:
        _, reply = await caller.send("Hello")
        chat_id = reply["chat_id"]
        await caller.finish(chat_id)
        await caller.send("Now", chat_id=chat_id, agent_config={**AGENT, "system_prompt": "Be brief.", "tools": []})
        await caller.finish(chat_id)
        await caller.send("Then", chat_id=chat_id, agent="acme/helper")
        await caller.finish(chat_id)
    assert [(asked.system_prompt, len(asked.tools)) for asked in model.asked] == [
        ("Be kind.", 1),
        ("Be brief.", 0),
        ("Be brief.", 0),
    ]


async def test_a_template_runs_without_tools() -> None:
    """The runtime does not store agents, so any well-formed reference is accepted."""
    model = Scripted([Text("Hi.")])
    async with calling(model=model) as caller:
        _, reply = await caller.send("Hello", agent="acme/helper@v2")
        await caller.finish(reply["chat_id"])
    assert model.asked[0].tools == ()


@pytest.mark.parametrize(
    ("step", "detail"),
    [
        ([Text("So far"), Fail("The model is tired.")], "The model is tired."),
        ([Text("So far"), RuntimeError("out of ideas")], "RuntimeError: out of ideas"),
        ([Text("So far"), asyncio.CancelledError()], "The run was interrupted."),
        ([Text("So far"), Text("\ud800")], "UnicodeEncodeError: "),
        ([Text("So far"), ToolCall("calculator", {"expression": object()})], "TypeError: "),
        ([Text("So far"), RuntimeError("\ud800")], "RuntimeError: \ufffd"),
        ([Text("So far"), SystemExit(3)], "SystemExit: 3"),
    ],
)
async def test_a_model_that_fails_fails_its_run_and_nothing_else(
    step: list[Piece | BaseException], detail: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The run says why, what was written stays, and the next message is answered."""
    async with calling(model=Scripted(step, [Text("Better.")])) as caller:
        _, reply = await caller.send("Hello")
        chat_id = reply["chat_id"]
        message = (await caller.finish(chat_id))[-1]
        assert (message["status"], text_of(message)) == ("failed", "So far")
        assert message["content"][-1]["error"].startswith(detail)
        chat = await caller.get(f"/chats/{chat_id}")
        assert chat["active_run"]["state"] == "failed"
        assert chat["active_run"]["error"].startswith(detail)
        await caller.send("Once more", chat_id=chat_id)
        assert text_of((await caller.finish(chat_id))[-1]) == "Better."


async def test_what_is_no_piece_fails_the_run_with_a_hint(caplog: pytest.LogCaptureFixture) -> None:
    """A model written without a type checker yields plain text at first."""
    async with calling(model=Scripted(["plain"])) as caller:  # type: ignore[list-item]  # the mistake this is about
        _, reply = await caller.send("Hello")
        await caller.finish(reply["chat_id"])
        run = (await caller.get(f"/chats/{reply['chat_id']}"))["active_run"]
    assert (
        run["error"]
        == "TypeError: A model yields Text, Reasoning, ToolCall, Ask, Widget, Finish, Fail or Usage, not str."
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: Usage("9", 2),  # type: ignore[arg-type]
        lambda: Usage(1.5, 2),  # type: ignore[arg-type]
        lambda: Ask("Publish it?", "confirm"),  # type: ignore[arg-type]
        lambda: Text(5),  # type: ignore[arg-type]
        lambda: Reasoning(None),  # type: ignore[arg-type]
        lambda: ToolCall(5, {}),  # type: ignore[arg-type]
    ],
)
def test_a_piece_with_a_wrong_value_cannot_be_made(make: Callable[[], Piece]) -> None:
    """Where the mistake is, and not when the run's record cannot be read from the database any more."""
    with pytest.raises((TypeError, ValueError), match=r"must be|interpreted as an integer"):
        make()


async def _no_yield(_: Conversation) -> None:
    """A model that forgot to yield."""


@pytest.mark.parametrize(
    ("respond", "got"), [(_no_yield, "a coroutine"), (lambda _: [Text("Hi")], "a list"), (lambda _: None, "a NoneType")]
)
async def test_a_model_that_does_not_yield_fails_the_run_with_a_hint(
    respond: Any, got: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Everybody forgets a yield once."""

    class Mute:
        """Answers in another way."""

    model: Any = Mute()
    model.respond = respond
    async with calling(model=model) as caller:
        _, reply = await caller.send("Hello")
        await caller.finish(reply["chat_id"])
        run = (await caller.get(f"/chats/{reply['chat_id']}"))["active_run"]
    assert run["error"] == f"TypeError: respond must be an async generator, which yields its pieces; it returned {got}."


async def test_an_error_while_a_model_is_closed_is_not_why_a_run_fails(caplog: pytest.LogCaptureFixture) -> None:
    """The log has it."""

    class Clumsy:
        """Fails, and then again."""

        async def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
            try:
                yield Fail("The model is tired.")
            finally:
                raise RuntimeError("cannot even close")

    async with calling(model=Clumsy()) as caller:
        _, reply = await caller.send("Hello")
        await caller.finish(reply["chat_id"])
        run = (await caller.get(f"/chats/{reply['chat_id']}"))["active_run"]
    assert run["error"] == "The model is tired."
    assert "cannot even close" in caplog.text


async def test_reasoning_is_a_block_of_its_own() -> None:
    """Text and reasoning keep their order and are joined with their own kind only."""
    pieces: list[Piece] = [Reasoning("Hm, "), Reasoning("well."), Text("It "), Text(""), Text("is.")]
    async with calling(model=Scripted(pieces)) as caller:
        _, reply = await caller.send("Hello")
        message = (await caller.finish(reply["chat_id"]))[-1]
    assert [(block["type"], block["text"]) for block in message["content"]] == [
        ("reasoning", "Hm, well."),
        ("text", "It is."),
    ]


async def test_an_answer_without_pieces_is_an_empty_message() -> None:
    """A model may have nothing to say."""
    async with calling(model=Scripted([])) as caller:
        _, reply = await caller.send("Hello")
        message = (await caller.finish(reply["chat_id"]))[-1]
    assert (message["status"], message["content"]) == ("ready", [])


async def test_files_of_a_message_reach_the_model() -> None:
    """Attachments count; the older lists of addresses count where there are none."""
    model = Scripted([Text("1")], [Text("2")])
    picture = {"uri": "https://files.example/a.png", "content_type": "image/png", "filename": "a.png"}
    async with calling(model=model) as caller:
        _, reply = await caller.send("", input={"attachments": [picture], "images": ["https://files.example/b.png"]})
        chat_id = reply["chat_id"]
        messages = await caller.finish(chat_id)
        assert messages[0]["content"][1]["image"] == picture["uri"]
        old = {"text": "Look", "image": "https://files.example/c.png", "files": ["https://files.example/d.pdf"]}
        await caller.send("", chat_id=chat_id, input=old)
        await caller.finish(chat_id)
    assert model.asked[0].messages[0].attachments == (Attachment(picture["uri"], "a.png", "image/png"),)
    assert set(model.asked[1].messages[-1].attachments) == {
        Attachment("https://files.example/c.png"),
        Attachment("https://files.example/d.pdf"),
    }


@pytest.mark.parametrize(
    "message",
    [
        {"text": "Hello"},
        {"text": "Hello", "attachments": None, "role": "user", "context": [], "system_prompt": "", "context_size": 0},
        {"text": "Hello", "image": None, "files": [], "role": "user", "context": [], "system_prompt": ""},
        {"text": "Hello", "images": None, "files": None, "role": "user", "context": [], "context_size": 0},
    ],
)
async def test_what_other_clients_send_is_taken(message: dict[str, object]) -> None:
    """Python 0.36, 0.6.34 and 0.6.0 and JavaScript 0.6.54 each send other fields beside the text."""
    body = {"chat_id": None, "agent_config": AGENT, "agent_name": None, "context": None, "input": message}
    async with calling() as caller:
        assert (await caller.post("/agents/run", body))["assistant_message"]["status"] == "pending"


async def test_a_chat_may_be_opened_before_its_first_message() -> None:
    """As the web, React and Swift do it: the post answers with the user's message alone."""
    async with calling(model=Scripted([Text("Hi.")])) as caller:
        chat = await caller.post("/chats", {"agent": "infsh/model@abc", "context": {"name": "Ada"}})
        assert (chat["status"], chat["active_run"], chat["context"]) == ("idle", None, {"name": "Ada"})
        user = await caller.post(f"/chats/{chat['id']}/messages", {"message": "Hello"})
        assert (user["role"], user["status"], text_of(user)) == ("user", "ready", "Hello")
        assert text_of((await caller.finish(chat["id"]))[-1]) == "Hi."


class Once:
    """An async iterator of one piece that is no generator."""

    def __init__(self) -> None:
        self.pieces = [Text("Hi.")]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        if not self.pieces:
            raise StopAsyncIteration
        return self.pieces.pop()


class Handmade:
    """A model without a generator."""

    def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        return Once()


async def test_a_model_may_answer_with_any_async_iterator() -> None:
    """A generator is only the easiest way to write one."""
    async with calling(model=Handmade()) as caller:
        _, reply = await caller.send("Hello")
        assert text_of((await caller.finish(reply["chat_id"]))[-1]) == "Hi."


def test_a_run_takes_only_the_ways_the_protocol_has() -> None:
    """A final state cannot be left."""
    run = StoredRun(chat_id="chat", agent_id="agent", user_message_id="message", config=AgentDefinition())
    run.advance("canceled")
    with pytest.raises(ValueError, match="cannot go from canceled to working"):
        run.advance("working")
