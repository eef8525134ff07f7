"""Whole local runs: real supervisors and rank processes, pretended training."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.backends.local import lifecycle
from cli.backends.local.run_folder import LocalRun, local_run
from tests.cli.conftest import FAKE_RANK, Tspctl, kill_supervisor
from tests.waiting import wait_until
from tsp.run.processes import is_alive

SUBMIT = ("submit", "--dataset", "demo", "--method", "tac", "--name", "a")
Plan = Callable[..., None]


def state_of(name: str) -> str:
    from cli.backends.local.status import local_status

    return local_status(local_run(name)).state


def wait_for_log(name: str, text: str) -> None:
    console = local_run(name).console
    wait_until(lambda: any(text in log.read_text() for log in console.glob("*/*.log")), f"{text!r} in the logs")


def follow_to_the_last_process(tspctl: Tspctl) -> None:
    """The outcome is known before the supervisor has ended, which may still write to the run's folder."""
    tspctl(*SUBMIT, "--follow")
    wait_until(lambda: not local_run("a").is_supervised(), "its supervisor is gone")


def test_a_followed_run_ends_with_its_outcome_and_leaves_results(tspctl: Tspctl, local: Path, plan_ranks: Plan) -> None:
    plan_ranks(epochs=3, step_sec=0.02)
    followed = tspctl(*SUBMIT, "--gpus", "2", "--follow")
    assert (followed.code, followed.out) == (0, "a\n")
    for line in (
        "[rank 0] INFO fake.rank: rank 0 epoch 2 done",
        "[rank 1] INFO fake.rank: rank 1 epoch 2 done",
        "run a: succeeded",
    ):
        assert line in followed.err
    assert json.loads((local / "a" / "outcome.json").read_text())["state"] == "succeeded"

    report = tspctl("status", "a", "-o", "json").json
    assert (report["state"], report["gpus"], report["best_epoch"], report["downscale"]) == ("succeeded", 2, 1, 2)
    assert (report["global_batch"], report["eta_sec"], report["exit_code"]) == (32, None, 0)
    assert [row["epoch"] for row in tspctl("results", "a", "-o", "json").json["epochs"]] == [0, 1, 2]
    assert tspctl("list", "-o", "name").out == "a\n"
    assert tspctl("wait", "a").code == 0
    assert "nothing to resume" in tspctl("resume", "a").err
    refused = tspctl("cancel", "a")
    assert "has already ended (succeeded)" in refused.err
    assert "state is saved" not in refused.err
    best = tspctl("fetch-best", "a", "-d", "best.pth")
    assert (best.out, Path("best.pth").read_bytes()) == ("best.pth\n", b"checkpoint 1")

    refused = tspctl(*SUBMIT)
    assert refused.code == 2
    assert "never overwritten" in refused.err or "this machine already has" in refused.err
    assert tspctl("delete", "a").code == 2  # no terminal to ask on
    assert tspctl("delete", "a", "--yes").code == 0
    assert not (local / "a").exists()
    assert tspctl("status", "a").code == 102


def test_one_bad_rank_ends_the_others_and_is_the_reason(tspctl: Tspctl, local: Path, plan_ranks: Plan) -> None:
    plan_ranks(epochs=1000, step_sec=0.02, exit={"1": 3})
    ended = tspctl(*SUBMIT, "--gpus", "2", "--follow")
    assert ended.code == 100
    reason = "rank 1 ended with exit code 3 (bad data): rank 1 cannot go on: clip 7 of video_3.mp4 is broken\n"
    shown = tspctl("status", "a")
    assert reason in shown.out
    assert tspctl("wait", "a").code == 100
    outcome = json.loads((local / "a" / "outcome.json").read_text())
    assert (outcome["state"], outcome["exit_code"], outcome["attempt"]) == ("failed", 3, 1)


