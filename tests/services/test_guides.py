"""What the guides say about services: servers answer browsers, and tests pass where only this package is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from inferencesh.testing import ScriptedRuntime
from tests.support import wait_until

from .support import parse_sse
from .uvicorns import Uvicorn

ROOT = Path(__file__).parents[2]
SERVE_AIOHTTP = """
import sys
from story import aiohttp, app
aiohttp.web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), handler_cancellation=True)
"""


def blocks(page: str, heading: str) -> list[str]:
    """The Python blocks of one section of a guide."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,3}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no section {heading!r}"
    return re.findall(r"^```python\n(.*?)^```$", found[2], re.MULTILINE | re.DOTALL)


def run(directory: Path, *command: str | Path) -> str:
    """The output of a command, which must succeed."""
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_story(runtime: ScriptedRuntime, address: str, path: str) -> None:
    """Read a whole reply, then leave one in the middle."""
    runtime.reply("Once upon a time.")
    with httpx.Client(base_url=address, timeout=10) as browser:
        answer = browser.get(path)
        assert answer.headers["content-type"].startswith("text/event-stream")
        (*_, last) = parse_sse(answer.content)
        assert (last.name, last.data["text"]) == ("done", "Once upon a time.")
        runtime.reply(pieces=["Once ", "upon ", "a time."], delay=30)
        with browser.stream("GET", path):
            wait_until(lambda: runtime.open_streams == 1, "the service reads")
        wait_until(lambda: runtime.open_streams == 0, "nobody reads", 1.0)


def test_the_fastapi_service(inference_runtime: ScriptedRuntime, tmp_path: Path) -> None:
    """It streams, lets go of what nobody reads, and answers with the upstream's refusal."""
    (code,) = blocks("services.md", "FastAPI")
    (tmp_path / "story.py").write_text(code)
    with Uvicorn(inference_runtime.environment, app="story:app", directory=tmp_path) as service:
        check_story(inference_runtime, service.address, "/story?about=the+sea")
        inference_runtime.reply(refuse=500)
        refused = httpx.get(f"{service.address}/story?about=the+sea")
        assert (refused.status_code, refused.json()["type"]) == (502, "upstream_refused")
        inference_runtime.reply("Good morning")
        first = httpx.post(f"{service.address}/chat?text=Hello").json()
        inference_runtime.reply("And good night")
        second = httpx.post(f"{service.address}/chat", params={"text": "Bye", "chat_id": first["chat_id"]}).json()
        assert [(reply["text"], reply["chat_id"]) for reply in (first, second)] == [
            ("Good morning", first["chat_id"]),
            ("And good night", first["chat_id"]),
        ]
        assert "user_id" not in first
    assert inference_runtime.requests[0].text == "Tell me a story about the sea"


async def test_the_fastapi_service_is_imported_without_a_key_and_starts_anew_in_each_test(
    inference_runtime: ScriptedRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client is made when it starts, so the runtime of the test that starts it is the one that is asked."""
    (code,) = blocks("services.md", "FastAPI")
    module: dict[str, Any] = {}
    with monkeypatch.context() as without:
        without.delenv("INFERENCE_API_KEY")
        exec(code, module)  # noqa: S102 - the guide's own code
    for word in ("one", "two"):
        inference_runtime.reply(word)
        transport = httpx.ASGITransport(module["app"])
        async with (
            module["app"].router.lifespan_context(module["app"]),
            httpx.AsyncClient(transport=transport, base_url="http://chat") as browser,
        ):
            assert (await browser.post("/chat?text=Hi")).json()["text"] == word


@contextmanager
def aiohttp_server(directory: Path, environment: dict[str, str], port: int) -> Iterator[str]:
    """A program with aiohttp's server in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVE_AIOHTTP, str(port)],
        cwd=directory,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert "Running on" in process.stdout.readline()
        yield f"http://127.0.0.1:{port}"
        process.terminate()


def test_the_aiohttp_service(inference_runtime: ScriptedRuntime, tmp_path: Path, unused_tcp_port: int) -> None:
    """It streams, and lets go of what nobody reads."""
    (code,) = blocks("services.md", "aiohttp")
    (tmp_path / "story.py").write_text(code)
    with aiohttp_server(tmp_path, dict(inference_runtime.environment), unused_tcp_port) as address:
        check_story(inference_runtime, address, "/story")


def test_the_tests_of_the_example_service_pass() -> None:
    """They are what the guide refers to."""
    tests = ROOT / "examples" / "fastapi_chat" / "test_service.py"
    assert "3 passed" in run(ROOT, sys.executable, "-m", "pytest", "-q", tests)


@pytest.mark.timeout(300)
def test_the_tests_pass_in_a_project_with_this_package_alone(tmp_path: Path) -> None:
    """As written, with the testing extra and nothing else installed."""
    code = blocks("testing.md", "Testing your program")
    for number, block in enumerate(code):
        (tmp_path / f"test_{number}.py").write_text(block)
    python = tmp_path / ".venv" / "bin" / "python"
    package = f"inferencesh[testing] @ {ROOT.as_uri()}"
    run(tmp_path, sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, ".venv")
    run(tmp_path, sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python, package)
    output = run(tmp_path, python, "-m", "pytest", "-q", "-W", "error::ResourceWarning")
    assert f"{''.join(code).count('def test_')} passed" in output
