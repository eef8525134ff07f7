"""Whatever a run's progress says can be shown."""

import dataclasses

from cli.runs.summary import RunSummary
from tsp.run.records import Progress


def test_every_field_of_a_runs_progress_has_one_in_the_report():
    known = {item.name for item in dataclasses.fields(RunSummary)} | {"world_size"}  # shown as gpus
    assert {item.name for item in dataclasses.fields(Progress)} <= known
