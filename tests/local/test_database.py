"""Chats and files in a database, and their state after a restart."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inferencesh import Inference
from inferencesh.local import BackgroundRuntime, DatabaseError, Fail, LocalRuntime, Piece, Reasoning, Text, ToolCall
from inferencesh.local._store import journal as journal_module
from inferencesh.local._store.database import Database
from inferencesh.local._store.journal import Journal
from inferencesh.local.files import PART
from inferencesh.local.records import Record

from .caller import AGENT, Caller, Json, Scripted, calling, invocations, text_of, words
from .test_files import PNG, announce, fetch, put, uploaded

CALL = ToolCall("calculator", {"expression": "42 * 17"})
LOST = "The runtime ended while this run was under way"


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Where a database may be made."""
    return tmp_path / "chats.db"


def rows(db: Path, question: str = "SELECT id FROM records") -> list[tuple[Any, ...]]:
    """What stands in a database that no runtime uses."""
    connection = sqlite3.connect(db)
    try:
        return connection.execute(question).fetchall()
    finally:
        connection.close()


def change(db: Path, statement: str, *values: object) -> None:
    """Change a database that no runtime uses."""
    connection = sqlite3.connect(db)
    try:
        with connection:
            connection.execute(statement, values)
    finally:
        connection.close()


async def paused(caller: Caller, **body: object) -> Json:
    """Send a message whose answer calls tools; return the assistant's message once the run is paused."""
    _, reply = await caller.send("What's 42 * 17?", **body)
    async with caller.follow(reply["chat_id"]) as events:
        await events.until("chats", status="awaiting_input")
    return (await caller.messages(reply["chat_id"]))[-1]


# -- what is found again -----------------------------------------------------------------------------------------------


async def test_a_conversation_is_found_as_it_was(db: Path) -> None:
    """Chat, messages of every kind, tool calls and run, to the last field; and it goes on with all of it."""
    picture = {"uri": "https://files.example/a.png", "content_type": "image/png", "filename": "a.png", "size": 7}
    deep: dict[str, object] = {}
    for _ in range(250):
        deep = {"in": deep}
    model = Scripted(
        [Reasoning("Hmm. "), Text("Let me see."), ToolCall("calculator", deep)], [Text("Done.")], [Fail("No more.")]
    )
    async with calling(db=db, model=model) as caller:
        chat = await caller.post("/chats", {"agent_config": AGENT, "context": {"name": "Ada"}})
        where = f"/chats/{chat['id']}"
        await caller.post(f"{where}/messages", {"message": "Look \N{SNOWMAN}", "attachments": [picture]})
        async with caller.follow(chat["id"]) as events:
            call = invocations(await events.until("chat_messages", lambda message: bool(invocations(message))))[0]
            await caller.post(f"/tools/{call['id']}", {"result": "7\u0000", "attachments": [picture]})
            await events.until_idle()
        await caller.send("Again", chat_id=chat["id"])
        await caller.finish(chat["id"])
        before = [await caller.get(where), await caller.messages(chat["id"]), await caller.post("/chats/list")]
    again = Scripted([Text("Still here.")])
    async with calling(db=db, model=again) as caller:
        assert [await caller.get(where), await caller.messages(chat["id"]), await caller.post("/chats/list")] == before
        await caller.send("And now?", chat_id=chat["id"])
        assert text_of((await caller.finish(chat["id"]))[-1]) == "Still here."
    (asked,) = again.asked
    assert (asked.system_prompt, asked.context) == ("Be kind.", {"name": "Ada"})
    assert asked.tools == model.asked[0].tools
    assert asked.messages[:4] == model.asked[2].messages[:4]


