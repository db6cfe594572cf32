"""Run examples of docstrings one after the other, as a program of its own, for ``test_docstrings``.

It reads a JSON list of examples from stdin and writes a JSON list of their outputs, with the tracebacks of those that
failed. Each example can use all public names of ``inferencesh`` and of its page, and a ``client`` and an ``agent`` of
its kind.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import json
import sys
import traceback
from inspect import CO_COROUTINE
from types import CodeType

from inferencesh import AsyncInference, Inference

AGENT = {"name": "example"}


def compiled(name: str, code: str) -> CodeType:
    """Compile an example, which may use ``await`` at its top level."""
    code_object = compile(code, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    assert isinstance(code_object, CodeType)
    return code_object


def is_async(name: str, code: str) -> bool:
    """Whether an example is for the async client: by the name it documents, or because it awaits something."""
    about_async = name.rpartition(":")[2].lower().startswith("async")
    return about_async or bool(compiled(name, code).co_flags & CO_COROUTINE)


def names(page: str) -> dict[str, object]:
    """Return the names that an example can use."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for module in ("inferencesh", page):
        exec(f"from {module} import *", namespace)  # noqa: S102 - an import statement, as a user writes it
    return namespace


async def run_async(name: str, page: str, code: str) -> None:
    """Run an example for the async client."""
    async with AsyncInference() as client:
        waiting = eval(compiled(name, code), {**names(page), "client": client, "agent": client.agent(AGENT)})  # noqa: S307
        if waiting is not None:
            await waiting


def run(name: str, page: str, code: str) -> None:
    """Run an example for either client."""
    if is_async(name, code):
        asyncio.run(run_async(name, page, code))
        return
    with Inference() as client:
        exec(compiled(name, code), {**names(page), "client": client, "agent": client.agent(AGENT)})  # noqa: S102


def main() -> None:
    """Run all examples."""
    results = []
    for example in json.load(sys.stdin):
        failure = None
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            try:
                run(example["name"], example["page"], example["code"])
            except BaseException:  # noqa: BLE001 - the test shows it
                failure = traceback.format_exc()
        results.append({"name": example["name"], "output": printed.getvalue(), "failure": failure})
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
