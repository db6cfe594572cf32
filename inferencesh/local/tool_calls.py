"""What becomes of the calls in a model's answer: who has to answer each, and what is known of it at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .records import Block, Invocation, Message
from .writer import FINISH, ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .chats import Chat, Run
    from .writer import WrittenCall

__all__ = ("add_call", "finishing_call", "result_messages")


def finishing_call(run: Run, calls: Sequence[WrittenCall]) -> WrittenCall | None:
    """Return the call that ends the run with an output, or None when it goes on.

    Raises:
        ModelError: It is not the only call.
    """
    if not run.config.finishes:
        return None
    finish = next((call for call in calls if call.name == FINISH and call.asks is None), None)
    if finish is not None and len(calls) > 1:
        raise ModelError("The model finished and called tools in one step; nobody would wait for their results.")
    return finish


def add_call(chat: Chat, run: Run, reply: Message, call: WrittenCall) -> Invocation:
    """Turn a call into an invocation of its message.

    A tool of the agent waits for its approval, or right away for its result; a question waits for a person. Finishing
    needs neither. A tool that nobody offered is answered here, with an error.
    """
    invocation = Invocation(
        chat_id=chat.id,
        run_id=run.id,
        message_id=reply.id,
        call_id=call.id,
        name=call.name,
        arguments=call.arguments,
    )
    tool = next((tool for tool in run.config.tools if tool.name == call.name), None)
    if call.asks is not None:
        invocation.type = "internal"
        invocation.widget = call.widget
        invocation.wait_for(call.asks)
    elif call.name == FINISH and run.config.finishes:
        invocation.type = "internal"
        invocation.end("completed")
    elif tool is None:
        invocation.end("failed", f"Error: there is no tool named {call.name!r}.")
    elif tool.requires_approval and not (run.config.allow_all_tools or tool.name in chat.allowed_tools):
        invocation.wait_for("tool_approval")
    else:
        invocation.wait_for("client_tool")
    reply.invocations.append(invocation)
    return invocation


def result_messages(chat: Chat, reply: Message) -> list[Message]:
    """Return one new message per result, in the order of the calls."""
    first = chat.next_order()
    return [
        Message(
            chat_id=chat.id,
            role="tool",
            order=order,
            status="ready",
            blocks=[Block("text", invocation.result), *invocation.attachments],
            run_id=invocation.run_id,
            tool_call_id=invocation.call_id,
        )
        for order, invocation in enumerate(reply.invocations, first)
    ]
