"""``OpenAIChatModel``: any server with the OpenAI chat-completions interface as a model of the embedded runtime."""

from __future__ import annotations

import re
from contextlib import aclosing
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

import aiohttp
import attrs

from inferencesh._text import decode_json, encode_json
from inferencesh.errors import ConfigurationError, UnreadableError
from inferencesh.local.files import is_loopback
from inferencesh.local.model import Fail, Finish, Text, ToolCall

from .answers import Answer, AnswerError, ChoiceAnswer, words_of
from .choices import choice_examples, choice_prompt, choice_schema
from .messages import chat_messages, function_tools, system_messages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from inferencesh.local.model import Conversation, OfferedTool, Piece

    from .messages import Json

__all__ = ["OpenAIChatModel", "ToolMode"]

ToolMode: TypeAlias = Literal["native", "constrained", "auto"]
"""How a model is given tools; see ``OpenAIChatModel``."""

# The settings that an agent's configuration may set: those that change how the model answers, and nothing else.
_SETTINGS = frozenset(
    {
        *("temperature", "top_p", "top_k", "min_p", "max_tokens", "max_completion_tokens", "stop", "seed"),
        *("frequency_penalty", "presence_penalty", "repeat_penalty", "reasoning_effort", "parallel_tool_calls"),
    }
)
_MAX_LINE = 4 * 1024 * 1024  # bytes of one event of a stream
_MAX_ERROR = 64 * 1024  # bytes of an error that are read
_CONNECT = 10.0  # seconds
_REFUSES_TOOLS = frozenset({400, 404, 422, 500, 501})
_FINISH = "Now write the result of this conversation as JSON."


