"""MIME types, guessed from names and bytes."""

from __future__ import annotations

import pytest

from inferencesh import ConfigurationError
from inferencesh._http.sources import check_content_type, guess_content_type

PNG, JPEG = b"\x89PNG\r\n\x1a\n" + bytes(9), b"\xff\xd8\xff\xe0\x00\x10JFIF"


@pytest.mark.parametrize(
    ("name", "head", "content_type"),
    [
        ("a.png", PNG, "image/png"),
        ("A.PNG", b"", "image/png"),
        ("a.png", JPEG, "image/jpeg"),
        ("a.svg", b"<?xml version='1.0'?><svg>", "image/svg+xml"),
        ("picture", PNG, "image/png"),
        ("a.unknown", PNG, "image/png"),
        ("a.txt", PNG, "text/plain"),
        ("a.json", b"{}", "application/json"),
        ("a.webp", b"", "image/webp"),
        ("data.tar.gz", b"\x1f\x8b\x08", "application/gzip"),
        ("data.csv.xz", b"", "application/x-xz"),
        ("data.csv.br", b"", "application/octet-stream"),
        ("data:a.csv", b"", "text/csv"),
        ("", b"GIF89a", "image/gif"),
        ("", b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        ("", b"%PDF-1.7\n", "application/pdf"),
        ("", b"PK\x03\x04" + bytes(40), "application/zip"),
        ("", b"\x00\x00\x00\x18ftypmp42", "video/mp4"),
        ("", b"OggS\x00", "audio/ogg"),
        ("", b"BMW is a car", "application/octet-stream"),
        ("", b"just text", "application/octet-stream"),
        ("", bytes(100), "application/octet-stream"),
        ("", b"", "application/octet-stream"),
    ],
)
def test_what_is_guessed(name: str, head: bytes, content_type: str) -> None:
    """The name first, but for pictures that are of another kind; then the bytes; then nothing in particular."""
    assert guess_content_type(name, head) == content_type


@pytest.mark.parametrize("content_type", ["image/png", "text/plain;charset=utf-8", 'a/b; c="d e"', "a/b.c+d", "x-y/z*"])
def test_types_that_can_be_sent(content_type: str) -> None:
    """With parameters."""
    assert check_content_type(content_type) == content_type


@pytest.mark.parametrize("content_type", ["", "image", "image/", "/png", "a/b\n", "a/b;c\r\nd: e", "a/b;\xfc", "a b/c"])
def test_types_that_cannot(content_type: str) -> None:
    """They would break the header, or mean nothing."""
    with pytest.raises(ConfigurationError, match="is no content type"):
        check_content_type(content_type)
