"""data: URIs: every form that is in use, and none that is broken."""

from __future__ import annotations

import pytest

from inferencesh import ConfigurationError
from inferencesh._http.sources import is_data_uri, read_data_uri

PLAIN = "text/plain;charset=US-ASCII"


@pytest.mark.parametrize(
    ("uri", "content_type", "data"),
    [
        ("data:,", PLAIN, b""),
        ("data:,hello", PLAIN, b"hello"),
        ("data:,a%20b%2C,c", PLAIN, b"a b,,c"),
        ("data:;charset=utf-8,%C3%BC", "text/plain;charset=utf-8", b"\xc3\xbc"),
        ("data:text/html,<p>\xfc</p>", "text/html", "<p>\xfc</p>".encode()),
        ("data:image/png;base64,iVBORw0KGgo=", "image/png", b"\x89PNG\r\n\x1a\n"),
        ("DATA:image/png;BASE64,iVBORw0KGgo=", "image/png", b"\x89PNG\r\n\x1a\n"),
        ("data:image/png;base64,iVBORw0KGgo", "image/png", b"\x89PNG\r\n\x1a\n"),
        ("data:image/png;base64,iVBORw0KGgo%3D", "image/png", b"\x89PNG\r\n\x1a\n"),
        ("data:image/png;base64,iVBO\n Rw0K\r\nGgo=", "image/png", b"\x89PNG\r\n\x1a\n"),
        ("data:a/b;charset=utf-8;base64,-_8", "a/b;charset=utf-8", b"\xfb\xff"),
        ("data:a/b;name=base64,x", "a/b;name=base64", b"x"),
        ("data:a/b; base64 ,eA==", "a/b", b"x"),
        ("data:;base64,", PLAIN, b""),
        ("data:a/b,100%", "a/b", b"100%"),
    ],
)
def test_forms_that_are_read(uri: str, content_type: str, data: bytes) -> None:
    """Type with parameters, and content."""
    assert is_data_uri(uri)
    assert read_data_uri(uri) == (content_type, data)


@pytest.mark.parametrize("uri", ["data:", "data:text/plain", "data:;base64,a", "data:;base64,!!!!", "data:,\ud800"])
def test_forms_that_are_not(uri: str) -> None:
    """An error that does not quote them."""
    with pytest.raises(ConfigurationError, match="the data: URI") as caught:
        read_data_uri(uri)
    assert "!" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "data", "a.png", "https://data:80/", " data:,a"])
def test_other_texts_are_no_data_uris(text: str) -> None:
    """However close they come."""
    assert not is_data_uri(text)
