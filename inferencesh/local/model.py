"""The interface of the models that the embedded runtime answers with.

A model receives a conversation and yields its answer in pieces.
"""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Literal, Protocol, TypeAlias

import attrs
from attrs.validators import in_, instance_of

__all__ = [
    "Ask",
    "Attachment",
    "Conversation",
    "ConversationMessage",
    "Fail",
    "Finish",
    "Model",
    "OfferedTool",
    "PastCall",
    "Piece",
    "Reasoning",
    "Text",
    "ToolCall",
    "Usage",
    "Widget",
]


@attrs.frozen
class Text:
    """A piece of the answer's text. Pieces are joined without separators."""

    text: str = attrs.field(validator=instance_of(str))


@attrs.frozen
class Reasoning:
    """A piece of the model's reasoning."""

    text: str = attrs.field(validator=instance_of(str))


@attrs.frozen
class ToolCall:
    """A call of one of the conversation's tools. Several calls in one answer run concurrently.

    Example:
        ```python
        class Caller:
            async def respond(self, conversation):
                if conversation.messages[-1].role == "tool":
                    yield Text(f"It is {conversation.messages[-1].text}.")
                else:
                    yield ToolCall("clock", {"zone": "UTC"})


        clock = tool("clock").param("zone", string()).handler(lambda zone: f"noon in {zone}").build()
        with Inference.local(model=Caller()) as client:
            print(client.agent({"name": "usher", "tools": [clock]}).send_message("What time is it?").text)
        ```

        ```text
        It is noon in UTC.
        ```
    """

    name: str = attrs.field(validator=instance_of(str))
    arguments: Mapping[str, object]


@attrs.frozen
class Ask:
    """A question that a person answers with yes or no; the run waits for the answer.

    Args:
        question: The text of the question.
        reason: Whether the person confirms something or has to sign in first.

    Example:
        ```python
        class Careful:
            async def respond(self, conversation):
                if conversation.messages[-1].role == "user":
                    yield Ask("Publish it?")
                else:
                    yield Text("So be it.")


        with Inference.local(model=Careful()) as client:
            agent = client.agent({"name": "editor"})
            agent.send_message("Publish the report")
            (question,) = agent.get_chat().pending_interrupts
            agent.resolve_interrupt(question.id, "allow")
            print(agent.wait().text)
        ```

        ```text
        So be it.
        ```
    """

    question: str
    reason: Literal["confirmation", "auth"] = attrs.field(
        default="confirmation", validator=in_(("confirmation", "auth"))
    )


@attrs.frozen
class Widget:
    """A form or a row of buttons; the run waits for a person to use it.

    Args:
        surface: The widget in wire form: ``version``, ``surfaceId``, ``components`` and so on.
    """

    surface: Mapping[str, object]


@attrs.frozen
class Finish:
    """A call of the agent's ``finish`` tool with the final output; the run is then completed.

    An agent has this tool if it has an output schema or its ``internal_tools`` enable ``finish``; one that is only
    named may have it. A step that finishes must not call other tools. The output is not validated against the schema,
    so that clients can be tested with invalid outputs.

    Args:
        output: Any JSON value, or what becomes one: an instance of attrs, a dataclass, a model of pydantic, an enum, …

    Example:
        ```python
        class Rater:
            async def respond(self, conversation):
                yield Finish({"stars": 4})


        with Inference.local(model=Rater()) as client:
            agent = client.agent({"name": "rater", "output_schema": obj({"stars": integer()})})
            print(agent.run("How many stars?"))
        ```

        ```text
        {'stars': 4}
        ```
    """

    output: object


@attrs.frozen
class Fail:
    """A failure: the run ends as failed with this detail.

    Example:
        ```python
        class Broken:
            async def respond(self, conversation):
                yield Text("Once upon")
                yield Fail("out of stories")


        with Inference.local(model=Broken()) as client:
            try:
                client.agent({"name": "storyteller"}).send_message("Tell me a story")
            except RunFailedError as error:
                print(error.message.text, "-", error.detail)
        ```

        ```text
        Once upon - out of stories
        ```
    """

    detail: str


@attrs.frozen
class Usage:
    """What one request to a language model has cost, in tokens; a run's record holds the sum of its steps.

    Args:
        prompt_tokens: The tokens of the conversation.
        completion_tokens: The tokens of the answer, reasoning included.

    Example:
        ```python
        class Counted:
            async def respond(self, conversation):
                yield Text("Good morning")
                yield Usage(prompt_tokens=9, completion_tokens=2)


        with Inference.local(model=Counted()) as client:
            print(client.agent({"name": "greeter"}).send_message("Hello").text)
        ```

        ```text
        Good morning
        ```
    """

    prompt_tokens: int = attrs.field(converter=operator.index)
    completion_tokens: int = attrs.field(converter=operator.index)


