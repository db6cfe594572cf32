"""What a file to be uploaded may be given as."""

from __future__ import annotations

import inspect
import io
import os
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, TypeAlias

from .data_uris import is_data_uri
from .models import FileRef

__all__ = ["FileSource", "OnProgress", "check_source", "check_sources"]

# A str is a data: URI; nothing is ever read from disk because a text happens to name a file.
FileSource: TypeAlias = os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | str | FileRef
OnProgress: TypeAlias = Callable[[int, int | None], Any]  # bytes sent, and bytes in all where that is known

_KINDS = "a pathlib.Path, bytes, a binary file object, a data: URI or a FileRef"


def check_source(source: object) -> None:
    """Check that something can be a file's source; nothing is opened or read.

    Raises:
        TypeError: It cannot.
    """
    if isinstance(source, str):
        if not is_data_uri(source):
            raise TypeError(
                "a str is taken as a file only when it is a data: URI; for a file on disk pass pathlib.Path(...)"
            )
    elif isinstance(source, io.TextIOBase):
        raise TypeError("the file object is open for text; open it in binary mode, as in open(..., 'rb')")
    elif inspect.iscoroutinefunction(getattr(source, "read", None)):
        raise TypeError("async file objects are not taken; pass pathlib.Path(...), which is read without blocking")
    elif not isinstance(source, FileRef | bytes | bytearray | memoryview | os.PathLike) and not _can_be_read(source):
        raise TypeError(f"a file is {_KINDS}, not {_described(source)}")


def check_sources(sources: object) -> tuple[FileSource, ...]:
    """The files that go with something, as a tuple.

    Raises:
        TypeError: It is no list of files, or one of them can be none.
    """
    single = isinstance(sources, str | bytes | bytearray | memoryview | os.PathLike | FileRef) or _can_be_read(sources)
    if single:
        raise TypeError(f"files is a list, also for a single file: files=[...], not {_described(sources)}")
    if not isinstance(sources, Iterable):
        raise TypeError(f"files is a list of files, each {_KINDS}, not {_described(sources)}")
    checked = tuple(sources)
    for source in checked:
        check_source(source)
    return checked


def _can_be_read(source: object) -> bool:
    return callable(getattr(source, "read", None)) and not isinstance(source, type)


def _described(source: object) -> str:
    return f"the class {source.__name__}" if isinstance(source, type) else type(source).__name__
