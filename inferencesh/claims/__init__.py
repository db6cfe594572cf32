"""Claims: who takes care of a tool call, a message or a turn, in one process or across a fleet of them."""

from __future__ import annotations

from .memory import MemoryClaims
from .redis import RedisClaims
from .store import Claim, ClaimState, ClaimStore, HeldClaim

__all__ = ["Claim", "ClaimState", "ClaimStore", "HeldClaim", "MemoryClaims", "RedisClaims"]
