"""Validation of configuration objects. The bounds of a number are declared with its field."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import MISSING, dataclass, field
from typing import Any

from tsp.errors import ConfigError

_KEY = "bounds"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of a number."""

    name: str
    """What messages call it: a key or an option."""
    above: float | None
    at_least: float | None
    at_most: float | None

    def check(self, value: float) -> None:
        """Raises: ConfigError for a number out of bounds; infinity and NaN always are."""
        is_within = (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
        )
        if not is_within:
            raise ConfigError(f"{self.name} must {self}, got {value}")

    def __str__(self) -> str:
        if self.at_least is not None and self.at_most is not None:
            return f"lie in [{self.at_least}, {self.at_most}]"
        if self.above is not None and self.at_most is not None:
            return f"be above {self.above} and at most {self.at_most}"
        if self.at_least is not None:
            return f"be at least {self.at_least}"
        return f"be above {self.above}" if self.above is not None else "be finite"


def number(
    name: str,
    default: Any = MISSING,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Any:
    """A field for a number within bounds, or None if its type allows it.

    Args: name, what messages call it.
    """
    return field(default=default, metadata={_KEY: Bounds(name, above, at_least, at_most)})


def bounds_of(config: Any) -> dict[str, Bounds]:
    """Field -> bounds, of a dataclass or an object of one, for the fields that were declared by ``number``."""
    return {item.name: item.metadata[_KEY] for item in dataclasses.fields(config) if _KEY in item.metadata}


def check_numbers(config: Any) -> None:
    """Check the fields of a dataclass that were declared by ``number``.

    Raises: ConfigError naming the first that is out of bounds.
    """
    for name, bounds in bounds_of(config).items():
        if (value := getattr(config, name)) is not None:
            bounds.check(value)


def require(condition: bool, message: str) -> None:
    """Raises: ConfigError with the message unless the condition holds."""
    if not condition:
        raise ConfigError(message)
