"""The table of ``docs/migrating.md``: every public name of the official SDK 0.36, and what has become of it.

    python -m docs.migrating

writes the page. ``tests/test_migrating.py`` proves that it is complete and up to date, and runs the rows' programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

__all__ = ["LEFT_OUT", "OFFICIAL", "PAGE", "SECTIONS", "Row", "Section", "render"]

PAGE = Path(__file__).with_name("migrating.md")

# What ``inferencesh.__all__`` of the official SDK 0.36.0 has.
OFFICIAL = frozenset(
    """
    APIError Agent AgentConfig AgentDelta AgentTool AgentToolDTO AgentsAPI AsyncAgent AsyncAgentsAPI AsyncFilesAPI
    AsyncInference AsyncLiveSession AsyncSessionHandle AsyncSessionsAPI AsyncSocketsAPI AsyncTasksAPI AudioMeta BaseApp
    BaseAppInput BaseAppOutput BaseAppSetup CLEAR_KEY ChatDTO ChatData ChatMessageContent ChatMessageContentType
    ChatMessageDTO ChatMessageRole ChatMessageStatus ChatStatus ClientTool ClientToolHandler ContextInjection
    ContextMessage ContextMessageRole CredentialRequirement DeltaAccumulator ERROR_KEY ErrorEventData File FilesAPI
    HookDecision HookEvent HookHandlerType ImageMeta Inference InternalToolsConfig LLMContextMessage LLMInput LLMOutput
    LifecycleHookBuilder LifecycleHookConfig LifecycleHookPayload LifecycleHookResponse Live LiveEnd LiveField LiveState
    LiveUpdate MediaType Message MetaItem MetaItemType Metadata OutputMeta PCM16 PCMFormat PendingApproval RawMeta Ref
    RequirementError RequirementsNotMetError SessionEndedError SessionError SessionExpiredError SessionHandle
    SessionNotFoundError SessionsAPI SetupAction Socket SocketsAPI StorageDir Stream StreamDelta StreamableMessage
    TaskStatus TasksAPI TextMeta Tool ToolAnnotations ToolCall ToolCallEventData ToolCallFunction ToolCallInfo
    ToolFunction ToolInvocationDTO ToolInvocationStatus ToolParameters ToolResultEventData ToolResultRequest ToolType
    Update UploadFileOptions VideoMeta VideoResolution WorkerLostError agent_tool alternative_label alternative_tag
    app_tool array async_inference binary_live_field boolean build_messages call_tool download enum_of function
    http_tool inference integer internal_tools is_message_ready is_terminal_status iter_ndjson learning_hooks
    lifecycle_hook mcp_tool media number obj optional parse_media_type parse_status pcm_format pending_approvals
    probe_video split_live_schema stream_generate stream_get stream_post streamable streamable_raw string timing_context
    tool webhook_tool
    """.split()  # noqa: SIM905 - a list of 148 lines would hide the table
)

LEFT_OUT = "left out"


@attrs.frozen
class Row:
    """One row: names that share their fate.

    Attributes:
        names: The official names, members as ``Agent.stop_chat``.
        here: What to write instead; "the same", or LEFT_OUT for what is left out.
        note: What is better or different, or why it is left out.
        program: A program that uses the official names, or what replaces them; "" where they are left out. It finds
            ``client``, an ``Inference``, and ``agent``, one of its agents.
    """

    names: Sequence[str]
    here: str
    note: str
    program: str = ""

    @property
    def left_out(self) -> bool:
        """Whether there is nothing in their place."""
        return self.here == LEFT_OUT


@attrs.frozen
class Section:
    """Some rows with a heading and a sentence or two before them."""

    title: str
    text: str
    rows: Sequence[Row]


_SAME = "the same"
_TOOL = 'tool("clock").describe("Tell the time").param("zone", string())'

CLIENTS = Section(
    "Clients",
    "`Inference(...)` and `AsyncInference(...)` take the same key and base URL, and both environment variables. One "
    "client may be used from several threads and event loops. Close it, best with `with`.",
    [
        Row(
            ["Inference", "AsyncInference", "inference", "async_inference"],
            _SAME,
            "Retries, time limits, proxies and TLS are arguments; the API key is in no log and no error.",
            """
