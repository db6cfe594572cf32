"""The command that brings a whole fleet up: what ``make demo-fleet`` runs, and what it shows in a browser."""

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
    """Run a fleet; returns its address and its first lines. Ctrl-C must end all of it, without an error."""
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
            process.terminate()  # rather than kill, which would leave what it has started
            process.wait(60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert not list(tmp_path.iterdir()), "what Redis has written is gone"
    assert not running(str(tmp_path)), "no process is left"


def running(text: str) -> list[str]:
    """The processes whose environment has a text."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and text in (process / "environ").read_text(errors="replace"):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended, or is somebody else's
            continue
    return found


def test_a_fleet_comes_up_with_one_command_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    """Its page is there as soon as its address is; nothing is left of it afterwards."""
    with launched(tmp_path, "--workers", "1", "--fronts", "1") as (address, lines):
        page = httpx.get(address, timeout=60, trust_env=False)
        assert "<!doctype html>" in page.text
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert httpx.get(f"{address}/ready", timeout=60, trust_env=False).json() == {"demo": True}
        assert "a simulated model answers" in lines


def test_without_redis_it_says_how_to_install_it(tmp_path: Path) -> None:
    """And a port that is taken is told of."""
    environment = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(LAUNCH, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout[-50:]) == (1, "")
    assert "sudo apt-get install redis-server" in done.stderr


@pytest.mark.browser
async def test_the_page_shows_a_takeover_in_the_middle_of_a_tool(tmp_path: Path) -> None:
    """The worker that answers is killed by the page's button; another one takes over, and the reply is whole."""
    failures: list[str] = []
    with launched(tmp_path, "--workers", "2", FLEET_TOOL_SECONDS="6", FLEET_PACE="0.02") as (address, _):
        async with async_playwright() as playwright:
            # As root, which CI is, Chromium has no sandbox; it opens pages of this test alone.
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
            await expect(page.locator(".assistant").last).to_contain_text("found at attempt 2", timeout=PATIENCE)
            await expect(tool).to_contain_text("completed")
            await page.get_by_role("button", name="Approve").click()
            await expect(page.get_by_text("2 nights in Porto are booked")).to_be_visible(timeout=PATIENCE)
            await expect(page.locator("table tr")).to_have_count(4)
            shown = await page.locator("#log").inner_text()
            await page.reload()
            await expect(page.get_by_text("2 nights in Porto are booked")).to_be_visible(timeout=PATIENCE)
            await expect(page.locator("table tr")).to_have_count(4)
            assert await page.locator(".user").count() == 1
            assert "found at attempt 2" in shown
            await browser.close()
    assert not failures
