"""From aiohttp's and the system's exceptions to this package's, with nothing of the request left in them."""

from __future__ import annotations

import os
from collections.abc import Coroutine
from typing import Any

from .errors import APIConnectionError, APITimeoutError

__all__ = ["received", "translated", "without_address"]


def translated(error: Exception, what: str, idle: float | None) -> APIConnectionError:
    """This package's exception for another library's.

    Args:
        error: An aiohttp.ClientError or OSError.
        what: What was being done.
        idle: The limit that ran out, in seconds, if it is a TimeoutError.

    Returns:
        The exception to raise; its cause is ``error``, stripped of the frames that hold the request's headers.
    """
    import aiohttp

    failure: APIConnectionError
    if isinstance(error, TimeoutError):
        limit = "the connect timeout" if isinstance(error, aiohttp.ConnectionTimeoutError) else f"{idle or 0:g} seconds"
        failure = APITimeoutError(f"{what}: no answer within {limit}")
    elif isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError):
        failure = APIConnectionError(f"{what}: no connection could be made ({_reason(error)})")
    else:
        failure = APIConnectionError(
            f"{what}: the connection was lost before the answer was complete ({_reason(error)})"
        )
    unsent = (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, aiohttp.ConnectionTimeoutError)
    failure.sent = not isinstance(error, unsent)
    if not isinstance(error, aiohttp.ClientResponseError):  # that one holds the request's headers
        error.__context__ = error.__cause__ = None
        failure.__cause__ = error.with_traceback(None)
    return failure


async def received(reading: Coroutine[Any, Any, bytes]) -> bytes:
    """What reading from an answer gives, with aiohttp's one failure that is of no class of its own made one.

    A connection that went before its reader was told is a RuntimeError there.

    Raises:
        aiohttp.ClientError, OSError: The connection was lost.
    """
    import aiohttp

    try:
        return await reading
    except RuntimeError as error:
        raise aiohttp.ClientConnectionError(str(error)) from None


def without_address(error: Exception, url: str) -> Exception:
    """The error, or another in its place if it tells the whole address of a request, whose query may be a secret.

    Args:
        error: An aiohttp.ClientError or OSError.
        url: The address.
    """
    if url not in str(error):
        return error
    code = getattr(error, "errno", None)
    return OSError(code, os.strerror(code)) if isinstance(code, int) else OSError(type(error).__name__)


def _reason(error: Exception) -> str:
    return type(error).__name__ if not str(error) else f"{type(error).__name__}: {str(error)[:200]}"
