"""A chat service with FastAPI: one client for the whole app, streamed replies, files, questions and approvals.

Run it with ``make demo-web`` or ``python examples/fastapi_chat/serve.py``; README.md lists the endpoints.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final

import problems
import uploads
import visitors
from assistant import AGENT, ANSWERED_BY_PEOPLE
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from offline import OfflineModel
from pydantic import BaseModel, Field, StringConstraints

from inferencesh import AsyncAgent, AsyncInference, AsyncMessageStream, ChatStatus, Role, ToolCall, web

STATIC: Final = Path(__file__).parent / "static"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open one client for all requests, and close it after the last one."""
    has_key = bool(os.environ.get("INFERENCE_API_KEY"))
    client = AsyncInference() if has_key else AsyncInference.local(model=OfflineModel())
    async with client:
        app.state.client = client
        yield


app = FastAPI(title="Chat", lifespan=lifespan)
app.mount("/static", StaticFiles(directory=STATIC), name="static")
app.mount("/parts", StaticFiles(directory=web.page_files()), name="parts")
problems.add_handlers(app)


# -- what endpoints depend on ------------------------------------------------------------------------------------------


async def get_client(request: Request) -> AsyncInference:
    """Return the app's client; tests may override this dependency."""
    client: AsyncInference = request.app.state.client
    return client


Client = Annotated[AsyncInference, Depends(get_client)]


async def get_chat(chat_id: str, request: Request, client: Client) -> AsyncAgent:
    """Return the agent of a chat, which must be the visitor's own."""
    visitors.check_chat(chat_id, request)
    return client.agent(AGENT, chat_id=chat_id)


OwnChat = Annotated[AsyncAgent, Depends(get_chat)]


async def get_call(call_id: str, agent: OwnChat) -> ToolCall:
    """Return a tool call, which must be of this chat."""
    for message in await agent.history():
        for call in message.tool_calls:
            if call.id == call_id:
                return call
    raise HTTPException(404, "There is no such question in this chat.")


OwnCall = Annotated[ToolCall, Depends(get_call)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=8000)]


class Post(BaseModel):
    """A message from the page; ``files`` are the tokens of what was uploaded for it."""

    text: Text
    files: Annotated[list[str], Field(max_length=uploads.MAX_FILES)] = []


class Answer(BaseModel):
    """A person's answer to a question."""

    result: Text


class Decision(BaseModel):
    """What a person has decided on a tool call; the agent is given the reason of a rejection."""

    approved: bool
    reason: Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000)] = ""


class Markdown(BaseModel):
    """A text of the conversation."""

    text: Annotated[str, StringConstraints(max_length=100_000)]


# -- the page ----------------------------------------------------------------------------------------------------------


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """Serve the page."""
    return FileResponse(STATIC / "index.html", headers=web.PAGE_HEADERS)


@app.post("/markdown")
def render(markdown: Markdown) -> dict[str, object]:
    """Render Markdown for the page; not async, so that FastAPI runs it in a worker thread."""
    rendered = web.render_markdown(markdown.text)
    return {"blocks": rendered.blocks, "last_line": rendered.last_line}


@app.post("/files", status_code=201)
async def upload(
    request: Request, filename: uploads.FileName, content_type: uploads.ContentType, client: Client
) -> dict[str, str]:
    """Upload a file, which is the body, and return the token that attaches it to a message."""
    data = await uploads.read_upload(request, content_type)
    file = await client.files.upload(data, filename=filename, content_type=content_type)
    return {"token": visitors.write_file_token(file)}


# -- conversations -----------------------------------------------------------------------------------------------------


@app.post("/chat")
async def chat(post: Post, request: Request, response: Response, client: Client) -> dict[str, object]:
    """Begin a chat and return the whole reply, or the question that pauses it."""
    stream = await begin(client.agent(AGENT), post)
    visitors.give_chat(stream.chat_id or "", request, response)
    return await whole(stream)


