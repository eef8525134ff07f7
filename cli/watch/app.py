"""The live screen: a table of runs that is refreshed every few seconds, and keys for the selected run.

Reading takes seconds if a store or an API server is slow, so it happens in a thread; the screen shows the last answer
and its age. Keys run ``tspctl`` itself, so the output is that of the same command in a shell.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import ClassVar, TypeVar

from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Static

from cli.humanize import one_line, show_duration
from cli.runs.summary import RunSummary
from cli.signals import interruptible
from cli.watch.row import COLUMNS, cells, detail
from tsp.errors import INTERRUPTED_EXIT_CODE

Collect = Callable[[], Sequence[RunSummary]]
T = TypeVar("T")

SLOW_SEC = 5.0
"""A reading that takes longer is mentioned."""


class Watch(App[None]):
    """Runs, newest first; ``collect`` reads them, and may raise: its message is shown until it answers again."""

    CSS = """
    #summary { height: 1; background: $panel; }
    #detail { height: auto; max-height: 3; padding: 0 1; color: $text-muted; }
    DataTable { height: 1fr; }
    Dialog { align: center middle; }
    Dialog > VerticalScroll { width: 90%; height: auto; max-height: 90%; padding: 1 2; border: solid $primary; }
    Dialog > VerticalScroll { background: $panel; }
    """
    BINDINGS: ClassVar = [
        Binding("s,enter", "status", "Status", key_display="s"),
        Binding("l", "logs", "Logs"),
        Binding("c", "cancel", "Cancel"),
        Binding("r", "read", "Refresh"),
        Binding("q", "quit", "Quit"),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, collect: Collect, options: Sequence[str], *, every_sec: float) -> None:
        """Args: options, shared ones that the commands behind the keys must get; every_sec, between two readings."""
        super().__init__()
        self._collect, self._options, self._every_sec = collect, list(options), every_sec
        self._read_at: float | None = None
        self._reading_since: float | None = None
        self._error: str | None = None
        self._summaries: tuple[RunSummary, ...] = ()

    def compose(self) -> ComposeResult:
        """Summary, table, keys."""
        yield Static(id="summary", markup=False)
        yield DataTable(cursor_type="row", zebra_stripes=True)
        yield Static(id="detail", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to read."""
        self.table.add_columns(*COLUMNS)
        self.table.focus()
        self.set_interval(self._every_sec, self.action_read)
        self.set_interval(1, self._show_summary)
        self.action_read()

    @property
    def table(self) -> DataTable[Text]:
        """The runs."""
        return self.query_one(DataTable)

    @property
    def is_reading(self) -> bool:
        """Whether a read is in progress, which can take minutes if a store does not answer."""
        return self._reading_since is not None

    def end(self) -> None:
        """Quit, from a signal's handler: an exception might come before Textual is ready to restore the terminal."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # it has not begun
            self.exit()
        else:
            loop.call_soon_threadsafe(self.exit)

    # Reading

    @work(group="read")
    async def action_read(self) -> None:
        """Read all runs, unless that is under way."""
        if self.is_reading:
            return
        self._reading_since = time.monotonic()
        try:
            summaries = tuple(await in_thread(self._collect))
        except Exception as error:
            self._error = str(error) or type(error).__name__
        else:
            self._show(summaries)
        self._reading_since = None
        self._show_summary()

    def _show(self, summaries: tuple[RunSummary, ...]) -> None:
        if not self.query(DataTable):
            return  # the screen closes
        selected = self.selected
        self._summaries, self._error, self._read_at = summaries, None, time.monotonic()
        self.table.clear()
        for summary in summaries:
            self.table.add_row(*(Text(text) for text in cells(summary)))
        names = [summary.name for summary in summaries]
        if selected in names:
            self.table.move_cursor(row=names.index(selected))

    def _show_summary(self) -> None:
        if self._error is not None:
            text = f"cannot read: {one_line(self._error)}"
        elif self._read_at is None:
            text = "reading ..."
        else:
            states = [summary.state for summary in self._summaries]
            counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
            text = f"{counts or 'no runs'}; read {show_duration(time.monotonic() - self._read_at)} ago"
        if self._reading_since is not None and time.monotonic() - self._reading_since > SLOW_SEC:
            text += f"; no answer for {show_duration(time.monotonic() - self._reading_since)}"
        # None while the screen closes: the clock that calls this stops after it.
        for shown in self.query("#summary").results(Static):
            shown.update(text)

    @property
    def selected(self) -> str | None:
        """Name of the run under the cursor."""
        row = self.table.cursor_row
        return self._summaries[row].name if 0 <= row < min(self.table.row_count, len(self._summaries)) else None

    # Keys

    @on(DataTable.RowHighlighted)
    def _on_cursor(self) -> None:
        """Show the whole line of the selected run: a narrow screen has no room for the last columns."""
        row = self.table.cursor_row
        self.query_one("#detail", Static).update(detail(self._summaries[row]) if row < len(self._summaries) else "")

    @on(DataTable.RowSelected)
    def _on_row(self) -> None:
        self.action_status()

    @work(group="status")
    async def action_status(self) -> None:
        """Show what ``tspctl status`` prints."""
        if (name := self.selected) is not None:
            await self.push_screen(Message(await in_thread(lambda: self._run("status", name))))

    def action_logs(self) -> None:
        """Follow the logs on the whole terminal; Ctrl-C comes back."""
        if (name := self.selected) is None:
            return
        with self.suspend(), interruptible():
            # Ctrl-C goes to both processes and is meant for the one that follows.
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)
            try:
                command = self._command("logs", name, "--follow", "--tail", "100")
                code = subprocess.run(command, check=False, preexec_fn=_heed).returncode
                if code not in (INTERRUPTED_EXIT_CODE, -signal.SIGINT):
                    # The logs of an ended run are printed at once, and the table would cover them.
                    with contextlib.suppress(EOFError):
                        input("\nend of the logs; press Enter to go back to the runs ")
            finally:
                signal.signal(signal.SIGINT, before)

    def action_cancel(self) -> None:
        """Ask, then do what ``tspctl cancel`` does."""
        if (name := self.selected) is None:
            return

        def answered(is_sure: bool | None) -> None:
            if is_sure:
                self.notify(f"stopping {name}; its state is saved first")
                self._cancel(name)

        self.push_screen(Question(f"Save the state of {name} and stop it for good?"), answered)

    @work(group="cancel")
    async def _cancel(self, name: str) -> None:
        await self.push_screen(Message(await in_thread(lambda: self._run("cancel", name))))
        self.action_read()

    def _command(self, *words: str) -> list[str]:
        command, *rest = words
        return [sys.executable, "-m", "tspctl", command, *rest, *self._options]

    def _run(self, *words: str) -> str:
        done = subprocess.run(self._command(*words), capture_output=True, text=True, errors="replace", check=False)
        return (done.stdout + done.stderr).strip()


async def in_thread(function: Callable[[], T]) -> T:
    """Run a function on a thread, without blocking the screen, or the exit of the program if it hangs."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = function()
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the screen is closed, and its loop with it
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="watch", daemon=True).start()
    return await answer


def _heed() -> None:
    """In the child: Ctrl-C has its usual effect again."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Dialog(ModalScreen[bool]):
    """A text in the middle of the screen; any key that does not move it closes it."""

    BINDINGS: ClassVar = [Binding("escape,q,enter", "close", "Close")]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """The text, which may be longer than the screen."""
        with VerticalScroll():
            yield Static(self._text, markup=False)
        yield Footer()

    def action_close(self) -> None:
        """Without effect."""
        self.dismiss(False)


class Message(Dialog):
    """What a command printed."""


class Question(Dialog):
    """Is the user sure?"""

    BINDINGS: ClassVar = [Binding("y", "agree", "Yes"), Binding("n", "close", "No")]

    def action_agree(self) -> None:
        """Yes."""
        self.dismiss(True)
