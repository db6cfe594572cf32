"""What answers without INFERENCE_API_KEY: a stand-in for a language model, which knows how to plan one trip."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final

from inferencesh.local import Conversation, DemoModel, Piece, Text, ToolCall

__all__ = ["OfflineModel"]

TRIP: Final = re.compile(r"\b(trip|travel|journey|holiday|vacation|weekend)\b", re.IGNORECASE)
QUESTION: Final = re.compile(r"\bask (me|us)\b|\bquestions? for me\b", re.IGNORECASE)
QUOTED: Final = re.compile(r"[“\"](.+?)[”\"]")
PLAN: Final = """\
## Three days in {place}

| Day | Morning | Evening |
|---|---|---|
| 1 | Arrive, **stroll** through the old town | Dinner by the water |
| 2 | A museum, then the market | A concert |
| 3 | Breakfast with a view | The train home |

Pack *light*, and bring good shoes. Shall I book it?
"""


class OfflineModel(DemoModel):
    """Asks questions, plans a trip and wants to book it; all else is answered by the demo model."""

    async def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        """Yield the answer to the last message."""
        pieces = rehearsed(conversation)
        if pieces is None:
            async for piece in super().respond(conversation):
                yield piece
            return
        for piece in pieces:
            yield piece


def rehearsed(conversation: Conversation) -> list[Piece] | None:
    """Return the answer to what was rehearsed, or None."""
    prompt = next(each.text for each in reversed(conversation.messages) if each.role == "user")
    last = conversation.messages[-1]
    if last.role == "user":
        return opening(prompt)
    calls = {call.id: call for message in conversation.messages for call in message.tool_calls}
    match calls[last.tool_call_id or ""].name:
        case "ask_person" if TRIP.search(prompt):
            place = re.sub(r"[^\w ,'-]", "", last.text)[:60].strip() or "the next town"
            return [*words(PLAN.format(place=place)), ToolCall("book_trip", {"destination": place, "nights": 2})]
        case "ask_person":
            return words(
                f"“{last.text}” is a good answer. Ask me to **plan a trip**, and I will ask what I need to know."
            )
        case "book_trip":
            rejected = last.text.startswith("Error")
            return words("All right, nothing was booked." if rejected else f"Done: {last.text} *Have a good time!*")
        case _:
            return None


def opening(prompt: str) -> list[Piece] | None:
    """Return the question that a message leads to, or None."""
    quoted = QUOTED.search(prompt)
    if QUESTION.search(prompt):
        question = quoted[1] if quoted else "Which place would you like to see once in your life?"
        return [ToolCall("ask_person", {"question": question})]
    if TRIP.search(prompt):
        return [*words("Gladly. One question first."), ToolCall("ask_person", {"question": "Where shall it go?"})]
    return None


def words(text: str) -> list[Piece]:
    """Return a text word by word, as language models write it."""
    return [Text(word) for word in re.findall(r"\s*\S+\s*?", text)]
