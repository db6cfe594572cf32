"""Proves from the source how the modules of the package depend on each other: ``python -m tests.architecture``.

Nothing is imported: the imports are read from the syntax trees, those inside functions too. Imports under
``if TYPE_CHECKING`` do not count, since they never run. A name that the package itself exports counts as an import of
the module that defines it. ``docs/architecture.md`` explains the rules; the exit status is 1 when one is broken.
"""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import attrs

__all__ = ["FLOORS", "IO_FREE", "RULES", "House", "Module", "main", "read_house"]

PACKAGE = Path(__file__).parents[1] / "inferencesh"
ROOT = "inferencesh"  # the name of the package's own ``__init__``, which imports a module when a name of it is used

# From the bottom to the top. A module may import what is on a lower floor, and the other modules of its own room.
FLOORS = (
    (ROOT,),
    ("errors",),
    ("_page", "_text", "config"),
    ("models",),
    ("task_models",),
    ("_types",),
    ("types",),
    ("tools",),
    ("builders",),
    ("_protocol",),
    ("_loops",),
    ("claims",),
    ("_http", "local"),
    ("_tasks", "_turns"),
    ("resources", "stream"),
    ("endpoints",),
    ("events",),
    ("agent", "tasks", "web"),
    ("sessions", "supervisor"),
    ("client",),
    ("sync",),
    ("_chat", "testing"),
    ("_cli",),
    ("__main__",),
)
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}

# The rooms that neither wait nor send: they can be tested without a loop, a thread, a socket or a clock.
IO_FREE = (
    *("errors", "_page", "_text", "config", "models", "task_models", "_types", "types", "tools", "builders"),
    "_protocol",
)
IO = frozenset(
    [
        *("aiohttp", "anyio", "asyncio", "concurrent", "multiprocessing", "queue", "sched", "select", "selectors"),
        *("signal", "sniffio", "socket", "ssl", "subprocess", "threading", "time"),
    ]
)

OUTSIDE = ("local", "testing")  # rooms beside the client
MOST_MODULES = 72  # of the client that hold code
LEAST_LINES = 60  # a shorter module is a fragment of another one

LOCAL_MAY_IMPORT = frozenset({ROOT, "errors", "_page", "_text", "_loops", "local"})
# What reads type hints and writes values as JSON: it knows nothing of the protocol, and is not to be written twice.
LOCAL_MAY_IMPORT_TOO = frozenset({"_types", "_types.encoding", "_types.hints", "_types.output", "_types.reading"})
PUBLIC_USERS = ("_chat", "_cli", "__main__", "testing")
# The modules that those may import from; ``local.errors`` has what a scripted refusal is made of.
PUBLIC_MODULES = frozenset({"local", "local.errors", "local.models", "web"})


@attrs.frozen
class Module:
    """A module of the package, as its source describes it.

    Attributes:
        name: Its name below the package, such as ``_http.stream``; ``tools`` is ``tools/__init__.py``.
        lines: The number of its lines.
        names: The full names that it imports, such as ``inferencesh.models.Message`` or ``asyncio``.
        imports: The modules of the package that it imports.
    """

    name: str
    lines: int
    names: frozenset[str]
    imports: frozenset[str]

    @property
    def room(self) -> str:
        """The package, or the module at the top, that it belongs to."""
        return self.name.partition(".")[0]

    @property
    def foreign(self) -> list[str]:
        """The names that it imports from elsewhere, sorted."""
        return sorted(name for name in self.names if name.partition(".")[0] != ROOT)