from inferencesh import AsyncInference, Inference, async_inference, inference
assert type(inference("inf_key")) is Inference
assert type(async_inference(api_key="inf_key", base_url="https://api.inference.sh")) is AsyncInference
""",
        ),
        Row(
            ["Inference.agent", "Inference.agents", "AgentsAPI", "AsyncAgentsAPI"],
            "`client.agent(...)`, `client.agents.create(...)`",
            "`context` is a keyword; `chat_id=` takes an existing chat up.",
            """
from inferencesh import AgentsAPI, AsyncAgentsAPI
assert isinstance(client.agents, AgentsAPI)
assert client.agents.create("acme/support").chat_id is None
assert client.agent({"name": "x"}, context={"city": "Rome"}).chat_id is None
""",
        ),
        Row(
            ["Inference.files", "FilesAPI", "AsyncFilesAPI"],
            "`client.files.upload(source, filename=, content_type=)`",
            "The same in both clients, with progress and constant memory. A `str` is only ever a `data:` URI: write "
            "a path "
            "as `pathlib.Path`. `list`, `get` and `delete` are new.",
            """
from inferencesh import FilesAPI
assert isinstance(client.files, FilesAPI)
assert client.files.upload(b"x", filename="x.txt")["filename"] == "x.txt"
""",
        ),
        Row(
            ["Inference.upload_file", "UploadFileOptions"],
            "`client.files.upload`",
            "Alias, which also takes a path or base64 as text. `path` and `public` are not sent.",
            """
from inferencesh import UploadFileOptions
file = client.upload_file("eA==", UploadFileOptions(filename="x.txt", content_type="text/plain"))
assert (file["filename"], file["size"], bool(file["uri"])) == ("x.txt", 1, True)
""",
        ),
        Row(
            ["Ref"],
            LEFT_OUT,
            "References to agents and apps are texts, and are checked where they are used.",
        ),
    ],
)

AGENTS = Section(
    "Agents",
    "`send_message` returns the final message instead of the empty one that the service answers with, and `run` "
    "waits for "
    "the output. Arguments other than the text are keywords.",
    [
        Row(
            ["Agent", "AsyncAgent", "Agent.chat_id", "Agent.reset"],
            _SAME,
            "Agents are made by a client.",
            """
from inferencesh import Agent
assert isinstance(agent, Agent)
agent.send_message("Hello")
assert agent.chat_id
agent.reset()
assert agent.chat_id is None
""",
        ),
        Row(
            ["Agent.send_message"],
            _SAME,
            "Returns the final message, with `text`. `stream=True` gives snapshots. `on_message` may take one "
            "argument, "
            "the message, or `(text, done)`. `files=` works in both clients and takes paths, bytes and files. "
            "`attachments=` of the async agent is `files=`, `channel_context=` is gone.",
            """
seen = []
message = agent.send_message("Hello", on_message=lambda message: seen.append(message["status"]))
assert message["content"][0]["text"] == message.text
assert seen[-1] == "ready"
""",
        ),
        Row(
            ["AgentDelta", "DeltaAccumulator", "StreamDelta"],
            "`on_delta=`, `Delta`",
            "`delta.text` is what was added; `delta.rewritten` says that it replaces the text before. `message_id`, "
            "`delta`, `output` and `seq` are as they were. Accumulating is not needed: each snapshot is whole.",
            """
from inferencesh import AgentDelta
deltas: list[AgentDelta] = []
message = agent.send_message("Hello", on_delta=deltas.append)
assert "".join(each.delta["response"] for each in deltas) == deltas[-1].output["response"] == message.text
""",
        ),
        Row(
            ["ToolCallInfo"],
            "`ToolCall`",
            "Alias; `id`, `name` and `args` are as they were, and `arguments` are always decoded.",
            f"""
from inferencesh import ToolCallInfo, string, tool
calls: list[ToolCallInfo] = []
helper = client.agent({{"name": "helper", "tools": [{_TOOL}.build()]}})
helper.send_message('Use the clock for "UTC"', on_tool_call=calls.append)
assert (calls[0].name, calls[0].args) == ("clock", {{"zone": "UTC"}})
""",
        ),
        Row(
            ["Agent.run"],
            _SAME,
            "Waits for the end of the run. `output_type=` returns an instance of a class.",
            """
