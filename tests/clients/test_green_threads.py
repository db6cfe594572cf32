"""Processes in which gevent or eventlet has replaced threads: one clear sentence, before anything is started."""

from __future__ import annotations

import subprocess
import sys

import pytest

TRY = """
from inferencesh import AsyncInference, Inference
for make in (lambda: Inference("key"), Inference.local, AsyncInference.local):
    try:
        make()
    except ValueError as error:
        print(type(error).__name__, str(error).split(";")[0])
AsyncInference("key")
"""
REFUSED = (
    "needs a thread of its own for its event loop, and {} has replaced threads, or what they wait with, in this process"
)
# Enough of eventlet, which gets along with few versions of Python: what it answers about itself.
EVENTLET = """
import sys, types
sys.modules["eventlet.patcher"] = types.SimpleNamespace(is_monkey_patched=lambda name: name in {names!r})
"""


def run(program: str) -> list[str]:
    """The lines that a program prints; it must end quietly."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("name", "patch"),
    [
        ("gevent", "import gevent.monkey; gevent.monkey.patch_all()"),
        ("gevent", "import gevent.monkey; gevent.monkey.patch_all(thread=False)"),
        ("gevent", "from inferencesh import Inference\nimport gevent.monkey; gevent.monkey.patch_all()"),
        ("eventlet", EVENTLET.format(names=["thread"])),
    ],
    ids=["gevent", "gevent without threads", "gevent after the import", "eventlet"],
)
def test_what_needs_a_thread_is_refused(name: str, patch: str) -> None:
    """The blocking client and embedded runtimes, and they alone."""
    expected = REFUSED.format(name)
    assert run(f"{patch}\n{TRY}") == [
        f"ConfigurationError the blocking client {expected}",
        f"ConfigurationError an embedded runtime {expected}",
        f"ConfigurationError an embedded runtime {expected}",
    ]


@pytest.mark.parametrize(
    "patch",
    ["import gevent.monkey, gevent", "import gevent.monkey; gevent.monkey.patch_socket()", EVENTLET.format(names=[])],
    ids=["gevent unused", "gevent sockets", "eventlet unused"],
)
def test_what_is_not_replaced_does_not_matter(patch: str) -> None:
    """Clients work then, several at once."""
    use = "print([each.agent({'name': 't'}).send_message('Hi').done for each in clients])"
    clients = "from inferencesh import Inference; clients = [Inference.local(pace=0), Inference.local(pace=0)]"
    assert run(f"{patch}\n{clients}\n{use}\n[each.close() for each in clients]") == ["[True, True]"]
