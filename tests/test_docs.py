"""The reference pages: built without a warning, with every public name and nothing else of this package."""

from __future__ import annotations

import html
import importlib
import re
import subprocess
import sys

import pytest

from docs.__main__ import PAGES, public_names

from .command_line import LIMIT, ROOT


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The pages' HTML by the names of their modules, as ``make docs`` builds them."""
    directory = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-W", "error", "-m", "docs", str(directory)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (directory / "index.html").is_file()
    assert (directory / "search.js").is_file()
    return {page: (directory / f"{page.replace('.', '/')}.html").read_text(encoding="utf-8") for page in PAGES}


def text_of(page: str) -> str:
    """What a reader sees of a page."""
    return html.unescape(re.sub(r"<[^>]+>", "", page))


@pytest.mark.parametrize("page", PAGES)
def test_every_public_name_has_its_place(page: str, built: dict[str, str]) -> None:
    """On the page of the module that people import it from, and no other name has."""
    places = set(re.findall(r'<section id="(\w+)">', built[page]))
    assert places == set(importlib.import_module(page).__all__)


@pytest.mark.parametrize("page", PAGES)
def test_nothing_private_is_named(page: str, built: dict[str, str]) -> None:
    """Neither a module that nobody should import from, nor what only such a module has."""
    known = {*PAGES, *public_names().values(), "inferencesh.testing.plugin"}  # that one's name is for pytest -p
    named = set(re.findall(r"\binferencesh(?:\.[a-z]\w*)*(?:\.[A-Z]\w*)?", text_of(built[page])))
    assert named - known == set()


@pytest.mark.parametrize(
    "place",
    [
        "Agent.send_message",
        "AsyncAgent.run",
        "ToolBuilder.describe",
        "AppToolBuilder.build",
        "Chats.list",
        "Run.output",
    ],
)
def test_members_are_documented_where_they_are_used(place: str, built: dict[str, str]) -> None:
    """What comes from a base that is not public stands with the class that is."""
    assert f'<div id="{place}" class="classattr">' in built["inferencesh"]


def test_what_only_this_package_can_call_is_left_out(built: dict[str, str]) -> None:
    """Constructors of what a client makes, and bridges between its own modules."""
    for place in ("Agent.__init__", "AsyncMessageStream.__init__", "Chats.__init__"):
        assert f'id="{place}"' not in built["inferencesh"]
    assert 'id="AsyncInference.__init__"' in built["inferencesh"]


def test_sections_and_examples_are_laid_out(built: dict[str, str]) -> None:
    """Arguments as lists, examples as code; no mark of the docstrings' own is left over."""
    shown = built["inferencesh"]
    assert re.search(r"<h6[^>]*>Arguments:</h6>\s*<ul>", shown)
    assert re.search(r"<h6[^>]*>Example:</h6>\s*<blockquote>\s*<div class=\"pdoc-code codehilite\">", shown)
    assert "``" not in text_of(shown)