assert isinstance(agent.run("Add 3 and 4", output_type=list[int]), list)
""",
        ),
        Row(
            ["Agent.stop_chat"],
            "`agent.stop()`",
            "Alias.",
            """
agent.send_message("Hello")
agent.stop_chat()
""",
        ),
        Row(
            ["Agent.get_chat", "ChatDTO"],
            "`agent.get_chat()`, `client.chats.get(chat_id)`",
            "A `Chat`, which can also be read as the dict; without a chat an error instead of `None`.",
            """
from inferencesh import ChatDTO
agent.send_message("Hello")
chat: ChatDTO = agent.get_chat()
assert chat["id"] == client.chats.get(agent.chat_id)["id"] == agent.chat_id
assert chat["active_run"]["state"] == "completed"
""",
        ),
        Row(
            ["Agent.submit_tool_result", "ToolResultRequest"],
            _SAME,
            "Takes any JSON value, is posted until it is acknowledged, and `agent.wait()` goes on. `attachments=` is "
            "`files=`, which also uploads; the body of the request is none of your business any more.",
            f"""
from inferencesh import string, tool
helper = client.agent({{"name": "helper", "tools": [{_TOOL}.build()]}})
message = helper.send_message('Use the clock for "UTC"')
helper.submit_tool_result(message.pending_tool_calls[0].id, "noon")
assert "noon" in helper.wait().text
""",
        ),
        Row(
            ["Agent.approve_tool", "Agent.reject_tool"],
            _SAME,
            "They take the call as well as its id; `always_allow_tool` and `resolve_interrupt` are new.",
            f"""
from inferencesh import string, tool
helper = client.agent({{"name": "helper", "tools": [{_TOOL}.require_approval().build()]}})
message = helper.send_message('Use the clock for "UTC"')
helper.reject_tool(message.pending_approvals[0].id, "It is late")
assert helper.wait().done
""",
        ),
        Row(
            ["PendingApproval", "pending_approvals"],
            "`message.pending_approvals`",
            "Alias, for chats as objects or dicts.",
            f"""
from inferencesh import PendingApproval, pending_approvals, string, tool
helper = client.agent({{"name": "helper", "tools": [{_TOOL}.require_approval().build()]}})
message = helper.send_message('Use the clock for "UTC"')
(waiting,) = pending_approvals(helper.get_chat())
assert isinstance(waiting, PendingApproval)
assert waiting.tool_invocation_id == message.pending_approvals[0].id
helper.approve_tool(waiting.tool_invocation_id)
""",
        ),
        Row(
            ["Agent.stream_messages"],
            _SAME,
            "Yields snapshots of the present turn and ends with it; reconnects are the client's `max_reconnects=` and "
            "`backoff=`. A lost stream is an error instead of an early end.",
            """
agent.send_message("Hello")
assert list(agent.stream_messages()) == []
""",
        ),
        Row(
            ["Agent.stream_all"],
            "`agent.stream_messages(on_message=, on_tool_call=, on_delta=)`",
            "Alias, which waits for the end of the turn; `on_chat` is refused: see `agent.stream_events()`.",
            """
agent.send_message("Hello")
assert agent.stream_all(on_message=print).text
""",
        ),
        Row(
            ["Agent.stream_chat"],
            "`agent.stream_events()`",
            "Alias. `stream_events` has all events of the chat: `event.chat`, `event.message`, `event.run`, "
            "`event.data`.",
            """
agent.send_message("Hello")
for chat in agent.stream_chat():
    assert chat["id"] == agent.chat_id
    break
""",
        ),
        Row(
            ["Agent.upload_file"],
            _SAME,
            "In both clients, as `client.files.upload`. Base64 as text is refused; `client.upload_file` takes it.",
            """
assert agent.upload_file(b"x", filename="x.txt")["uri"]
assert agent.upload_file("data:text/plain;base64,eA==")["content_type"] == "text/plain"
""",
        ),
    ],
)

DATA = Section(
    "Data",
    "Messages, chats, tool calls, interrupts and files are immutable objects, and can be read as the dicts that the "
    'service sends: `message["content"]`, `.get`, `in`, iteration and `dict(message)` work. They are not dicts, so '
    "they "
    "are equal to none. Statuses compare with their texts, also unknown ones.",
    [
        Row(
            ["Message"],
            "`Message`",
            "Another class: here it is a message of a chat. The official one belongs to apps, see below.",
            """
