"""What Prometheus can ask a front or a worker.

Each process has metrics of its own and answers on a port of its own (FLEET_METRICS_PORT), a front also at ``/metrics``.
prometheus_client's other way, the multiprocess mode, lets processes of one machine share a directory. It keeps the
files of processes that were killed, which is what happens to workers here, until somebody deletes them, and Prometheus
would have to be told about each machine anyway.
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
POSTS: Final = Counter("fleet_posts", "Messages and decisions from browsers, by what has become of them", ["outcome"])
BROWSERS: Final = Gauge("fleet_browsers", "Browsers that follow a turn through this front")
EVENTS: Final = Counter("fleet_events_sent", "Events that were sent to browsers")
RESUMED: Final = Counter("fleet_browsers_resumed", "Browsers that came with a Last-Event-ID")
JOBS: Final = Gauge("fleet_jobs", "Jobs in the queue of the whole fleet", ["state"])

# workers
ATTEMPTS: Final = Counter("fleet_attempts", "Jobs that this worker has begun")
TAKEOVERS: Final = Counter("fleet_takeovers", "Jobs that this worker has taken over from another one")
RUNNING: Final = Gauge("fleet_turns_running", "Turns that this worker runs")
ENDS: Final = Counter("fleet_turns", "Turns that this worker has ended, by the name of their last event", ["event"])
SNAPSHOTS: Final = Counter("fleet_snapshots", "Snapshots that this worker has written")
HANDED_OVER: Final = Counter("fleet_turns_handed_over", "Turns that this worker has left to others")
SECONDS: Final = Histogram(
    "fleet_turn_seconds",
    "Time that a worker took for a turn, from the beginning of its job to its last event",
    buckets=(0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250),
)


def serve(port: int) -> None:
    """Answer Prometheus on a port of this machine, unless it is 0."""
    if port:
        start_http_server(port, addr="127.0.0.1")
