"""The async client on uvloop, which ``uvicorn[standard]`` runs services on."""

from __future__ import annotations

import subprocess
import sys

from inferencesh.local import ToolCall
from tests.command_line import LIMIT, ROOT, environment
from tests.faults.server import FaultServer
from tests.support import Served
from tests.uploads.storage import Storage, service

SIZES = [11, 300_000, 0, 1_000_000, *[7] * 150]

TURN = """
import uvloop
from inferencesh import AsyncInference, tool

async def multiply(a: int, b: int) -> int:
    return a * b

async def main():
    async with AsyncInference() as client:
        agent = client.agent(name="calculator", tools=[multiply])
        async for message in agent.send_message("What is 6 times 7?", stream=True):
            print(message.text)

uvloop.run(main())
"""

UPLOADS = """
import sys
import uvloop
from inferencesh import AsyncInference

async def main():
    async with AsyncInference("key", base_url=sys.argv[1]) as client:
        for size in map(int, sys.argv[2:]):
            await client.files.upload(b"x" * size, filename="a.bin")

uvloop.run(main())
"""


def run(program: str, *arguments: str, **variables: str) -> str:
    """Run a program with warnings as errors, and return what it prints."""
    command = [sys.executable, "-W", "error", "-c", program, *arguments]
    done = subprocess.run(
        command, env=environment(variables), cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_file_is_sent_once() -> None:
    """Although the answer may come before the client has noticed that everything was sent."""
    with Storage() as storage, FaultServer(service(storage.url)) as server:
        run(UPLOADS, server.url, *map(str, SIZES))
    assert [put.size for put in storage.puts] == SIZES


def test_a_turn_calls_its_tool() -> None:
    """And is streamed; nothing is left open at its end, of which a warning would tell."""
    with Served([ToolCall("multiply", {"a": 6, "b": 7})], ["It is ", "42."]) as served:
        address = {"INFERENCE_BASE_URL": served.runtime.base_url, "INFERENCE_API_KEY": served.runtime.api_key}
        assert run(TURN, **address).split("\n")[-2] == "It is 42."
        assert served.script.asked[1].messages[-1].text == "42"