from inferencesh import Message
assert isinstance(agent.send_message("Hello"), Message)
""",
        ),
        Row(
            ["ChatMessageDTO", "ChatMessageContent", "ToolInvocationDTO"],
            "`Message`, `Content`, `ToolCall`",
            "Aliases.",
            """
from inferencesh import ChatMessageContent, ChatMessageDTO, Content, Message, ToolCall, ToolInvocationDTO
assert (ChatMessageDTO, ChatMessageContent, ToolInvocationDTO) == (Message, Content, ToolCall)
message = agent.send_message("Hello")
assert isinstance(message, ChatMessageDTO)
assert [block.get("type") for block in message["content"]] == ["text"]
assert dict(message)["role"] == "assistant"
""",
        ),
        Row(
            ["ChatMessageStatus", "ChatMessageRole", "ChatMessageContentType", "ToolInvocationStatus"],
            "`MessageStatus`, `Role`, `ContentType`, `ToolCallStatus`",
            "Aliases.",
            """
from inferencesh import ChatMessageContentType, ChatMessageRole, ChatMessageStatus, ToolInvocationStatus
message = agent.send_message("Hello")
assert message.status == ChatMessageStatus.READY == "ready"
assert message.role == ChatMessageRole.ASSISTANT
assert message.content[0].type == ChatMessageContentType.TEXT
assert ToolInvocationStatus("awaiting_input") is ToolInvocationStatus.AWAITING_INPUT
""",
        ),
        Row(
            ["ChatStatus", "ToolType"],
            _SAME,
            "With `UNKNOWN` where the server does not say.",
            """
from inferencesh import ChatStatus, ToolType
agent.send_message("Hello")
assert agent.get_chat().status in {ChatStatus.IDLE, ChatStatus.COMPLETED}
assert ToolType.CLIENT == "client"
""",
        ),
        Row(
            ["is_message_ready"],
            "`message.done`",
            "Alias. A queued message is not ready.",
            """
from inferencesh import is_message_ready
message = agent.send_message("Hello")
assert is_message_ready(message["status"]) == message.done
assert not is_message_ready("queued") and not is_message_ready(None)
""",
        ),
        Row(
            ["ToolCall"],
            "`ToolCall`",
            "Another class: a call of a tool in a chat, with its status and result. The official one is the form in "
            "which "
            "a language model writes it.",
            """
from inferencesh import ToolCall
assert ToolCall("id", "clock", {"zone": "UTC"})["function"] == {"name": "clock", "arguments": {"zone": "UTC"}}
""",
        ),
        Row(
            ["ChatData", "InternalToolsConfig"],
            "`dict`",
            "Aliases, for annotations.",
            """
from inferencesh import ChatData, InternalToolsConfig
data: ChatData = {"memory": {}}
switches: InternalToolsConfig = {"plan": True}
""",
        ),
        Row(
            ["LLMContextMessage", "ToolCallFunction", "ToolFunction", "ToolParameters", "AgentToolDTO"],
            LEFT_OUT,
            "Parts of the wire that this package does not take or return; `raw` and the dict view have them as dicts.",
        ),
    ],
)

TOOLS = Section(
    "Tools and configurations",
    "The builders are the same. A tool carries its handler, which runs by itself when the agent calls it, and "
    "`@tool` makes one of a function with its type hints.",
    [
        Row(
            ["tool", "string", "number", "integer", "boolean", "enum_of", "array", "obj", "optional"],
            _SAME,
            "Descriptions of nested and optional values reach the model whole.",
            """
from inferencesh import array, boolean, enum_of, integer, number, obj, optional, string, tool
built = (
    tool("search")
    .describe("Search")
    .param("query", string("what"))
    .param("count", optional(integer()))
    .param("where", obj({"exact": boolean(), "weight": number(), "tags": array(enum_of(["a", "b"]))}))
    .build()
)
assert built["client"]["input_schema"]["required"] == ["query", "where"]
""",
        ),
        Row(
            ["AgentTool", "ClientTool", "ClientToolHandler"],
            "`Tool`, any function",
            '`.handler(f).build()` returns a Tool, a read-only mapping of what is sent: `["schema"]` is the tool '
            "itself. A "
            "handler takes the arguments by name, or all of them as one dict.",
            """
