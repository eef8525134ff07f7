"""Configuration objects to plain data and back, by the type hints of their fields."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date
from typing import Any, Literal, TypeVar

from tsp.errors import ConfigError

T = TypeVar("T")
_NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_NON_FINITE = ("nan", "inf", "-inf")
_SCALARS = frozenset({str, int, float, bool})


def to_dict(config: Any) -> dict[str, Any]:
    """Plain dict of a configuration object, ready for JSON and YAML (tuples become lists)."""
    return typing.cast("dict[str, Any]", _plain(config))


def json_text(value: Any) -> str:
    """Plain data as the JSON that is stored and sent: a value a line, for people and for diffs."""
    return json.dumps(value, indent=2) + "\n"


def _plain(value: Any) -> Any:
    # A seventh of the time of dataclasses.asdict and a round trip through JSON.
    kind = type(value)
    if value is None or kind in _SCALARS:
        return value
    if is_dataclass(kind):
        return {name: _plain(getattr(value, name)) for name in field_names(kind)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return json.loads(json.dumps(value))


def from_dict(cls: type[T], raw: Any, *, where: str = "config", non_finite: bool = False) -> T:
    """Build a configuration object from plain data, refusing unknown keys and wrong types.

    Args: cls, one of the dataclasses above; raw, a mapping; where, the path shown in errors; non_finite, whether the
        texts nan, inf and -inf are figures, as records write them.
    Raises: ConfigError naming the key.
    """
    if not isinstance(raw, dict):
        raise ConfigError(f"{where} must be a mapping, got {raw!r}")
    hints, known, required = _described(cls)  # type: ignore[arg-type]
    if unknown := sorted(raw.keys() - known.keys()):
        raise ConfigError(f"{where} has an unknown key {unknown[0]!r}; known: {', '.join(known)}")
    values = {key: convert(hints[key], value, f"{where}.{key}", non_finite) for key, value in raw.items()}
    if missing := [name for name in required if name not in values]:
        raise ConfigError(f"{where} lacks the key {missing[0]!r}")
    return cls(**values)


@functools.cache
def hints_of(cls: type) -> dict[str, Any]:
    """Type hints of a dataclass by field; resolving them is slow."""
    return typing.get_type_hints(cls)


@functools.cache
def _described(cls: type) -> tuple[dict[str, Any], dict[str, None], list[str]]:
    """Type hints of a dataclass, the names of its fields in order, and those without default."""
    required = [
        item.name
        for item in fields(cls)
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    return hints_of(cls), dict.fromkeys(item.name for item in fields(cls)), required


def field_names(cls: type) -> dict[str, None]:
    """The names of a dataclass's fields, in order."""
    return _described(cls)[1]


