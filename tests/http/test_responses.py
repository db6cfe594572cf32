"""Answers to requests: envelopes to data, error bodies to exceptions, and how long to wait."""

from __future__ import annotations

import contextlib
import datetime
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from inferencesh._http.requests import error_from_response, read_response, refused_upload, retry_after
from inferencesh.errors import (
    APIError,
    AuthenticationError,
    ConflictError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequirementsNotMetError,
    StreamError,
    UnreadableError,
)
from tests.protocol.forms import FIXED, chat, invocation, message

PROBLEM = "https://api.inference.sh/errors/"
NOW = datetime.datetime(2026, 11, 22, 10, 0, 0, tzinfo=datetime.UTC)


def read(value: object, status: int = 200) -> object:
    """The data of an answer with this JSON body."""
    return read_response(status, {}, json.dumps(value).encode())


def failed(value: object, status: int = 400, headers: dict[str, str] | None = None) -> APIError:
    """The exception for an answer with this JSON body."""
    return error_from_response(status, headers or {}, json.dumps(value).encode(), NOW)


# -- envelopes


@pytest.mark.parametrize("data", [chat(), [message()], None, {}, invocation(data={"a": 1})])
@pytest.mark.parametrize(
    "envelope",
    [
        pytest.param(lambda data: {"success": True, "status": 200, "data": data}, id="v1"),
        pytest.param(lambda data: {"success": True, "data": data}, id="v1 short"),
        pytest.param(lambda data: {"success": True, "data": data, "error": None, "trace": "x"}, id="v1 long"),
        pytest.param(lambda data: data, id="v2"),
        pytest.param(lambda data: {"data": data, "messages": []}, id="v3"),
        pytest.param(lambda data: {"data": data, "messages": [{"level": "warning", "code": "x"}]}, id="v3 warning"),
        pytest.param(lambda data: {"data": data, "messages": None}, id="v3 null"),
        pytest.param(lambda data: {"data": data}, id="data alone"),
        pytest.param(lambda data: {"data": data, "messages": [], "status": 200, "error": None}, id="data and all"),
    ],
)
def test_the_data_is_the_same_in_every_generation_of_envelope(data: Any, envelope: Any) -> None:
    """All three are read, whichever the server speaks."""
    assert read(envelope(data)) == data


def test_a_tool_invocation_with_a_field_data_is_not_unwrapped() -> None:
    """It has ``data`` as a field of its own, beside others that no envelope has."""
    dto = {"id": "call-1", "status": "completed", "data": {"id": "inner"}}
    assert read(dto) == dto
    assert read(invocation(data={"id": "inner"})) == invocation(data={"id": "inner"})


@pytest.mark.parametrize("body", [b"", b"  \n", b"OK", b"a < b", b"true", b"false", b'"done"', b"17", b"null"])
@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_a_body_without_an_object_or_a_list_is_no_data_and_no_error(body: bytes, status: int) -> None:
    """204, an empty 200, plain text and a plain ``true`` all mean: done, and nothing to tell."""
    assert read_response(status, {}, body) is None


@pytest.mark.parametrize(
    "body", [b"<html></html>", b"\n<!DOCTYPE html>\n<title>Sign in</title>", b"<!doctype html>\xff"]
)
@pytest.mark.parametrize("status", [200, 201, 202])
def test_a_page_in_the_place_of_an_answer_is_no_success(body: bytes, status: int) -> None:
    """It is a proxy's or a login page: what was posted has not reached the service."""
    with pytest.raises(StreamError, match="HTML page"):
        read_response(status, {}, body)


def test_a_success_without_data_is_no_data() -> None:
    """The first generation leaves ``data`` out where there is none."""
    assert read({"success": True}) is None
    assert read({"success": True, "status": 204}) is None


def test_an_object_with_an_empty_or_missing_envelope_is_itself() -> None:
    """Only what is an envelope is taken off."""
    assert read({}) == {}
    assert read({"messages": []}) == {"messages": []}