def test_a_killed_rank_is_started_again_and_its_logs_are_kept(tspctl: Tspctl, local: Path, plan_ranks: Plan) -> None:
    plan_ranks(epochs=2, step_sec=0.01, kill_once=1)
    ended = tspctl(*SUBMIT, "--gpus", "2", "--follow")
    assert ended.code == 0
    assert tspctl("status", "a", "-o", "json").json["attempt"] == 2
    everything = tspctl("logs", "a").out
    assert everything.count("rank: rank 1 of 2") == 2
    assert tspctl("logs", "a", "--previous", "--rank", "1").out.count("rank: rank 1 of 2") == 1
    assert "[rank 0]" not in tspctl("logs", "a", "--rank", "1").out
    last = tspctl("logs", "a", "--tail", "1").out.splitlines()
    assert sorted(line.partition("]")[0] for line in last) == ["[rank 0", "[rank 1"]
    for selection, said in {
        "--rank 5": "run a has no rank 5: its ranks are 0 to 1",
        "--attempt 9": "run a has written no lines in attempt 9",
        "--rank 1 --since 2999-01-01T00:00:00+00:00": "no lines of rank 1 since 2999-01-01 00:00:00 UTC",
    }.items():
        nothing = tspctl("logs", "a", *selection.split())
        assert (nothing.code, nothing.out) == (0, "")
        assert said in nothing.err
    refused = tspctl("exec", "a", "--rank", "5", "--", "true")
    assert (refused.code, refused.out) == (2, "")
    assert "run a has no rank 5: its ranks are 0 to 1" in refused.err
    assert tspctl("logs", "a", "--tail", "0").err == ""


def test_retries_are_bounded(tspctl: Tspctl, local: Path, plan_ranks: Plan) -> None:
    plan_ranks(exit={"0": 150})
    assert tspctl(*SUBMIT, "--max-attempts", "2", "--follow").code == 100
    assert "gave up after 2 attempts" in tspctl("status", "a").out


def test_cancel_saves_state_and_resume_goes_on(tspctl: Tspctl, local: Path, plan_ranks: Plan) -> None:
    plan_ranks(epochs=2, step_sec=600.0)
    submitted = tspctl(*SUBMIT, "-o", "json")
    assert submitted.json["effective"]["global_batch"] == submitted.json["config"]["batch_per_gpu"]
    wait_until((local / "a" / "progress.json").exists, "the first progress")
    shown = tspctl("status", "a")
    assert ("State" in shown.out, "running" in shown.out, "12.5 clips/s" in shown.out) == (True, True, True)
    assert tspctl("wait", "a", "--timeout", "0").code == 101
    assert tspctl("resume", "a").code == 2
    assert tspctl("delete", "a", "--yes").code == 2
    assert tspctl("exec", "a", "--", sys.executable, "-c", "import os; assert os.environ['RANK'] == '0'").code == 0

    assert tspctl("cancel", "a").code == 0
    assert tspctl("wait", "a").code == 103
    assert "INFO fake.rank: state saved" in tspctl("logs", "a").out
    assert json.loads((local / "a" / "outcome.json").read_text())["state"] == "cancelled"

    plan_ranks(epochs=2)
    assert tspctl("resume", "a").code == 0
    # Attempts count over the run's whole life: one was used up, as many as at first may follow.
    assert json.loads(local_run("a").config_path.read_text())["max_attempts"] == 21
    followed = tspctl("logs", "a", "-f")
    assert followed.code == 0
    assert followed.out.count("rank: rank 0 of 1") == 2


def test_suspend_is_no_end(tspctl: Tspctl, local: Path, plan_ranks: Plan) -> None:
    plan_ranks(epochs=2, step_sec=600.0, deaf=True)
    tspctl(*SUBMIT)
    wait_for_log("a", "rank: rank 0 of 1")
    # A rank that does not hear is killed after the grace period.
    assert tspctl("suspend", "a", "--grace", "0.3").code == 0
    assert tspctl("status", "a", "-o", "json").json["state"] == "suspended"
    assert tspctl("wait", "a").code == 101
    assert tspctl("cancel", "a").code == 0
    assert tspctl("wait", "a").code == 103


