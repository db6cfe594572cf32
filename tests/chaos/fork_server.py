"""Forks the processes of a fleet from a process with preloaded modules: ``python -m tests.chaos.fork_server``.

Imports take a worker two seconds, and a worker that is killed every few seconds would do little else. Each line of
standard input is a program to start, which this process answers with a line that contains the process id. Each program
is the leader of a process group. This process exits when its standard input is closed, which kills all programs.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

__all__: list[str] = []

_IMPORTED = (
    *("aiohttp", "aiohttp.web", "fastapi", "fastapi.staticfiles", "inferencesh.client", "inferencesh.local"),
    *("inferencesh.claims", "inferencesh.web", "opentelemetry.sdk.trace.export", "prometheus_client"),
    *("redis.asyncio", "sqlite3", "taskiq.receiver", "taskiq_redis", "uvicorn", "uvicorn.lifespan.on"),
    *("uvicorn.loops.auto", "uvicorn.protocols.http.auto", "tests.chaos.agent", "tests.chaos.plan"),
)
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Start the programs that arrive on standard input."""
    for name in _IMPORTED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children need not be waited for
    print("ready", flush=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        child = os.fork()
        if child == 0:
            _exec_program(**wanted)
        _set_process_group(child)
        print(child, flush=True)


def _set_process_group(child: int) -> None:
    """Give a child its own process group. The child does the same, to avoid a race."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has already exited or set its group
        os.setpgid(child, child)


def _exec_program(program: list[str], log: str, environment: dict[str, str]) -> NoReturn:
    """Run a program in this process, as if Python had just been started with it, and exit."""
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.closerange(3, 64)
    os.environ.update(environment)
    status: Any = 1
    try:
        _run(program)
        status = 0
    except SystemExit as end:
        status = end.code or 0
        if isinstance(status, str):
            print(status, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


def _run(program: list[str]) -> None:
    """Run a script, or a module with ``-m``."""
    if program[0] == "-m":
        sys.argv = program[1:]
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = program
        sys.path.insert(0, str(Path(program[0]).parent))
        runpy.run_path(program[0], run_name="__main__")


if __name__ == "__main__":
    main()
