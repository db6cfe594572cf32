"""What a model of the embedded runtime is: it reads a conversation and answers in pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

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
    "Widget",
]


@frozen
class Text:
    """A piece of the answer's text; pieces are joined as they are, so spaces belong to them."""

    text: str


@frozen
class Reasoning:
    """A piece of what the model thinks aloud before it answers."""

    text: str


@frozen
class ToolCall:
    """A call of one of the conversation's tools; several in one answer run side by side.

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

    name: str
    arguments: Mapping[str, object]


@frozen
class Ask:
    """A question that a person answers with yes or no; the run waits for the decision.

    Args:
        question: What is asked.
        reason: What it is about: something to confirm, or a sign-in that is needed first.

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
    reason: Literal["confirmation", "auth"] = "confirmation"


@frozen
class Widget:
    """A form or a row of buttons; the run waits for what a person does with it.

    Args:
        surface: The widget as the wire has it: `version`, `surfaceId`, `components` and so on.
    """

    surface: Mapping[str, object]


@frozen
class Finish:
    """The model is done and hands over its output: it calls the agent's `finish` tool, and the run is completed.

    Only an agent with an output schema, or whose `internal_tools` turn `finish` on, has that tool; a step that finishes
    calls no others. The output is not held against the schema, so that clients can be tested with what does not fit.

    Args:
        output: Any JSON value.

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


@frozen
class Fail:
    """The model gives up: the run ends as failed with this detail.

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


Piece: TypeAlias = Text | Reasoning | ToolCall | Ask | Widget | Finish | Fail
"""What a model's answer is made of."""


@frozen
class PastCall:
    """A tool call that an earlier step of the conversation made, and that was answered."""

    id: str
    name: str
    arguments: Mapping[str, object]


@frozen
class Attachment:
    """A file that came with a message or a tool's result.

    Args:
        uri: Where it is. One that was uploaded to the runtime can be read there without a key.
        filename: Its name, or "" when nobody said.
        content_type: Its MIME type, or "" when nobody said.
        size: Bytes; 0 when nobody said.
    """

    uri: str
    filename: str = ""
    content_type: str = ""
    size: int = 0


@frozen
class ConversationMessage:
    """One message so far: the user's, the assistant's, or the result of a tool.

    Args:
        role: Who speaks.
        text: The message's whole text; for a tool, its result.
        tool_calls: The calls an assistant message made.
        tool_call_id: For a tool's result, the `PastCall.id` that it answers.
        attachments: The files that came with the message.
    """

    role: Literal["user", "assistant", "tool"]
    text: str
    tool_calls: tuple[PastCall, ...] = ()
    tool_call_id: str | None = None
    attachments: tuple[Attachment, ...] = ()


@frozen
class OfferedTool:
    """A tool the model may call, with the JSON Schema of its arguments.

    A call of one that `requires_approval` waits until a person allows it; one that is rejected comes back with a result
    that says so.
    """

    name: str
    description: str = ""
    input_schema: Mapping[str, object] = field(factory=dict)
    requires_approval: bool = False


@frozen
class Conversation:
    """All a model is given for one step: it never sees the server behind it.

    Args:
        messages: Everything said so far.
        system_prompt: The agent's instructions.
        tools: What the model may call.
        context: The chat's variables.
        output_schema: The JSON Schema of the output to `Finish` with, or None when any will do.
        finishes: Whether the agent has a `finish` tool at all.

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
    context: Mapping[str, str] = field(factory=dict)
    output_schema: Mapping[str, object] | None = None
    finishes: bool = False


class Model(Protocol):
    """Answers a conversation, one step at a time.

    After a step that calls tools or asks, `respond` is called again with the answers in the conversation; those to
    `Ask` and `Widget` are results of tools called `ask` and `widget`. A step that does neither, or finishes, is the
    last.

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
        """Yield the next answer in pieces; write it as an async generator.

        Args:
            conversation: Everything said so far, the tools on offer and the chat's context.

        Raises:
            Exception: Whatever is raised ends the run as failed and leaves the server running.
        """
        ...
