"""Claims: who takes care of a tool call, a message or a turn, in one process or across a fleet of them."""

from __future__ import annotations

from .memory import MemoryClaims
from .redis import RedisClaims
from .store import Claim, ClaimState, ClaimStore, Holding

__all__ = ["Claim", "ClaimState", "ClaimStore", "Holding", "MemoryClaims", "RedisClaims"]
