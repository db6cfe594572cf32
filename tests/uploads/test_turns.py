"""Turns with files that are left, closed or taken up again while their files are on their way."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from inferencesh import AsyncInference, Inference, InferenceError, StreamError
from tests.faults.forms import CHAT, chat, message
from tests.faults.script import STALL, Script
from tests.faults.server import FaultServer
from tests.faults.turns import POST, STREAM, TEXT, client_options
from tests.support import Gate, eventually

from .storage import Storage, Way, service

REPLY: Script = (chat("working"), message(TEXT, "ready"), chat("completed"))
FILES = "POST /files"
STUCK = Way(reads=1, then="silence")


async def test_files_are_not_uploaded_again_when_a_turn_is_taken_up() -> None:
    """A stream that was left before its message was sent begins again, with the files that are there already."""
    with Storage() as storage, FaultServer(service(storage.url, [(STALL,), REPLY])) as server:
        async with AsyncInference(**client_options(server, timeout=20)) as client:
            stream = client.agent("a/b", chat_id=CHAT).send_message("?", files=[b"abc"], stream=True)
            task = asyncio.create_task(stream.get_final_message())
            await eventually(lambda: server.seen(STREAM), "stream", 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert server.seen(POST) == []
            async with asyncio.timeout(5):
                assert (await stream.get_final_message()).text == TEXT
    assert (len(server.seen(FILES)), len(storage.puts), len(server.seen(POST))) == (1, 1, 1)


async def test_a_stream_that_is_closed_while_files_are_uploaded_sends_no_message() -> None:
    """Who closes it does not want it any more."""
    gate = Gate()
    with Storage(Way(gate=gate)) as storage, FaultServer(service(storage.url, [REPLY])) as server:
        async with AsyncInference(**client_options(server, timeout=20)) as client:
            stream = client.agent("a/b").send_message("?", files=[b"abc"], stream=True)
            task = asyncio.create_task(anext(stream))
            await eventually(lambda: storage.puts, "upload", 5)
            await stream.aclose()
            gate.open()
            with pytest.raises(StreamError, match="the message was not sent"):
                await task
    assert server.seen(POST) == []


async def test_closing_the_client_ends_its_uploads() -> None:
    """At once, though nobody takes what was written."""
    with Storage(STUCK) as storage, FaultServer(service(storage.url)) as server:
        client = AsyncInference(**client_options(server, timeout=20))
        task = asyncio.create_task(client.files.upload(bytes(16_000_000)))
        await eventually(lambda: storage.puts, "upload", 5)
        async with asyncio.timeout(2):
            await client.aclose()
            with pytest.raises(InferenceError):
                await task


def test_closing_the_blocking_client_ends_its_uploads() -> None:
    """From another thread; the one that waits gets an error."""
    caught: list[Any] = []
    with Storage(STUCK) as storage, FaultServer(service(storage.url)) as server:
        client = Inference(**client_options(server, timeout=20))

        def upload() -> None:
            with pytest.raises(InferenceError) as error:
                client.files.upload(bytes(16_000_000))
            caught.append(error.value)

        thread = threading.Thread(target=upload)
        thread.start()
        storage.wait_for(1)
        begun = time.monotonic()
        client.close()
        thread.join(5)
        assert time.monotonic() - begun < 2
        assert not thread.is_alive()
    assert caught


async def test_an_upload_that_is_dropped_stops_reading() -> None:
    """Among several: when one is cancelled the others go on."""
    gate = Gate()
    with Storage(Way(gate=gate)) as storage, FaultServer(service(storage.url)) as server:
        async with AsyncInference(**client_options(server, timeout=20)) as client:
            one, two = (asyncio.create_task(client.files.upload(data)) for data in (b"one", b"other"))
            await eventually(lambda: len(storage.puts) == 2, "uploads", 5)
            one.cancel()
            gate.open()
            assert (await two).size == 5
            with pytest.raises(asyncio.CancelledError):
                await one