class OpenAIChatModel:
    """A language model behind a server with the OpenAI chat-completions interface.

    Such servers are llama.cpp, Ollama, vLLM, LM Studio and most hosted services. Text, reasoning and tool calls are
    streamed; attached images, sounds and files become content parts; an agent's output schema is sent as
    ``response_format``; the tokens used are added to the run. The ``input`` of the agent's ``core_app`` may set
    ``temperature``, ``top_p``, ``max_tokens``, ``stop``, ``seed`` and the like.

    A run fails with the server's own words if the server refuses a request. When a run is stopped, its request is
    closed. The key is sent to this server only, and never logged.

    Args:
        base_url: The address up to ``/chat/completions``, such as ``http://127.0.0.1:11434/v1``.
        model: The model's name at the server.
        api_key: The key, if the server needs one. It is only sent over https or to this machine.
        tools: How the model is given tools. ``native``: in the request, for models whose template knows tools.
            ``constrained``: in the instructions, and the answer is held to a JSON Schema with a choice of text and
            calls. ``auto``: ``native``, unless the server says that the model knows no tools.
        settings: Further fields of each request, such as ``{"temperature": 0.2}``; an agent's settings go before them.
        exact_settings: The same for requests with tools or an output schema; by default ``settings``.
        headers: Further headers of each request.
        timeout: Seconds without a byte from the server after which a run fails.

    Raises:
        ConfigurationError: An argument is invalid, or the key would be sent unencrypted to another machine.

    Example:
        ```python
        model = OpenAIChatModel("http://127.0.0.1:11434/v1", "qwen3:4b")
        with Inference.local(model=model) as client:
            agent = client.agent({"name": "storyteller"})  # agent.send_message("Tell me a story") asks the server
            print(model)
        ```

        ```text
        <OpenAIChatModel qwen3:4b at http://127.0.0.1:11434/v1>
        ```
    """

    paces_itself: ClassVar[bool] = True

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        tools: ToolMode = "auto",
        settings: Mapping[str, object] | None = None,
        exact_settings: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 300.0,
    ) -> None:
        if tools not in get_args(ToolMode):
            raise ConfigurationError(f"tools must be native, constrained or auto, not {tools!r}")
        if not model.strip():
            raise ConfigurationError("model must be the name of a model at the server")
        if not timeout > 0:
            raise ConfigurationError(f"timeout must be more than 0 seconds, not {timeout!r}")
        self._base_url = _checked_url(base_url, has_key=bool(api_key))
        self._model = model
        self._api_key = _checked_key(api_key)
        self._mode: ToolMode = tools
        self._native: bool | None = None if tools == "auto" else tools == "native"
        self._settings = dict(settings or {})
        self._exact_settings = self._settings if exact_settings is None else dict(exact_settings)
        self._headers = dict(headers or {})
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._model} at {self._base_url}>"

    @property
    def description(self) -> str:
        """What the model is, in one line."""
        return f"the model {self._model} at {self._place}"

    async def respond(self, conversation: Conversation) -> AsyncGenerator[Piece]:
        """Yield the model's answer to a conversation; a failure is yielded as ``Fail``."""
        try:
            # A connection for each answer: it costs little beside an answer, and nothing is left to be closed.
            async with self._session() as http, aclosing(_Step(self, http, conversation).run()) as pieces:
                async for piece in pieces:
                    yield piece
        except AnswerError as failure:
            yield Fail(str(failure))
        except aiohttp.ConnectionTimeoutError:
            yield Fail(f"The model's server at {self._place} cannot be reached: no connection in {_CONNECT:g} seconds.")
        except TimeoutError:
            yield Fail(f"The model's server at {self._place} sent nothing for {self._timeout:g} seconds.")
        except aiohttp.ClientError as error:
            yield Fail(self._redacted(f"The model's server at {self._place} cannot be used: {_worded(error)}."))

    @property
    def _place(self) -> str:
        return urlsplit(self._base_url).netloc

    def _session(self) -> aiohttp.ClientSession:
        headers = {**self._headers, **({"Authorization": f"Bearer {self._api_key}"} if self._api_key else {})}
        limits = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=self._timeout)
        # llama.cpp closes idle connections, which may be the moment in which one is used again.
        connector = aiohttp.TCPConnector(force_close=True)
        return aiohttp.ClientSession(headers=headers, timeout=limits, trust_env=True, connector=connector)

    async def _knows_tools(self, http: aiohttp.ClientSession) -> bool:
        """Whether the model gets tools in the request; asked of llama.cpp, which tells what a model's template has."""
        if self._native is None:
            url = f"{self._base_url.removesuffix('/v1')}/props"
            try:
                async with http.get(url, allow_redirects=False) as response:
                    body = _decoded(await _beginning(response, _MAX_LINE)) if response.ok else {}
            except aiohttp.ClientPayloadError:
                body = {}
            capable = body.get("chat_template_caps") if isinstance(body, dict) else None
            self._native = capable.get("supports_tools") is not False if isinstance(capable, dict) else True
        return self._native

    async def _stream(self, http: aiohttp.ClientSession, body: Json, answer: Answer) -> AsyncGenerator[Piece]:
        """Send a request and yield the pieces of its answer, at last the tokens that it has used."""
        url = f"{self._base_url}/chat/completions"
        data, kind = encode_json(body), {"Content-Type": "application/json", "Accept": "text/event-stream"}
        async with http.post(url, data=data, headers=kind, allow_redirects=False) as response:
            if response.status != 200:
                words = words_of(_decoded(await _beginning(response)))
                raise _RefusedError(self._refusal(response.status, words), response.status, words)
            if response.content_type == "text/event-stream":
                async with aclosing(_events(response.content)) as chunks:
                    async for chunk in chunks:
                        for piece in answer.feed(chunk):
                            yield piece
            else:
                whole = _decoded(await response.read())
                if not isinstance(whole, dict) or "choices" not in whole:
                    raise AnswerError(
                        f"{self._place} answered with {response.content_type} that is not a chat completion; "
                        f"is base_url the address up to /chat/completions?"
                    )
                for piece in answer.feed(whole):
                    yield piece
        if not answer.finish_reason:
            raise AnswerError(f"The connection to {self._place} ended before the answer was complete.")
        if answer.usage is not None:
            yield answer.usage

    def _refusal(self, status: int, words: str) -> str:
        hint = {
            401: "; check the key",
            403: "; check the key",
            404: f"; check base_url and whether the model {self._model!r} is there",
        }.get(status, "")
        said = f": {words}" if words else ""
        return self._redacted(f"The model's server at {self._place} answered {status}{hint}{said}")

    def _redacted(self, text: str) -> str:
        return text.replace(self._api_key, "***") if self._api_key else text


