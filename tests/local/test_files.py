"""Files: announce, upload, read, list and delete them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, tzinfo
from typing import Self
from urllib.parse import urlsplit

import aiohttp
import pytest

from inferencesh.local import records
from inferencesh.local.files import PART, MemoryContents

from .caller import Caller, Json, calling

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 60
PICTURE: Json = {
    "uri": "",
    "filename": "picture.png",
    "content_type": "image/png",
    "path": "",
    "size": len(PNG),
    "public": False,
}


async def announce(caller: Caller, *files: Json, **more: object) -> list[Json]:
    """Announce files; returns their records."""
    records: list[Json] = (await caller.ask("POST", "/files", {"files": files or [PICTURE], **more}))["data"]
    return records


async def put(
    url: str, data: bytes | AsyncIterator[bytes], content_type: str = "image/png", **headers: str
) -> tuple[int, Json]:
    """Upload as clients do: without a key. Returns the status, and the body of a refusal."""
    everything = {"Content-Type": content_type, **headers}
    async with (
        aiohttp.ClientSession() as session,
        session.put(url, data=data, headers=everything, skip_auto_headers=["Content-Type"]) as response,
    ):
        return response.status, await response.json(content_type=None) if response.status >= 400 else {}


async def fetch(uri: str) -> tuple[int, bytes, aiohttp.typedefs.LooseHeaders]:
    """Read an address without a key."""
    async with aiohttp.ClientSession() as session, session.get(uri) as response:
        return response.status, await response.read(), dict(response.headers)


async def uploaded(caller: Caller, data: bytes = PNG, **fields: object) -> Json:
    """A file that has been uploaded."""
    (record,) = await announce(caller, {**PICTURE, "size": len(data), **fields})
    assert await put(record["upload_url"], data, record["content_type"]) == (200, {})
    return record


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    """The data in pieces, which is sent without a Content-Length."""
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def test_a_file_is_announced_uploaded_and_read() -> None:
    """Neither the upload nor reading takes a key; what was announced comes back."""
    async with calling() as caller:
        (record,) = await announce(caller, category="chat")
        assert (record["filename"], record["content_type"], record["size"]) == ("picture.png", "image/png", len(PNG))
        assert (record["category"], record["metadata"]) == ("chat", None)
        assert record["upload_url"].startswith(caller.runtime.base_url)
        assert record["uri"].startswith(caller.runtime.base_url)
        assert (await fetch(record["uri"]))[0] == 404
        assert await put(record["upload_url"], PNG) == (200, {})
        status, content, headers = await fetch(record["uri"])
        assert (status, content) == (200, PNG)
        assert isinstance(headers, dict)
        assert (headers["Content-Type"], headers["Content-Length"]) == ("image/png", str(len(PNG)))
        assert headers["Content-Disposition"] == "inline; filename*=UTF-8''picture.png"
        assert headers["Content-Security-Policy"].startswith("sandbox")
        assert (await caller.get(f"/files/{record['id']}"))["upload_url"] == ""


async def test_a_file_with_a_long_name_can_be_read() -> None:
    """Clients and proxies take headers of a few thousand bytes; the whole name is in the file's record."""
    name = "\U0001f98a" * 3000 + ".png"
    async with calling() as caller:
        (record,) = await announce(caller, {**PICTURE, "filename": name})
        assert record["filename"] == name
        assert await put(record["upload_url"], PNG) == (200, {})
        assert (await fetch(record["uri"]))[:2] == (200, PNG)
        parameter = "a" * 300
        body = {"files": [{**PICTURE, "content_type": f"image/png; name={parameter}"}]}
        assert (await caller.ask("POST", "/files", body, status=422))["field"] == "files[0].content_type"


async def test_several_files_are_announced_at_once() -> None:
    """The records come in the order of the announcement, each with addresses of its own."""
    notes = {"content_type": "text/plain", "filename": "notes.txt"}
    async with calling() as caller:
        records = await announce(caller, PICTURE, notes)
        assert [each["filename"] for each in records] == ["picture.png", "notes.txt"]
        first, second = records
        assert await put(second["upload_url"], b"Hello", "text/plain; charset=utf-8") == (200, {})
        assert await put(first["upload_url"], PNG) == (200, {})
        assert (await fetch(first["uri"]))[1] == PNG
        assert (await fetch(second["uri"]))[1] == b"Hello"
        assert (await caller.get(f"/files/{second['id']}"))["size"] == 5


