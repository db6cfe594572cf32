"""What an observer of the runtime is called with: the messages, tool results and tasks that clients send."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import attrs

__all__ = ["Observer", "SentMessage", "SentResult", "SentTask"]


@attrs.frozen
class SentMessage:
    """A message that a client sent.

    Args:
        text: The text.
        chat_id: The chat it was sent to, or None for a new chat.
        body: The whole body of the request, with the agent, the context and the attachments.

    Example:
        ```python
        seen = []
        with Inference.local(observer=seen.append, pace=0) as client:
            client.agent({"name": "greeter"}).send_message("Hello")
        print(seen[0].text, seen[0].chat_id)
        ```

        ```text
        Hello None
        ```
    """

    text: str
    chat_id: str | None = None
    body: Mapping[str, object] = attrs.field(factory=dict, repr=False)


@attrs.frozen
class SentResult:
    """The result of a tool call that a client sent.

    Args:
        name: The tool's name.
        arguments: The arguments of the call.
        result: The result as it was sent: text, or JSON text for any other value.
        call_id: The call's id.
        chat_id: The chat the call belongs to.

    Example:
        ```python
        seen = []
        clock = tool("clock").describe("Tell the time").handler(lambda: "noon").build()
        with Inference.local(observer=seen.append, pace=0) as client:
            client.agent({"name": "usher", "tools": [clock]}).send_message("What is the time on the clock?")
        print(seen[-1].name, seen[-1].result)
        ```

        ```text
        clock noon
        ```
    """

    name: str
    arguments: Mapping[str, object]
    result: str
    call_id: str
    chat_id: str


@attrs.frozen
class SentTask:
    """A task that a client wants to run.

    Args:
        app: The app's name, without version and function.
        function: The function's name.
        input: The input, in which files are URIs.
        body: The whole body of the request.

    Example:
        ```python
        seen = []
        with Inference.local(observer=seen.append, pace=0) as client:
            client.tasks.run("demo/slow@v1", {"steps": 1})
        print(seen[0].app, seen[0].function, seen[0].input)
        ```

        ```text
        demo/slow run {'steps': 1}
        ```
    """

    app: str
    function: str
    input: Any
    body: Mapping[str, object] = attrs.field(factory=dict, repr=False)


Observer: TypeAlias = Callable[[SentMessage | SentResult | SentTask], None]
"""Called on the runtime's loop before a request is answered. A ProblemError raised for a message or task refuses it."""
