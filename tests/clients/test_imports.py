"""Importing a client imports what its class statement needs; the rest comes with the first client or request."""

from __future__ import annotations

import subprocess
import sys

import pytest

# What a client needs sooner or later, or what comes with it, and what is slow to import.
HEAVY = (
    *("aiohttp", "anyio", "cattrs", "jiter", "opentelemetry", "orjson", "puremagic"),
    *("asyncio", "concurrent", "difflib", "email", "http", "ipaddress", "json", "logging", "multiprocessing"),
    *("pathlib", "selectors", "socket", "sqlite3", "ssl", "tempfile", "urllib"),
)
OWN = {  # all of this package that may be imported
    "inferencesh",
    *(f"inferencesh.{name}" for name in ("client", "config", "errors", "sync")),
    *("inferencesh._http", "inferencesh._http.retry", "inferencesh._loops", "inferencesh._loops.threads"),
}


def imported_by(statement: str) -> set[str]:
    """Return the names of the modules that a statement imports, in an interpreter of its own.

    Args:
        statement: One line of Python.
    """
    # Modules of the environment that hook into the start of the interpreter do not count.
    program = f"import sys; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize("name", ["Inference", "inference", "AsyncInference", "async_inference", "MessageStream"])
def test_importing_a_client_imports_neither_an_event_loop_nor_what_reads_and_sends(name: str) -> None:
    """A command line program that ends before its first request pays for none of it."""
    modules = imported_by(f"from inferencesh import {name}")
    assert sorted({module.partition(".")[0] for module in modules} & set(HEAVY)) == []
    assert {module for module in modules if module.partition(".")[0] == "inferencesh"} <= OWN


@pytest.mark.parametrize("name", ["Inference('k')", "AsyncInference('k')"])
def test_making_a_client_does_not_import_what_sends(name: str) -> None:
    """Nor what only typed tools, uploads and whole documents of types need."""
    modules = imported_by(f"from inferencesh import *; {name}")
    assert modules & {"aiohttp", "puremagic", "sqlite3"} == set()


@pytest.mark.parametrize("name", ["APIError", "Timeout", "Backoff"])
def test_importing_an_error_or_a_setting_imports_no_client(name: str) -> None:
    """Modules that only catch or configure stay cheap."""
    modules = imported_by(f"from inferencesh import {name}")
    assert {module for module in modules if module.startswith("inferencesh.")} <= OWN - {
        "inferencesh.client",
        "inferencesh.sync",
    }
