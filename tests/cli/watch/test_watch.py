"""``tspctl watch``: its screen driven by textual's pilot, and the whole program in a real terminal."""

import asyncio
import dataclasses
import re
import sys
import threading

import pytest
from textual.widgets import DataTable, Static

from cli.runs.summary import RunSummary
from cli.watch import app as app_module
from cli.watch import row
from cli.watch.app import Message, Question, Watch
from tests.terminal import Terminal
from tsp.config.run_name import MAX_RUN_NAME_CHARS

RUNNING = RunSummary(
    name="thumos14-tsp-b", state="running", store="/runs", epoch=2, epochs=6, step=30, steps=60, phase="training",
    clips_per_sec=123.4, eta_sec=3720, best_epoch=1, best_accuracy_percent=61.25,
)  # fmt: skip
PENDING = RunSummary(name="[red]markup[/red]", state="pending", store="/runs", reason="waits in queue team-a: no quota")


def watching(collect, steps, size=(80, 24)):
    """Run the screen, and ``steps`` on it once it has read the runs."""

    async def main():
        app = Watch(collect, ["--backend", "local"], every_sec=3600)
        async with app.run_test(size=size) as pilot:
            await app.workers.wait_for_complete()
            await pilot.pause()
            await steps(app, pilot)

    asyncio.run(main())


def table(app):
    runs = app.query_one(DataTable)
    return [[str(cell) for cell in runs.get_row_at(index)] for index in range(runs.row_count)]


def summary(app):
    return str(app.query_one("#summary", Static).content)


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (RUNNING, "███▌     3/6"),
        (RunSummary(name="r", state="pending", store=""), ""),
        (RunSummary(name="r", state="succeeded", store="", epoch=5, epochs=6), "████████ 6/6"),
        (RunSummary(name="r", state="failed", store="", epoch=0, epochs=6), "         1/6"),
        (RunSummary(name="r", state="running", store="", epoch=5, epochs=6, phase="saving"), "████████ 6/6"),
    ],
)
def test_the_bar_counts_the_steps_of_the_epoch_that_is_trained(report, expected):
    assert row.progress(report) == expected


def test_each_run_is_a_line_with_speed_time_left_best_and_reason():
    async def steps(app, pilot):
        first, second = table(app)
        assert first == ["thumos14-tsp-b", "running", "███▌     3/6", "123.4", "61.25", "1h02m", ""]
        assert second[1:] == ["pending", "", "", "", "", "waits in queue team-a: no quota"]
        assert re.match(r"1 running, 1 pending; read \S+ ago", summary(app))

    watching(lambda: [RUNNING, PENDING], steps, size=(140, 24))


def test_names_are_shown_as_they_are_and_fit_80_columns():
    async def steps(app, pilot):
        shown = "\n".join("".join(segment.text for segment in line) for line in app.screen._compositor.render_strips())
        assert "[red]markup[/red]" in shown
        assert "thumos14-tsp-b" in shown
        assert "PROGRESS" in shown
        assert "thumos14-tsp-b: best 61.250 % in epoch 1; 1h02m left" in shown
        await pilot.press("down")
        await pilot.pause()
        assert str(app.query_one("#detail", Static).content).endswith(": waits in queue team-a: no quota")

    watching(lambda: [RUNNING, PENDING], steps)


def test_a_store_that_stops_answering_is_named_and_the_last_answer_stays():
    answers = [[RUNNING], RuntimeError("the store at s3://b does not answer"), [RUNNING, PENDING]]

    def collect():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def steps(app, pilot):
        await pilot.press("r")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert summary(app) == "cannot read: the store at s3://b does not answer"
        assert len(table(app)) == 1
        await pilot.press("r")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert len(table(app)) == 2

    watching(collect, steps)


