"""The embedded runtime of a run, in a process of its own: ``python -m tests.chaos.runtime FILE PACE``.

It prints its address, writes each result that a worker posts to the file, and ends when its standard input does.
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
    """Answers as the plan in the last message says."""

    async def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        """Yield some words, and then the calls of the next round, if there is one."""
        asked = max(at for at, message in enumerate(conversation.messages) if message.role == "user")
        plan = Plan.read(conversation.messages[asked].text)
        assert plan is not None, conversation.messages[asked].text
        results = [message.text for message in conversation.messages[asked:] if message.role == "tool"]
        for number, word in enumerate(plan.words(results)):
            yield Text(f" {word}" if number else word)
        for what in plan.round_of(len(results)) or []:
            yield ToolCall(TOOL, {"what": what})


async def serve(posted: Path, pace: float) -> None:
    """Serve until standard input ends, which it does when the process that started this one is gone."""
    with posted.open("a", buffering=1) as file:

        def observe(sent: SentMessage | SentResult | SentTask) -> None:
            if isinstance(sent, SentResult):
                file.write(json.dumps({"call": sent.call_id, "result": sent.result}) + "\n")

        async with LocalRuntime(model=ScriptedModel(), pace=pace, observer=observe) as runtime:
            print(runtime.base_url, runtime.api_key, flush=True)
            await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), float(sys.argv[2])))
