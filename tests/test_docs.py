"""The reference pages and the pages for developers: complete, and true of the code as it stands."""

from __future__ import annotations

import ast
import html
import importlib
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.__main__ import PAGES, public_names

from .architecture import FLOORS, IO_FREE, LEAST_LINES, MOST_MODULES, PACKAGE, read_house
from .command_line import LIMIT, ROOT

ARCHITECTURE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
GUIDES = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
    *("docs/architecture.md", "docs/performance.md", "docs/migrating.md", "docs/requests.md"),
]


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


# -- the pages for developers ------------------------------------------------------------------------------------------


def definitions(path: Path) -> Iterator[str]:
    """Yield the classes, functions, methods and module-level names that a module defines."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{each.name}" for each in node.body if hasattr(each, "name"))
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def places(page: str) -> Iterator[tuple[str, str]]:
    """Yield the modules and names that a page puts together, in a row of a table or as ``name in module``."""
    for row in re.findall(r"^\|.*\|$", page, re.MULTILINE):
        _, *cells, _ = re.split(r" *\| *", row)
        for cell, following in itertools.pairwise(cells):
            if re.fullmatch(r"`[\w/]+\.py`", cell):
                yield from ((cell.strip("`"), name) for name in re.findall(r"`([^`]+)`", following))
    yield from ((path, name) for name, path in re.findall(r"`([\w.]+)` in\s`([\w/]+\.py)`", page))


def test_the_architecture_names_what_there_is() -> None:
    """Every class, function and method is where the page says."""
    found = list(places(ARCHITECTURE))
    assert len(found) > 40
    missing = [(path, name) for path, name in found if name not in set(definitions(PACKAGE / path))]
    assert missing == []


@pytest.mark.parametrize("page", GUIDES)
def test_every_path_exists(page: str) -> None:
    """Links and files that are named; those of the package may be named without its folder."""
    text = (ROOT / page).read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", prose):
        assert "://" in target or (ROOT / page).parent.joinpath(target).exists(), target
    for name in re.findall(r"`([\w/]+/|[\w/]+\.py)`", prose):
        assert (ROOT / name).exists() or (PACKAGE / name).exists(), name


def test_code_words_of_the_architecture_are_code() -> None:
    """What is set as code, be it a class, an argument or a room, stands in the sources."""
    sources = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    words = set(re.findall(r"\w+", sources)) | {path.stem for path in PACKAGE.rglob("*")}
    prose = re.sub(r"^```.*?^```$", "", ARCHITECTURE, flags=re.MULTILINE | re.DOTALL)
    spans = [span for span in re.findall(r"`([^`]+)`", prose) if re.fullmatch(r"[\w.]+", span)]
    assert len(spans) > 60
    assert [span for span in spans if not set(span.removesuffix(".py").split(".")) <= words] == []


def test_the_tree_of_rooms_is_complete() -> None:
    """It has every module of the client, in the room that it is in, and no other; of what is beside it the folders."""
    tree = ARCHITECTURE.partition("```text\ninferencesh/\n")[2].partition("```")[0]
    listed, folders = set(), [""]
    for line in tree.splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        folders = [*folders[:depth], folders[depth - 1] + name]
        listed.add(folders[depth])
    house = read_house()
    of_client = {m.name.replace(".", "/") + ".py" for m in house.client} | {"__init__.py", "__main__.py", "_cli.py"}
    rooms = {m.name.replace(".", "/") + "/" for m in house.modules.values() if m.name in house.packages} - {
        "inferencesh/"
    }
    assert listed - {"tools/__init__.py"} == of_client | rooms


def test_the_diagram_shows_the_floors() -> None:
    """From the top to the bottom, each with its rooms, and the line under the rooms that do I/O."""
    diagram = ARCHITECTURE.partition("## Imports")[2].partition("```text\n")[2].partition("```")[0]
    rooms = {room for floor in FLOORS for room in floor}
    shown = [tuple(word for word in re.split(r"\s{3,}", line) if word in rooms) for line in diagram.splitlines()]
    assert [set(floor) for floor in shown if floor] == [set(floor) for floor in reversed(FLOORS[1:])]
    below = diagram.partition("no I/O below this line")[2]
    assert {word for word in below.split() if word in rooms} == set(IO_FREE)


def test_the_rules_are_those_that_are_proved() -> None:
    """The page has the same numbers."""
    assert f"at most {MOST_MODULES} modules" in ARCHITECTURE
    assert f"less than {LEAST_LINES} lines" in ARCHITECTURE


def test_one_snapshot_takes_six_steps() -> None:
    """And one hand-over more in the blocking client."""
    path = ARCHITECTURE.partition("## The path of one snapshot")[2].partition("\n## ")[0]
    assert [int(number) for number in re.findall(r"^\| (\d) \|", path, re.MULTILINE)] == [1, 2, 3, 4, 5, 6, 7, 8]