def test_a_dead_supervisor_is_a_crash_takes_its_ranks_along_and_can_be_resumed(
    tspctl: Tspctl, local: Path, plan_ranks: Plan
) -> None:
    plan_ranks(epochs=2, step_sec=600.0)
    tspctl(*SUBMIT)
    wait_for_log("a", "rank: rank 0 of 1")
    supervised = kill_supervisor("a")
    wait_until(lambda: state_of("a") == "crashed", "crashed")
    wait_until(lambda: not any(is_alive(rank.process) for rank in supervised.ranks), "ranks end too")
    shown = tspctl("status", "a")
    assert "tspctl resume a" in shown.out
    assert tspctl("wait", "a").code == 100
    plan_ranks(epochs=2)
    assert tspctl("resume", "a").code == 0
    assert tspctl("wait", "a").code == 0


def test_deleting_a_crashed_run_first_ends_the_ranks_that_outlived_its_supervisor(
    tspctl: Tspctl, local: Path, plan_ranks: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "GRACE_SEC", 1.0)
    plan_ranks(epochs=1000, step_sec=0.2, deaf=True)
    tspctl(*SUBMIT)
    wait_for_log("a", "rank: rank 0 of 1")
    supervised = kill_supervisor("a")
    wait_until(lambda: state_of("a") == "crashed", "crashed")
    assert any(is_alive(rank.process) for rank in supervised.ranks), "it does not hear SIGTERM"
    assert tspctl("delete", "a", "--yes").code == 0
    assert not any(is_alive(rank.process) for rank in supervised.ranks)
    assert not (local / "a").exists()


def test_a_reused_pid_does_not_look_like_a_living_supervisor(tspctl: Tspctl, local: Path, plan_ranks: Plan) -> None:
    plan_ranks(epochs=1)
    follow_to_the_last_process(tspctl)
    run = local_run("a")
    (run.folder / "outcome.json").unlink()
    record = json.loads((run.folder / "supervisor.json").read_text())
    record["pid"] = os.getpid()
    (run.folder / "supervisor.json").write_text(json.dumps({**record, "phase": "running"}))
    assert state_of("a") == "crashed"


def test_logs_come_from_the_store_when_this_machine_has_none(tspctl: Tspctl, local: Path, plan_ranks: Plan) -> None:
    folder = local / "b" / "logs" / "attempt-1"
    folder.mkdir(parents=True)
    (local / "b" / "results.txt").write_text("")
    (folder / "rank-1.log").write_text("2026-01-01T00:00:01.5Z INFO second\n2026-01-01T00:00:03Z INFO fourth\n")
    (folder / "rank-0.log").write_text("2026-01-01T00:00:01Z INFO first\ntrace\n2026-01-01T00:00:02Z INFO third\n")
    (local / "b" / "outcome.json").write_text(
        '{"state": "cancelled", "exit_code": 143, "reason": "stopped by request", "attempt": 1, '
        '"ended": "2026-01-01T00:00:04+00:00"}'
    )
    expected = ["[rank 0] INFO first", "[rank 0] trace", "[rank 1] INFO second", "[rank 0] INFO third"]
    assert tspctl("logs", "b").out.splitlines() == [*expected, "[rank 1] INFO fourth"]
    followed = tspctl("logs", "b", "-f", "--since", "2026-01-01T00:00:02Z", "--timestamps")
    assert followed.code == 103
    assert followed.out.splitlines() == [
        "2026-01-01T00:00:02.000000Z [rank 0] INFO third",
        "2026-01-01T00:00:03.000000Z [rank 1] INFO fourth",
    ]


def test_interrupting_a_followed_run_leaves_it_running(home: Path, local: Path, plan_ranks: Plan) -> None:
    hold = home / "hold"
    hold.touch()
    plan_ranks(epochs=1, step_sec=0.05, hold=str(hold))
    program = (
        f"import sys; from cli import main; from cli.backends.local import launch as local_launch; "
        f"local_launch.ENTRYPOINT = (sys.executable, '-P', {str(FAKE_RANK)!r}); main.main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, *SUBMIT, "--follow"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until(lambda: local_run("a").supervised() is not None, "started")
        wait_for_log("a", "rank: rank 0 of 1")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=600)
    assert process.returncode == 130
    assert out == "a\n"
    assert "the run continues" in err
    assert "Traceback" not in err
    hold.unlink()
    wait_until(lambda: state_of("a") == "succeeded", "it succeeds all the same")


