"""MIME types: checked where they were given, guessed from name and first bytes where not."""

from __future__ import annotations

import re

from .errors import ConfigurationError

__all__ = ["HEAD", "check_content_type", "guess_content_type"]

HEAD = 40 * 1024  # bytes from the beginning of a file that are enough to tell any type that can be told
UNKNOWN = "application/octet-stream"

_WELL_FORMED = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+(\s*;[\x20-\x7e]*)?")
_ZIP = b"PK\x03\x04"
_SHORTEST = 3  # bytes of a signature; fewer are met in any text
# Pictures whose bytes are beyond doubt. They are often misnamed, and models refuse what is not what it is said to be.
_CERTAIN = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
# What a name like data.tar.gz is of: not the type inside, but that of what it is packed into.
_PACKED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}


def check_content_type(content_type: str) -> str:
    """A MIME type as it was given.

    Raises:
        ConfigurationError: It is none, or cannot be sent in a header.
    """
    if not _WELL_FORMED.fullmatch(content_type):
        raise ConfigurationError(f"{content_type[:100]!r} is no content type, such as image/png or text/plain")
    return content_type


def guess_content_type(filename: str, head: bytes) -> str:
    """The MIME type of a file; reads the system's list of types the first time, so not on an event loop.

    Args:
        filename: Its name, or "".
        head: Its first bytes, ``HEAD`` of them if there are so many.

    Returns:
        What its name says, unless it is a picture of another kind; without that what its bytes say;
        ``application/octet-stream`` when neither is known.
    """
    named, seen = _by_name(filename), _by_bytes(head)
    if seen in _CERTAIN and named is not None and named.startswith("image/"):
        return seen
    return named or seen or UNKNOWN


def _by_name(filename: str) -> str | None:
    import mimetypes

    kind, packed = mimetypes.guess_type(f"file:{filename}" if ":" in filename else filename, strict=False)
    return _PACKED.get(packed, UNKNOWN) if packed is not None else kind


def _by_bytes(head: bytes) -> str | None:
    if not head:
        return None
    import puremagic

    try:
        found = puremagic.magic_string(head)
    except puremagic.PureError:  # nothing it knows
        return None
    longest = max((len(match.byte_match) for match in found), default=0)
    if head.startswith(_ZIP) and longest <= len(_ZIP):
        return "application/zip"  # puremagic would take any archive for a document
    return next((match.mime_type for match in found if match.mime_type and len(match.byte_match) >= _SHORTEST), None)
