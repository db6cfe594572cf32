"""Identifiers and times as the service writes them."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime

__all__ = ("new_id", "now")

# The service's identifiers use digits and letters without i, l, o and u; the library's encoder uses A-Z and 2-7.
_ALPHABET = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789abcdefghjkmnpqrstvwxyz")
_LENGTH = 26


def new_id() -> str:
    """Return a fresh random identifier of 26 lower-case letters and digits."""
    return base64.b32encode(secrets.token_bytes(20)).translate(_ALPHABET)[:_LENGTH].decode()


def now() -> str:
    """Return the present time in RFC 3339 with microseconds, in UTC with a `Z`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
