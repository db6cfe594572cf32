"""Programs that tests run in a process of their own: ``python -m tests.clients.programs NAME``.

All but the last two use the embedded runtime in the same process; those use the one that their environment names. They
say on stdout how far they are.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading

from inferencesh import AsyncInference, Inference, InputRequiredError, Message, string, tool

kept: list[object] = []  # until the interpreter ends


def say(word: str) -> None:
    """Tell the test."""
    print(word, flush=True)


def stuck() -> None:
    """A sync handler of the async client that never returns, in a turn that was given up."""

    begun = threading.Event()

    def handler(expression: str) -> None:
        begun.set()
        threading.Event().wait()

    async def main() -> None:
        worker = tool("calculator").param("expression", string()).handler(handler).build()
        config = {"name": "t", "tools": [worker]}
        async with AsyncInference.local(pace=0) as client:
            turn = asyncio.create_task(client.agent(config).send_message("What's 42 * 17?"))
            await asyncio.to_thread(begun.wait)
            turn.cancel()
            await asyncio.wait([turn])
            say("over")

    asyncio.run(main())


def page() -> None:
    """The async snippet of the documentation: nothing is ever closed."""

    async def main() -> None:
        client = AsyncInference.local(pace=0)
        agent = client.agent({"name": "t"})
        async for message in agent.send_message("Hello", stream=True):
            kept[:] = [message]
        say("over")

    asyncio.run(main())


def page_left_early() -> None:
    """The same, left in the middle, with everything still referenced at exit."""

    async def main() -> None:
        client = AsyncInference.local()
        stream = client.agent({"name": "t"}).send_message("Tell me a story", stream=True)
        kept.extend([client, stream])
        async for _ in stream:
            say("over")
            break

    asyncio.run(main())


def page_raises() -> None:
    """The same, ended by an exception from the middle of a stream; its traceback is all there is to see."""

    async def main() -> None:
        client = AsyncInference.local()
        async for _ in client.agent({"name": "t"}).send_message("Tell me a story", stream=True):
            say("over")
            raise SystemExit(3)

    asyncio.run(main())


def calculator() -> object:
    """A tool with an async handler, which keeps the loop busy."""

    async def work(expression: str) -> str:
        await asyncio.sleep(0)
        return expression

    return tool("calculator").param("expression", string()).handler(work).build()


def sync() -> None:
    """The blocking client, never closed, after a turn with a tool and in the middle of another."""
    client = Inference.local()
    agent = client.agent({"name": "t", "tools": [calculator()]})
    agent.send_message("What's 42 * 17?")
    stream = client.agent({"name": "t"}).send_message("Tell me a story", stream=True)
    next(stream)
    kept.extend([client, agent, stream])
    say("over")


def sync_in_a_thread() -> None:
    """A daemon thread is in the middle of a stream when the interpreter ends."""
    reading = threading.Event()

    def read() -> None:
        for _ in Inference.local(pace=0.01).agent({"name": "t"}).send_message("Tell me a story", stream=True):
            reading.set()

    threading.Thread(target=read, daemon=True).start()
    reading.wait(5)
    say("over")


def response_in_a_thread() -> None:
    """The same with a response that is not opened again; it is given the address of its server."""
    reading = threading.Event()

    def read() -> None:
        for _ in Inference("key", base_url=sys.argv[2]).stream("GET", "/lines"):
            reading.set()

    threading.Thread(target=read, daemon=True).start()
    reading.wait(5)
    say("over")


def interrupted() -> None:
    """Ctrl-C while the blocking client waits for a slow reply; then the client still works."""
    with Inference.local(pace=0.05) as client:
        agent = client.agent({"name": "t"})
        try:
            agent.send_message("Tell me a story", on_message=lambda _text, _done: say("waiting"))
        except KeyboardInterrupt:
            say("interrupted")
        agent.stop()
        say(agent.wait().status)


def interrupted_async() -> None:
    """Ctrl-C under asyncio.run, with nothing closed."""

    async def main() -> None:
        async for _ in (
            AsyncInference.local(pace=0.05).agent({"name": "t"}).send_message("Tell me a story", stream=True)
        ):
            say("waiting")

    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        say("interrupted")


def forked() -> None:
    """A fork in the middle of a stream: the child has a whole turn with the runtime of its parent, which reads on."""
    with Inference.local(pace=0.005) as client:
        seen: list[Message] = []
        for message in client.agent({"name": "t"}).send_message("Tell me a story", stream=True):
            seen.append(message)
            if len(seen) == 3:
                child = os.fork()
                if child == 0:
                    signal.alarm(10)
                    say(f"child {client.agent({'name': 't'}).send_message('Hello').status}")
                    sys.exit(0)
        _, status = os.waitpid(child, 0)
        say(f"child ended {os.waitstatus_to_exitcode(status)}")
        say(f"parent {seen[-1].status}")
        assert "".join(message.delta or "" for message in seen) == seen[-1].text


def requester() -> None:
    """Asks for something that somebody in another process has to approve, and waits until it is done."""
    with Inference() as client:
        built = tool("refund").param("order", string()).require_approval().handler(lambda order: f"{order} refunded")
        agent = client.agent({"name": "shop", "tools": [built.build()]})
        message = agent.send_message('Refund "17"')
        say(f"{agent.chat_id} {message.done} {message.paused}")
        message = agent.wait(until="end")
        say(f"{message.paused} {message.text}")


def approver() -> None:
    """Approves what a chat waits for, which it has no tools for; a message that it sends before that is refused."""
    with Inference() as client:
        agent = client.agent({}, chat_id=sys.argv[2])
        try:
            agent.send_message("What is the matter?")
        except InputRequiredError as error:
            say(",".join(call.name for call in error.pending_approvals))
        for call in agent.wait().pending_approvals:
            agent.approve_tool(call)
        say("approved")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
