"""The ``inferencesh`` logger: what it says at which level, and what it never says."""

from __future__ import annotations

import logging
import re

import pytest

from inferencesh import Inference, InternalServerError, integer, tool
from inferencesh.testing import ScriptedRuntime

SECRET = "the visitor's secret"


def raising(number: int) -> int:
    raise ValueError(f"{number} is not possible")


AGENT = {"tools": [tool("raising").param("number", integer("Number")).handler(raising).build()]}


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [
        record.getMessage() for record in caplog.records if record.name == "inferencesh" and record.levelno == level
    ]


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    """All levels are captured."""
    caplog.set_level(logging.DEBUG, "inferencesh")


def test_each_request_is_one_line_at_debug(
    inference_runtime: ScriptedRuntime, inference_client: Inference, caplog: pytest.LogCaptureFixture
) -> None:
    """Method, path, status, milliseconds and request id; of a turn without trouble nothing else is logged."""
    inference_runtime.reply("Hello.")
    inference_client.agent({}).send_message(SECRET)
    requests = lines(caplog, logging.DEBUG)
    assert len(requests) == 2
    post, stream = requests
    assert re.fullmatch(r"POST /agents/run answered 200 in \d+ ms, request id \w+", post)
    assert re.fullmatch(r"GET /chats/\w+/stream answered 200 in \d+ ms, request id \w+", stream)
    assert len([record for record in caplog.records if record.name == "inferencesh"]) == 2


def test_a_reconnect_and_a_retry_are_lines_at_info(
    inference_runtime: ScriptedRuntime, inference_client: Inference, caplog: pytest.LogCaptureFixture
) -> None:
    """What heals by itself is no trouble."""
    inference_runtime.reply(refuse=503)
    inference_runtime.reply(pieces=["One ", "two"], pause=0.05, drop_after=1)
    assert inference_client.agent({}).send_message(SECRET).text == "One two"
    retry, reconnect = lines(caplog, logging.INFO)
    assert "POST /agents/run failed (InternalServerError); retry 1" in retry
    assert "connecting again" in reconnect
    assert lines(caplog, logging.WARNING) == []


def test_a_handler_that_fails_is_a_warning(
    inference_runtime: ScriptedRuntime, inference_client: Inference, caplog: pytest.LogCaptureFixture
) -> None:
    """The turn goes on, so somebody has to see it here."""
    inference_runtime.reply(tool_calls=[("raising", {"number": 3})])
    inference_runtime.reply("Sorry.")
    inference_client.agent(AGENT).send_message(SECRET)
    (warning,) = lines(caplog, logging.WARNING)
    assert "raising" in warning


def test_neither_the_key_nor_what_was_said_is_logged(
    inference_runtime: ScriptedRuntime, inference_client: Inference, caplog: pytest.LogCaptureFixture
) -> None:
    """At no level, the reply included."""
    inference_runtime.reply("A confidential reply", tool_calls=[("raising", {"number": 3})])
    inference_runtime.reply(pieces=["More ", "of it"], drop_after=1)
    inference_runtime.reply(refuse=500)
    agent = inference_client.agent(AGENT)
    agent.send_message(SECRET)
    with pytest.raises(InternalServerError):
        agent.send_message(SECRET)
    said = caplog.text
    for secret in (SECRET, "confidential", "of it", inference_runtime.api_key, "Bearer"):
        assert secret not in said
