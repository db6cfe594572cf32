"""The list of chats: pages, searches and names."""

from __future__ import annotations

import pytest

from inferencesh.local import Text

from .caller import Caller, Json, Scripted, calling


async def opened(caller: Caller, *names: str) -> list[str]:
    """Open a chat for each name; returns their ids."""
    made = [(await caller.post("/chats", {"agent": "acme/helper"}))["id"] for _ in names]
    for chat_id, name in zip(made, names, strict=True):
        await caller.post(f"/chats/{chat_id}", {"name": name})
    return made


async def listed(caller: Caller, **body: object) -> Json:
    """A page of the list."""
    return await caller.post("/chats/list", body)


async def test_pages_stay_the_same_while_chats_come_and_go() -> None:
    """What is opened later is on no later page, and nothing is missed when the last chat of a page is deleted."""
    async with calling() as caller:
        made = await opened(caller, *"abcde")
        page = await listed(caller, limit=2)
        assert [each["id"] for each in page["items"]] == [made[4], made[3]]
        await opened(caller, "f", "g")
        await caller.ask("DELETE", f"/chats/{made[3]}", status=204)
        page = await listed(caller, limit=2, cursor=page["next_cursor"])
        assert [each["id"] for each in page["items"]] == [made[2], made[1]]
        assert (page["has_next"], page["items_per_page"]) == (True, 2)
        page = await listed(caller, limit=2, cursor=page["next_cursor"])
        assert [each["id"] for each in page["items"]] == [made[0]]
        assert (page["has_next"], page["next_cursor"]) == (False, "")


async def test_a_page_that_is_just_full_is_the_last() -> None:
    """No empty page follows it."""
    async with calling() as caller:
        await opened(caller, *"ab")
        page = await listed(caller, limit=2)
        assert (len(page["items"]), page["has_next"], page["next_cursor"]) == (2, False, "")


async def test_a_search_finds_names() -> None:
    """Wherever the text stands in them, in capitals or not, page by page."""
    async with calling() as caller:
        made = await opened(caller, "Foxes and hounds", "Red herring", "An Arctic FOX", "Straße")
        page = await listed(caller, search="fox", limit=1)
        assert [each["name"] for each in page["items"]] == ["An Arctic FOX"]
        page = await listed(caller, search="fox", limit=1, cursor=page["next_cursor"])
        assert [each["id"] for each in page["items"]] == [made[0]]
        assert not page["has_next"]
        assert [each["id"] for each in (await listed(caller, search=" STRASSE "))["items"]] == [made[3]]
        assert (await listed(caller, search="badger"))["items"] == []
        assert len((await listed(caller, search=None))["items"]) == 4
        assert (await caller.ask("POST", "/chats/list", {"search": 7}, status=422))["field"] == "search"


async def test_a_chat_can_be_renamed() -> None:
    """Those who follow it see the new name; a message does not take it back."""
    async with calling(model=Scripted([Text("Hi.")])) as caller:
        (chat_id,) = await opened(caller, "First")
        async with caller.follow(chat_id) as events:
            await events.until("chats", lambda chat: chat["name"] == "First")
            answer = await caller.post(f"/chats/{chat_id}", {"name": "Second", "status": "busy"})
            assert (answer["id"], answer["name"], answer["status"]) == (chat_id, "Second", "idle")
            await events.until("chats", lambda chat: chat["name"] == "Second")
        await caller.send("Hello", chat_id=chat_id)
        await caller.finish(chat_id)
        assert (await caller.get(f"/chats/{chat_id}"))["name"] == "Second"


@pytest.mark.parametrize("body", [{}, {"name": None}, {"context": {"a": "b"}}])
async def test_an_update_changes_what_it_names(body: Json) -> None:
    """And nothing else, not even the time of the last change."""
    async with calling() as caller:
        (chat_id,) = await opened(caller, "First")
        before = await caller.get(f"/chats/{chat_id}")
        assert await caller.post(f"/chats/{chat_id}", body) == before


async def test_a_wrong_update_is_refused() -> None:
    """A name is text, and the chat must be there."""
    async with calling() as caller:
        (chat_id,) = await opened(caller, "First")
        assert (await caller.ask("POST", f"/chats/{chat_id}", {"name": 7}, status=422))["field"] == "name"
        await caller.ask("POST", "/chats/nothing", {"name": "Second"}, status=404)
        assert (await caller.get(f"/chats/{chat_id}"))["name"] == "First"