def test_a_store_that_went_away_still_leaves_a_status(tspctl: Tspctl, local: Path, plan_ranks: Plan) -> None:
    follow_to_the_last_process(tspctl)
    (local / "a" / "progress.json").write_text("{")
    shown = tspctl("status", "a")
    assert (shown.code, "succeeded" in shown.out) == (0, True)
    assert "progress.json" in shown.out
    assert tspctl("list", "-o", "json").json[0]["state"] == "succeeded"


def test_a_run_deleted_by_hand_makes_room_for_another(tspctl: Tspctl, local: Path, plan_ranks: Plan) -> None:
    follow_to_the_last_process(tspctl)
    shutil.rmtree(local / "a")
    assert tspctl(*SUBMIT, "--follow").code == 0


def test_the_order_of_the_list_is_newest_first_and_stored_runs_follow(
    tspctl: Tspctl, local: Path, plan_ranks: Plan
) -> None:
    assert tspctl("list").err == "no runs\n"
    (local / "stored").mkdir(parents=True)
    (local / "stored" / "results.txt").write_text("")
    for name in ("older", "newer"):
        tspctl(*SUBMIT[:-1], name, "--follow")
    assert tspctl("list", "-o", "name").out.split() == ["newer", "older", "stored"]
    assert "original scripts" in tspctl("status", "stored").out


@pytest.mark.parametrize("command", ["status", "logs", "wait", "results", "fetch-best", "cancel", "resume"])
def test_no_such_run_is_exit_code_102(tspctl: Tspctl, local: Path, command: str) -> None:
    ended = tspctl(command, "nobody")
    assert ended.code == 102
    assert "no run 'nobody'" in ended.err


def test_a_supervisor_that_has_recorded_the_outcome_is_waited_for_on_a_busy_machine(
    tspctl: Tspctl, local: Path, plan_ranks: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow_to_the_last_process(tspctl)
    monkeypatch.setattr(lifecycle, "_LAST_MOMENT_SEC", 0.0)
    looks = iter([True] * 5)  # as while it exits, slowly
    monkeypatch.setattr(LocalRun, "is_supervised", lambda run: next(looks, False))
    assert tspctl("delete", "a", "--yes").code == 0
    assert next(looks, None) is None


def test_a_run_whose_supervisor_was_killed_after_its_ranks_had_ended_has_ended(
    tspctl: Tspctl, local: Path, plan_ranks: Plan
) -> None:
    plan_ranks(epochs=1)
    assert tspctl(*SUBMIT, "--follow").code == 0
    wait_until(lambda: not local_run("a").is_supervised(), "its supervisor is gone")
    (local_run("a").folder / "outcome.json").unlink()
    assert state_of("a") == "crashed"
    assert tspctl("status", "a", "-o", "json").json["state"] == "succeeded"
    assert [row["state"] for row in tspctl("list", "-o", "json").json] == ["succeeded"]
    assert "succeeded" in tspctl("list").out
    assert tspctl("wait", "a").code == 0
    assert "has already ended (succeeded)" in tspctl("cancel", "a").err
    assert "nothing to resume" in tspctl("resume", "a").err
    assert json.loads((local / "a" / "outcome.json").read_text())["state"] == "succeeded"
    assert tspctl("delete", "a", "--yes").code == 0


NO_NAMES = ("a" * 45, "a" * 300, "ä" * 130, "a ", " a", "a,b", "a\nb", "a*", "A", "-", "%61", "a\udce9")
ABOUT_A_RUN = (
    "status", "logs", "results", "metrics", "fetch --all", "fetch-best", "wait", "resume", "cancel", "delete --yes",
)  # fmt: skip


def test_text_that_no_run_can_be_called_is_no_run_for_every_command(tspctl: Tspctl, local: Path) -> None:
    tspctl(*SUBMIT, "--follow")
    for command in ABOUT_A_RUN:
        for text in NO_NAMES:
            refused = tspctl(*command.split(), "--", text)
            assert (refused.code, "no run" in refused.err) == (102, True), (command, text, refused.err)
    assert tspctl("list", "-o", "name").out == "a\n"
