import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli.main import COMMANDS
from cli.runs import summaries
from tests.cli.conftest import Tspctl
from tsp.errors import ClusterError


def test_a_known_error_is_one_line_with_its_exit_code(
    tspctl: Tspctl, monkeypatch: pytest.MonkeyPatch, local: object
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ClusterError("the cluster is closed: come back tomorrow")

    monkeypatch.setattr(summaries, "collect", refuse)
    ended = tspctl("list")
    assert (ended.code, ended.out, ended.err) == (4, "", "error: the cluster is closed: come back tomorrow\n")


def test_a_traceback_is_shown_only_when_asked_for(
    tspctl: Tspctl, monkeypatch: pytest.MonkeyPatch, local: object
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(summaries, "collect", fail)
    ended = tspctl("list")
    assert ended.code == 1
    assert "ZeroDivisionError: a bug" in ended.err
    assert "Traceback" not in ended.err
    assert "Traceback" in tspctl("-v", "list").err


def test_ctrl_c_is_130(tspctl: Tspctl, monkeypatch: pytest.MonkeyPatch, local: object) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(summaries, "collect", interrupt)
    ended = tspctl("list")
    assert (ended.code, "Traceback" in ended.err) == (130, False)


@pytest.mark.parametrize("arguments", [["nonsense"], ["status"], ["list", "-o", "xml"], ["logs", "a", "--tail", "x"]])
def test_bad_usage_is_2(tspctl: Tspctl, arguments: list[str]) -> None:
    ended = tspctl(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("Usage: ")


def test_a_reader_that_goes_away_causes_no_traceback(tspctl: Tspctl, local: Path) -> None:
    folder = local / "b" / "logs" / "attempt-1"
    folder.mkdir(parents=True)
    (local / "b" / "results.txt").write_text("")
    (folder / "rank-0.log").write_text("a line of a long log\n" * 50_000)
    with subprocess.Popen(
        [sys.executable, "-m", "cli.main", "logs", "b"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "[rank 0] a line of a long log\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == -signal.SIGPIPE


def test_quiet_says_only_warnings(tspctl: Tspctl, local: Path, data_root: Path) -> None:
    arguments = ("submit", "--dataset", "demo", "--method", "tac", "--dry-run")
    assert "downscale factor" in tspctl(*arguments).err
    assert tspctl("-q", *arguments).err == ""
    assert tspctl(*arguments, "-q").err == ""


@pytest.mark.parametrize("arguments", [("-v", "list"), ("list", "-v"), ("list", "--verbose")])
def test_verbosity_may_come_before_or_after_the_command(
    tspctl: Tspctl, monkeypatch: pytest.MonkeyPatch, local: object, arguments: tuple[str, ...]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(summaries, "collect", fail)
    assert "Traceback" in tspctl(*arguments).err
    assert "Traceback" not in tspctl("list").err


def test_what_follows_exec_belongs_to_its_command(tspctl: Tspctl, local: object) -> None:
    command = COMMANDS["exec"][0]
    assert "no run 'nobody'" in tspctl("exec", "nobody", "python", "-v", "-q").err, command


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", [["list"], ["delete", "nothing"], ["version"]])
def test_streams_that_are_closed_are_the_null_device(local: Path, closed: str, words: list[str]) -> None:
    """As cron and daemons start programs: each asked whether None is a terminal, which was an unexpected error."""
    command = f'"$0" -m cli.main "$@" {closed}'
    done = subprocess.run(["bash", "-c", command, sys.executable, *words], capture_output=True, text=True, timeout=600)
    assert done.returncode == (102 if words[0] == "delete" else 0), done.stderr
    assert "unexpected" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("words", [["list", "-o", "json"], ["version"], ["data", "check", "--help"]])
def test_results_that_cannot_be_written_are_told_as_that(local: Path, words: list[str]) -> None:
    command = [sys.executable, "-m", "cli.main", *words]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=600)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write to standard output: No space left on device")
    assert done.stderr.count("\n") == 1