@pytest.mark.parametrize("extra", [{}, {"request_id": "r1"}, {"data": None, "code": "x"}])
def test_a_failure_in_an_envelope_is_an_error_even_with_http_200(extra: dict[str, Any]) -> None:
    """``success: false`` decides, whatever else the object holds; its ``status`` is the one that counts."""
    body = {"success": False, "status": 404, "error": {"code": "not_found", "message": "no such chat"}, **extra}
    with pytest.raises(NotFoundError) as caught:
        read(body)
    error = caught.value
    assert (error.status_code, error.code, error.detail) == (404, "not_found", "no such chat")


def test_a_failure_in_an_envelope_without_a_status_has_that_of_the_answer() -> None:
    """It is an APIError all the same."""
    with pytest.raises(APIError) as caught:
        read({"success": False, "error": {"code": "x", "message": "it broke"}})
    assert (type(caught.value), caught.value.status_code, caught.value.detail) == (APIError, 200, "it broke")


# -- errors


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, APIError),
        (401, AuthenticationError),
        (402, APIError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (409, ConflictError),
        (410, APIError),
        (412, RequirementsNotMetError),
        (422, APIError),
        (429, RateLimitError),
        (500, InternalServerError),
        (503, InternalServerError),
        (599, InternalServerError),
    ],
)
@pytest.mark.parametrize("legacy", [False, True], ids=["problem", "legacy"])
def test_errors_of_both_generations_keep_status_code_and_detail(
    status: int, kind: type[APIError], legacy: bool
) -> None:
    """Problem details and legacy errors become the exception that belongs to the status."""
    problem = {"type": PROBLEM + "some_code", "title": "Some title", "status": status, "detail": "What happened."}
    old = {"success": False, "status": status, "error": {"code": "some_code", "message": "What happened."}}
    error = failed(old if legacy else problem, status, {"X-Request-Id": "req-7"})
    assert type(error) is kind
    assert (error.status_code, error.code, error.detail) == (status, "some_code", "What happened.")
    assert error.request_id == "req-7"
    assert error.body == (old if legacy else problem)
    assert str(error) == f"What happened. (HTTP {status}, some_code; request req-7)"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"detail": "d", "title": "t", "message": "m", "error": {"message": "e"}}, "d"),
        ({"detail": "", "title": "t", "message": "m"}, "t"),
        ({"detail": None, "title": " ", "message": "m"}, "m"),
        ({"error": {"code": "c", "message": "e"}}, "e"),
        ({"error": "plain"}, "plain"),
        ({"detail": "two\n  lines"}, "two lines"),
    ],
)
def test_the_explanation_is_the_best_text_there_is(body: dict[str, Any], detail: str) -> None:
    """``detail`` before ``title`` before ``message``, on one line."""
    assert failed(body).detail == detail


def test_a_body_without_any_explanation_is_shown_itself() -> None:
    """As the JSON that it was, cut."""
    assert failed({"reason": None, "n": 1}).detail == '{"reason": null, "n": 1}'
    assert failed(["a"]).detail == '["a"]'
    assert len(failed({"x": "y" * 5000}).detail) == 500


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"type": PROBLEM + "rate_limited"}, "rate_limited"),
        ({"type": "https://elsewhere.example/a/errors/b/errors/SESSION_EXPIRED"}, "SESSION_EXPIRED"),
        ({"type": "about:blank"}, None),
        ({"type": "about:blank", "code": "plain"}, "plain"),
        ({"type": PROBLEM, "error": {"code": "inner"}}, "inner"),
        ({"error": {"code": 17}}, None),
        ({"code": None}, None),
    ],
)
def test_the_code_is_what_follows_errors_in_the_type(body: dict[str, Any], code: str | None) -> None:
    """Legacy codes stand in ``error.code``."""
    assert failed(body).code == code


@pytest.mark.parametrize("body", [b"", b"   "])
def test_an_error_without_a_body_says_so(body: bytes) -> None:
    """There is always something to read."""
    error = error_from_response(502, {}, body)
    assert (error.detail, error.body) == ("the server answered with HTTP 502 and no explanation", None)


def test_an_error_that_is_not_json_is_cut_to_500_characters() -> None:
    """Its beginning is kept, on one line."""
    error = error_from_response(500, {}, b"line one\nline two " + b"x" * 5000)
    assert error.detail.startswith("line one line two xxx")
    assert isinstance(error.body, str)
    assert len(error.body) == 500


