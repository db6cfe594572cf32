"""Make the screenshots of the chat service and the fleet in ``docs/images`` again; needs Chromium and redis-server.

python -m docs.chat_images
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

__all__ = ["main"]

CHROMIUM = "/usr/bin/chromium"
ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"


def main() -> None:
    """Write the images."""
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        _show_chat(browser)
        _show_fleet(browser)
        browser.close()


def _show_chat(browser: Browser) -> None:
    with _running("examples/fastapi_chat/serve.py") as address:
        page = browser.new_page(viewport={"width": 860, "height": 900}, color_scheme="light")
        page.goto(address)
        _say(page, "What is 42 * 17?")
        expect(page.get_by_text("42 * 17 is 714.")).to_be_visible()
        _say(page, "Plan a trip for me")
        page.get_by_label("Your answer").fill("Lisbon")
        page.get_by_role("button", name="Answer").click()
        expect(page.get_by_role("button", name="Approve")).to_be_visible(timeout=20_000)
        _take(page, "chat-light.png")
        page.emulate_media(color_scheme="dark")
        page.get_by_role("button", name="Approve").click()
        expect(page.get_by_text("Have a good time!")).to_be_visible()
        expect(page.get_by_role("button", name="Send")).to_be_visible()
        _say(page, "Ask me something")
        expect(page.get_by_label("Your answer")).to_be_visible()
        _take(page, "chat-dark.png")


def _show_fleet(browser: Browser) -> None:
    with _running("examples/fleet/launch.py") as address:
        page = browser.new_page(viewport={"width": 860, "height": 900}, color_scheme="light")
        page.goto(address)
        page.get_by_role("button", name="Plan a trip to Lisbon").click()
        expect(page.locator(".call-state")).to_have_text("working", timeout=30_000)
        page.get_by_role("button", name="Kill this worker").click()
        expect(page.get_by_text("The train home")).to_be_visible(timeout=30_000)
        expect(page.get_by_text("trace")).to_be_visible(timeout=30_000)
        _take(page, "fleet.png")


@contextmanager
def _running(program: str) -> Iterator[str]:
    """Run one of the examples, offline; returns its address."""
    command = [sys.executable, program, "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield next(found[1] for line in process.stdout if (found := re.search(r"Open (http://\S+)", line)))
        finally:
            process.terminate()


def _say(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Message", exact=True).fill(text)
    page.keyboard.press("Enter")


def _take(page: Page, name: str) -> None:
    page.locator("#scroll").evaluate("(each) => { each.scrollTop = each.scrollHeight; }")
    page.wait_for_timeout(300)
    page.screenshot(path=IMAGES / name)


if __name__ == "__main__":
    main()