Piece: TypeAlias = Text | Reasoning | ToolCall | Ask | Widget | Finish | Fail | Usage
"""Any part of a model's answer."""


@attrs.frozen
class PastCall:
    """A tool call of an earlier step that has been answered."""

    id: str
    name: str
    arguments: Mapping[str, object]


@attrs.frozen
class Attachment:
    """A file attached to a message or a tool's result.

    Args:
        uri: The file's URL. Files uploaded to the runtime can be read without an API key.
        filename: The name, or "" if unknown.
        content_type: The MIME type, or "" if unknown.
        size: The size in bytes, or 0 if unknown.
        read: Returns the bytes of a file that was uploaded to the runtime; None for files elsewhere.
    """

    uri: str
    filename: str = ""
    content_type: str = ""
    size: int = 0
    read: Callable[[], Awaitable[bytes]] | None = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen
class ConversationMessage:
    """One message of the conversation: the user's, the assistant's, or a tool's result.

    Args:
        role: The author of the message.
        text: The whole text; for a tool, its result.
        tool_calls: The calls that an assistant message made.
        tool_call_id: For a tool's result, the ``PastCall.id`` that it answers.
        attachments: The attached files.
    """

    role: Literal["user", "assistant", "tool"]
    text: str
    tool_calls: tuple[PastCall, ...] = ()
    tool_call_id: str | None = None
    attachments: tuple[Attachment, ...] = ()


@attrs.frozen
class OfferedTool:
    """A tool the model may call, with the JSON Schema of its arguments.

    A call of a tool with ``requires_approval`` waits until a person allows it; if it is rejected, its result says so.
    """

    name: str
    description: str = ""
    input_schema: Mapping[str, object] = attrs.field(factory=dict)
    requires_approval: bool = False


@attrs.frozen
class Conversation:
    """Everything a model is given for one step.

    Args:
        messages: The messages so far.
        system_prompt: The agent's instructions.
        tools: The tools the model may call.
        context: The chat's variables.
        output_schema: The JSON Schema of the output of ``Finish``, or None if there is none.
        finishes: Whether the agent has a ``finish`` tool.
        settings: The ``input`` of the agent's ``core_app``, such as ``{"temperature": 0.2}``. It comes from a client.

    Example:
        ```python
        class Counter:
            async def respond(self, conversation):
                asked = [message for message in conversation.messages if message.role == "user"]
                yield Text(f"Question {len(asked)} to {conversation.context['name']}")


        with Inference.local(model=Counter()) as client:
            agent = client.agent({"name": "counter"}, context={"name": "Ann"})
            print(agent.send_message("Hello").text)
        ```

        ```text
        Question 1 to Ann
        ```
    """

    messages: tuple[ConversationMessage, ...]
    system_prompt: str = ""
    tools: tuple[OfferedTool, ...] = ()
    context: Mapping[str, str] = attrs.field(factory=dict)
    output_schema: Mapping[str, object] | None = None
    finishes: bool = False
    settings: Mapping[str, object] = attrs.field(factory=dict)


class Model(Protocol):
    """The protocol of models: they answer a conversation, one step at a time.

    After a step that calls tools or asks a question, ``respond`` is called again with the answers in the conversation;
    answers to ``Ask`` and ``Widget`` appear as results of tools named ``ask`` and ``widget``. The run ends with the
    first step that does neither, or that finishes. If a model has an async method ``aclose``, the runtime calls it when
    it is closed; if it has a true attribute ``paces_itself``, the runtime adds no pauses of its own.

    Example:
        ```python
        class Echo:
            async def respond(self, conversation):
                for word in conversation.messages[-1].text.split():
                    yield Text(f"{word} ")


        with Inference.local(model=Echo()) as client:
            print(client.agent({"name": "echo"}).send_message("Good morning").text)
        ```

        ```text
        Good morning
        ```
    """

    def respond(self, conversation: Conversation) -> AsyncIterator[Piece]:
        """Yield the next answer in pieces; usually an async generator.

        Args:
            conversation: The messages so far, the available tools and the chat's context.

        Raises:
            Exception: Any exception ends the run as failed; the server keeps running.
        """
        ...