async def test_large_integers_are_found_as_they_were(db: Path) -> None:
    """In arguments, in an output, and in an agent's definition; and a model is shown them."""
    large: dict[str, object] = {"wei": 2**64 + 1, "debts": [-(10**40)]}
    schema = {"type": "object", "properties": {"wei": {"type": "integer", "maximum": 10**30}}}
    config = {**AGENT, "tools": [*AGENT["tools"], {"name": "pay", "client": {"input_schema": schema}}]}
    async with calling(db=db, model=Scripted([ToolCall("pay", large)], [Text("Done.")])) as caller:
        _, reply = await caller.send("Pay", agent_config=config)
        async with caller.follow(reply["chat_id"]) as events:
            call = invocations(await events.until("chat_messages", lambda message: bool(invocations(message))))[0]
            assert call["function"]["arguments"] == large
            await caller.post(f"/tools/{call['id']}", {"result": "paid"})
            await events.until_idle()
        before = await caller.messages(reply["chat_id"])
    again = Scripted([Text("Still here.")])
    async with calling(db=db, model=again) as caller:
        assert await caller.messages(reply["chat_id"]) == before
        await caller.send("And now?", chat_id=reply["chat_id"])
        await caller.finish(reply["chat_id"])
    (asked,) = again.asked
    assert [each.arguments for message in asked.messages for each in message.tool_calls] == [large]
    (offered,) = (each for each in asked.tools if each.name == "pay")
    assert offered.input_schema == schema


