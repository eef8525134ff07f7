"""YAML without ambiguity: values that YAML 1.1 reads differently than people do are refused with their position.

Otherwise, the first of two equal keys would be ignored, 010 would be eight, and 1:30 ninety.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from tsp.config.text_file import decoded, read_file
from tsp.errors import ConfigError

_MERGE_TAG = "tag:yaml.org,2002:merge"
_AMBIGUOUS = re.compile(r"[+-]?0[0-9_]+|.*:.*|[+-]?0b.*")


class GivenTwiceError(yaml.constructor.ConstructorError):
    """A key is given twice."""


class UniqueKeysLoader(yaml.SafeLoader):
    """Refuses keys that are given twice, of which YAML's users lose one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Raises: GivenTwiceError."""
        if isinstance(node, yaml.MappingNode):
            seen: set[Any] = set()
            for key, _ in node.value:
                name = key.value if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE_TAG else None
                if name is not None and name in seen:
                    raise GivenTwiceError(None, None, f"{name!r} is given twice", key.start_mark)
                seen.add(name)
        return super().construct_mapping(node, deep)


class _Loader(UniqueKeysLoader):
    """Also refuses numbers that look like others."""

    def construct_number(self, node: yaml.ScalarNode) -> Any:
        if _AMBIGUOUS.fullmatch(node.value):
            text = (
                f"the number {node.value} is ambiguous: write it without a leading zero or colons, or in quotes if it "
                "is text"
            )
            raise yaml.constructor.ConstructorError(None, None, text, node.start_mark)
        is_integer = node.tag.endswith(":int")
        return self.construct_yaml_int(node) if is_integer else self.construct_yaml_float(node)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)


def load_yaml(text: str) -> Any:
    """The content of a YAML or JSON text.

    Raises: yaml.YAMLError saying what is wrong where.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506, a SafeLoader
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error
    except ValueError as error:  # an impossible date, an endless number
        raise yaml.YAMLError(str(error)) from error
    except (AttributeError, KeyError) as error:  # PyYAML's own, for a tag whose value is of another kind: !!bool 3
        raise yaml.YAMLError("a tag (!!...) does not match its value: remove the tag") from error


def read_yaml(path: Path, what: str) -> Any:
    """The content of a YAML or JSON file, in any encoding that tables may have.

    Args: what, what the file is, for messages.
    Raises: ConfigError naming the file.
    """
    name = f"{what} {path}"
    text = decoded(read_file(path, name, ConfigError), name, ConfigError)
    try:
        return load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} cannot be read as YAML or JSON: {error}") from error
