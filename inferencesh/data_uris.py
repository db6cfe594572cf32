"""``data:`` URIs (RFC 2397): content inside of a text."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from .errors import ConfigurationError

__all__ = ["is_data_uri", "read_data_uri"]

_DEFAULT_TYPE = "text/plain;charset=US-ASCII"
_BASE64 = re.compile(r";\s*base64\s*$", re.IGNORECASE)
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def is_data_uri(text: str) -> bool:
    """Whether a text is meant as a data URI."""
    return text[:5].lower() == "data:"


def read_data_uri(uri: str) -> tuple[str, bytes]:
    """Take a data URI apart.

    Args:
        uri: ``data:[type][;parameter=value]...[;base64],content``. The content may be percent-encoded; base64 may be of
            the URL-safe kind, lack its padding, and have blanks in it, as other readers of such URIs allow.

    Returns:
        The MIME type with its parameters, ``text/plain;charset=US-ASCII`` where there is none, and the content.

    Raises:
        ConfigurationError: It cannot be read; what stands in it is not quoted.
    """
    head, comma, content = uri[5:].partition(",")
    if not comma:
        raise ConfigurationError("the data: URI has no comma, behind which its content would be")
    media_type, encoded = _BASE64.subn("", head.strip())
    if media_type.startswith(";"):  # parameters alone
        media_type = f"text/plain{media_type}"
    try:
        data = unquote_to_bytes(content)
    except UnicodeEncodeError:
        raise ConfigurationError("the data: URI holds halves of characters") from None
    return media_type or _DEFAULT_TYPE, _decoded(data) if encoded else data


def _decoded(data: bytes) -> bytes:
    text = b"".join(data.split()).translate(_URL_SAFE).rstrip(b"=")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ConfigurationError(f"the data: URI says that it is base64, which it is not: {error}") from None