from inferencesh import AgentTool, ClientTool, Tool, tool
built = tool("clock").handler(lambda arguments: "noon").build()
assert AgentTool is ClientTool is Tool
assert isinstance(built, AgentTool) and built["name"] == "clock"
""",
        ),
        Row(
            ["Tool"],
            "`Tool`",
            "Another class: what `.build()` returns. The official one is the form in which a language model is given a "
            "tool.",
            """
from inferencesh import Tool, tool
assert isinstance(tool("clock").build(), Tool)
""",
        ),
        Row(
            ["app_tool", "agent_tool", "webhook_tool", "http_tool", "call_tool", "mcp_tool", "internal_tools"],
            _SAME,
            "Parameters of app and agent tools are sent, nothing is sent as null.",
            """
from inferencesh import agent_tool, app_tool, call_tool, http_tool, internal_tools, mcp_tool, webhook_tool
config = {
    "name": "x",
    "tools": [
        app_tool("draw", "infsh/flux").build(),
        agent_tool("ask", "acme/expert").build(),
        webhook_tool("hook", "https://example.com/x").build(),
        http_tool("get", "https://example.com/x").build(),
        call_tool("call", "https://example.com/x").build(),
        mcp_tool("mcp", server="acme/server", tool_name="t").build(),
    ],
    "internal_tools": internal_tools().plan().memory().build(),
}
assert client.agent(config).send_message("Hello").done
""",
        ),
        Row(
            ["lifecycle_hook", "learning_hooks", "LifecycleHookBuilder", "HookEvent"],
            _SAME,
            "Mistakes are found when the configuration is made.",
            """
from inferencesh import HookEvent, LifecycleHookBuilder, learning_hooks, lifecycle_hook
builder = lifecycle_hook(HookEvent.AGENT_START)
assert isinstance(builder, LifecycleHookBuilder)
hooks = [builder.webhook("https://example.com/hook").build(), *learning_hooks()]
assert client.agent({"name": "x", "hooks": hooks}).send_message("Hello").done
""",
        ),
        Row(
            [
                *("LifecycleHookConfig", "LifecycleHookPayload", "LifecycleHookResponse", "ContextInjection"),
                *("HookHandlerType", "HookDecision", "ToolCallEventData", "ToolResultEventData", "ErrorEventData"),
            ],
            _SAME,
            "Types of what the webhook of a hook receives and answers.",
            """
from inferencesh import ContextInjection, ErrorEventData, HookDecision, HookHandlerType, LifecycleHookConfig
from inferencesh import LifecycleHookPayload, LifecycleHookResponse, ToolCallEventData, ToolResultEventData


def answer(payload: LifecycleHookPayload) -> LifecycleHookResponse:
    data: ToolCallEventData | ToolResultEventData | ErrorEventData = payload["data"]
    if data["tool"] == "delete":
        return {"decision": HookDecision.DENY, "reason": "Nothing is deleted here."}
    return {"inject": ContextInjection(content="It is noon.")}


assert answer({"event": "agent.tool_call", "data": {"tool": "delete"}})["decision"] == "deny"
config: LifecycleHookConfig = {"event": "agent.start", "type": HookHandlerType.HOOK_HANDLER_WEBHOOK}
""",
        ),
        Row(
            ["AgentConfig"],
            _SAME,
            "A `TypedDict`; a plain dict will do. Unknown names are warned of.",
            """
from inferencesh import AgentConfig
config: AgentConfig = {"name": "x", "system_prompt": "Be brief."}
assert client.agent(config).send_message("Hello").done
""",
        ),
    ],
)

ERRORS = Section(
    "Errors",
    "All errors are `InferenceError`. They carry status, code and detail, the last snapshot of a turn that they "
    "ended, and "
    "never the API key. See the tree in the README.",
    [
        Row(
            ["APIError"],
            _SAME,
            "With a class for each status: `NotFoundError`, `RateLimitError` and so on.",
            """
from inferencesh import APIError, NotFoundError
try:
    client.chats.get("no-such-chat")
except APIError as error:
    assert (error.status_code, error.code, type(error)) == (404, "not_found", NotFoundError)
