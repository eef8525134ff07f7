"""``--set KEY=VALUE``: one value of the configuration, read as JSON and TOML read values.

YAML would read 010 as eight, 1:30 as ninety and ``no`` as false. Here text is a number only if it is one in JSON or
TOML; anything else stays text, which the configuration refuses where it needs a number.
"""

from __future__ import annotations

import json
import logging
import re
from typing import Any

from tsp.errors import ConfigError

logger = logging.getLogger(__name__)

_WORDS = {"true": True, "false": False, "null": None}
_INTEGER = re.compile(r"[+-]?(0|[1-9](_?[0-9])*)")
_FLOAT = re.compile(r"[+-]?(0|[1-9](_?[0-9])*)(\.[0-9](_?[0-9])*)?([eE][+-]?[0-9]+)?")

OPTIONS_OF_KEYS = {"name": "--name", "method": "--method", "data.name": "--dataset", "store.uri": "--store"}
"""Keys that --set would change too late: names, paths and checks depend on their options."""


def parse_assignment(text: str) -> tuple[str, Any]:
    """Key and value of ``--set optim.head_lr=4e-3``.

    Raises: ConfigError if the value is missing, or the key has its own option.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"--set needs KEY=VALUE, for example optim.head_lr=4e-3; got {text!r}")
    refuse_key(key, where=f"--set {key}")
    if not value.strip():
        raise ConfigError(f"--set {key}= has no value: write {key}=null for none, or {key}='\"\"' for empty text")
    return key, parse_value(value, where=f"--set {key}")


def refuse_key(key: str, *, where: str) -> None:
    """Refuse a key that has its own option.

    Raises: ConfigError naming the option.
    """
    if key in OPTIONS_OF_KEYS:
        raise ConfigError(f"{where}: use the option {OPTIONS_OF_KEYS[key]} instead")


def parse_value(text: str, *, where: str = "value") -> Any:
    """A number, true, false, null, or JSON (quoted text, a list, a mapping); anything else is text.

    Raises: ConfigError for what begins like JSON and is not.
    """
    text = text.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if text[:1] in ("[", "{", '"'):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{where}: {text!r} is not JSON: {error}") from error
    return text


def describe_value(value: Any) -> str:
    """A value and its type: ``8 (integer)``."""
    kinds = {bool: "boolean", int: "integer", float: "number", str: "text"}
    kind = kinds.get(type(value))
    shown = json.dumps(value, ensure_ascii=False)
    return f"{shown} ({kind})" if kind else shown
