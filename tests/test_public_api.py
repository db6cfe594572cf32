"""The public names: complete, importable, documented, and with the signatures that users rely on."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import inferencesh
from inferencesh import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AsyncInference,
    ConfigurationError,
    Inference,
    InferenceError,
    Message,
    Timeout,
    Tool,
    ToolCall,
    tool,
)
from inferencesh.errors import error_class

ROOT = Path(__file__).parents[1]
CLIENT = (
    *("base_url", "timeout", "max_retries", "max_reconnects", "backoff", "proxy", "trust_env", "ssl"),
    *("tool_timeout", "max_parallel_tools", "max_line_bytes", "claims", "on_claim_store_lost"),
)
FOLLOW = ("on_message", "on_delta", "on_tool_call", "on_tool_progress", "on_approval", "conflate")
UPLOAD = ("filename", "content_type", "on_progress")
RUN = (
    *("stream", "wait", "output_type", "function", "session", "session_timeout", "setup", "infra", "workers"),
    *("webhook", "run_at", "on_update", "on_upload", "timeout"),
)
IN_SESSION = ("function", "stream", "wait", "output_type", "setup", "on_update", "on_upload", "timeout")
Signature = tuple[tuple[str, ...], tuple[str, ...]]

# The arguments by name: those that may be given by position, and those that are keyword-only.
# First what both clients have, by the names of the blocking one; the async one has the same arguments.
BOTH: dict[str, Signature] = {
    "Inference": (("api_key",), CLIENT),
    "Inference.local": ((), ()),
    "Inference.agent": (("self", "config"), ("chat_id", "context")),
    "Inference.request": (("self", "method", "path"), ("json", "params", "cast_to", "idempotent")),
    "Inference.paginate": (("self", "method", "path"), ("json", "params", "cast_to", "page_size")),
    "Inference.stream": (("self", "method", "path"), ("json", "params", "cast_to", "idempotent")),
    "Inference.close": (("self",), ()),
    "Inference.run": (("self", "app", "input"), ()),
    "Inference.session": (("self", "app"), ("session_timeout",)),
    "Tasks.run": (("self", "app", "input"), RUN),
    "Tasks.get": (("self", "task_id"), ()),
    "Tasks.stream": (("self", "task_id"), ("on_update", "timeout")),
    "Tasks.wait": (("self", "task_id"), ("on_update", "timeout")),
    "Tasks.cancel": (("self", "task_id"), ()),
    "Tasks.delete": (("self", "task_id"), ("files",)),
    "Tasks.list": (("self",), ("page_size",)),
    "Tasks.files": (("self", "task_id"), ("role",)),
    "Tasks.download": (("self", "task_id", "to"), ("on_progress",)),
    "Tasks.delete_files": (("self", "task_id"), ("role",)),
    "TaskStream.get_final_task": (("self",), ()),
    "TaskStream.get_output": (("self",), ()),
    "TaskStream.cancel": (("self",), ()),
    "TaskStream.close": (("self",), ()),
    "Sessions.list": (("self",), ()),
    "Sessions.get": (("self", "session_id"), ()),
    "Sessions.keepalive": (("self", "session_id"), ()),
    "Sessions.end": (("self", "session_id"), ()),
    "Session.run": (("self", "input"), IN_SESSION),
    "Session.get": (("self",), ()),
    "Session.keepalive": (("self",), ()),
    "Session.end": (("self",), ()),
    "Agent.send_message": (("self", "text"), ("stream", "files", "idempotency_key", *FOLLOW)),
    "Agent.run": (("self", "text"), ("output_type", "files", "idempotency_key", *FOLLOW)),
    "Agent.stream_messages": (("self",), FOLLOW),
    "Agent.take_over": (("self",), ("wait", *FOLLOW)),
    "Agent.stream_events": (("self",), ()),
    "Agent.wait": (("self",), ()),
    "Agent.submit_tool_result": (("self", "tool_call_id", "result"), ("files",)),
    "Agent.upload_file": (("self", "source"), UPLOAD),
    "Agent.approve_tool": (("self", "tool_call_id"), ()),
    "Agent.reject_tool": (("self", "tool_call_id", "reason"), ()),
    "Agent.resolve_interrupt": (("self", "interrupt_id", "decision"), ()),
    "Agent.always_allow_tool": (("self", "tool_call_id", "option"), ()),
    "Agent.interrupts": (("self",), ()),
    "Agent.set_agent": (("self", "config"), ()),
    "Agent.stop": (("self",), ()),
    "Agent.get_chat": (("self",), ()),
    "Agent.history": (("self",), ()),
    "Agent.reset": (("self",), ()),
    "Agents.create": (("self", "config"), ("chat_id", "context")),
    "Chats.list": (("self",), ("search", "page_size")),
    "Chats.get": (("self", "chat_id"), ()),
    "Chats.messages": (("self", "chat_id"), ("page_size",)),
    "Chats.delete": (("self", "chat_id"), ()),
    "Chats.cancel_message": (("self", "message_id"), ()),
    "Chats.update": (("self", "chat_id"), ("name", "visibility")),
    "Chats.status": (("self", "chat_id"), ()),
    "Chats.trace": (("self", "chat_id"), ()),
    "Files.upload": (("self", "source"), UPLOAD),
    "Files.download": (("self", "file", "to"), ("on_progress",)),
    "Files.list": (("self",), ("page_size",)),
    "Files.get": (("self", "file_id"), ()),
    "Files.delete": (("self", "file_id"), ()),
    "MessageStream.get_final_message": (("self",), ()),
    "MessageStream.get_final_output": (("self",), ()),
    "MessageStream.stop": (("self",), ()),
    "MessageStream.close": (("self",), ()),
}
ALONE: dict[str, Signature] = {
    "inference": (("api_key",), ()),
    "async_inference": (("api_key",), ()),
    "Timeout": (("connect", "idle", "total"), ()),
    "Timeout.of": (("value",), ()),
    "Backoff": (("initial", "factor", "maximum", "jitter"), ()),
    "Backoff.delay": (("self", "attempt"), ()),
    "FileRef": (("id", "uri", "filename", "content_type", "size"), ()),
    "Response.json": (("self",), ()),
    "ToolContext": (("chat_id", "call_id", "tool_name", "agent", "attempt"), ()),
    "Supervisor": (("make_agent", "follow"), ("at_once", "wait")),
    "Supervisor.take_over": (("self", "chat_id"), ()),
    "Supervisor.run": (("self", "chat_ids"), ()),
    "Takeover": (("chat_id", "message", "error"), ()),
    "MemoryClaims": ((), ("lease", "clock")),
    "RedisClaims": (("url",), ("prefix", "lease", "keep", "keep_results", "retry_timeout")),
    **{
        f"{store}.{name}": (("self", *arguments), ("abandon",) if name == "release" else ())
        for store in ("ClaimStore", "MemoryClaims", "RedisClaims")
        for name, arguments in {
            "check": (),
            "claim": ("key", "owner", "scope"),
            "renew": ("holdings",),
            "record": ("holding", "result"),
            "complete": ("holding", "result"),
            "release": ("holding",),
            "aclose": (),
        }.items()
    },
    "MappingView.get": (("self", "key", "default"), ()),
    **{f"MappingView.{name}": (("self",), ()) for name in ("keys", "values", "items")},
}
BUILDERS: dict[str, Signature] = {
    "tool": (("name",), ("description", "display_name", "require_approval")),
    "ToolBuilder.__call__": (("self", "function"), ()),
    "ToolBuilder.handler": (("self", "function"), ()),
    "FunctionTool.__call__": (("self",), ()),
    "Tool.bind": (("self", "arguments", "context"), ()),
    "inline": (("function",), ()),
    "app_tool": (("name", "app_ref"), ()),
    "AppToolBuilder.setup": (("self", "values"), ()),
    "AppToolBuilder.input": (("self", "values"), ()),
    "AppToolBuilder.function": (("self", "name"), ()),
    "AppToolBuilder.session_enabled": (("self",), ()),
    "agent_tool": (("name", "agent_ref"), ()),
    "mcp_tool": (("name",), ("server", "tool_name")),
    "webhook_tool": (("name", "url"), ()),
    "WebhookToolBuilder.secret": (("self", "key"), ()),
    "http_tool": (("name", "url"), ()),
    "call_tool": (("name", "url"), ()),
    "HTTPToolBuilder.method": (("self", "m"), ()),
    "HTTPToolBuilder.auth": (("self",), ("credential", "api_key", "bearer", "header")),
    "HTTPToolBuilder.header": (("self", "name", "value"), ()),
    "internal_tools": ((), ()),
    "InternalToolsBuilder.all": (("self",), ()),
    "InternalToolsBuilder.none": (("self",), ()),
    "InternalToolsBuilder.build": (("self",), ()),
    "lifecycle_hook": (("event",), ()),
    "LifecycleHookBuilder.webhook": (("self", "url"), ()),
    "LifecycleHookBuilder.task": (("self", "agent_ref"), ()),
    "LifecycleHookBuilder.builtin": (("self", "name"), ()),
    "LifecycleHookBuilder.async_": (("self", "enabled"), ()),
    "LifecycleHookBuilder.timeout": (("self", "seconds"), ()),
    "LifecycleHookBuilder.build": (("self",), ()),
    "learning_hooks": (("suggest", "learn"), ()),
    "widget_action": (("type", "payload", "form_data"), ()),
    "string": (("description",), ()),
    "number": (("description",), ()),
    "integer": (("description",), ()),
    "boolean": (("description",), ()),
    "enum_of": (("values", "description"), ()),
    "array": (("items", "description"), ()),
    "obj": (("properties", "description"), ()),
    "optional": (("schema",), ()),
}
ERRORS: dict[str, Signature] = {
    "APIError": (("detail",), ("status_code", "code", "request_id", "body", "retry_after")),
    "FileError": (("errno", "strerror", "filename"), ()),
    "RunFailedError": (("detail",), ()),
    "TaskFailedError": (("detail", "what"), ()),
    "OutputError": (("text", "output"), ()),
}
_TOOL_BUILDERS = (
    *("ToolBuilder", "AppToolBuilder", "AgentToolBuilder", "MCPToolBuilder"),
    *("WebhookToolBuilder", "HTTPToolBuilder"),
)
_STEPS: dict[str, Signature] = {
    "describe": (("self", "text"), ()),
    "display": (("self", "name"), ()),
    "display_name": (("self", "name"), ()),
    "param": (("self", "name", "schema"), ()),
    "require_approval": (("self", "required"), ()),
    "build": (("self",), ()),
}
_INTERNAL_TOOLS = "plan memory widget finish skills meta artifact agent remote knowledge"
SIGNATURES: dict[str, Signature] = {
    **BOTH,
    **{f"Async{name}".replace(".close", ".aclose"): signature for name, signature in BOTH.items()},
    **ALONE,
    **BUILDERS,
    **{f"{builder}.{step}": signature for builder in _TOOL_BUILDERS for step, signature in _STEPS.items()},
    **{f"InternalToolsBuilder.{name}": (("self", "enabled"), ()) for name in _INTERNAL_TOOLS.split()},
    **ERRORS,
}
# Without an underscore, but for the package's own modules only.
OWN = {
    "Content.continued_by",
}

# An exception, its base, and the statuses for which it is raised.
TREE: list[tuple[str, type[Exception], tuple[int, ...]]] = [
    ("ConfigurationError", InferenceError, ()),
    ("ConfigurationError", ValueError, ()),
    ("APIError", InferenceError, (400, 402, 405, 410, 422)),
    ("SessionExpiredError", APIError, ()),
    ("TaskFailedError", InferenceError, ()),
    ("TaskTimeoutError", InferenceError, ()),
    ("TaskTimeoutError", TimeoutError, ()),
    ("AuthenticationError", APIError, (401,)),
    ("PermissionDeniedError", APIError, (403,)),
    ("NotFoundError", APIError, (404,)),
    ("ConflictError", APIError, (409,)),
    ("RequirementsNotMetError", APIError, (412,)),
    ("RateLimitError", APIError, (429,)),
    ("InternalServerError", APIError, (500, 502, 503, 599)),
    ("APIConnectionError", InferenceError, ()),
    ("APITimeoutError", APIConnectionError, ()),
    ("CallbackCancelledError", InferenceError, ()),
    ("FileError", InferenceError, ()),
    ("FileError", OSError, ()),
    ("StreamError", InferenceError, ()),
    ("LeaseHeldError", InferenceError, ()),
    ("LeaseLostError", InferenceError, ()),
    ("ClaimStoreError", InferenceError, ()),
    ("RunFailedError", InferenceError, ()),
    ("InputRequiredError", InferenceError, ()),
    ("OutputError", InferenceError, ()),
]


def find(path: str) -> Any:
    """Return what a public name, or the path of a member, stands for."""
    found: Any = inferencesh
    for name in path.split("."):
        found = getattr(found, name)
    return found


def is_ours(value: object) -> bool:
    """Whether something is defined in this package."""
    return getattr(value, "__module__", "").startswith("inferencesh")


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", inferencesh.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    """From the package itself."""
    namespace: dict[str, object] = {}
    exec(f"from inferencesh import {name}", namespace)  # noqa: S102 - an import statement, as a user writes it
    assert namespace[name] is getattr(inferencesh, name)
    assert name in dir(inferencesh)


def test_the_list_of_names_is_sorted_and_complete() -> None:
    """What is listed is what type checkers see, and what lazy loading knows; a name that is neither is an error."""
    assert inferencesh.__all__ == sorted(set(inferencesh.__all__))
    source = Path(inferencesh.__file__).read_text(encoding="utf-8")
    seen_by_checkers = source.partition("if TYPE_CHECKING:")[2].partition("__all__")[0]
    listed = set(inferencesh.__all__) - {"__version__"}
    homes = getattr(inferencesh, "_HOMES")  # noqa: B009 - how the names are found is its own business
    assert set(homes) == listed
    assert all(f"{name}" in seen_by_checkers for name in listed)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        find("Nothing")


@pytest.mark.parametrize(("name", "base", "statuses"), TREE)
def test_exceptions_have_their_bases_and_statuses(name: str, base: type[Exception], statuses: tuple[int, ...]) -> None:
    """Callers catch them by either."""
    assert issubclass(find(name), base)
    assert all(error_class(status) is find(name) for status in statuses)


@pytest.mark.parametrize("path", SIGNATURES)
def test_signatures_stay_what_they_are(path: str) -> None:
    """Arguments keep their names, order and kind; new ones may come behind, and have defaults."""
    by_position, by_name = SIGNATURES[path]
    parameters = list(inspect.signature(find(path)).parameters.values())
    kinds = inspect.Parameter
    positional = [each for each in parameters if each.kind is kinds.POSITIONAL_OR_KEYWORD]
    named = [each.name for each in parameters if each.kind is kinds.KEYWORD_ONLY]
    assert tuple(each.name for each in positional[: len(by_position)]) == by_position
    assert all(each.default is not kinds.empty for each in positional[len(by_position) :])
    assert set(by_name) <= set(named)
    required = {each.name for each in parameters if each.name in named and each.default is kinds.empty}
    assert required == ({"status_code"} if path == "APIError" else set())


def test_every_signature_is_on_the_list() -> None:
    """Whatever public function or method is added, its arguments are to stay as well."""
    called = {name for name, value in documented().items() if not isinstance(value, property | type)}
    assert called - OWN - set(SIGNATURES) == set()


@pytest.mark.parametrize("cls", [AsyncInference, Inference])
def test_both_clients_have_an_embedded_runtime(cls: type) -> None:
    """``local`` is a class method that takes the runtime's options."""
    assert inspect.ismethod(getattr(cls, "local"))  # noqa: B009 - of either class
    with pytest.raises(ValueError, match="envelope must be v1, v2 or v3"):
        getattr(cls, "local")(envelope="v4")  # noqa: B009 - as above


