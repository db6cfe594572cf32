"""What a notebook shows of messages and streams: their text as Markdown, with nothing in it that runs."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from inferencesh import Content, Message, MessageStatus, ToolCall, ToolCallStatus

from .conftest import Connect, Serve

OURS = re.compile(r"</?(?:pre|code)>")


def shown(text: str, **fields: Any) -> str:
    """What the notebook is given for a message with this text."""
    status = fields.pop("status", MessageStatus.READY)
    message: Any = Message("m1", status=status, content=(Content(text=text),), **fields)
    told: str = message._repr_markdown_()
    return told


def as_html(text: str) -> str:
    """The page that a notebook makes of Markdown if it lets raw HTML and every link through."""

    def takes_every_link(url: str) -> bool:
        return True

    markdown = MarkdownIt("commonmark", {"html": True})
    markdown.validateLink = takes_every_link  # type: ignore[method-assign]  # documented for replacement
    rendered: str = markdown.render(text)
    return rendered


def test_markdown_stays_what_it_is() -> None:
    """Headings, lists, emphasis and links are shown as such."""
    text = "# Title\n\n1. *one* and **two**\n2. [link](https://example.com) 3 > 2\n"
    assert shown(text) == text


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "a <b onmouseover='alert(1)'>b</b> <!-- --> <?php ?>",
        "```\n<script>\n```\n<script>alert(1)</script>",
        "```html\n</code></pre><script>alert(1)</script>",
        "`</code><script>alert(1)</script>`",
        "$$\n```\n$$\n<img src=x onerror=alert(1)>\n```",
        "~~~\n```\n~~~\n<script>alert(1)</script>\n```",
        "    ```\n<script>alert(1)</script>\n    ```",
        "[x](javascript:alert(1))",
        "[x](JavaScript\\:alert(1))",
        "[x](java&#115;cript:alert(1))",
        "[x]\n\n[x]: vbscript:alert(1)",
        "<javascript:alert(1)>",
    ],
)
def test_nothing_of_it_runs(attack: str) -> None:
    """Neither raw HTML nor a link that is a script, in code or out of it."""
    told = shown(attack)
    assert "<" not in OURS.sub("", told)
    rendered = as_html(told)
    assert not re.search(r"<(script|img|b)\b", rendered)
    assert not re.search(r"href=\W?(javascript|vbscript):", html.unescape(rendered), re.IGNORECASE)


@given(st.text(st.sampled_from("<>`~&$\n \\[](): abjavscript"), max_size=60))
def test_no_text_brings_html_in(text: str) -> None:
    """The only tags are those around code."""
    assert "<" not in OURS.sub("", shown(text))


def test_code_is_shown_as_it_was_written() -> None:
    """With its angle brackets and ampersands."""
    code = "if a < b && *p:\n    List<String> x\n"
    rendered = as_html(shown(f"See `a<b>` and\n\n```java\n{code}```\n"))
    assert f"<pre><code>{code}</code></pre>" in html.unescape(rendered)
    assert "<code>a<b></code>" in html.unescape(rendered)


def test_an_unfinished_message_says_what_it_waits_for() -> None:
    """Its status and its calls."""
    call = ToolCall("c1", "look<up>", status=ToolCallStatus.AWAITING_APPROVAL)
    told = shown("Let me see.", status=MessageStatus.PENDING, tool_calls=(call,))
    assert told.startswith("Let me see.\n\n*pending, <code>look&#60;up&#62;</code> (awaiting")
    assert shown("Half a sen", status=MessageStatus.PENDING).endswith("*pending*")


def test_a_stream_shows_its_latest_message(serve: Serve, connect: Connect) -> None:
    """And nothing of its own before the first, so that its repr is shown."""
    side = connect(serve(["Hello <b>"]))
    stream = side.agent().send_message("Hi", stream=True)
    assert stream._repr_markdown_() is None
    side.result(stream.get_final_message())
    assert stream._repr_markdown_() == "Hello &lt;b>"
