"""The configuration that a new run starts from: one in a file, or an earlier run's."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsp.config.codec import flat, from_dict, to_dict
from tsp.config.run import RunConfig
from tsp.errors import ConfigError, NoSuchRunError

if TYPE_CHECKING:
    from cli.runs.session import Session

logger = logging.getLogger(__name__)


def config_in_file(path: Path) -> RunConfig:
    """From what ``submit --dry-run -o yaml`` (or json) printed, or from run.json.

    Raises: ConfigError naming file and key.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--file {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"--file {path} is neither YAML nor JSON: {error}") from error
    tree = content.get("config") if isinstance(content, dict) else None
    if not isinstance(tree, dict):
        raise ConfigError(f"--file {path} has no 'config': give what 'tspctl submit --dry-run -o yaml' prints")
    return from_dict(RunConfig, tree, where=str(path))


def config_of_run(session: Session, name: str) -> RunConfig:
    """An earlier run's; reports what it was made with where that differs from this program.

    Raises: NoSuchRunError; ConfigError if it is one of the original scripts.
    """
    from tsp.version import commit, version

    found = session.find(name, only_training=True)
    try:
        about = found.run.about()
        config = found.run.config()
    except NoSuchRunError as error:
        raise ConfigError(f"--like {name}: {error}") from error
    ours = {"tspctl": version(), "commit": commit() or "unknown"}
    for key, value in ours.items():
        made_with = (about.get("versions") or {}).get(key)
        if made_with not in (None, value):
            logger.warning("%s was made with %s %s, this is %s", name, key, made_with, value)
    if about.get("data_digest"):
        logger.info("%s read annotation tables with the digest %s: compare it with the new run's run.json",
                    name, about["data_digest"][:16])  # fmt: skip
    return config


def report_changes(before: RunConfig, after: RunConfig, what: str) -> None:
    """Say in which settings the new run differs."""
    old, new = (flat(to_dict(config)) for config in (before, after))
    for key in sorted(old.keys() | new.keys()):
        if key != "name" and old.get(key) != new.get(key):
            logger.info("%s: %s is %s, was %s", what, key, _shown(new.get(key)), _shown(old.get(key)))


def _shown(value: Any) -> str:
    return "not set" if value is None else str(value)
