"""The streams that the server of the benchmarks sends, rendered before anything is measured.

One reply, in three wire formats: that of inference.sh (whole messages or token deltas), and, token by token, OpenAI's
chat completions and Anthropic's messages. The fields around the text are those that the services send.
"""

from __future__ import annotations

import functools
from typing import Literal

import attrs
import orjson

__all__ = ["WORKLOADS", "Workload", "rendered", "reply_text", "sample_text"]

CHAT = "7jnx8hn08m6ysdp04bmp5xex3q"
ASKED = "2c8m1v5n7t0r4k6p9w3y8h1f5d"
REPLY = "5q9d2x7w3m8k1z6v0t4p8r2n6c"
RUN = "9h4t7k2m5v8x1c3n6q0w2z5d8p"
BLOCK = 16 * 1024  # bytes of an HTTP chunk where lines are coalesced

_ASCII = "the quick brown fox jumps over the lazy dog while seven wizards quietly mix a jug of bright violet liquid "
_WIDE = "café — naïve “quotes” und Straße, Привет мир, 日本語のテキスト, emoji 🎉 end "


@attrs.frozen
class Workload:
    """One reply and how it is sent.

    Attributes:
        name: Its name on the command line and in URLs.
        title: A description for the table.
        kind: Whether each event is a piece of the text (``deltas``) or the whole message so far (``snapshots``).
        events: The number of events.
        length: The length of the final text, in characters.
        start: The length of the text in the first event, in characters.
        wide: Whether the text has characters beyond ASCII.
        framing: ``line`` sends one HTTP chunk for each line, ``block`` coalesces lines into chunks of 16 KB.
    """

    name: str
    title: str
    kind: Literal["deltas", "snapshots"]
    events: int
    length: int
    start: int = 0
    wide: bool = False
    framing: Literal["line", "block"] = "line"

    @property
    def lines(self) -> int:
        """The number of lines: the events, the chat's state at both ends, and for deltas the message at both ends."""
        return self.events + (4 if self.kind == "deltas" else 2)

    @property
    def snapshots(self) -> int:
        """The number of snapshots that a client delivers: with deltas, the final status is one more."""
        return self.events + (1 if self.kind == "deltas" else 0)


_LIST = [
    Workload("deltas", "token deltas", "deltas", 5000, 25_000),
    Workload("deltas-wide", "token deltas, not ASCII", "deltas", 5000, 25_000, wide=True),
    Workload("deltas-block", "token deltas, coalesced", "deltas", 5000, 25_000, framing="block"),
    Workload("snapshots", "snapshots up to 8 KB", "snapshots", 2000, 8_000),
    Workload("snapshots-wide", "snapshots up to 8 KB, not ASCII", "snapshots", 2000, 5_000, wide=True),
    Workload("snapshots-block", "snapshots up to 8 KB, coalesced", "snapshots", 2000, 8_000, framing="block"),
    Workload("message-200k", "snapshots of 200 KB", "snapshots", 100, 202_000, start=198_000),
    Workload("message-1m", "snapshots up to 1 MB", "snapshots", 500, 1_000_000),
    Workload("message-500k", "snapshots up to 500 KB", "snapshots", 500, 500_000),
    Workload("deltas-double", "twice as many token deltas", "deltas", 10_000, 50_000),
    Workload("short", "a reply of one token", "deltas", 1, 5),
]
WORKLOADS = {workload.name: workload for workload in _LIST}

Format = Literal["inference", "openai", "anthropic"]


def reply_text(workload: Workload) -> str:
    """Return the whole text of the reply."""
    return sample_text(workload.length, wide=workload.wide)


