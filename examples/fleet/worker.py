"""A worker: it takes jobs from the queue, runs the turns of the agent, and writes their snapshots for the browsers.

Run it with ``python worker.py``, which is Taskiq's receiver in one process: what is killed, told to end and started
again is the process that works. ``taskiq worker worker:broker --receiver broker:JobReceiver`` works as well.

A job is acknowledged after its last event was written. Until then it comes to another worker when this one dies, and
that worker takes the turn over: inferencesh sends no message twice and runs tools whose result is not known.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import metrics
import tracing
from broker import JobReceiver, broker
from redis.exceptions import RedisError
from settings import SETTINGS
from taskiq import Context, TaskiqDepends, TaskiqEvents, TaskiqState
from taskiq.acks import AcknowledgeType
from turns import Job
from writer import TakenOverError, Writer

from inferencesh import (
    AsyncAgent,
    AsyncInference,
    AsyncMessageStream,
    ClaimStoreError,
    ConfigurationError,
    ConflictError,
    LeaseLostError,
    RedisClaims,
)

__all__ = ["answer", "broker", "resume"]

OpenStream = Callable[[AsyncAgent], Awaitable[AsyncMessageStream]]

logger = logging.getLogger("fleet.worker")
running: Final[set[asyncio.Task[bool]]] = set()


@broker.task("answer", ack_type="manual")
async def answer(
    turn_id: str,
    tenant: str,
    chat_id: str | None,
    text: str,
    traceparent: str,
    context: Context = TaskiqDepends(),  # noqa: B008 - Taskiq's way to say what it is to pass
) -> None:
    """Send a message and write the reply."""

    async def send(agent: AsyncAgent) -> AsyncMessageStream:
        return await agent.send_message(text, stream=True, conflate=True, idempotency_key=f"{tenant}:{turn_id}")

    with tracing.span("answer", tracing.SpanKind.CONSUMER, traceparent, fleet__turn=turn_id):
        await run(Job(turn_id, tenant), chat_id, send, context)


@broker.task("resume", ack_type="manual")
async def resume(
    turn_id: str,
    tenant: str,
    chat_id: str,
    number: int,
    call_id: str,
    approved: bool,  # noqa: FBT001 - a job's arguments are named
    reason: str,
    traceparent: str,
    context: Context = TaskiqDepends(),  # noqa: B008 - Taskiq's way to say what it is to pass
) -> None:
    """Tell the agent what a person has decided, and write the rest of the reply."""

    async def decide(agent: AsyncAgent) -> AsyncMessageStream:
        try:
            if approved:
                await agent.approve_tool(call_id)
            else:
                await agent.reject_tool(call_id, reason)
        except ConflictError:
            logger.info("turn %s: call %s has been decided already", turn_id, call_id)
        return await agent.take_over()

    with tracing.span("resume", tracing.SpanKind.CONSUMER, traceparent, fleet__turn=turn_id):
        await run(Job(turn_id, tenant, number), chat_id, decide, context)


async def run(job: Job, chat_id: str | None, open_stream: OpenStream, context: Context) -> None:
    """Run a job until its last event has been written, and acknowledge it.

    It is not acknowledged, and comes to another worker, if it was left because this worker is to end, if Redis is away,
    or if another worker has it already.
    """
    if await run_cancellable(run_turn(job, chat_id, open_stream)):
        await context.ack()


async def run_cancellable(work: Coroutine[Any, Any, bool]) -> bool:
    """Return the result of a turn, or False if it was left in the middle."""
    task = asyncio.create_task(work)
    running.add(task)
    metrics.RUNNING.inc()
    try:
        await asyncio.wait({task})
    finally:
        running.discard(task)
        metrics.RUNNING.dec()
    if task.cancelled():
        metrics.HANDED_OVER.inc()
        return False
    return task.result()


async def run_turn(job: Job, chat_id: str | None, open_stream: OpenStream) -> bool:
    """Write the events of a job; returns whether its last one has been written, by this worker or another one."""
    started = time.monotonic()
    try:
        attempt = await broker.turns.begin(job)
        if not attempt:
            return True
        metrics.ATTEMPTS.inc()
        metrics.TAKEOVERS.inc(attempt > 1)
        writer = Writer(broker.turns, job, attempt, SETTINGS)
        try:
            last = await writer.follow(
                await open_stream(broker.state.client.agent(broker.state.agent, chat_id=chat_id))
            )
        except (ClaimStoreError, LeaseLostError, TakenOverError, RedisError):
            raise
        except Exception as error:  # noqa: BLE001 - it becomes the last event, and is logged
            last = await writer.fail(error)
    except (LeaseLostError, TakenOverError):
        logger.info("turn %s: another worker has taken over", job.turn_id)
        return False
    except (ClaimStoreError, RedisError) as error:
        logger.warning("turn %s: tried again later, since Redis is away: %s", job.turn_id, error)
        return False
    metrics.ENDS.labels(last).inc()
    metrics.SECONDS.observe(time.monotonic() - started)
    return True


# -- the life of a worker ----------------------------------------------------------------------------------------------


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def open_client(state: TaskiqState) -> None:
    """Open one client for all turns; what is wrong with the settings is said now, not at the first turn."""
    module, _, name = SETTINGS.agent.partition(":")
    state.agent = getattr(importlib.import_module(module), name)
    claims = RedisClaims(SETTINGS.redis_url, prefix=f"{SETTINGS.prefix}claims:", lease=SETTINGS.lease)
    state.client = AsyncInference(claims=claims)
    await state.client.__aenter__()
    logger.info("ready")


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def cancel_turns(state: TaskiqState) -> None:
    """Leave the turns that have not ended in time, so that their leases end now, and close the client."""
    if left := set(running):
        logger.info("%d turns are left to other workers", len(left))
        for task in left:
            task.cancel()
        await asyncio.wait(left)
        await asyncio.sleep(0)  # for the functions of their jobs, which end now
    await state.client.aclose()


async def work() -> None:
    """Work until SIGTERM or Ctrl-C; then take no new jobs, and give those that run FLEET_DRAIN seconds to end."""
    shutdown = asyncio.Event()

    def end() -> None:
        logger.info("told to end: %d turns have %g seconds", len(running), SETTINGS.drain)
        shutdown.set()

    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, end)
    broker.is_worker_process = True
    with ThreadPoolExecutor(1) as executor:  # for plain functions, which no job of this fleet is
        receiver = JobReceiver(
            broker,
            executor,
            max_async_tasks=SETTINGS.turns_at_once,
            ack_type=AcknowledgeType.MANUAL,
            wait_tasks_timeout=SETTINGS.drain,
        )
        try:
            await receiver.listen(shutdown)
        finally:
            await broker.shutdown()


def main() -> None:
    """Run a worker."""
    logging.basicConfig(level=logging.WARNING, format=f"{SETTINGS.name}: %(message)s", stream=sys.stderr)
    logging.getLogger("fleet").setLevel(logging.INFO)
    tracing.set_up("worker", SETTINGS.name, SETTINGS.traces)
    metrics.serve(SETTINGS.metrics_port)
    try:
        asyncio.run(work())
    except (ConfigurationError, ClaimStoreError, RedisError) as error:
        sys.exit(f"{SETTINGS.name}: cannot work: {error}")
    finally:
        tracing.finish()


if __name__ == "__main__":
    main()
