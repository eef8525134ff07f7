"""Runs that die at any moment, on a server that fails in every way: 500 schedules; ``make simulate`` plays 100,000.

A failing seed is played again by ``python -m tests.simulation.many --schedules 1 --first SEED``.
"""

import contextlib
import functools
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.breaks import BREAKS, SEEN_BY, broken
from tests.simulation.local_schedule import LocalSchedule
from tests.simulation.many import play_many
from tests.simulation.schedule import Schedule, play, simulated
from tests.simulation.scheduler import HangError, Process, World
from tests.simulation.server import Client, Faults, Server
from tests.simulation.stand_ins import many_schedules
from tests.simulation.training import EPOCHS, RUN
from tsp.store.base import KeyExistsError
from tsp.store.claims import CLAIM_SEC

SHARES = 20
PER_SHARE = 25
MOST_TO_NOTICE = 400


@pytest.mark.parametrize("share", range(SHARES))
def test_no_schedule_breaks_an_invariant(share: int) -> None:
    failures = play_many(range(share * PER_SHARE, (share + 1) * PER_SHARE))
    assert {seed: failure for seed, failure in failures.items() if failure is not None} == {}


@pytest.mark.parametrize("name", BREAKS)
def test_a_deliberate_mistake_is_noticed(name: str) -> None:
    """Otherwise nothing would be checked. Most show within ten schedules; others are looked for where they once did."""
    with many_schedules(), broken(name) as make:
        assert any(play(seed, make) for seed in (SEEN_BY.get(name, 0), *range(MOST_TO_NOTICE))), name


def test_a_seed_plays_the_same_schedule_again(tmp_path: Path) -> None:
    def trace(seed: int) -> tuple[int, float, list[int | None], list[str]]:
        folder = tmp_path / f"{seed}-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        schedule = Schedule(seed, folder)
        schedule.play()
        codes = [process.exit_code for process in schedule.trainers]
        return schedule.server.num_requests, schedule.world.now, codes, sorted(schedule.server.objects)

    traces = [trace(seed) for seed in (3, 4, 3)]
    assert traces[0] == traces[2]
    assert traces[0] != traces[1]


def test_schedules_differ_in_what_happens(tmp_path: Path) -> None:
    """Otherwise nothing would be simulated: some runs go through at once, some are killed, some get no further."""
    unseen = {0, 137, 143, 151}
    for seed in range(60):
        folder = tmp_path / str(seed)
        folder.mkdir()
        schedule = Schedule(seed, folder)
        schedule.play()
        unseen -= {process.exit_code for process in schedule.trainers}
        if not unseen:
            return
    pytest.fail(f"no run ends with {unseen}")


def test_a_run_nobody_disturbs_publishes_each_epoch(tmp_path: Path) -> None:
    schedule = Schedule(0, tmp_path)
    schedule.server.faults, schedule.kill_chance, schedule.two_writers = Faults(), 0.0, False
    schedule.checks.two_writers = False
    with simulated(schedule):
        process = Process("alone")
        schedule.trainers.append(process)
        schedule.world.start(process, lambda: schedule._train(process))
        schedule.world.run()
    names = {key.removeprefix(f"team/{RUN}/") for key in schedule.server.objects}
    assert {f"epoch_{epoch}.{kind}" for epoch in range(EPOCHS) for kind in ("pth", "json")} <= names
    assert not [name for name in names if name.startswith("state/") and name != "state/attempt.json"]
    assert schedule.server.uploads == {}


def test_a_hang_is_noticed() -> None:
    world = World(0)
    world.start(Process("waits"), lambda: world.pause(None, "for nothing"))
    with pytest.raises(HangError, match="waits: for nothing"):
        world.run()


def test_a_killed_process_has_no_further_effect() -> None:
    world = World(0)
    server = Server(world, Faults())
    process = Process("killed")

    def work() -> None:
        try:
            Client(server).put_object(Key="a", Body=b"x")
            process.dead = True
            Client(server).put_object(Key="b", Body=b"x")
        finally:
            Client(server).put_object(Key="c", Body=b"x")

    world.start(process, work)
    world.run()
    assert set(server.objects) == {"a"}


@pytest.mark.parametrize("conditions", ["honoured", "refused", "ignored"])
def test_of_writers_of_one_second_one_wins(tmp_path: Path, conditions: Any) -> None:
    for seed in range(40):
        folder = tmp_path / str(seed)
        folder.mkdir()
        schedule = LocalSchedule(seed, folder)
        schedule.server.faults, schedule.server.conditions, schedule.world.before_turn = Faults(), conditions, _nothing
        won: list[str] = []

        def write(who: str, schedule: LocalSchedule = schedule, won: list[str] = won) -> None:
            store = schedule.open_run().store
            schedule.world.pause(schedule.world.now + schedule.world.random.random() / 5)
            with contextlib.suppress(KeyExistsError):
                store.write("once", who.encode(), only_if_absent=True)
                won.append(who)

        with simulated(schedule):
            for who in ("a", "b", "c"):
                schedule.world.start(process := Process(who), functools.partial(write, who))
                assert process.error is None
            schedule.world.run()
        assert [who.encode() for who in won] == [schedule.server.objects["team/once"].data], (seed, won)
        assert list(schedule.server.objects) == ["team/once"]


def test_a_claim_of_a_killed_writer_counts_for_a_while(tmp_path: Path) -> None:
    schedule = LocalSchedule(0, tmp_path)
    schedule.server.faults, schedule.server.conditions, schedule.world.before_turn = Faults(), "refused", _nothing
    schedule.server.put("team/once.claim-of-the-dead", b"")
    began = schedule.world.now
    with simulated(schedule):
        schedule.world.start(
            process := Process("a"), lambda: schedule.open_run().store.write("once", b"a", only_if_absent=True)
        )
        schedule.world.run()
    assert process.error is None
    assert schedule.world.now - began > CLAIM_SEC
    assert schedule.server.objects["team/once"].data == b"a"


def _nothing() -> None:
    """Nobody is disturbed."""
