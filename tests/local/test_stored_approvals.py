"""Approvals, interrupts and outputs in a database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inferencesh.local import Finish, Text, ToolCall

from .caller import AGENT, CALCULATOR, Scripted, calling, invocations

GUARDED = {**AGENT, "tools": [{**CALCULATOR, "require_approval": True}], "output_schema": {"type": "object"}}


async def test_a_call_that_waits_for_its_approval_goes_on_after_a_restart(tmp_path: Path) -> None:
    """Its interrupts and what was always allowed are kept, and so is the output of a run."""
    db = tmp_path / "chats.db"
    async with calling(db=db, model=Scripted([ToolCall("calculator", {"expression": "1"})])) as caller:
        _, reply = await caller.send("Hello", agent_config=GUARDED)
        chat_id = reply["chat_id"]
        async with caller.follow(chat_id) as events:
            await events.until("chats", status="awaiting_input")
        before: list[Any] = [await caller.get(f"/chats/{chat_id}"), await caller.messages(chat_id)]
    async with calling(db=db) as caller:
        assert [await caller.get(f"/chats/{chat_id}"), await caller.messages(chat_id)] == before
        (call,) = invocations(before[1][-1])
        assert call["status"] == "awaiting_approval"
        await caller.post(f"/chats/{chat_id}/tools/{call['id']}/always-allow", {})
    model = Scripted([Text("So: "), Finish({"value": [1, 2]})], [ToolCall("calculator", {"expression": "2"})])
    async with calling(db=db, model=model) as caller:
        async with caller.follow(chat_id) as events:
            await events.until("chats", status="awaiting_input")
            await caller.post(f"/tools/{call['id']}", {"result": "1"})
            await events.until_idle()
        before = [await caller.get(f"/chats/{chat_id}"), await caller.messages(chat_id)]
        assert before[0]["output"] == {"value": [1, 2]}
    async with calling(db=db, model=Scripted([ToolCall("calculator", {"expression": "2"})])) as caller:
        assert [await caller.get(f"/chats/{chat_id}"), await caller.messages(chat_id)] == before
        await caller.send("Again", chat_id=chat_id)
        async with caller.follow(chat_id) as events:
            await events.until("chats", status="awaiting_input")
        assert invocations((await caller.messages(chat_id))[-1])[0]["status"] == "awaiting_input"
