"""``ScriptedRuntime``: an embedded runtime that answers with scripted replies and records what it receives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from inferencesh.local import BackgroundRuntime, LocalRuntime, SentMessage, SentResult, SentTask
from inferencesh.local.errors import ProblemError

from .script import CallSpec, Reply, Script, ScriptedModel, read_call, read_pieces
from .tasks import ScriptedApp, TaskReply, TaskScript

__all__ = ["ScriptedRuntime"]


class ScriptedRuntime:
    """A server on the loopback interface, in a background thread, for one test.

    It speaks the service's protocol. Clients in the test, in the program under test and in other processes connect to
    it with ``base_url`` and ``api_key``, or with ``environment``. Replies are used in the order in which they were
    scripted: one for each message, and one for the results of each step's tool calls.

    Attributes:
        requests: The messages received, in order; each with text, chat_id (None for a new chat) and body.
        tool_results: The results of tool calls received, in order; each with name, arguments, result and ids.
        tasks: The tasks received, in order; each with app, function, input and body.

    Example:
        ```python
        with ScriptedRuntime() as runtime:
            runtime.reply("Hello!")
            with Inference(runtime.api_key, base_url=runtime.base_url) as client:
                print(client.agent({"name": "greeter"}).send_message("Greet me").text)
            print(runtime.requests[0].text)
        ```

        ```text
        Hello!
        Greet me
        ```
    """

    def __init__(self) -> None:
        self.requests: list[SentMessage] = []
        self.tool_results: list[SentResult] = []
        self.tasks: list[SentTask] = []
        self._script = Script()
        self._task_script = TaskScript(self._script)
        model = ScriptedModel(self._script, lambda: self._background.runtime)
        app = ScriptedApp(self._task_script, lambda: self._background.runtime)
        self._background = BackgroundRuntime(
            model=model, pace=0.0, replay=True, observer=self._take, apps={"*": app.run}, max_tasks=64
        )

    def reply(
        self,
        text: str = "",
        *,
        tool_calls: Iterable[CallSpec] = (),
        output: object = None,
        pieces: Sequence[str] | None = None,
        delay: float = 0.0,
        pause: float = 0.0,
        fail: str | None = None,
        drop_after: int | None = None,
        refuse: int | None = None,
    ) -> None:
        """Script the next reply.

        Args:
            text: The text, streamed word by word.
            tool_calls: The calls after the text, each ``("name", {arguments})`` or
                ``{"name": ..., "arguments": {...}}``; the next scripted reply follows their results.
            output: What the agent returns for an ``output_type`` or its own ``output_schema``: JSON, or an instance of
                a class such as the ``output_type``. What does not fit is sent too, for tests of an ``OutputError``.
            pieces: The text as the pieces to stream; each arrives as one snapshot.
            delay: Seconds before the first piece.
            pause: Seconds between the pieces.
            fail: The error with which the run fails after the text.
            drop_after: The number of pieces after which all streams break, so that clients reconnect.
            refuse: An HTTP status with which the next message is refused instead. After 429 and 503 the client sends
                it again, ``max_retries`` times: script a reply for each.

        Raises:
            TypeError, ValueError: An argument is invalid.

        Example:
            ```python
            with ScriptedRuntime() as runtime:
                runtime.reply("Let me see. ", tool_calls=[("clock", {})])
                runtime.reply("It is noon.", pause=0.01)
                clock = tool("clock").handler(lambda: "12:00").build()
                with Inference(runtime.api_key, base_url=runtime.base_url) as client:
                    print(client.agent({"name": "usher", "tools": [clock]}).send_message("What time is it?").text)
                print(runtime.tool_results[0].result)
            ```

            ```text
            It is noon.
            12:00
            ```
        """
        calls = tuple(read_call(spec) for spec in tool_calls)
        self._script.add(
            Reply(
                pieces=read_pieces(text, pieces),
                tool_calls=calls,
                output=output,
                delay=delay,
                pause=pause,
                fail=fail,
                drop_after=drop_after,
                refuse=refuse,
            )
        )

    def task(
        self,
        output: object = None,
        *,
        progress: Sequence[float] = (),
        logs: Sequence[str] = (),
        delay: float = 0.0,
        pause: float = 0.0,
        fail: str | None = None,
        drop_after: int | None = None,
        refuse: int | None = None,
        errors: Mapping[str, str] | None = None,
    ) -> None:
        """Script what comes of the next task, whatever its app; tasks take these in the order in which they arrive.

        Args:
            output: Its output; bytes and ``OutputFile`` in it become files.
            progress: How far it is, step by step, as fractions from 0.0 to 1.0.
            logs: What it logs, a line with each step; the last ones at the end.
            delay: Seconds before the first step.
            pause: Seconds after each step; without a pause a reader may see the newest of several steps only.
            fail: The error with which it fails after the last step.
            drop_after: The number of steps after which all streams break, so that clients reconnect.
            refuse: An HTTP status with which the task is refused instead.
            errors: What is wrong with the input, by field; the task is refused with 412.

        Raises:
            ValueError: An argument is invalid.

        Example:
            ```python
            with ScriptedRuntime() as runtime:
                runtime.task({"answer": 42}, progress=[0.5], logs=["thinking"])
                with Inference(runtime.api_key, base_url=runtime.base_url) as client:
                    print(client.tasks.run("acme/oracle", {"question": "all"}).output)
                print(runtime.tasks[0].app, runtime.tasks[0].input)
            ```

            ```text
            {'answer': 42}
            acme/oracle {'question': 'all'}
            ```
        """
        self._task_script.add(
            TaskReply(
                output=output,
                progress=tuple(progress),
                logs=tuple(logs),
                delay=delay,
                pause=pause,
                fail=fail,
                drop_after=drop_after,
                refuse=refuse,
                errors=errors,
            )
        )

    @property
    def unscripted(self) -> list[str]:
        """Descriptions of the steps for which no reply was scripted."""
        return list(self._script.unscripted)

    @property
    def base_url(self) -> str:
        """The base URL for clients; the first access starts the runtime."""
        return self._background.start().base_url

    @property
    def api_key(self) -> str:
        """The API key it accepts; the first access starts the runtime."""
        return self._background.start().api_key

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variables that connect clients to this runtime."""
        return {"INFERENCE_BASE_URL": self.base_url, "INFERENCE_API_KEY": self.api_key}

    @property
    def open_streams(self) -> int:
        """The number of open streams."""
        return self._runtime.open_streams

    def stop(self) -> None:
        """Stop the runtime. It may be called more than once."""
        self._background.stop()

    @property
    def _runtime(self) -> LocalRuntime:
        return self._background.runtime

    def _take(self, sent: SentMessage | SentResult | SentTask) -> None:
        if isinstance(sent, SentTask):
            self.tasks.append(sent)
            self._task_script.refuse_next(sent.app)
            return
        if isinstance(sent, SentResult):
            self.tool_results.append(sent)
            return
        self.requests.append(sent)
        refusal = self._script.take(refusal=True)
        if refusal is not None and refusal.refuse is not None:
            raise ProblemError(refusal.refuse, "The test's script refuses this message.")

    def __enter__(self) -> Self:
        self._background.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
