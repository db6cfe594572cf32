"""Apps of the embedded runtime: Python functions, what their inputs must be, and how they are called.

The type hints of a function say what its input must hold. The same code that reads hints for typed tools reads them
here; it knows nothing of the protocol.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from typing import Any, Self, TypeAlias

import attrs

from inferencesh._loops.invoke import checked_call, start_in_thread
from inferencesh._text import whole_characters
from inferencesh._types.hints import hints_of, local_names, resolve
from inferencesh._types.output import JsonTypes
from inferencesh._types.reading import problems_of

from .errors import ProblemError, not_found
from .files import is_media_type

__all__ = [
    "ANY_APP",
    "AppFunction",
    "AppRegistry",
    "OutputFile",
    "Progress",
    "TaskContext",
    "input_refused",
]

ANY_APP = "*"
"""The name of the app that runs when no other one has the name of a request."""

_DEFAULT_FUNCTION = "run"
_ANY = frozenset({Any, object, dict, Mapping})

Listener: TypeAlias = Callable[["Progress"], None]


@attrs.frozen
class Progress:
    """What an app yields while it works: how far it is, what it logs, or a part of its output.

    Args:
        fraction: How far it is, from 0.0 to 1.0; None if that has not changed.
        log: A line for the task's log, or "".
        output: The output so far, or None.

    Example:
        ```python
        def count(to: int):
            for number in range(1, to + 1):
                yield Progress(number / to, log=f"counted {number}")
            return {"counted": to}


        with Inference.local(apps={"me/count": count}, pace=0) as client:
            task = client.tasks.run("me/count", {"to": 2})
            print(task.output, task.log.splitlines())
        ```

        ```text
        {'counted': 2} ['counted 1', 'counted 2']
        ```
    """

    fraction: float | None = attrs.field(default=None, converter=attrs.converters.optional(float))
    log: str = ""
    output: object = None

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.log, str):
            raise TypeError(f"A line of a log is a str, not {self.log!r}.")
        if self.fraction is not None and not 0 <= self.fraction <= 1:
            raise ValueError(f"A progress is a fraction from 0.0 to 1.0, not {self.fraction!r}.")


@attrs.frozen
class OutputFile:
    """A file that an app makes; in the output that clients receive stands where to download it.

    Args:
        content: The content.
        filename: The name.
        content_type: The MIME type.

    Example:
        ```python
        def greet(name: str):
            return {"letter": OutputFile(f"Dear {name}".encode(), "letter.txt", "text/plain")}


        with Inference.local(apps={"me/greet": greet}, pace=0) as client:
            task = client.tasks.run("me/greet", {"name": "Ada"})
            print(client.files.download(task.output["letter"]))
        ```

        ```text
        b'Dear Ada'
        ```
    """

    content: bytes = attrs.field(repr=False)
    filename: str = attrs.field(default="output.bin", converter=whole_characters)
    content_type: str = "application/octet-stream"

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.content, bytes):
            raise TypeError(f"The content of an OutputFile is bytes, not {type(self.content).__name__}; encode text.")
        if not is_media_type(self.content_type):
            raise ValueError(f"{self.content_type!r} is no MIME type, such as image/png.")


class TaskContext:
    """What an app can find out and tell about the task that it runs in; passed to parameters with this hint.

    Args:
        task_id: The task's id.
        session_id: The session's id, or None.
        state: The session's state, which must be JSON; of a task without session it is thrown away.
        files: The content of the uploaded files in the input, by URI.
        tell: Receives what ``progress`` and ``log`` are called with; called on any thread.

    Attributes:
        cancelled: Whether the task was cancelled, so that the function should return. Its result is ignored.

    Example:
        ```python
        def count(context: TaskContext):
            context.state["calls"] = context.state.get("calls", 0) + 1
            context.log("counted")
            return {"calls": context.state["calls"]}


        with Inference.local(apps={"me/count": count}, pace=0) as client, client.session("me/count") as session:
            session.run()
            print(session.run().output)
        ```

        ```text
        {'calls': 2}
        ```
    """

    def __init__(
        self,
        task_id: str,
        session_id: str | None,
        state: dict[str, object],
        files: Mapping[str, bytes],
        tell: Listener,
    ) -> None:
        self.task_id = task_id
        self.session_id = session_id
        self.state = state
        self.files = files
        self.cancelled = False
        self._tell = tell

    def progress(self, fraction: float) -> None:
        """Tell how far the task is, from 0.0 to 1.0."""
        self._tell(Progress(fraction))

    def log(self, line: str) -> None:
        """Add a line to the task's log."""
        self._tell(Progress(log=line))


