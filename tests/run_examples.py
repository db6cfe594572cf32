"""Runs examples of docstrings one after the other; a program of its own, for ``test_docstrings``.

It reads a JSON list of examples from stdin, and writes one of what each has printed, with the traceback of those that
failed. Each finds in place all public names of ``inferencesh`` and of the page it stands on, ``client`` and ``agent``,
of the kind that it is about.
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
    """An example's code, which may ``await`` on its top level."""
    code_object = compile(code, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    assert isinstance(code_object, CodeType)
    return code_object


def is_async(name: str, code: str) -> bool:
    """Whether an example is of the async client: by what it is about, or because it awaits something."""
    about_async = name.rpartition(":")[2].lower().startswith("async")
    return about_async or bool(compiled(name, code).co_flags & CO_COROUTINE)


def names(page: str) -> dict[str, object]:
    """What ``from ... import *`` gives an example."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for module in ("inferencesh", page):
        exec(f"from {module} import *", namespace)  # noqa: S102 - an import statement, as a user writes it
    return namespace


async def run_async(name: str, page: str, code: str) -> None:
    """Run an example of the async client."""
    async with AsyncInference() as client:
        waiting = eval(compiled(name, code), {**names(page), "client": client, "agent": client.agent(AGENT)})  # noqa: S307
        if waiting is not None:
            await waiting


def run(name: str, page: str, code: str) -> None:
    """Run any example."""
    if is_async(name, code):
        asyncio.run(run_async(name, page, code))
        return
    with Inference() as client:
        exec(compiled(name, code), {**names(page), "client": client, "agent": client.agent(AGENT)})  # noqa: S102


def main() -> None:
    """Run all of them."""
    results = []
    for example in json.load(sys.stdin):
        failure = None
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            try:
                run(example["name"], example["page"], example["code"])
            except BaseException:  # noqa: BLE001 - whatever it is, the test shows it
                failure = traceback.format_exc()
        results.append({"name": example["name"], "output": printed.getvalue(), "failure": failure})
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