@app.post("/chat/stream")
async def chat_stream(post: Post, request: Request, client: Client) -> StreamingResponse:
    """Begin a chat and stream the reply as server-sent events."""
    response = respond(stream := await begin(client.agent(AGENT), post))
    visitors.give_chat(stream.chat_id or "", request, response)
    return response


@app.post("/chat/{chat_id}")
async def go_on(post: Post, agent: OwnChat) -> dict[str, object]:
    """Send another message and return the whole reply."""
    return await whole(await begin(agent, post))


@app.post("/chat/{chat_id}/stream")
async def go_on_streaming(post: Post, agent: OwnChat) -> StreamingResponse:
    """Send another message and stream the reply."""
    return respond(await begin(agent, post))


@app.get("/chat/{chat_id}/stream")
async def resume(agent: OwnChat) -> StreamingResponse:
    """Stream the rest of a reply, after a reload of the page, a lost connection or an answer.

    Tools that were called while no browser was streaming the reply are run now.
    """
    return respond(await agent.stream_messages(conflate=True))


@app.get("/chat/{chat_id}")
async def read_chat(agent: OwnChat) -> dict[str, object]:
    """Return the conversation so far. If its status is not idle, GET /chat/{chat_id}/stream streams the rest."""
    state = await agent.get_chat()
    shown = [m for m in await agent.history() if m.role in {Role.USER, Role.ASSISTANT} and (m.content or m.tool_calls)]
    return {
        "chat_id": agent.chat_id,
        "status": state.status,
        "messages": [web.snapshot(message) for message in shown],
    }


@app.post("/chat/{chat_id}/tools/{call_id}", status_code=202)
async def answer_tool(answer: Answer, call: OwnCall, agent: OwnChat) -> dict[str, str | None]:
    """Answer a question. The run continues, and GET /chat/{chat_id}/stream streams the rest."""
    if call.name not in ANSWERED_BY_PEOPLE:
        raise HTTPException(409, "This is not a question.")
    await agent.submit_tool_result(call, answer.result)
    return {"chat_id": agent.chat_id, "call_id": call.id}


@app.post("/chat/{chat_id}/tools/{call_id}/decision", status_code=202)
async def decide(decision: Decision, call: OwnCall, agent: OwnChat) -> dict[str, str | None]:
    """Approve or reject a tool call that needs it; the rest is as for an answer."""
    if decision.approved:
        await agent.approve_tool(call)
    else:
        await agent.reject_tool(call, decision.reason)
    return {"chat_id": agent.chat_id, "call_id": call.id}


@app.post("/chat/{chat_id}/stop", status_code=202)
async def stop(agent: OwnChat) -> dict[str, str | None]:
    """Stop the reply that is being written."""
    await agent.stop()
    return {"chat_id": agent.chat_id}


async def begin(agent: AsyncAgent, post: Post) -> AsyncMessageStream:
    """Send a message. If it is refused, this raises before the response has begun, so that its status can tell."""
    files = [visitors.read_file_token(token) for token in post.files]
    if agent.chat_id is not None:
        await refuse_while_paused(agent)
    return await agent.send_message(post.text, files=files, stream=True, conflate=True)


async def refuse_while_paused(agent: AsyncAgent) -> None:
    """Raise PausedError if the run waits for a person; a message would only be queued behind the question."""
    if (await agent.get_chat()).status == ChatStatus.AWAITING_INPUT:
        # Runs the tools that were called while no browser was streaming; returns at once if a person is needed.
        message = await agent.wait()
        if message.pending_tool_calls or message.pending_approvals:
            raise problems.PausedError(message)


async def whole(stream: AsyncMessageStream) -> dict[str, object]:
    """Return the end of a stream."""
    message = await stream.get_final_message()
    return web.snapshot(message, paused=bool(message.pending_tool_calls))


def respond(stream: AsyncMessageStream) -> StreamingResponse:
    """Return a stream as a response. X-Chat-Id tells the page the chat's id before the first event arrives."""
    headers = {**web.SSE_HEADERS, "X-Chat-Id": stream.chat_id or ""}
    return StreamingResponse(web.sse(stream, keep_alive=10), headers=headers)
