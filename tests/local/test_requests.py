"""Requests: API keys, envelopes, errors and pagination."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from http import HTTPStatus
from typing import Literal

import aiohttp
import pytest

from inferencesh.local import Text

from .caller import AGENT, Json, Scripted, calling, text_of, told


@pytest.mark.parametrize(
    "key", [None, "", "Bearer", "Bearer inf_wrong", "inf_local", "Basic inf_local", "Bearer \u00fc"]
)
@pytest.mark.parametrize("path", ["/chats/nothing", "/chats/nothing/stream", "/nothing"])
async def test_without_a_known_key_nothing_is_answered(key: str | None, path: str) -> None:
    """The refusal does not even say whether the address exists."""
    async with calling() as caller, aiohttp.ClientSession(caller.runtime.base_url) as session:
        headers = {} if key is None else {"Authorization": key}
        async with session.get(path, headers=headers) as response:
            assert response.status == 401
            assert response.content_type == "application/problem+json"
            assert response.headers["WWW-Authenticate"] == "Bearer"
            problem = await response.json(content_type=None)
    assert problem["type"] == "https://api.inference.sh/errors/unauthorized"
    assert problem["status"] == 401
    assert "inf_" not in json.dumps(problem)


async def test_any_of_several_keys_opens_the_door() -> None:
    """The first of them is the one the runtime gives out."""
    async with calling(api_keys=("inf_one", "inf_two")) as caller:
        assert caller.runtime.api_key == "inf_one"
        async with aiohttp.ClientSession(caller.runtime.base_url) as session:
            for key in ("inf_one", "inf_two"):
                headers = {"Authorization": f"bearer {key}"}
                async with session.post("/chats/list", headers=headers) as response:
                    assert response.status == 200


async def test_every_answer_has_a_request_id_of_its_own() -> None:
    """Results, refusals and streams alike."""
    seen = set()
    async with calling() as caller:
        chat = await caller.post("/chats", {"agent": "acme/helper"})
        for method, path in [
            ("GET", f"/chats/{chat['id']}"),
            ("GET", f"/chats/{chat['id']}/stream"),
            ("GET", "/nothing"),
            ("DELETE", f"/chats/{chat['id']}"),
        ]:
            async with caller.session.request(method, path) as response:
                seen.add(response.headers["X-Request-Id"])
    assert len(seen) == 4


@pytest.mark.parametrize("envelope", ["v1", "v2", "v3"])
async def test_results_and_refusals_have_the_form_of_their_generation(envelope: Literal["v1", "v2", "v3"]) -> None:
    """v1 says success, v2 is bare, v3 has both; errors are problem details since v2, in v3 with those of v1 as well."""
    async with calling(envelope=envelope) as caller:
        answer = await caller.ask("POST", "/chats", {"agent": "acme/helper"})
        chat = answer if envelope == "v2" else answer["data"]
        if envelope == "v1":
            assert answer == {"success": True, "status": 200, "data": chat}
        if envelope == "v3":
            assert answer == {"success": True, "data": chat, "messages": []}
        assert chat["status"] == "idle"
        refusal = await caller.ask("POST", "/chats", {"agent": "helper"}, status=422)
        detail = "agent: must be written namespace/name or namespace/name@version."
        if envelope == "v1":
            error = {"code": "validation_error", "message": detail, "meta": {"field": "agent"}}
            assert refusal == {"success": False, "status": 422, "error": error}
        else:
            assert refusal["type"] == "https://api.inference.sh/errors/validation_error"
            assert (refusal["title"], refusal["status"]) == (HTTPStatus(422).phrase, 422)
            assert (refusal["detail"], refusal["field"]) == (detail, "agent")
        if envelope == "v3":
            assert refusal["success"] is False
            assert refusal["error"] == {"code": "validation_error", "message": detail}
        missing = await caller.ask("GET", "/chats/nothing", status=404)
        assert ("error" in missing) == (envelope != "v2")
        # Streams are never wrapped.
        async with caller.follow(chat["id"]) as events:
            assert (await events.until("chats"))["id"] == chat["id"]


TEXT = {"text": "Hello"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "input"),
        ({"agent": "acme/helper"}, "input"),
        ({"agent": "acme/helper", "input": "Hello"}, "input"),
        ({"agent": "acme/helper", "input": []}, "input"),
        ({"agent": "acme/helper", "input": {}}, "input.text"),
        ({"agent": "acme/helper", "input": {"text": 7}}, "input.text"),
        ({"agent": "acme/helper", "input": {**TEXT, "attachments": {}}}, "input.attachments"),
        ({"agent": "acme/helper", "input": {**TEXT, "attachments": [None]}}, "input.attachments[0]"),
        ({"agent": "acme/helper", "input": {**TEXT, "attachments": [{}]}}, "input.attachments[0].uri"),
        ({"agent": "acme/helper", "input": {**TEXT, "images": [1.5]}}, "input.images[0]"),
        ({"agent": "acme/helper", "input": TEXT, "stream": "yes"}, "stream"),
        ({"agent": "acme/helper", "input": TEXT, "chat_id": 7}, "chat_id"),
        ({"agent": "acme/helper", "input": TEXT, "context": ["a"]}, "context"),
        ({"agent": "acme/helper", "input": TEXT, "context": {"a": 1}}, "context.a"),
        ({"agent": "acme/helper", "input": TEXT, "agent_name": True}, "agent_name"),
        ({"input": TEXT}, "agent"),
        ({"agent": "acme", "input": TEXT}, "agent"),
        ({"agent": "acme/helper@", "input": TEXT}, "agent"),
        ({"agent": "acme/helper\n", "input": TEXT}, "agent"),
        ({"agent": "", "input": TEXT}, "agent"),
        ({"agent": 7, "input": TEXT}, "agent"),
        ({"agent_id": [], "input": TEXT}, "agent_id"),
        ({"agent": "acme/helper", "agent_config": {}, "input": TEXT}, "agent_config"),
        ({"agent_config": "acme/helper", "input": TEXT}, "agent_config"),
        ({"agent_config": {"name": 7}, "input": TEXT}, "agent_config.name"),
        ({"agent_config": {"system_prompt": []}, "input": TEXT}, "agent_config.system_prompt"),
        ({"agent_config": {"tools": {}}, "input": TEXT}, "agent_config.tools"),
        ({"agent_config": {"tools": ["calculator"]}, "input": TEXT}, "agent_config.tools[0]"),
        ({"agent_config": {"tools": [{}]}, "input": TEXT}, "agent_config.tools[0].name"),
        ({"agent_config": {"tools": [{"name": ""}]}, "input": TEXT}, "agent_config.tools[0].name"),
        ({"agent_config": {"tools": [{"name": "a"}, {"name": "a"}]}, "input": TEXT}, "agent_config.tools[1].name"),
        ({"agent_config": {"tools": [{"name": "a", "type": 1}]}, "input": TEXT}, "agent_config.tools[0].type"),
        ({"agent_config": {"tools": [{"name": "a", "client": 1}]}, "input": TEXT}, "agent_config.tools[0].client"),
        (
            {"agent_config": {"tools": [{"name": "a", "client": {"input_schema": 1}}]}, "input": TEXT},
            "agent_config.tools[0].client.input_schema",
        ),
    ],
)
async def test_a_wrong_body_is_refused_with_the_name_of_the_field(body: object, field: str) -> None:
    """Nothing is created by it."""
    async with calling() as caller:
        problem = await caller.ask("POST", "/agents/run", body, status=422)
        assert (problem["field"], problem["status"]) == (field, 422)
        assert problem["detail"].startswith(f"{field}: ")
        assert (await caller.post("/chats/list"))["items"] == []


@pytest.mark.parametrize("body", [b"{", b"\xff", b'"Hello"', b"[]", b"null", b"7", b"true", b'{"input": "\\ud800"}'])
async def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    """Every address that reads one says so."""
    async with calling() as caller:
        for path in ("/agents/run", "/chats", "/chats/list", "/tools/nothing"):
            async with caller.session.post(path, data=body) as response:
                assert response.status == 400
                problem = await response.json(content_type=None)
                assert problem["type"].endswith("/errors/invalid_request")


async def test_an_unknown_chat_is_not_found_by_any_address() -> None:
    """The refusal says which chat; a run does not open one by a name of the client's choice."""
    async with calling() as caller:
        for method, path, body in [
            ("GET", "/chats/nothing", None),
            ("GET", "/chats/nothing/messages", None),
            ("GET", "/chats/nothing/status", None),
            ("GET", "/chats/nothing/stream", None),
            ("POST", "/chats/nothing/messages", {"message": "Hello"}),
            ("POST", "/chats/nothing/stop", None),
            ("DELETE", "/chats/nothing", None),
            ("POST", "/agents/run", {"chat_id": "nothing", "input": TEXT}),
        ]:
            problem = await caller.ask(method, path, body, status=404)
            assert problem["type"] == "https://api.inference.sh/errors/not_found"
            assert "'nothing'" in problem["detail"]


