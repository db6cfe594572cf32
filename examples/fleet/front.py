"""A front: queues the messages of browsers, and streams the events of the turns to them.

Run as many as you like with ``uvicorn front:app``: fronts are stateless, so any of them can serve any browser. A front
never talks to inference.sh; only workers have the API key. README.md lists the endpoints.
"""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final

import metrics
import tracing
from broker import RefusedError, broker
from events import START, Notifier, follow, is_event_id
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, StringConstraints
from redis.exceptions import RedisError
from settings import SETTINGS
from starlette.exceptions import HTTPException as StarletteHTTPException
from taskiq.exceptions import SendTaskError
from turns import Admission, Turn
from worker import answer, resume

from inferencesh import ToolCallStatus, web

STATIC: Final = Path(__file__).parent / "static"
RETRY_AFTER: Final = {"Retry-After": "2"}
TENANT: Final = re.compile(r"[\w.@-]{1,64}", re.ASCII)

logging.basicConfig(level=logging.WARNING, format=f"{SETTINGS.name}: %(message)s")
logger = logging.getLogger("fleet.front")
turns: Final = broker.turns


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Connect to Redis, and end open event streams when this front shuts down."""
    tracing.set_up("front", SETTINGS.name, SETTINGS.traces)
    metrics.serve(SETTINGS.metrics_port)
    await broker.startup()
    closing = asyncio.Event()
    app.state.notifier = Notifier(turns.redis, closing, f"{SETTINGS.prefix}notifier:{uuid.uuid4().hex}")
    notifying = asyncio.create_task(app.state.notifier.run(), name="notifier")
    on_shutdown_signal(closing.set)
    yield
    notifying.cancel()
    await asyncio.wait({notifying})
    await broker.shutdown()
    tracing.finish()


def on_shutdown_signal(call: Callable[[], None]) -> None:
    """Call a function on SIGTERM and Ctrl-C, before uvicorn's own handler, which waits for open responses to end."""
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        previous = signal.getsignal(each)

        def handle(number: int, frame: FrameType | None, previous: Any = previous) -> None:
            loop.call_soon_threadsafe(call)
            if callable(previous):
                previous(number, frame)

        signal.signal(each, handle)


app = FastAPI(title="Fleet", lifespan=lifespan)
app.mount("/static", StaticFiles(directory=STATIC), name="static")
app.mount("/parts", StaticFiles(directory=web.page_files()), name="parts")


# -- what endpoints depend on ------------------------------------------------------------------------------------------


async def get_tenant(x_tenant: Annotated[str, Header()] = "demo") -> str:
    """Return the tenant, which is not authenticated here: replace this with the authentication of your service."""
    if TENANT.fullmatch(x_tenant) is None:
        raise HTTPException(422, "X-Tenant must be 1 to 64 letters, digits, or any of . _ - @.")
    return x_tenant


Tenant = Annotated[str, Depends(get_tenant)]


async def get_turn(turn_id: str, tenant: Tenant) -> Turn:
    """Return a turn, which must belong to the tenant."""
    turn = await turns.find(turn_id)
    if turn is None or turn.tenant != tenant:
        raise HTTPException(404, "There is no such turn, it has expired, or it belongs to another tenant.")
    return turn


OwnTurn = Annotated[Turn, Depends(get_turn)]
TurnId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class NewMessage(BaseModel):
    """A message; with a ``turn_id`` it can safely be sent again when the response was lost."""

    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=8000)]
    chat_id: Annotated[str, StringConstraints(max_length=200)] | None = None
    turn_id: TurnId | None = None


class Decision(BaseModel):
    """A person's decision on a tool call; the agent is told the reason for a rejection."""

    approved: bool
    reason: Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000)] = ""


class Markdown(BaseModel):
    """A Markdown text to render."""

    text: Annotated[str, StringConstraints(max_length=100_000)]


# -- turns -------------------------------------------------------------------------------------------------------------


@app.post("/chat", status_code=202)
async def chat(message: NewMessage, tenant: Tenant, traceparent: Annotated[str, Header()] = "") -> dict[str, str]:
    """Queue a message; sending the same ``turn_id`` again does not start a second turn."""
    if message.chat_id is not None and await turns.owner(message.chat_id) != tenant:
        raise HTTPException(404, "There is no such chat, it has expired, or it belongs to another tenant.")
    turn_id = message.turn_id or uuid.uuid4().hex
    job = answer.kicker().with_labels(turn_id=turn_id, tenant=tenant, number=0)
    with tracing.span("send answer", tracing.SpanKind.PRODUCER, traceparent, fleet__turn=turn_id):
        await enqueue(job.kiq(turn_id, tenant, message.chat_id, message.text, tracing.traceparent()))
    return {"turn_id": turn_id}


@app.get("/turns/{turn_id}/events")
async def events(
    turn_id: str,
    _turn: OwnTurn,
    request: Request,
    header: Annotated[str, Header(alias="Last-Event-ID")] = "",
    query: Annotated[str, Query(alias="last_event_id")] = "",
) -> Response:
    """Stream the events of a turn, from the start or from after the last event that the browser has received.

    The status is 204 if there are no more events, which stops an EventSource from reconnecting.
    """
    after = header or query
    if after and not is_event_id(after):
        raise HTTPException(422, "Last-Event-ID must be the id of an event.")
    if after:
        metrics.RESUMED.inc()
        over, behind = await turns.read(turn_id, after)
        if over and not behind:
            return Response(status_code=204)
    headers = {**web.SSE_HEADERS, "X-Front": SETTINGS.name}
    return StreamingResponse(follow(turns, request.app.state.notifier, turn_id, after or START), headers=headers)


