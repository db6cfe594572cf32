"""The server's part of the playground: who gets in, Markdown, the agent of a chat, and tests made of events."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import aiohttp
import pytest

from inferencesh import AsyncInference, web
from inferencesh._page.markdown import MarkdownRenderer, find_renderer
from inferencesh.local import Ask, Conversation, Fail, LocalRuntime, Piece, Reasoning, Text, ToolCall
from inferencesh.local._playground.access import PlaygroundAccess
from inferencesh.local._playground.replay import write_test

OWN = {"X-Inferencesh-Playground": "1"}


class Answering:
    """A model that answers with the pieces of the first rule whose word is in the last message."""

    def __init__(self, **rules: Sequence[Piece]) -> None:
        self.rules = rules

    async def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        last = conversation.messages[-1]
        word = "result" if last.role == "tool" else last.text
        for piece in self.rules.get(word, [Text("Hello.")]):
            yield piece


@asynccontextmanager
async def browsing(**options: Any) -> AsyncIterator[tuple[LocalRuntime, aiohttp.ClientSession]]:
    """A runtime with a playground, and a client that keeps cookies as a browser does."""
    options = {"playground": "loopback", "pace": 0.0, **options}
    jar = aiohttp.CookieJar(unsafe=True)  # "unsafe" is about cookies of addresses instead of names
    async with (
        LocalRuntime(**options) as runtime,
        aiohttp.ClientSession(runtime.base_url, cookie_jar=jar) as session,
    ):
        yield runtime, session


async def status(session: aiohttp.ClientSession, method: str, path: str, **more: Any) -> int:
    async with session.request(method, path, **more) as response:
        await response.read()
        return response.status


# -- who gets in -------------------------------------------------------------------------------------------------------


async def test_the_page_gets_a_session_that_stands_for_the_key() -> None:
    """The cookie is for requests of the page alone, and neither it nor the page has the key."""
    async with browsing() as (runtime, session):
        async with session.get("/") as response:
            page = await response.text()
            cookie = response.headers["Set-Cookie"]
        assert "<title>Playground</title>" in page
        assert runtime.api_key not in page + cookie
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert await status(session, "POST", "/chats/list", headers=OWN, json={}) == 200
        assert await status(session, "POST", "/chats/list", json={}) == 401, "the page's header is missing"
        session.cookie_jar.clear()
        assert await status(session, "POST", "/chats/list", headers=OWN, json={}) == 401


async def test_without_a_playground_there_is_none() -> None:
    """A runtime made in a program has none unless asked for, and no cookie opens it."""
    async with browsing(playground="off") as (_, session):
        for path in ("/", "/playground/app.js", "/playground/session"):
            assert await status(session, "GET", path, headers=OWN) == 401


@pytest.mark.parametrize(
    "foreign",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
        {"Host": "127.0.0.1.evil.example"},
    ],
    ids=str,
)
async def test_pages_of_other_sites_stay_outside(foreign: dict[str, str]) -> None:
    """Even with the cookie and the header: another origin, another port, a host name that points here."""
    async with browsing() as (_, session):
        await status(session, "GET", "/")
        cookies = "; ".join(f"{each.key}={each.value}" for each in session.cookie_jar)
        headers = {**OWN, "Cookie": cookies, **foreign}
        for method, path in (("POST", "/chats/list"), ("GET", "/playground/session"), ("POST", "/playground/markdown")):
            assert await status(session, method, path, headers=headers, json={}) == 403
        if "Host" in foreign:
            async with session.get("/", headers=foreign) as response:
                assert response.status == 403
                assert "Set-Cookie" not in response.headers
                assert "--playground everywhere" in (await response.json(content_type=None))["detail"]


async def test_a_malformed_host_is_refused() -> None:
    """It would become a part of the page's policy."""
    async with browsing() as (_, session):
        for host in ("127.0.0.1; script-src *", "127.0.0.1:99999"):
            assert await status(session, "GET", "/", headers={"Host": host}) == 400


async def test_a_key_of_its_own_is_asked_for() -> None:
    """Other people of this machine can open the page, but a runtime with a key keeps them out until it is entered."""
    async with browsing(api_keys=["inf_secret"]) as (_, session):
        async with session.get("/") as response:
            assert "Set-Cookie" not in response.headers
        assert await status(session, "POST", "/chats/list", headers=OWN, json={}) == 401
        async with session.get("/playground/session", headers=OWN) as response:
            assert (await response.json())["signed_in"] is False
        assert await status(session, "POST", "/playground/session", headers=OWN, json={"key": "inf_local"}) == 403
        assert await status(session, "POST", "/playground/session", json={"key": "inf_secret"}) == 403
        async with session.post("/playground/session", headers=OWN, json={"key": "inf_secret"}) as response:
            assert response.status == 200
            assert "inf_secret" not in response.headers["Set-Cookie"]
        assert await status(session, "POST", "/chats/list", headers=OWN, json={}) == 200


