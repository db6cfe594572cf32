"""The layout that keeps every protocol rule testable without a socket: the core does no I/O, imports go one way."""

from __future__ import annotations

import ast
import functools
import graphlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import inferencesh

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(inferencesh.__file__).parent
CORE = [
    *(
        "agent_config",
        "call_fragments",
        "calls",
        "claims",
        "config_names",
        "client_tool",
        "config",
        "converter",
        "deltas",
    ),
    *(
        "enums",
        "errors",
        "exception_text",
        "finish",
        "growing_text",
        "growth",
        "handlers",
        "hints",
        "hooks",
        "json_text",
        "json_types",
    ),
    *("late_form", "line_growth", "live", "models", "outcome", "output", "output_schema", "partial_json", "pauses"),
    *("proxies", "reconnects", "references", "replies", "rereads", "responses", "retry", "run_state"),
    *(
        "schemas",
        "service_tools",
        "signatures",
        "staleness",
        "strict_containers",
        "strict_converter",
        "strict_problems",
    ),
    *("strict_scalars", "superseded", "tool_builder", "tool_context", "tools", "turn", "type_schemas"),
    *("typed_signature", "typed_tools", "web_tools", "widgets", "wire"),
]
WAITS = {"asyncio", "anyio", "threading", "aiohttp", "socket", "selectors", "concurrent", "time", "sniffio"}


def imported(tree: ast.AST, *, late: bool) -> Iterator[str]:
    """The modules that a module imports; its own package's with a dot before.

    Args:
        tree: The module.
        late: Whether imports inside functions count as well.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level
            yield from [dots + node.module] if node.module else [dots + name.name for name in node.names]
        elif late or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imported(node, late=late)


@functools.cache
def modules() -> dict[str, ast.Module]:
    """The modules right in the package, parsed."""
    return {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.glob("*.py"))}


@pytest.mark.parametrize("name", CORE)
def test_the_core_neither_waits_nor_sends(name: str) -> None:
    """It imports no loop, thread, socket or clock, not even inside a function."""
    found = {module.partition(".")[0] for module in imported(modules()[name], late=True) if not module.startswith(".")}
    assert not found & WAITS


@pytest.mark.parametrize("name", CORE)
def test_the_core_imports_the_core_alone(name: str) -> None:
    """Nothing that does I/O comes in through another module."""
    own = {module.lstrip(".") for module in imported(modules()[name], late=True) if module.startswith(".")}
    assert own <= set(CORE)


def test_imports_go_one_way() -> None:
    """No module is imported by one that it imports, however far down."""
    trees = modules()
    own = {}
    for name, tree in trees.items():
        relative = {module[1:] for module in imported(tree, late=False) if module.startswith(".")}
        own[name] = relative & trees.keys()
    order = list(graphlib.TopologicalSorter(own).static_order())
    assert order.index("models") < order.index("turn") < order.index("client")
