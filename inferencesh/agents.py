"""``client.agents``: the name under which the official SDKs make agents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from .agent import AsyncAgent
from .uncopied import Uncopied

if TYPE_CHECKING:
    from .config_names import AgentConfig

__all__ = ["AsyncAgents"]


class MakeAgent(Protocol):
    """``AsyncInference.agent``."""

    def __call__(
        self,
        config: str | AgentConfig | Mapping[str, Any],
        *,
        chat_id: str | None = None,
        context: Mapping[str, str] | None = None,
    ) -> AsyncAgent:
        """Make an agent."""


class AsyncAgents(Uncopied):
    """The other way to make agents; ``client.agents``.

    Example:
        ```python
        agent = client.agents.create({"name": "greeter"})
        message = await agent.send_message("Hello")
        ```
    """

    def __init__(self, make: MakeAgent) -> None:
        self._make = make

    def create(
        self,
        config: str | AgentConfig | Mapping[str, Any],
        *,
        chat_id: str | None = None,
        context: Mapping[str, str] | None = None,
    ) -> AsyncAgent:
        """Make an agent; as ``AsyncInference.agent``.

        Example:
            ```python
            agent = client.agents.create("acme/support@v2", context={"language": "fr"})
            ```
        """
        return self._make(config, chat_id=chat_id, context=context)
