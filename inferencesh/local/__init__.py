"""The embedded runtime: try, develop and test agents offline, against the same wire as the service's.

`LocalRuntime` runs on your event loop, `BackgroundRuntime` in a thread of its own. Both answer with
`DemoModel`, a stand-in, unless they are given another `Model`.
"""

from __future__ import annotations

from ._demo.model import DemoModel
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
    Widget,
)
from .observer import Observer, SentMessage, SentResult
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
    "PastCall",
    "Piece",
    "Reasoning",
    "RuntimeOptions",
    "SentMessage",
    "SentResult",
    "Text",
    "ToolCall",
    "Widget",
]
