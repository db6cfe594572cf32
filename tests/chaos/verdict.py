"""What must be true after a run: of the runtime's chats, of what browsers saw, and of the handlers that ran."""

from __future__ import annotations

import collections
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from redis.asyncio import Redis

from inferencesh import AsyncInference, Role

from .browsers import LAST, Browser, Event
from .plan import Plan

__all__ = ["Evidence", "Verdict", "judge", "read_chats", "read_lines", "read_streams"]

UNTYPED = "internal_error"  # what browsers are told of an exception that nobody has foreseen


@attrs.define
class ChatTurn:
    """One turn in a chat of the runtime: what the agent was given as results, and the texts of its replies."""

    results: list[str] = attrs.field(factory=list)
    texts: list[str] = attrs.field(factory=list)


@attrs.frozen
class Evidence:
    """What is known of a run after its end.

    Attributes:
        browsers: Who followed the turns.
        chats: The turns in the runtime's chats, by the ids in their messages.
        streams: The events that are left of each turn in Redis, by the ids of the turns.
        handlers: The lines that handlers have written.
        accepted: The results that the runtime has accepted.
    """

    browsers: Sequence[Browser]
    chats: Mapping[str, Sequence[ChatTurn]]
    streams: Mapping[str, Sequence[Event]]
    handlers: Sequence[Mapping[str, Any]]
    accepted: Sequence[Mapping[str, Any]]


@attrs.define
class Verdict:
    """What is wrong with a run, one sentence for each fault, and its figures.

    Attributes:
        lost: Turns without an end, and texts and results that are not whole.
        doubled: Messages, results and last events that are there twice.
        wrong: What browsers and handlers must not see: replies that go back, gaps, errors without a type.
        figures: The figures by name.
    """

    lost: list[str] = attrs.field(factory=list)
    doubled: list[str] = attrs.field(factory=list)
    wrong: list[str] = attrs.field(factory=list)
    figures: dict[str, Any] = attrs.field(factory=dict)

    @property
    def faults(self) -> list[str]:
        """Everything that is wrong."""
        return [
            *(f"lost: {what}" for what in self.lost),
            *(f"doubled: {what}" for what in self.doubled),
            *(f"wrong: {what}" for what in self.wrong),
        ]


def judge(evidence: Evidence) -> Verdict:
    """Compare a run with what was promised."""
    verdict = Verdict()
    failures: collections.Counter[str] = collections.Counter()
    for browser in evidence.browsers:
        turn_id = browser.plan.turn_id
        turns = evidence.chats.get(turn_id, [])
        if len(turns) > 1:
            verdict.doubled.append(f"{turn_id}: its message is in the chats {len(turns)} times")
        _judge_results(browser, turns, verdict)
        _judge_end(browser, turns, verdict, failures)
        _judge_events(browser, verdict)
        _judge_stream(browser, evidence.streams.get(turn_id, []), verdict)
    if unknown := set(evidence.chats) - {browser.plan.turn_id for browser in evidence.browsers}:
        verdict.wrong.append(f"messages that nobody has written: {sorted(unknown)}")
    _judge_handlers(evidence, verdict)
    verdict.figures |= _figures(evidence, failures)
    verdict.figures |= {"lost": len(verdict.lost), "doubled": len(verdict.doubled), "wrong": len(verdict.wrong)}
    return verdict


def _judge_results(browser: Browser, turns: Sequence[ChatTurn], verdict: Verdict) -> None:
    """No call has more than one result."""
    for turn in turns:
        calls = collections.Counter(result.partition("=")[0] for result in turn.results)
        for call, count in calls.items():
            if count > 1:
                verdict.doubled.append(f"{browser.plan.turn_id}: the call {call} has {count} results")


def _judge_end(
    browser: Browser, turns: Sequence[ChatTurn], verdict: Verdict, failures: collections.Counter[str]
) -> None:
    """A turn ends with its whole text, the same in the chat and in the browser, or with a typed failure."""
    turn_id, last = browser.plan.turn_id, browser.last
    if last is None:
        verdict.lost.append(
            f"{turn_id}: no last event in {browser.seconds:.0f} s, {_brief(browser.events)} {browser.fault}"
        )
    elif last.name == "error":
        failures[last.data["type"]] += 1
        if last.data["type"] == UNTYPED:
            verdict.wrong.append(f"{turn_id}: ended with an error that nobody has foreseen")
    elif last.name != "done":
        verdict.lost.append(f"{turn_id}: ended with {last.name}")
    elif not turns:
        verdict.lost.append(f"{turn_id}: is done, but its message is in no chat")
    else:
        results, expected = turns[0].results, browser.plan.calls
        if [result.partition("=")[0] for result in results] != expected:
            verdict.lost.append(f"{turn_id}: has the results {results} for the calls {expected}")
        text = browser.plan.text(results)
        for where, found in (("the chat", turns[0].texts[-1]), ("the browser", last.data["text"])):
            if found != text:
                verdict.lost.append(f"{turn_id}: the text in {where} is {found!r} instead of {text!r}")
        shown = [*_texts(browser.events).values()]
        if shown != turns[0].texts:
            verdict.lost.append(f"{turn_id}: the browser has been shown {shown} of {turns[0].texts}")


