"""The README and the guides: every Python block runs as it stands there and prints the output that is shown."""

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

PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md"))]
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
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


def blocks(text: str) -> Iterator[Block]:
    """Yield the Python blocks of a page, each with the output that follows it."""
    found = list(_BLOCK.finditer(text))
    for match, after in itertools.zip_longest(found, found[1:]):
        if match[1] == "python":
            shown = after[2] if after is not None and after[1] == "text" else None
            yield Block(text.count("\n", 0, match.start(2)) + 1, match[2], shown)


def programs(text: str) -> Iterator[list[Block]]:
    """Yield the blocks that form one program: one with imports, and those after it that build on it."""
    group: list[Block] = []
    for block in blocks(text):
        if group and "import" in block.code:
            yield group
            group = []
        group.append(block)
    if group:
        yield group


def source(group: list[Block]) -> str:
    """Return blocks as one program, each on its lines of the page, so that tracebacks point there."""
    lines: list[str] = []
    for block in group:
        lines += [""] * (block.line - 1 - len(lines))
        lines += [*block.code.splitlines(), f"print({_END_OF_BLOCK!r}, end='', flush=True)"]
    return "\n".join(lines)


def pattern(shown: str) -> str:
    """Return a regular expression for shown output: ``...`` is any text, and trailing blanks do not count."""
    lines = [re.escape(line.rstrip()).replace(r"\.\.\.", ".*") for line in shown.strip().splitlines()]
    return r"\s*" + r"[ ]*\n".join(lines) + r"\s*"


@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in TEXTS[page]])
def test_the_blocks_run_and_print_what_they_say(page: str, tmp_path: Path) -> None:
    """Each program in a process of its own, with warnings as errors; stderr stays empty.

    The programs of a page share a directory and the runtime to which the environment directs ``Inference()``, so that
    one can go on where another has ended.
    """
    with Served() as served:
        for group in programs(TEXTS[page]):
            script = tmp_path / f"line_{group[0].line}.py"
            script.write_text(source(group), encoding="utf-8")
            done = subprocess.run(
                [sys.executable, "-W", "error", script],
                check=False,
                capture_output=True,
                text=True,
                encoding="utf-8",
                timeout=LIMIT,
                env=environment(address(served.runtime.base_url, served.runtime.api_key)),
                cwd=tmp_path,
            )
            place = f"{page}, line {group[0].line}"
            assert (done.returncode, done.stderr) == (0, ""), place
            *outputs, rest = done.stdout.split(_END_OF_BLOCK)
            assert rest == "", place
            for block, output in zip(group, outputs, strict=True):
                if block.shown is not None:
                    assert output.strip(), f"{page}, line {block.line} prints nothing"
                    shown = re.fullmatch(pattern(block.shown), output, re.DOTALL)
                    assert shown, f"{page}, line {block.line} prints {output!r}"


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_overlooked(page: str) -> None:
    """Neither because of how it is written, nor an output because of where it stands."""
    found = list(blocks(TEXTS[page]))
    assert len(found) == TEXTS[page].count("```python")
    followed = len(re.findall(r"^```$\n\n```text$", TEXTS[page], re.MULTILINE))
    assert sum(block.shown is not None for block in found) >= followed


def test_the_readme_is_two_screens() -> None:
    """What is longer belongs into the guides."""
    assert len(TEXTS["README.md"].splitlines()) <= 250


def test_the_documented_snippets_are_there() -> None:
    """Those of the service's own page about streaming, in their essential lines."""
    text = "\n".join(TEXTS.values())
    for line in (
        'for message in agent.send_message("Tell me a story", stream=True):',
        'print(f"\\n[Complete] Final: {text}")',
        'print(f"Calling: {tool_call.name}")',
        "agent.submit_tool_result(tc.id, str(result))",
        'print(f"Progress: {text[:50]}...")',
        'async for message in agent.send_message("Hello", stream=True):',
    ):
        assert line in text


def test_every_error_is_in_the_table() -> None:
    """With what to do about it."""
    exceptions = {name for name in inferencesh.__all__ if name in errors.__all__}
    assert exceptions == set(re.findall(r"^\| `(\w+)` \|", TEXTS["docs/errors.md"], re.MULTILINE))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Files exist, and so do sections; pages of the documentation link only to what is on the site."""
    prose = _BLOCK.sub("", TEXTS[page])
    for target in re.findall(r"\]\(([^)]+)\)", prose):
        if target.startswith("https://"):
            continue
        name, _, section = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.is_file(), target
        if page.startswith("docs/"):
            assert path.resolve().is_relative_to(ROOT / "docs"), f"{target} is not part of the documentation"
        if section:
            assert section in _sections(path.read_text(encoding="utf-8")), target


def _sections(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", _BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