@attrs.frozen
class House:
    """The modules of the package.

    Attributes:
        modules: The modules by name.
        packages: The names of those that are packages.
        exports: The names that the package exports, each with the module that defines it.
    """

    modules: Mapping[str, Module]
    packages: frozenset[str]
    exports: Mapping[str, str]

    def reachable(self, name: str) -> frozenset[str]:
        """Return the modules that one imports, directly or not."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            new = self.modules[waiting.pop()].imports - found
            found |= new
            waiting += new
        return frozenset(found)

    def of(self, *rooms: str) -> list[Module]:
        """Return the modules of some rooms."""
        return [module for module in self.modules.values() if module.room in rooms]

    @property
    def client(self) -> list[Module]:
        """The modules of the client that hold code: without ``local``, ``testing``, packages and the command line."""
        outside = {*OUTSIDE, "_chat", "_cli", "__main__"}
        return [m for m in self.modules.values() if m.room not in outside and m.name not in self.packages]

    @property
    def longest_chain(self) -> list[str]:
        """The longest chain of imports, from the module on top down; there must be no cycle."""
        chains: dict[str, list[str]] = {}
        for name in graphlib.TopologicalSorter({m.name: m.imports for m in self.modules.values()}).static_order():
            below = (chains[other] for other in sorted(self.modules[name].imports))
            chains[name] = [name, *max(below, key=len, default=[])]
        return max(chains.values(), key=len)


def read_house(package: Path = PACKAGE) -> House:
    """Read the sources of a package.

    Args:
        package: Its directory.
    """
    paths = {_name_of(path, package): path for path in sorted(package.rglob("*.py"))}
    packages = frozenset(name for name, path in paths.items() if path.name == "__init__.py")
    sources = {name: path.read_text(encoding="utf-8") for name, path in paths.items()}
    exports = _exports(sources.get(ROOT, ""))
    modules = {}
    for name, path in paths.items():
        names = frozenset(_imports(ast.parse(sources[name]), [ROOT, *path.relative_to(package).parts[:-1]]))
        own = {_module_of(each, paths.keys(), exports) for each in names if f"{each}.".startswith(f"{ROOT}.")}
        inside = f"{name}." if name in packages else name.rpartition(".")[0] + "."
        # Importing a module runs the __init__ of its package first, unless that is already being imported.
        own |= {parent for each in own for parent in _parents(each) if not inside.startswith(f"{parent}.")}
        modules[name] = Module(name, len(sources[name].splitlines()), names, frozenset(own & paths.keys() - {name}))
    return House(modules, packages, exports)


def _name_of(path: Path, package: Path) -> str:
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or ROOT


def _parents(name: str) -> Iterator[str]:
    while name := name.rpartition(".")[0]:
        yield name


def _imports(node: ast.AST, package: list[str]) -> Iterator[str]:
    """Yield the full names of what a module imports, from anywhere in it, imports for type checkers apart."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from _imports(ast.Module(child.orelse, []), package)
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            above = package[: len(package) + 1 - child.level] if child.level else []
            source = ".".join([*above, *([child.module] if child.module else [])])
            yield from (f"{source}.{alias.name}" for alias in child.names)
        else:
            yield from _imports(child, package)


def _module_of(name: str, known: Collection[str], exports: Mapping[str, str]) -> str:
    """Return the module of the package that defines what is imported by a full name."""
    below = name.removeprefix(ROOT).removeprefix(".")
    if below in known:
        return below
    source, _, _ = below.rpartition(".")
    return source if source in known else exports.get(below, ROOT)


