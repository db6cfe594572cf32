"""The line at which messages are written: keys, history and completion."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input.typeahead import clear_typeahead
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from inferencesh import InferenceError

from .text import forget_keys, note, one_line
from .turn import TerminatedError

__all__ = ["CommandCompleter", "ask", "history_file", "make_prompt", "show"]


def ask(question: str) -> str:
    """Ask a question; what was typed before it was asked is no answer.

    Raises:
        EOFError: Ctrl-D was pressed.
        KeyboardInterrupt: Ctrl-C was pressed.
        TerminatedError: The process has received SIGTERM.
    """
    forget_keys()
    session: PromptSession[str] = PromptSession(history=InMemoryHistory())
    clear_typeahead(session.input)  # keys that were read together with the last message, and kept for the next prompt
    return show(session, question)


def show(session: PromptSession[str], question: str | None = None) -> str:
    """Show a prompt and return what was typed.

    SIGTERM ends the prompt in between two steps of its event loop, which would report an exception of a signal handler
    as an error of whatever it was running, and go on.

    Args:
        session: The prompt.
        question: What is shown in front of the text; None for the session's own.

    Raises:
        EOFError: Ctrl-D was pressed.
        KeyboardInterrupt: Ctrl-C was pressed.
        TerminatedError: The process has received SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():  # no other thread may set a signal handler
        return session.prompt(question)
    terminated = False

    def terminate(_number: int, _frame: object) -> None:
        nonlocal terminated
        terminated = True
        if session.app.loop is not None:
            session.app.loop.call_soon_threadsafe(leave_if_terminated)

    def leave_if_terminated() -> None:
        if terminated and session.app.is_running and not session.app.is_done:
            session.app.exit(exception=TerminatedError())

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        text = session.prompt(question, pre_run=leave_if_terminated)
    finally:
        signal.signal(signal.SIGTERM, before)
        if terminated:
            raise TerminatedError
    return text


def history_file() -> Path:
    """Return the path of the file that keeps what was typed, in the user's directory for such files."""
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData/Local")
    elif sys.platform == "darwin":
        base = home / "Library/Application Support"
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or home / ".local/state")
    return base / "inferencesh" / "history"


def _open_history() -> History:
    path = history_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600))
        path.chmod(0o600)
    except OSError as error:
        note(f"what you type is not remembered: {path}: {error.strerror}")
        return InMemoryHistory()
    return FileHistory(path)


class CommandCompleter(Completer):
    """Completes commands, paths after ``/file`` and ``/save``, and the titles of chats after ``/open``.

    Args:
        commands: The commands, each with what it does.
        titles: Returns the titles of the chats.
    """

    def __init__(self, commands: Mapping[str, str], titles: Callable[[], Iterable[str]]) -> None:
        self._commands = commands
        self._titles = titles
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Yield what may come next."""
        typed = document.text_before_cursor
        command, space, rest = typed.partition(" ")
        if not space and typed.startswith("/"):
            for name, what in self._commands.items():
                if name.startswith(typed):
                    yield Completion(name, -len(typed), display_meta=what)
        elif command in {"/file", "/save"}:
            yield from self._paths.get_completions(Document(rest, len(rest)), complete_event)
        elif command == "/open":
            try:
                titles = [one_line(title) for title in self._titles()]
            except InferenceError as error:
                yield Completion("", display=f"the chats cannot be read: {one_line(str(error))}")
                return
            for title in titles:
                if title.lower().startswith(rest.lower()):
                    yield Completion(title, -len(rest))


def make_prompt(completer: Completer) -> PromptSession[str]:
    """Return the line at which messages are written.

    Enter sends, Alt-Enter begins a new line, a paste of several lines is inserted as it is. Ctrl-C clears the line, and
    raises a KeyboardInterrupt if it is empty; Ctrl-D in an empty line raises an EOFError.

    Args:
        completer: What completes commands.
    """
    keys = KeyBindings()

    @keys.add("enter")
    def send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def begin_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-c")
    def clear_or_leave(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt())

    return PromptSession(
        "> ",
        multiline=True,
        key_bindings=keys,
        history=_open_history(),
        completer=completer,
        complete_in_thread=True,
        prompt_continuation="  ",
    )