async def test_everywhere_takes_other_hosts_and_asks_for_the_key() -> None:
    """The well-known key does not open the page by itself under a name that is not this machine's own."""
    host = {"Host": "box.example"}
    async with browsing(playground="everywhere") as (_, session), session.get("/", headers=host) as response:
        assert response.status == 200
        assert "Set-Cookie" not in response.headers
        assert "script-src box.example/playground/;" in response.headers["Content-Security-Policy"]


async def test_the_page_runs_nothing_but_its_own_files() -> None:
    """Its policy allows no inline script or style, no other origin, and no uploaded file as a script."""
    async with browsing() as (runtime, session), session.get("/") as response:
        policy = dict(each.split(" ", 1) for each in response.headers["Content-Security-Policy"].split("; "))
        host = runtime.base_url.removeprefix("http://")
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == f"{host}/playground/"
        assert policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Frame-Options"] == "DENY"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"


async def test_only_the_files_of_the_page_are_served() -> None:
    """Whatever a path looks like."""
    async with browsing() as (_, session):
        for name in ("app.js", "playground.css", "icon.svg"):
            assert await status(session, "GET", f"/playground/{name}") == 200
        for name in ("../server.py", "%2e%2e/server.py", "static/app.js", "server.py", ""):
            assert await status(session, "GET", f"/playground/{name}") in {401, 404}
        assert await status(session, "PUT", "/") == 405


async def test_clients_with_a_key_are_not_touched() -> None:
    """The API is as it is without a playground."""
    async with browsing() as (runtime, _), AsyncInference(runtime.api_key, base_url=runtime.base_url) as client:
        assert (await client.agent({"name": "greeter"}).send_message("Hi")).text


def test_an_unknown_choice_is_told_of() -> None:
    """With the choices that there are."""
    assert get_args(PlaygroundAccess) == ("off", "loopback", "everywhere")
    with pytest.raises(ValueError, match="playground must be off, loopback or everywhere, not 'maybe'"):
        LocalRuntime(playground="maybe")  # type: ignore[arg-type] # what is tested


# -- the page's own endpoints ------------------------------------------------------------------------------------------


async def test_the_agent_of_a_chat_is_shown_and_a_wrong_one_is_named() -> None:
    """What a person edits is checked with the words of the API."""
    config = {
        "name": "playground",
        "system_prompt": "Be kind.",
        "tools": [
            {
                "name": "send_mail",
                "type": "client",
                "description": "Send a mail",
                "require_approval": True,
                "client": {"input_schema": {"type": "object"}},
            }
        ],
        "output_schema": {"type": "object"},
        "permissions": {"allow_all_tools": True},
    }
    async with browsing() as (_, session):
        await status(session, "GET", "/")
        async with session.post("/chats", headers=OWN, json={"agent_config": config}) as response:
            chat = (await response.json())["data"]["id"]
        async with session.post("/playground/chat-agent", headers=OWN, json={"chat_id": chat}) as response:
            assert await response.json() == config
        assert await status(session, "POST", "/playground/agent", headers=OWN, json={"agent": config}) == 200
        wrong = {"agent": {"tools": [{"name": 3, "type": "client"}]}}
        async with session.post("/playground/agent", headers=OWN, json=wrong) as response:
            assert response.status == 422
            assert (await response.json(content_type=None))["detail"].startswith("agent_config.tools[0].name: ")


async def test_markdown_is_rendered_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the page is told if the library for it is missing."""
    async with browsing() as (_, session):
        await status(session, "GET", "/")
        async with session.post("/playground/markdown", headers=OWN, json={"text": "a\n\n*b*"}) as response:
            assert await response.json() == {"blocks": ["<p>a</p>\n", "<p><em>b</em></p>\n"], "last_line": 2}
        assert await status(session, "POST", "/playground/markdown", headers=OWN, json={"text": "x" * 200_001}) == 413
    monkeypatch.setitem(sys.modules, "markdown_it", None)
    async with browsing() as (_, session):
        async with session.get("/playground/session", headers=OWN) as response:
            assert (await response.json())["markdown"] is False
        async with session.post("/playground/markdown", headers=OWN, json={"text": "a"}) as response:
            assert response.status == 501
            assert "inferencesh[playground]" in (await response.json(content_type=None))["detail"]


# -- Markdown ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def renderer() -> MarkdownRenderer:
    found = find_renderer()
    assert found is not None
    return found


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg/onload=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](data:text/html,<script>alert(1)</script>)",
        "[x](vbscript:x)",
        "[x](/chats)",
        "[x]: javascript:alert(1)\n\n[x]",
        "<javascript:alert(1)>",
        "![x](javascript:alert(1))",
        "![x](https://evil.example/x.png)",
        "![<img src=x>](https://evil.example/x.png)",
        '[x](https://ok.example "title\\" onclick=alert(1)")',
        '```"><script>alert(1)</script>\ncode\n```',
        "&lt;script&gt;",
        "[a](https://x.example/\"onmouseover='alert(1)')",
    ],
)
def test_hostile_markdown_stays_text(text: str, renderer: MarkdownRenderer) -> None:
    """No element but Markdown's own, no image, no attribute that runs something, no link to anything but the web."""
    from html.parser import HTMLParser

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag in {"p", "a", "pre", "code", "em", "strong"}
            assert {name for name, _ in attrs} <= {"href", "rel", "target", "class", "title"}
            given = dict(attrs)
            if "href" in given:
                assert str(given["href"]).startswith(("http://", "https://", "mailto:"))
                assert "noopener" in str(given["rel"])

    checker = Checker()
    checker.feed("".join(renderer.render(text).blocks))
    checker.close()


