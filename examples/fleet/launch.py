"""Start a whole fleet on this machine: Redis, fronts, workers, and without INFERENCE_API_KEY the embedded runtime.

    python examples/fleet/launch.py --port 8000 --fronts 2 --workers 3

Processes that die are restarted. The page has a button that kills the worker that is answering. Ctrl-C stops
everything: first the fronts and workers, which have time to finish their turns, then Redis.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from connections import create_client
from redis.asyncio import Redis
from redis.exceptions import RedisError

__all__ = ["Fleet"]

HERE: Final = Path(__file__).parent
LEASE: Final = "3"  # seconds; short, so that a takeover happens soon
DRAIN: Final = "5"  # seconds
RESTART_DELAY: Final = 1.0  # seconds before a process that has died is restarted
PREFIX: Final = "fleet:"
NO_REDIS: Final = """\
redis-server is not installed. On Debian and Ubuntu: sudo apt-get install redis-server. On macOS: brew install redis.
Or set REDIS_URL to the URL of a running Redis 7 server."""


class Fleet:
    """Supervised processes, which are restarted when they die.

    Args:
        environment: Environment variables of all processes, in addition to those of this one.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {**os.environ, **environment}
        self._running: dict[str, Process] = {}
        self._supervisors: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, command: Sequence[str], *, fd: int | None = None, **environment: str) -> None:
        """Start a process, and restart it whenever it exits."""
        supervisor = self._supervise(name, command, () if fd is None else (fd,), environment)
        self._supervisors[name] = asyncio.create_task(supervisor, name=name)

    def kill(self, name: str) -> None:
        """Kill a process, as a crash would."""
        if process := self._running.get(name):
            print(f"Killing {name} (kill -9 {process.pid}).", flush=True)
            process.kill()

    async def stop(self, *names: str) -> None:
        """Terminate processes and wait until they have exited."""
        for name in names:
            self._supervisors[name].cancel()
        await asyncio.wait([self._supervisors[name] for name in names])

    async def _supervise(
        self, name: str, command: Sequence[str], fds: Sequence[int], environment: Mapping[str, str]
    ) -> None:
        while True:
            # In a session of its own, so that Ctrl-C reaches only this program, which stops the others in order.
            process = await asyncio.create_subprocess_exec(
                *command, env={**self._environment, **environment}, pass_fds=fds, start_new_session=True, cwd=HERE
            )
            self._running[name] = process
            try:
                code = await process.wait()
            except asyncio.CancelledError:
                await stop_process(process)
                raise
            print(f"{name} exited with status {code}; restarting it.", flush=True)
            await asyncio.sleep(RESTART_DELAY)


