"""The end of a run whose loss or gradient is not finite."""

from __future__ import annotations

from typing import NoReturn

from tsp.errors import NonFiniteLossError
from tsp.train.distributed import Group
from tsp.train.step import StepReport


def refuse(group: Group, epoch: int, report: StepReport) -> NoReturn:
    """Raise NonFiniteLossError that names the clips of all ranks; every rank calls it and raises the same."""
    found = group.gather((report.loss, report.names) if report.bad_here else None)
    bad = [(rank, *item) for rank, item in enumerate(found) if item is not None]
    if not bad:
        raise NonFiniteLossError(
            f"the gradient is not finite in epoch {epoch}, step {report.step}, although the loss is: the step was "
            "not taken; lower the learning rates, or use --precision fp32"
        )
    clips = "; ".join(name for _, _, names in bad for name in names)
    raise NonFiniteLossError(
        f"the loss is {bad[0][1]} in epoch {epoch}, step {report.step} (rank {bad[0][0]}): the step was not taken "
        f"and the last checkpoint is kept; lower the learning rates or check these clips: {clips}"
    )
