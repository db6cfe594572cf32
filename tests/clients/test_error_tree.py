"""The exceptions: one tree, nothing lost on the way to whoever handles them."""

from __future__ import annotations

import copy
import pickle

import pytest

import inferencesh
from inferencesh import errors
from inferencesh.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    ConfigurationError,
    FileError,
    InferenceError,
    InternalServerError,
    NotFoundError,
    RateLimitError,
    RequirementsNotMetError,
    RunFailedError,
    StreamError,
    error_class,
)
from inferencesh.models import Message


def test_every_exception_is_public_and_an_inference_error() -> None:
    """One ``except InferenceError`` catches them all; warnings are no errors."""
    classes = {name: each for name in errors.__all__ if isinstance(each := getattr(errors, name), type)}
    for name, each in classes.items():
        assert issubclass(each, InferenceError) or name == "ConfigurationWarning"
        assert getattr(inferencesh, name) is each


def test_the_tree_is_as_documented() -> None:
    """What is a kind of what."""
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(APITimeoutError, APIConnectionError)
    assert not issubclass(APIConnectionError, APIError)
    assert not issubclass(RunFailedError, APIError | StreamError)


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "APIError"),
        (401, "AuthenticationError"),
        (403, "PermissionDeniedError"),
        (404, "NotFoundError"),
        (409, "ConflictError"),
        (412, "RequirementsNotMetError"),
        (429, "RateLimitError"),
        (499, "APIError"),
        (500, "InternalServerError"),
        (503, "InternalServerError"),
    ],
)
def test_each_status_has_its_class(status: int, name: str) -> None:
    """The most specific there is."""
    assert error_class(status).__name__ == name


def test_an_api_error_shows_its_facts() -> None:
    """Detail, status, code and the request's id, as far as there are any."""
    assert str(NotFoundError("no such chat", status_code=404)) == "no such chat (HTTP 404)"
    error = RateLimitError("slow down", status_code=429, code="rate_limited", request_id="r7", retry_after=3)
    assert str(error) == "slow down (HTTP 429, rate_limited; request r7)"
    assert (error.retry_after, error.body, error.repetitions) == (3, None, 0)


def test_a_file_error_says_which_file_and_why() -> None:
    """It is an error of the system's kind too, with its number."""
    error = FileError(2, "No such file or directory", "a.png")
    assert isinstance(error, OSError)
    assert str(error) == "the file 'a.png' cannot be uploaded: No such file or directory"
    assert (error.errno, error.strerror, error.filename) == (2, "No such file or directory", "a.png")
    assert str(FileError(5, "broken")) == "the file object cannot be uploaded: broken"


def test_errors_begin_without_a_snapshot_and_a_chat() -> None:
    """They are attached where there is one."""
    error = StreamError("lost")
    assert (error.message, error.chat_id) == (None, None)
    error.message = Message(id="m1")
    assert StreamError("lost").message is None, "each error has its own"


def test_a_lost_connection_may_have_reached_the_server() -> None:
    """Until somebody knows that it did not."""
    assert APIConnectionError("lost").sent
    assert APITimeoutError("slow").sent


def test_a_run_that_failed_says_why() -> None:
    """In the server's words."""
    error = RunFailedError("out of tokens")
    assert error.detail == "out of tokens"
    assert str(error) == "the agent's run failed: out of tokens"


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError("no key"),
        APIError("no", status_code=418, code="c", request_id="r", body={"a": [1]}, retry_after=2.0),
        RequirementsNotMetError("no", status_code=412, body={"errors": [{"type": "secret"}]}),
        InternalServerError("no", status_code=500),
        APITimeoutError("slow"),
        FileError(2, "No such file or directory", "a.png"),
        StreamError("lost"),
        RunFailedError("out of tokens"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_copying_and_pickling(error: InferenceError) -> None:
    """Process pools and task queues send exceptions from process to process."""
    error.chat_id = "c1"
    error.message = Message(id="m1")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 (of our own making)
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)
