"""The configuration of clients and agents: time limits, backoff, API key, base URL, and the keys of an AgentConfig."""

from __future__ import annotations

import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypedDict

import attrs

from .errors import ConfigurationError, ConfigurationWarning

__all__ = [
    "API_KEY_VARIABLE",
    "BASE_URL_VARIABLE",
    "DEFAULT_BASE_URL",
    "MAX_LINE_BYTES",
    "AgentConfig",
    "AgentFields",
    "Backoff",
    "Secret",
    "Timeout",
    "check_count",
    "check_fields",
    "check_seconds",
    "warn_of_unknown_names",
]

API_KEY_VARIABLE = "INFERENCE_API_KEY"
BASE_URL_VARIABLE = "INFERENCE_BASE_URL"
DEFAULT_BASE_URL = "https://api.inference.sh"
MAX_LINE_BYTES = 64 * 1024 * 1024  # the longest line of a stream, unless a client is told otherwise


def check_count(name: str, value: object, least: int) -> int:
    """Return a number of things that was given as an argument.

    Args:
        name: The argument.
        value: What was given.
        least: The smallest number allowed.

    Raises:
        ConfigurationError: It is no whole number, or too small.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return value


def check_seconds(name: str, value: object, least: float | None = None, *, optional: bool = False) -> None:
    """Check a number of seconds that was given as an argument.

    Args:
        name: The argument.
        value: What was given.
        least: The smallest number allowed; None stands for any that is more than 0.
        optional: Whether it may be None, which stands for no limit.

    Raises:
        ConfigurationError: It is no finite number, or too small.
    """
    if optional and value is None:
        return
    enough = isinstance(value, int | float) and (value > 0 if least is None else value >= least)
    if not enough or isinstance(value, bool) or value == math.inf:
        wanted = "a positive number of seconds" if least is None else f"a number of seconds of at least {least:g}"
        raise ConfigurationError(f"{name} must be {wanted}{' or None' if optional else ''}, not {value!r}")


def _check_limit(_instance: object, attribute: attrs.Attribute[float], value: object) -> None:
    check_seconds(f"timeout: {attribute.name}", value, optional=True)


@attrs.frozen
class Timeout:
    """Time limits in seconds; None means no limit.

    Attributes:
        connect: For a connection to be made, TLS included.
        idle: Without a single byte while one is awaited. The service sends a heartbeat every 10 seconds, so the default
            stands for three missed ones. On a stream it leads to a reconnect, on a request to an APITimeoutError.
        total: For one request with all its retries. Streams and uploads of files have no total limit; put
            ``asyncio.timeout`` around one if you need it.

    Example:
        ```python
        client = Inference("inf_...", timeout=Timeout(connect=5, idle=60, total=None))
        ```
    """

    connect: float | None = attrs.field(default=10.0, validator=_check_limit)
    idle: float | None = attrs.field(default=30.0, validator=_check_limit)
    total: float | None = attrs.field(default=120.0, validator=_check_limit)

    @classmethod
    def of(cls, value: float | Timeout | None) -> Timeout:
        """Return the time limits for an argument ``timeout``.

        Args:
            value: A Timeout; or seconds, which bound each of connect, idle and total; or None for no limit at all.

        Returns:
            The time limits.

        Raises:
            ConfigurationError: A limit is not a positive number.
        """
        if isinstance(value, Timeout):
            return value
        return cls(connect=value, idle=value, total=value)


@attrs.frozen
class Backoff:
    """Exponentially growing delays between retries, with jitter so that many clients do not retry at the same time.

    Attributes:
        initial: The delay before the first retry, in seconds.
        factor: The ratio of each delay to the one before.
        maximum: The longest delay, in seconds.
        jitter: The largest random share that is subtracted from a delay, 0 to 1.

    Example:
        ```python
        client = Inference("inf_...", max_retries=4, backoff=Backoff(initial=1.0, maximum=30.0))
        print([Backoff(jitter=0).delay(attempt) for attempt in range(3)])
        ```

        ```text
        [0.25, 0.5, 1.0]
        ```
    """

    initial: float = 0.25
    factor: float = 2.0
    maximum: float = 8.0
    jitter: float = 0.5

    def delay(self, attempt: int, chance: Callable[[], float] | None = None) -> float:
        """Return the delay in seconds before retry ``attempt``, counted from 0.

        Args:
            attempt: The number of the retry.
            chance: Returns a number from 0 to 1, ``random.random`` by default.
        """
        if chance is None:
            import random  # here, because it takes a millisecond and most programs need no retry

            chance = random.random
        whole = min(self.maximum, self.initial * self.factor ** min(attempt, 64))
        return whole * (1.0 - self.jitter * chance())


class Secret:
    """A string that ``repr``, ``str`` and tracebacks with local variables do not show."""

    __slots__ = ("_keep",)

    def __init__(self, value: str) -> None:
        # In a closure, since tools that print attributes do not look there.
        self._keep: Callable[[], str] = lambda: value

    def reveal(self) -> str:
        """Return the string."""
        return self._keep()

    def masked(self, text: str) -> str:
        """Return ``text`` with every occurrence of the secret replaced by ``***``."""
        return text.replace(self.reveal(), "***")

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__


def read_api_key(given: str | None, environ: Mapping[str, str] = os.environ) -> Secret:
    """Return the API key from the argument or the environment.

    Raises:
        ConfigurationError: There is none, or it has characters that cannot be sent in a header.
    """
    key = given if given is not None else environ.get(API_KEY_VARIABLE, "")
    if not isinstance(key, str):
        raise ConfigurationError(f"api_key must be a str, not {type(key).__name__}")
    key = key.strip()
    if not key:
        raise ConfigurationError(
            f"no API key: pass api_key= or set {API_KEY_VARIABLE} (and {BASE_URL_VARIABLE} for another address); "
            f"AsyncInference.local() and Inference.local() need none"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            "the API key has characters that cannot be sent in a header; check for pasted quotes or line breaks"
        )
    return Secret(key)


def read_base_url(given: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """Return the base URL from the argument, the environment or the default, without a trailing slash.

    Raises:
        ConfigurationError: It is not an http(s) URL, or would send the API key over plain http to another machine.
    """
    from urllib.parse import urlsplit

    url = (given if given is not None else environ.get(BASE_URL_VARIABLE, "") or DEFAULT_BASE_URL).strip()
    shown = re.sub("//[^/]*@", "//***@", url)
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"base_url {shown!r} is not a URL: {error}") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise ConfigurationError(f"base_url must look like {DEFAULT_BASE_URL}, not {shown!r}")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("base_url must not hold a user name or password; the API key goes into api_key=")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"base_url must have no query or fragment: {url!r}")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            f"base_url {url!r} would send the API key unencrypted to another machine; use https "
            f"(plain http is for loopback addresses only)"
        )
    return url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is a loopback one."""
    import ipaddress

    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, not an address
        return False