def test_bytes_that_are_no_text_do_not_hide_the_status() -> None:
    """Nothing in a body can keep the error from being told."""
    error = error_from_response(500, {}, b"\xff\xfe\x00binary")
    assert isinstance(error, InternalServerError)


@pytest.mark.parametrize("page", ["<!DOCTYPE html><h1>Bad Gateway</h1>", " <HTML><h1>Bad Gateway</h1></HTML>"])
def test_an_html_page_is_named_and_not_shown(page: str) -> None:
    """It is most likely a proxy's."""
    error = error_from_response(502, {}, page.encode())
    assert "proxy" in error.detail
    assert "<h1>" not in error.detail


def test_a_text_that_speaks_of_html_is_no_page() -> None:
    """What makes a page stands at its beginning."""
    error = error_from_response(500, {}, b"x" * 250 + b" <html")
    assert error.detail.startswith("xxx")


@pytest.mark.parametrize("body", [b"", b"<html><body>302 Found</body></html>", b'{"x": 1}'])
def test_a_redirect_says_where_to_and_that_it_is_not_followed(body: bytes) -> None:
    """Without the query, which may hold what is nobody's business; whatever the body says."""
    error = error_from_response(302, {"Location": "https://elsewhere.example/login?token=secret"}, body)
    assert "https://elsewhere.example/login" in error.detail
    assert "base_url" in error.detail
    assert "secret" not in str(error)
    assert error.status_code == 302


@pytest.mark.parametrize(
    ("status", "body"), [(404, b'{"status": 500, "detail": "gone"}'), (201, b'{"detail": "gone"}')]
)
def test_an_error_status_is_that_of_the_answer_and_no_redirect(status: int, body: bytes) -> None:
    """A status in the body counts only for a failure sent as a success; a place to go only for a redirect."""
    error = error_from_response(status, {"Location": "https://elsewhere.example"}, body)
    assert (error.status_code, error.detail) == (status, "gone")


def test_a_redirect_without_a_place_is_an_error_like_others() -> None:
    """There is nothing to say of where it leads."""
    assert error_from_response(304, {}, b"").detail == "the server answered with HTTP 304 and no explanation"


def test_the_other_name_of_the_request_id_is_known_too() -> None:
    """Servers use two."""
    assert failed({}, headers={"Request-Id": "r1"}).request_id == "r1"
    assert failed({}).request_id is None


def test_a_body_that_is_nested_too_deeply_still_gives_the_error_of_its_status() -> None:
    """Untrusted bodies never lead to another exception."""
    for depth in (300, 1000, 100_000):
        body = b'{"x":' + b"[" * depth + b"]" * depth + b"}"
        assert isinstance(error_from_response(500, {}, body), InternalServerError)
        with contextlib.suppress(UnreadableError):
            read_response(200, {}, body)
        read_response(200, {}, body, needed=False)


# -- 412


def test_missing_requirements_are_listed() -> None:
    """A 412 with ``errors`` is the requirements error; its body is never wrapped."""
    missing = [
        {"type": "secret", "key": "OPENAI_KEY", "message": "add it", "action": {"type": "add_secret"}},
        {"type": "credential", "key": "google", "message": "connect it"},
    ]
    error = failed({"satisfied": False, "errors": missing}, 412)
    assert isinstance(error, RequirementsNotMetError)
    assert list(error.errors) == missing


@pytest.mark.parametrize("errors", [None, "text", [], ["text", None]])
def test_a_412_without_a_list_of_requirements_lists_none(errors: object) -> None:
    """It is the same error, with nothing in the list."""
    error = failed({"type": PROBLEM + "requirements_not_met", "detail": "no", "errors": errors}, 412)
    assert isinstance(error, RequirementsNotMetError)
    assert (list(error.errors), error.code) == ([], "requirements_not_met")


def test_a_412_that_is_not_json_lists_nothing() -> None:
    """Nothing to read, nothing to raise."""
    error = error_from_response(412, {}, b"no")
    assert isinstance(error, RequirementsNotMetError)
    assert list(error.errors) == []