def test_messages_have_their_attributes() -> None:
    """As documented, with defaults for everything but the id."""
    fields = "id chat_id role status content tool_calls created_at order text reasoning delta done output"
    fields += " pending_tool_calls pending_approvals"
    assert _lacking(Message("id"), fields) == []
    assert _lacking(ToolCall("id", "name"), "id name arguments status type requires_approval") == []
    assert find("RateLimitError")("detail", status_code=429, retry_after=2).retry_after == 2
    assert find("RequirementsNotMetError")("detail", status_code=412).errors == ()
    assert find("RunFailedError")("why").detail == "why"


def test_a_tool_is_a_mapping_of_its_wire_form() -> None:
    """Readable like any dict, and not to be changed."""
    built = tool("t").handler(print).build()
    assert isinstance(built, Tool)
    assert isinstance(built, Mapping)
    assert dict(built)["name"] == built["name"] == "t"
    assert built.handler is print
    assert "handler" not in dict(built)


# -- documentation -----------------------------------------------------------------------------------------------------


def documented() -> dict[str, object]:
    """Return every public function and class, and every public member of the classes."""
    found: dict[str, object] = {}
    for name in inferencesh.__all__:
        value = find(name)
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        found[name] = value
        members = vars(value) if inspect.isclass(value) else {}
        changes = dir(dict) if inspect.isclass(value) and issubclass(value, dict) else []  # a Tool refuses these
        for member, what in members.items():
            own = not member.startswith("_") and member not in changes
            if own and (inspect.isfunction(what) or isinstance(what, property | classmethod)):
                found[f"{name}.{member}"] = what
    return found