""",
        ),
        Row(
            ["RequirementsNotMetError", "RequirementError", "SetupAction"],
            "`RequirementsNotMetError`",
            'Raised by every call that the service answers so. `error.errors` are mappings: `item["key"]`, '
            '`item["action"]`.',
            """
from inferencesh import APIError, RequirementsNotMetError
error = RequirementsNotMetError("no", status_code=412, body={"errors": [{"type": "secret", "key": "KEY"}]})
assert isinstance(error, APIError) and error.errors[0]["key"] == "KEY"
""",
        ),
        Row(
            ["SessionError", "SessionNotFoundError"],
            "`APIError`, `NotFoundError`",
            "Aliases.",
            """
from inferencesh import APIError, NotFoundError, SessionError, SessionNotFoundError
assert issubclass(SessionNotFoundError, SessionError)
assert (SessionError, SessionNotFoundError) == (APIError, NotFoundError)
""",
        ),
    ],
)

REQUESTS = Section(
    "Requests of your own",
    "`client.request`, `client.paginate` and `client.stream` reach every endpoint, see [requests.md](requests.md).",
    [
        Row(
            ["streamable", "streamable_raw", "iter_ndjson", "stream_get", "stream_post", "StreamableMessage"],
            '`client.stream("GET", path)`',
            "Values, lines or bytes of any stream, NDJSON or server-sent events, with the client's errors. The "
            "official "
            "functions take responses of other HTTP libraries and are left out.",
            """
agent.send_message("Hello")
for event in client.stream("GET", f"/chats/{agent.chat_id}/stream"):
    assert event["event"] == "chats"
    break
""",
        ),
    ],
)

TASKS = Section(
    "Apps, tasks and sessions",
    "`client.run(...)` takes the official dict, or the app and its input; `stream` and `wait` are as they were. A task "
    "is a `Task`, which can also be read as the dict. A task that fails raises `TaskFailedError`, which carries the "
    "last one.",
    [
        Row(
            ["Inference.run", "Inference.tasks", "TasksAPI", "AsyncTasksAPI"],
            "`client.run(app, input)`, `client.tasks`",
            "Reconnects are the client's `max_reconnects=`. Files in the input are `Path`, bytes or file objects.",
            """
from inferencesh import TasksAPI
task = client.run({"app": "demo/text", "input": {"template": "Hello {name}!", "values": {"name": "Ada"}}})
assert task["output"]["text"] == "Hello Ada!"
assert isinstance(client.tasks, TasksAPI)
""",
        ),
        Row(
            ["Inference.get_task", "Inference.stream_task", "Inference.wait_for_completion", "Inference.cancel"],
            "`client.tasks.get`, `stream`, `wait`, `cancel`",
            "Aliases. `get_task` returns the task itself instead of a response with `data`.",
            """
task = client.run("demo/text", {"template": "Hello"})
assert client.get_task(task["id"])["id"] == task["id"]
assert client.wait_for_completion(task["id"])["status"] == 10
assert [update["status"] for update in client.stream_task(task["id"])][-1] == 10
""",
        ),
        Row(
            ["TaskStatus", "parse_status", "is_terminal_status"],
            "`TaskStatus`, `TaskStatus(status)`, `task.done`",
            "Numbers as before, printed as names; unknown ones are members of their own.",
            """
from inferencesh import TaskStatus, is_terminal_status, parse_status
assert parse_status("completed") is parse_status(10) is TaskStatus.COMPLETED
assert is_terminal_status(TaskStatus.REJECTED) and not is_terminal_status("running")
""",
        ),
        Row(
            [
                "Inference.session",
                "Inference.sessions",
                "SessionHandle",
                "AsyncSessionHandle",
                "SessionsAPI",
                "AsyncSessionsAPI",
            ],
            "`client.session(app)`, `client.sessions`",
            "Kept alive while in use and ended with the block; `session.run(input, function=)` is the official `call`.",
            """
from inferencesh import SessionHandle, SessionsAPI
assert isinstance(client.sessions, SessionsAPI)
assert isinstance(client.session("demo/text"), SessionHandle)
""",
        ),
        Row(
            ["SessionExpiredError", "SessionEndedError", "WorkerLostError"],
            "`SessionExpiredError`, `WorkerLostError`",
            "`SessionEndedError` is an alias of `SessionExpiredError`.",
            """
