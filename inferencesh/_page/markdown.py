"""Markdown as HTML that is safe to show: raw HTML is text, links are restricted, and no image is loaded.

``markdown-it-py`` comes with the extras ``inferencesh[web]`` and ``inferencesh[playground]``.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

import attrs

from inferencesh.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML
    from markdown_it.token import Token
    from markdown_it.utils import OptionsDict

__all__ = ["MAX_LENGTH", "MarkdownRenderer", "RenderedMarkdown", "find_renderer", "render_markdown"]

MAX_LENGTH = 200_000
"""The maximum length of a text in characters; rendering a longer one would keep the event loop too long."""

_LINK = re.compile(r"(https?://|mailto:)", re.IGNORECASE)


@attrs.frozen
class RenderedMarkdown:
    """A text as HTML that is safe to show.

    Attributes:
        blocks: The HTML of each block at the top level, such as a paragraph, a list or a table.
        last_line: The number of the line, from 0, at which the last block begins. What is appended to the text can
            only change that block, so that the next request may begin there.

    Example:
        ```python
        rendered = RenderedMarkdown(["<p>Hello</p>", "<p>there</p>"], last_line=2)
        print(rendered.html)
        ```

        ```text
        <p>Hello</p><p>there</p>
        ```
    """

    blocks: list[str]
    last_line: int

    @property
    def html(self) -> str:
        """The whole text as HTML."""
        return "".join(self.blocks)


def render_markdown(text: str) -> RenderedMarkdown:
    """Render Markdown, by whomever it was written, as HTML that is safe to show.

    CommonMark with tables and strikethrough, where a line break in a paragraph is one in the HTML. Raw HTML stays text.
    Links lead to http, https and mailto only, and open in another tab, which learns nothing of this one. An image
    becomes a link to it, since loading it would tell its server that the text was read. It takes about a millisecond
    for each thousand characters: call it in a worker thread, as FastAPI does for a ``def`` endpoint.

    Args:
        text: The Markdown, of at most 200,000 characters.

    Returns:
        The HTML, block by block.

    Raises:
        ConfigurationError: ``markdown-it-py`` is not installed; it comes with ``inferencesh[web]``.
        ValueError: The text is too long.

    Example:
        ```python
        print(render_markdown("**Hello** <script>").html)
        ```

        ```text
        <p><strong>Hello</strong> &lt;script&gt;</p>
        ```
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"the text has {len(text):,} characters, of which at most {MAX_LENGTH:,} are rendered")
    return _shared_renderer().render(text)


@cache
def _shared_renderer() -> MarkdownRenderer:
    renderer = find_renderer()
    if renderer is None:
        raise ConfigurationError("rendering Markdown needs markdown-it-py: pip install 'inferencesh[web]'")
    return renderer


def find_renderer() -> MarkdownRenderer | None:
    """Return a renderer, or None if ``markdown-it-py`` is not installed."""
    try:
        from markdown_it import MarkdownIt  # optional
    except ImportError:
        return None
    return MarkdownRenderer(MarkdownIt("commonmark", {"html": False, "breaks": True}))


class MarkdownRenderer:
    """Renders CommonMark with tables and strikethrough.

    Args:
        parser: The parser, with raw HTML off.
    """

    def __init__(self, parser: MarkdownIt) -> None:
        self._parser = parser.enable(["table", "strikethrough"])
        parser.validateLink = lambda url: _LINK.match(url.strip()) is not None  # type: ignore[method-assign] # its way to restrict links
        parser.add_render_rule("link_open", _open_link)
        parser.add_render_rule("image", _link_image)

    def render(self, text: str) -> RenderedMarkdown:
        """Return the blocks of a text as HTML."""
        environment: MutableMapping[str, object] = {}
        tokens = self._parser.parse(text, environment)
        blocks: list[str] = []
        first, last_line = 0, 0
        for at, token in enumerate(tokens):
            if token.level == 0 and token.nesting <= 0:  # the end of a block
                blocks.append(self._parser.renderer.render(tokens[first : at + 1], self._parser.options, environment))
                last_line = (tokens[first].map or [last_line])[0]
                first = at + 1
        return RenderedMarkdown(blocks, last_line)


def _open_link(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: MutableMapping[str, object]
) -> str:
    tokens[index].attrs.update(rel="noopener noreferrer nofollow", target="_blank")
    return renderer.renderToken(tokens, index, options, env)


def _link_image(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: MutableMapping[str, object]
) -> str:
    """Return a link to an image: loading it would tell its server that the message was read."""
    from markdown_it.common.utils import escapeHtml

    token = tokens[index]
    name = renderer.renderInlineAsText(token.children or [], options, env) or "image"
    address = escapeHtml(str(token.attrs.get("src", "")))
    return f'<a href="{address}" rel="noopener noreferrer nofollow" target="_blank">{escapeHtml(name)}</a>'