class _RefusedError(AnswerError):
    """The server refused a request."""

    def __init__(self, text: str, status: int, words: str) -> None:
        super().__init__(text)
        self.about_tools = (
            status in _REFUSES_TOOLS and re.search(r"\btool|function.?call", words, re.IGNORECASE) is not None
        )


@attrs.define
class _Step:
    """One step of a run: usually one request, and another one for the output if the agent has an output schema."""

    _model: OpenAIChatModel
    _http: aiohttp.ClientSession
    _conversation: Conversation
    _said: str = ""
    _called: bool = False

    async def run(self) -> AsyncGenerator[Piece]:
        """Yield the pieces of the answer."""
        conversation, schema = self._conversation, self._conversation.output_schema
        if schema is None or conversation.tools:
            async with aclosing(self._answer()) as pieces:
                async for piece in pieces:
                    yield piece
            if self._called:
                return
        if schema is not None:
            async with aclosing(self._output(schema)) as pieces:
                async for piece in pieces:
                    yield piece
        elif conversation.finishes:
            yield Finish({"text": self._said})

    async def _answer(self) -> AsyncGenerator[Piece]:
        """Yield text or tool calls."""
        model, tools = self._model, self._conversation.tools
        native = not self._has_tools or await model._knows_tools(self._http)
        try:
            async with aclosing(self._ask_with_tools(native=native)) as pieces:
                async for piece in pieces:
                    yield piece
        except _RefusedError as refusal:
            if not (native and tools and model._mode == "auto" and refusal.about_tools):
                raise
            model._native = False
            async with aclosing(self._ask_with_tools(native=False)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _ask_with_tools(self, *, native: bool) -> AsyncGenerator[Piece]:
        tools = self._conversation.tools
        names = [tool.name for tool in tools]
        constrained = bool(tools) and not native
        answer = ChoiceAnswer(names) if constrained else Answer(names)
        body = await self._body(native=native, tools=tools)
        async with aclosing(self._ask(body, answer)) as pieces:
            async for piece in pieces:
                yield piece
        calls = answer.end()
        if constrained and calls and self._repeats(calls):
            # A small model asks again for what it has been told; if it may only write text, it says it.
            answer = ChoiceAnswer()
            body["response_format"] = _json_format("answer", choice_schema(()))
            async with aclosing(self._ask(body, answer)) as pieces:
                async for piece in pieces:
                    yield piece
            calls = answer.end()
        self._said, self._called = answer.text, bool(calls)
        for call in calls:
            yield call

    async def _output(self, schema: Mapping[str, object]) -> AsyncGenerator[Piece]:
        """Yield the output, for which the model is asked without tools."""
        model = self._model
        native = not self._has_tools or await model._knows_tools(self._http)
        body = await self._body(native=native, tools=(), form=_json_format("output", schema))
        messages = body["messages"]
        assert isinstance(messages, list)
        if self._said:
            messages += [{"role": "assistant", "content": self._said}, {"role": "user", "content": _FINISH}]
        answer = Answer()
        async with aclosing(self._ask(body, answer)) as pieces:
            async for piece in pieces:
                if not isinstance(piece, Text):  # the text is the output
                    yield piece
        answer.end()
        try:
            yield Finish(decode_json(answer.text))
        except UnreadableError:
            cut = " It was cut off at the token limit." if answer.finish_reason == "length" else ""
            raise AnswerError(f"The model's output is not JSON: {answer.text[:200]!r}.{cut}") from None

    async def _ask(self, body: Json, answer: Answer) -> AsyncGenerator[Piece]:
        answer.limited = "max_tokens" in body or "max_completion_tokens" in body
        async with aclosing(self._model._stream(self._http, body, answer)) as pieces:
            async for piece in pieces:
                yield piece

    async def _body(self, *, native: bool, tools: tuple[OfferedTool, ...], form: Json | None = None) -> Json:
        """Return the body of a request, with or without tools; ``form`` is the form of the answer, if it is JSON."""
        conversation, model = self._conversation, self._model
        constrained = bool(tools) and not native
        form = _json_format("answer", choice_schema(tools)) if constrained else form
        prompt = conversation.system_prompt
        messages = system_messages(choice_prompt(prompt, tools) if constrained else prompt)
        messages += choice_examples(tools) if constrained else []
        messages += await chat_messages(conversation, tool_roles=native)
        own = {key: value for key, value in conversation.settings.items() if key in _SETTINGS and value is not None}
        body: Json = {
            "model": model._model,
            "messages": messages,
            **(model._exact_settings if form is not None or self._has_tools else model._settings),
            **own,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if form is not None:
            body["response_format"] = form
        elif tools:
            body["tools"] = function_tools(tools)
        return body

    @property
    def _has_tools(self) -> bool:
        """Whether tools are offered, or were called earlier."""
        return bool(self._conversation.tools) or any(message.tool_calls for message in self._conversation.messages)

    def _repeats(self, calls: list[ToolCall]) -> bool:
        """Whether all of these calls have been answered since the user's last message."""
        answered: list[ToolCall] = []
        for message in self._conversation.messages:
            if message.role == "user":
                answered.clear()
            answered += [ToolCall(call.name, call.arguments) for call in message.tool_calls]
        return all(call in answered for call in calls)


def _json_format(name: str, schema: Mapping[str, object]) -> Json:
    return {"type": "json_schema", "json_schema": {"name": name, "schema": dict(schema)}}


async def _events(content: aiohttp.StreamReader) -> AsyncGenerator[Json]:
    """Yield the JSON objects of a stream of server-sent events, whose data is one line each in this interface."""
    rest = b""
    async for data in content.iter_any():
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > _MAX_LINE:
            raise AnswerError(f"The model's server sent an event of more than {_MAX_LINE} bytes.")
        for line in lines:
            field, _, value = line.partition(b":")
            if field == b"error":  # older versions of llama.cpp
                raise AnswerError(f"The model's server failed: {words_of(_decoded(value))}")
            if field != b"data" or value.strip() in {b"", b"[DONE]"}:
                continue
            chunk = _decoded(value)
            if not isinstance(chunk, dict):
                raise AnswerError(f"The model's server sent an event that is not a JSON object: {str(chunk)[:200]!r}")
            yield chunk


async def _beginning(response: aiohttp.ClientResponse, limit: int = _MAX_ERROR) -> bytes:
    data = bytearray()
    async for part in response.content.iter_any():
        data += part
        if len(data) >= limit:
            break
    return bytes(data)


def _decoded(data: bytes) -> object:
    """Return JSON decoded, anything else as text."""
    try:
        value: object = decode_json(data)
    except UnreadableError:
        return data.decode(errors="replace").strip()
    return value


def _worded(error: aiohttp.ClientError) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection ({error.os_error.strerror or error}); is it running?"
    return str(error) or type(error).__name__


def _checked_url(url: str, *, has_key: bool) -> str:
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except (ValueError, AttributeError, TypeError):
        raise ConfigurationError("base_url must look like http://127.0.0.1:8080/v1") from None
    if parts.scheme not in {"http", "https"} or not host or parts.query or parts.fragment:
        raise ConfigurationError("base_url must look like http://127.0.0.1:8080/v1, without a query")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("base_url must not hold a user name or password; the key goes into api_key")
    if has_key and parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError("api_key would be sent unencrypted to another machine; use https, or leave it out")
    return url.rstrip("/").removesuffix("/chat/completions")


def _checked_key(key: str | None) -> str:
    if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key and key):
        raise ConfigurationError("api_key has characters that cannot be sent in a header, or is empty")
    return key or ""
