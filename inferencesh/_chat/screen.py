"""Replies on a terminal: Markdown while it is written, reasoning, panels of tool calls, questions."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markdown import Markdown
from rich.panel import Panel
from rich.segment import Segment
from rich.text import Text

from inferencesh import Agent, InferenceError, Message, ToolCall, ToolCallStatus

from .prompt import ask
from .text import arguments_of, note, visible

__all__ = ["Region", "RichFront", "Safe", "quiet_keyboard", "split_blocks"]

_LONGEST_RESULT: Final = 2000  # characters of a tool's result that are shown
# Without HTML, which is then shown as text instead of being left out.
_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


class Safe:
    """What is rendered of untrusted text: without characters that control a terminal, wherever they come from.

    Markdown decodes characters itself, such as those of addresses, so that it is not enough to clean its source.

    Args:
        content: What is to be rendered.
    """

    def __init__(self, content: RenderableType) -> None:
        self._content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._content, options):
            if not segment.control:
                yield Segment(visible(segment.text), segment.style)


class _Markdown(Markdown):
    """Markdown whose links are shown with their address, and whose HTML is text.

    Args:
        source: The text.
    """

    def __init__(self, source: str) -> None:
        super().__init__("", code_theme="ansi_dark", hyperlinks=False)
        self.markup = source
        self.parsed = _PARSER.parse(source)


def split_blocks(source: str) -> tuple[list[str], str]:
    """Split Markdown that is still being written.

    Args:
        source: The text so far.

    Returns:
        The blocks, such as paragraphs and lists, that cannot change any more, and the last one, which can.
    """
    starts = [token.map[0] for token in _PARSER.parse(source) if token.level == 0 and token.map and token.nesting >= 0]
    if len(starts) < 2:
        return [], source
    lines = source.splitlines(keepends=True)
    blocks = ["".join(lines[start:end]) for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)]
    return blocks[:-1], blocks[-1]


class Region:
    """The end of the screen, which is drawn again and again; only lines that have changed are written.

    Args:
        console: The terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines: list[str] = []

    def draw(self, finished: Sequence[RenderableType], live: Sequence[RenderableType]) -> None:
        """Replace what is in the region.

        Args:
            finished: What remains on the screen above the region.
            live: What the region shows from now on; its last lines, if it is higher than the screen.
        """
        above = [line for each in finished for line in self._render(each)]
        below = [line for each in live for line in self._render(each)][-max(self._console.height - 2, 1) :]
        lines = above + below
        same = 0
        while same < min(len(lines), len(self._lines)) and lines[same] == self._lines[same]:
            same += 1
        moved = len(self._lines) - same
        back = f"\x1b[{moved}A\r" if moved else ""
        if back or lines[same:]:
            # Lines are overwritten, and only then is what remains of the old ones erased: nothing is blank in between.
            sys.stdout.write(back + "".join(f"{line}\x1b[K\n" for line in lines[same:]) + ("\x1b[J" if moved else ""))
            sys.stdout.flush()
        self._lines = below

    def _render(self, content: RenderableType) -> list[str]:
        with self._console.capture() as captured:
            self._console.print(Safe(content), width=self._console.width - 1)  # a full line would wrap when erased
        lines = [line.rstrip() for line in captured.get().split("\n")]
        while lines and not lines[-1]:
            lines.pop()
        while lines and not lines[0]:
            lines.pop(0)
        return [*lines, ""]