# -- Retry-After


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "3"}, 3.0),
        ({"Retry-After": " 1.5 "}, 1.5),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After-Ms": "250"}, 0.25),
        ({"Retry-After-Ms": "250", "Retry-After": "3"}, 0.25),
        ({"Retry-After-Ms": "soon", "Retry-After": "3"}, 3.0),
        ({"Retry-After": "Sun, 22 Nov 2026 10:00:30 GMT"}, 30.0),
        ({"Retry-After": "Sun, 22 Nov 2026 11:00:30 +0100"}, 30.0),
        ({"Retry-After": "Sun, 22 Nov 2026 10:00:30 -0000"}, 30.0),
        ({"Retry-After": "Sun, 22 Nov 2026 09:00:00 GMT"}, 0.0),
        ({}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "1e999"}, None),
        ({"Retry-After": "Sun, 32 Nov 2026 10:00:00 GMT"}, None),
        ({"Retry-After": "22 Nov 99999999999999999999 10:00:00 GMT"}, None),
        ({"Retry-After": "22 Nov 2026 10:00:00 +99999999999999"}, None),
    ],
)
def test_the_wait_is_read_from_seconds_milliseconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    """Never negative, and nothing where nothing can be read."""
    assert retry_after(headers, NOW) == seconds


def test_without_a_given_time_the_clock_tells_how_long_a_date_is_away() -> None:
    """A date in the past is no wait."""
    assert retry_after({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert (retry_after({"Retry-After": "Tue, 21 Oct 2200 07:28:00 GMT"}) or 0) > 1_000_000


def test_an_error_carries_the_wait() -> None:
    """``retry_after`` of a 429 and of a 503."""
    assert failed({}, 429, {"Retry-After": "7"}).retry_after == 7.0
    assert failed({}, 503, {"Retry-After": "Sun, 22 Nov 2026 10:00:05 GMT"}).retry_after == 5.0
    assert failed({}, 429).retry_after is None


@FIXED
@given(st.text(max_size=40) | st.from_regex(r"(\w{3}, )?\d{1,12} (Jan|Nov) \d{1,12} [\d:]{1,12} [+-]?\w{1,9}"))
def test_no_header_can_raise(value: str) -> None:
    """A wait of some length, or none."""
    seconds = retry_after({"Retry-After": value}, NOW)
    assert seconds is None or 0 <= seconds < float("inf")


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (
            b"<Error><Code>AccessDenied</Code><Message>Request has\n expired</Message></Error>",
            "AccessDenied",
            "expired",
        ),
        (b'{"type": "https://api.inference.sh/errors/expired", "detail": "too late"}', "expired", "too late"),
        (b"go away", None, "go away"),
        (b"", None, "HTTP 403"),
        (b"<Code>" + b"x" * 9000, None, "xxx"),
        (b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><Message>&b;</Message>", None, "&b;"),
    ],
)
def test_refused_uploads_are_explained(body: bytes, code: str | None, words: str) -> None:
    """In whatever language the storage server speaks, in one line, as far as it can be trusted."""
    error = refused_upload("s3.example", 403, {"X-Amz-Request-Id": "r7"}, body)
    assert type(error).__name__ == "PermissionDeniedError"
    assert (error.code, error.request_id) == (code, "r7")
    assert error.detail.startswith("s3.example did not take the file: ")
    assert words in error.detail
    assert "\n" not in error.detail


def test_headers_of_a_refused_upload_are_found_in_any_case() -> None:
    """Many storage servers send their names in lower case."""
    headers = CIMultiDict({"retry-after": "7", "x-request-id": "r1"})
    error = refused_upload("s3.example", 503, headers, b"")
    assert (error.retry_after, error.request_id) == (7.0, "r1")


def test_a_storage_that_redirects_names_no_place() -> None:
    """Files go nowhere else; setting base_url would not help."""
    error = refused_upload("s3.example", 307, {"Location": "https://elsewhere.example"}, b"")
    assert "redirects" in error.detail
    assert "base_url" not in str(error)