def input_refused(wrong: Mapping[str, str], app: str) -> ProblemError:
    """Return the 412 error for an input that does not match an app's schema.

    Args:
        wrong: What is wrong, by field.
        app: The app.
    """
    told = "; ".join(f"{name}: {text}" for name, text in wrong.items())
    errors = [{"type": "input", "key": name, "message": text} for name, text in wrong.items()]
    return ProblemError(
        412,
        f"The input does not fit the app {app}: {told}",
        code="requirements_not_met",
        extra={"satisfied": False, "errors": errors},
    )


class AppFunction:
    """One function of an app, made of a Python function.

    Args:
        app: The name of the app.
        function: The function: sync, async, or a generator of either kind.
        names: Local names that its hints may refer to.

    Attributes:
        schema: The JSON Schema of its input.

    Raises:
        TypeError: Its parameters have no names, or hints that have no JSON Schema.
    """

    def __init__(self, app: str, function: Callable[..., Any], names: Mapping[str, Any] | None = None) -> None:
        self._app = app
        self._function = function
        self._context: str | None = None
        self._hints: dict[str, Any] = {}
        self._optional: set[str] = set()
        self._whole: str | None = None  # the parameter that takes the whole input
        for parameter in inspect.signature(function).parameters.values():
            self._add(parameter, names)
        self._read_whole = self._find_whole()
        self._types = JsonTypes()
        self._described = {name: self._types.add(each) for name, each in self._hints.items()}
        self.schema = self._make_schema()

    def bind(self, value: object) -> dict[str, Any]:
        """Return the arguments for an input.

        Raises:
            ProblemError: 412 if the input does not match; its ``errors`` name each field.
        """
        if self._whole is not None:
            return {self._whole: self._read({self._whole: value}, "")[self._whole]}
        if not isinstance(value, dict):
            raise input_refused({"input": "must be an object"}, self._app)
        wrong = {name: "is unknown" for name in value if name not in self._hints}
        wrong |= {name: "is missing" for name in self._hints if name not in value and name not in self._optional}
        return self._read({name: item for name, item in value.items() if name in self._hints}, None, wrong)

    async def call(self, arguments: Mapping[str, Any], context: TaskContext, tell: Listener) -> object:
        """Call the function and return its output.

        Args:
            arguments: The arguments from ``bind``.
            context: The context.
            tell: Receives what it yields, on the event loop.
        """
        given = {**arguments, **({self._context: context} if self._context is not None else {})}
        function = self._function
        if inspect.isasyncgenfunction(function):
            return await _drained(function(**given), tell)
        if inspect.iscoroutinefunction(function):
            return await function(**given)
        result = await start_in_thread(lambda: checked_call(lambda: function(**given)))
        if inspect.isgenerator(result):
            return await _stepped(result, tell)
        return await result if inspect.isawaitable(result) else result

    def _add(self, parameter: inspect.Parameter, names: Mapping[str, Any] | None) -> None:
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}:
            raise TypeError(f"The app {self._app}: its parameter {parameter} cannot be given by name.")
        hint = parameter.annotation
        hint = Any if hint is parameter.empty else resolve(hint, self._function, names)
        if hint is TaskContext:
            self._context = parameter.name
            return
        self._hints[parameter.name] = hint
        if parameter.default is not parameter.empty:
            self._optional.add(parameter.name)

    def _find_whole(self) -> bool:
        """Find whether the only parameter takes the whole input: it is a mapping, or a class with fields."""
        if len(self._hints) != 1:
            return False
        name, hint = next(iter(self._hints.items()))
        origin = getattr(hint, "__origin__", hint)
        fields = isinstance(origin, type) and origin.__module__ != "builtins" and bool(_fields_of(hint))
        if fields or (origin in _ANY and (hint is not Any or name == "input")):
            self._whole = name
        return self._whole is not None

    def _make_schema(self) -> dict[str, object]:
        schemas = {name: each.schema for name, each in self._described.items()}
        extra: dict[str, object] = {"$defs": dict(self._types.definitions)} if self._types.definitions else {}
        if self._whole is not None:
            return {**schemas[self._whole], **extra}
        required = [name for name in self._hints if name not in self._optional]
        return {"type": "object", "properties": schemas, "required": required, **extra}

    def _read(
        self, values: Mapping[str, object], root: str | None, wrong: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Read values as the hints of their parameters; ``root`` replaces the name of the parameter in errors."""
        wrong = {} if wrong is None else wrong
        read: dict[str, Any] = {}
        for name, value in values.items():
            try:
                read[name] = self._described[name].read(value)
            except Exception as error:  # noqa: BLE001 - a class's own validators may raise anything
                for place, text in problems_of(error):
                    path = (name if root is None else root) + place
                    wrong[path.removeprefix(".") or "input"] = text
        if wrong:
            raise input_refused(wrong, self._app)
        return read


def _fields_of(hint: Any) -> Mapping[str, Any]:
    try:
        return hints_of(hint)
    except Exception:  # noqa: BLE001 - an odd class may raise anything; then it is no class with fields
        return {}


async def _drained(steps: AsyncIterator[object], tell: Listener) -> object:
    output: object = None
    try:
        async for step in steps:
            progress = _as_progress(step)
            output = progress.output if progress.output is not None else output
            tell(progress)
    finally:
        close = getattr(steps, "aclose", None)
        if close is not None:
            await close()
    return output


async def _stepped(steps: Iterator[object], tell: Listener) -> object:
    """Take the steps of a generator, each in a worker thread, and return its return value, or else its last output."""
    output: object = None
    end: list[object] = []

    def step() -> object:
        try:
            return next(steps)
        except StopIteration as stop:
            end.append(stop.value)
            return None

    taken = await start_in_thread(step)
    while not end:
        progress = _as_progress(taken)
        output = progress.output if progress.output is not None else output
        tell(progress)
        taken = await start_in_thread(step)
    return end[0] if end[0] is not None else output


def _as_progress(step: object) -> Progress:
    """Return what was yielded as a Progress: a number is a fraction, a text a line of the log, all else the output."""
    if isinstance(step, Progress):
        return step
    if isinstance(step, str):
        return Progress(log=step)
    if isinstance(step, int | float) and not isinstance(step, bool):
        return Progress(float(step))
    return Progress(output=step)


class AppRegistry:
    """The apps of a runtime, by name, each with its functions."""

    def __init__(self) -> None:
        self._apps: dict[str, dict[str, AppFunction | Callable[[], AppFunction]]] = {}

    @classmethod
    def of(cls, apps: Mapping[str, Callable[..., Any]], demos: Callable[[], Mapping[str, Callable[..., Any]]]) -> Self:
        """Return a registry of these apps, and of the demo apps unless one of these stands for every app."""
        registry = cls()
        if ANY_APP not in apps:
            for name, function in demos().items():
                registry.add(name, function, lazily=True)
        for name, function in apps.items():
            registry.add(name, function, 3)  # the scope that makes the runtime
        return registry

    def add(self, name: object, function: Any, depth: int = 1, *, lazily: bool = False) -> None:
        """Add a function under ``namespace/name[:function]``; one that has this name already is replaced.

        Args:
            name: The name.
            function: The function.
            depth: How many calls are between the caller, in whose scope the hints are looked up, and this method.
            lazily: Whether the hints are read when the function is first used.

        Raises:
            ValueError: It is no name of an app.
            TypeError: The function cannot be an app.
        """
        if not isinstance(name, str) or not callable(function):
            raise TypeError("An app has a name and a function.")
        app, _, part = name.partition(":")
        if app != ANY_APP and not all(app.partition("/")[::2]):
            raise ValueError(f"An app is named as in 'namespace/name' or 'namespace/name:function', not {name!r}.")
        make = partial(AppFunction, app, function, None if lazily else local_names(function, sys._getframe(depth)))
        self._apps.setdefault(app, {})[part or _DEFAULT_FUNCTION] = make if lazily else make()

    def find(self, reference: str, function: str | None) -> tuple[str, str, AppFunction]:
        """Return an app's name, its function's name, and the function.

        Args:
            reference: The app as ``namespace/name[@version][:function]``; any version is the one that there is.
            function: The function's name, or None.

        Raises:
            ProblemError: 404 if there is none.
        """
        path, _, part = reference.partition(":")
        app, named = path.partition("@")[0], function or part
        functions = self._apps.get(app, self._apps.get(ANY_APP, {}))
        if not functions:
            raise not_found("app", reference)
        wanted = named or _DEFAULT_FUNCTION
        if app not in self._apps or (named == "" and len(functions) == 1):
            wanted = next(iter(functions))
        if wanted not in functions:
            listed = ", ".join(sorted(functions))
            raise ProblemError(404, f"The app {app} has no function {wanted[:64]!r}; it has {listed}.")
        found = functions[wanted]
        if not isinstance(found, AppFunction):
            found = functions[wanted] = found()
        return app, wanted, found