async def test_an_address_that_does_not_exist_or_takes_another_method_says_so() -> None:
    """As problem details like everything else."""
    async with calling() as caller:
        assert (await caller.ask("GET", "/nothing", status=404))["type"].endswith("/errors/not_found")
        async with caller.session.put("/agents/run") as response:
            assert (response.status, response.headers["Allow"]) == (405, "POST")
            problem = await response.json(content_type=None)
    assert problem["type"] == "https://api.inference.sh/errors/method_not_allowed"


@pytest.mark.parametrize(
    ("method", "path", "missing"),
    [
        ("GET", "/flows", "/flows; of the service's parts it has /agent-runs, /agents, /apps, /chats,"),
        ("POST", "/flows/run/now?key=1", "/flows; of"),
        ("POST", "/agents/list", "/agents/list for POST."),
        ("GET", "/chats/7/moon%0A", "/chats/7/moon%0A for GET."),
        ("GET", "/", "/; of"),
    ],
)
async def test_an_address_that_is_not_here_is_named(method: str, path: str, missing: str) -> None:
    """The part of the service if all of it is missing, and otherwise the address in it."""
    async with calling() as caller:
        problem = await caller.ask(method, path, status=404)
        assert problem["detail"].startswith(f"The embedded runtime has no {missing}")
        assert "uploads" not in problem["detail"]


