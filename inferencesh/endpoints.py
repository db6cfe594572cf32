"""Requests to any endpoint of the service: responses, pages and streams for which this package has no method."""

from __future__ import annotations

import json as json_module
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, get_args, get_origin

import attrs

from ._http.api import Items, Page, Pages
from ._http.requests import check_method, check_path, query_of, read_response
from ._http.retry import Safety
from ._http.transport import Transport, service_request
from ._loops.threads import Uncopied
from ._protocol.wire import LineSplitter, SSEValues
from ._text import decode_json
from ._types.codec import structure
from ._types.output import JsonTypes
from ._types.reading import told
from .config import check_count
from .errors import APIConnectionError, ConfigurationError, InferenceError, NotFoundError, UnreadableError
from .models import Chat, ChatTrace, FileRef, Interrupt, Message, Run, ToolCall
from .stream import BaseAsyncStream

if TYPE_CHECKING:
    from ._http.requests import ServiceRequest
    from ._http.stream import ByteStream

__all__ = ["AsyncItemStream", "AsyncResponseStream", "Endpoints", "Response"]

T = TypeVar("T")

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_MODELS = (Message, Chat, ChatTrace, Run, ToolCall, Interrupt, FileRef)


@attrs.frozen
class Response:
    """A whole response, as it arrived; ``client.request(..., cast_to=Response)`` returns one.

    Attributes:
        status_code: The HTTP status, 2xx.
        headers: The headers, with names in lower case.
        content: The body.

    Example:
        ```python
        response = client.request("POST", "/chats/list", json={"limit": 1}, cast_to=Response)
        print(response.status_code, response.headers["content-type"])
        ```

        ```text
        200 application/json
        ```
    """

    status_code: int
    headers: Mapping[str, str] = attrs.field(hash=False, repr=False)
    content: bytes = attrs.field(repr=False)

    @property
    def text(self) -> str:
        """The body as text; what is not UTF-8 is replaced by U+FFFD."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the decoded body, with its envelope.

        Raises:
            ValueError: It is not JSON.
        """
        return json_module.loads(self.content)


