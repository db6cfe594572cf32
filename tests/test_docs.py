"""The reference pages and the pages for developers: complete, and true of the code as it stands."""

from __future__ import annotations

import ast
import html
import importlib
import inspect
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.__main__ import GUIDES, REFERENCE, public_names
from inferencesh._types.docstrings import _SECTIONS
from inferencesh._types.encoding import encode_result

from .architecture import FLOORS, IO_FREE, LEAST_LINES, MOST_MODULES, PACKAGE, read_house
from .command_line import LIMIT, ROOT

ARCHITECTURE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
FOR_DEVELOPERS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/apps-and-tasks.md",
    "docs/architecture.md",
    "docs/docstrings-and-results.md",
    "docs/fleet-sizing.md",
    "docs/models.md",
    "docs/migrating.md",
    "docs/other-clients.md",
    "docs/performance.md",
    "docs/playground.md",
    "docs/requests.md",
    "docs/types.md",
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as ``make docs`` builds it; a warning or a link that leads nowhere fails the build."""
    directory = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-W", "error", "-m", "docs", str(directory)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10 * LIMIT, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return directory


def text_of(page: Path) -> str:
    """What a reader sees of a page's content."""
    content = page.read_text(encoding="utf-8").partition("<article")[2].partition("</article>")[0]
    return html.unescape(re.sub(r"<[^>]+>", "", content))


def test_every_public_name_has_its_place_in_the_reference() -> None:
    """In one group, and no other name has."""
    places = [name for names in REFERENCE.values() for name in names]
    assert sorted(places) == sorted(public_names())


def test_every_guide_is_in_the_navigation() -> None:
    """And the index leads to each."""
    listed = [name for names in GUIDES.values() for name in names]
    assert sorted([*listed, "index"]) == sorted(path.stem for path in (ROOT / "docs").glob("*.md"))
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    assert [name for name in listed if f"({name}.md)" not in index] == []


@pytest.mark.timeout(120)
def test_the_site_has_every_page(built: Path) -> None:
    """The guides, and a page for each public class."""
    classes = {name for name, full in public_names().items() if inspect.isclass(attribute(full))}
    for page in (
        "",
        *(name for names in GUIDES.values() for name in names),
        *(f"reference/{name}" for name in classes),
    ):
        assert (built / page / "index.html").is_file(), page
    assert (built / "search.json").is_file()


@pytest.mark.timeout(120)
def test_nothing_private_is_named(built: Path) -> None:
    """Neither an internal module nor what only such a module has."""
    for page in built.glob("reference/*/index.html"):
        assert re.findall(r"\binferencesh\._\w+", text_of(page)) == [], page


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("page", "member"),
    [
        ("Agent", "send_message"),
        ("AsyncAgent", "run"),
        ("ToolBuilder", "describe"),
        ("AppToolBuilder", "build"),
        ("Chats", "list"),
        ("Run", "output"),
    ],
)
def test_members_are_documented_where_they_are_used(built: Path, page: str, member: str) -> None:
    """What comes from a base that is not public stands with the class that is."""
    assert member in text_of(built / f"reference/{page}/index.html")


@pytest.mark.timeout(120)
def test_sections_and_examples_are_laid_out(built: Path) -> None:
    """Arguments as lists and examples as code; no mark of the docstrings' own is left over."""
    shown = text_of(built / "reference/AsyncAgent/index.html")
    assert "Parameters:" in shown
    assert "Raises:" in shown
    assert "Args:" not in shown
    assert "``" not in shown


@pytest.mark.timeout(120)
def test_the_site_needs_no_other_host(built: Path) -> None:
    """Neither scripts nor fonts nor images; links of the text lead where they say."""
    for page in built.rglob("*.html"):
        loaded = re.findall(
            r"""<(?:script|img|link)[^>]+(?:src|href)=["']?https?://[^"' >]+""", page.read_text("utf-8")
        )
        assert [tag for tag in loaded if 'rel="canonical"' not in tag] == [], page


def attribute(full_name: str) -> object:
    """What a full name stands for."""
    module, _, name = full_name.rpartition(".")
    return getattr(importlib.import_module(module), name)


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


@pytest.mark.parametrize("page", FOR_DEVELOPERS)
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


# -- the page about docstrings and results -----------------------------------------------------------------------------

RESULTS = (ROOT / "docs/docstrings-and-results.md").read_text(encoding="utf-8")
FORMS = re.findall(r"^\| `([^|]+)` \| `([^|]+)` \|$", RESULTS, re.MULTILINE)
NAMES = """
import enum, numpy, pandas
from collections import deque
from dataclasses import make_dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from math import nan
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID
import attrs, msgspec, pydantic
from PIL import Image

Size = enum.Enum("Size", {"SMALL": "s"})
Attrs = attrs.make_class("Attrs", ["x"])
Data = make_dataclass("Data", ["x"])
Named = NamedTuple("Named", [("x", int)])
Struct = msgspec.defstruct("Struct", ["x"])
Model = pydantic.create_model("Model", x=int)
"""


@pytest.fixture(scope="module")
def names() -> dict[str, object]:
    """What the values on the page are made of."""
    found: dict[str, object] = {"__name__": __name__}
    exec(NAMES, found)  # noqa: S102 - the text above
    return found


def test_the_page_shows_many_results() -> None:
    """The table is found."""
    assert len(FORMS) > 25


@pytest.mark.parametrize(("value", "form"), FORMS, ids=[value for value, _ in FORMS])
def test_a_result_has_the_form_that_the_page_shows(value: str, form: str, names: dict[str, object]) -> None:
    """Each row of the table."""
    assert encode_result(eval(value, names)).text == form  # noqa: S307 - the project's own page


def test_the_page_names_every_section() -> None:
    """With what becomes of it."""
    table = RESULTS.partition("| part of the docstring |")[2].partition("\n\n")[0].lower()
    left_out = {
        "arg",
        "param",
        "parameter",
        "argument",
        "kwargs",
        "attribute",
        "todos",
        "authors",
        "copyright",
        "since",
    }
    alike = {"return", "raise", "except", "exceptions", "yield", "receive", "warn", "reference"}
    other = {"keyword arguments", "other args", "other arguments", "other params", "version added", "version changed"}
    assert {name for name in _SECTIONS if f"`{name}`" not in table} == left_out | alike | other
