"""A chat service with FastAPI: one client for the whole app, streamed replies, and a tool that people answer.

Run it with ``make demo-web`` or ``python examples/fastapi_chat/serve.py``; README.md lists the endpoints.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final

from assistant import AGENT
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, StringConstraints
from starlette.exceptions import HTTPException

from inferencesh import AsyncAgent, AsyncInference, AsyncMessageStream, ChatStatus, InferenceError, Role, ToolCall, web

STATIC: Final = Path(__file__).parent / "static"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open one client for all requests, and close it after the last one."""
    client = AsyncInference() if os.environ.get("INFERENCE_API_KEY") else AsyncInference.local()
    async with client:
        app.state.client = client
        yield


def get_client(request: Request) -> AsyncInference:
    """Return the app's client; tests may override this dependency."""
    client: AsyncInference = request.app.state.client
    return client


Client = Annotated[AsyncInference, Depends(get_client)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=8000)]
ChatId = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class Post(BaseModel):
    """A message from the page."""

    text: Text
    chat_id: ChatId | None = None


class Answer(BaseModel):
    """A person's answer to a tool call."""

    result: Text


app = FastAPI(title="Chat", lifespan=lifespan)
app.mount("/static", StaticFiles(directory=STATIC), name="static")


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """Serve the page."""
    return FileResponse(STATIC / "index.html", headers={"Content-Security-Policy": "default-src 'self'"})


@app.post("/chat")
async def chat(post: Post, client: Client) -> dict[str, object]:
    """Send a message and return the whole reply, or the question that pauses it."""
    stream = await begin(client, post)
    message = await stream.get_final_message()
    return web.snapshot(message, paused=bool(message.pending_tool_calls))


@app.post("/chat/stream")
async def chat_stream(post: Post, client: Client) -> StreamingResponse:
    """Send a message and stream the reply as server-sent events."""
    return respond(await begin(client, post))


@app.get("/chat/{chat_id}/stream")
async def resume(chat_id: ChatId, client: Client) -> StreamingResponse:
    """Stream the rest of a reply, after a reload of the page or after a tool was answered.

    Tools that were called while no browser was streaming the reply are run now.
    """
    return respond(await client.agent(AGENT, chat_id=chat_id).stream_messages(conflate=True))


@app.get("/chat/{chat_id}")
async def read_chat(chat_id: ChatId, client: Client) -> dict[str, object]:
    """Return the conversation so far. If its status is not idle, GET /chat/{chat_id}/stream streams the rest."""
    agent = client.agent(AGENT, chat_id=chat_id)
    state = await agent.get_chat()
    shown = [m for m in await agent.history() if m.role in {Role.USER, Role.ASSISTANT} and (m.text or m.tool_calls)]
    return {"chat_id": chat_id, "status": state.status, "messages": [web.snapshot(message) for message in shown]}


@app.post("/chat/{chat_id}/tools/{call_id}", status_code=202)
async def answer_tool(chat_id: ChatId, call_id: str, answer: Answer, client: Client) -> dict[str, str]:
    """Answer a tool call. The run continues, and GET /chat/{chat_id}/stream streams the rest."""
    agent = client.agent(AGENT, chat_id=chat_id)
    if not any(call.id == call_id for message in await agent.history() for call in message.tool_calls):
        raise HTTPException(404, "There is no such question in this chat.")
    await agent.submit_tool_result(call_id, answer.result)
    return {"chat_id": chat_id, "call_id": call_id}


@app.post("/chat/{chat_id}/stop", status_code=202)
async def stop(chat_id: ChatId, client: Client) -> dict[str, str]:
    """Stop the reply that is being written."""
    await client.agent(AGENT, chat_id=chat_id).stop()
    return {"chat_id": chat_id}


async def begin(client: AsyncInference, post: Post) -> AsyncMessageStream:
    """Send a message. If it is refused, this raises before the response has begun, so that its status can tell."""
    agent = client.agent(AGENT, chat_id=post.chat_id)
    if post.chat_id is not None:
        await refuse_while_paused(agent)
    return await agent.send_message(post.text, stream=True, conflate=True)


async def refuse_while_paused(agent: AsyncAgent) -> None:
    """Raise PausedError if the run waits for an answer; a message would only be queued behind the question."""
    if (await agent.get_chat()).status == ChatStatus.AWAITING_INPUT:
        # Runs the tools that were called while no browser was streaming; returns at once if a question is pending.
        message = await agent.wait()
        if message.pending_tool_calls:
            raise PausedError(message.pending_tool_calls)


def respond(stream: AsyncMessageStream) -> StreamingResponse:
    """Return a stream as a response. X-Chat-Id tells the page the chat's id before the first event arrives."""
    headers = {**web.SSE_HEADERS, "X-Chat-Id": stream.chat_id or ""}
    return StreamingResponse(web.sse(stream, keep_alive=10), headers=headers)


class PausedError(Exception):
    """The chat waits for an answer to these calls."""

    def __init__(self, calls: Sequence[ToolCall]) -> None:
        super().__init__("the chat is paused")
        self.pending = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in calls]


def problem(
    type_: str, detail: str, status: int, headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """Return the response for an error; all errors have this form."""
    return JSONResponse({"type": type_, "detail": detail, "status": status, **more}, status, headers)


@app.exception_handler(InferenceError)
async def inference_failed(_request: Request, error: InferenceError) -> JSONResponse:
    """Respond to an error of the SDK: 404 and 409 are passed on, all others are failures of the agent service."""
    told = web.describe_error(error)
    return problem(told.type, told.detail, told.status, told.headers)


@app.exception_handler(PausedError)
async def chat_is_paused(_request: Request, error: PausedError) -> JSONResponse:
    """Respond to a message to a chat that waits for an answer."""
    detail = "The agent waits for an answer to its question; give that first."
    return problem("input_required", detail, 409, pending_tool_calls=error.pending)


@app.exception_handler(HTTPException)
async def refused(_request: Request, error: HTTPException) -> JSONResponse:
    """Respond to a request that this service refuses itself."""
    return problem("not_found" if error.status_code == 404 else "refused", str(error.detail), error.status_code)


@app.exception_handler(RequestValidationError)
async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
    """Respond to an invalid request: name the fields and problems without repeating the input."""
    fields = [{"field": field_of(each), "detail": each["msg"]} for each in error.errors()]
    detail = "; ".join(f"{each['field']}: {each['detail']}" for each in fields)
    return problem("invalid_request", detail, 422, errors=fields)


def field_of(error: Mapping[str, Any]) -> str:
    """Return the field that an error is about; ``body`` if the body as a whole cannot be parsed."""
    path = error["loc"][1:] if error["type"] != "json_invalid" else ()
    return ".".join(str(part) for part in path) or str(error["loc"][0])
