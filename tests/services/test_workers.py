"""Two uvicorn workers behind one port: nothing of a conversation is kept in the process that began it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar

import httpx
import pytest

from inferencesh.testing import ScriptedRuntime
from tests.support import wait_until

from .support import parse_sse
from .uvicorns import Uvicorn


@pytest.fixture
def service(inference_runtime: ScriptedRuntime) -> Iterator[Uvicorn]:
    """The chat service with two workers."""
    with Uvicorn(inference_runtime.environment, workers=2) as service:
        yield service


@contextmanager
def only(worker: int, service: Uvicorn, cookies: CookieJar) -> Iterator[httpx.Client]:
    """A browser whose requests this worker alone can take: the others stand still meanwhile."""
    others = [each for each in service.workers() if each != worker]
    for other in others:
        os.kill(other, signal.SIGSTOP)
    try:
        with httpx.Client(base_url=service.address, timeout=5, cookies=cookies) as browser:
            yield browser
    finally:
        for other in others:
            os.kill(other, signal.SIGCONT)


def test_a_chat_begun_in_one_worker_goes_on_in_the_other(inference_runtime: ScriptedRuntime, service: Uvicorn) -> None:
    """The question is asked by one worker, answered through the other, which has the rest of the reply."""
    one, other = service.workers()
    cookies = CookieJar()
    inference_runtime.reply("Let me ask. ", tool_calls=[("ask_person", {"question": "Which colour?"})])
    with only(one, service, cookies) as browser:
        (*_, last) = parse_sse(browser.post("/chat/stream", json={"text": "Paint the door"}).content)
    assert last.name == "input_required"
    chat_id, call_id = last.data["chat_id"], last.data["tool_calls"][0]["id"]

    inference_runtime.reply("Green it is.")
    inference_runtime.reply("You are welcome.")
    with only(other, service, cookies) as browser:
        assert browser.get(f"/chat/{chat_id}").json()["status"] == "awaiting_input"
        assert browser.post(f"/chat/{chat_id}/tools/{call_id}", json={"result": "green"}).status_code == 202
        (*_, last) = parse_sse(browser.get(f"/chat/{chat_id}/stream").content)
        assert (last.name, last.data["text"]) == ("done", "Green it is.")
    with only(one, service, cookies) as browser:
        answer = browser.post(f"/chat/{chat_id}", json={"text": "Thanks"})
        assert answer.json()["text"] == "You are welcome."


def test_a_reply_begun_in_one_worker_is_taken_up_in_the_other_while_it_is_written(
    inference_runtime: ScriptedRuntime, service: Uvicorn
) -> None:
    """The worker that streamed it dies; the browser finds the same reply, whole, at the other one."""
    one, other = service.workers()
    cookies = CookieJar()
    pieces = [f"{number} " for number in range(30)]
    inference_runtime.reply(pieces=pieces, pause=0.05)
    with (
        only(one, service, cookies) as browser,
        browser.stream("POST", "/chat/stream", json={"text": "Count"}) as answer,
    ):
        chat_id = answer.headers["x-chat-id"]
        events = answer.iter_bytes()
        next(events)
        os.kill(one, signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            list(events)
    with only(other, service, cookies) as browser:
        (*_, last) = parse_sse(browser.get(f"/chat/{chat_id}/stream").content)
    assert (last.name, last.data["text"]) == ("done", "".join(pieces))
    wait_until(lambda: inference_runtime.open_streams == 0, "nobody reads")
