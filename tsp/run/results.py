"""Lines of ``results.txt``, ours and the original scripts', and the best of them."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from tsp.errors import DataError

logger = logging.getLogger(__name__)
_NUMBER = r"([-+]?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|nan|inf|NaN|Infinity))"
_HEAD = re.compile(rf"<([^>\r\n]+)>\s+Accuracy\s+{_NUMBER}\s+Loss\s+{_NUMBER}\s*;")
_PART = r"<[^>\r\n]+>[^<;]*;\s*"
_LINE = re.compile(
    rf"\s*\*\*\s*Valid Epoch (\d+):\s*((?:{_PART})+)Total Loss\s+{_NUMBER}\s+Avg Accuracy\s+{_NUMBER}\s*"
)


@dataclass(frozen=True, slots=True)
class HeadResult:
    """One head's figures over the labelled validation clips of an epoch."""

    label_column: str
    accuracy_percent: float
    loss: float


@dataclass(frozen=True, slots=True)
class EpochResult:
    """The validation results of an epoch, as in a results line."""

    epoch: int
    heads: tuple[HeadResult, ...]
    total_loss: float
    avg_accuracy_percent: float
    """Mean of the heads' accuracies; the epoch with the highest is the best."""


def format_line(result: EpochResult) -> str:
    """The results line of an epoch, without a line end.

    Source: TSP, ``results.txt``; three decimals, two spaces after the colon.
    """
    heads = "".join(
        f" <{head.label_column}> Accuracy {head.accuracy_percent:.3f} Loss {head.loss:.3f};" for head in result.heads
    )
    return (
        f"** Valid Epoch {result.epoch}: {heads} "
        f"Total Loss {result.total_loss:.3f} Avg Accuracy {result.avg_accuracy_percent:.3f}"
    )


def parse_line(line: str) -> EpochResult:
    """The results of a results line; ``nan`` and ``inf`` are valid numbers.

    Raises: DataError if it is not a results line.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        raise _no_line(line)
    heads = tuple(HeadResult(head[1], float(head[2]), float(head[3])) for head in _HEAD.finditer(match[2]))
    if len(heads) != len(re.findall(_PART, match[2])):
        raise _no_line(line)
    return EpochResult(int(match[1]), heads, float(match[3]), float(match[4]))


def _no_line(line: str) -> DataError:
    return DataError(f"not a results line: {line.strip()!r:.120}")


def parse_results(text: str, *, where: str = "results.txt") -> dict[int, EpochResult]:
    """Epoch -> results, in rising order of epochs, of a whole ``results.txt``. For a repeated epoch, the last line
    counts. Blank lines are skipped; any other line that is not a results line is skipped with a warning that names
    ``where`` and the line's number.
    """
    results: dict[int, EpochResult] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip("\0 \t\ufeff"):
            continue
        try:
            result = parse_line(line.lstrip("\ufeff"))
        except DataError as error:
            logger.warning("%s, line %d skipped: %s", where, number, error)
            continue
        results[result.epoch] = result
    return dict(sorted(results.items()))


def best(results: Collection[EpochResult]) -> EpochResult:
    """The best epoch, as ``best_or_none`` finds it.

    Raises: DataError if there is none.
    """
    found = best_or_none(results)
    if found is None:
        reason = "every Avg Accuracy is nan" if results else "no epoch has been validated yet"
        raise DataError(f"there is no best epoch: {reason}")
    return found


def best_or_none(results: Iterable[EpochResult]) -> EpochResult | None:
    """The epoch of the highest Avg Accuracy; ``nan`` never wins, of equals (in a results line) the earlier one does."""
    return max(
        (result for result in results if math.isfinite(result.avg_accuracy_percent)),
        key=lambda result: (round(result.avg_accuracy_percent, 3), -result.epoch),
        default=None,
    )
