"""Numbers in environment variables of pods and ranks, whoever sets them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tsp.errors import ConfigError

MOST = 1_000_000
MOST_PORT = 65535


def whole_number(environment: Mapping[str, str], name: str, default: int, *, least: int = 0, most: int = MOST) -> int:
    """The number in a variable; the default if it is empty or not set.

    Raises: ConfigError naming the variable.
    """
    text = environment.get(name, "").strip()
    if not text:
        return default
    if re.fullmatch("[0-9]{1,9}", text) is None or not least <= int(text) <= most:
        raise ConfigError(f"the variable {name} must be a whole number from {least} to {most}, got {text!r}")
    return int(text)
