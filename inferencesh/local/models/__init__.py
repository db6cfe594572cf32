"""The models that the embedded runtime can answer with.

``DemoModel`` follows simple rules, ``OpenAIChatModel`` asks a server with the OpenAI chat-completions interface, and
``LlamaModel`` runs a GGUF file in this process. Own ones implement ``inferencesh.local.Model``.
"""

from __future__ import annotations

from inferencesh.local._demo.model import DemoModel

from .llama import LlamaModel
from .openai import OpenAIChatModel

__all__ = ["DemoModel", "LlamaModel", "OpenAIChatModel"]