async def test_a_body_that_is_too_large_is_refused() -> None:
    """The limit is far above what a message needs."""
    async with calling() as caller:
        async with caller.session.post("/agents/run", data=io.BytesIO(b" " * (17 * 1024 * 1024))) as response:
            assert response.status == 413
            problem = await response.json(content_type=None)
        assert problem["detail"] == "The body is larger than this runtime takes."


async def test_messages_are_listed_newest_page_first() -> None:
    """Each page is in the order of the chat, and its cursor leads to the older ones."""
    async with calling(model=Scripted([Text("One.")], [Text("Two.")])) as caller:
        _, reply = await caller.send("First")
        chat_id = reply["chat_id"]
        await caller.finish(chat_id)
        await caller.send("Second", chat_id=chat_id)
        await caller.finish(chat_id)
        path = f"/chats/{chat_id}/messages"
        pages: list[Json] = [await caller.get(f"{path}?limit=3")]
        pages.append(await caller.get(f"{path}?limit=3&cursor={pages[0]['next_cursor']}"))
        assert [[text_of(message) for message in page["items"]] for page in pages] == [
            ["One.", "Second", "Two."],
            ["First"],
        ]
        assert [(page["has_next"], bool(page["next_cursor"])) for page in pages] == [(True, True), (False, False)]
        assert len((await caller.get(f"{path}?limit=100000"))["items"]) == 4
        assert len((await caller.get(f"{path}?limit=&cursor="))["items"]) == 4
        for query, field in [("limit=0", "limit"), ("limit=-1", "limit"), ("limit=x", "limit"), ("cursor=x", "cursor")]:
            assert (await caller.ask("GET", f"{path}?{query}", status=422))["field"] == field


async def test_chats_are_listed_newest_first() -> None:
    """Page by page as well."""
    async with calling() as caller:
        made = [(await caller.post("/chats", {"agent": "acme/helper"}))["id"] for _ in range(3)]
        page = await caller.post("/chats/list", {"limit": 2, "search": "", "filters": []})
        assert [chat["id"] for chat in page["items"]] == [made[2], made[1]]
        page = await caller.post("/chats/list", {"limit": 2, "cursor": page["next_cursor"]})
        assert [chat["id"] for chat in page["items"]] == [made[0]]
        assert not page["has_next"]
        for body, field in [({"limit": "2"}, "limit"), ({"limit": 0}, "limit"), ({"cursor": "x"}, "cursor")]:
            assert (await caller.ask("POST", "/chats/list", body, status=422))["field"] == field


