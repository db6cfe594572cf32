"""The settings of the fleet, from the environment; README.md explains them."""

from __future__ import annotations

import os
import socket
from typing import Final, TypeVar

import attrs

__all__ = ["SETTINGS", "Settings"]

T = TypeVar("T", int, float)


@attrs.frozen
class Settings:
    """What all processes of a fleet must agree on, and the name of this one.

    Attributes:
        redis_url: Where Redis is.
        prefix: What every key in Redis begins with.
        lease: Seconds after which the turns of a worker that gives no sign of life are taken over.
        drain: Seconds that turns in flight have to end when a worker is told to end.
        tenant_limit: How many turns a tenant may have in flight.
        queue_limit: How many jobs may wait for a worker.
        turns_at_once: How many turns a worker runs at once.
        attempts: How often a turn is begun before it is given up, should each worker that runs it die.
        interval: Seconds between two snapshots of a turn.
        keep: Seconds that a turn is kept after its last event.
        keep_chat: Seconds that a chat belongs to its tenant after its last turn.
        agent: The agent, as ``module:variable``.
        name: The name of this process, for people.
        metrics_port: The port of this process's metrics, or 0 for none.
        traces: The file that spans are written to, or "" for none.
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
