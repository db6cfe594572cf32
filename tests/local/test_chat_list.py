"""The list of chats: pages, searches and names."""

from __future__ import annotations

import pytest

from inferencesh.local import Finish, Text

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


@pytest.mark.parametrize(
    ("field", "operator", "value", "names"),
    [
        ("name", "eq", "Fox", ["Fox"]),
        ("name", "neq", "Fox", ["", "red fox 10%", "Hound"]),
        ("name", "in", ["Fox", "Hound", 7], ["Fox", "Hound"]),
        ("name", "not_in", ["Fox", "Hound"], ["", "red fox 10%"]),
        ("name", "gt", "Fox", ["red fox 10%", "Hound"]),
        ("name", "gte", "Fox", ["red fox 10%", "Fox", "Hound"]),
        ("name", "lt", "Hound", ["", "Fox"]),
        ("name", "lte", "Hound", ["", "Fox", "Hound"]),
        ("name", "gt", 7, []),
        ("name", "like", "%fox%", ["red fox 10%"]),
        ("name", "ilike", "%FOX%", ["red fox 10%", "Fox"]),
        ("name", "like", "F_x", ["Fox"]),
        ("name", "like", "[F]*", []),
        ("name", "contains", "FOX", ["red fox 10%", "Fox"]),
        ("name", "not_contains", "fox", ["", "Hound"]),
        ("name", "is_empty", None, [""]),
        ("name", "is_not_empty", None, ["red fox 10%", "Fox", "Hound"]),
        ("parent_id", "is_null", None, ["", "red fox 10%", "Fox", "Hound"]),
        ("parent_id", "is_not_null", None, []),
        ("active_run.state", "eq", "completed", []),
        ("active_run.state", "is_null", None, ["", "red fox 10%", "Fox", "Hound"]),
        ("name.first", "eq", "Fox", []),
        ("agent_data.disable_hooks", "eq", False, ["", "red fox 10%", "Fox", "Hound"]),
        ("agent_data.disable_hooks", "eq", 0, []),
        ("agent_data.always_allowed_tools", "contains", "calculator", []),
        ("created_at", "gt", "2020-01-01", ["", "red fox 10%", "Fox", "Hound"]),
        ("created_at", "lt", "2020-01-01T00:00:00+01:00", []),
        ("created_at", "gt", "2020-99-01", []),
    ],
)
async def test_a_filter_chooses_by_a_field(field: str, operator: str, value: object, names: list[str]) -> None:
    """Every operator of the service; times are compared as times, and what is of another type is not compared."""
    async with calling() as caller:
        await opened(caller, "Hound", "Fox", "red fox 10%", "")
        page = await listed(caller, filters=[{"field": field, "operator": operator, "value": value}])
        assert [each["name"] for each in page["items"]] == names


async def test_filters_look_into_contexts_and_outputs() -> None:
    """Whatever is in them; a chat that has no such field is not chosen."""
    schema: Json = {"type": "object", "properties": {"stars": {"type": "integer"}}}
    async with calling(model=Scripted([Finish({"stars": 4})], [Finish({"stars": 2})], [Text("Hi.")])) as caller:
        agent = {"output_schema": schema}
        for city, config in [("Paris", agent), ("Rome", agent), ("Oslo", {})]:
            _, reply = await caller.send("Rate it", agent_config=config, context={"city": city})
            await caller.finish(reply["chat_id"])
        await opened(caller, "Empty")
        for path, operator, value, cities in [
            ("context.city", "eq", "Paris", ["Paris"]),
            ("output.stars", "gte", 2, ["Rome", "Paris"]),
            ("active_run.output.stars", "gt", 2, ["Paris"]),
            ("output", "is_null", None, [None, "Oslo"]),
        ]:
            page = await listed(caller, filters=[{"field": path, "operator": operator, "value": value}])
            assert [each["context"].get("city") for each in page["items"]] == cities


async def test_filters_searches_and_pages_go_together() -> None:
    """All filters must hold, and pages count only what is wanted; a search may be an object."""
    async with calling() as caller:
        await opened(caller, "Fox 1", "Hound", "Fox 2", "Fox 3")
        wanted: Json = {
            "filters": [
                {"field": "name", "operator": "neq", "value": "Fox 3"},
                {"field": "status", "operator": "eq", "value": "idle"},
            ],
            "search": {"term": "fox", "exact": False},
            "limit": 1,
        }
        page = await listed(caller, **wanted)
        assert [each["name"] for each in page["items"]] == ["Fox 2"]
        page = await listed(caller, **wanted, cursor=page["next_cursor"])
        assert ([each["name"] for each in page["items"]], page["has_next"]) == (["Fox 1"], False)
        page = await listed(caller, search={"term": "fox 3", "exact": True})
        assert [each["name"] for each in page["items"]] == ["Fox 3"]
        assert (await listed(caller, search={"term": "fox", "exact": True}))["items"] == []
        assert len((await listed(caller, search={}, filters=None))["items"]) == 4


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"filters": {}}, "filters"),
        ({"filters": [{"operator": "eq", "value": 1}]}, "filters[0].field"),
        ({"filters": [{"field": "name", "value": 1}]}, "filters[0].operator"),
        ({"filters": [{"field": "name", "operator": "is"}]}, "filters[0].operator"),
        ({"filters": [{"field": "moon", "operator": "eq"}]}, "filters[0].field"),
        ({"filters": [{"field": "moon.phase", "operator": "is_null"}]}, "filters[0].field"),
        ({"filters": [{"field": "name", "operator": "in", "value": "Fox"}]}, "filters[0].value"),
        ({"filters": [{"field": "name", "operator": "like", "value": 7}]}, "filters[0].value"),
        ({"search": {"term": 7}}, "search.term"),
    ],
)
async def test_a_malformed_filter_is_refused(body: Json, field: str) -> None:
    """With its place."""
    async with calling() as caller:
        await opened(caller, "Fox")
        assert (await caller.ask("POST", "/chats/list", body, status=422))["field"] == field
