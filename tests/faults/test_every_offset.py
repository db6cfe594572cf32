"""A connection may die at any byte."""

from __future__ import annotations

import asyncio

import pytest

from inferencesh import AsyncInference, Inference
from inferencesh.config import Backoff
from tests.support import Kind

from .forms import chat, delta, message
from .script import RST, Scenario, Script, encode, head, raw
from .server import FaultServer
from .turns import check_snapshots, client_options

TEXT = "Grüße"
AT_ONCE = Backoff(initial=0.001, factor=1.0, maximum=0.001)
TURN: Script = (
    chat("working"),
    message(""),
    delta("Gr", 1),
    message("Grü"),
    delta("üß", 2),
    message(TEXT, "ready"),
    chat("completed"),
)


def answer() -> bytes:
    """The whole turn as it travels, head and chunk sizes included."""
    chunks = [b"%x\r\n%b\r\n" % (len(data), data) for data in map(encode, TURN)]
    return head() + b"".join(chunks)


def cut_at(offset: int) -> Scenario:
    """The answer, cut by a RST behind so many of its bytes; the next connection tells everything."""
    return Scenario(streams=[(raw(answer()[:offset]), RST), TURN])


async def every_offset_async(server: FaultServer) -> int:
    """One turn for each offset; returns how many there were."""
    async with AsyncInference(**client_options(server, backoff=AT_ONCE)) as client:
        for offset in range(len(answer())):
            server.play(cut_at(offset))
            stream = client.agent("a/b").send_message("Hi", stream=True)
            snapshots = [snapshot async for snapshot in stream]
            check_snapshots(snapshots)
            assert (snapshots[-1].text, snapshots[-1].status, offset) == (TEXT, "ready", offset)
            assert len(server.seen("POST /agents/run")) == 1
    return offset


def every_offset_sync(server: FaultServer) -> int:
    """The same with the blocking client."""
    with Inference(**client_options(server, backoff=AT_ONCE)) as client:
        for offset in range(len(answer())):
            server.play(cut_at(offset))
            stream = client.agent("a/b").send_message("Hi", stream=True)
            snapshots = list(stream)
            check_snapshots(snapshots)
            assert (snapshots[-1].text, snapshots[-1].status, offset) == (TEXT, "ready", offset)
            assert len(server.seen("POST /agents/run")) == 1
    return offset


@pytest.mark.timeout(60)
def test_a_reset_at_any_byte_of_a_turn_loses_nothing(kind: Kind) -> None:
    """RST at every byte offset of a whole turn: the text arrives, in order, and the message is posted once."""
    with FaultServer(Scenario()) as server:
        done = asyncio.run(every_offset_async(server)) if kind == "async" else every_offset_sync(server)
        server.wait_until_no_connections()
    assert done == len(answer()) - 1 > 600
