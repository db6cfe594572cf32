"""Calculate the size of a fleet: ``python -m benchmarks.fleet_sizing [--chats 100,10000] [--streaming 0.2] ...``.

Prints the resources that a number of concurrent chats needs, and how many chats a process, address or API key serves.
Every assumption is an option, and so is every cost. Costs that are not given are read from
``benchmarks/results/fleet.json``.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import attrs

__all__ = ["Assumptions", "Costs", "Sizes", "main", "report"]

RESULTS = Path(__file__).parent / "results" / "fleet.json"
CHATS = (100, 10_000, 1_000_000)
PORTS = 28_232  # ephemeral ports of Linux, 32768 to 60999, from one client address to one server address
TIME_WAIT = 60.0  # seconds for which Linux does not reuse a port
CONNECTIONS = 40  # per process, to Redis
MAX_CONNECTIONS = 10_000  # the default limit of a Redis server
EVENT = 0.2  # KB per delta of the service
HEARTBEAT = 10.0  # seconds between two heartbeats of the service on a stream
COMMENT = 10.0  # seconds between two comments of a front on a connection without events
SILENT = 60.0  # seconds between two polls, with two requests each, of a turn without events
WRITE = 0.4  # KB of overhead per snapshot in Redis and on its way to a browser
GB = 1024.0**2  # KB
WHOLE = ("more_worker", "more_front", "more_redis", "redis_events")  # costs measured with the whole example


def _option(default: float, text: str) -> Any:
    return attrs.field(default=default, metadata={"help": text})


@attrs.frozen
class Assumptions:
    """The behaviour of the chats and the limits of a process; each attribute is a command-line option."""

    streaming: float = _option(0.2, "share of chats whose reply is being written")
    waiting: float = _option(0.05, "share of chats whose turn waits for a tool or a person")
    words: float = _option(200, "words per reply")
    pace: float = _option(15, "words per second that the model writes")
    events: float = _option(1, "events of the service per word")
    tools: float = _option(1, "tool calls per turn that workers answer")
    published: float = _option(4, "published snapshots per second and turn")
    snapshot: float = _option(1, "KB per published snapshot")
    watchers: float = _option(1, "browsers per open turn")
    keep: float = _option(86_400, "seconds for which Redis keeps the newest snapshot of an ended turn")
    keep_claims: float = _option(86_400, "seconds for which Redis keeps ended claims")
    lease: float = _option(30, "seconds of a lease, which is renewed three times in that time")
    tls: float = _option(1, "1 if the service is reached over TLS, else 0")
    load: float = _option(0.5, "average share of a core per process")
    memory: float = _option(2, "maximum GB of a worker or a front")
    redis_memory: float = _option(16, "maximum GB of a Redis server")
    runs: float = _option(100, "runs per minute that the service starts for one API key")


def _cost(text: str, *figures: str, scale: float = 1.0) -> Any:
    """Return a field for a cost.

    Args:
        text: A description.
        figures: The names of the measured figures; those after the first are subtracted from it.
        scale: What the difference is multiplied by.
    """
    return attrs.field(metadata={"help": text, "figures": figures, "scale": scale})


@attrs.frozen
class Costs:
    """Measured costs: milliseconds of CPU and KB of memory, each per unit of what its name says."""

    turn: float = _cost("worker: ms of a turn with two events, claimed", "worker claims turn")
    tool: float = _cost("worker: ms of a tool call, claimed", "worker claims tool")
    event: float = _cost("worker: ms of an event of the service", "worker follow deltas")
    publish: float = _cost("worker: ms of a published snapshot", "worker publish deltas", "worker follow deltas")
    tls_turn: float = _cost("worker: ms of a turn's TLS", "worker tls turn", "worker follow turn")
    tls_event: float = _cost("worker: ms of an event's TLS", "worker tls deltas", "worker follow deltas")
    look: float = _cost("worker: ms of a request that polls a silent turn", "held plain 1000 look")
    stream: float = _cost("worker: KB of an open turn, claimed", "held claims 5000 memory")
    tls_stream: float = _cost("worker: KB of an open turn's TLS", "held tls 1000 memory", "held plain 1000 memory")
    worker: float = _cost("worker: KB of an idle one", "held claims 1000 base")
    connect: float = _cost("front: ms of a browser's connection", "front 1000 connect")
    deliver: float = _cost("front: ms of a snapshot sent to a browser", "front 1000 snapshot")
    keep: float = _cost("front: ms of a comment that keeps a connection alive", "front 5000 keep")
    browser: float = _cost("front: KB of a browser's connection", "front 5000 KB each")
    front: float = _cost("front: KB of an idle one", "front 1000 base")
    redis_turn: float = _cost("Redis: ms of a turn's claims", "redis claims turn ms")
    redis_tool: float = _cost("Redis: ms of a tool call's claims", "redis claims tool ms")
    turn_commands: float = _cost("Redis: commands of a turn's claims", "redis claims turn commands")
    tool_commands: float = _cost("Redis: commands of a tool call's claims", "redis claims tool commands")
    reads: float = _cost("Redis: commands of a snapshot sent to a browser", "front 1000 reads")
    redis_renewal: float = _cost("Redis: ms of a renewal", "held claims 5000 renewal")
    redis_write: float = _cost("Redis: ms of a published snapshot", "front 1000 command")
    redis_delivery: float = _cost("Redis: ms of a snapshot read by a front", "front 1000 delivery")
    redis_claims: float = _cost("Redis: KB of a turn's claims", "redis claims turn kept")
    redis_call: float = _cost("Redis: KB of a tool call's claims", "redis claims tool kept")
    redis_events: float = _cost("Redis: KB of a turn's newest snapshot and state", "whole kept turn")
    more_worker: float = _cost("worker: CPU of the whole over that of its parts", "whole worker over expected")
    more_front: float = _cost("front: CPU of the whole over that of its parts", "whole front over expected")
    more_redis: float = _cost("Redis: CPU of the whole over that of its parts", "whole Redis over expected")

    @classmethod
    def parts(cls, figures: Mapping[str, float]) -> Costs | None:
        """Return the costs without those of the whole example, or None if figures are missing."""
        given = dict.fromkeys(WHOLE, 1.0)
        needed = {name for f in attrs.fields(cls) if f.name not in WHOLE for name in f.metadata["figures"]}
        return cls.measured(figures, given) if needed <= figures.keys() else None

    @classmethod
    def measured(cls, figures: Mapping[str, float], given: Mapping[str, float | None]) -> Costs:
        """Return the costs that a run of the benchmarks has measured.

        Args:
            figures: The figures of the run.
            given: Costs that replace measured ones.
        """
        found = {}
        for field in attrs.fields(cls):
            value = given.get(field.name)
            if value is None:
                first, *less = (figures[name] for name in field.metadata["figures"])
                value = max(0.0, (first - sum(less)) * field.metadata["scale"])
            found[field.name] = value
        return cls(**found)


class Row(NamedTuple):
    """A quantity, its formula, and its value."""

    name: str
    how: str
    value: float


class Sizes:
    """The resources that a number of chats needs.

    Args:
        chats: The number of concurrent chats.
        assumed: The assumptions about them.
        costs: The measured costs.
    """

    def __init__(self, chats: float, assumed: Assumptions, costs: Costs) -> None:
        a, c = assumed, costs
        self._assumed, self._costs = assumed, costs
        self.streaming = chats * a.streaming
        self.open = self.streaming + chats * a.waiting
        self.turns = self.streaming / (a.words / a.pace)  # per second, as are the following quantities
        self.tools = self.turns * a.tools
        self.events = self.streaming * a.pace * a.events + self.open / HEARTBEAT
        self.looks = 2 * chats * a.waiting / SILENT
        self.published = self.streaming * min(a.published, a.pace * a.events)
        self.delivered = self.published * a.watchers
        self.renewals = self.open / (a.lease / 3)
        self.browsers = self.open * a.watchers
        tls_turn, tls_event = c.tls_turn * a.tls, c.tls_event * a.tls
        self.worker_cpu = c.more_worker * _sum(
            (self.turns, c.turn + tls_turn), (self.tools, c.tool), (self.events, c.event + tls_event),
            (self.published, c.publish), (self.looks, c.look),
        )  # fmt: skip
        self.stream = c.stream + c.tls_stream * a.tls
        self.comments = chats * a.waiting * a.watchers / COMMENT
        self.front_cpu = c.more_front * _sum(
            (self.turns * a.watchers, c.connect), (self.delivered, c.deliver), (self.comments, c.keep)
        )  # fmt: skip
        self.redis_cpu = c.more_redis * _sum(
            (self.turns, c.redis_turn), (self.tools, c.redis_tool), (self.renewals, c.redis_renewal),
            (self.published, c.redis_write), (self.delivered, c.redis_delivery),
        )  # fmt: skip
        self.commands = self.turns * c.turn_commands + self.tools * c.tool_commands + self.renewals
        self.commands += self.published + self.delivered * c.reads
        self.claims = c.redis_claims + c.redis_call * a.tools
        self.redis_memory = (self.open + self.turns * a.keep) * c.redis_events
        self.redis_memory += (self.open + self.turns * a.keep_claims) * self.claims
        self.workers = _processes(self.worker_cpu / a.load, self.open * self.stream, c.worker, a.memory * GB)
        self.fronts = _processes(self.front_cpu / a.load, self.browsers * c.browser, c.front, a.memory * GB)
        self.redises = max(1, math.ceil(self.redis_cpu / a.load), math.ceil(self.redis_memory / (a.redis_memory * GB)))

    def rows(self) -> Iterator[Row]:
        """Yield all quantities with their formulas."""
        yield from self._of_chats()
        yield from self._of_workers()
        yield from self._of_fronts()
        yield from self._of_redis()
        yield from self._of_networks()

    def _of_chats(self) -> Iterator[Row]:
        a, n = self._assumed, _number
        events = f"replies x {n(a.pace * a.events)} + open turns / {n(HEARTBEAT)} s"
        yield Row("replies being written", f"chats x {n(a.streaming)}", self.streaming)
        yield Row("open turns", f"chats x ({n(a.streaming)} + {n(a.waiting)})", self.open)
        yield Row("turns/s", f"replies / ({n(a.words)} / {n(a.pace)} s)", self.turns)
        yield Row("events/s of the service", events, self.events)
        yield Row("polls/s of silent turns", f"2 x chats x {n(a.waiting)} / {n(SILENT)} s", self.looks)
        yield Row("snapshots/s published", f"replies x {n(min(a.published, a.pace * a.events))}", self.published)
        yield Row("browsers", f"open turns x {n(a.watchers)}", self.browsers)

    def _of_workers(self) -> Iterator[Row]:
        a, c, n = self._assumed, self._costs, _number
        cpu = (
            f"(turns x {n(c.turn + c.tls_turn * a.tls)} ms + calls x {n(c.tool)} ms "
            f"+ events x {n(c.event + c.tls_event * a.tls)} ms + published x {n(c.publish)} ms "
            f"+ polls x {n(c.look)} ms) x {n(c.more_worker)}"
        )
        yield Row("worker CPU, cores", cpu, self.worker_cpu)
        yield Row("worker memory, GB", f"open turns x {n(self.stream)} KB", self.open * self.stream / GB)
        yield Row("**workers**", f"{a.load:.0%} of a core and {n(a.memory)} GB each, at least 2", self.workers)
        yield Row(
            "file descriptors of a worker",
            f"open turns / workers + {CONNECTIONS}",
            self.open / self.workers + CONNECTIONS,
        )

    def _of_fronts(self) -> Iterator[Row]:
        c, n = self._costs, _number
        cpu = (
            f"(turns x {n(c.connect)} ms + delivered x {n(c.deliver)} ms + waiting / {n(COMMENT)} s x {n(c.keep)} ms) "
            f"x {n(c.more_front)}"
        )
        yield Row("front CPU, cores", cpu, self.front_cpu)
        yield Row("front memory, GB", f"browsers x {n(c.browser)} KB", self.browsers * c.browser / GB)
        yield Row("**fronts**", "as for workers", self.fronts)

    def _of_redis(self) -> Iterator[Row]:
        a, c, n = self._assumed, self._costs, _number
        cpu = (
            f"(turns x {n(c.redis_turn)} ms + calls x {n(c.redis_tool)} ms + renewals x {n(c.redis_renewal)} ms "
            f"+ published x {n(c.redis_write)} ms + delivered x {n(c.redis_delivery)} ms) x {n(c.more_redis)}"
        )
        memory = (
            f"(open turns + turns/s x {n(a.keep)} s) x {n(c.redis_events)} KB "
            f"+ (open turns + turns/s x {n(a.keep_claims)} s) x {n(self.claims)} KB"
        )
        connections = (self.workers + self.fronts) * CONNECTIONS
        commands = (
            f"turns x {n(c.turn_commands)} + calls x {n(c.tool_commands)} + renewals + published "
            f"+ delivered x {n(c.reads)}, without those of the queue"
        )
        yield Row("renewals/s", f"open turns / ({n(a.lease)} s / 3)", self.renewals)
        yield Row("commands/s of Redis", commands, self.commands)
        yield Row("Redis CPU, cores", cpu, self.redis_cpu)
        yield Row("Redis memory, GB", memory, self.redis_memory / GB)
        yield Row("**Redis servers**", f"{a.load:.0%} of a core and {n(a.redis_memory)} GB each", self.redises)
        yield Row("connections to Redis", f"(workers + fronts) x {CONNECTIONS}", connections)

    def _of_networks(self) -> Iterator[Row]:
        a, n, size = self._assumed, _number, self._assumed.snapshot + WRITE
        addresses = f"(open turns + turns/s x {n(TIME_WAIT)} s) / {PORTS:,} ports"
        yield Row("MB/s from the service", f"events x {n(EVENT)} KB", self.events * EVENT / 1024)
        yield Row("MB/s into Redis", f"published x {n(size)} KB", self.published * size / 1024)
        yield Row("MB/s to browsers", f"delivered x {n(size)} KB", self.delivered * size / 1024)
        yield Row("IP addresses of workers", addresses, self.addresses)
        yield Row("API keys", f"turns/s x 60 / {n(a.runs)}", self.turns * 60 / a.runs)

    @property
    def addresses(self) -> float:
        """The number of addresses from which the workers must connect to one address of the service."""
        return (self.open + self.turns * TIME_WAIT) / PORTS

    def shares(self) -> dict[str, float]:
        """Return the used share of each resource by its name: of a process, an address or an API key."""
        a, c = self._assumed, self._costs
        memory, redis_memory = a.memory * GB, a.redis_memory * GB
        connections = (self.worker_cpu + self.front_cpu) / a.load * CONNECTIONS
        return {
            f"an API key, at {_number(a.runs)} runs per minute": self.turns * 60 / a.runs,
            "CPU of a front, 1 core": self.front_cpu,
            f"memory of a front, {_number(a.memory)} GB": self.browsers * c.browser / (memory - c.front),
            "CPU of a worker, 1 core": self.worker_cpu,
            f"memory of a worker, {_number(a.memory)} GB": self.open * self.stream / (memory - c.worker),
            "CPU of Redis, 1 core": self.redis_cpu,
            f"memory of Redis, {_number(a.redis_memory)} GB": self.redis_memory / redis_memory,
            f"connections of a Redis server, {MAX_CONNECTIONS:,}": connections / MAX_CONNECTIONS,
            f"ports of one address, {PORTS:,}": self.addresses,
            "file descriptors of a worker, 1,024": self.open / (1024 - CONNECTIONS),
            "file descriptors of a worker, 20,000": self.open / (20_000 - CONNECTIONS),
        }


def _sum(*parts: tuple[float, float]) -> float:
    """Return the used cores, given pairs of a rate per second and a cost in milliseconds."""
    return sum(number * milliseconds for number, milliseconds in parts) / 1000


def _processes(cores: float, memory: float, base: float, most: float) -> int:
    """Return the number of processes for some CPU and memory (KB), at least two so that one may die."""
    return max(2, math.ceil(cores), math.ceil(memory / (most - base)))


def report(chats: Sequence[float], assumed: Assumptions, costs: Costs) -> str:
    """Return both tables as Markdown.

    Args:
        chats: The numbers of concurrent chats, one per column.
        assumed: The assumptions about the chats.
        costs: The measured costs.
    """
    columns = [list(Sizes(number, assumed, costs).rows()) for number in chats]
    head = ["", *(f"{number:,.0f} chats" for number in chats), "formula"]
    lines = [head, ["---", *("---:" for _ in chats), "---"]]
    lines += [[rows[0].name, *(_number(row.value) for row in rows), rows[0].how] for rows in zip(*columns, strict=True)]
    shares = Sizes(1000, assumed, costs).shares()
    carried = sorted((1000 / share, name) for name, share in shares.items())
    lines += [[], ["resource", "chats"], ["---", "---:"]]
    lines += [[name, _number(number)] for number, name in carried]
    return "\n".join(f"| {' | '.join(line)} |" if line else "" for line in lines)


def _number(value: float) -> str:
    """Return a number with three significant digits."""
    if abs(value) < 1000:
        return f"{value:.3g}"
    return f"{round(value, 2 - math.floor(math.log10(abs(value)))):,.0f}"


def main(arguments: Sequence[str] | None = None) -> str:
    """Return the tables for the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet_sizing", description=__doc__)
    parser.add_argument("--chats", default=",".join(map(str, CHATS)), help="numbers of concurrent chats")
    parser.add_argument("--figures", type=Path, default=RESULTS, help="the results file of benchmarks.fleet")
    for field in attrs.fields(Assumptions):
        about = f"{field.metadata['help']} (%(default)s)"
        parser.add_argument(_flag(field.name), type=float, default=field.default, metavar="N", help=about)
    for field in attrs.fields(Costs):
        help_ = f"{field.metadata['help']} (as measured)"
        parser.add_argument(_flag(f"cost_{field.name}"), type=float, default=None, metavar="N", help=help_)
    options = vars(parser.parse_args(arguments))
    assumed = Assumptions(**{field.name: options[field.name] for field in attrs.fields(Assumptions)})
    sections = json.loads(options["figures"].read_text())["sections"]
    figures = {name: value for section in sections for name, value in section["figures"].items()}
    costs = Costs.measured(figures, {name: options[f"cost_{name}"] for name in attrs.fields_dict(Costs)})
    return report([float(number) for number in options["chats"].split(",")], assumed, costs)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


if __name__ == "__main__":
    print(main())