def _exports(source: str) -> dict[str, str]:
    """Return the modules that define what the package exports, by name, from the ``_MODULES`` of its source."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_MODULES":
            modules: dict[str, str] = ast.literal_eval(node.value)
            return {name: module for module, names in modules.items() for name in names.split()}
    return {}


# -- the rules ---------------------------------------------------------------------------------------------------------


def every_module_has_a_floor(house: House) -> list[str]:
    """Each module has its place in the order."""
    return [f"{name} is on no floor" for name, module in house.modules.items() if module.room not in FLOOR_OF]


def no_cycle(house: House) -> list[str]:
    """No module imports itself, however many others are in between."""
    try:
        graphlib.TopologicalSorter({module.name: module.imports for module in house.modules.values()}).prepare()
    except graphlib.CycleError as error:
        return [" -> ".join(reversed(error.args[1]))]
    return []


def downwards_only(house: House) -> list[str]:
    """A module imports only what is on a lower floor, or in its own room."""
    return [
        f"{module.name} imports {other}"
        for module in house.modules.values()
        for other in sorted(module.imports)
        if (room := house.modules[other].room) != module.room
        and FLOOR_OF.get(room, 0) >= FLOOR_OF.get(module.room, len(FLOORS))
    ]


def core_does_no_io(house: House) -> list[str]:
    """Protocol, types, models and tools import no event loop, thread, socket or clock, nor anything that does."""
    return [
        f"{module.name} imports {each}{'' if name == module.name else f' through {name}'}"
        for module in house.of(*IO_FREE)
        for name in sorted({module.name, *house.reachable(module.name)})
        for each in house.modules[name].foreign
        if each.partition(".")[0] in IO
    ]


def local_is_no_client(house: House) -> list[str]:
    """The embedded runtime imports nothing of the client but errors, JSON helpers, loops, page, readers of hints."""
    return [
        f"{module.name} imports {other}"
        for module in house.of("local")
        for other in sorted(module.imports)
        if house.modules[other].room not in LOCAL_MAY_IMPORT and other not in LOCAL_MAY_IMPORT_TOO
    ]


def public_names_only(house: House) -> list[str]:
    """The command line and the tools for tests use what every program can use."""
    own = {f"{ROOT}.{name}" for name in house.modules if name.partition(".")[0] in PUBLIC_USERS}
    public = {f"{ROOT}.{name}" for name in (*house.exports, *PUBLIC_MODULES, "__version__")} | own | {ROOT}
    return [
        f"{module.name} imports {name}"
        for module in house.of(*PUBLIC_USERS)
        for name in sorted(module.names)
        if f"{name}.".startswith(f"{ROOT}.") and name not in public and name.rpartition(".")[0] not in public - {ROOT}
    ]


def aiohttp_stays_in_http(house: House) -> list[str]:
    """Of the client only ``_http`` imports aiohttp."""
    return [
        f"{module.name} imports aiohttp"
        for module in house.modules.values()
        if module.room not in {"_http", *OUTSIDE} and any(name.partition(".")[0] == "aiohttp" for name in module.names)
    ]


def few_modules(house: House) -> list[str]:
    """The client has at most 72 modules that hold code."""
    count = len(house.client)
    return [f"the client has {count} modules"] if count > MOST_MODULES else []


def no_fragments(house: House) -> list[str]:
    """No module of the client has less than 60 lines."""
    return [f"{module.name} has {module.lines} lines" for module in house.client if module.lines < LEAST_LINES]


RULES: tuple[Callable[[House], list[str]], ...] = (
    every_module_has_a_floor,
    no_cycle,
    downwards_only,
    core_does_no_io,
    local_is_no_client,
    public_names_only,
    aiohttp_stays_in_http,
    few_modules,
    no_fragments,
)


def main(package: Path = PACKAGE) -> int:
    """Print the floors and what each rule found; return the exit status."""
    house = read_house(package)
    for number, floor in reversed(list(enumerate(FLOORS))):
        for room in floor:
            print(f"{number:3}  {room:12} {_described(house, room)}")
    print(f"\nThe client has {len(house.client)} modules that hold code, the others {_others(house)}.")
    broken = 0
    for rule in RULES:
        problems = rule(house)
        broken += bool(problems)
        print(f"{'BROKEN' if problems else 'ok':6}  {rule.__doc__}")
        for problem in problems:
            print(f"          {problem}")
    if not no_cycle(house):
        chain = house.longest_chain
        print(f"\nThere is no cycle. The longest chain of imports has {len(chain)} modules:\n  {' -> '.join(chain)}")
    return 1 if broken else 0


def _described(house: House, room: str) -> str:
    modules = [module for module in house.of(room) if module.name not in house.packages]
    lines = sum(module.lines for module in house.of(room))
    below = sorted({house.modules[other].room for module in house.of(room) for other in module.imports} - {room})
    count = f"{len(modules)} module{'s' if len(modules) != 1 else ''}"
    return f"{count:11} {lines:6,} lines  {', '.join(below)}".rstrip()


def _others(house: House) -> int:
    return sum(1 for module in house.of(*OUTSIDE) if module.name not in house.packages)


if __name__ == "__main__":
    sys.exit(main())