async def test_files_are_found_with_their_bytes(db: Path) -> None:
    """Also one that is still to be uploaded; messages carry the address that a file has now."""
    large = PNG * (3 * PART // len(PNG))
    async with calling(db=db) as caller:
        record = await uploaded(caller, large)
        (waiting,) = await announce(caller)
        first = [await caller.get(f"/files/{each['id']}") for each in (record, waiting)]
        message = {"text": "Look", "attachments": [{"uri": record["uri"]}]}
        _, reply = await caller.send("", input=message, agent="a/b")
        await caller.finish(reply["chat_id"])
        old = caller.runtime.base_url
    async with calling(db=db) as caller:
        new = caller.runtime.base_url
        second = [await caller.get(f"/files/{each['id']}") for each in (record, waiting)]
        assert second == [json.loads(json.dumps(each).replace(old, new)) for each in first]
        messages = await caller.messages(reply["chat_id"])
        assert messages[0]["content"][1]["image"] == second[0]["uri"]
        assert (await fetch(second[0]["uri"]))[:2] == (200, large)
        assert await put(second[1]["upload_url"], PNG) == (200, {})
        assert (await fetch(second[1]["uri"]))[1] == PNG
        # A client may still know the address that it had before.
        await caller.send("", input={"attachments": [{"uri": record["uri"]}]}, chat_id=reply["chat_id"])


async def test_a_run_that_was_under_way_has_failed(db: Path) -> None:
    """Its message too, with what was written of it; the chat is idle, and the next message is answered."""
    async with calling(db=db, model=Scripted([Text("So far"), asyncio.Event()])) as caller:
        _, reply = await caller.send("Hello")
        async with caller.follow(reply["chat_id"]) as events:
            await events.until("chat_messages", lambda message: text_of(message) == "So far")
    async with calling(db=db, model=Scripted([Text("Hi.")])) as caller:
        chat = await caller.get(f"/chats/{reply['chat_id']}")
        assert (chat["status"], chat["active_run"]["state"]) == ("idle", "failed")
        assert chat["active_run"]["error"].startswith(LOST)
        assert chat["active_run"]["finished_at"] is not None
        message = (await caller.messages(chat["id"]))[-1]
        assert (message["id"], message["status"], text_of(message)) == (reply["id"], "failed", "So far")
        assert message["content"][-1]["error"].startswith(LOST)
        await caller.send("Hello?", chat_id=chat["id"])
        assert text_of((await caller.finish(chat["id"]))[-1]) == "Hi."
    async with calling(db=db) as caller:
        assert (await caller.get(f"/chats/{chat['id']}"))["active_run"]["state"] == "completed"
        assert [each["status"] for each in await caller.messages(chat["id"])] == ["ready", "failed", "ready", "ready"]


async def test_queued_messages_keep_their_place(db: Path) -> None:
    """The first has its turn when the run before it is found failed; each brings its definition, one is withdrawn."""
    async with calling(db=db, model=Scripted([asyncio.Event()])) as caller:
        _, reply = await caller.send("One")
        chat_id = reply["chat_id"]
        brief = {**AGENT, "system_prompt": "Be brief."}
        await caller.send("Two", chat_id=chat_id, agent_config=brief)
        three, _ = await caller.send("Three", chat_id=chat_id)
        await caller.send("Four", chat_id=chat_id)
    go = asyncio.Event()
    model = Scripted([go, Text("2")], [Text("4")])
    async with calling(db=db, model=model) as caller:
        assert [(text_of(each), each["status"]) for each in await caller.messages(chat_id)] == [
            ("One", "ready"),
            ("", "failed"),
            ("Three", "queued"),
            ("Four", "queued"),
            ("Two", "ready"),
            ("", "pending"),
        ]
        await caller.post(f"/chats/messages/{three['id']}/cancel")
        async with caller.follow(chat_id) as events:
            go.set()
            await events.until("chat_messages", lambda message: text_of(message) == "4", status="ready")
    assert [each.system_prompt for each in model.asked] == ["Be brief.", "Be brief."]
    assert [each.messages[-1].text for each in model.asked] == ["Two", "Four"]


async def test_a_queue_behind_a_run_that_waits_still_waits(db: Path) -> None:
    """Through several restarts; it has its turn after the run."""
    async with calling(db=db, model=Scripted([CALL])) as caller:
        message = await paused(caller)
        await caller.send("And then", chat_id=message["chat_id"])
    for _ in range(2):
        async with calling(db=db) as caller:
            assert (await caller.messages(message["chat_id"]))[-1]["status"] == "queued"
    model = Scripted([Text("714.")], [Text("Then that.")])
    async with calling(db=db, model=model, replay=True) as caller:
        await caller.post(f"/tools/{invocations(message)[0]['id']}", {"result": "714"})
        async with caller.follow(message["chat_id"]) as events:
            await events.until("chat_messages", lambda each: text_of(each) == "Then that.", status="ready")
        said = [text_of(each) for each in await caller.messages(message["chat_id"])]
    assert said == ["What's 42 * 17?", "", "714", "714.", "And then", "Then that."]


async def test_a_run_that_waits_can_be_answered_in_parts_and_in_two_lives(db: Path) -> None:
    """Results that came before the restart count; the last one lets the run go on."""
    calls: list[Piece] = [ToolCall("calculator", {"expression": each}) for each in ("1", "2")]
    async with calling(db=db, model=Scripted(calls)) as caller:
        message = await paused(caller)
        first, second = invocations(message)
        await caller.post(f"/tools/{first['id']}", {"result": "one"})
        before = await caller.get(f"/chats/{message['chat_id']}")
    model = Scripted([Text("Done.")])
    async with calling(db=db, model=model) as caller:
        assert await caller.get(f"/chats/{message['chat_id']}") == before
        await caller.ask("POST", f"/tools/{first['id']}", {"result": "other"}, status=409)
        async with caller.follow(message["chat_id"]) as events:
            await events.until("chats", status="awaiting_input")
            await caller.post(f"/tools/{second['id']}", {"result": "two"})
            await events.until_idle()
        assert text_of((await caller.messages(message["chat_id"]))[-1]) == "Done."
    assert [each.text for each in model.asked[0].messages[2:]] == ["one", "two"]


async def test_a_run_that_waits_can_be_stopped_after_a_restart(db: Path) -> None:
    """Stopping has the same effect as without a restart."""
    async with calling(db=db) as caller:
        message = await paused(caller)
    async with calling(db=db) as caller:
        chat = await caller.post(f"/chats/{message['chat_id']}/stop")
        assert (chat["status"], chat["active_run"]["state"]) == ("idle", "canceled")
        assert invocations((await caller.messages(chat["id"]))[-1])[0]["status"] == "cancelled"


async def test_names_and_the_order_of_chats_are_kept(db: Path) -> None:
    """Cursors remain valid as well."""
    async with calling(db=db) as caller:
        made = [(await caller.post("/chats", {"agent": "a/b"}))["id"] for _ in range(3)]
        await caller.post(f"/chats/{made[0]}", {"name": "Renamed"})
        page = await caller.post("/chats/list", {"limit": 1})
    async with calling(db=db) as caller:
        page = await caller.post("/chats/list", {"limit": 2, "cursor": page["next_cursor"]})
        assert [each["id"] for each in page["items"]] == [made[1], made[0]]
        assert page["items"][1]["name"] == "Renamed"


async def test_what_is_deleted_leaves_no_row(db: Path) -> None:
    """Neither of a chat, in the middle of its run, nor of a file."""
    async with calling(db=db, model=Scripted([CALL], [asyncio.Event()])) as caller:
        message = await paused(caller)
        await caller.post(f"/tools/{invocations(message)[0]['id']}", {"result": "714"})
        record = await uploaded(caller)
        kept = await caller.post("/chats", {"agent": "a/b"})
        await caller.ask("DELETE", f"/chats/{message['chat_id']}", status=204)
        await caller.ask("DELETE", f"/files/{record['id']}", status=204)
    assert rows(db) == [(kept["id"],)]
    assert rows(db, "SELECT content FROM parts") == []


async def test_a_file_that_was_replaced_leaves_no_bytes(db: Path) -> None:
    """Nor does an upload that was refused, or was cut off when the process died."""
    async with calling(db=db) as caller:
        (record,) = await announce(caller, {"content_type": "image/png", "filename": "a.png"})
        for data in (b"first", b"second"):
            await put(record["upload_url"], data)
        (sized,) = await announce(caller)
        assert (await put(sized["upload_url"], b"x"))[0] == 422
    assert [data for (data,) in rows(db, "SELECT data FROM parts")] == [b"second"]
    change(db, "INSERT INTO parts VALUES ('begun', 0, 'half')")
    async with calling(db=db) as caller:
        assert (await fetch((await caller.get(f"/files/{record['id']}"))["uri"]))[1] == b"second"
    assert [data for (data,) in rows(db, "SELECT data FROM parts")] == [b"second"]


# -- when it is written ------------------------------------------------------------------------------------------------


async def test_it_is_not_written_at_every_token(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long answer is noted as often as a short one."""
    noted: list[int] = []
    note = Journal.note

    def counted(self: Journal, record: Record) -> None:
        noted[-1] += 1
        note(self, record)

    monkeypatch.setattr(Journal, "note", counted)
    async with calling(db=db, model=Scripted(words("word"), words("word " * 500))) as caller:
        for _ in range(2):
            noted.append(0)
            _, reply = await caller.send("Hello")
            await caller.finish(reply["chat_id"])
    assert noted[0] == noted[1] > 0


async def test_nothing_is_told_before_it_is_stored_and_nobody_else_waits(db: Path) -> None:
    """While the disk is slow, a post has no answer and a stream no end; what another run writes is read."""
    slow, stuck, posted, more, done = threading.Event(), threading.Event(), *(asyncio.Event() for _ in range(3))

    def block(_: sqlite3.Connection) -> None:
        stuck.set()
        slow.wait(10)

    model = Scripted([more, Text("More."), done], [Text("Hi.")])
    async with calling(db=db, model=model, observer=lambda _: posted.set()) as caller:
        _, reply = await caller.send("Hello")
        posted.clear()
        chat = caller.runtime._store.get(reply["chat_id"])
        storage, task = caller.runtime._storage, chat.task
        assert storage is not None
        assert task is not None
        async with caller.follow(chat.id) as events:
            await events.until("chats", lambda chat: chat["active_run"]["state"] == "working")
            storage._database.send(block)
            await asyncio.to_thread(stuck.wait)
            post = asyncio.create_task(caller.send("Hello", agent="a/b"))
            await posted.wait()
            more.set()
            await events.until("chat_messages", lambda message: text_of(message) == "More.")
            idle = asyncio.create_task(events.until("chats", status="idle"))
            done.set()
            await task
            await asyncio.wait({post, idle}, timeout=0.05)
            assert chat.status == "idle"
            assert not idle.done()
            assert not post.done()
            slow.set()
            await idle
            await post


async def test_a_disk_that_is_full_is_said_and_tried_again(
    db: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The post is refused, streams go on, and with the next change everything is stored, deletions as well."""
    save, full = journal_module._save, True

    def sometimes(connection: sqlite3.Connection, rows: list[Any], forgotten: set[str]) -> None:
        save(connection, rows, forgotten)
        if full:
            raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(journal_module, "_save", sometimes)
    async with calling(db=db, model=Scripted([Text("One.")], [Text("Two.")])) as caller:
        with caplog.at_level(logging.ERROR, "inferencesh.local"):
            problem = await caller.ask("POST", "/chats", {"agent": "a/b"}, status=507)
        assert "disk is full" in problem["detail"]
        assert "could not be stored" in caplog.text
        (chat,) = (await caller.post("/chats/list"))["items"]  # reading is no trouble
        async with caller.follow(chat["id"]) as events:
            await caller.ask("POST", f"/chats/{chat['id']}/messages", {"message": "Hello"}, status=507)
            await events.until_idle()
        await caller.ask("POST", "/chats", {"agent": "a/b"}, status=507)
        doomed = (await caller.post("/chats/list"))["items"][0]["id"]
        await caller.ask("DELETE", f"/chats/{doomed}", status=507)
        full = False
        await caller.post(f"/chats/{chat['id']}", {"name": "Saved"})
    async with calling(db=db) as caller:
        assert [each["name"] for each in (await caller.post("/chats/list"))["items"]] == ["Saved"]
        assert [text_of(each) for each in await caller.messages(chat["id"])] == ["Hello", "One."]


async def test_what_could_not_be_stored_is_tried_again_at_the_end(
    db: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When there is space again by then."""
    save = journal_module._save

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async with calling(db=db) as caller:
        monkeypatch.setattr(journal_module, "_save", full)
        await caller.ask("POST", "/chats", {"agent": "a/b"}, status=507)
        monkeypatch.setattr(journal_module, "_save", save)
    async with calling(db=db) as caller:
        assert len((await caller.post("/chats/list"))["items"]) == 1


async def test_an_upload_that_cannot_be_stored_is_said(db: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Like a chat that cannot be stored, and nothing is left of it."""
    async with calling(db=db):
        pass
    change(db, "CREATE TRIGGER no_space BEFORE INSERT ON parts BEGIN SELECT RAISE(FAIL, 'full'); END")
    async with calling(db=db) as caller:
        (file,) = (await caller.ask("POST", "/files", {"files": [{"content_type": "text/plain"}]}))["data"]
        async with caller.session.put(
            file["upload_url"], data=b"x", headers={"Content-Type": "text/plain"}
        ) as response:
            assert response.status == 507
            assert "could not store this: full" in (await response.json(content_type=None))["detail"]
        async with caller.session.get(file["uri"]) as response:
            assert response.status == 404


async def test_a_file_that_is_deleted_meanwhile_is_said(db: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is written to it then is lost, though the operating system does not mind."""
    async with calling(db=db) as caller:
        chat = await caller.post("/chats", {"agent": "a/b"})
        await asyncio.to_thread(db.unlink)
        problem = await caller.ask("POST", f"/chats/{chat['id']}", {"name": "Lost"}, status=507)
        assert f"{db} was deleted or replaced while it was in use; restart the runtime" in problem["detail"]
        await caller.get(f"/chats/{chat['id']}")


# -- files that cannot be used -----------------------------------------------------------------------------------------


async def refusal(db: Path) -> str:
    """Why a runtime will not start with this file, which is a mistake in its options."""
    runtime = LocalRuntime(db=db)
    with pytest.raises(DatabaseError) as caught:
        await runtime.start()
    await runtime.aclose()
    assert isinstance(caught.value, ValueError)
    assert str(db) in str(caught.value)
    return str(caught.value)


async def test_a_second_runtime_on_one_file_is_refused(db: Path) -> None:
    """The first one is not disturbed; when it is closed, the next may have the file."""
    async with calling(db=db) as caller:
        assert "in use by another runtime" in await refusal(db)
        await caller.send("Hello")
        assert "in use by another runtime" in await refusal(db)
    async with calling(db=db) as caller:
        assert len((await caller.post("/chats/list"))["items"]) == 1


def _text(db: Path) -> None:
    db.write_bytes(b"Dear diary, today I wrote no database at all. " * 50)


def _foreign(db: Path) -> None:
    change(db, "CREATE TABLE birds (name TEXT)")


def _broken_pages(db: Path) -> None:
    content = db.read_bytes()
    db.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


def _no_tables(db: Path) -> None:
    change(db, "DROP TABLE records")


def _later(db: Path) -> None:
    change(db, "PRAGMA user_version = 99")


def _unknown_kind(db: Path) -> None:
    change(db, "UPDATE records SET kind = 'dream' WHERE kind = 'run'")


def _no_json(db: Path) -> None:
    change(db, "UPDATE records SET data = '{' WHERE kind = 'chat'")


def _no_object(db: Path) -> None:
    change(db, "UPDATE records SET data = '[]' WHERE kind = 'message'")


def _missing_field(db: Path) -> None:
    change(db, "UPDATE records SET data = '{}' WHERE kind = 'message'")


def _missing_record(db: Path) -> None:
    change(db, "DELETE FROM records WHERE kind = 'run'")


def _unknown_status(db: Path) -> None:
    task = {"app": "a/b", "function": "run", "input": "{}", "status": 99, "created_at": "", "updated_at": ""}
    change(db, "INSERT INTO records (id, kind, data) VALUES ('x', 'task', ?)", json.dumps({**task, "id": "x"}))


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_text, "not a database"),
        (_foreign, "another program"),
        (_broken_pages, "image is malformed"),
        (_no_tables, "no such table: records"),
        (_later, "later version"),
        (_unknown_kind, "unknown kind, 'dream'"),
        (_no_json, "is damaged"),
        (_no_object, "is damaged"),
        (_missing_field, "is damaged"),
        (_missing_record, "is damaged"),
        (_unknown_status, "is damaged"),
    ],
)
async def test_a_file_that_cannot_be_read_is_refused_and_left_alone(
    db: Path, spoil: Callable[[Path], None], complaint: str
) -> None:
    """The error says what it is, and not a byte of it is changed."""
    if spoil not in {_text, _foreign}:
        async with calling(db=db) as caller:
            _, reply = await caller.send("Hello")
            await caller.finish(reply["chat_id"])
    spoil(db)
    before = await asyncio.to_thread(db.read_bytes)
    assert complaint in await refusal(db)
    assert await asyncio.to_thread(db.read_bytes) == before


async def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path) -> None:
    """A directory, and one that is not there."""
    for place in (tmp_path, tmp_path / "nowhere" / "chats.db"):
        assert "cannot be opened" in await refusal(place)


async def test_a_file_of_an_earlier_version_is_read(db: Path) -> None:
    """Fields that it does not have are at their defaults; those that nobody knows any more are passed over."""
    async with calling(db=db) as caller:
        chat = await caller.post("/chats", {"agent": "a/b"})
    ((data,),) = rows(db, "SELECT data FROM records")
    fields = {**json.loads(data), "moon": "full"}
    del fields["name"], fields["queue"]
    change(db, "UPDATE records SET data = ?", json.dumps(fields))
    async with calling(db=db) as caller:
        assert await caller.get(f"/chats/{chat['id']}") == chat


async def test_the_file_is_nobody_elses(db: Path) -> None:
    """What people say to an agent is private; the file beside it, too."""
    async with calling(db=db) as caller:
        await caller.send("Hello")
        modes = [stat.S_IMODE(each.stat().st_mode) for each in db.parent.iterdir()]
        assert set(modes) == {0o600}
    assert [each.name for each in db.parent.iterdir()] == [db.name]


async def test_a_runtime_that_cannot_listen_lets_go_of_its_file(db: Path) -> None:
    """Another one may have it then."""
    async with calling() as caller:
        busy = LocalRuntime(db=db, port=int(caller.runtime.base_url.rpartition(":")[2]))
        with pytest.raises(OSError, match="address already in use"):
            await busy.start()
    async with calling(db=db) as caller:
        assert (await caller.post("/chats/list"))["items"] == []


async def test_opening_can_be_cancelled(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is not locked any more."""
    opening, go_on = threading.Event(), threading.Event()
    prepare = Database._serve

    def slowly(self: Database) -> None:
        opening.set()
        go_on.wait(10)
        prepare(self)

    monkeypatch.setattr(Database, "_serve", slowly)
    start = asyncio.create_task(LocalRuntime(db=db).start())
    await asyncio.to_thread(opening.wait)
    start.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await start
    async with LocalRuntime(db=db):
        pass


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"db": ""}, ValueError, "name of a file"),
        ({"db": ":memory:"}, ValueError, "leave it out"),
        ({"db": b"chats.db"}, TypeError, "not bytes"),
        ({"db": 7}, TypeError, "db must be a str or a pathlib.Path, not int"),
        ({"max_file_bytes": 0}, ValueError, "max_file_bytes"),
    ],
)
def test_a_wrong_option_is_refused_at_once(options: dict[str, Any], error: type[Exception], complaint: str) -> None:
    """When the runtime is made."""
    with pytest.raises(error, match=complaint):
        LocalRuntime(**options)


