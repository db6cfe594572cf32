"""The embedded runtime of a run, in a process of its own: ``python -m tests.chaos.runtime ADDRESS ACCEPTED PACE``.

It writes its address to one file, and each accepted result to another one.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from inferencesh.local import Conversation, LocalRuntime, Piece, SentMessage, SentResult, SentTask, Text, ToolCall

from .plan import TOOL, Plan

__all__: list[str] = []


class ScriptedModel:
    """Answers according to the plan in the last user message."""

    async def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        """Yield some words, then the calls of the next round, if there is one."""
        asked = max(at for at, message in enumerate(conversation.messages) if message.role == "user")
        plan = Plan.read(conversation.messages[asked].text)
        assert plan is not None, conversation.messages[asked].text
        results = [message.text for message in conversation.messages[asked:] if message.role == "tool"]
        for number, word in enumerate(plan.words(results)):
            yield Text(f" {word}" if number else word)
        for what in plan.round_of(len(results)) or []:
            yield ToolCall(TOOL, {"what": what})


async def serve(address: Path, accepted: Path, pace: float) -> None:
    """Serve until killed."""
    with accepted.open("a", buffering=1) as file:

        def observe(sent: SentMessage | SentResult | SentTask) -> None:
            if isinstance(sent, SentResult):
                file.write(json.dumps({"call": sent.call_id, "result": sent.result}) + "\n")

        async with LocalRuntime(model=ScriptedModel(), pace=pace, observer=observe) as runtime:
            unfinished = address.with_suffix(".new")
            unfinished.write_text(f"{runtime.base_url} {runtime.api_key}")
            unfinished.rename(address)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])))
