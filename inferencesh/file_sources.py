"""What a file to be uploaded may be given as."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from .models import FileRef

__all__ = ["FileSource", "OnProgress"]

# A str is a data: URI; nothing is ever read from disk because a text happens to name a file.
FileSource: TypeAlias = Path | bytes | BinaryIO | str | FileRef
OnProgress: TypeAlias = Callable[[int, int | None], Any]  # bytes sent, and bytes in all where that is known
