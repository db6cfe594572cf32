"""The embedded runtime: a local server that speaks the service's protocol, to develop and test agents offline.

``LocalRuntime`` runs on your event loop, ``BackgroundRuntime`` in a thread of its own. Both answer with ``DemoModel``,
which follows simple rules, unless they are given another ``Model``.
"""

from __future__ import annotations

from ._demo.model import DemoModel
from .apps import OutputFile, Progress, TaskContext
from .background import BackgroundRuntime, LocalAddress, RuntimeOptions
from .errors import DatabaseError
from .model import (
    Ask,
    Attachment,
    Conversation,
    ConversationMessage,
    Fail,
    Finish,
    Model,
    OfferedTool,
    PastCall,
    Piece,
    Reasoning,
    Text,
    ToolCall,
    Usage,
    Widget,
)
from .observer import Observer, SentMessage, SentResult, SentTask
from .runtime import LocalRuntime

__all__ = [
    "Ask",
    "Attachment",
    "BackgroundRuntime",
    "Conversation",
    "ConversationMessage",
    "DatabaseError",
    "DemoModel",
    "Fail",
    "Finish",
    "LocalAddress",
    "LocalRuntime",
    "Model",
    "Observer",
    "OfferedTool",
    "OutputFile",
    "PastCall",
    "Piece",
    "Progress",
    "Reasoning",
    "RuntimeOptions",
    "SentMessage",
    "SentResult",
    "SentTask",
    "TaskContext",
    "Text",
    "ToolCall",
    "Usage",
    "Widget",
]
