"""A worker: takes jobs from the queue, runs the turns of the agent, and publishes their snapshots.

Run it with ``python worker.py``, which runs Taskiq's receiver in a single process, so that signals reach the process
that runs the turns. ``taskiq worker worker:broker --receiver broker:JobReceiver`` works as well.

A job is acknowledged after its final event was written. If the worker dies before that, the job is redelivered to
another worker, which takes the turn over: inferencesh does not send the message again, and runs again only those tool
calls whose result is not known.
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
    context: Context = TaskiqDepends(),  # noqa: B008 - Taskiq's dependency injection
) -> None:
    """Send a message and publish the reply."""

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
    approved: bool,  # noqa: FBT001 - Taskiq passes the arguments of jobs by position
    reason: str,
    traceparent: str,
    context: Context = TaskiqDepends(),  # noqa: B008 - Taskiq's dependency injection
) -> None:
    """Submit a person's decision and publish the rest of the reply."""

    async def decide(agent: AsyncAgent) -> AsyncMessageStream:
        try:
            if approved:
                await agent.approve_tool(call_id)
            else:
                await agent.reject_tool(call_id, reason)
        except ConflictError:
            logger.info("turn %s: the call %s was already decided", turn_id, call_id)
        return await agent.take_over()

    with tracing.span("resume", tracing.SpanKind.CONSUMER, traceparent, fleet__turn=turn_id):
        await run(Job(turn_id, tenant, number), chat_id, decide, context)


async def run(job: Job, chat_id: str | None, open_stream: OpenStream, context: Context) -> None:
    """Run a job and acknowledge it once its final event was written.

    The job is not acknowledged, and therefore redelivered, if this worker shuts down first or Redis is unavailable. Nor
    is it if another worker has taken it over, which then acknowledges it.
    """
    if await run_cancellable(run_turn(job, chat_id, open_stream)):
        await context.ack()


async def run_cancellable(work: Coroutine[Any, Any, bool]) -> bool:
    """Return the result of a turn, or False if it was cancelled by a shutdown."""
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
    """Run a job; return whether its final event was written, by this worker or another one."""
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
        except Exception as error:  # noqa: BLE001 - it is logged and becomes the final event
            last = await writer.fail(error)
    except (LeaseLostError, TakenOverError):
        logger.info("turn %s was taken over by another worker", job.turn_id)
        return False
    except (ClaimStoreError, RedisError) as error:
        logger.warning("turn %s is retried later, because Redis is unavailable: %s", job.turn_id, error)
        return False
    metrics.ENDS.labels(last).inc()
    metrics.SECONDS.observe(time.monotonic() - started)
    return True


# -- startup and shutdown ----------------------------------------------------------------------------------------------


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def open_client(state: TaskiqState) -> None:
    """Open one client for all turns now, so that wrong settings are reported at startup."""
    module, _, name = SETTINGS.agent.partition(":")
    state.agent = getattr(importlib.import_module(module), name)
    claims = RedisClaims(SETTINGS.redis_url, prefix=f"{SETTINGS.prefix}claims:", lease=SETTINGS.lease)
    state.client = AsyncInference(claims=claims)
    await state.client.__aenter__()
    logger.info("ready")


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def cancel_turns(state: TaskiqState) -> None:
    """Cancel the turns that have not finished in time, which releases their leases, and close the client."""
    if left := set(running):
        logger.info("%d turns are handed over to other workers", len(left))
        for task in left:
            task.cancel()
        await asyncio.wait(left)
        await asyncio.sleep(0)  # so that the functions of their jobs return
    await state.client.aclose()


async def work() -> None:
    """Run jobs until SIGTERM or Ctrl-C; then take no new ones, and give running ones FLEET_DRAIN seconds to finish."""
    shutdown = asyncio.Event()

    def end() -> None:
        logger.info("shutting down: %d turns have %g seconds to finish", len(running), SETTINGS.drain)
        shutdown.set()

    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, end)
    broker.is_worker_process = True
    with ThreadPoolExecutor(1) as executor:  # for jobs that are plain functions; this fleet has none
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
        sys.exit(f"{SETTINGS.name}: cannot start: {error}")
    finally:
        tracing.finish()


if __name__ == "__main__":
    main()
