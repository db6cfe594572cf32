"""How the modules may depend on each other: data flows one way, the protocol is free of I/O, imports are cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "inferencesh"

# From the wire to the user's code; none of these may reach one that stands behind it.
FLOW = ("errors", "models", "wire", "turn", "driver", "stream", "agent", "client", "sync", "terminal", "cli")
# Every protocol rule is a pure function of the events.
SANS_IO = (
    *("agent_config", "config", "errors", "models", "proxies", "responses", "retry", "turn", "wire"),
    *("hooks", "service_tools", "tools", "typed_tools", "web_tools", "widgets"),
)
IO = {
    "aiohttp",
    "anyio",
    "asyncio",
    "concurrent",
    "multiprocessing",
    "queue",
    "selectors",
    "socket",
    "ssl",
    "threading",
}
PROTOCOL = {"calls", "converter", "live", "replies", "responses", "run_state", "transport", "turn", "wire"}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def name_of(path: Path) -> str:
    """A module's name below the package: ``wire``, ``local.feed``; ``local`` for ``local/__init__.py``."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path): path for path in MODULES}


def imported(path: Path) -> Iterator[str]:
    """The full names of what a module imports, inside functions too; imports for type checkers alone are left out."""
    package = ["inferencesh", *path.relative_to(PACKAGE).parts[:-1]]

    def visit(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                above = package[: len(package) + 1 - child.level] if child.level else []
                source = ".".join([*above, *([child.module] if child.module else [])])
                yield source
                yield from (f"{source}.{alias.name}" for alias in child.names)
            else:
                yield from visit(child)

    return visit(ast.parse(path.read_text(encoding="utf-8")))


@cache
def own_imports(name: str) -> frozenset[str]:
    """The modules of this package that one of them imports directly."""
    below = (full.removeprefix("inferencesh.") for full in imported(NAMES[name]) if full.startswith("inferencesh."))
    return frozenset(each for each in below if each in NAMES and each != name)


@cache
def reachable(name: str) -> frozenset[str]:
    """The modules of this package that one of them imports, directly or not."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for each in own_imports(waiting.pop()) - found:
            found.add(each)
            waiting.append(each)
    return frozenset(found)


def run(program: str) -> str:
    """The output of a program in an interpreter of its own."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    return done.stdout.strip()


def test_the_graph_is_what_it_should_be() -> None:
    """The other tests see something: the modules they name exist, and some well-known imports are found."""
    assert {*FLOW, *SANS_IO, *PROTOCOL} <= set(NAMES)
    assert "client" in own_imports("sync")
    assert "wire" in reachable("sync")
    assert "byte_stream" in own_imports("transport")  # inside a function


@pytest.mark.parametrize("name", sorted(NAMES))
def test_no_module_imports_itself_in_the_end(name: str) -> None:
    """There are no circles."""
    assert name not in reachable(name)


@pytest.mark.parametrize("place", range(len(FLOW)), ids=FLOW.__getitem__)
def test_data_flows_one_way(place: int) -> None:
    """From the wire to the user's code, no module knows one that comes after it."""
    assert reachable(FLOW[place]).isdisjoint(FLOW[place + 1 :])


@pytest.mark.parametrize("name", SANS_IO)
def test_the_protocol_does_no_io(name: str) -> None:
    """Neither such a module nor one that it imports imports an event loop, threads or sockets."""
    for each in (name, *reachable(name)):
        tops = {full.partition(".")[0] for full in imported(NAMES[each])}
        assert tops.isdisjoint(IO), f"{each} imports {tops & IO}"


def test_the_protocol_can_be_imported_without_an_event_loop() -> None:
    """Nothing of it, other people's packages included, needs asyncio, anyio or aiohttp."""
    wanted = ", ".join(f"inferencesh.{name}" for name in SANS_IO)
    blocked = "import sys; sys.modules.update(dict.fromkeys(['asyncio', 'anyio', 'aiohttp']))"
    assert run(f"{blocked}; import {wanted}; print('fine')") == "fine"


def test_the_blocking_client_knows_nothing_of_the_protocol() -> None:
    """It drives the async classes, and only them."""
    assert own_imports("sync").isdisjoint(PROTOCOL)


def test_the_background_loop_knows_nothing_of_anything() -> None:
    """It could serve any other package."""
    assert reachable("loop_thread") == {"errors", "event_loops", "signal_errors"}


@pytest.mark.parametrize("name", sorted(name for name in NAMES if name.split(".")[0] == "local"))
def test_the_embedded_runtime_is_no_client(name: str) -> None:
    """It speaks the same wire without sharing a line with those who read it."""
    assert reachable(name).isdisjoint({"client", "agent", "stream", "sync", "driver", "transport", "turn", "wire"})


@pytest.mark.parametrize("name", ["cli", "terminal", "upload_bar", "__main__"])
def test_the_command_line_uses_public_names(name: str) -> None:
    """What it can do, every program can do."""
    assert own_imports(name) <= {"cli", "terminal", "upload_bar", "local", "_version"}


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


def test_what_typed_tools_need_is_imported_with_the_first_of_them() -> None:
    """Whoever has none does not pay for it: neither with all names nor with a tool that was built by hand."""
    built_by_hand = "import sys; from inferencesh import *; tool('t').param('a', string()).handler(print).build()"
    made_of_a_function = "@tool\ndef f(a: int):\n    'A.'"
    show = "print(len({'msgspec', 'docstring_parser'} & set(sys.modules)))"
    assert run(f"{built_by_hand}\n{show}") == "0"
    assert run(f"{built_by_hand}\n{made_of_a_function}\n{show}") == "2"


def test_importing_the_package_imports_next_to_nothing() -> None:
    """Not even attrs, asyncio or a module of its own, until a name is used."""
    program = "import inferencesh, sys; print({'attrs', 'asyncio', 'inferencesh.client'} & set(sys.modules))"
    assert run(program) == "set()"
