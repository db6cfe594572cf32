"""Tools for testing programs that use agents: a runtime with scripted replies, and pytest fixtures.

Example:
    ```python
    def test_the_greeting(inference_runtime, inference_client):
        inference_runtime.reply("Hello!")
        agent = inference_client.agent({"name": "greeter"})
        assert agent.send_message("Greet the visitor").text == "Hello!"
        assert inference_runtime.requests[0].text == "Greet the visitor"
    ```

pytest loads the plugin ``inferencesh.testing.plugin`` wherever this package is installed. Without pytest, use
``ScriptedRuntime`` as a context manager.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inferencesh.local import SentMessage, SentResult, SentTask

    from .runtime import ScriptedRuntime

__all__ = ["ScriptedRuntime", "SentMessage", "SentResult", "SentTask"]


def __getattr__(name: str) -> object:
    # Imported on first use: pytest imports this package at every start, even if no test uses it.
    if name == "ScriptedRuntime":
        from .runtime import ScriptedRuntime

        return ScriptedRuntime
    if name in {"SentMessage", "SentResult", "SentTask"}:
        import inferencesh.local

        return getattr(inferencesh.local, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
