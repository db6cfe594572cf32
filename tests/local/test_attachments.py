"""Attachments of messages and tool results."""

from __future__ import annotations

import pytest

from inferencesh.local import Attachment, Text, ToolCall

from .caller import AGENT, CALCULATOR, Json, Scripted, calling, invocations, text_of
from .test_files import PNG, announce, uploaded


def reference(record: Json) -> Json:
    """What a client attaches: the part of a file's record that is a FileRef."""
    return {name: record[name] for name in ("id", "uri", "filename", "content_type", "size")}


async def test_the_demo_model_says_what_it_was_sent() -> None:
    """And that it cannot look at it; the message keeps the file's address."""
    async with calling() as caller:
        record = await uploaded(caller)
        _, reply = await caller.send("", input={"text": "What is this?", "attachments": [reference(record)]})
        messages = await caller.finish(reply["chat_id"])
    assert [(block["type"], block["image"]) for block in messages[0]["content"]] == [
        ("text", None),
        ("image", record["uri"]),
    ]
    said = text_of(messages[-1])
    assert said.startswith(
        f"I got picture.png (image/png, {len(PNG)} bytes), but I am a stand-in that cannot look at it."
    )
    assert "What is this?" in said


async def test_the_demo_model_names_all_files_of_the_turn_and_no_older_ones() -> None:
    """Files elsewhere with what the message says of them, and those of a tool's result."""
    async with calling() as caller:
        files = [
            {"uri": "https://files.example/a.pdf", "filename": "a.pdf"},
            {"uri": "https://files.example/b", "size": 1},
        ]
        _, reply = await caller.send("", input={"text": "Hello", "attachments": files})
        chat_id = reply["chat_id"]
        said = text_of((await caller.finish(chat_id))[-1])
        assert said.startswith(
            "I got a.pdf, a file without a name (1 byte), but I am a stand-in that cannot look at them."
        )
        _, reply = await caller.send("What's 42 * 17?", chat_id=chat_id, agent_config=AGENT)
        async with caller.follow(chat_id) as events:
            call = invocations(await events.until("chat_messages", lambda message: bool(invocations(message))))[0]
            shot = {"uri": "https://files.example/c", "filename": "shot.png", "content_type": "image/png"}
            await caller.post(f"/tools/{call['id']}", {"result": "714", "attachments": [shot]})
            await events.until_idle()
        said = text_of((await caller.messages(chat_id))[-1])
        assert said == "I got shot.png (image/png), but I am a stand-in that cannot look at it. 42 * 17 is 714."


async def test_a_model_sees_what_the_attachment_says_of_a_file() -> None:
    """Its name and type, of files here and elsewhere; where it says nothing of one here, what the runtime knows."""
    model = Scripted([ToolCall("calculator", {"expression": "1"})], [Text("Done.")])
    async with calling(model=model) as caller:
        mine = await uploaded(caller)
        renamed = {"uri": mine["uri"], "filename": "n.txt", "content_type": "text/plain", "size": 7}
        bare = {"uri": mine["uri"]}
        foreign = {
            "uri": "https://files.example/a.pdf",
            "filename": "a.pdf",
            "content_type": "application/pdf",
            "size": 9,
        }
        files = {"text": "Look", "attachments": [renamed, bare, foreign]}
        _, reply = await caller.send("", input=files, agent_config=AGENT)
        async with caller.follow(reply["chat_id"]) as events:
            call = invocations(await events.until("chat_messages", lambda message: bool(invocations(message))))[0]
            again = [reference(mine), {"uri": mine["uri"], "filename": "again.png"}]
            await caller.post(f"/tools/{call['id']}", {"result": "1", "attachments": again})
            await events.until_idle()
        messages = await caller.messages(reply["chat_id"])
    known = Attachment(mine["uri"], "picture.png", "image/png", len(PNG))
    assert model.asked[0].messages[0].attachments == (
        Attachment(mine["uri"], "n.txt", "text/plain", len(PNG)),
        known,
        Attachment("https://files.example/a.pdf", "a.pdf", "application/pdf", 9),
    )
    assert model.asked[1].messages[-1].attachments == (
        known,
        Attachment(mine["uri"], "again.png", "image/png", len(PNG)),
    )
    blocks = messages[0]["content"]
    assert [block["file"] for block in blocks] == [None, mine["uri"], None, foreign["uri"]]
    assert [block["image"] for block in blocks] == [None, None, mine["uri"], None]
    assert messages[2]["content"][1]["image"] == mine["uri"]


