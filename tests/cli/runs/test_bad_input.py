"""Runs that are old, foreign, damaged, empty or out of reach: every command that shows runs tells or shows them.

One table: inputs by commands. An answer is an exit code and words of what was printed, or of the file that was written.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Ended, Tspctl
from tests.cli.runs.test_silent_store import StuckServer
from tests.cli.runs.test_silent_store import stuck as stuck
from tsp.config.recipes import load_dataset, resolve
from tsp.run.metrics import MetricsLog
from tsp.run.stored_run import StoredRun
from tsp.store.local import LocalStore

LINE = "** Valid Epoch {}:  <action-label> Accuracy {}.500 Loss {}; Total Loss {} Avg Accuracy {}.500\n"
OK, STORE = 0, 5


def made(folder: Path, name: str = "first") -> StoredRun:
    """A run that is created and nothing more."""
    run = StoredRun(LocalStore(folder), name)
    run.create(resolve(load_dataset("thumos14"), "tac", name=name, store={"uri": str(folder)}, root="/data"), None)
    return run


def trained(folder: Path, name: str = "first") -> StoredRun:
    run = made(folder, name)
    log = MetricsLog(run, 1)
    log.write("start", epoch=0, step=0, steps=10)
    for step in (3, 7):
        log.write(
            "train", epoch=0, step=step, steps=10, loss=2.0 / step, losses={"action-label": 2.0}, clips_per_sec=9.5
        )
    log.close()
    run.store.write(run.key("results.txt"), LINE.format(0, 12, 2, 2, 12).encode())
    return run


def original(folder: Path) -> list[Path]:
    (folder / "output").mkdir(parents=True)
    (folder / "output/results.txt").write_text(LINE.format(0, 12, 2, 2, 12) + LINE.format(1, 13, "nan", "nan", 13))
    return [folder / "output"]


def empty(folder: Path) -> list[Path]:
    made(folder)
    return [folder / "first"]


def without_history(folder: Path) -> list[Path]:
    run = trained(folder)
    run.store.delete_all(f"{run.key('metrics')}/")
    return [folder / "first"]


def damaged_lines(folder: Path) -> list[Path]:
    run = trained(folder)
    key = run.key("metrics/attempt-1/00001.jsonl")
    run.store.write(key, run.store.read(key) + b'{"kind": "train", "att\n\xff\xfe\n[[[[\n')
    run.store.write(
        run.key("results.txt"), b"\x00\xff not a line\n" + LINE.format(0, 12, 2, 2, 12).encode() + b"** Valid Ep"
    )
    return [folder / "first"]


def damaged_records(folder: Path) -> list[Path]:
    run = trained(folder)
    for name in ("run.json", "progress.json", "outcome.json"):
        run.store.write(run.key(name), b'{"config": ')
    return [folder / "first"]


def of_an_older_version(folder: Path) -> list[Path]:
    run = trained(folder)
    about = run.about()
    old = {
        "config": {**about["config"], "colour": "red", "model": {"backbone": "r2plus1d_34"}},
        "versions": {"torch": "2.1"},
    }
    run.store.write(run.key("run.json"), json.dumps({**old, "data_digest": None}).encode())
    return [folder / "first"]


def of_a_newer_version(folder: Path) -> list[Path]:
    run = trained(folder)
    log = MetricsLog(run, 2)
    log.write("start", epoch=0, step=7, steps=10, mood="good")
    log.write("dream", epoch=0, step=8, steps=10, about={"sheep": 3})
    log.close()
    run.store.write(
        run.key("run.json"), json.dumps({**run.about(), "versions": ["x"], "machine": 3, "digests": "y"}).encode()
    )
    return [folder / "first"]


def of_one_name(folder: Path) -> list[Path]:
    trained(folder / "a")
    trained(folder / "b")
    return [folder / "a/first", folder / "b/first"]


INPUTS: dict[Callable[[Path], list[Path]], dict[str, tuple[int, str]]] = {
    original: {
        "results": (OK, "13.500"), "metrics": (OK, "no metrics"), "report": (OK, '"accuracy":13.5'),
        "tensorboard": (OK, "output"), "watch": (OK, "output"), "status": (OK, "original scripts"),
    },
    empty: {
        "results": (3, "no epoch"), "metrics": (OK, "no metrics"), "report": (OK, '"epochs":[]'),
        "tensorboard": (OK, "first"), "watch": (OK, "first"), "status": (OK, "unknown"),
    },
    without_history: {
        "results": (OK, "12.500"), "metrics": (OK, "no metrics"), "report": (OK, '"position":[]'),
        "tensorboard": (OK, "first"), "watch": (OK, "12.5"), "status": (OK, "12.500"),
    },
    damaged_lines: {
        "results": (OK, "12.500"), "metrics": (OK, "3 damaged lines"), "report": (OK, '"position":[0.3,0.7]'),
        "tensorboard": (OK, "3 damaged lines"), "watch": (OK, "12.5"), "status": (OK, "12.500"),
    },
    damaged_records: {
        "results": (OK, "12.500"), "metrics": (OK, "0.285714"), "report": (OK, "run.json is damaged"),
        "tensorboard": (OK, "run.json is damaged"), "watch": (OK, "damaged"), "status": (OK, "run.json is damaged"),
    },
    of_an_older_version: {
        "results": (OK, "12.500"), "metrics": (OK, "0.285714"), "report": (OK, '"torch":"2.1"'),
        "tensorboard": (OK, "first"), "watch": (OK, "12.5"), "status": (OK, "12.500"),
    },
    of_a_newer_version: {
        "results": (OK, "12.500"), "metrics": (OK, "0.285714"), "report": (OK, '"versions":{}'),
        "tensorboard": (OK, "first"), "watch": (OK, "12.5"), "status": (OK, "12.500"),
    },
    of_one_name: {
        "results": (OK, "/b/first"), "report": (OK, "/b/first"), "tensorboard": (OK, "b/first"),
    },
}  # fmt: skip


@pytest.fixture
def answer(tspctl: Tspctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """What a command says of runs, with what it writes to files."""

    def ask(command: str, *runs: Path | str, more: tuple[str, ...] = ()) -> Ended:
        if command == "watch":
            return watched(Path(runs[0]).parent)
        out = {"report": ("--out", "page.html"), "tensorboard": ("--export", "events")}.get(command, ())
        ended = tspctl(command, *runs, *out, *more)
        written = [str(path.relative_to(tmp_path)) for path in (tmp_path / "events").rglob("events*")]
        page = tmp_path / "page.html"
        text = page.read_text() if command == "report" and page.exists() else ""
        return Ended(ended.code, ended.out + text + "\n".join(written), ended.err)

    def watched(store: Path) -> Ended:
        import cli.watch.app
        from cli.watch.row import cells

        class Screen(cli.watch.app.Watch):
            """Prints what the real one would show."""

            def run(self):
                for report in self._collect():
                    print(*cells(report), sep=" | ")

        monkeypatch.setattr(cli.watch.app, "Watch", Screen)
        with monkeypatch.context() as patch:
            patch.setattr("cli.commands.watch._is_terminal", lambda: True)
            return tspctl("watch", "--store", store, "--backend", "local")

    return ask


@pytest.mark.parametrize(
    ("make", "command"), [(make, command) for make, answers in INPUTS.items() for command in answers],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)  # fmt: skip
def test_every_command_tells_or_shows_what_there_is(
    answer: Callable[..., Ended], tmp_path: Path, make: Callable[[Path], list[Path]], command: str
) -> None:
    code, said = INPUTS[make][command]
    ended = answer(command, *make(tmp_path / "runs"))
    assert ended.code == code, ended.err
    assert said in ended.out + ended.err
    assert "unexpected" not in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("stuck", ["silent"], indirect=True)
@pytest.mark.parametrize("command", ["results", "metrics", "report", "tensorboard", "status"])
def test_a_store_that_does_not_answer_is_named(
    answer: Callable[..., Ended], stuck: StuckServer, tmp_path: Path, command: str
) -> None:
    ended = answer(command, "s3://bucket/runs/first", more=("--endpoint-url", stuck.url))
    assert ended.code == STORE, ended.err
    assert "did not answer" in ended.err
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("stuck", ["silent"], indirect=True)
@pytest.mark.parametrize(
    ("command", "said"), [("results", "12.500"), ("report", '"accuracy":12.5'), ("tensorboard", "first")]
)
def test_beside_a_run_out_of_reach_the_others_are_shown(
    answer: Callable[..., Ended], stuck: StuckServer, tmp_path: Path, command: str, said: str
) -> None:
    trained(tmp_path / "runs")
    ended = answer(command, "s3://bucket/runs/lost", tmp_path / "runs/first", more=("--endpoint-url", stuck.url))
    assert ended.code == OK, ended.err
    assert "s3://bucket/runs/lost is omitted" in ended.err
    assert said in ended.out


def test_a_run_that_is_given_twice_is_shown_once(answer: Callable[..., Ended], tmp_path: Path) -> None:
    trained(tmp_path / "runs")
    ended = answer("report", tmp_path / "runs/first", tmp_path / "runs/first")
    assert ended.code == OK
    assert ended.out.count('"config":') == 1
    assert "was given twice" in ended.err
