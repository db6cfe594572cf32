"""Make the screenshots of the playground in ``docs/images`` again; needs Chromium.

python -m docs.playground_images
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from inferencesh.local import BackgroundRuntime, Conversation, Piece, Reasoning, Text, ToolCall

__all__ = ["main"]

CHROMIUM = "/usr/bin/chromium"
IMAGES = Path(__file__).parent / "images"
AGENT = """{
  "name": "travel",
  "system_prompt": "You plan trips.",
  "tools": [
    {
      "name": "find_trains",
      "type": "client",
      "description": "Find trains between two cities",
      "client": {
        "input_schema": {
          "type": "object",
          "properties": {"origin": {"type": "string"}, "destination": {"type": "string"}}
        }
      }
    },
    {
      "name": "book_train",
      "type": "client",
      "description": "Book seats on a train",
      "require_approval": true,
      "client": {"input_schema": {"type": "object"}}
    }
  ]
}"""
TRAINS = '{"09:30": "AP 131, 2 h 48", "10:30": "IC 523, 3 h 14"}'
ANSWER = """Two trains leave in the morning:

| Train | Leaves | Takes | Fare |
|---|---|---|---|
| **AP 131** | 09:30 | 2 h 48 | 34 € |
| IC 523 | 10:30 | 3 h 14 | 26 € |

The faster one is the [Alfa Pendular](https://www.cp.pt). Shall I *book two seats*?
"""


class TravelModel:
    """Answers as a travel agency would, in three steps."""

    async def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        last = conversation.messages[-1]
        if last.role == "tool":
            for word in ANSWER.split(" "):
                yield Text(f"{word} ")
        elif "book" in last.text.lower():
            yield Reasoning("Two seats on AP 131, in a quiet coach. Booking costs money, so a person has to agree.")
            yield Text("I need your approval for this one.")
            yield ToolCall("book_train", {"train": "AP 131", "seats": 2, "wishes": {"coach": "quiet", "table": True}})
        else:
            yield Reasoning("They want to go from Lisbon to Porto.")
            yield Text("Let me look that up.")
            yield ToolCall("find_trains", {"origin": "Lisbon", "destination": "Porto"})


def main() -> None:
    """Write the three images."""
    IMAGES.mkdir(exist_ok=True)
    runtime = BackgroundRuntime(model=TravelModel(), pace=0.01, playground="loopback")
    with runtime as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        _desktop(browser, address.base_url)
        _phone(browser, address.base_url)
        browser.close()


def _desktop(browser: Browser, url: str) -> None:
    page = browser.new_page(viewport={"width": 1360, "height": 850}, color_scheme="light")
    page.goto(url)
    page.get_by_role("button", name="Inspect", exact=True).click()
    page.get_by_role("tab", name="Agent").click()
    page.get_by_label("The agent's configuration as JSON").fill(AGENT)
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("#config-note")).to_contain_text("Applied")
    page.get_by_role("tab", name="Events").click()
    for city in ("Weekend in Coimbra", "Night train to Madrid"):
        _say(page, city)
        expect(page.get_by_label("Result of find_trains")).to_be_visible()
        page.get_by_role("button", name="Stop").click()
        page.get_by_role("button", name="New chat").click()
    _say(page, "Which trains go from Lisbon to Porto tomorrow morning?")
    page.get_by_label("Result of find_trains").fill(TRAINS)
    page.get_by_role("button", name="Answer").click()
    expect(page.locator(".assistant .facts").last).to_contain_text("pieces")
    page.wait_for_timeout(300)
    page.screenshot(path=IMAGES / "playground-light.png")
    page.emulate_media(color_scheme="dark")
    _say(page, "Yes, book two seats please")
    expect(page.get_by_role("button", name="Approve")).to_be_visible()
    page.get_by_role("tab", name="Agent").click()
    page.locator("details.reasoning summary").last.click()
    page.locator("#scroll").evaluate("(each) => { each.scrollTop = each.scrollHeight; }")
    page.wait_for_timeout(300)
    page.screenshot(path=IMAGES / "playground-dark.png")
    page.close()


def _phone(browser: Browser, url: str) -> None:
    phone = browser.new_page(viewport={"width": 390, "height": 780}, color_scheme="light", has_touch=True)
    phone.goto(url)
    phone.get_by_role("button", name="Open the list of chats").tap()
    phone.locator("#chat-list .open").first.tap()
    expect(phone.get_by_role("button", name="Approve")).to_be_visible()
    phone.locator("#scroll").evaluate("(each) => { each.scrollTop = each.scrollHeight; }")
    phone.wait_for_timeout(300)
    phone.screenshot(path=IMAGES / "playground-phone.png")
    phone.close()


def _say(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Message", exact=True).fill(text)
    page.keyboard.press("Enter")


if __name__ == "__main__":
    main()
