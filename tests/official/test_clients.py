"""Programs of the official SDKs do at plain ``inferencesh serve`` what they do at the service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import CLIENTS

pytestmark = pytest.mark.official

NEWEST, OLDER, JAVASCRIPT = CLIENTS
PYTHON = [NEWEST, OLDER]

Found = Callable[[str], dict[str, Any]]


def result(found: Found, client: str, program: str) -> dict[str, Any]:
    """What one program found; it must not have failed."""
    outcome: dict[str, Any] = found(client)[program]
    assert "failed" not in outcome, outcome["failed"]
    return outcome


@pytest.mark.parametrize("client", CLIENTS)
def test_a_message_is_answered(found: Found, client: str) -> None:
    """The placeholder comes at once, and the reply with the chat."""
    seen = result(found, client, "message")
    assert seen["status"] == "pending"
    assert seen["text"].startswith('You said: "Hello".')


@pytest.mark.parametrize("client", CLIENTS)
def test_a_reply_is_streamed(found: Found, client: str) -> None:
    """From its first words to the last; neither the user's message nor an earlier reply is replayed."""
    seen = result(found, client, "stream")
    assert seen["several"]
    assert seen["roles"] == ["assistant"]
    assert seen["statuses"] == ["pending", "ready"]
    assert seen["story"].startswith("When the railway closed")
    assert seen["same"]
    assert not seen.get("again")


def test_deltas_add_up_to_the_reply(found: Found) -> None:
    """A program that listens to nothing else has all of it."""
    assert result(found, JAVASCRIPT, "deltas") == {"several": True, "text": True}


@pytest.mark.parametrize("client", PYTHON)
def test_a_stream_ends_with_the_run(found: Found, client: str) -> None:
    """And the chat is found by its short id."""
    assert result(found, client, "all_events") == {"ended": "completed", "short": True}


def test_a_reply_is_polled(found: Found) -> None:
    """The JavaScript client reads the messages from the chat."""
    seen = result(found, JAVASCRIPT, "poll")
    assert seen["first"].startswith('You said: "Good morning".')
    assert seen["text"].startswith('You said: "Hello".')
    assert seen["roles"] == ["assistant", "user"]


@pytest.mark.parametrize(
    ("client", "program"), [*((each, "tool_call") for each in CLIENTS), (JAVASCRIPT, "tool_call_polled")]
)
def test_a_tool_is_called_and_its_result_is_used(found: Found, client: str, program: str) -> None:
    """Once."""
    seen = result(found, client, program)
    assert seen["calls"] == [{"name": "calculator", "args": {"expression": "42 * 17"}}]
    assert seen["text"] == "42 * 17 is 714."


@pytest.mark.parametrize("client", [NEWEST, JAVASCRIPT])
@pytest.mark.parametrize(("program", "text"), [("approve", "42 * 17 is 714."), ("reject", "rejected")])
def test_a_call_is_approved_or_rejected(found: Found, client: str, program: str, text: str) -> None:
    """An approved one takes its result then."""
    seen = result(found, client, program)
    assert seen["reason"] == "tool_approval"
    assert text in seen["text"]


@pytest.mark.parametrize("client", CLIENTS)
def test_an_output_has_the_form_of_its_schema(found: Found, client: str) -> None:
    """It is an object, not its text."""
    assert list(result(found, client, "output")["output"]) == ["title"]


@pytest.mark.parametrize("client", PYTHON)
def test_a_file_is_attached(found: Found, client: str) -> None:
    """With its type."""
    seen = result(found, client, "files")
    assert (seen["type"], seen["size"]) == ("text/plain", 9)
    assert "(text/plain, 9 bytes)" in seen["text"]


def test_files_are_attached_with_their_names(found: Found) -> None:
    """And with the type that the client guessed from the name."""
    text = result(found, JAVASCRIPT, "files")["text"]
    assert {"photo.png (image/png, 6 bytes)", "notes.txt (text/plain, 9 bytes)"} <= {
        each.strip() for each in text.removeprefix("I got").partition(", but")[0].replace("), ", ")|").split("|")
    }


@pytest.mark.parametrize("client", CLIENTS)
def test_a_run_is_stopped(found: Found, client: str) -> None:
    """The stream ends with the cancelled message."""
    assert result(found, client, "stop") == {"last": "cancelled", "state": "canceled"}


def test_chats_are_listed_read_renamed_and_deleted(found: Found) -> None:
    """With filters, searches, short ids and the trace."""
    assert result(found, JAVASCRIPT, "chats") == {
        "listed": [True],
        "searched": 1,
        "short": True,
        "status": "idle",
        "name": "Renamed",
        "steps": 1,
        "left": 0,
    }


def test_server_sent_events_have_their_names(found: Found) -> None:
    """What ``client.chats.stream`` reads."""
    assert result(found, JAVASCRIPT, "events")["names"] == ["chat_messages", "chats", "delta"]


@pytest.mark.parametrize("client", CLIENTS)
def test_reasons_of_refusals_reach_the_program(found: Found, client: str) -> None:
    """The invalid field, and the app or the part of the service that is not here."""
    invalid, missing = result(found, client, "refused")["reasons"]
    assert "agent: must be written namespace/name" in invalid
    assert "The embedded runtime has no /" in missing or "There is no app 'a/b@c' in this runtime" in missing


@pytest.mark.parametrize("client", PYTHON)
def test_the_async_client_is_answered(found: Found, client: str) -> None:
    """Its streams too."""
    seen = result(found, client, "async_client")
    assert (seen["status"], seen["roles"]) == ("pending", ["assistant"])
    assert seen["text"].startswith('You said: "Hello".')
