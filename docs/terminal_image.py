"""Make ``docs/images/terminal.svg``, a conversation as ``inferencesh chat`` shows it, again.

python -m docs.terminal_image
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

from rich.console import Console
from rich.text import Text as Line

from inferencesh import Inference, tool
from inferencesh._chat.screen import RichFront
from inferencesh.local import Conversation, Piece, Reasoning, Text, ToolCall

__all__ = ["main"]

IMAGE = Path(__file__).parent / "images" / "terminal.svg"
QUESTION = "Which trains go from Lisbon to Porto tomorrow morning?"
ANSWER = """Two trains leave in the morning:

| Train | Leaves | Takes | Fare |
|---|---|---|---|
| **AP 131** | 09:30 | 2 h 48 | 34 € |
| IC 523 | 10:30 | 3 h 14 | 26 € |

The *Alfa Pendular* is faster. Shall I book two seats?
"""


@tool
def find_trains(origin: str, destination: str) -> dict[str, str]:
    """Find trains between two cities."""
    return {"from": origin, "to": destination, "09:30": "AP 131, 2 h 48", "10:30": "IC 523, 3 h 14"}


class TravelModel:
    """Looks trains up, and then answers."""

    async def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        if conversation.messages[-1].role == "tool":
            yield Text(ANSWER)
        else:
            yield Reasoning("They want to go by train. I look the connections up.")
            yield ToolCall("find_trains", {"origin": "Lisbon", "destination": "Porto"})


def main() -> None:
    """Write the image."""
    console = Console(record=True, width=92, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    front = RichFront(console)
    console.print(Line(f"> {QUESTION}\n"))
    with Inference.local(model=TravelModel(), pace=0) as client:
        agent = client.agent(name="travel", tools=[find_trains])
        agent.send_message(QUESTION)
        for message in agent.history():
            if message.role == "assistant":
                front.print_message(message)
    console.print(Line("> Yes, please"))
    IMAGE.write_text(console.export_svg(title="inferencesh chat"), encoding="utf-8")


if __name__ == "__main__":
    main()