@pytest.mark.parametrize("name", documented())
def test_every_public_name_is_documented(name: str) -> None:
    """By a docstring of its own that begins with one sentence on one line or two."""
    doc = inspect.getdoc(documented()[name])
    assert doc
    first = doc.partition("\n\n")[0]
    assert first.endswith((".", ":"))
    assert first[0].isupper() or first.startswith("``") or first[0].isdigit()


@pytest.mark.parametrize("name", [name for name, value in documented().items() if inspect.isfunction(value)])
def test_arguments_are_explained_where_arguments_are_listed(name: str) -> None:
    """A docstring with an Args section has every argument in it, and no other."""
    function = documented()[name]
    doc = inspect.getdoc(function) or ""
    if "\nArgs:\n" not in doc:
        return
    section = doc.partition("\nArgs:\n")[2].partition("\n\n")[0]
    named = {line.strip().partition(":")[0] for line in section.splitlines() if line[4:5].strip()}
    assert inspect.isfunction(function)
    taken = {name for name in inspect.signature(function).parameters if name not in {"self", "cls"}}
    assert named == taken


# -- the package -------------------------------------------------------------------------------------------------------


def test_the_package_says_that_it_is_typed() -> None:
    """The marker stands in the package, and the wheel is the package with nothing left out."""
    assert (Path(inferencesh.__file__).parent / "py.typed").is_file()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["tool"]["hatch"]["build"]["targets"]["wheel"] == {"packages": ["inferencesh"]}
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert not [pattern for pattern in ignored if "typed" in pattern or pattern in {"*", "inferencesh", "/inferencesh"}]


def test_the_version_is_that_of_the_distribution() -> None:
    """One number, in one place."""
    assert inferencesh.__version__ == metadata.version("inferencesh")


def test_public_objects_are_of_this_package() -> None:
    """Nothing of other packages slips into the public names."""
    foreign = [name for name in inferencesh.__all__ if name != "__version__" and not is_ours(find(name))]
    assert foreign == []


def test_defaults_are_the_documented_ones() -> None:
    """What the documentation of Timeout and of the clients says about defaults."""
    assert Timeout() == Timeout(connect=10, idle=30, total=120)
    assert inspect.signature(Inference).parameters["max_retries"].default == 2
    assert issubclass(APITimeoutError, APIConnectionError)
    assert issubclass(ConfigurationError, ValueError)


def _lacking(thing: object, names: str) -> list[str]:
    return [name for name in names.split() if not hasattr(thing, name)]
