"""Build the documentation site in ``build/docs``: the guides, and a reference page for each public class.

    python -m docs [directory]

Zensical makes the site, and mkdocstrings the reference from the docstrings. Zensical is developed by the authors of
Material for MkDocs, which is at the end of its life; it checks links, and its search and its two colour schemes need
nothing from other hosts. This program writes what they read: the list of pages and the pages of the reference.
"""

from __future__ import annotations

import importlib
import inspect
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

import inferencesh

__all__ = ["GUIDES", "MODULES", "REFERENCE", "build", "public_names"]

ROOT = Path(__file__).parent.parent
MODULES = (
    "inferencesh",
    "inferencesh.claims",
    "inferencesh.local",
    "inferencesh.local.models",
    "inferencesh.testing",
    "inferencesh.web",
)

GUIDES: Mapping[str, Sequence[str]] = {
    "Guides": (
        "streaming",
        "tools",
        "typed-tools",
        "types",
        "docstrings-and-results",
        "structured-output",
        "approvals",
        "files",
        "chats",
        "apps-and-tasks",
        "errors",
        "requests",
        "migrating",
        "services",
        "claims",
        "chat-page",
        "fleet",
        "testing",
        "runtime",
        "models",
        "playground",
        "terminal",
        "other-clients",
        "tracing",
    ),
    "About": ("guarantees", "performance", "fleet-sizing", "architecture"),
}

REFERENCE: Mapping[str, Sequence[str]] = {
    "Clients": ("Inference", "AsyncInference", "inference", "async_inference", "AgentConfig", "Timeout", "Backoff"),
    "Conversations": ("Agent", "AsyncAgent", "MessageStream", "AsyncMessageStream", "EventStream", "AsyncEventStream"),
    "Chats, agents, files": ("Chats", "AsyncChats", "Agents", "AsyncAgents", "Files", "AsyncFiles"),
    "Apps, tasks, sessions": (
        "Tasks",
        "AsyncTasks",
        "TaskStream",
        "AsyncTaskStream",
        "Sessions",
        "AsyncSessions",
        "Session",
        "AsyncSession",
        "Task",
        "TaskEvent",
        "TaskFile",
        "TaskLog",
        "TaskStatus",
        "TaskUsage",
        "AppSession",
        "SessionStatus",
        "DeletedFiles",
    ),
    "Several workers": (
        "RedisClaims",
        "MemoryClaims",
        "ClaimStore",
        "claims.Claim",
        "claims.ClaimState",
        "claims.HeldClaim",
        "Supervisor",
        "Takeover",
    ),
    "Requests": ("Response", "ResponseStream", "AsyncResponseStream"),
    "Data": (
        "Message",
        "Delta",
        "Event",
        "Content",
        "ToolCall",
        "Run",
        "Chat",
        "Interrupt",
        "FileRef",
        "ChatTrace",
        "Usage",
        "MappingView",
        "ChatStatus",
        "ContentType",
        "InterruptReason",
        "InterruptStatus",
        "MessageStatus",
        "Role",
        "RunState",
        "ToolCallStatus",
        "ToolType",
    ),
    "Tools": (
        "tool",
        "Tool",
        "FunctionTool",
        "ToolBuilder",
        "ToolContext",
        "inline",
        "string",
        "number",
        "integer",
        "boolean",
        "enum_of",
        "array",
        "obj",
        "optional",
    ),
    "Tools of the service": (
        "app_tool",
        "agent_tool",
        "http_tool",
        "call_tool",
        "webhook_tool",
        "mcp_tool",
        "internal_tools",
        "lifecycle_hook",
        "learning_hooks",
        "widget_action",
        "AppToolBuilder",
        "AgentToolBuilder",
        "HTTPToolBuilder",
        "WebhookToolBuilder",
        "MCPToolBuilder",
        "InternalToolsBuilder",
        "LifecycleHookBuilder",
        "BuiltinHook",
        "HookEvent",
    ),
    "Errors": (
        "InferenceError",
        "ConfigurationError",
        "APIError",
        "AuthenticationError",
        "PermissionDeniedError",
        "NotFoundError",
        "ConflictError",
        "RequirementsNotMetError",
        "RateLimitError",
        "InternalServerError",
        "APIConnectionError",
        "APITimeoutError",
        "StreamError",
        "LeaseHeldError",
        "LeaseLostError",
        "ClaimStoreError",
        "RunFailedError",
        "InputRequiredError",
        "OutputError",
        "FileError",
        "TaskFailedError",
        "TaskCancelledError",
        "TaskTimeoutError",
        "SessionExpiredError",
        "WorkerLostError",
        "CallbackCancelledError",
        "ConfigurationWarning",
    ),
    "Web": (
        "web.sse",
        "web.ndjson",
        "web.snapshot",
        "web.describe_error",
        "web.Problem",
        "web.WebStream",
        "web.render_markdown",
        "web.RenderedMarkdown",
        "web.page_files",
    ),
    "Testing": ("testing.ScriptedRuntime", "testing.SentMessage", "testing.SentResult", "testing.SentTask"),
    "Embedded runtime": (
        "local.LocalRuntime",
        "local.BackgroundRuntime",
        "local.RuntimeOptions",
        "local.LocalAddress",
        "local.Model",
        "local.DemoModel",
        "local.Conversation",
        "local.ConversationMessage",
        "local.OfferedTool",
        "local.PastCall",
        "local.Attachment",
        "local.Text",
        "local.Reasoning",
        "local.ToolCall",
        "local.Ask",
        "local.Widget",
        "local.Finish",
        "local.Fail",
        "local.Usage",
        "local.TaskContext",
        "local.Progress",
        "local.OutputFile",
        "local.SentTask",
        "local.DatabaseError",
        "local.SentMessage",
        "local.SentResult",
        "local.models.LlamaModel",
        "local.models.OpenAIChatModel",
        "local.models.DemoModel",
    ),
}


