"""The bytes of one streaming answer: deadlines, waking, and the idle clock."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import aiohttp
import pytest
from aiohttp.base_protocol import BaseProtocol

from inferencesh import APIConnectionError, APITimeoutError
from inferencesh._http.stream import ByteStream


def stream_of(content: aiohttp.StreamReader, idle: float | None = None) -> ByteStream:
    """A stream over an answer of which nothing but the content matters."""
    response = cast("aiohttp.ClientResponse", SimpleNamespace(content=content))
    return ByteStream(response, "", idle)


@pytest.fixture
async def content() -> aiohttp.StreamReader:
    """What an answer's body is read from."""
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop)
    protocol.connection_made(asyncio.Transport())
    return aiohttp.StreamReader(protocol, 2**16, loop=loop)


async def until_it_waits(stream: ByteStream, until: float = float("inf")) -> asyncio.Task[bytes | None]:
    """A task that stands in ``read``."""
    task = asyncio.create_task(stream.read(until))
    await asyncio.sleep(0)
    return task


async def test_waking_a_reader_that_is_waking_up_already(content: aiohttp.StreamReader) -> None:
    """Two tools may end one after the other while the reader has not yet run; it returns once, with nothing."""
    stream = stream_of(content)
    reader = await until_it_waits(stream)
    stream.wake()
    await asyncio.sleep(0)
    assert not reader.done()
    stream.wake()
    assert await reader is None


async def test_waking_nobody(content: aiohttp.StreamReader) -> None:
    """Nothing happens, and the next read waits as ever."""
    stream = stream_of(content)
    stream.wake()
    reader = await until_it_waits(stream)
    content.feed_data(b"bytes")
    assert await reader == b"bytes"


async def test_a_read_ends_at_its_time(content: aiohttp.StreamReader) -> None:
    """The time may have come already; bytes that are there are still given."""
    stream = stream_of(content, idle=30)
    assert await stream.read(asyncio.get_running_loop().time()) is None
    content.feed_data(b"bytes")
    assert await stream.read(asyncio.get_running_loop().time()) == b"bytes"
    content.feed_eof()
    assert await stream.read(float("inf")) == b""


async def test_silence_is_an_error_that_names_the_limit(content: aiohttp.StreamReader) -> None:
    """Without a byte for the idle time."""
    with pytest.raises(APITimeoutError, match=r"silent for 0\.01 seconds"):
        await stream_of(content, idle=0.01).read(float("inf"))


async def test_what_arrived_before_the_connection_was_lost_is_read(content: aiohttp.StreamReader) -> None:
    """The error comes after it."""
    stream = stream_of(content)
    content.feed_data(b"bytes")
    content.set_exception(aiohttp.ClientPayloadError("cut"))
    assert await stream.read(float("inf")) == b"bytes"
    with pytest.raises(APIConnectionError, match="cut"):
        await stream.read(float("inf"))


async def test_a_connection_that_goes_unannounced_is_a_lost_connection() -> None:
    """The HTTP library raises a RuntimeError when it notices so only as somebody reads."""
    protocol = BaseProtocol(asyncio.get_running_loop())
    gone = aiohttp.StreamReader(protocol, 2**16, loop=asyncio.get_running_loop())
    with pytest.raises(APIConnectionError, match="connection was lost"):
        await stream_of(gone).read(float("inf"))
