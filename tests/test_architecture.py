"""How the modules may depend on each other: imports go downwards, the core does no I/O, imports are cheap."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .architecture import (
    IO_FREE,
    LEAST_LINES,
    MOST_MODULES,
    RULES,
    House,
    aiohttp_stays_in_http,
    core_does_no_io,
    downwards_only,
    every_module_has_a_floor,
    few_modules,
    local_is_no_client,
    main,
    no_cycle,
    no_fragments,
    public_names_only,
    read_house,
)

Rule = Callable[[House], list[str]]

HOUSE = read_house()


def run(program: str) -> str:
    """Return the output of a program in an interpreter of its own."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    return done.stdout.strip()


def write(package: Path, sources: dict[str, str]) -> Path:
    """Write a package, its modules by their paths without the ending; every folder gets an ``__init__``."""
    for name, source in sources.items():
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
        (path.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    return package


# -- the rules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule: Rule) -> None:
    """As ``python -m tests.architecture`` says as well."""
    assert rule(HOUSE) == []


@pytest.mark.parametrize(
    ("rule", "sources", "problems"),
    [
        (every_module_has_a_floor, {"_news": ""}, ["_news is on no floor"]),
        (
            no_cycle,
            {
                "errors": "from . import models",
                "models": "def f():\n    from ._text import g",
                "_text": "from .errors import E",
            },
            1,
        ),
        (
            no_cycle,
            {"tools/builder": "from inferencesh.tools import tool", "tools/__init__": "from .builder import b"},
            1,
        ),
        (downwards_only, {"models": "from ._types.codec import c", "_types/codec": ""}, 2),
        (downwards_only, {"_http/api": "from inferencesh._turns.driver import d", "_turns/driver": ""}, 2),
        (downwards_only, {"stream": "from .resources import r", "resources": ""}, ["stream imports resources"]),
        (
            downwards_only,
            {"__init__": "_MODULES = {'sync': 'Inference'}", "sync": "", "web": "from inferencesh import Inference"},
            ["web imports sync"],
        ),
        (core_does_no_io, {"config": "import asyncio"}, ["config imports asyncio"]),
        (
            core_does_no_io,
            {"_protocol/run": "def f():\n    from time import time"},
            ["_protocol.run imports time.time"],
        ),
        (
            core_does_no_io,
            {"models": "from ._loops.pool import p", "_loops/pool": "import threading"},
            ["models imports threading through _loops.pool"],
        ),
        (local_is_no_client, {"local/feed": "from inferencesh._protocol.wire import w", "_protocol/wire": ""}, 2),
        (
            public_names_only,
            {"_cli": "from .sync import Inference", "sync": ""},
            ["_cli imports inferencesh.sync.Inference"],
        ),
        (
            public_names_only,
            {"testing/runtime": "from inferencesh.local._api.forms import f", "local/_api/forms": ""},
            ["testing.runtime imports inferencesh.local._api.forms.f"],
        ),
        (aiohttp_stays_in_http, {"web": "import aiohttp.web"}, ["web imports aiohttp"]),
        (
            few_modules,
            {f"_http/m{number}": "" for number in range(MOST_MODULES + 1)},
            [f"the client has {MOST_MODULES + 1} modules"],
        ),
        (no_fragments, {"stream": "\n" * (LEAST_LINES - 1)}, ["stream has 59 lines"]),
    ],
)
def test_the_rule_sees_what_breaks_it(
    rule: Rule, sources: dict[str, str], problems: list[str] | int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the import stands in a function, goes through a package or is of a name that the package exports."""
    package = write(tmp_path / "inferencesh", sources)
    found = rule(read_house(package))
    assert len(found) == problems if isinstance(problems, int) else found == problems
    assert main(package) == 1
    assert all(problem in capsys.readouterr().out for problem in found[:1])


def test_imports_for_type_checkers_do_not_count(tmp_path: Path) -> None:
    """They never run."""
    source = "if TYPE_CHECKING:\n    from .sync import Inference\nelse:\n    import asyncio"
    house = read_house(write(tmp_path / "inferencesh", {"errors": source, "sync": ""}))
    assert house.modules["errors"].imports == frozenset()
    assert "asyncio" in house.modules["errors"].names


def test_the_proof_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Floors, counts, and the longest chain; the exit status is 0 where all is well."""
    assert main() == 0
    shown = capsys.readouterr().out
    assert f"The client has {len(HOUSE.client)} modules" in shown
    assert "There is no cycle. The longest chain of imports has" in shown
    assert "BROKEN" not in shown
    assert len(HOUSE.longest_chain) == len(set(HOUSE.longest_chain)) > 10


def test_well_known_imports_are_found() -> None:
    """So that the rules look at something."""
    assert "client" in HOUSE.modules["sync"].imports
    assert "_protocol.wire" in HOUSE.reachable("sync")
    assert "_http.stream" in HOUSE.modules["_http.transport"].imports  # inside a function
    assert "sync" in HOUSE.modules["_cli"].imports  # by a name that the package exports
    assert len(HOUSE.client) > 30


# -- what the rules do not say -----------------------------------------------------------------------------------------


def test_the_core_can_be_imported_without_an_event_loop() -> None:
    """Nothing of it, other people's packages included, needs asyncio, anyio or aiohttp."""
    wanted = ", ".join(f"inferencesh.{module.name}" for module in HOUSE.of(*IO_FREE))
    blocked = "import sys; sys.modules.update(dict.fromkeys(['asyncio', 'anyio', 'aiohttp']))"
    assert run(f"{blocked}; import {wanted}; print('fine')") == "fine"


def test_the_blocking_client_knows_nothing_of_the_protocol() -> None:
    """It drives the async classes, and only them."""
    rooms = {HOUSE.modules[name].room for name in HOUSE.modules["sync"].imports}
    assert rooms.isdisjoint({"_protocol", "_types", "_text"})


def test_the_loops_know_nothing_of_the_client() -> None:
    """They run any coroutine, and call any function of the user."""
    for module in HOUSE.of("_loops"):
        assert {HOUSE.modules[name].room for name in module.imports} <= {"_loops", "errors", "tools"}


AGENTS = "AsyncInference('k').agent({'name': 't'}), Inference('k').agent('a/b')"


@pytest.mark.parametrize(
    "statement",
    [
        "import inferencesh",
        "from inferencesh import *",
        f"from inferencesh import *; [each.send_message('Hi', stream=True) for each in ({AGENTS})]",
    ],
    ids=["import", "all names", "clients that have not sent anything"],
)
def test_aiohttp_is_imported_with_the_first_request(statement: str) -> None:
    """Not before: its import takes longer than all the rest."""
    assert run(f"{statement}; import sys; print('aiohttp' in sys.modules)") == "False"


def test_pydantic_and_the_like_are_imported_by_their_users_only() -> None:
    """A typed tool that has none of their types does not import them; they may not even be there."""
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['pydantic', 'msgspec', 'annotated_types']))\n"
        "from dataclasses import dataclass\n"
        "from inferencesh import tool\n"
        "@dataclass\nclass Place:\n    x: int\n    names: list[str] | None = None\n"
        "@tool\ndef f(place: Place, n: int = 3): return place\n"
        "print(f.bind({'place': {'x': 1}}, None)())"
    )
    assert run(program) == "Place(x=1, names=None)"


def test_importing_the_package_imports_next_to_nothing() -> None:
    """Not even attrs, asyncio or a module of its own, until a name is used."""
    program = "import inferencesh, sys; print({'attrs', 'asyncio', 'inferencesh.client'} & set(sys.modules))"
    assert run(program) == "set()"
