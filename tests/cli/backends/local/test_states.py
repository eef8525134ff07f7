"""Every state of a local run x every command -> how the command ends; what a message advises works in that state."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.backends.local.run_folder import local_run
from tests.cli.conftest import Ended, Tspctl, kill_supervisor
from tests.waiting import wait_until
from tsp.run.processes import is_alive

SUBMIT = ("submit", "--dataset", "demo", "--method", "tac", "--name", "a")
Plan = Callable[..., None]

COMMANDS: dict[str, tuple[str, ...]] = {
    "status": ("status", "a"),
    "results": ("results", "a"),
    "logs": ("logs", "a"),
    "wait": ("wait", "a", "--timeout", "0"),
    "cancel": ("cancel", "a", "--grace", "5"),
    "suspend": ("suspend", "a", "--grace", "5"),
    "resume": ("resume", "a"),
    "exec": ("exec", "a", "--", "true"),
    "fetch-best": ("fetch-best", "a"),
    "submit": SUBMIT,
    "delete": ("delete", "a", "--yes"),
}

# 0 done, 2 refused with what to do, 3 no data yet, 100-103 outcomes.
TABLE = """
state       status results logs wait cancel suspend resume exec fetch-best submit delete
none        102    102     102  102  102    102     102    102  102        0      102
running     0      3       0    101  0      0       2      0    3          2      2
suspended   0      3       0    101  0      2       0      0    3          2      0
cancelled   0      3       0    103  2      2       0      0    3          2      0
failed      0      3       0    100  2      2       0      0    3          2      0
succeeded   0      0       0    0    2      2       2      0    0          2      0
crashed     0      3       0    100  0      0       0      0    3          2      0
unsupervised 0     3       0    100  0      0       0      0    3          2      0
half-made   0      3       0    100  102    102     102    102  3          2      0
damaged     0      3       0    101  2      2       0      2    3          2      0
stored      0      0       0    0    102    102     2      102  0          2      0
"""


CHANGING = ("cancel", "suspend", "resume", "delete")
LOOKING = ("status", "results", "logs", "wait", "exec", "fetch-best", "submit")
"""Commands that leave the run as it is; of a run that is not there submit makes one, and is the last."""


def table() -> dict[tuple[str, str], int]:
    head, *lines = [line.split() for line in TABLE.strip().splitlines()]
    return {(line[0], command): int(code) for line in lines for command, code in zip(head[1:], line[1:], strict=True)}


def rows() -> list[tuple[str, tuple[str, ...]]]:
    """State and the commands that are tried on one run of it."""
    groups = [LOOKING, *((command,) for command in COMMANDS if command not in LOOKING)]
    return [(state, group) for state in dict.fromkeys(state for state, _ in table()) for group in groups]


class Ways:
    """The commands and deaths that lead a run ``a`` into a state, each a method of the state's name."""

    def __init__(self, tspctl: Tspctl, local: Path, plan_ranks: Plan) -> None:
        self.tspctl, self.local, self.plan_ranks = tspctl, local, plan_ranks

    def none(self) -> None:
        """There is no run."""

    def running(self) -> None:
        self.plan_ranks(epochs=1, step_sec=600.0)  # however slow the machine: no epoch is there yet
        assert self.tspctl(*SUBMIT).code == 0
        wait_until((self.local / "a" / "progress.json").exists, "it runs")

    def crashed(self) -> None:
        self.running()
        supervised = kill_supervisor("a")
        wait_until(lambda: not any(is_alive(rank.process) for rank in supervised.ranks), "ranks end too")

    def suspended(self) -> None:
        self._stop("suspend")

    def cancelled(self) -> None:
        self._stop("cancel")

    def failed(self) -> None:
        self._end(exit={"0": 3})

    def succeeded(self) -> None:
        self._end(epochs=1)

    def unsupervised(self) -> None:
        self.crashed()
        (local_run("a").folder / "supervisor.json").unlink()

    def half_made(self) -> None:
        self.crashed()
        for path in local_run("a").folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.rmtree(self.local / "a")

    def damaged(self) -> None:
        self.crashed()
        (local_run("a").folder / "launch.json").write_text("")

    def stored(self) -> None:
        self.succeeded()
        shutil.rmtree(local_run("a").folder)

    def _end(self, **plan: object) -> None:
        self.plan_ranks(**plan)
        self.tspctl(*SUBMIT, "--follow")
        wait_until(lambda: not local_run("a").is_supervised(), "its supervisor is gone")

    def _stop(self, command: str) -> None:
        self.running()
        assert self.tspctl(command, "a").code == 0
        wait_until(lambda: not local_run("a").is_supervised(), "its supervisor is gone")


@pytest.fixture
def make(tspctl: Tspctl, local: Path, plan_ranks: Plan) -> Callable[[str], None]:
    """Bring a run ``a`` into a state."""
    ways = Ways(tspctl, local, plan_ranks)

    def make(state: str) -> None:
        getattr(ways, state.replace("-", "_"))()
        plan_ranks(epochs=1)

    return make


def check(ended: Ended, what: str) -> None:
    assert "Traceback" not in ended.err, what
    assert "unexpected error" not in ended.err, f"{what}: {ended.err}"


@pytest.mark.parametrize(("state", "commands"), rows())
def test_commands_in_a_state(
    tspctl: Tspctl, make: Callable[[str], None], state: str, commands: tuple[str, ...]
) -> None:
    make(state)
    advice = []
    for command in commands:
        ended = tspctl(*COMMANDS[command])
        check(ended, f"{command} of a {state} run")
        assert ended.code == table()[state, command], f"{command}: {ended.err or ended.out}"
        advice += [(words, command) for words in advised(ended)]
        if state != "none" and not (command == "delete" and ended.code == 0):
            assert "a" in tspctl("list", "-o", "name").out.split()
    # One that changes the run ends it: what was advised for the state it had is not true any more.
    advice.sort(key=lambda item: item[0][0] in CHANGING)
    for words, command in advice:
        followed = tspctl(*words)
        check(followed, f"{words} advised by {command} of a {state} run")
        assert followed.code not in (1, 2, 102), f"{words} advised by {command} of a {state} run: {followed.err}"
        if words[0] in CHANGING:
            return


def advised(ended: Ended) -> list[tuple[str, ...]]:
    """Commands in quotes that act on the run; where the message asks for --yes, it is given."""
    found = [tuple(text.split()) for text in re.findall(r"'tspctl ([^']+)'", ended.err + ended.out)]
    # Following a run that does not end would not end; reading its log is the same command.
    commands = [tuple(word for word in words if word != "-f") for words in found if "RUN" not in words]
    return [(*words, "--yes") if words[0] == "delete" else words for words in commands]


def test_what_a_deleted_run_left_is_nothing(tspctl: Tspctl, local: Path, make: Callable[[str], None]) -> None:
    for state in ("crashed", "damaged", "half-made"):
        make(state)
        assert tspctl("delete", "a", "--yes").code == 0
        assert not local_run("a").folder.exists()
        if (local / "a").exists():  # a damaged run's store was not known
            assert json.loads((local / "a" / "run.json").read_text())
            shutil.rmtree(local / "a")