def test_a_store_that_hangs_is_said_to_and_does_not_hold_up_the_end(monkeypatch):
    monkeypatch.setattr(app_module, "SLOW_SEC", 0.0)
    hangs, answers = threading.Event(), [[RUNNING]]

    def collect():
        if answers:
            return answers.pop()
        hangs.wait()
        return []

    async def steps(app, pilot):
        await pilot.press("r")
        await pilot.press("r")
        await pilot.pause()
        app._show_summary()
        assert re.fullmatch(r"1 running; read \d+s ago; no answer for \d+s", summary(app))
        assert app.is_reading
        await pilot.press("q")

    try:
        watching(collect, steps)  # comes back though the reading never does
    finally:
        hangs.set()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("the store at https://ada:hunter2@s3.example refuses", "the store at https://***@s3.example refuses"),
        ("\x1b[31mred\x07\r\nnext\u202eline", r"\x1b[31mred\x07 next\u202eline"),
        ("[bold]not bold[/bold] [link=x]y[/] \\[z", "[bold]not bold[/bold] [link=x]y[/] \\[z"),
        ("trailing backslash\\", "trailing backslash\\"),
        ("x" * 5000, "x" * 197 + "..."),
        ("\udcff broken name", r"\udcff broken name"),
    ],
)
def test_text_from_elsewhere_is_shown_as_text_and_without_secrets(text, shown):
    report = RunSummary(name="run", state="failed", store="", reason=text)

    async def steps(app, pilot):
        assert table(app)[0][-1] == shown
        assert shown[:100] in str(app.query_one("#detail", Static).content)
        assert "hunter2" not in str(app.query_one("#detail", Static).content)

    watching(lambda: [report], steps)


def test_an_error_is_shown_without_secrets():
    async def steps(app, pilot):
        assert summary(app) == "cannot read: https://***@s3.example does not answer"

    def collect():
        raise RuntimeError("https://ada:hunter2@s3.example\ndoes not answer")

    watching(collect, steps)


def test_the_longest_name_and_its_progress_fit_80_columns_and_two_runs_may_share_a_name():
    longest = dataclasses.replace(RUNNING, name="n" * MAX_RUN_NAME_CHARS)

    async def steps(app, pilot):
        shown = "\n".join("".join(segment.text for segment in line) for line in app.screen._compositor.render_strips())
        assert "n" * MAX_RUN_NAME_CHARS in shown
        assert "███▌     3/6" in shown
        assert [row[0] for row in table(app)] == [longest.name] * 2

    watching(lambda: [longest, longest], steps)


def test_the_cursor_stays_on_its_run_when_others_come_and_go():
    answers = [[RUNNING, PENDING], [RunSummary(name="new", state="running", store=""), RUNNING, PENDING], [RUNNING]]

    async def steps(app, pilot):
        await pilot.press("down")
        assert app.selected == PENDING.name
        await pilot.press("r")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert app.selected == PENDING.name
        await pilot.press("r")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert app.selected == RUNNING.name

    watching(lambda: answers.pop(0), steps)


def test_cancel_asks_first_and_no_does_nothing(monkeypatch):
    called = []
    monkeypatch.setattr(Watch, "_run", lambda self, *words: called.append(self._command(*words)) or "cancelled")

    async def steps(app, pilot):
        await pilot.press("c")
        assert isinstance(app.screen, Question)
        await pilot.press("n")
        await pilot.pause()
        assert called == []
        await pilot.press("c", "y")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert isinstance(app.screen, Message)

    watching(lambda: [RUNNING], steps)
    assert called == [[sys.executable, "-m", "tspctl", "cancel", "thumos14-tsp-b", "--backend", "local"]]


def test_status_shows_what_the_command_prints(monkeypatch):
    monkeypatch.setattr(Watch, "_run", lambda self, *words: f"what {' '.join(words)} prints [b]")

    async def steps(app, pilot):
        await pilot.press("s")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert str(app.screen.query_one(Static).content) == "what status thumos14-tsp-b prints [b]"
        await pilot.press("escape")
        await pilot.pause()
        assert app.screen.query(DataTable)

    watching(lambda: [RUNNING], steps)


def test_without_a_terminal_it_says_what_to_use_instead(tspctl):
    done = tspctl("watch")
    assert done.code == 2
    assert "tspctl list" in done.err


def watch_in_terminal(*options):
    return Terminal([sys.executable, "-m", "tspctl", "watch", "--backend", "local", *options])


def test_in_a_real_terminal_it_shows_the_runs_of_this_machine_and_ends_with_q(home, tmp_path):
    terminal = watch_in_terminal("--store", str(tmp_path / "runs"))
    terminal.wait_for(b"no runs; read")
    terminal.press(b"q")
    assert terminal.close() == 0


def test_the_logs_of_a_run_that_has_ended_stay_until_enter(tspctl, local, plan_ranks):
    plan_ranks(epochs=1)
    assert tspctl("submit", "--dataset", "demo", "--method", "tac", "--name", "a", "--follow").code == 0
    terminal = watch_in_terminal()
    terminal.wait_for(b"succeeded")
    terminal.press(b"l")
    terminal.wait_for(b"press Enter")
    assert b"epoch 0 done" in terminal.shown
    terminal.press(b"\r")
    terminal.wait_for(b"succeeded")
    terminal.press(b"q")
    assert terminal.close() == 0
