"""``docs/migrating.md``: complete, up to date, and true: the program of each row runs."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

import inferencesh
from docs.migrating import OFFICIAL, PAGE, SECTIONS, Row, render
from inferencesh import Inference, types

from .command_line import LIMIT, ROOT
from .support import Served

ROWS = [row for section in SECTIONS for row in section.rows]
PROGRAMS = [row for row in ROWS if not row.left_out]
MEMBERS = {  # of the official classes, both clients' together
    "Inference": "agent agents cancel files get_task live run session sessions sockets stream_task tasks upload_file "
    "wait_for_completion",
    "Agent": "approve_tool chat_id get_chat reject_tool reset run send_message stop_chat stream_all stream_chat "
    "stream_messages submit_tool_result upload_file",
}


@pytest.fixture
def client() -> Iterator[Inference]:
    """A client whose agents are answered by the demo model."""
    with Served() as served, Inference(**served.address) as made:
        yield made


@pytest.mark.parametrize("row", PROGRAMS, ids=lambda row: row.names[0])
def test_the_program_of_a_row_runs(row: Row, client: Inference, capsys: pytest.CaptureFixture[str]) -> None:
    """It uses each name of the row, unless the row says that something else takes its place."""
    assert row.program, "the row has no program"
    exec(compile(row.program, row.names[0], "exec"), {"client": client, "agent": client.agent({"name": "x"})})  # noqa: S102
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("row", [row for row in ROWS if row.left_out], ids=lambda row: row.names[0])
def test_what_is_left_out_is_not_there(row: Row, client: Inference) -> None:
    """Else the page would be wrong; and it says why."""
    assert row.note
    for name in row.names:
        owner, _, member = name.rpartition(".")
        with pytest.raises(AttributeError):
            getattr(client if owner else inferencesh, member)("x")


def test_every_official_name_has_one_row() -> None:
    """Of the module, of the clients and of agents."""
    listed = Counter(name for row in ROWS for name in row.names)
    members = {f"{cls}.{member}" for cls, names in MEMBERS.items() for member in names.split()}
    assert set(listed) == OFFICIAL | members
    assert [name for name, count in listed.items() if count > 1] == []
    assert len(OFFICIAL) == 148


def test_names_that_are_kept_can_be_imported() -> None:
    """All that no row leaves out or replaces by something of another name."""
    replaced = {"DeltaAccumulator", "StreamDelta", "ToolResultRequest", "ClientToolHandler", "RequirementError"}
    replaced |= {"SetupAction", *next(row for row in ROWS if "streamable" in row.names).names}
    for name in OFFICIAL - {name for row in ROWS if row.left_out for name in row.names} - replaced:
        assert getattr(inferencesh, name) is not None
    for name in replaced:
        assert not hasattr(inferencesh, name)


def test_the_page_is_up_to_date() -> None:
    """``python -m docs.migrating`` writes it."""
    assert PAGE.read_text(encoding="utf-8") == render()


def test_aliases_cost_nothing_until_one_is_used() -> None:
    """Neither importing a client nor using one imports them."""
    program = (
        "import sys; from inferencesh import *; Inference('k').agent('a/b'); print('inferencesh.types' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT, check=False, cwd=ROOT
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_every_alias_is_documented() -> None:
    """By the new name in its docstring, or by being the class with the new name."""
    for name in types.__all__:
        value: Any = getattr(types, name)
        if callable(value) and getattr(value, "__module__", "") == "inferencesh.types":
            assert value.__doc__, name
    for methods in (types.ClientNames, types.AgentNames):
        for name, method in vars(methods).items():
            if not name.startswith("_"):
                assert "; now ``" in method.__doc__, name


@pytest.mark.parametrize("name", ["no_such_thing", "_private", "__wrapped__"])
def test_what_no_sdk_has_is_an_attribute_error(name: str, client: Inference) -> None:
    """As of any class and module."""
    for thing in (client, client.agent("a/b"), inferencesh, types):
        with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
            getattr(thing, name)
