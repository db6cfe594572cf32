"""Requests of web pages: preflights, and the headers without which a browser keeps a response from the page."""

from __future__ import annotations

import aiohttp
import pytest

from inferencesh.local import LocalRuntime

from .caller import AGENT, calling, told

PAGE = "http://localhost:3000"
FILES = {"files": [{"content_type": "text/plain", "filename": "n.txt"}]}


def preflight(origin: str, method: str = "POST", **more: str) -> dict[str, str]:
    """The headers of a browser's question whether a page of this origin may make a request."""
    headers = {"Access-Control-Request-Headers": "authorization,content-type,x-client-source"}
    return {"Origin": origin, "Access-Control-Request-Method": method, **headers, **more}


@pytest.mark.parametrize("path", ["/agents/run", "/chats/nothing/stream", "/uploads/nothing", "/flows"])
async def test_a_preflight_is_answered_without_a_key(path: str) -> None:
    """With everything that the page asks for: browsers send no key with it."""
    async with calling(cors_origins=[PAGE]) as caller, aiohttp.ClientSession(caller.runtime.base_url) as session:
        async with session.options(path, headers=preflight(PAGE)) as response:
            assert (response.status, await response.read()) == (204, b"")
            assert response.headers["Access-Control-Allow-Origin"] == PAGE
            assert response.headers["Access-Control-Allow-Credentials"] == "true"
            assert response.headers["Access-Control-Allow-Headers"] == "authorization,content-type,x-client-source"
            assert {"GET", "POST", "PUT", "DELETE"} == set(response.headers["Access-Control-Allow-Methods"].split(", "))
            assert response.headers["Vary"] == "Origin"
            assert "Access-Control-Allow-Private-Network" not in response.headers
        private = preflight(PAGE, **{"Access-Control-Request-Private-Network": "true"})
        async with session.options(path, headers=private) as response:
            assert response.headers["Access-Control-Allow-Private-Network"] == "true"


async def test_every_response_may_be_read_by_the_page() -> None:
    """Results, refusals, unknown addresses, a missing key, streams and files alike."""
    async with calling(cors_origins=["https://app.example", PAGE]) as caller:
        base = caller.runtime.base_url
        _, reply = await caller.send("Hello")
        upload = (await caller.ask("POST", "/files", FILES))["data"][0]["upload_url"].removeprefix(base)
        asked = [
            ("POST", "/chats/list", 200),
            ("POST", "/agents/run", 422),
            ("GET", "/flows", 404),
            ("GET", f"/chats/{reply['chat_id']}/stream", 200),
            ("PUT", upload, 200),
        ]
        for method, path, status in asked:
            async with caller.session.request(
                method, path, headers={"Origin": PAGE, "Content-Type": "text/plain"}
            ) as got:
                assert got.status == status
                assert got.headers["Access-Control-Allow-Origin"] == PAGE
                assert got.headers["Access-Control-Allow-Credentials"] == "true"
                assert "X-Request-Id" in got.headers["Access-Control-Expose-Headers"]
                assert got.headers["Vary"] == "Origin"
        async with (
            aiohttp.ClientSession(base) as session,
            session.get("/chats/x", headers={"Origin": PAGE}) as response,
        ):
            assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (401, PAGE)


async def test_other_pages_get_nothing() -> None:
    """Neither an answer to their question, nor a response that they can read; the refusal says what to do."""
    other = "https://other.example"
    async with calling(cors_origins=[PAGE]) as caller:
        async with caller.session.options("/agents/run", headers=preflight(other)) as response:
            assert response.status == 403
            assert not {"Access-Control-Allow-Origin", "Access-Control-Allow-Headers"} & set(response.headers)
            assert f"--cors-origin {other}" in (await response.json(content_type=None))["detail"]
        async with caller.session.post("/chats/list", headers={"Origin": other}) as response:
            assert "Access-Control-Allow-Origin" not in response.headers
            assert response.headers["Vary"] == "Origin"
        head = (
            b"OPTIONS /agents/run HTTP/1.1",
            b"Host: a",
            b"Origin: http://\xff",
            b"Access-Control-Request-Method: POST",
        )
        assert (await told(caller, *head))[0] == 403


async def test_without_origins_nothing_is_said_of_them() -> None:
    """As for programs, which need none of this; OPTIONS that is no preflight is a method like others."""
    async with calling() as caller:
        async with caller.session.post("/chats/list", headers={"Origin": PAGE}) as response:
            assert not {name for name in response.headers if name.startswith("Access-Control") or name == "Vary"}
        async with caller.session.options("/chats/list", headers={"Origin": PAGE}) as response:
            assert response.status == 405
        async with caller.session.options("/chats/list", headers=preflight(PAGE)) as response:
            assert response.status == 403


async def test_a_star_allows_all_pages_but_no_credentials() -> None:
    """Otherwise any page could act for somebody who is signed in; one that is listed as well may send them."""
    async with calling(cors_origins=["*", PAGE]) as caller:
        for origin, allowed, credentials in [("https://any.example", "*", None), (PAGE, PAGE, "true")]:
            async with caller.session.options("/chats", headers=preflight(origin)) as response:
                assert response.status == 204
                assert response.headers["Access-Control-Allow-Origin"] == allowed
                assert response.headers.get("Access-Control-Allow-Credentials") == credentials
            async with caller.session.post("/chats", json={"agent_config": AGENT}, headers={"Origin": origin}) as made:
                assert made.headers["Access-Control-Allow-Origin"] == allowed
    async with (
        calling(cors_origins=["*"]) as caller,
        caller.session.post("/chats/list", headers={"Origin": PAGE}) as response,
    ):
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert "Vary" not in response.headers


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("HTTPS://App.Example:443", "https://app.example"),
        ("http://localhost:80", "http://localhost"),
        ("http://[::1]:5173", "http://[::1]:5173"),
        ("null", "null"),
    ],
)
async def test_an_origin_is_compared_as_browsers_send_it(written: str, sent: str) -> None:
    """In lower case and without the port that goes without saying."""
    async with (
        calling(cors_origins=[written]) as caller,
        caller.session.options("/chats", headers=preflight(sent)) as response,
    ):
        assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (204, sent)


@pytest.mark.parametrize(
    "origin", ["", "localhost:3000", "http://", "http://a.example/", "http://a.example/x", "http://a b", "http://a:b"]
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    """At once, with an example; a text in place of a list too."""
    with pytest.raises(ValueError, match=r"is not an origin such as https://app\.example"):
        LocalRuntime(cors_origins=[origin])
    with pytest.raises(TypeError, match="list or tuple"):
        LocalRuntime(cors_origins=PAGE)
