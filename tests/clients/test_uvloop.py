"""The async client on uvloop, which ``uvicorn[standard]`` runs services on."""

from __future__ import annotations

from inferencesh.local import ToolCall
from tests.command_line import address, run_program
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
    """Run a program that must write nothing to stderr, and return what it prints."""
    done = run_program(program, *arguments, **variables)
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
        variables = address(served.runtime.base_url, served.runtime.api_key)
        assert run(TURN, **variables).split("\n")[-2] == "It is 42."
        assert served.script.asked[1].messages[-1].text == "42"
