"""Files of any size are uploaded in little memory, and the event loop is not held up by them."""

from __future__ import annotations

import asyncio
import io
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

from inferencesh import AsyncInference
from tests.faults.server import FaultServer
from tests.faults.turns import call, client_options
from tests.support import Kind

from .storage import Storage, service

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

SIZE = 64 * 1024 * 1024
MOST = 4 * 1024 * 1024  # bytes; a few chunks, and whatever else a client and a server need


def test_an_upload_takes_little_memory(kind: Kind, tmp_path: Path) -> None:
    """Whatever the size of the file; a stream that can be read once is copied to disk, not to memory."""
    path = tmp_path / "sparse.bin"
    with path.open("wb") as file:
        file.truncate(SIZE)

    class Once(io.BufferedReader):
        def seekable(self) -> bool:
            return False

    with Storage() as storage, FaultServer(service(storage.url)) as server, Once(path.open("rb", buffering=0)) as once:

        def upload(client: Any) -> Generator[Any, Any, None]:
            yield client.files.upload(b"what is needed once is there then")
            for source in (path, once):
                tracemalloc.start()
                try:
                    yield client.files.upload(source)
                    peak = tracemalloc.get_traced_memory()[1]
                finally:
                    tracemalloc.stop()
                assert peak < MOST

        call(kind, server, upload)
    assert [put.size for put in storage.puts[1:]] == [SIZE, SIZE]


async def test_a_slow_disk_does_not_hold_up_the_loop() -> None:
    """Opening and reading are done in other threads, so that everything else goes on."""

    class Slow(io.BytesIO):
        def read(self, count: int | None = -1) -> bytes:
            time.sleep(0.1)
            return super().read(count)

    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - before)

    with Storage() as storage, FaultServer(service(storage.url)) as server:
        async with AsyncInference(**client_options(server)) as client:
            await client.files.upload(b"what is needed once is there then")
            watcher = asyncio.create_task(watch())
            await client.files.upload(Slow(bytes(600_000)))
            watcher.cancel()
    assert longest < 0.09
