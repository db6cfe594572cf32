"""The examples: the demo runs every snippet of the documentation's page, and its calculator never runs code."""

from __future__ import annotations

import importlib.util
import itertools
import re
import subprocess
import sys
from collections.abc import Callable
from typing import IO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .command_line import LIMIT, ROOT, Terminal, environment, started

EXAMPLES = ROOT / "examples"
DEMO = [sys.executable, "-W", "error", str(EXAMPLES / "streaming.py")]
HEADINGS = [
    "Basic streaming",
    "Message callbacks",
    "Tool call callbacks, for a tool with a handler",
    "Manual tool handling, for a tool without a handler",
    "Combined callbacks",
    "Async client",
]
ENDS = ["They called it a garden.", "Biscuit had the butter."]


def load_calculate() -> Callable[[str], int | float]:
    """Return the function of ``examples/calculate.py``, which is not in a package."""
    spec = importlib.util.spec_from_file_location("calculate", EXAMPLES / "calculate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[[str], int | float] = module.calculate
    return function


calculate = load_calculate()


def screen(written: str) -> str:
    """Return what a terminal shows after a text was written to it."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[\d*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        match token:
            case "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            case "\r":
                column = 0
            case _ if token.startswith("\x1b"):
                if token.endswith("A"):
                    row -= int(token[2:-1])
                elif token.endswith("J"):
                    lines[row:] = [lines[row][:column]]
            case _:
                lines[row] = lines[row][:column] + token
                column += len(token)
    return "\n".join(lines)


def test_the_demo_in_a_pipe() -> None:
    """All snippets in order with their output, shortened to a readable length, and nothing on stderr."""
    done = subprocess.run(
        DEMO, check=False, capture_output=True, text=True, timeout=LIMIT, cwd=ROOT, env=environment({})
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line for line, rule in itertools.pairwise(lines) if line and rule == "-" * len(line)] == HEADINGS
    assert len(lines) < 150
    assert "\x1b" not in done.stdout
    assert "Calling: calculator\nArgs: {'expression': '42 * 17'}\n42 * 17 is 714.\n" in done.stdout
    assert "Submitting 714 for calculator {'expression': '42 * 17'}\n42 * 17 is 714.\n" in done.stdout
    assert "[Tool: generate_image]" in done.stdout
    assert 'You said: "Hello".' in done.stdout
    flowing = " ".join(done.stdout.split())
    assert [flowing.count(end) for end in ENDS] == [1, 1]


def test_the_demo_in_a_terminal() -> None:
    """A story is updated in place: in the end it is shown once, without earlier updates above it."""
    with Terminal(DEMO) as terminal:
        status, written = terminal.end()
    assert status == 0
    shown = screen(written)
    assert not re.search(r"^update \d|^Current message", shown, re.MULTILINE)
    flowing = " ".join(shown.split())
    assert [flowing.count(end) for end in ENDS] == [1, 1]
    assert [flowing.count(start) for start in ("The mail rocket", "Every full moon")] == [1, 1]
    assert len(shown.splitlines()) < 150


def test_a_reader_who_leaves_ends_the_demo() -> None:
    """As in ``streaming.py | head -1``: without a traceback."""
    with started(DEMO) as process:
        out, err = cast("IO[str]", process.stdout), cast("IO[str]", process.stderr)
        assert out.readline().startswith("inferencesh ")
        out.close()
        assert (process.wait(LIMIT), err.read()) == (1, "")


def test_ctrl_c_ends_the_demo() -> None:
    """Without a traceback."""
    with Terminal(DEMO) as terminal:
        terminal.expect("The mail rocket")
        terminal.press("\x03")
        status, written = terminal.end()
    assert status == 130
    assert "Traceback" not in written


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("42 * 17", 714),
        (" (1 + 2) ** 10 / 4 ", 14762.25),
        ("-7 // 2", -4),
        ("7 % 4 - +1", 2),
        ("1.5e3", 1500.0),
        ("2 ** -2", 0.25),
        ("-" * 199 + "1", -1),
        ("(" * 90 + "1" + ")" * 90, 1),
    ],
)
def test_arithmetic(expression: str, value: float) -> None:
    """The result is Python's."""
    assert calculate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "(lambda: 1)()",
        "[1, 2][0]",
        "'a' * 9",
        "True + 1",
        "1 if 1 else 2",
        "x",
        "",
        "1 +",
        "1\x00",
        "9 ** 9 ** 9",
        "9.0 ** 9999",
        "(9 ** 999) ** 9",
        "9 ** 1000 * 9 ** 1000",
        "(-8) ** 0.5",
        "1e999",
        "9 ** 1200 / 1",
        "1+" * 100 + "1",
    ],
)
def test_what_is_no_arithmetic_is_refused(expression: str) -> None:
    """Code, names, other values, incomplete expressions, and numbers that would be too large."""
    with pytest.raises(ValueError, match=r"."):
        calculate(expression)


@given(st.text() | st.text("0123456789.+-*/%() e", max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_worked_out_or_refused(text: str) -> None:
    """Nothing else can happen, whatever an agent sends."""
    try:
        value = calculate(text)
    except (ValueError, ZeroDivisionError):
        return
    assert isinstance(value, int | float)