async def test_a_body_too_deep_to_be_stored_is_refused() -> None:
    """With a database or without; one that is nearly as deep is taken and comes back."""
    async with calling() as caller:
        for levels, status in [(100, 200), (400, 400)]:
            schema: dict[str, object] = {}
            for _ in range(levels):
                schema = {"in": schema}
            tools = [{"name": "deep", "client": {"input_schema": schema}}]
            await caller.ask("POST", "/chats", {"agent_config": {"tools": tools}}, status=status)


async def test_a_deep_definition_is_found_again(db: Path) -> None:
    """As deep as a body may be, in the chat, its run and its queue."""
    schema: dict[str, object] = {}
    for _ in range(230):
        schema = {"in": schema}
    config = {"tools": [{"name": "deep", "client": {"input_schema": schema}}]}
    async with calling(db=db, model=Scripted([asyncio.Event()])) as caller:
        _, reply = await caller.send("One", agent_config=config)
        await caller.send("Two", chat_id=reply["chat_id"], agent_config=config)
    model = Scripted([Text("2")])
    async with calling(db=db, model=model) as caller:
        await caller.finish(reply["chat_id"])
    assert model.asked[0].tools[0].input_schema == schema


# -- the other ways to run one -----------------------------------------------------------------------------------------


def test_a_client_with_a_runtime_of_its_own_goes_on_where_it_was(db: Path) -> None:
    """The chat of one client is taken up by the next."""
    with Inference.local(db=db, pace=0) as client:
        agent = client.agent("a/b")
        agent.send_message("Hello")
    with Inference.local(db=str(db), pace=0) as client:
        again = client.agent("a/b", chat_id=agent.chat_id)
        assert "Hello again" in again.send_message("Hello again").text
    assert len(rows(db, "SELECT id FROM records WHERE kind = 'message'")) == 4


def test_a_background_runtime_refuses_a_file_that_is_in_use(db: Path) -> None:
    """Its start raises, and its thread is gone."""
    first = BackgroundRuntime(db=db)
    first.start()
    try:
        with pytest.raises(DatabaseError, match="in use"):
            BackgroundRuntime(db=db).start()
    finally:
        first.stop()
