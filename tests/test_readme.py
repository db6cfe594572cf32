"""The README: every Python block runs as it stands there, and prints the output that is shown."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

import inferencesh
from inferencesh import errors

from .command_line import LIMIT, ROOT, address, environment
from .support import Served

README = (ROOT / "README.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_END_OF_BLOCK = "\x1e"


@attrs.frozen
class Block:
    """A Python block.

    Attributes:
        line: The number of its first line.
        code: The code.
        shown: The output that follows it, or None; ``...`` stands for any text.
    """

    line: int
    code: str
    shown: str | None


def blocks(page: str = README) -> Iterator[Block]:
    """Yield the Python blocks of a page, each with the output that follows it."""
    found = list(_BLOCK.finditer(page))
    for match, after in itertools.zip_longest(found, found[1:]):
        if match[1] == "python":
            shown = after[2] if after is not None and after[1] == "text" else None
            yield Block(page.count("\n", 0, match.start(2)) + 1, match[2], shown)


def programs() -> Iterator[list[Block]]:
    """Yield the blocks that form one program: one with imports, and those after it that build on it."""
    group: list[Block] = []
    for block in blocks():
        if group and "import" in block.code:
            yield group
            group = []
        group.append(block)
    yield group


def source(group: list[Block]) -> str:
    """Return blocks as one program, each on its lines of the README, so that tracebacks point there."""
    lines: list[str] = []
    for block in group:
        lines += [""] * (block.line - 1 - len(lines))
        lines += [*block.code.splitlines(), f"print({_END_OF_BLOCK!r}, end='', flush=True)"]
    return "\n".join(lines)


def pattern(shown: str) -> str:
    """Return a regular expression for shown output: ``...`` is any text, and trailing blanks do not count."""
    lines = [re.escape(line.rstrip()).replace(r"\.\.\.", ".*") for line in shown.strip().splitlines()]
    return r"\s*" + r"[ ]*\n".join(lines) + r"\s*"


def check(group: list[Block], script: Path, served: Served) -> None:
    """Run blocks in a process of their own, with warnings as errors, and compare what they print."""
    script.write_text(source(group), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=LIMIT,
        env=environment(address(served.runtime.base_url, served.runtime.api_key)),
        cwd=script.parent,  # for the files that the blocks make
    )
    assert (done.returncode, done.stderr) == (0, "")
    *outputs, rest = done.stdout.split(_END_OF_BLOCK)
    assert rest == ""
    for block, output in zip(group, outputs, strict=True):
        if block.shown is not None:
            assert output.strip(), f"the block in line {block.line} prints nothing"
            assert re.fullmatch(pattern(block.shown), output, re.DOTALL), f"line {block.line} prints {output!r}"


@pytest.fixture
def served() -> Iterator[Served]:
    """The embedded runtime to which the environment directs ``Inference()``."""
    with Served() as running:
        yield running


@pytest.mark.parametrize("group", [pytest.param(group, id=f"line {group[0].line}") for group in programs()])
def test_the_blocks_run_and_print_what_they_say(group: list[Block], served: Served, tmp_path: Path) -> None:
    """In a process of their own, with warnings as errors; stderr stays empty."""
    check(group, tmp_path / "README.py", served)


def test_no_block_is_overlooked() -> None:
    """Neither because of how it is written, nor an output because of where it stands."""
    found = list(blocks())
    assert len(found) == README.count("```python") >= 15
    assert sum(block.shown is not None for block in found) == README.count("```text")


def test_the_page_is_in_it() -> None:
    """The snippets of the documentation's streaming page, in their essential lines."""
    for line in (
        'for message in agent.send_message("Tell me a story", stream=True):',
        'print(f"\\n[Complete] Final: {text}")',
        'print(f"Calling: {tool_call.name}")',
        "agent.submit_tool_result(tc.id, str(result))",
        'print(f"Progress: {text[:50]}...")',
        'async for message in agent.send_message("Hello", stream=True):',
    ):
        assert line in README


def test_every_error_is_in_the_table() -> None:
    """With what to do about it."""
    exceptions = {name for name in inferencesh.__all__ if name in errors.__all__}
    assert exceptions == set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE))


def test_its_links_lead_somewhere() -> None:
    """Files exist, and so do sections."""
    headings = {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", _BLOCK.sub("", README)):
        if target.startswith("#"):
            assert target[1:] in headings
        elif not target.startswith("https://"):
            assert (ROOT / target).is_file(), target
