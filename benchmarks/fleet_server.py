"""The simulated service of the fleet's benchmarks, in a separate process: many concurrent turns at minimal cost.

The first part of a path is the plan of its turns (``/deltas,40,1000,10,1/agents/run``): the kind of events, their
number, the length of the text, the events per second (0 sends them in blocks, as fast as they are read), and whether
the agent calls a tool half-way. The kind ``held`` sends a few events and then nothing. Responses are rendered in
advance, with placeholders for the ids.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import orjson

from .payloads import asked_form, chat_form, message_form, sample_text
from .server import Exchange, Server, answer, serve

__all__ = ["TOOL", "Plan", "running_fleet_server"]

TOOL = "lookup"
HELD = 3  # events before a held turn stops sending
BLOCK = 16 * 1024  # bytes per HTTP chunk for plans without a rate
_MARK = "#" * 12  # the placeholder for the number of a turn
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
_STATUS = {"completed": "idle", "input_required": "awaiting_input", "working": "busy"}

JSONObject = dict[str, object]


@attrs.frozen
class Plan:
    """The plan of a turn.

    Attributes:
        kind: Whether an event is a piece of the text (``deltas``, ``held``) or the message so far (``snapshots``).
        events: The number of events.
        length: The length of the whole text, in characters.
        rate: Events per second; 0 for as fast as they are read.
        tool: Whether the agent calls a tool when half of the text is written.
    """

    kind: str = "deltas"
    events: int = 40
    length: int = 1000
    rate: float = 0.0
    tool: bool = True

    @classmethod
    def of(cls, name: str) -> Plan:
        """Return the plan of a path."""
        kind, events, length, rate, tool = name.split(",")
        return cls(kind, int(events), int(length), float(rate), tool == "1")

    @property
    def name(self) -> str:
        """The plan as the first part of a path."""
        return f"{self.kind},{self.events},{self.length},{self.rate:g},{int(self.tool)}"

    @property
    def text(self) -> str:
        """The whole text."""
        return sample_text(self.length)

    @property
    def lines(self) -> int:
        """The number of stream lines of a whole turn."""
        return len(self.script)

    @property
    def pause(self) -> int:
        """The number of lines before the turn waits for the tool's result; that of all lines if there is no tool."""
        return next((at for at, (_, state) in enumerate(self.script, 1) if state == "input_required"), self.lines)

    @functools.cached_property
    def script(self) -> list[tuple[JSONObject, str]]:
        """All lines with placeholders, each with the state of the run after it."""
        pieces = self.ends
        lines: list[tuple[JSONObject, str]] = [(_chat("working"), "working"), (self.message(0), "working")]
        called = False
        for seq, end in enumerate(pieces):
            if self.kind == "snapshots":
                lines.append((self.message(end, called=called), "working"))
            else:
                piece = self.text[pieces[seq - 1] if seq else 0 : end]
                delta = {"delta": {"response": piece}, "seq": seq, "resource_id": f"a{_MARK}"}
                lines.append(({"event": "delta", "data": delta}, "working"))
            if self.tool and seq == self.events // 2 - 1:
                lines.append((self.message(end, called=True, waits=True), "working"))
                lines.append((_chat("input_required"), "input_required"))
                lines.append((self.message(end, called=True), "working"))
                lines.append((_chat("working"), "working"))
                called = True
        lines.append((self.message(self.length, called=called, done=True), "working"))
        lines.append((_chat("completed"), "completed"))
        return lines

    @property
    def ends(self) -> list[int]:
        """The length of the text after each event."""
        return [self.length * (at + 1) // self.events for at in range(self.events)]

    def message(self, end: int, *, called: bool = False, waits: bool = False, done: bool = False) -> JSONObject:
        """Return the stream line with the reply up to a length."""
        form = message_form(self.text[:end], "ready" if done else "pending")
        form |= {"id": f"a{_MARK}", "chat_id": f"c{_MARK}", "agent_run_id": f"r{_MARK}"}
        if called:
            call = {"name": TOOL, "arguments": {"key": "a word"}}
            status, result = ("awaiting_input", None) if waits else ("completed", "found")
            form["tool_invocations"] = [
                {"id": f"t{_MARK}", "type": "client", "status": status, "function": call, "result": result}
            ]
        return {"event": "chat_messages", "data": form}


def _chat(state: str) -> JSONObject:
    """Return the stream line with the chat."""
    run = {"id": f"r{_MARK}", "chat_id": f"c{_MARK}", "state": state, "user_message_id": f"u{_MARK}"}
    return {
        "event": "chats",
        "data": chat_form(state) | {"id": f"c{_MARK}", "status": _STATUS[state], "active_run": run},
    }


def _user_message() -> JSONObject:
    return asked_form() | {"id": f"u{_MARK}", "chat_id": f"c{_MARK}", "agent_run_id": f"r{_MARK}"}


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Rendered:
    """The bytes of a plan's turns.

    Args:
        plan: The plan.
    """

    def __init__(self, plan: Plan) -> None:
        lines = [orjson.dumps(line) + b"\n" for line, _ in plan.script]
        self.pause = plan.pause
        self.lines = [_chunk(line) for line in lines]
        self.blocks = [_blocks(lines[: plan.pause]), _blocks(lines[plan.pause :])]
        placeholder = plan.message(0)["data"]
        self.posted = answer({"user_message": _user_message(), "assistant_message": placeholder})


def _blocks(lines: list[bytes]) -> bytes:
    whole = b"".join(lines)
    return b"".join(_chunk(whole[at : at + BLOCK]) for at in range(0, len(whole), BLOCK))


@functools.cache
def _plan(name: str) -> tuple[Plan, Rendered]:
    plan = Plan.of(name)
    return plan, Rendered(plan)


@attrs.define
class Turn:
    """A turn in progress.

    Attributes:
        plan: The plan.
        rendered: The bytes of the plan.
        at: The number of lines sent.
        answered: Whether the tool's result has been posted.
        connection: The connection that its stream was last opened on.
        timer: The call that sends the next line.
    """

    plan: Plan
    rendered: Rendered
    at: int = 0
    answered: bool = False
    connection: Connection | None = None
    timer: asyncio.TimerHandle | None = None


turns: dict[str, Turn] = {}  # by the number in their ids
numbers = itertools.count(1)
stats = {"requests": 0, "turns": 0, "results": 0, "streams": 0, "bytes": 0}


class Connection(Exchange):
    """A connection on which turns are served."""

    def __init__(self) -> None:
        super().__init__()
        self._number = ""

    def serve(self, path: str, body: bytes) -> None:
        """Answer a request."""
        _, name, rest = path.split("/", 2)
        if name == "stats":
            self.transport.write(answer({**stats, "cpu": time.process_time_ns(), "open": len(turns)}))
            stats.update(dict.fromkeys(stats, 0))
            return
        stats["requests"] += 1
        if rest == "agents/run":
            self._post(name, body)
        elif rest.startswith("tools/"):
            self._result(rest.split("/")[1][1:])
        elif rest.endswith("/stream"):
            self._stream(name, rest.split("/")[1][1:])
        else:
            self._read(name, rest.split("/")[1][1:], messages=rest.endswith("/messages"))

    def connection_lost(self, _exc: Exception | None) -> None:
        """Stop sending; the turn continues when its stream is opened again."""
        turn = turns.get(self._number)
        if turn is not None and turn.connection is self and turn.timer is not None:
            turn.timer.cancel()

    def _post(self, name: str, body: bytes) -> None:
        """Start a turn, in a new chat unless the message names one."""
        chat_id = orjson.loads(body).get("chat_id") if b'"chat_id":"' in body else None
        number = chat_id[1:] if chat_id else f"{next(numbers):012x}"
        stats["turns"] += 1
        turns[number] = Turn(*_plan(name))
        self._write(turns[number].rendered.posted, number)

    def _result(self, number: str) -> None:
        """Accept the tool's result, and continue the turn."""
        stats["results"] += 1
        self.transport.write(answer(None))
        turn = turns[number]
        turn.answered = True
        if turn.connection is not None:
            turn.connection.send_rest(turn, number)

    def _stream(self, name: str, number: str) -> None:
        """Send the events of a turn, after its current state if the stream was opened before."""
        stats["streams"] += 1
        self._number = number
        self.transport.write(_HEAD)
        turn = turns.get(number)
        if turn is None:
            self._lines([line for line, _ in _plan(name)[0].script[-2:]], number)
            return
        turn.connection = self
        if turn.at:
            self._lines([_state(turn.plan, turn.at), _message(turn.plan, turn.at)], number)
        self.send_rest(turn, number)

    def send_rest(self, turn: Turn, number: str) -> None:
        """Send the remaining events, at once or at the rate of the plan."""
        if turn.plan.rate:
            if turn.timer is not None:
                turn.timer.cancel()
            self._pace(turn, number, asyncio.get_running_loop().time())
            return
        rendered = turn.rendered
        if turn.at < rendered.pause:
            turn.at = rendered.pause
            self._write(rendered.blocks[0], number)
        if turn.answered or not turn.plan.tool:
            self._write(rendered.blocks[1], number)
            turns.pop(number, None)

    def _pace(self, turn: Turn, number: str, when: float) -> None:
        """Send the lines of one event, and schedule the next event."""
        script = turn.plan.script
        while turn.at < len(script):
            if turn.at == turn.rendered.pause and turn.plan.tool and not turn.answered:
                return
            if turn.plan.kind == "held" and turn.at == HELD + 2:
                return
            line, _ = script[turn.at]
            self._write(turn.rendered.lines[turn.at], number)
            turn.at += 1
            event = "delta" if turn.plan.kind != "snapshots" else "chat_messages"
            if line["event"] == event and turn.at < len(script) - 2:
                when += 1 / turn.plan.rate
                turn.timer = asyncio.get_running_loop().call_at(when, self._pace, turn, number, when)
                return
        turns.pop(number, None)

    def _read(self, name: str, number: str, *, messages: bool) -> None:
        """Respond to a request for a chat or its messages."""
        turn = turns.get(number)
        plan, _ = _plan(name)
        at = turn.at if turn is not None else plan.lines
        if messages:
            items = [_message(plan, at)["data"], _user_message()] if at else [_user_message()]
            self._write(answer({"items": items, "next_cursor": None, "has_next": False}), number)
        else:
            self._write(answer(_state(plan, at)["data"]), number)

    def _lines(self, lines: list[JSONObject], number: str) -> None:
        self._write(b"".join(_chunk(orjson.dumps(line) + b"\n") for line in lines), number)

    def _write(self, data: bytes, number: str) -> None:
        stats["bytes"] += len(data)
        self.transport.write(data.replace(_MARK.encode(), number.encode()))


def _state(plan: Plan, at: int) -> JSONObject:
    """Return the chat's line after some lines of a turn."""
    return next((line for line, _ in reversed(plan.script[:at]) if line["event"] == "chats"), _chat("working"))


def _message(plan: Plan, at: int) -> JSONObject:
    """Return the reply's line after some lines of a turn."""
    sent = [line for line, _ in plan.script[:at]]
    last = next((line for line in reversed(sent) if line["event"] == "chat_messages"), plan.message(0))
    written = sum(line["event"] == "delta" for line in sent)
    if plan.kind == "snapshots" or not written or at == plan.lines:
        return last
    data = last["data"]
    assert isinstance(data, dict)
    called = bool(data["tool_invocations"])
    waits = called and at == plan.pause
    return plan.message(plan.ends[written - 1], called=called, waits=waits)


@contextmanager
def running_fleet_server(tls: str | None = None) -> Iterator[Server]:
    """Run the server in a separate process while the block runs.

    Args:
        tls: The path of a file with a certificate and its key; without it the server speaks plain HTTP.
    """
    command = [sys.executable, "-m", "benchmarks.fleet_server", *([tls] if tls else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield Server(int(process.stdout.readline()))
        process.communicate()


def _context(path: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


if __name__ == "__main__":
    asyncio.run(serve(Connection, _context(sys.argv[1]) if len(sys.argv) > 1 else None))