class CoreApp(TypedDict, total=False):
    """The app that is an agent's model, identified by one of ``ref``, ``id`` and ``version_id``."""

    ref: str
    id: str
    version_id: str
    setup: Mapping[str, Any]
    input: Mapping[str, Any]


class Skill(TypedDict, total=False):
    """Instructions that an agent reads when it needs them."""

    name: str
    description: str
    skill_id: str
    version_id: str
    url: str
    content: str
    preload: bool


class ContextField(TypedDict, total=False):
    """A variable that is set when a chat begins."""

    name: str
    description: str
    required: bool
    default: str
    in_prompt: bool


class AgentFields(TypedDict, total=False):
    """The names of an agent's configuration that are also keyword arguments of ``client.agent``.

    Attributes:
        name: The agent's name.
        description: What it is for.
        system_prompt: Its instructions.
        example_prompts: What a user could ask it.
        core_app: Its model: ``{"ref": "namespace/name"}``.
        core_app_ref: The same as a name alone.
        tools: Its tools: functions, and what is made with ``tool`` and the other builders.
        skills: Instructions that it reads when it needs them.
        internal_tools: Which of the service's own tools it has, made with ``internal_tools``.
        permissions: What it may do without asking.
        hooks: What is called when something happens, made with ``lifecycle_hook``.
        output_schema: The JSON Schema of its output.
    """

    name: str
    description: str
    system_prompt: str
    example_prompts: Sequence[str]
    core_app: CoreApp
    core_app_ref: str
    tools: Sequence[Mapping[str, Any] | Callable[..., Any]]
    skills: Sequence[Skill]
    internal_tools: Mapping[str, bool]
    permissions: Mapping[str, Any]
    hooks: Sequence[Mapping[str, Any]]
    output_schema: Mapping[str, Any]


