"""What other programs, full disks, other users and interrupted commands leave: each is shown, and can be removed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.backends.local import run_folder
from cli.backends.local.run_folder import local_run, state_home
from tests.cli.conftest import Tspctl
from tests.waiting import wait_until

SUBMIT = ("submit", "--dataset", "demo", "--method", "tac", "--name")
Plan = Callable[..., None]
AS_ROOT = os.geteuid() == 0

DAMAGES: dict[str, Callable[[Path], object]] = {
    "an empty launch.json": lambda run: (run / "launch.json").write_text(""),
    "half a launch.json": lambda run: (run / "launch.json").write_text('{"name": "bad", "sto'),
    "no text": lambda run: (run / "launch.json").write_bytes(b"\xff\xfe\x00\x01"),
    "no mapping": lambda run: (run / "launch.json").write_text("[1, 2]"),
    "of another version": lambda run: (run / "launch.json").write_text('{"new_key": 1}'),
    "nested without end": lambda run: (run / "launch.json").write_text("[" * 100_000),
    "an empty outcome.json": lambda run: (run / "outcome.json").write_text(""),
    "a folder for a file": lambda run: ((run / "outcome.json").unlink(), (run / "outcome.json").mkdir()),
    "an empty supervisor.json": lambda run: ((run / "outcome.json").unlink(), (run / "supervisor.json").write_text("")),
}


@pytest.fixture
def two_runs(tspctl: Tspctl, local: Path, plan_ranks: Plan) -> Path:
    """Runs ``good`` and ``bad``, which have ended. Returns: the folder of ``bad``."""
    assert tspctl(*SUBMIT, "good", "--follow").code == 0
    wait_until(lambda: not local_run("good").is_supervised(), "its supervisor is gone")
    for folder in (local / "good", local_run("good").folder):
        copy = folder.with_name("bad")
        shutil.copytree(folder, copy)
        for path in copy.glob("*.json"):
            path.write_text(path.read_text().replace('"good"', '"bad"'))
    return local_run("bad").folder


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_shown_as_damaged_beside_the_others_and_can_be_removed(
    tspctl: Tspctl, two_runs: Path, damage: str
) -> None:
    DAMAGES[damage](two_runs)
    rows = {row["name"]: row for row in tspctl("list", "-o", "json").json}
    assert (rows["good"]["state"], rows["bad"]["state"]) == ("succeeded", "damaged")
    shown = tspctl("status", "bad")
    assert (shown.code, "Traceback" in shown.err) == (0, False)
    assert "tspctl delete bad --keep-store" in shown.out
    assert tspctl("status", "good").code == 0
    for command in (("cancel", "bad"), ("exec", "bad", "--", "true")):
        ended = tspctl(*command)
        assert (ended.code, "unexpected" in ended.err) == (2, False), ended.err
    assert tspctl("wait", "bad").code == 101
    assert tspctl("logs", "bad").code == 0
    # What the message says, in the state in which it says so.
    assert tspctl("delete", "bad", "--keep-store", "--yes").code == 0
    assert [row["name"] for row in tspctl("list", "-o", "json").json] == ["good", "bad"]
    assert tspctl("status", "bad", "-o", "json").json["state"] == "succeeded"  # by its store, which was kept


@pytest.mark.skipif(AS_ROOT, reason="root may read everything")
def test_a_run_of_another_user_is_shown_and_the_rest_with_it(tspctl: Tspctl, two_runs: Path) -> None:
    two_runs.chmod(0)
    try:
        states = {row["name"]: row["state"] for row in tspctl("list", "-o", "json").json}
    finally:
        two_runs.chmod(0o700)
    assert states == {"good": "succeeded", "bad": "damaged"}


def test_a_file_that_may_not_be_read_is_damage_and_no_bug(
    tspctl: Tspctl, two_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path == two_runs / "launch.json":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    states = {row["name"]: (row["state"], row["reason"]) for row in tspctl("list", "-o", "json").json}
    assert states["good"][0] == "succeeded"
    assert states["bad"][0] == "damaged"
    assert "Permission denied" in states["bad"][1]


def test_a_damaged_run_whose_store_is_not_known_keeps_its_store(tspctl: Tspctl, local: Path, two_runs: Path) -> None:
    (two_runs / "launch.json").write_text("")
    assert tspctl("delete", "bad", "--yes").code == 0
    assert (local / "bad" / "run.json").exists()
    assert not two_runs.exists()


def test_a_damaged_run_can_go_on_with_what_its_store_has(tspctl: Tspctl, two_runs: Path, plan_ranks: Plan) -> None:
    for name in ("launch.json", "outcome.json", "supervisor.json", "config.json"):
        (two_runs / name).write_text("")
    assert tspctl("resume", "bad").code == 0
    assert tspctl("wait", "bad").code == 0
    assert tspctl("status", "bad", "-o", "json").json["state"] == "succeeded"


def test_a_run_without_its_supervisor_has_crashed(tspctl: Tspctl, local: Path, two_runs: Path) -> None:
    """The supervisor was killed before it wrote who it is, and the ranks before they had ended."""
    (local / "bad" / "outcome.json").unlink()
    (two_runs / "supervisor.json").unlink()
    (two_runs / "outcome.json").unlink()
    report = tspctl("status", "bad", "-o", "json").json
    assert report["state"] == "crashed"
    assert "tspctl resume bad" in report["reason"]
    assert tspctl("wait", "bad").code == 100
    assert tspctl("resume", "bad").code == 0
    assert tspctl("wait", "bad").code == 0


@pytest.mark.parametrize("left", [(), ("supervisor.json",), ("supervisor.json", "config.json")])
def test_what_an_interrupted_submit_leaves_is_listed_and_can_be_deleted(
    tspctl: Tspctl, local: Path, two_runs: Path, left: tuple[str, ...]
) -> None:
    (local / "bad" / "outcome.json").unlink()
    for path in two_runs.iterdir():
        if path.name in left:
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    report = tspctl("status", "bad", "-o", "json").json
    assert report["state"] == "crashed"
    assert "tspctl delete bad" in report["reason"]
    assert "bad" in tspctl("list", "-o", "name").out.split()
    taken = tspctl(*SUBMIT, "bad")
    assert taken.code == 2
    assert "tspctl resume bad" in taken.err  # the store has what it takes
    assert tspctl("delete", "bad", "--yes").code == 0
    assert not two_runs.exists()


@pytest.mark.parametrize("step", ["reserve", "write_launch", "create", "start"])
def test_ctrl_c_at_any_moment_of_submit_leaves_what_list_shows_and_delete_removes(
    tspctl: Tspctl, local: Path, plan_ranks: Plan, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from cli.backends.local import launch
    from tsp.run.stored_run import StoredRun

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    owner, name = {
        "reserve": (run_folder.LocalRun, "note_submitter"),
        "write_launch": (run_folder.LocalRun, "write_launch"),
        "create": (StoredRun, "create"),
        "start": (launch, "start_supervisor"),
    }[step]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupt)
        ended = tspctl(*SUBMIT, "a")
    assert (ended.code, "interrupted" in ended.err, "Traceback" in ended.err) == (130, True, False)
    assert "tspctl list" in ended.err
    listed = tspctl("list", "-o", "name").out.split()
    assert listed == (["a"] if local_run("a").exists() or (local / "a").exists() else [])
    if listed:
        # This process, which submitted it, still lives; after it the run has crashed.
        supervisor = local_run("a").folder / "supervisor.json"
        if supervisor.exists():
            supervisor.write_text(json.dumps({**json.loads(supervisor.read_text()), "started": "before"}))
        assert tspctl("delete", "a", "--yes").code == 0
    assert tspctl("list", "-o", "name").out == ""
    assert not (local / "a").exists()
    assert tspctl(*SUBMIT, "a", "--follow").code == 0


@pytest.mark.parametrize("owner", ["backend", "store"])
def test_ctrl_c_in_a_deletion_leaves_what_a_second_one_removes(
    tspctl: Tspctl, local: Path, two_runs: Path, monkeypatch: pytest.MonkeyPatch, owner: str
) -> None:
    from cli.backends.local.backend import LocalBackend
    from tsp.store.local import LocalStore

    real, deleted = LocalStore.delete, []

    def interrupt_later(store: LocalStore, key: str) -> None:
        if len(deleted) == 2:
            raise KeyboardInterrupt
        deleted.append(key)
        real(store, key)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if owner == "backend":
            patch.setattr(LocalBackend, "delete", interrupt)
        else:
            patch.setattr(LocalStore, "delete", interrupt_later)
        ended = tspctl("delete", "bad", "--yes")
    assert ended.code == 130
    assert "'tspctl delete bad' deletes the rest" in ended.err
    assert "bad" in tspctl("list", "-o", "name").out.split()
    assert tspctl("delete", "bad", "--yes", "--force").code == 0
    assert not (local / "bad").exists()
    assert "bad" not in tspctl("list", "-o", "name").out.split()


def test_ctrl_c_in_a_cancel_leaves_it_being_stopped(
    tspctl: Tspctl, local: Path, plan_ranks: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cli.backends.local import lifecycle

    plan_ranks(epochs=100, step_sec=0.1)
    tspctl(*SUBMIT, "a")
    wait_until((local / "a" / "progress.json").exists, "it runs")

    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "wait_gone", interrupt)
        ended = tspctl("cancel", "a")
    assert (ended.code, "'tspctl status a'" in ended.err) == (130, True)
    assert tspctl("wait", "a").code == 103
    assert tspctl("delete", "a", "--yes").code == 0


def test_a_failed_clean_up_tells_both_errors(tspctl: Tspctl, local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tsp.errors import StoreError
    from tsp.run.stored_run import StoredRun

    def refuse(*_: object, **__: object) -> None:
        raise StoreError("the store is read-only")

    def busy(path: Path) -> None:
        raise OSError(16, "Device or resource busy", f"{path}/lock")

    with monkeypatch.context() as patch:
        patch.setattr(StoredRun, "create", refuse)
        patch.setattr(run_folder.shutil, "rmtree", busy)
        ended = tspctl(*SUBMIT, "a")
    assert ended.code == 5
    assert "the store is read-only" in ended.err
    assert "lock: Device or resource busy" in ended.err
    assert "tspctl delete a" in ended.err


def test_without_a_home_folder_lists_are_empty_and_submit_says_what_to_set(
    tspctl: Tspctl, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert tspctl("list").code == 0
    assert tspctl("status", "nobody").code == 102
    ended = tspctl(*SUBMIT, "a")
    assert (ended.code, "XDG_STATE_HOME" in ended.err) == (2, True)


def test_a_home_that_cannot_be_written_is_named(tspctl: Tspctl, local: Path, home: Path) -> None:
    (home / ".local").write_text("a file where a folder is needed")
    ended = tspctl(*SUBMIT, "a")
    assert ended.code == 2
    assert "XDG_STATE_HOME" in ended.err
    assert tspctl("list").code == 0


def test_a_deleted_current_folder_is_said_where_it_matters(
    tspctl: Tspctl, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert tspctl("list").code == 0
    ended = tspctl("results", "./a")
    assert (ended.code, "the current folder no longer exists" in ended.err) == (2, True)


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_no_name_ever_means_the_folder_of_all_runs(tspctl: Tspctl, two_runs: Path, name: str) -> None:
    assert tspctl("delete", name, "--yes").code != 0
    assert state_home().is_dir()
    assert two_runs.is_dir()


def test_a_foreign_file_among_the_runs_is_passed_over(tspctl: Tspctl, two_runs: Path) -> None:
    (state_home() / ".DS_Store").write_text("x")
    (two_runs / "console" / "attempt-x").mkdir()
    (two_runs / "console" / "attempt-1" / "rank-0.log~").write_text("x")
    assert tspctl("list", "-o", "name").out.split() == ["bad", "good"]
    assert tspctl("logs", "bad").code == 0


def test_a_run_whose_files_are_gone_is_told_from_one_that_has_made_nothing_yet(
    tspctl: Tspctl, two_runs: Path, local: Path, tmp_path: Path
) -> None:
    shutil.rmtree(local / "bad")
    gone = f"the run's files are missing at {local}/bad: they were moved or deleted, or the disk is not mounted"
    for words in (
        "results bad", "metrics bad", "fetch-best bad", "fetch bad --all", "report bad --out page.html",
        "tensorboard bad --export events", "evaluate bad", "submit --like bad --dry-run",
    ):  # fmt: skip
        ended = tspctl(*words.split())
        assert (ended.code, ended.out) == (5, ""), words
        assert gone in ended.err, words
    assert not Path("page.html").exists()
    both = tspctl("report", "good", "bad", "--out", tmp_path / "page.html")
    assert both.code == 0
    assert f"bad is omitted: {gone}" in both.err
    shown = tspctl("status", "bad")
    assert (shown.code, gone in shown.err) == (0, True)
    assert tspctl("delete", "bad", "--yes").code == 0