def _judge_events(browser: Browser, verdict: Verdict) -> None:
    """Ids grow, replies grow, and the last event comes once."""
    turn_id, events = browser.plan.turn_id, browser.events
    for before, after in itertools.pairwise(events):
        if not before.order < after.order:
            verdict.wrong.append(f"{turn_id}: the event {after.id} came after {before.id}")
    if sum(event.name in LAST for event in events) > 1:
        verdict.doubled.append(f"{turn_id}: more than one last event, {_brief(events)}")
    texts: dict[str, str] = {}
    for event in events:
        if event.name not in {"message", "done", "input_required"}:
            continue
        message_id, text = event.data["id"], event.data["text"]
        if not text.startswith(texts.get(message_id, "")):
            verdict.wrong.append(f"{turn_id}: the reply went back from {texts[message_id]!r} to {text!r}")
        elif message_id in texts and next(reversed(texts)) != message_id and text != texts[message_id]:
            verdict.wrong.append(f"{turn_id}: a message has grown after the next one had begun")
        texts[message_id] = text


def _texts(events: Sequence[Event]) -> dict[str, str]:
    """Return the newest text of each message, in the order in which they began."""
    return {event.data["id"]: event.data["text"] for event in events if "text" in event.data}


def _judge_stream(browser: Browser, stream: Sequence[Event], verdict: Verdict) -> None:
    """The browser has seen every event that is left, and nothing comes behind the last one."""
    turn_id = browser.plan.turn_id
    ends = [event.name in LAST for event in stream]
    if browser.last is not None and (sum(ends) != 1 or not ends[-1]):
        verdict.doubled.append(f"{turn_id}: {sum(ends)} last events in its stream, {_brief(stream)}")
    seen = {event.id: event for event in browser.events}
    missed = [event.id for event in stream if event.id not in seen]
    if missed and browser.last is not None:
        verdict.wrong.append(f"{turn_id}: the browser has missed {missed}, {_brief(browser.events)}")
    if any(seen.get(event.id, event) != event for event in stream):
        verdict.wrong.append(f"{turn_id}: an event has changed")


def _judge_handlers(evidence: Evidence, verdict: Verdict) -> None:
    """A result is of a handler that ended; attempts have numbers of their own, and a call has one key."""
    ended = {line["result"] for line in evidence.handlers if line["step"] == "end"}
    for turn_id, turns in evidence.chats.items():
        verdict.wrong += [
            f"{turn_id}: the result {result!r} is of no handler"
            for turn in turns
            for result in turn.results
            if result not in ended
        ]
    starts: dict[str, list[Mapping[str, Any]]] = collections.defaultdict(list)
    for line in evidence.handlers:
        if line["step"] == "start":
            starts[line["call"]].append(line)
    keys = collections.Counter(key for lines in starts.values() for key in {line["key"] for line in lines})
    for lines in starts.values():
        attempts = [line["attempt"] for line in lines]
        if len(set(attempts)) != len(attempts):
            verdict.wrong.append(f"{lines[0]['what']}: was started as the attempts {attempts}")
        if len({line["key"] for line in lines}) > 1 or keys[lines[0]["key"]] > 1:
            verdict.wrong.append(f"{lines[0]['what']}: its idempotency key is not its own")
    accepted = collections.Counter(line["call"] for line in evidence.accepted)
    verdict.doubled += [f"{call}: {count} results were accepted" for call, count in accepted.items() if count > 1]


def _figures(evidence: Evidence, failures: Mapping[str, int]) -> dict[str, Any]:
    starts = [line["call"] for line in evidence.handlers if line["step"] == "start"]
    workers = [[event for event in stream if event.name == "worker"] for stream in evidence.streams.values()]
    refused = collections.Counter(status for browser in evidence.browsers for status in browser.refused)
    times = sorted(browser.seconds for browser in evidence.browsers) or [0.0]
    return {
        "turns": len(evidence.browsers),
        "whole": sum(browser.last is not None and browser.last.name == "done" for browser in evidence.browsers),
        "typed failures": dict(sorted(failures.items())),
        "turns taken over": sum(len(begun) > 1 for begun in workers),
        "takeovers": sum(max(0, len(begun) - 1) for begun in workers),
        "tool calls": sum(len(turn.results) for turns in evidence.chats.values() for turn in turns),
        "handler starts": len(starts),
        "handler repeats": len(starts) - len(set(starts)),
        "results accepted": len(evidence.accepted),
        "browsers that came back": sum(browser.again for browser in evidence.browsers),
        "refused requests": {str(status): count for status, count in sorted(refused.items())},
        "seconds of a turn": {"median": round(times[len(times) // 2], 1), "longest": round(times[-1], 1)},
    }


def _brief(events: Sequence[Event]) -> list[str]:
    return [f"{event.id} {event.name}" for event in events[-8:]]


async def read_chats(client: AsyncInference) -> dict[str, list[ChatTurn]]:
    """Return the turns of all chats of the runtime by the ids in their messages; more than one for an id is wrong."""
    found: dict[str, list[ChatTurn]] = collections.defaultdict(list)
    for chat_id in [chat.id async for chat in client.chats.list()]:
        turn = ChatTurn()
        for message in await client.agent({"name": "reader"}, chat_id=chat_id).history():
            if message.role is Role.USER:
                plan = Plan.read(message.text)
                turn = ChatTurn()
                found[plan.turn_id if plan else message.text].append(turn)
            elif message.role is Role.TOOL:
                turn.results.append(message.text)
            else:
                turn.texts.append(message.text)
    return found


async def read_streams(url: str, prefix: str, turn_ids: Sequence[str]) -> dict[str, list[Event]]:
    """Return what is left of the events of each turn in Redis."""
    found = {}
    async with Redis.from_url(url, decode_responses=True) as redis:
        for turn_id in turn_ids:
            entries: list[tuple[str, dict[str, str]]] = await redis.xrange(f"{prefix}turn:{turn_id}:events")  # type: ignore[assignment]  # redis's hints do not know that it decodes
            found[turn_id] = [Event(id_, fields["event"], json.loads(fields["data"])) for id_, fields in entries]
    return found


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON lines of a file, or none if there is no file."""
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
