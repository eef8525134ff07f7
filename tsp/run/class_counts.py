"""Validation results by class: how many clips each class had, and which classes were predicted for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tsp.errors import DataError
from tsp.wording import counted


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class of one head."""

    label: str
    clips: int
    """Labelled with the class."""
    correct: int
    predicted: dict[str, int]
    """Predicted class -> clips, most first, correct ones included."""

    @property
    def accuracy_percent(self) -> float | None:
        """None if no clip has the class."""
        return 100 * self.correct / self.clips if self.clips else None


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """One head's confusion matrix over the labelled clips of a validation.

    Most of its cells are zero (200 classes have 40,000), and a run's epochs are read often: it is stored without them.
    """

    label_column: str
    labels: tuple[str, ...]
    """Class names; the index is the class id."""
    confusion: tuple[str, ...]
    """For each class ``predicted:clips`` in rising order of class ids, separated by spaces."""

    @classmethod
    def of(cls, label_column: str, labels: Sequence[str], matrix: Iterable[Sequence[int]]) -> ClassCounts:
        """From the whole matrix, rows by true class, columns by predicted class."""
        rows = (" ".join(f"{index}:{clips}" for index, clips in enumerate(row) if clips) for row in matrix)
        return cls(label_column, tuple(labels), tuple(rows))

    def matrix(self) -> list[list[int]]:
        """Clips by true class and predicted class.

        Raises: DataError if the stored data is not a matrix of these classes.
        """
        size = len(self.labels)
        matrix = []
        try:
            for text in self.confusion:
                row = [0] * size
                for cell in text.split():
                    index, _, clips = cell.partition(":")
                    row[_natural(index)] = _natural(clips)
                matrix.append(row)
        except (ValueError, IndexError) as error:
            raise DataError(f"the counts by class of {self.label_column} are damaged: {error}") from error
        if len(matrix) != size:
            raise DataError(
                f"the counts by class of {self.label_column} have {counted(len(matrix), 'row')} for {size} classes"
            )
        return matrix

    def rows(self) -> list[ClassRow]:
        """One a class, in the order of class ids.

        Raises: DataError if the stored data is damaged.
        """
        return [
            ClassRow(label, sum(counts), counts[index], self._named(counts))
            for index, (label, counts) in enumerate(zip(self.labels, self.matrix(), strict=True))
        ]

    def _named(self, counts: list[int]) -> dict[str, int]:
        found = [(label, clips) for label, clips in zip(self.labels, counts, strict=True) if clips]
        return dict(sorted(found, key=lambda item: -item[1]))


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r:.40} is not a count")
    return int(text)
