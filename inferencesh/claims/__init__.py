"""Claims on tool calls, messages and turns, which decide which worker handles each of them."""

from __future__ import annotations

from .memory import MemoryClaims
from .redis import RedisClaims
from .store import Claim, ClaimState, ClaimStore, HeldClaim

__all__ = ["Claim", "ClaimState", "ClaimStore", "HeldClaim", "MemoryClaims", "RedisClaims"]
