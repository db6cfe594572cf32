"""Markdown as HTML that is safe to show: raw HTML is text, links are restricted, and no image is loaded.

``markdown-it-py`` comes with the extra ``inferencesh[playground]``. Without it, texts are shown as they are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML
    from markdown_it.token import Token
    from markdown_it.utils import OptionsDict

__all__ = ["MAX_LENGTH", "MarkdownRenderer", "Rendered", "find_renderer"]

MAX_LENGTH = 200_000
"""The maximum length of a text in characters; rendering a longer one would keep the event loop too long."""

_LINK = re.compile(r"(https?://|mailto:)", re.IGNORECASE)


@attrs.frozen
class Rendered:
    """A text as HTML.

    Attributes:
        blocks: The HTML of each block at the top level, such as a paragraph, a list or a table.
        last_line: The number of the line, from 0, at which the last block begins. What is appended to the text can
            only change that block, so that the next request may begin there.
    """

    blocks: list[str]
    last_line: int


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

    def render(self, text: str) -> Rendered:
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
        return Rendered(blocks, last_line)


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
