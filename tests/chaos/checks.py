"""The checks after a run: of the chats in the runtime, the events that browsers received, and the handlers that ran."""

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

from .browsers import FINAL_EVENTS, Browser, Event
from .plan import Plan

__all__ = ["Observations", "Report", "check", "read_chats", "read_lines", "read_streams"]

UNTYPED = "internal_error"  # the error type for an unexpected exception


@attrs.define
class ChatTurn:
    """A turn in a chat of the runtime: the tool results that the agent received, and the texts of its replies."""

    results: list[str] = attrs.field(factory=list)
    texts: list[str] = attrs.field(factory=list)


@attrs.frozen
class Observations:
    """The data that is collected after a run.

    Attributes:
        browsers: The browsers of all turns.
        chats: The turns in the chats of the runtime, by turn id.
        streams: The events that remain in Redis, by turn id.
        handlers: The lines of the handlers' log.
        accepted: The results that the runtime has accepted.
    """

    browsers: Sequence[Browser]
    chats: Mapping[str, Sequence[ChatTurn]]
    streams: Mapping[str, Sequence[Event]]
    handlers: Sequence[Mapping[str, Any]]
    accepted: Sequence[Mapping[str, Any]]


@attrs.define
class Report:
    """The violations of a run, one sentence each, and its figures.

    Attributes:
        lost: Turns without a final event, and incomplete texts and results.
        doubled: Duplicate messages, results and final events.
        wrong: Other violations, such as replies that shrink, gaps, and untyped errors.
        figures: The figures by name.
    """

    lost: list[str] = attrs.field(factory=list)
    doubled: list[str] = attrs.field(factory=list)
    wrong: list[str] = attrs.field(factory=list)
    figures: dict[str, Any] = attrs.field(factory=dict)

    @property
    def violations(self) -> list[str]:
        """All violations."""
        return [
            *(f"lost: {what}" for what in self.lost),
            *(f"doubled: {what}" for what in self.doubled),
            *(f"wrong: {what}" for what in self.wrong),
        ]


def check(observed: Observations) -> Report:
    """Check the observations of a run against the guarantees."""
    report = Report()
    failures: collections.Counter[str] = collections.Counter()
    for browser in observed.browsers:
        turn_id = browser.plan.turn_id
        turns = observed.chats.get(turn_id, [])
        if len(turns) > 1:
            report.doubled.append(f"{turn_id}: its message is in the chats {len(turns)} times")
        _check_results(browser, turns, report)
        _check_end(browser, turns, report, failures)
        _check_events(browser, report)
        _check_stream(browser, observed.streams.get(turn_id, []), report)
    if unknown := set(observed.chats) - {browser.plan.turn_id for browser in observed.browsers}:
        report.wrong.append(f"messages that were never sent: {sorted(unknown)}")
    _check_handlers(observed, report)
    report.figures |= _figures(observed, failures)
    report.figures |= {"lost": len(report.lost), "doubled": len(report.doubled), "wrong": len(report.wrong)}
    return report


def _check_results(browser: Browser, turns: Sequence[ChatTurn], report: Report) -> None:
    """No call has more than one result."""
    for turn in turns:
        calls = collections.Counter(result.partition("=")[0] for result in turn.results)
        for call, count in calls.items():
            if count > 1:
                report.doubled.append(f"{browser.plan.turn_id}: the call {call} has {count} results")


def _check_end(browser: Browser, turns: Sequence[ChatTurn], report: Report, failures: collections.Counter[str]) -> None:
    """A turn ends with its whole text, the same in the chat and in the browser, or with a typed failure."""
    turn_id, last = browser.plan.turn_id, browser.last
    if last is None:
        report.lost.append(
            f"{turn_id}: no last event in {browser.seconds:.0f} s, {_brief(browser.events)} {browser.error}"
        )
    elif last.name == "error":
        failures[last.data["type"]] += 1
        if last.data["type"] == UNTYPED:
            report.wrong.append(f"{turn_id}: ended with an unexpected error")
    elif last.name != "done":
        report.lost.append(f"{turn_id}: ended with {last.name}")
    elif not turns:
        report.lost.append(f"{turn_id}: is done, but its message is in no chat")
    else:
        results, expected = turns[0].results, browser.plan.calls
        if [result.partition("=")[0] for result in results] != expected:
            report.lost.append(f"{turn_id}: has the results {results} for the calls {expected}")
        text = browser.plan.text(results)
        for where, found in (("the chat", turns[0].texts[-1]), ("the browser", last.data["text"])):
            if found != text:
                report.lost.append(f"{turn_id}: the text in {where} is {found!r} instead of {text!r}")
        shown = [*_texts(browser.events).values()]
        if shown != turns[0].texts:
            report.lost.append(f"{turn_id}: the browser has been shown {shown} of {turns[0].texts}")


