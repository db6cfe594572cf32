"""``LlamaModel`` with a real model: loading, freeing, and files that cannot be used."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from inferencesh import AsyncInference, ConfigurationError, RunFailedError
from inferencesh.local import Conversation, ConversationMessage, Text
from inferencesh.local.models import LlamaModel

pytestmark = [pytest.mark.llm, pytest.mark.timeout(180)]

BRIEF = {"temperature": 0, "max_tokens": 8}


def threads() -> int:
    """The threads of this process, those of llama.cpp included."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


async def test_it_is_loaded_when_needed_and_freed_with_the_runtime() -> None:
    """Afterwards its threads are gone; it can be used again."""
    before = threads()
    model = LlamaModel(threads=1, settings=BRIEF)
    for _ in range(2):
        async with AsyncInference.local(model=model) as client:
            assert threads() <= before + 2  # the runtime's own
            assert (await client.agent({"name": "x"}).send_message("Hello")).text
            assert threads() > before + 2
        deadline = time.monotonic() + 10
        while threads() > before + 1 and time.monotonic() < deadline:
            threading.Event().wait(0.05)
        assert threads() <= before + 1  # a worker of the loop may still be idle


async def test_two_first_messages_load_it_once() -> None:
    """The one that is given up does not stop the other."""
    model = LlamaModel(threads=1, settings=BRIEF)
    conversation = Conversation((ConversationMessage("user", "Hello"),))
    given_up = model.respond(conversation)
    try:
        await model.start()
        loaded = model._server
        pieces = [piece async for piece in given_up]
        assert any(isinstance(piece, Text) for piece in pieces)
        assert model._server is loaded
    finally:
        await model.aclose()


async def test_a_damaged_model_fails_the_run_with_a_sentence(tmp_path: Path) -> None:
    """It begins like a GGUF file, and is none."""
    file = tmp_path / "damaged.gguf"
    file.write_bytes(b"GGUF" + b"\xff" * 4096)
    model = LlamaModel(file)
    with pytest.raises(ConfigurationError, match=r"llama\.cpp cannot use"):
        await model.start()
    async with AsyncInference.local(model=model) as client:
        with pytest.raises(RunFailedError, match=r"cannot be loaded: llama\.cpp cannot use"):
            await client.agent({"name": "x"}).send_message("Hello")


def test_the_description_says_what_it_is_and_what_it_cannot_do() -> None:
    assert "very small language model" in LlamaModel().description
    assert "cannot see images" in LlamaModel().description
    assert LlamaModel("/a/b.gguf").description == "/a/b.gguf, a language model on this machine, run by llama.cpp"