@pytest.mark.parametrize("gone", ["deleted", "never uploaded", "made up", "made up for another name of the host"])
async def test_a_file_of_this_runtime_that_is_not_there_is_refused(gone: str) -> None:
    """With the name of the field, at every place that takes files; the message is not kept."""
    async with calling() as caller:
        (record,) = await announce(caller)
        uri = record["uri"]
        if gone == "deleted":
            record = await uploaded(caller)
            uri = record["uri"]
            await caller.ask("DELETE", f"/files/{record['id']}", status=204)
        elif gone == "made up":
            uri = f"{caller.runtime.base_url}/picture.png"
        elif gone == "made up for another name of the host":
            uri = f"{caller.runtime.base_url}/content/nothing".replace("127.0.0.1", "LocalHost")
        good, bad = {"uri": "https://files.example/a.png"}, {"uri": uri}
        chat = await caller.post("/chats", {"agent_config": {"tools": [CALCULATOR]}})
        path = f"/chats/{chat['id']}/messages"
        for method_path, body, field in [
            ("/agents/run", {"agent": "a/b", "input": {"attachments": [good, bad]}}, "input.attachments[1].uri"),
            ("/agents/run", {"agent": "a/b", "input": {"images": [good["uri"], uri]}}, "input.images[1]"),
            ("/agents/run", {"agent": "a/b", "input": {"files": [uri]}}, "input.files[0]"),
            ("/agents/run", {"agent": "a/b", "input": {"image": uri}}, "input.image"),
            (path, {"message": "Hello", "attachments": [bad]}, "attachments[0].uri"),
        ]:
            problem = await caller.ask("POST", method_path, body, status=422)
            assert (problem["field"], problem["detail"].partition(": ")[0]) == (field, field)
        assert [each["id"] for each in (await caller.post("/chats/list"))["items"]] == [chat["id"]]
        assert await caller.messages(chat["id"]) == []
        await caller.send("What's 42 * 17?", chat_id=chat["id"])
        async with caller.follow(chat["id"]) as events:
            call = invocations(await events.until("chat_messages", lambda message: bool(invocations(message))))[0]
            tool = f"/tools/{call['id']}"
            problem = await caller.ask("POST", tool, {"result": "714", "attachments": [bad]}, status=422)
            assert problem["field"] == "attachments[0].uri"
            await caller.post(tool, {"result": "714", "attachments": [good]})
            await events.until_idle()


@pytest.mark.parametrize(
    "uri", ["https://files.example/content/x", "inf://files/abc", "data:,x", "not an address", "http://["]
)
async def test_files_elsewhere_are_taken_as_they_are(uri: str) -> None:
    """The runtime cannot check whether they exist."""
    async with calling(model=Scripted([Text("Done.")])) as caller:
        _, reply = await caller.send("", input={"attachments": [{"uri": uri}]}, agent="a/b")
        assert (await caller.finish(reply["chat_id"]))[0]["content"][1]["file"] == uri


async def test_a_message_shows_what_an_attachment_says_of_its_file() -> None:
    """Name, type and size, beside the address; a block of text has none of them."""
    async with calling(model=Scripted([Text("Done.")])) as caller:
        mine = await uploaded(caller)
        renamed = {"uri": mine["uri"], "filename": "n.txt", "content_type": "text/plain"}
        _, reply = await caller.send("", input={"text": "Look", "attachments": [renamed]}, agent="a/b")
        text, file = (await caller.finish(reply["chat_id"]))[0]["content"]
    assert text.keys() == {"type", "error", "text", "image", "file", "tool_calls"}
    assert (file["type"], file["file"]) == ("file", mine["uri"])
    assert (file["filename"], file["content_type"], file["size"]) == ("n.txt", "text/plain", len(PNG))


@pytest.mark.parametrize(
    ("uri", "kind", "content_type"),
    [
        ("data:image/png;base64,iVBORw0KGgo=", "image", "image/png"),
        ("data:text/plain;charset=utf-8,Hello", "file", "text/plain"),
        ("data:,Hello", "file", ""),
        ("data:IMAGE/GIF,x", "image", "IMAGE/GIF"),
    ],
)
async def test_a_data_uri_says_its_type_itself(uri: str, kind: str, content_type: str) -> None:
    """Unless the attachment says another."""
    model = Scripted([Text("Done.")])
    async with calling(model=model) as caller:
        files = [{"uri": uri}, {"uri": uri, "content_type": "text/html"}]
        _, reply = await caller.send("", input={"text": "Look", "attachments": files}, agent="a/b")
        blocks = (await caller.finish(reply["chat_id"]))[0]["content"][1:]
    assert [block["type"] for block in blocks] == [kind, "file"]
    assert [file.content_type for file in model.asked[0].messages[0].attachments] == [content_type, "text/html"]


async def test_a_file_that_is_sent_as_an_image_is_one() -> None:
    """The older fields have no room for a type: the field says what the file is for."""
    async with calling(model=Scripted([Text("Done.")])) as caller:
        plain = await uploaded(caller, content_type="application/octet-stream")
        files = {"text": "Look", "images": [plain["uri"]], "files": [plain["uri"]]}
        _, reply = await caller.send("", input=files, agent="a/b")
        blocks = (await caller.finish(reply["chat_id"]))[0]["content"][1:]
    assert [(block["type"], block["image"], block["file"]) for block in blocks] == [
        ("image", plain["uri"], None),
        ("file", None, plain["uri"]),
    ]