def convert(hint: Any, value: Any, where: str, non_finite: bool = False) -> Any:
    """Convert a value to a type hint; JSON and YAML scalars only, no silent truncation.

    Args: where, its name in errors; non_finite, as of ``from_dict``.
    Raises: ConfigError.
    """
    if type(value) is hint and hint in _SCALARS:
        return value
    origin, arguments = _parts(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        inner = next(argument for argument in arguments if argument is not type(None))
        return convert(inner, value, where, non_finite)
    if origin is Literal:
        return _convert_literal(arguments, value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} must be a list, got {value!r}")
        return tuple(convert(arguments[0], item, f"{where}[{index}]", non_finite) for index, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where} must be a mapping (a table in TOML), got {value!r}")
        return {str(key): convert(arguments[1], item, f"{where}.{key}", non_finite) for key, item in value.items()}
    if hint is Any:
        return value
    if is_dataclass(hint):
        return from_dict(typing.cast("type[Any]", hint), value, where=where, non_finite=non_finite)
    if non_finite and hint is float and value in _NON_FINITE:
        return float(value)
    return _convert_scalar(hint, value, where)


@functools.cache
def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    return typing.get_origin(hint), typing.get_args(hint)


def _convert_literal(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    text = str(value)
    if text in choices:
        return text
    raise ConfigError(f"{where} must be one of {', '.join(map(str, choices))}, got {value!r}")


def _convert_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):
        # YAML 1.1 reads 1e-4 (no point) as text. Python's float would also accept 010, inf and digits of other scripts.
        if _NUMBER.fullmatch(value) is None:
            raise ConfigError(f"{where} must be a number, got the text {value!r}")
        return float(value)
    if hint is str and isinstance(value, str):
        return value
    cure = ""
    if hint is str and isinstance(value, bool | int | float | date):
        # YAML reads no and on as truth values, 2024 and 1.10 as numbers, 2024-01-01 as a date.
        cure = "; if it is text, write it in quotes"
    raise ConfigError(f"{where} must be of type {getattr(hint, '__name__', hint)}, got {value!r}{cure}")


def split_dotted(key: str) -> list[str]:
    """The names in ``a.b\\.c``: ``a`` and ``b.c``."""
    return [name.replace("\\.", ".") for name in re.split(r"(?<!\\)\.", key)]


def leaf_values(cls: type, values: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Values by dotted key, each for one field: a mapping is taken apart, so that what it does not name stays.

    TOML and YAML read ``optim.head_lr = 1`` and ``{optim: {head_lr: 1}}`` as a mapping that would replace all of
    ``optim``, the recipe's learning rates with it.

    Args: cls, the configuration that the keys are of; where, before the key in errors.
    Raises: ConfigError naming a key that does not exist, or whose value is of another type.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{where}{key}"
        hint = _hint_at(cls, key, name)
        if is_dataclass(hint) and isinstance(value, dict):
            inner = leaf_values(typing.cast("type", hint), value, where=f"{name}.")
            found |= {f"{key}.{leaf}": item for leaf, item in inner.items()}
        else:
            convert(hint, value, name)
            found[str(key)] = value
    return found


def _hint_at(cls: type, key: Any, name: str) -> Any:
    """The type of the field that a dotted key names."""
    hint: Any = cls
    for step in split_dotted(str(key)):
        origin, arguments = _parts(hint)
        if is_dataclass(hint):
            hints = _described(typing.cast("type", hint))[0]
            if step not in hints:
                raise ConfigError(f"{name}: there is no {step!r}; known: {', '.join(hints)}")
            hint = hints[step]
        elif origin is tuple and step.isdigit():
            hint = arguments[0]
        else:
            raise ConfigError(f"{name}: there is no {step!r}; --dry-run -o yaml shows the keys")
    return hint


def set_dotted(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set ``tree["a"]["b"]`` for the key ``a.b``; a number indexes a list.

    A dot within a name is written ``\\.``, as Helm has it. A mapping is laid over one that is there, as Helm lays
    values files over each other: TOML reads ``store.existingSecret = "x"`` as a mapping ``store``.

    Raises: ConfigError if there is no such key.
    """
    here: Any = tree
    *way, last = split_dotted(key)
    for step in way:
        here = here.setdefault(step, {}) if isinstance(here, dict) else _list_item(here, step, key)
    if isinstance(here, dict):
        here[last] = _laid_over(here.get(last), value)
    else:
        _list_item(here, last, key)
        here[int(last)] = value


def _laid_over(below: Any, value: Any) -> Any:
    if not isinstance(below, dict) or not isinstance(value, dict):
        return value
    return {**below, **{key: _laid_over(below.get(key), item) for key, item in value.items()}}


def _list_item(items: Any, step: str, key: str) -> Any:
    if isinstance(items, list) and step.isdigit() and int(step) < len(items):
        return items[int(step)]
    raise ConfigError(f"--set {key}: there is no {step!r}; --dry-run -o yaml shows the keys")


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted key."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if items is None:
        return {prefix: tree}
    found: dict[str, Any] = {}
    for key, value in items:
        found |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found