@functools.lru_cache(maxsize=16)
def sample_text(length: int, *, wide: bool = False) -> str:
    """Return a text of so many characters, with or without some beyond ASCII."""
    words = _WIDE if wide else _ASCII
    return (words * (length // len(words) + 1))[:length]


@functools.lru_cache(maxsize=8)
def rendered(workload: Workload, wire: Format) -> bytes:
    """Return the body of the stream with its HTTP chunks.

    Args:
        workload: The reply.
        wire: The service whose format it has.
    """
    if wire == "openai":
        parts = _openai(workload)
    elif wire == "anthropic":
        parts = _anthropic(workload)
    else:
        parts = [orjson.dumps(line) + b"\n" for line in _inference(workload)]
    if workload.framing == "block":
        body = b"".join(parts)
        parts = [body[at : at + BLOCK] for at in range(0, len(body), BLOCK)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


def message_form(text: str, status: str = "pending") -> dict[str, object]:
    """Return the reply as the service sends it, with the fields of a recorded response."""
    block = {"type": "text", "error": None, "text": text, "image": None, "file": None, "tool_calls": None}
    return {
        "id": REPLY,
        "short_id": REPLY[:8],
        "created_at": "2026-11-01T12:00:00.123456Z",
        "updated_at": "2026-11-01T12:00:01.234567Z",
        "deleted_at": None,
        "user_id": "4f7k2n9t1w5z8c3v6m0q4x7d2h",
        "user": None,
        "team_id": "8s3v6y9b2e5h8k1n4q7t0w3z6c",
        "team": None,
        "visibility": "team",
        "chat_id": CHAT,
        "chat": None,
        "agent_run_id": RUN,
        "order": 2,
        "status": status,
        "task_id": None,
        "role": "assistant",
        "content": [block] if text else [],
        "tools": None,
        "tool_call_id": None,
        "tool_invocations": None,
    }


def asked_form() -> dict[str, object]:
    """Return the user's message."""
    return message_form("Hi", "ready") | {"id": ASKED, "role": "user", "order": 1}


def chat_form(state: str) -> dict[str, object]:
    """Return the chat, with its run in ``state``."""
    run = {"id": RUN, "chat_id": CHAT, "state": state, "user_message_id": ASKED, "error": None, "output": None}
    status = "busy" if state == "working" else "idle"
    return {"id": CHAT, "short_id": CHAT[:8], "name": "", "status": status, "active_run": run, "output": None}


def delta_line(piece: str, seq: int) -> dict[str, object]:
    """Return a stream line with a piece of the text."""
    return {"event": "delta", "data": {"delta": {"response": piece}, "seq": seq, "resource_id": REPLY}}


def message_line(text: str, status: str = "pending") -> dict[str, object]:
    """Return a stream line with the whole message."""
    return {"event": "chat_messages", "data": message_form(text, status)}


def chat_line(state: str) -> dict[str, object]:
    """Return a stream line with the chat."""
    return {"event": "chats", "data": chat_form(state)}


def _inference(workload: Workload) -> list[dict[str, object]]:
    text, lines = reply_text(workload), [chat_line("working")]
    if workload.kind == "deltas":
        lines.append(message_line(""))
        lines += [delta_line(piece, seq) for seq, piece in enumerate(_pieces(workload))]
        lines.append(message_line(text, "ready"))
    else:
        grown = workload.length - workload.start
        ends = [workload.start + grown * (i + 1) // workload.events for i in range(workload.events)]
        lines += [message_line(text[:end]) for end in ends[:-1]]
        lines.append(message_line(text, "ready"))
    return [*lines, chat_line("completed")]


def _pieces(workload: Workload) -> list[str]:
    text, size = reply_text(workload), workload.length // workload.events
    return [text[at : at + size] for at in range(0, workload.length, size)]


def _openai(workload: Workload) -> list[bytes]:
    def event(delta: dict[str, object], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk = {
            "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
            "object": "chat.completion.chunk",
            "created": 1741569952,
            "model": "gpt-4o-2024-08-06",
            "service_tier": "default",
            "system_fingerprint": "fp_50cad350e4",
            "choices": [choice],
        }
        return b"data: " + orjson.dumps(chunk) + b"\n\n"

    first = event({"role": "assistant", "content": ""})
    tokens = [event({"content": piece}) for piece in _pieces(workload)]
    return [first, *tokens, event({}, "stop"), b"data: [DONE]\n\n"]


def _anthropic(workload: Workload) -> list[bytes]:
    def event(kind: str, **data: object) -> bytes:
        return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps({"type": kind} | data) + b"\n\n"

    usage = {"input_tokens": 25, "output_tokens": 1}
    message: dict[str, object] = {
        "id": "msg_014p7gG3wDgGV9EUtLvnow3U",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-20250514",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    start = [
        event("message_start", message=message),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    ]
    tokens = [
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
        for piece in _pieces(workload)
    ]
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    end = [
        event("content_block_stop", index=0),
        event("message_delta", delta=ended, usage={"output_tokens": workload.events}),
        event("message_stop"),
    ]
    return [*start, *tokens, *end]