class Endpoints:
    """Requests to any endpoint; the methods are documented at ``AsyncInference``.

    Args:
        transport: Makes the requests.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def request(
        self,
        method: str,
        path: str,
        json: object,
        params: Mapping[str, object] | None,
        cast_to: Any,
        *,
        again: bool | None,
    ) -> Any:
        """Make a request; ``AsyncInference.request`` documents the arguments."""
        raw = cast_to is bytes or cast_to is Response
        read = _reader(cast_to)
        method = check_method(method)
        request = service_request(
            method, check_path(path), json=json, params=query_of(params), accept="*/*" if raw else None
        )
        try:
            return await self._transport.exchange(request, _safety(method, idempotent=again), read)
        except NotFoundError as error:
            if method != "DELETE" or not error.repetitions:
                raise
            return None  # an earlier attempt, whose response was lost, has deleted it

    def paginate(
        self,
        method: str,
        path: str,
        json: object,
        params: Mapping[str, object] | None,
        cast_to: Any,
        page_size: int | None,
    ) -> AsyncIterator[Any]:
        """Read a list page by page; ``AsyncInference.paginate`` documents the arguments."""
        if json is not None and not isinstance(json, Mapping):
            raise TypeError(f"the body of a list's request must be a mapping, not {type(json).__name__}")
        method, path, query = check_method(method), check_path(path), query_of(params) or {}
        limit = {} if page_size is None else {"limit": check_count("page_size", page_size, 1)}
        in_query = method == "GET"
        read_item = _value_reader(cast_to)

        async def read(cursor: Mapping[str, str]) -> object:
            asked = {**limit, **cursor}
            request = service_request(
                method,
                path,
                json=None if in_query else {**(json or {}), **asked},
                params={**query, **{name: str(value) for name, value in asked.items()}} if in_query else query,
            )
            return await self._transport.exchange(request, Safety.REPEATABLE, read_response)

        def items(page: Page) -> Iterator[Any]:
            return map(read_item, page)

        return Items(Pages(read), items)

    def stream(
        self,
        method: str,
        path: str,
        json: object,
        params: Mapping[str, object] | None,
        cast_to: Any,
        *,
        again: bool | None,
    ) -> AsyncResponseStream[Any]:
        """Make a request whose response is a stream; ``AsyncInference.stream`` documents the arguments."""
        method = check_method(method)
        accept = "*/*" if cast_to is bytes else None
        request = service_request(
            method, check_path(path), json=json, params=query_of(params), streams=True, accept=accept
        )
        return AsyncResponseStream(self._transport, request, _safety(method, idempotent=again), cast_to)


def _safety(method: str, *, idempotent: bool | None) -> Safety:
    again = method in _IDEMPOTENT if idempotent is None else idempotent
    return Safety.REPEATABLE if again else Safety.ONCE


def _reader(cast_to: Any) -> Callable[[int, Mapping[str, str], bytes], Any]:
    """Return what reads a response as the type that a caller wants."""
    if cast_to is bytes:
        return lambda _status, _headers, body: body
    if cast_to is Response:
        return lambda status, headers, body: Response(
            status, {name.lower(): value for name, value in headers.items()}, body
        )
    convert = _value_reader(cast_to)
    return lambda status, headers, body: convert(read_response(status, headers, body))


def _value_reader(cast_to: Any) -> Callable[[object], Any]:
    """Return what reads a decoded JSON value as a type: leniently as one of this package's models, else strictly.

    Raises:
        ConfigurationError: The type is not supported.
    """
    if cast_to is None:
        return lambda value: value
    if cast_to in _MODELS:
        return lambda value: structure(value, cast_to)
    if get_origin(cast_to) is list and get_args(cast_to)[0] in _MODELS:
        (model,) = get_args(cast_to)
        return lambda value: [structure(item, model) for item in _list(value)]
    try:
        strict = JsonTypes().add(cast_to).read
    except ConfigurationError as error:
        raise ConfigurationError(f"cast_to={cast_to!r} cannot be read from JSON: {error}") from None

    def read(value: object) -> Any:
        try:
            return strict(value)
        except Exception as error:  # noqa: BLE001 - a class's own validators may raise anything
            problem = told(error)
        raise UnreadableError(f"the response is no valid {getattr(cast_to, '__name__', cast_to)}: {problem}")

    return read


def _list(value: object) -> Sequence[object]:
    items = value.get("items") if isinstance(value, Mapping) else value
    if not isinstance(items, list):
        raise UnreadableError(f"the server answered with {type(value).__name__} where a list was expected")
    return items


class AsyncItemStream(BaseAsyncStream[T]):
    """A stream that is opened when it is first read, and whose connection is closed when its reader leaves.

    Iterate over it with ``async for``. Leaving the loop, dropping the stream or cancelling the task closes the
    connection at once; inside ``async with`` it is kept until the end of the block. A stream has one reader.
    """

    _instead = "open another stream where it is needed"
    _over = False

    @abstractmethod
    async def _take(self) -> list[T]:
        """Wait for the next items; an empty list at the end."""

    async def _next_batch(self) -> list[T]:
        """Wait for the next items, opening the stream first; an empty list at the end and after ``aclose``."""
        with self._reader:
            left = list(self._batch)
            if left or self._over:
                return left
            try:
                await self._open()
                items = await self._take()
            except BaseException:
                self._leave()
                raise
            if not items:
                self._over = True
                self._leave()
            return items

    def __aiter__(self) -> AsyncIterator[T]:
        return _Loop(self, leaves=not self._entered)

    async def __anext__(self) -> T:
        for item in self._batch:
            return item
        self._batch = iter(await self._next_batch())
        for item in self._batch:
            return item
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Close the connection. May be called more than once.

        Example:
            ```python
            await agent.send_message("Hello")
            stream = client.stream("GET", f"/chats/{agent.chat_id}/stream")
            try:
                print((await anext(aiter(stream)))["event"])
            finally:
                await stream.aclose()
            ```

            ```text
            chats
            ```
        """
        self._over = True
        self._batch = iter(())
        self._leave()


class _Loop(Uncopied, Generic[T]):
    """The iterator of one ``async for`` over a stream; when it is dropped, the loop was left."""

    _instead = AsyncItemStream._instead

    def __init__(self, stream: AsyncItemStream[T], *, leaves: bool) -> None:
        self._stream = stream
        self._leaves = leaves

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        return await self._stream.__anext__()

    def __del__(self) -> None:
        if self._leaves:
            self._stream._leave()


