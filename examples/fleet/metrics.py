"""Prometheus metrics of fronts and workers.

Each process exposes its own metrics on its own port (FLEET_METRICS_PORT); a front also serves them at ``/metrics``.
The multiprocess mode of prometheus_client, in which the processes of a machine share a directory, is not used: it keeps
the files of killed processes until somebody deletes them, and Prometheus would still need a target for each machine.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram, start_http_server

__all__ = [
    "ATTEMPTS",
    "BROWSERS",
    "ENDS",
    "EVENTS",
    "HANDED_OVER",
    "JOBS",
    "POSTS",
    "RESUMED",
    "RUNNING",
    "SECONDS",
    "SNAPSHOTS",
    "TAKEOVERS",
    "serve",
]

# fronts
POSTS: Final = Counter("fleet_posts", "Messages and decisions from browsers, by outcome", ["outcome"])
BROWSERS: Final = Gauge("fleet_browsers", "Browsers that are following a turn at this front")
EVENTS: Final = Counter("fleet_events_sent", "Events sent to browsers")
RESUMED: Final = Counter("fleet_browsers_resumed", "Requests for events with a Last-Event-ID")
JOBS: Final = Gauge("fleet_jobs", "Jobs in the queue of the fleet, by state", ["state"])

# workers
ATTEMPTS: Final = Counter("fleet_attempts", "Jobs that this worker has started")
TAKEOVERS: Final = Counter("fleet_takeovers", "Jobs that this worker has taken over from another worker")
RUNNING: Final = Gauge("fleet_turns_running", "Turns that this worker is running")
ENDS: Final = Counter("fleet_turns", "Turns that this worker has finished, by the name of their final event", ["event"])
SNAPSHOTS: Final = Counter("fleet_snapshots", "Snapshots that this worker has published")
HANDED_OVER: Final = Counter("fleet_turns_handed_over", "Turns that this worker has handed over to others on shutdown")
SECONDS: Final = Histogram(
    "fleet_turn_seconds",
    "Time from the start of a job to its final event",
    buckets=(0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250),
)


def serve(port: int) -> None:
    """Serve the metrics on a local port, unless it is 0."""
    if port:
        start_http_server(port, addr="127.0.0.1")
