"""Show the ways to stream replies and to use tools: every snippet of the documentation's streaming page, in order.

Run it with ``make demo``, or with ``python examples/streaming.py`` if the package is installed. It needs no API key and
no network: the embedded runtime answers, an offline stand-in that is not a language model.

The snippets of the documentation call ``print`` for each update. Each update is the whole message so far, so that would
fill the screen with the same text again and again; ``screen.rewrite`` replaces the update before instead.
"""

# ruff: noqa: FBT001 - on_message has the parameters that the documentation shows

from __future__ import annotations

import asyncio
import os
import sys

from calculate import calculate
from screen import Screen

from inferencesh import AsyncInference, Inference, ToolCall, __version__, string, tool

screen = Screen()


def basic_streaming(client: Inference) -> None:
    agent = client.agent({"name": "storyteller"})

    for message in agent.send_message("Tell me a story", stream=True):
        screen.rewrite(message.text)  # Full message content so far


def message_callbacks(client: Inference) -> None:
    agent = client.agent({"name": "storyteller"})

    def on_message(text: str, done: bool) -> None:
        if done:
            screen.rewrite(f"[Complete] Final: {text}")
        else:
            screen.rewrite(f"Current message: {text}")

    agent.send_message("Tell me a story about a cat", on_message=on_message)


def tool_call_callbacks(client: Inference) -> None:
    calculator = (
        tool("calculator")
        .describe("Do math")
        .param("expression", string("Expression"))
        .handler(calculate)  # runs when the agent calls the tool
        .build()
    )
    agent = client.agent({"name": "mathematician", "tools": [calculator]})

    def on_tool_call(tool_call: ToolCall) -> None:
        screen.line(f"Calling: {tool_call.name}")
        screen.line(f"Args: {tool_call.arguments}")
        # Tool is executed automatically if handler is defined

    response = agent.send_message("What's 42 * 17?", on_tool_call=on_tool_call)
    screen.line(response.text)


def manual_tool_handling(client: Inference) -> None:
    calculator = (
        tool("calculator").describe("Do math").param("expression", string("Expression")).build()  # No handler
    )
    agent = client.agent({"name": "mathematician", "tools": [calculator]})

    response = agent.send_message("What's 42 * 17?")

    # Check for pending tool calls
    if response.pending_tool_calls:
        for tc in response.pending_tool_calls:
            result = calculate(tc.arguments["expression"])
            screen.line(f"Submitting {result} for {tc.name} {tc.arguments}")
            agent.submit_tool_result(tc.id, str(result))
        response = agent.wait()
    screen.line(response.text)


def combined_callbacks(client: Inference) -> None:
    painter = (
        tool("generate_image")
        .describe("Generate an image")
        .param("prompt", string("What it shows"))
        .handler(lambda prompt: f"a sketch of {prompt}, in sunset.png (this demo draws nothing)")
        .build()
    )
    agent = client.agent({"name": "painter", "tools": [painter]})

    def on_message(text: str, done: bool) -> None:
        if done:
            screen.line(f"Final: {text}")
        else:
            screen.rewrite(f"Progress: {text[:50]}...")

    def on_tool_call(tool_call: ToolCall) -> None:
        screen.line(f"[Tool: {tool_call.name}]")

    agent.send_message("Generate an image of a sunset", on_message=on_message, on_tool_call=on_tool_call)


async def async_client() -> None:
    async with AsyncInference.local() as client:
        agent = client.agent({"name": "greeter"})

        async for message in agent.send_message("Hello", stream=True):
            screen.rewrite(message.text)


SNIPPETS = (
    ("Basic streaming", basic_streaming),
    ("Message callbacks", message_callbacks),
    ("Tool call callbacks, for a tool with a handler", tool_call_callbacks),
    ("Manual tool handling, for a tool without a handler", manual_tool_handling),
    ("Combined callbacks", combined_callbacks),
)


def main() -> None:
    """Show the code of each snippet, then run it."""
    print(f"inferencesh {__version__} with the embedded runtime, an offline stand-in that is not a language model.")
    print("In the code below, screen.line prints a text, and screen.rewrite prints it in place of the one before.")
    with Inference.local() as client:
        for title, snippet in SNIPPETS:
            screen.heading(title)
            screen.code(snippet)
            snippet(client)
            screen.conclude()
    screen.heading("Async client")
    screen.code(async_client)
    asyncio.run(async_client())
    screen.conclude()
    print("\nNext: chat with an agent in the browser (make demo-web), or read README.md.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # as in "python examples/streaming.py | head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at exit
        sys.exit(1)
