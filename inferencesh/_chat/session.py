"""A conversation in a terminal, with commands."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from inferencesh import Agent, Chat, FileRef, Inference, InferenceError, NotFoundError, Role, Tool

from .prompt import CommandCompleter, make_prompt, show
from .screen import RichFront, quiet_keyboard
from .text import note, one_line, report, visible
from .turn import RECOVERABLE, make_agent, show_pending, show_turn

__all__ = ["Session"]

_COMMAND = re.compile(r"/[a-z]+(?=\s|$)")  # a message may begin with a path such as /etc/hosts
_LISTED = 20  # chats
_COMPLETED = 100  # chats


class _QuitError(Exception):
    """The user wants to leave."""


class Session:
    """A conversation in a terminal.

    Args:
        client: The client.
        config: What the agent is: the name of a stored one, or its configuration.
        agent: The agent to begin with.
        tools: The tools that run here.
        files: What is sent with the first message.
        upload: Uploads a file, and shows its progress.
        front: The terminal.
    """

    def __init__(
        self,
        client: Inference,
        config: str | dict[str, Any],
        agent: Agent,
        *,
        tools: list[Tool],
        files: list[FileRef],
        upload: Callable[[Agent, Path], FileRef],
        front: RichFront,
    ) -> None:
        self.agent = agent
        self._client = client
        self._config = config
        self._tools = tools
        self._files = files
        self._upload = upload
        self._front = front
        self._titles: list[str] | None = None
        self._commands: Mapping[str, tuple[str, Callable[[str], None]]] = {
            "/help": ("show the commands and keys", self._help),
            "/new": ("begin a new chat", self._new),
            "/chats": ("list chats; with a text, those whose title has it", self._chats),
            "/open": ("open a chat by its title or id", self._open),
            "/tools": ("list the tools that run here", self._list_tools),
            "/file": ("attach a file to the next message", self._file),
            "/model": ("show the model, or use another one", self._model),
            "/save": ("write the chat to a new Markdown file", self._save),
            "/stop": ("stop the run of this chat", self._stop),
            "/quit": ("leave", self._quit),
        }

    def converse(self) -> bool:
        """Read messages and commands until the user leaves; returns whether the last message was answered."""
        note("/help shows the commands")
        names = {name: what for name, (what, _) in self._commands.items()}
        prompt = make_prompt(CommandCompleter(names, self._all_titles))
        answered = True
        while True:
            try:
                text = show(prompt).strip()
            except (EOFError, KeyboardInterrupt):
                return answered
            if not text:
                continue
            try:
                if not self._run_command(text):
                    answered = self._send(text)
            except _QuitError:
                return answered

    def _send(self, text: str) -> bool:
        """Show the reply to a message; returns whether there was one."""
        files, self._files, self._titles = self._files, [], None
        try:
            with quiet_keyboard():
                show_turn(self.agent, text, files, self._front)
        except KeyboardInterrupt:  # the reply was stopped
            return True
        except RECOVERABLE as error:
            report(error)
            return False
        return True

    def _run_command(self, text: str) -> bool:
        """Run what is a command; returns whether it was one."""
        found = _COMMAND.match(text)
        if found is None:
            return False
        if found[0] not in self._commands:
            note(f"there is no command {found[0]}; /help shows the commands")
            return True
        _, run = self._commands[found[0]]
        try:
            run(text[found.end() :].strip())
        except InferenceError as error:
            report(error)
        except KeyboardInterrupt:
            note("stopped")
        return True

    def _help(self, _text: str) -> None:
        width = max(map(len, self._commands))
        lines = [f"{name:{width}}  {what}" for name, (what, _) in self._commands.items()]
        keys = (
            "Enter sends, Alt-Enter begins a new line, Tab completes. Ctrl-C clears the line, stops a reply, or leaves."
        )
        self._front.print(Text("\n".join([*lines, "", keys])))

    def _make_agent(self, chat_id: str | None) -> Agent:
        return make_agent(self._client, self._config, self._tools, chat_id)

    def _new(self, _text: str) -> None:
        self.agent = self._make_agent(None)
        note("a new chat begins with the next message")

    def _some_chats(self, search: str, count: int) -> list[Chat]:
        return list(itertools.islice(self._client.chats.list(search=search or None), count))

    def _chats(self, text: str) -> None:
        chats = self._some_chats(text, _LISTED)
        for chat in chats:
            self._front.print(Text(f"{one_line(chat.id)}  {one_line(chat.name)}"))
        if not chats:
            note("there are no chats")

    def _all_titles(self) -> list[str]:
        if self._titles is None:
            self._titles = [chat.name or chat.id for chat in self._some_chats("", _COMPLETED)]
        return self._titles

    def _open(self, text: str) -> None:
        if not text:
            note("/open needs the title or the id of a chat; /chats lists them")
            return
        chat = self._find(text)
        if chat is None:
            return
        self.agent = self._make_agent(chat.id)
        for message in self.agent.history():
            if message.role == Role.USER:
                self._front.print(Text("> " + visible(message.text).replace("\n", "\n  ")))
            elif message.role == Role.ASSISTANT:
                self._front.print_message(message)
        with quiet_keyboard():
            show_pending(self.agent, self._front)

    def _find(self, text: str) -> Chat | None:
        titled = [chat for chat in self._some_chats("", _COMPLETED) if one_line(chat.name) == one_line(text)]
        if len(titled) > 1:
            note(f"{len(titled)} chats have this title; open one by its id: {', '.join(chat.id for chat in titled)}")
            return None
        if titled:
            return titled[0]
        try:
            return self._client.chats.get(text)
        except NotFoundError:
            note(f"there is no chat with the title or id {text}; /chats lists them")
            return None

    def _transcript(self) -> Iterator[str]:
        """Yield the messages of the chat that people see, as Markdown."""
        for message in self.agent.history():
            if message.text and message.role in {Role.USER, Role.ASSISTANT}:
                quoted = visible(message.text).replace("\n", "\n> ")
                yield f"> {quoted}\n" if message.role == Role.USER else f"{visible(message.text)}\n"

    def _list_tools(self, _text: str) -> None:
        for each in self._tools:
            self._front.print(Text(f"{each.name}: {one_line(str(each.get('description', '')))}"))
        if not self._tools:
            note("no tools run here; --tools FILE.py loads some")

    def _file(self, text: str) -> None:
        if not text:
            note("/file needs the path of a file")
            return
        self._files.append(self._upload(self.agent, Path(text).expanduser()))
        note("the file goes with the next message")

    def _model(self, text: str) -> None:
        if isinstance(self._config, str):
            note(f"the stored agent {self._config} has its own model")
            return
        if text:
            self._config = {**self._config, "core_app": {"ref": text}}
            self.agent = self._make_agent(self.agent.chat_id)
        note(f"the model is {self._config.get('core_app', {}).get('ref', 'the default one')}")

    def _save(self, text: str) -> None:
        if self.agent.chat_id is None:
            note("there is nothing to save yet")
            return
        path = Path(text or f"chat-{one_line(self.agent.chat_id)}.md").expanduser()
        content = "\n".join(self._transcript())
        try:
            with path.open("x", encoding="utf-8") as file:  # never over another file
                file.write(content)
        except OSError as error:
            note(f"the chat was not saved: {path}: {error.strerror}")
        else:
            note(f"saved as {path}")

    def _stop(self, _text: str) -> None:
        if self.agent.chat_id is None:
            note("nothing is running")
            return
        self.agent.stop()
        note("stopped")

    def _quit(self, _text: str) -> None:
        raise _QuitError