def test_what_is_appended_changes_the_last_block_only(renderer: MarkdownRenderer) -> None:
    """So that a text may be rendered from there: at every point of it, the blocks before are those of the whole."""
    text = (
        "# Title\n\nA paragraph\nof two lines.\n\n- one\n- two\n\n  more\n\n> quote\n\n| a | b |\n|---|---|\n| 1 | 2 |"
        "\n\n```py\ncode\n\n# no title\n```\n\nlast *word*"
    )
    whole = renderer.render(text).blocks
    assert len(whole) == 7
    done: list[str] = []
    base = 0
    for end in range(1, len(text) + 1):
        rendered = renderer.render(text[base:end])
        if len(rendered.blocks) > 1:
            done += rendered.blocks[:-1]
            base += sum(map(len, text[base:end].splitlines(keepends=True)[: rendered.last_line]))
    assert [*done, *renderer.render(text[base:]).blocks] == whole


# -- tests made of events ----------------------------------------------------------------------------------------------

CLOCK = {"name": "clock", "type": "client", "client": {"input_schema": {"type": "object"}}}
HOSTILE = '"""\'\'\'\\\n</script>{__import__("os").abort()}\x00\u2028\U0001f600'


async def record(model: Answering, texts: list[str], *, answer: str | None = "noon") -> list[dict[str, object]]:
    """The events that the page's inspector has after a conversation."""
    async with LocalRuntime(model=model, pace=0) as runtime:
        headers = {"Authorization": f"Bearer {runtime.api_key}", "Accept": "application/x-ndjson"}
        async with aiohttp.ClientSession(runtime.base_url, headers=headers) as session:
            body = {"agent_config": {"name": "x", "tools": [CLOCK]}}
            chat = (await (await session.post("/chats", json=body)).json())["data"]["id"]
            events: list[dict[str, object]] = []
            async with session.get(f"/chats/{chat}/stream") as stream:
                for text in texts:
                    await session.post("/agents/run", json={"chat_id": chat, "input": {"text": text}})
                    async for line in stream.content:
                        event: dict[str, Any] = json.loads(line)
                        events.append(event)
                        run = event["data"] if event.get("event") == "agent_runs" else {}
                        if run.get("state") in {"completed", "failed"}:
                            break
                        if run.get("state") == "input_required":
                            if answer is None:
                                return events
                            await settle(session, run, answer)
            return events


async def settle(session: aiohttp.ClientSession, run: dict[str, Any], answer: str) -> None:
    """Answer what a run waits for."""
    if run["interrupt_reason"] == "client_tool":
        await session.post(f"/tools/{run['interrupt_tool_id']}", json={"result": answer})
        return
    pending = (await (await session.get(f"/agent-runs/{run['id']}/interrupts")).json())["data"]
    await session.post(f"/interrupts/{pending[-1]['id']}/resolve", json={"decision": "allow"})


def play(code: str) -> None:
    """Run the test in a module's source."""
    module: dict[str, Any] = {}
    exec(compile(code, "test_recorded.py", "exec"), module)  # noqa: S102 - running it is what is tested
    module["test_the_recorded_conversation"]()