class RichFront:
    """Shows turns on a terminal and asks there.

    Args:
        console: The terminal.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, markup=False, emoji=False)
        self._reset(None)

    def begin(self, agent: Agent, /) -> None:
        """Begin to show a turn of an agent."""
        self._reset(agent)

    def _reset(self, agent: Agent | None) -> None:
        self._agent = agent
        self._region = Region(self.console)
        self._message: Message | None = None
        self._reasoned = 0  # characters of the reasoning that are above the region
        self._written = 0  # and of the text
        self._shown: set[str] = set()  # ids of tool calls that are above it

    def show(self, message: Message) -> None:
        """Show a snapshot: what cannot change any more goes above the region, the rest into it."""
        before = self._message
        if before is not None and before.id != message.id:
            self._message = self._with_results(before)
            self.end_line()
        if before is None or before.id != message.id:
            self._reasoned = self._written = 0
        elif message.text[: self._written] != before.text[: self._written]:
            self._written = 0  # the text was rewritten: all of it is shown once more
        self._message = message
        self._draw(message, over=message.done)

    def finish(self, message: Message) -> None:
        """Complete a message, and show the addresses of its images and files."""
        if self._message is None or self._message.id != message.id:
            self.show(message)
        self._message = message
        self._draw(message, over=True)
        if files := [
            Text(f"[{each.type}: {each.image or each.file}]") for each in message.content if each.image or each.file
        ]:
            self._region.draw(files, [])

    def fail(self, _error: InferenceError, /) -> None:
        """End the output of a turn that has failed."""
        self.end_line()

    def end_line(self) -> None:
        """Leave what is in the region on the screen."""
        if self._message is not None:
            self._draw(self._message, over=True, leave=True)

    def _draw(self, message: Message, *, over: bool, leave: bool = False) -> None:
        """Draw a snapshot.

        Args:
            message: The snapshot.
            over: Whether its text is complete.
            leave: Whether calls without a result go above the region as well.
        """
        calls = [c for c in message.tool_calls if c.status != ToolCallStatus.PENDING and c.id not in self._shown]
        text = message.text[self._written :]
        finished: list[RenderableType] = []
        live: list[RenderableType] = []
        if thought := message.reasoning[self._reasoned :].strip():
            settled = over or bool(text) or bool(calls)
            (finished if settled else live).append(Text(thought, style="dim italic"))
            self._reasoned = len(message.reasoning) if settled else self._reasoned
        blocks, last = ([text], "") if over or calls else split_blocks(text)
        finished += [_Markdown(block) for block in blocks if block.strip()]
        live += [_Markdown(last)] if last.strip() else []
        self._written = len(message.text) - len(last)
        for call in calls:
            settled = call.done or leave
            (finished if settled else live).append(_call_panel(call))
            if settled:
                self._shown.add(call.id)
        self._region.draw(finished, live)

    def print_message(self, message: Message) -> None:
        """Print a complete message."""
        parts: list[RenderableType] = []
        if message.reasoning:
            parts.append(Text(message.reasoning.strip(), style="dim italic"))
        if message.text:
            parts.append(_Markdown(message.text))
        for part in [*parts, *map(_call_panel, message.tool_calls)]:
            self.print(part)
            self.console.print()

    def print(self, content: RenderableType) -> None:
        """Print something that may be untrusted."""
        self.console.print(Safe(content))

    def ask_result(self, call: ToolCall) -> str:
        """Show a call and ask for its result."""
        return self._ask(call, "the agent is waiting for a result", "result> ")

    def ask_approval(self, call: ToolCall) -> str:
        """Show a call and ask whether it may run."""
        return self._ask(call, "the agent asks for your approval", "allow? [y/N, or the reason why not] ")

    def ask_confirmation(self, _message: Message, /) -> str:
        """Ask whether the run may continue."""
        self._settle()
        self.print(Text("The agent asks for a confirmation.", style="yellow"))
        return ask("allow? [y/N] ")

    def _ask(self, call: ToolCall, why: str, question: str) -> str:
        self._settle()
        self.print(Panel(_arguments(call), title=_title(call, why), title_align="left", border_style="yellow"))
        return ask(question)

    def _with_results(self, message: Message) -> Message:
        """Return a message with the results that its calls have got since its last snapshot."""
        if self._agent is None or all(call.done for call in message.tool_calls):
            return message
        try:
            return next((each for each in self._agent.history() if each.id == message.id), message)
        except InferenceError as error:
            note(f"the results of tools cannot be read: {error}")
            return message

    def _settle(self) -> None:
        """Leave the text of the region on the screen, without the calls that are shown by the question."""
        if self._message is not None:
            waiting = {call.id for call in self._message.tool_calls if not call.done}
            self._shown |= waiting
            self._draw(self._message, over=True)
            self._shown -= waiting


def _title(call: ToolCall, what: str) -> Text:
    return Text(visible(f" {call.name} · {what} ").replace("\n", " "), style="bold")


def _arguments(call: ToolCall) -> Text:
    return Text(visible(arguments_of(call, indent=2)))


def _call_panel(call: ToolCall) -> Panel:
    content = _arguments(call)
    if call.result is not None:
        shown = visible(call.result)
        more = "…" if len(shown) > _LONGEST_RESULT else ""
        content.append(f"\n→ {shown[:_LONGEST_RESULT]}{more}", style="green" if call.done else "")
    border = "red" if call.status in {ToolCallStatus.FAILED, ToolCallStatus.CANCELLED} else "cyan"
    return Panel(content, title=_title(call, call.status.replace("_", " ")), title_align="left", border_style=border)


@contextlib.contextmanager
def quiet_keyboard() -> Iterator[None]:
    """Have the terminal not echo keys while a reply is drawn; Ctrl-C works as before."""
    if sys.platform == "win32":  # whose console does not echo between two reads
        yield
        return
    import termios

    before = termios.tcgetattr(sys.stdin)
    quiet = termios.tcgetattr(sys.stdin)
    quiet[3] &= ~termios.ECHO
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