def build(directory: Path) -> None:
    """Write the site.

    Args:
        directory: The directory to write to. It is replaced if it exists.

    Raises:
        SystemExit: A page cannot be built without a warning, or a link leads nowhere; the text says which.
    """
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch)
        pages = source / "pages"
        shutil.copytree(ROOT / "docs", pages, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
        navigation: list[Mapping[str, object]] = [
            {"Home": "index.md"},
            *_guides(),
            {"Reference": list(_write_reference(pages))},
        ]
        (source / "zensical.toml").write_text(_configuration(navigation), encoding="utf-8")
        command = [sys.executable, "-m", "zensical", "build", "--strict"]
        done = subprocess.run(
            command, cwd=source, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode or "griffe:" in done.stdout:  # griffe's warnings do not fail a strict build
            raise SystemExit(f"the documentation cannot be built without warnings:\n{done.stdout}")
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(source / "site", directory)


def public_names() -> dict[str, str]:
    """Return the public classes and functions as the reference names them, each with its full name.

    What ``inferencesh`` itself exports is not named again.
    """
    found: dict[str, str] = {}
    top = [getattr(inferencesh, name) for name in inferencesh.__all__]
    for module in MODULES:
        loaded = importlib.import_module(module)
        for name in loaded.__all__:
            thing = getattr(loaded, name)
            again = module != "inferencesh" and any(thing is each for each in top)
            if (inspect.isclass(thing) or inspect.isfunction(thing)) and not again:
                found[f"{module}.{name}".removeprefix("inferencesh.")] = f"{module}.{name}"
    return found


def _guides() -> Iterator[dict[str, list[str]]]:
    for title, names in GUIDES.items():
        yield {title: [f"{name}.md" for name in names]}


def _write_reference(pages: Path) -> Iterator[dict[str, list[str | dict[str, str]]]]:
    """Write the pages of the reference, and yield its groups for the navigation."""
    public = public_names()
    (pages / "reference").mkdir()
    for title, names in REFERENCE.items():
        group = title.lower().replace(",", "").replace(" ", "-")
        classes = [name for name in names if inspect.isclass(_loaded(public[name]))]
        functions = [name for name in names if name not in classes]
        overview = [f"# {title}\n"]
        for name in names:
            target = f"{name}.md" if name in classes else f"#{public[name]}"
            overview.append(f"- [`{name}`]({target}): {_summary(public[name])}")
        overview += ["", *(_directive(public[name], heading=True) for name in functions)]
        (pages / f"reference/{group}.md").write_text("\n".join(overview) + "\n", encoding="utf-8")
        for name in classes:
            text = f"# {name}\n\n{_directive(public[name], heading=_has_constructor(_loaded(public[name])))}"
            (pages / f"reference/{name}.md").write_text(text, encoding="utf-8")
        yield {title: [f"reference/{group}.md", *({name: f"reference/{name}.md"} for name in classes)]}


def _directive(full_name: str, *, heading: bool) -> str:
    """Return what mkdocstrings replaces by the documentation of a class or function."""
    return f"::: {full_name}\n    options:\n      show_root_heading: {str(heading).lower()}\n      heading_level: 2\n"


def _has_constructor(thing: object) -> bool:
    """Whether a class is documented as one to be called, with arguments that the sources show.

    mkdocstrings reads the sources, which do not have the ``__init__`` that attrs makes.
    """
    if not isinstance(thing, type) or "__init__" not in vars(thing) or attrs.has(thing):
        return False
    return bool(vars(thing)["__init__"].__doc__) or "Args:" in (thing.__doc__ or "")


def _loaded(full_name: str) -> object:
    module, _, name = full_name.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _summary(full_name: str) -> str:
    """Return the first sentence of a docstring."""
    text = " ".join((inspect.getdoc(_loaded(full_name)) or "").partition("\n\n")[0].split())
    return text.replace("``", "`")


def _configuration(navigation: Sequence[Mapping[str, object]]) -> str:
    """Return the text of ``zensical.toml``; JSON's strings and lists are also TOML's."""

    def toml(value: object) -> str:
        if isinstance(value, Mapping):
            return "{ " + ", ".join(f"{json.dumps(key)} = {toml(each)}" for key, each in value.items()) + " }"
        if isinstance(value, Sequence) and not isinstance(value, str):
            return "[" + ", ".join(map(toml, value)) + "]"
        return json.dumps(value)

    return f"""
[project]
site_name = "inferencesh"
site_description = "Stream inference.sh agents from Python: every update is the complete message so far."
docs_dir = "pages"
site_dir = "site"
nav = {toml(navigation)}

[project.theme]
font = false
features = ["navigation.sections", "navigation.indexes", "content.code.copy", "toc.follow"]

[[project.theme.palette]]
media = "(prefers-color-scheme: light)"
scheme = "default"
toggle.icon = "lucide/sun"
toggle.name = "Use the dark colours"

[[project.theme.palette]]
media = "(prefers-color-scheme: dark)"
scheme = "slate"
toggle.icon = "lucide/moon"
toggle.name = "Use the light colours"

[project.plugins.mkdocstrings.handlers.python]
paths = [{toml(str(ROOT))}]
inventories = []

[project.plugins.mkdocstrings.handlers.python.options]
docstring_style = "google"
docstring_options = {{ warn_unknown_params = false, warn_missing_types = false }}
docstring_section_style = "list"
filters = ["!^_"]
merge_init_into_class = true
inherited_members = true
members_order = "source"
separate_signature = true
show_bases = false
show_overloads = false
show_signature_annotations = true
show_source = false
show_symbol_type_heading = true
show_symbol_type_toc = true
signature_crossrefs = true
"""


if __name__ == "__main__":
    build(Path(sys.argv[1] if len(sys.argv) > 1 else "build/docs"))