async def test_files_may_be_larger_than_other_bodies() -> None:
    """They come and go in parts, with or without a Content-Length; an empty one is a file as well."""
    large = bytes(range(256)) * (70 * PART // 1024) + b"end"  # more than 16 MiB
    async with calling() as caller:
        for size in (0, len(large)):
            (record,) = await announce(caller, {**PICTURE, "size": size})
            assert await put(record["upload_url"], pieces(large, 100_001)) == (200, {})
            assert (await fetch(record["uri"]))[1] == large
        (record,) = await announce(caller, {**PICTURE, "size": 0})
        assert await put(record["upload_url"], b"") == (200, {})
        assert (await fetch(record["uri"]))[:2] == (200, b"")


async def test_an_upload_may_be_repeated() -> None:
    """The last one counts, as for a client that did not hear the answer."""
    async with calling() as caller:
        (record,) = await announce(caller, {**PICTURE, "size": None})
        for data in (PNG, b"second"):
            assert await put(record["upload_url"], data) == (200, {})
        assert (await fetch(record["uri"]))[1] == b"second"


@pytest.mark.parametrize(
    ("body", "field", "status"),
    [
        ({}, "files", 422),
        ({"files": []}, "files", 422),
        ({"files": {}}, "files", 422),
        ({"files": ["a.png"]}, "files[0]", 422),
        ({"files": [{"filename": "a.png"}]}, "files[0].content_type", 422),
        ({"files": [PICTURE, {**PICTURE, "content_type": "png"}]}, "files[1].content_type", 422),
        ({"files": [{**PICTURE, "content_type": "image/png\r\nX-Evil: 1"}]}, "files[0].content_type", 422),
        ({"files": [{**PICTURE, "content_type": ""}]}, "files[0].content_type", 422),
        ({"files": [{**PICTURE, "size": -1}]}, "files[0].size", 422),
        ({"files": [{**PICTURE, "size": "68"}]}, "files[0].size", 422),
        ({"files": [{**PICTURE, "size": 1.5}]}, "files[0].size", 422),
        ({"files": [{**PICTURE, "filename": 7}]}, "files[0].filename", 422),
        ({"files": [{**PICTURE, "uri": "https://files.example/a.png"}]}, "files[0].uri", 422),
        ({"files": [PICTURE], "category": []}, "category", 422),
        ({"files": [PICTURE, {**PICTURE, "size": 1001}]}, "files[1].size", 413),
    ],
)
async def test_a_wrong_announcement_is_refused_as_a_whole(body: object, field: str, status: int) -> None:
    """The refusal names the field, and no file is created."""
    async with calling(max_file_bytes=1000) as caller:
        problem = await caller.ask("POST", "/files", body, status=status)
        assert (problem["field"], problem["detail"].partition(": ")[0]) == (field, field)
        assert (await caller.post("/files/list"))["items"] == []


async def test_an_upload_must_be_what_was_announced() -> None:
    """Another type, another length or a coding is refused, whether a header says so or only the bytes do."""
    async with calling() as caller:
        (record,) = await announce(caller)
        url = record["upload_url"]
        assert (await put(url, PNG, "image/jpeg"))[0] == 415
        assert (await put(url, PNG, "image/png", **{"Content-Encoding": "gzip"}))[0] == 415
        for data in (PNG[:-1], PNG + b"x", b""):
            status, problem = await put(url, data)
            assert (status, problem["field"]) == (422, "size")
            status, problem = await put(url, pieces(data or b"x", 7))
            assert (status, problem["field"]) == (422, "size")
        assert (await fetch(record["uri"]))[0] == 404
        assert await put(url, PNG) == (200, {})
        # Clients that do not know the type for the upload say so; the announced one stays.
        assert await put(url, PNG, "application/octet-stream") == (200, {})
        assert (await caller.get(f"/files/{record['id']}"))["content_type"] == "image/png"


async def test_a_file_over_the_limit_is_refused() -> None:
    """At its announcement, at the upload's head, and while it comes; nothing of it is kept."""
    async with calling(max_file_bytes=1000) as caller:
        await caller.ask("POST", "/files", {"files": [{**PICTURE, "size": 1001}]}, status=413)
        (record,) = await announce(caller, {**PICTURE, "size": None})
        for data in (b"x" * 1001, pieces(b"x" * 1001, 500)):
            status, problem = await put(record["upload_url"], data)
            assert (status, problem["type"]) == (413, "https://api.inference.sh/errors/file_too_large")
        assert await put(record["upload_url"], b"x" * 1000) == (200, {})
        assert (await fetch(record["uri"]))[1] == b"x" * 1000


async def test_only_those_addresses_take_no_key() -> None:
    """A token nobody was given leads nowhere, and other methods there ask for the key."""
    async with calling() as caller, aiohttp.ClientSession(caller.runtime.base_url) as stranger:
        record = await uploaded(caller)
        upload, content = (urlsplit(record[name]).path for name in ("upload_url", "uri"))
        for method, path, status in [
            ("PUT", "/uploads/nothing", 404),
            ("GET", "/content/nothing", 404),
            ("PUT", upload.replace("/uploads/", "/content/"), 401),
            ("GET", content.replace("/content/", "/uploads/"), 401),
            ("PUT", content, 401),
            ("GET", upload, 401),
            ("DELETE", upload, 401),
            ("POST", "/files", 401),
            ("POST", "/files/list", 401),
            ("GET", f"/files/{record['id']}", 401),
            ("DELETE", f"/files/{record['id']}", 401),
        ]:
            async with stranger.request(method, path) as response:
                assert (method, path, response.status) == (method, path, status)
        assert upload.rpartition("/")[2] != content.rpartition("/")[2] != record["id"]


async def test_a_file_that_cannot_be_read_to_its_end_breaks_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The error is not sent as a part of the file."""
    read_part = MemoryContents.read_part

    async def read_first(self: MemoryContents, content: str, number: int) -> bytes | None:
        if number:
            raise OSError("The disk is broken.")
        return await read_part(self, content, number)

    monkeypatch.setattr(MemoryContents, "read_part", read_first)
    async with calling() as caller:
        record = await uploaded(caller, b"x" * (PART + 100))
        with pytest.raises(aiohttp.ClientPayloadError):
            await fetch(record["uri"])
        assert "The disk is broken." in caplog.text


async def test_a_deleted_file_is_gone() -> None:
    """Its record, its bytes and its upload address."""
    async with calling() as caller:
        record = await uploaded(caller)
        await caller.ask("DELETE", f"/files/{record['id']}", status=204)
        for method in ("GET", "DELETE"):
            await caller.ask(method, f"/files/{record['id']}", status=404)
        assert (await fetch(record["uri"]))[0] == 404
        assert (await put(record["upload_url"], PNG))[0] == 404


async def test_a_file_that_is_deleted_during_its_upload_stays_deleted() -> None:
    """The upload is told so at its end."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield PNG[:10]
        begun.set()
        await go_on.wait()
        yield PNG[10:]

    async with calling() as caller:
        (record,) = await announce(caller)
        upload = asyncio.create_task(put(record["upload_url"], slowly()))
        await begun.wait()
        await caller.ask("DELETE", f"/files/{record['id']}", status=204)
        go_on.set()
        assert (await upload)[0] == 404
        assert (await caller.post("/files/list"))["items"] == []


async def test_an_upload_that_breaks_off_is_no_upload() -> None:
    """The file is still to be uploaded."""
    async with calling() as caller:
        (record,) = await announce(caller)
        parts = urlsplit(record["upload_url"])
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        head = [f"PUT {parts.path} HTTP/1.1", f"Host: {parts.netloc}", "Content-Type: image/png", "Content-Length: 68"]
        writer.write("\r\n".join([*head, "", ""]).encode() + PNG[:30])
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert (await fetch(record["uri"]))[0] == 404
        assert await put(record["upload_url"], PNG) == (200, {})


async def test_the_order_of_files_does_not_depend_on_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some clocks are coarse, and any can be set back; what came later is newer all the same."""
    times = [datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in (4, 4, 4, 4, 3, 2, 1)]

    class Clock(datetime):
        """A clock that stands still, and then goes back."""

        @classmethod
        def now(cls, _tz: tzinfo | None = None) -> Self:
            return times.pop(0) if len(times) > 1 else times[0]  # type: ignore[return-value]

    monkeypatch.setattr(records, "datetime", Clock)
    async with calling() as caller:
        made = [(await announce(caller))[0] for _ in range(8)]
        page = await caller.post("/files/list")
        assert [each["id"] for each in page["items"]] == [each["id"] for each in reversed(made)]
        assert sorted({each["created_at"] for each in made}) == [each["created_at"] for each in made]


async def test_files_are_listed_newest_first() -> None:
    """Page by page, undisturbed by files that come and go meanwhile."""
    async with calling() as caller:
        made = [(await announce(caller))[0]["id"] for _ in range(5)]
        page = await caller.post("/files/list", {"limit": 2})
        assert [each["id"] for each in page["items"]] == [made[4], made[3]]
        await announce(caller)
        await caller.ask("DELETE", f"/files/{made[3]}", status=204)
        page = await caller.post("/files/list", {"limit": 2, "cursor": page["next_cursor"]})
        assert [each["id"] for each in page["items"]] == [made[2], made[1]]
        page = await caller.post("/files/list", {"limit": 2, "cursor": page["next_cursor"]})
        assert ([each["id"] for each in page["items"]], page["has_next"]) == ([made[0]], False)
        for cursor in ("x", "nothing", "é", made[0]):
            problem = await caller.ask("POST", "/files/list", {"cursor": cursor}, status=422)
            assert problem["field"] == "cursor"