class AgentConfig(AgentFields, total=False):
    """The configuration of an agent, for editors and type checkers; a plain dict with these keys.

    Attributes:
        name: The agent's name.
        description: What it is for.
        system_prompt: Its instructions.
        example_prompts: What a user could ask it.
        core_app: Its model: ``{"ref": "namespace/name"}``.
        core_app_ref: The same as a name alone.
        tools: Its tools: functions, and what is made with ``tool`` and the other builders.
        skills: Instructions that it reads when it needs them.
        context: The variables that are set when a chat begins; set them with ``client.agent(..., context=...)``.
        internal_tools: Which of the service's own tools it has, made with ``internal_tools``.
        permissions: What it may do without asking.
        hooks: What is called when something happens, made with ``lifecycle_hook``.
        output_schema: The JSON Schema of its output.

    Example:
        ```python
        config: AgentConfig = {"name": "guide", "system_prompt": "Answer in one sentence."}
        message = client.agent(config).send_message("Hello")
        ```
    """

    context: Sequence[ContextField]


_FIELDS = frozenset(AgentFields.__annotations__)
_CONFIG = _FIELDS | AgentConfig.__annotations__.keys()
_PARTS: Mapping[str, frozenset[str]] = {
    "core_app": frozenset(CoreApp.__annotations__),
    "skills": frozenset(Skill.__annotations__),
    "context": frozenset(ContextField.__annotations__),
    "tools": frozenset(
        {"name", "display_name", "description", "type", "require_approval", "approval_timeout"}
        | {"app", "agent", "hook", "http", "call", "mcp", "client", "internal", "harness"}
    ),
}
# Names that other libraries use, with their equivalents here.
_ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(("instructions", "instruction", "prompt", "system", "system_message"), "'system_prompt'"),
    **dict.fromkeys(("model", "model_name", "llm"), '\'core_app\', as in {"core_app": {"ref": "namespace/name"}}'),
    **dict.fromkeys(("output_type", "result_type"), "agent.run(..., output_type=...)"),
    "response_format": "'output_schema', or agent.run(..., output_type=...)",
    "functions": "'tools'",
    "chat_id": "client.agent(..., chat_id=...)",
}


def check_fields(fields: Mapping[str, object]) -> None:
    """Check the keyword arguments of ``client.agent``.

    Raises:
        TypeError: One of them is unknown. In a mapping it would only be warned of: the service may be newer than this.
    """
    for name in fields.keys() - _FIELDS:
        raise TypeError(
            f"agent() has no argument {name!r}: {_advice(name, _FIELDS, _ELSEWHERE)}"
            " A name that is newer than this version can be given in a mapping, as in agent({...})"
        )


def warn_of_unknown_names(config: Mapping[str, Any]) -> None:
    """Warn of the names in a configuration that the service is not known to read, at the line that gave it.

    Args:
        config: The configuration in the form in which it is sent.
    """
    for text in _unknown(config):
        warnings.warn(text, ConfigurationWarning, stacklevel=_frames_to_user())


def _unknown(config: Mapping[str, Any]) -> Iterator[str]:
    for name in config.keys() - _CONFIG:
        yield _unknown_name_text(name, _CONFIG, "an agent's configuration", _ELSEWHERE)
    if isinstance(config.get("context"), Mapping):
        yield (
            "'context' in an agent's configuration is a list of variables, each a dict with a 'name'; the "
            "values for a chat are passed to client.agent(..., context=...)"
        )
    for key, known in _PARTS.items():
        part = config.get(key)
        items = [part] if key == "core_app" else part if isinstance(part, list) else []
        for item in items:
            for name in item.keys() - known if isinstance(item, Mapping) else ():
                yield _unknown_name_text(name, known, f"{key!r} of an agent's configuration", {})


def _unknown_name_text(name: str, known: Iterable[str], where: str, elsewhere: Mapping[str, str]) -> str:
    advice = _advice(name, known, elsewhere)
    return f"{name!r} is not a known name in {where}; it is sent, but may have no effect: {advice}"


def _advice(name: str, known: Iterable[str], elsewhere: Mapping[str, str]) -> str:
    import difflib

    near = elsewhere.get(name) or next(map(repr, difflib.get_close_matches(name, sorted(known), 1)), None)
    return f"did you mean {near}?" if near else f"known are {', '.join(sorted(known))}."


def _frames_to_user() -> int:
    """Return the stacklevel, for the caller, of the first frame outside this package."""
    package, level = __name__.partition(".")[0], 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    return level
