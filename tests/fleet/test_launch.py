"""The command behind ``make demo-fleet``, which starts a whole fleet, and its page in a browser."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.async_api import async_playwright, expect

from tests.children import start

from .processes import EXAMPLE

pytestmark = [pytest.mark.redis, pytest.mark.timeout(240)]

CHROMIUM = Path("/usr/bin/chromium")
LAUNCH = [sys.executable, str(EXAMPLE / "launch.py"), "--port", "0"]
PATIENCE = 60_000  # milliseconds; other tests may keep the machine busy


@contextmanager
def launched(tmp_path: Path, *options: str, **settings: str) -> Iterator[tuple[str, str]]:
    """Run a fleet; return its address and first lines of output. Ctrl-C must stop all of it without an error."""
    environment: Mapping[str, str] = {**os.environ, "TMPDIR": str(tmp_path), **settings}
    with start([*LAUNCH, *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            lines = ""
            while not (address := re.search(r"Open (http://\S+) ", lines)):
                line = process.stdout.readline()
                assert line, process.communicate()
                lines += line
            yield address[1], lines
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.terminate()  # not kill, which would leave its child processes running
            process.wait(60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert not list(tmp_path.iterdir()), "temporary files are left"
    assert not running(str(tmp_path)), "processes are left"


def running(text: str) -> list[str]:
    """Return the command lines of the processes whose environment contains a text."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and text in (process / "environ").read_text(errors="replace"):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has exited, or belongs to another user
            continue
    return found


def test_one_command_starts_a_fleet_and_ctrl_c_stops_it(tmp_path: Path) -> None:
    """The page is available as soon as its address is printed; no process or file is left behind."""
    with launched(tmp_path, "--workers", "1", "--fronts", "1") as (address, lines):
        page = httpx.get(address, timeout=60, trust_env=False)
        assert "<!doctype html>" in page.text
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert httpx.get(f"{address}/ready", timeout=60, trust_env=False).json() == {"demo": True}
        assert "a simulated model answers" in lines


def test_without_redis_the_command_says_how_to_install_it(tmp_path: Path) -> None:
    """It exits with status 1."""
    environment = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(LAUNCH, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout[-50:]) == (1, "")
    assert "sudo apt-get install redis-server" in done.stderr


@pytest.mark.browser
async def test_the_page_shows_a_takeover_during_a_tool_call(tmp_path: Path) -> None:
    """The button on the page kills the worker that is answering; another one takes over, and the reply is complete."""
    failures: list[str] = []
    with launched(tmp_path, "--workers", "2", FLEET_TOOL_SECONDS="6", FLEET_PACE="0.02") as (address, _):
        async with async_playwright() as playwright:
            # Chromium has no sandbox when it runs as root, as in CI; it opens only pages of this test.
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = await browser.new_page()
            page.set_default_timeout(PATIENCE)
            page.on("pageerror", lambda error: failures.append(str(error)))
            await page.goto(address)
            await page.get_by_role("button", name="Plan a trip to Porto and book it").click()
            note = page.locator(".worker-note")
            await expect(note).to_have_text(re.compile(r"^worker \d answers$"), timeout=PATIENCE)
            first = (await note.inner_text()).removesuffix(" answers")
            tool = page.get_by_role("region", name="Compare prices")
            await expect(tool).to_contain_text("working", timeout=PATIENCE)
            await page.get_by_role("button", name="Kill this worker").click()
            second = "worker 2" if first == "worker 1" else "worker 1"
            takeover = re.compile(f"^({second} has taken over from {first}|{first} was restarted and continues)$")
            await expect(page.locator(".worker-note.takeover")).to_have_text(takeover, timeout=PATIENCE)
            await expect(page.get_by_role("heading", name="Three days in Porto")).to_be_visible(timeout=PATIENCE)
            await expect(page.locator(".assistant").last).to_contain_text("found in attempt 2", timeout=PATIENCE)
            await expect(tool).to_contain_text("completed")
            await page.get_by_role("button", name="Approve").click()
            await expect(page.get_by_text("2 nights in Porto are booked")).to_be_visible(timeout=PATIENCE)
            await expect(page.locator("table tr")).to_have_count(4)
            shown = await page.locator("#log").inner_text()
            await page.reload()
            await expect(page.get_by_text("2 nights in Porto are booked")).to_be_visible(timeout=PATIENCE)
            await expect(page.locator("table tr")).to_have_count(4)
            assert await page.locator(".user").count() == 1
            assert "found in attempt 2" in shown
            await browser.close()
    assert not failures