HOSTILE_RULES: dict[str, list[Piece]] = {
    HOSTILE: [Text(HOSTILE), ToolCall("clock", {HOSTILE: HOSTILE})],
    "result": [Text(HOSTILE)],
}
CONVERSATIONS: dict[str, tuple[Answering, list[str], str | None]] = {
    "text": (Answering(Hi=[Reasoning("Hm."), Text("He"), Text("llo the"), Text("re.")]), ["Hi", "Again"], "noon"),
    "tools": (
        Answering(
            Time=[
                Text("Let me see. "),
                ToolCall("clock", {"zone": "UTC", "deep": [None, True]}),
                ToolCall("clock", {}),
            ],
            result=[Text("It is noon.")],
        ),
        ["Time"],
        "noon",
    ),
    "hostile": (
        Answering(**HOSTILE_RULES),
        [HOSTILE],
        HOSTILE,
    ),
    "failure": (Answering(Hi=[Text("I was ab"), Fail("out of credit")]), ["Hi"], "noon"),
    "waiting": (Answering(Time=[ToolCall("clock", {})]), ["Time"], None),
    "question": (Answering(Publish=[Text("May I? "), Ask("Publish it?")], result=[Text("Done.")]), ["Publish"], "-"),
    "unknown tool": (Answering(Fly=[ToolCall("wings", {})], result=[Text("I cannot.")]), ["Fly"], "noon"),
    "many pieces": (Answering(Hi=[Text(f"{n:x}") for n in range(300)]), ["Hi"], "noon"),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_events_become_a_test_that_passes(name: str) -> None:
    """The conversation that was seen runs again, without the model."""
    model, texts, answer = CONVERSATIONS[name]
    code = write_test(asyncio.run(record(model, texts, answer=answer)))
    for text in texts:
        assert repr(text) in code
    play(code)


def test_the_test_fails_when_the_agent_says_something_else(tmp_path: Path) -> None:
    """It is not a test of nothing; pytest finds it in the file that the page proposes."""
    code = write_test(asyncio.run(record(Answering(Hi=[Text("Hello there.")]), ["Hi"])))
    (tmp_path / "test_recorded.py").write_text(code, encoding="utf-8")
    changed = code.replace("'Hello there.'", "'Good night.'", 1)
    (tmp_path / "test_changed.py").write_text(changed, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "1 failed, 1 passed" in done.stdout


@pytest.mark.parametrize(
    "events",
    [
        [],
        [{}],
        [{"event": "chat_messages", "data": None}, {"event": "delta", "data": {"delta": [1]}}, {"event": 7}],
        [{"event": "chat_messages", "data": {"id": 3, "role": "user", "content": "x", "order": "first"}}],
        [
            {
                "event": "chat_messages",
                "data": {"id": "m", "role": "assistant", "tool_invocations": [None, {"function": 1}]},
            }
        ],
    ],
)
def test_junk_becomes_a_test_all_the_same(events: list[dict[str, object]]) -> None:
    """Of what there is in it: nothing, or a message without a reply."""
    play(write_test(events))


async def test_the_page_gets_the_test_of_its_events() -> None:
    """As source."""
    async with browsing() as (_, session):
        await status(session, "GET", "/")
        async with session.post("/playground/test", headers=OWN, json={"events": []}) as response:
            assert "def test_the_recorded_conversation() -> None:" in (await response.json())["code"]


def test_every_static_file_is_in_the_package() -> None:
    """Each module that the page imports is served."""
    static = Path(importlib.import_module("inferencesh.local._playground").__path__[0]) / "static"
    paths = [*static.iterdir(), *web.page_files().iterdir()]
    names = {path.name for path in paths}
    assert len(names) == len(paths), "no file hides another one"
    for path in paths:
        if path.suffix != ".js":
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("import ") and ' from "' in line:
                assert line.rpartition('"./')[2].rstrip('";') in names, line


# -- colours -----------------------------------------------------------------------------------------------------------


def _themes() -> dict[str, dict[str, str]]:
    """The colours of the light and the dark theme, by the names of their variables."""
    css = (web.page_files() / "content.css").read_text(encoding="utf-8")
    blocks = re.findall(r"(:root[^{]*)\{([^}]*)\}", css)
    colours = {name: dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", body)) for name, body in blocks}
    light, chosen = colours[":root "], colours[':root[data-theme="dark"] ']
    assert chosen == colours[':root:not([data-theme="light"]) '], "chosen and of the system, dark is the same"
    return {"light": light, "dark": chosen}


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    ("text", "paper"),
    [
        *((text, paper) for text in ("ink", "soft") for paper in ("paper", "panel", "card", "code")),
        *(("accent", paper) for paper in ("paper", "card", "accent-soft")),
        ("ink", "accent-soft"),
        ("on-accent", "accent"),
        *((text, "wait-paper") for text in ("ink", "soft", "wait", "wrong")),
        ("wrong", "wrong-paper"),
        ("wrong", "panel"),
        ("good", "card"),
    ],
)
def test_text_has_the_contrast_that_people_need(theme: str, text: str, paper: str) -> None:
    """At least 4.5 to 1, as WCAG asks for with AA."""
    colours = _themes()[theme]
    dark, light = sorted([_luminance(colours[text]), _luminance(colours[paper])])
    assert (light + 0.05) / (dark + 0.05) >= 4.5
