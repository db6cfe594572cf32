"""Conversations as the chat-completions interface has them: messages, content parts, tools."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, TypeAlias

from inferencesh._text import encode_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferencesh.local.model import Attachment, Conversation, ConversationMessage, OfferedTool

__all__ = ["Json", "chat_messages", "function_tools", "system_messages"]

Json: TypeAlias = dict[str, object]

_MAX_TEXT_FILE = 256 * 1024  # bytes of a text file that become part of a prompt
_TEXT_TYPES = ("text/", "application/json", "application/xml", "application/yaml", "application/x-ndjson")
_AUDIO = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}


def system_messages(prompt: str) -> list[Json]:
    """Return the message with the instructions; none if there are no instructions."""
    return [{"role": "system", "content": prompt}] if prompt else []


def function_tools(tools: Sequence[OfferedTool]) -> list[Json]:
    """Return tools in the form of the interface."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": dict(tool.input_schema) or {"type": "object", "properties": {}},
            },
        }
        for tool in tools
    ]


async def chat_messages(conversation: Conversation, *, tool_roles: bool) -> list[Json]:
    """Return the messages of a conversation, without the instructions.

    Args:
        conversation: The conversation.
        tool_roles: Whether the model knows tool calls and messages of the role ``tool``. If not, its calls are JSON
            text, and their results are messages of the user.
    """
    names = {call.id: call.name for message in conversation.messages for call in message.tool_calls}
    sent: list[Json] = []
    files: list[Json] = []  # of results: a message of the role ``tool`` can only hold text
    for message in conversation.messages:
        if message.role != "tool" and files:
            sent.append({"role": "user", "content": files})
            files = []
        parts = await _parts(message.attachments)
        if message.role == "tool":
            files += parts
            sent.append(_result(message, names, tool_roles=tool_roles))
        elif message.role == "assistant":
            sent.append(_answer(message, tool_roles=tool_roles))
        elif parts:
            text: list[Json] = [{"type": "text", "text": message.text}] if message.text else []
            sent.append({"role": "user", "content": [*text, *parts]})
        else:
            sent.append({"role": "user", "content": message.text})
    return [*sent, {"role": "user", "content": files}] if files else sent


def _result(message: ConversationMessage, names: dict[str, str], *, tool_roles: bool) -> Json:
    if tool_roles:
        return {"role": "tool", "tool_call_id": message.tool_call_id or "", "content": message.text}
    name = names.get(message.tool_call_id or "", "the tool")
    return {"role": "user", "content": f"The result of {name} is: {message.text}"}


def _answer(message: ConversationMessage, *, tool_roles: bool) -> Json:
    calls = message.tool_calls
    if not calls:
        return {"role": "assistant", "content": message.text}
    if not tool_roles:
        made = [{"tool": call.name, "arguments": call.arguments} for call in calls]
        return {"role": "assistant", "content": encode_json({"calls": made}).decode()}
    return {
        "role": "assistant",
        "content": message.text,
        "tool_calls": [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": encode_json(call.arguments).decode()},
            }
            for call in calls
        ],
    }


async def _parts(attachments: Sequence[Attachment]) -> list[Json]:
    return [await _part(each) for each in attachments]


async def _part(file: Attachment) -> Json:
    """Return an attachment as a content part; files of the runtime are embedded, since the server cannot reach it."""
    kind = file.content_type.partition(";")[0].strip().lower()
    name = file.filename or "a file"
    data = None if file.read is None else await file.read()
    if kind.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": file.uri if data is None else _data_uri(kind, data)}}
    if data is None:
        return {"type": "text", "text": f"[{name} is attached: {file.uri}]"}
    if kind in _AUDIO:
        return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": _AUDIO[kind]}}
    if kind.startswith(_TEXT_TYPES):
        cut = " (its beginning)" if len(data) > _MAX_TEXT_FILE else ""
        return {"type": "text", "text": f"{name}{cut}:\n{data[:_MAX_TEXT_FILE].decode(errors='replace')}"}
    uri = _data_uri(kind or "application/octet-stream", data)
    return {"type": "file", "file": {"filename": name, "file_data": uri}}


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