@app.post("/turns/{turn_id}/calls/{call_id}/decision", status_code=202)
async def decide(
    turn_id: str,
    call_id: str,
    decision: Decision,
    turn: OwnTurn,
    traceparent: Annotated[str, Header()] = "",
) -> dict[str, str]:
    """Approve or reject a tool call that the turn is waiting for; a worker then resumes the turn."""
    if turn.chat_id is None or call_id not in await calls_awaiting_approval(turn_id, turn):
        raise RefusedError(Admission.NOT_WAITING)
    number = turn.job + 1
    job = resume.kicker().with_labels(turn_id=turn_id, tenant=turn.tenant, number=number)
    decided = (call_id, decision.approved, decision.reason)
    with tracing.span("send resume", tracing.SpanKind.PRODUCER, traceparent, fleet__turn=turn_id):
        await enqueue(job.kiq(turn_id, turn.tenant, turn.chat_id, number, *decided, tracing.traceparent()))
    return {"turn_id": turn_id}


async def enqueue(sending: Awaitable[object]) -> None:
    """Send a job to the queue. A duplicate is not an error, because the browser may have missed the first response."""
    try:
        await sending
    except SendTaskError as error:
        cause = error.__cause__
        if isinstance(cause, RefusedError):
            metrics.POSTS.labels(cause.reason).inc()
            if cause.reason is Admission.DUPLICATE:
                return
        raise cause or error from None
    metrics.POSTS.labels(Admission.QUEUED).inc()


async def calls_awaiting_approval(turn_id: str, turn: Turn) -> list[str]:
    """Return the ids of the tool calls of a turn that await approval."""
    if turn.state != "input_required":
        return []
    _, last = await turns.last(turn_id)
    return [call["id"] for call in last["tool_calls"] if call["status"] == ToolCallStatus.AWAITING_APPROVAL]


# -- the page, and endpoints for operators -----------------------------------------------------------------------------


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """Serve the page."""
    return FileResponse(STATIC / "index.html", headers=web.PAGE_HEADERS)


@app.post("/markdown")
def render(markdown: Markdown) -> dict[str, object]:
    """Render Markdown for the page; not async, so that FastAPI runs it in a thread."""
    rendered = web.render_markdown(markdown.text)
    return {"blocks": rendered.blocks, "last_line": rendered.last_line}


@app.get("/metrics", include_in_schema=False)
async def show_metrics() -> Response:
    """Return the metrics for Prometheus."""
    waiting, working = await turns.jobs()
    metrics.JOBS.labels("waiting").set(waiting)
    metrics.JOBS.labels("working").set(working)
    return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


@app.get("/ready", include_in_schema=False)
async def ready(request: Request) -> dict[str, bool]:
    """Report whether this front can serve requests, and to the page whether it may kill workers."""
    await turns.redis.ping()
    if request.app.state.notifier.closing.is_set():
        raise HTTPException(503, "This front is shutting down.", RETRY_AFTER)
    return {"demo": SETTINGS.demo}


if SETTINGS.demo:

    class KillRequest(BaseModel):
        """The name of a worker."""

        worker: Annotated[str, StringConstraints(max_length=100)]

    @app.post("/demo/kill", status_code=202)
    async def kill(request: KillRequest) -> dict[str, bool]:
        """Ask ``launch.py``, which started the worker, to kill it."""
        return {"delivered": await turns.redis.publish(f"{SETTINGS.prefix}kill", request.worker) > 0}


# -- errors, which all have the form {"type", "detail", "status"} ------------------------------------------------------

REFUSALS: Final = {
    Admission.ID_TAKEN: (409, "conflict", "This turn_id is already in use."),
    Admission.NOT_WAITING: (409, "conflict", "The turn is not waiting for this decision, or it was already made."),
    Admission.TENANT_LIMIT: (429, "too_many_turns", "Too many of your turns are in flight; wait for one to finish."),
    Admission.QUEUE_LIMIT: (503, "busy", "Too many messages are queued; try again in a moment."),
}
TYPES: Final = {404: "not_found", 422: "invalid_request", 503: "busy"}


def problem(status: int, type_: str, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the response for an error."""
    return JSONResponse({"type": type_, "detail": detail, "status": status}, status, headers)


@app.exception_handler(RefusedError)
async def refused(_request: Request, error: RefusedError) -> JSONResponse:
    """Respond to a request whose job was not queued."""
    status, type_, detail = REFUSALS[error.reason]
    return problem(status, type_, detail, RETRY_AFTER if status in {429, 503} else None)


@app.exception_handler(RedisError)
async def redis_unavailable(_request: Request, error: RedisError) -> JSONResponse:
    """Respond while Redis is unavailable. If the job was queued nevertheless, a retry with its turn_id is harmless."""
    logger.warning("Redis is unavailable: %s", error)
    return problem(503, "unavailable", "The service is temporarily unavailable; try again in a moment.", RETRY_AFTER)


@app.exception_handler(StarletteHTTPException)
async def failed(_request: Request, error: StarletteHTTPException) -> JSONResponse:
    """Respond to a request that failed with an HTTP error."""
    return problem(error.status_code, TYPES.get(error.status_code, "refused"), str(error.detail), error.headers)


@app.exception_handler(RequestValidationError)
async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
    """Respond to an invalid request with the fields and problems, without repeating the input."""
    return problem(
        422, "invalid_request", "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    )