def _check_events(browser: Browser, report: Report) -> None:
    """Ids increase, replies only grow, and there is one final event."""
    turn_id, events = browser.plan.turn_id, browser.events
    for before, after in itertools.pairwise(events):
        if not before.order < after.order:
            report.wrong.append(f"{turn_id}: the event {after.id} came after {before.id}")
    if sum(event.name in FINAL_EVENTS for event in events) > 1:
        report.doubled.append(f"{turn_id}: more than one last event, {_brief(events)}")
    texts: dict[str, str] = {}
    for event in events:
        if event.name not in {"message", "done", "input_required"}:
            continue
        message_id, text = event.data["id"], event.data["text"]
        if not text.startswith(texts.get(message_id, "")):
            report.wrong.append(f"{turn_id}: the reply went back from {texts[message_id]!r} to {text!r}")
        elif message_id in texts and next(reversed(texts)) != message_id and text != texts[message_id]:
            report.wrong.append(f"{turn_id}: a message has grown after the next one had started")
        texts[message_id] = text


def _texts(events: Sequence[Event]) -> dict[str, str]:
    """Return the newest text of each message, in the order of their start."""
    return {event.data["id"]: event.data["text"] for event in events if "text" in event.data}


def _check_stream(browser: Browser, stream: Sequence[Event], report: Report) -> None:
    """The browser has received every event that remains in the stream, and the final event is the last one."""
    turn_id = browser.plan.turn_id
    ends = [event.name in FINAL_EVENTS for event in stream]
    if browser.last is not None and (sum(ends) != 1 or not ends[-1]):
        report.doubled.append(f"{turn_id}: {sum(ends)} last events in its stream, {_brief(stream)}")
    seen = {event.id: event for event in browser.events}
    missed = [event.id for event in stream if event.id not in seen]
    if missed and browser.last is not None:
        report.wrong.append(f"{turn_id}: the browser has missed {missed}, {_brief(browser.events)}")
    if any(seen.get(event.id, event) != event for event in stream):
        report.wrong.append(f"{turn_id}: an event has changed")


def _check_handlers(observed: Observations, report: Report) -> None:
    """Each result is that of a completed handler; attempts have distinct numbers, and each call has one key."""
    ended = {line["result"] for line in observed.handlers if line["step"] == "end"}
    for turn_id, turns in observed.chats.items():
        report.wrong += [
            f"{turn_id}: the result {result!r} is of no handler"
            for turn in turns
            for result in turn.results
            if result not in ended
        ]
    starts: dict[str, list[Mapping[str, Any]]] = collections.defaultdict(list)
    for line in observed.handlers:
        if line["step"] == "start":
            starts[line["call"]].append(line)
    keys = collections.Counter(key for lines in starts.values() for key in {line["key"] for line in lines})
    for lines in starts.values():
        attempts = [line["attempt"] for line in lines]
        if len(set(attempts)) != len(attempts):
            report.wrong.append(f"{lines[0]['what']}: was started as the attempts {attempts}")
        if len({line["key"] for line in lines}) > 1 or keys[lines[0]["key"]] > 1:
            report.wrong.append(f"{lines[0]['what']}: its idempotency key is not its own")
    accepted = collections.Counter(line["call"] for line in observed.accepted)
    report.doubled += [f"{call}: {count} results were accepted" for call, count in accepted.items() if count > 1]


def _figures(observed: Observations, failures: Mapping[str, int]) -> dict[str, Any]:
    starts = [line["call"] for line in observed.handlers if line["step"] == "start"]
    workers = [[event for event in stream if event.name == "worker"] for stream in observed.streams.values()]
    refused = collections.Counter(status for browser in observed.browsers for status in browser.refused)
    times = sorted(browser.seconds for browser in observed.browsers) or [0.0]
    return {
        "turns": len(observed.browsers),
        "whole": sum(browser.last is not None and browser.last.name == "done" for browser in observed.browsers),
        "typed failures": dict(sorted(failures.items())),
        "turns taken over": sum(len(begun) > 1 for begun in workers),
        "takeovers": sum(max(0, len(begun) - 1) for begun in workers),
        "tool calls": sum(len(turn.results) for turns in observed.chats.values() for turn in turns),
        "handler starts": len(starts),
        "handler repeats": len(starts) - len(set(starts)),
        "results accepted": len(observed.accepted),
        "browsers that came back": sum(browser.reconnects for browser in observed.browsers),
        "refused requests": {str(status): count for status, count in sorted(refused.items())},
        "seconds of a turn": {"median": round(times[len(times) // 2], 1), "longest": round(times[-1], 1)},
    }


def _brief(events: Sequence[Event]) -> list[str]:
    return [f"{event.id} {event.name}" for event in events[-8:]]


async def read_chats(client: AsyncInference) -> dict[str, list[ChatTurn]]:
    """Return the turns in all chats of the runtime by turn id; a correct run has at most one per id."""
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
    """Return the events of each turn that remain in Redis."""
    found = {}
    async with Redis.from_url(url, decode_responses=True) as redis:
        for turn_id in turn_ids:
            entries: list[tuple[str, dict[str, str]]] = await redis.xrange(f"{prefix}turn:{turn_id}:events")  # type: ignore[assignment]  # redis's hints do not know that it decodes
            found[turn_id] = [Event(id_, fields["event"], json.loads(fields["data"])) for id_, fields in entries]
    return found


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON lines of a file, or none if there is no file."""
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