async def stop_process(process: Process) -> None:
    """Terminate a process and wait until it has exited; kill it if that takes too long."""
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(float(DRAIN) + 5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def start_redis(directory: str) -> tuple[Process, str]:
    """Start redis-server with an append-only file; return the process and its URL once it answers."""
    server = shutil.which("redis-server")
    if server is None:
        sys.exit(NO_REDIS)
    port = free_port()
    options = {
        "bind": "127.0.0.1",
        "port": port,
        "dir": directory,
        "appendonly": "yes",
        "save": "",
        "loglevel": "warning",
    }
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    process = await asyncio.create_subprocess_exec(
        server, *arguments, start_new_session=True, stdout=asyncio.subprocess.DEVNULL
    )
    url = f"redis://127.0.0.1:{port}/0"
    async with Redis.from_url(url) as redis:
        while True:
            try:
                await redis.ping()
            except RedisError:
                if process.returncode is not None:
                    sys.exit(f"redis-server exited with status {process.returncode}.")
                await asyncio.sleep(0.05)
            else:
                return process, url


async def start_runtime() -> tuple[Process, dict[str, str]]:
    """Start the embedded runtime; return the process and the environment variables with its URL and key."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(HERE / "runtime.py")), start_new_session=True, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    address = json.loads(await process.stdout.readline())
    return process, {"INFERENCE_BASE_URL": address["base_url"], "INFERENCE_API_KEY": address["api_key"]}


async def kill_on_request(redis: Redis, fleet: Fleet) -> None:
    """Kill the workers that the page asks to kill."""
    async with redis.pubsub() as requests:
        await requests.subscribe(f"{PREFIX}kill")
        async for message in requests.listen():
            if message["type"] == "message":
                fleet.kill(message["data"])


def free_port() -> int:
    """Return an unused port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


async def run(options: argparse.Namespace, listening: socket.socket) -> None:
    """Run everything until SIGTERM or Ctrl-C."""
    shutdown = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, shutdown.set)
    services: list[Process] = []
    with tempfile.TemporaryDirectory(prefix="fleet-") as directory:
        try:
            traces = str(Path(directory) / "traces.jsonl")
            environment = {"FLEET_LEASE": LEASE, "FLEET_DRAIN": DRAIN, "FLEET_PREFIX": PREFIX, "FLEET_DEMO": "1"}
            environment |= {"FLEET_TRACES": traces, **shell_settings()}
            if "REDIS_URL" not in environment:
                process, environment["REDIS_URL"] = await start_redis(directory)
                services.append(process)
            if not environment.get("INFERENCE_API_KEY"):
                print("INFERENCE_API_KEY is not set: a simulated model answers.", flush=True)
                process, address = await start_runtime()
                services.append(process)
                environment |= address
            await run_fleet(options, listening, environment, shutdown)
        finally:
            for process in reversed(services):
                await stop_process(process)


def shell_settings() -> dict[str, str]:
    """Return the settings in the environment, which take precedence over those of the demo."""
    return {name: value for name, value in os.environ.items() if name.startswith(("FLEET_", "REDIS_", "INFERENCE_"))}


async def run_fleet(
    options: argparse.Namespace, listening: socket.socket, environment: dict[str, str], shutdown: asyncio.Event
) -> None:
    """Run the fronts and workers."""
    fleet = Fleet(environment)
    fronts = [f"front {number}" for number in range(1, options.fronts + 1)]
    workers = [f"worker {number}" for number in range(1, options.workers + 1)]
    async with create_client(environment["REDIS_URL"]) as redis:
        killer = asyncio.create_task(kill_on_request(redis, fleet))
        fd = listening.fileno()
        uvicorn = ["-m", "uvicorn", "front:app", "--fd", str(fd), "--log-level", "warning"]
        for name in fronts:
            port = str(free_port())
            fleet.start(name, [sys.executable, *uvicorn], fd=fd, FLEET_NAME=name, FLEET_METRICS_PORT=port)
            print(f"{name}: metrics at http://127.0.0.1:{port}/metrics", flush=True)
        for name in workers:
            port = str(free_port())
            fleet.start(name, [sys.executable, "worker.py"], FLEET_NAME=name, FLEET_METRICS_PORT=port)
            print(f"{name}: metrics at http://127.0.0.1:{port}/metrics", flush=True)
        print(f"Spans of all processes: {environment['FLEET_TRACES']}", flush=True)
        host, port, *_ = listening.getsockname()
        print(f"Open http://{host}:{port} in a browser. Press Ctrl-C to stop.", flush=True)
        await shutdown.wait()
        killer.cancel()
        await fleet.stop(*fronts, *workers)
        await asyncio.wait({killer})


def main() -> None:
    """Run a fleet."""
    parser = argparse.ArgumentParser(description="Run a fleet of workers with a web page, on this machine.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--fronts", type=int, default=2)
    parser.add_argument("--workers", type=int, default=3)
    options = parser.parse_args()
    try:
        listening = socket.create_server((options.host, options.port), backlog=1024)
    except OSError as error:
        sys.exit(f"cannot listen on {options.host}:{options.port} ({error.strerror}); choose another --port")
    with listening:  # already listening, so that browsers wait for the fronts instead of being refused
        asyncio.run(run(options, listening))


if __name__ == "__main__":
    main()
