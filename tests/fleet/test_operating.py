"""Metrics of each process, and one trace from the browser to the tool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from inferencesh.local import ToolCall
from tests.redis_server import free_port
from tests.support import wait_until

from .browsing import follow, post
from .conftest import MakeFleet
from .processes import STARTS_WITHIN

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
LOOK_UP = ToolCall("look_up", {"what": "price"})


def test_one_trace_connects_the_browser_and_the_tool(make_fleet: MakeFleet, tmp_path: Path) -> None:
    """Browser > front > queue > worker > turn > tool, in the spans of two processes; no span contains message text."""
    file = tmp_path / "traces.jsonl"
    with make_fleet(["Secret. ", LOOK_UP], ["Found."], FLEET_TRACES=str(file)) as fleet:
        fleet.finish_tool("price")
        fleet.start("front", "worker 1")
        front = fleet.fronts["front"]
        turn_id = post(front, "A secret?", headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
        assert follow(front, turn_id)[-1].name == "done"
        for name in ("front", "worker 1"):
            fleet[name].terminate()
            fleet[name].wait()
    spans: list[dict[str, Any]] = [json.loads(line) for line in file.read_text().splitlines()]
    made = {span["context"]["span_id"]: span for span in spans}
    chain = [span for span in spans if span["name"] == "execute_tool look_up"]
    while (parent := chain[-1]["parent_id"]) in made:
        chain.append(made[parent])
    assert parent == "0x00f067aa0ba902b7"
    names = [span["name"] for span in chain]  # newer versions of FastAPI add spans of their own
    assert names[:4] == ["execute_tool look_up", "invoke_agent fleet", "answer", "send answer"]
    assert {span["context"]["trace_id"] for span in chain} == {f"0x{TRACE}"}
    assert {span["resource"]["attributes"]["service.name"] for span in spans} == {"fleet-front", "fleet-worker"}
    assert "ecret" not in file.read_text()


def test_fronts_and_workers_have_metrics(make_fleet: MakeFleet) -> None:
    """Each on its own port, and without the names of tenants, each of which would create a time series."""
    port = free_port()
    with make_fleet(["Wait. ", LOOK_UP], ["Found."]) as fleet:
        fleet.start("front")
        fleet.start("worker 1", FLEET_METRICS_PORT=str(port))
        front = fleet.fronts["front"]
        turn_id = post(front, headers={"X-Tenant": "ada"})
        fleet.wait_for_starts("worker 1 1")
        told = front.get("/metrics").text + httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
        assert "fleet_turns_running 1.0" in told
        assert 'fleet_jobs{state="working"} 1.0' in told
        assert 'fleet_posts_total{outcome="queued"} 1.0' in told
        assert "ada" not in told
        fleet.finish_tool("price")
        assert follow(front, turn_id, **{"X-Tenant": "ada"})[-1].name == "done"

        def ended() -> bool:
            told = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
            return 'fleet_turns_total{event="done"} 1.0' in told and "fleet_turns_running 0.0" in told

        wait_until(ended, "the end of the turn is counted", STARTS_WITHIN)
        assert front.get("/metrics").headers["Content-Type"].startswith("text/plain")