async def test_a_chat_is_named_after_its_first_message() -> None:
    """Its first line, if it is not too long."""
    async with calling() as caller:
        _, reply = await caller.send("  Tell me about foxes\nand hounds", agent="acme/helper")
        assert (await caller.get(f"/chats/{reply['chat_id']}"))["name"] == "Tell me about foxes"


async def test_a_mistake_of_the_runtime_is_logged_and_answered_without_its_traceback(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is problem details all the same, and the server stays."""
    from inferencesh.local._api import chats as api

    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(api, "read_page_limit", broken)
    async with calling() as caller:
        with caplog.at_level(logging.ERROR, "inferencesh.local"):
            problem = await caller.ask("POST", "/chats/list", status=500)
        assert problem["type"] == "https://api.inference.sh/errors/internal_error"
        assert "secret" not in json.dumps(problem)
        assert caplog.records[0].exc_info is not None
        await caller.post("/chats", {"agent": "acme/helper"})


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /chats/" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: nine\r\n\r\n",
        b"GET / HTTP/1.1\r\nno header\r\n\r\n",
    ],
    ids=["a long header", "a long address", "a length that is none", "a line that is no header"],
)
async def test_what_is_no_request_is_refused_without_a_word_in_the_log(
    request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Browsers and scanners of ports send such things; the server stays."""
    async with calling() as caller:
        host, port = caller.runtime.base_url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request_bytes)
        assert (await reader.readline()).startswith(b"HTTP/1.0 400 ")
        writer.close()
        await writer.wait_closed()
        assert [record for record in caplog.records if record.name.startswith("inferencesh")] == []
        await caller.send("Hello", agent_config=AGENT)


@pytest.mark.parametrize("host", [b"", b"[", b"a b", b"a/b", b"127.0.0.1:99999", b"127.0.0.1:x", b"\xff", b"[::1"])
async def test_a_malformed_host_is_refused(host: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """It would become a part of the addresses of files."""
    file = b'{"files": [{"content_type": "text/plain"}]}'
    async with calling() as caller:
        status, problem = await told(caller, b"POST /files HTTP/1.1", b"Host: " + host, body=file)
        assert (status, problem["detail"]) == (400, "The Host header is malformed; send the address of the runtime.")
        assert (await caller.post("/files/list"))["items"] == []
        assert [record for record in caplog.records if record.name.startswith("inferencesh")] == []


async def test_a_request_without_a_host_gets_addresses_that_work() -> None:
    """As programs with HTTP/1.0 send it."""
    file = b'{"files": [{"content_type": "text/plain"}]}'
    async with calling() as caller:
        status, answer = await told(caller, b"POST /files HTTP/1.0", body=file)
        assert status == 200
        async with caller.session.put(
            answer["data"][0]["upload_url"], data=b"hi", headers={"Content-Type": "text/plain"}
        ):
            pass
        async with caller.session.get(answer["data"][0]["uri"]) as response:
            assert await response.read() == b"hi"


@pytest.mark.parametrize(
    ("target", "missing"),
    [(b"OPTIONS *", "/*; of"), (b"CONNECT a:80", "/; of"), (b"GET //chats/7", "//chats/7 for")],
)
async def test_a_target_that_is_no_path_is_not_here(target: bytes, missing: str) -> None:
    """Proxies and scanners of ports send such things."""
    async with calling() as caller:
        status, problem = await told(caller, target + b" HTTP/1.1", b"Host: a")
        assert status == 404
        assert problem["detail"].startswith(f"The embedded runtime has no {missing}")


async def test_a_body_that_breaks_off_leaves_the_server_running() -> None:
    """The connection is gone; there is nobody to answer."""
    async with calling() as caller:
        host, port = caller.runtime.base_url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head = ["POST /agents/run HTTP/1.1", f"Host: {host}", "Authorization: Bearer inf_local", "Content-Length: 99"]
        writer.write("\r\n".join([*head, "", '{"inp']).encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        await caller.send("Hello", agent_config=AGENT)


async def test_a_body_that_cannot_be_read_is_refused() -> None:
    """It says it is compressed and is not."""
    async with calling() as caller:
        headers = {"Content-Encoding": "gzip", "Connection": "close"}
        async with caller.session.post("/agents/run", data=b"no gzip", headers=headers) as response:
            assert response.status == 400
            problem = await response.json(content_type=None)
        assert "content-encoding" in problem["detail"]