from inferencesh import SessionEndedError, SessionExpiredError, WorkerLostError
assert SessionEndedError is SessionExpiredError
assert issubclass(WorkerLostError, Exception)
""",
        ),
    ],
)

APPS = Section(
    "Writing apps",
    "The official package also holds what an app imports that runs on the platform's workers. This package is a "
    "client and "
    "has none of it: install the official one in the app's own environment.",
    [
        Row(
            [
                *("BaseApp", "BaseAppInput", "BaseAppOutput", "BaseAppSetup", "File", "Metadata", "function"),
                *("ToolAnnotations", "CredentialRequirement", "StorageDir", "download"),
                *("ContextMessage", "ContextMessageRole", "LLMInput", "LLMOutput", "build_messages", "stream_generate"),
                *(
                    "timing_context",
                    "MetaItem",
                    "MetaItemType",
                    "TextMeta",
                    "ImageMeta",
                    "VideoMeta",
                    "VideoResolution",
                ),
                *("AudioMeta", "RawMeta", "OutputMeta", "probe_video"),
            ],
            LEFT_OUT,
            "The base classes, files, language model helpers and metering of apps.",
        ),
    ],
)

LIVE = Section(
    "Live sockets",
    "A stream function of an app keeps a WebSocket open with its caller. This package has no counterpart of "
    "`client.live` and `client.sockets`, because too little of the wire is known to build and prove one. Known from "
    "the "
    "official Python package: the response of `POST /apps/run` carries `socket: {id, url, token, expires_at}`; the "
    "client "
    "dials `url` with `access_token=<token>` in the query; `POST /sockets/{id}/access` issues another token; a binary "
    "frame is an item of the one binary field of the input or output (such as 16-bit little-endian PCM), a text "
    "frame a "
    "JSON object by field; `$clear` and `$error` are control frames; the close codes 1012 and 1013 ask for another "
    "attempt. Unknown:\n\n"
    "- no exchange has been recorded or published, so none of this has been seen to hold;\n"
    "- what the relay sends before the worker is there, whether it pings, and after which silence it closes;\n"
    "- whether a token can be used twice, how long it holds, and what refuses an expired one (a status of the "
    "handshake or "
    "a close code);\n"
    "- the other close codes, and which of them stand for the end of the task, its failure, or a second caller;\n"
    "- whether frames are lost, repeated or kept when either end dials again, and whether anything numbers them;\n"
    "- the largest frame, and what the relay does when a reader is slow.\n\n"
    "Until that is known, use the official package for live functions.",
    [
        Row(
            [
                *("AsyncLiveSession", "LiveEnd", "LiveState", "LiveField", "LiveUpdate", "MediaType", "PCMFormat"),
                *("split_live_schema", "alternative_label", "alternative_tag", "CLEAR_KEY", "ERROR_KEY"),
                *("binary_live_field", "parse_media_type", "pcm_format", "SocketsAPI", "AsyncSocketsAPI", "Socket"),
                *("Live", "PCM16", "Stream", "Update", "media", "Inference.sockets", "Inference.live"),
            ],
            LEFT_OUT,
            "See above.",
        ),
    ],
)

SECTIONS = [CLIENTS, AGENTS, DATA, TOOLS, ERRORS, REQUESTS, TASKS, APPS, LIVE]

_HEAD = """\
# Migrating from the official SDK

A program that was written for `inferencesh` 0.36 goes on working after the requirement was changed, apart from what
this page names. The names of its classes and functions are kept, as aliases where this package has another name for
the same thing. Both clients have the same methods with the same arguments.

The page is made by `python -m docs.migrating` from a table that covers every public name of that version. Each row with
a counterpart here has a small program, which the tests run.
"""


def render() -> str:
    """Return the page."""
    return "\n".join([_HEAD, *(_section(section) for section in SECTIONS)])


def _section(section: Section) -> str:
    rows = "\n".join(f"| {_names(row.names)} | {row.here} | {row.note} |" for row in section.rows)
    return f"## {section.title}\n\n{section.text}\n\n| official | here | |\n|---|---|---|\n{rows}\n"


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name.replace('Inference.', 'client.').replace('Agent.', 'agent.')}`" for name in names)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
