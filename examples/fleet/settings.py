"""The settings of the fleet, read from environment variables; README.md lists them."""

from __future__ import annotations

import os
import socket
from typing import Final, TypeVar

import attrs

__all__ = ["SETTINGS", "Settings"]

T = TypeVar("T", int, float)


@attrs.frozen
class Settings:
    """The settings of one process of a fleet.

    Attributes:
        redis_url: The URL of the Redis server.
        prefix: The prefix of every key in Redis.
        lease: Seconds without a renewal after which the turns of a worker are taken over.
        drain: Seconds that running turns have to finish when a worker shuts down.
        tenant_limit: The maximum number of turns in flight per tenant.
        queue_limit: The maximum number of jobs that wait for a worker.
        turns_at_once: The maximum number of turns that a worker runs concurrently.
        attempts: The maximum number of times a turn is started, in case the workers that run it keep dying.
        interval: Minimum seconds between two snapshots of a turn.
        keep: Seconds for which a turn is kept after its final event.
        keep_chat: Seconds for which the owner of a chat is remembered after its last turn.
        agent: The agent, as ``module:variable``.
        name: The name of this process, as the page shows it.
        metrics_port: The port of this process's metrics, or 0 for none.
        traces: The file to which spans are written, or "" for none.
        demo: Whether the page may kill workers; only ``launch.py`` sets this.
    """

    redis_url: str
    prefix: str
    lease: float
    drain: float
    tenant_limit: int
    queue_limit: int
    turns_at_once: int
    attempts: int
    interval: float
    keep: int
    keep_chat: int
    agent: str
    name: str
    metrics_port: int
    traces: str
    demo: bool


def number(name: str, default: T) -> T:
    """Return the number in an environment variable."""
    text = os.environ.get(name, "")
    try:
        value = type(default)(text) if text else default
    except ValueError:
        raise SystemExit(f"{name} must be a number, not {text!r}.") from None
    if value < 0:
        raise SystemExit(f"{name} must not be negative, but it is {text}.")
    return value


SETTINGS: Final = Settings(
    redis_url=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
    prefix=os.environ.get("FLEET_PREFIX", "fleet:"),
    lease=number("FLEET_LEASE", 30.0),
    drain=number("FLEET_DRAIN", 20.0),
    tenant_limit=number("FLEET_TENANT_LIMIT", 20),
    queue_limit=number("FLEET_QUEUE_LIMIT", 1000),
    turns_at_once=number("FLEET_TURNS_AT_ONCE", 100),
    attempts=number("FLEET_ATTEMPTS", 20),
    interval=number("FLEET_INTERVAL", 0.05),
    keep=number("FLEET_KEEP", 24 * 3600),
    keep_chat=number("FLEET_KEEP_CHAT", 30 * 24 * 3600),
    agent=os.environ.get("FLEET_AGENT", "travel_agent:AGENT"),
    name=os.environ.get("FLEET_NAME") or f"{socket.gethostname()}-{os.getpid()}",
    metrics_port=number("FLEET_METRICS_PORT", 0),
    traces=os.environ.get("FLEET_TRACES", ""),
    demo=bool(os.environ.get("FLEET_DEMO")),
)