class AsyncResponseStream(AsyncItemStream[T]):
    """The response of ``client.stream``, as it arrives: JSON values, lines or bytes.

    It is not opened again when it is lost: the package does not know whether the endpoint would continue or begin anew.

    Example:
        ```python
        await agent.send_message("Hello")
        async for event in client.stream("GET", f"/chats/{agent.chat_id}/stream"):
            print(event["event"], event["data"]["status"])
            break
        ```

        ```text
        chats ...
        ```
    """

    def __init__(self, transport: Transport, request: ServiceRequest, safety: Safety, cast_to: Any) -> None:
        super().__init__()
        self._bytes: ByteStream | None = None
        self._status = 0
        self._headers: Mapping[str, str] = {}
        self._transport = transport
        self._request = request
        self._safety = safety
        self._cast_to = cast_to
        self._read = (lambda value: value) if cast_to in (bytes, str) else _value_reader(cast_to)
        self._decoder: _Decoder | None = None
        self._ended = False  # whether the server has closed it
        self._failure: InferenceError | None = None  # raised once the items before it were returned

    @property
    def status_code(self) -> int:
        """The HTTP status, once the stream is open; 0 before."""
        return self._status

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, with names in lower case, once the stream is open; empty before."""
        return self._headers

    async def _open(self) -> Self:
        if self._bytes is None:
            if self._decoder is not None or self._over:
                raise InferenceError("this stream was left; make the request again for another one")
            stream = await self._transport.begin_stream(self._request, self._safety)
            self._status = stream.status
            self._headers = {name.lower(): value for name, value in stream.headers.items()}
            self._decoder = _decoder(self._cast_to, stream, self._transport.options.max_line_bytes)
            self._bytes = stream
        return self

    async def _take(self) -> list[T]:
        if self._failure is not None:
            raise self._failure
        if self._ended:
            return []
        stream, decoder = self._bytes, self._decoder
        assert stream is not None
        assert decoder is not None
        items: list[T] = []
        while not items and not self._over:
            data = await self._receive(stream)
            if data is None:
                continue
            try:
                for value in decoder.feed(data) if data else decoder.close():
                    item = self._read(value)
                    items.append(item)
            except UnreadableError as error:
                error.args = (self._transport.masked(str(error)),)  # it may quote a line
                if not items:
                    raise
                self._failure = error
            if not data:
                self._ended = True
                break
        return items

    async def _receive(self, stream: ByteStream) -> bytes | None:
        """Wait for bytes; None if there are none yet, or if another task has closed the stream."""
        try:
            return await stream.read()
        except APIConnectionError as error:
            if self._over:
                return None
            if self._transport.closed:
                raise InferenceError("the client was closed while this stream was open") from error
            raise

    def _leave(self) -> None:
        if self._bytes is not None:
            self._bytes.close()
            self._bytes = None


class _Decoder:
    """Decodes the bytes of a streamed response to JSON values: NDJSON, or a whole JSON body.

    Args:
        limit: The longest line, in bytes.
        whole: Whether the body is one JSON value, however many lines it has.
    """

    def __init__(self, limit: int, *, whole: bool = False) -> None:
        self._lines = LineSplitter(limit)
        self._whole: list[bytes] | None = [] if whole else None

    def feed(self, data: bytes) -> Iterator[Any]:
        """Return the values that these bytes complete."""
        if self._whole is not None:
            self._whole.append(data)
            return iter(())
        return self._values(self._lines.feed(data))

    def close(self) -> Iterator[Any]:
        """Return the value at the end."""
        if self._whole is not None:
            value = read_response(200, {}, b"".join(self._whole))
            return iter(() if value is None else (value,))
        return self._values([self._lines.close()])

    def _values(self, lines: Sequence[bytes]) -> Iterator[Any]:
        for line in lines:
            if line and not line.isspace():
                value = _decoded(line)
                if not _is_heartbeat(value):
                    yield value


class _Lines(_Decoder):
    """Decodes lines of text."""

    def _values(self, lines: Sequence[bytes]) -> Iterator[Any]:
        return (line.decode("utf-8", "replace").rstrip("\r\n") for line in lines if line)


class _Bytes(_Decoder):
    """Passes the bytes on."""

    def feed(self, data: bytes) -> Iterator[Any]:
        """Return the bytes."""
        return iter([data])

    def close(self) -> Iterator[Any]:
        """Return nothing more."""
        return iter(())


class _Events(_Decoder):
    """Decodes server-sent events to JSON values."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._events = SSEValues(limit)

    def feed(self, data: bytes) -> Iterator[Any]:
        """Return the values that these bytes complete."""
        return self._checked(self._events.feed(data))

    def close(self) -> Iterator[Any]:
        """Return the value at the end."""
        return self._checked(self._events.close())

    def _checked(self, values: Sequence[object]) -> Iterator[Any]:
        yield from (value for value in values if not _is_heartbeat(value))
        for problem in self._events.problems:
            raise problem


def _decoder(cast_to: Any, stream: ByteStream, limit: int) -> _Decoder:
    media_type = stream.content_type.partition(";")[0].strip().lower()
    if cast_to is bytes:
        return _Bytes(limit)
    if cast_to is str:
        return _Lines(limit)
    if media_type == "text/event-stream":
        return _Events(limit)
    return _Decoder(limit, whole=media_type in {"application/json", "text/html"})


def _decoded(line: bytes) -> Any:
    try:
        return decode_json(line)
    except UnreadableError as error:
        raise UnreadableError(f"a line of the stream is unreadable: {error}; it begins {line[:60]!r}") from None


def _is_heartbeat(value: object) -> bool:
    return isinstance(value, dict) and value.get("type") == "heartbeat"
