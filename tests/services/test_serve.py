"""The command that serves the example: what ``make demo-web`` runs."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.children import start

SERVE = Path(__file__).parents[2] / "examples" / "fastapi_chat" / "serve.py"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_page_is_there_as_soon_as_its_address_is(workers: str) -> None:
    """Whoever opens the address the moment it is printed gets the page; Ctrl-C ends it without a word."""
    command = [sys.executable, str(SERVE), "--port", "0", "--workers", workers]
    with start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline(), process.stdout.readline()]
            address = re.search(r"http://\S+", lines[1])
            assert address is not None, lines
            assert "<!doctype html>" in httpx.get(address[0], timeout=30, trust_env=False).text
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (out, err) == ("", "")
    assert process.returncode == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_ends_on_sigterm_where_ctrl_c_is_ignored(workers: str) -> None:
    """As when a shell has started it in the background; its workers are gone too, since nobody holds its output."""
    command = [sys.executable, str(SERVE), "--port", "0", "--workers", workers]
    with start(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            address = re.search(r"http://\S+", process.stdout.readline() + process.stdout.readline())
            assert address is not None
            assert httpx.get(address[0], timeout=30, trust_env=False).status_code == 200
            process.send_signal(signal.SIGTERM)
            assert process.communicate(timeout=30) == ("", "")
        finally:
            process.kill()
    assert process.returncode in {0, -signal.SIGTERM}


def test_a_port_that_is_taken_is_told_of() -> None:
    """In one line, with what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, str(SERVE), "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"Port \d+ of 127\.0\.0\.1 cannot be used \(.*\); choose another --port\.\n", done.stderr)
