"""The configuration that a new run starts from: one in a file, or an earlier run's."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.runs.images import images_of, keep_images
from tsp.config.codec import flat, from_dict, to_dict
from tsp.config.run import RunConfig
from tsp.config.sizing import EffectiveSizes
from tsp.errors import ConfigError, NoSuchRunError
from tsp.run.origins import IMAGE, PRETRAINED, RESUME, agrees, digests_here, recorded
from tsp.run.pod_images import described, digest_of

if TYPE_CHECKING:
    from cli.runs.session import Session

logger = logging.getLogger(__name__)

_PRINTED = ("name", "effective", "config")
"""Keys of what ``submit --dry-run -o yaml`` prints; run.json has more."""


@dataclass(frozen=True, slots=True)
class WrittenRun:
    """A run that a file describes."""

    path: Path
    config: RunConfig
    sizes: Any
    """The effective sizes in the file, unchecked; None if it has none."""


def run_in_file(path: Path) -> WrittenRun:
    """From what ``submit --dry-run -o yaml`` (or json) printed, or from run.json. Read once: it may be a pipe.

    Raises: ConfigError naming file and key.
    """
    content = _content(path)
    tree = content["config"]
    unknown = sorted(map(str, set(content) - set(_PRINTED))) if "created" not in content else []
    if unknown:
        raise ConfigError(f"--file {path} has an unknown key {unknown[0]!r}; known: {', '.join(_PRINTED)}")
    name = content.get("name", tree.get("name"))
    if name != tree.get("name"):
        raise ConfigError(
            f"--file {path}: name is {name!r}, but config.name is {tree.get('name')!r}: give both the same value"
        )
    return WrittenRun(path, from_dict(RunConfig, tree, where=str(path)), content.get("effective"))


def report_sizes(written: WrittenRun, sizes: EffectiveSizes | None) -> None:
    """Report effective sizes of a file that differ in the new run, where they follow from GPUs and configuration."""
    if sizes is None or not isinstance(written.sizes, dict):
        return
    for key, value in asdict(sizes).items():
        if written.sizes.get(key, value) != value:
            logger.info(
                "--file %s: effective.%s is recomputed: %s, was %s", written.path, key, value, written.sizes[key]
            )


def _content(path: Path) -> dict[str, Any]:
    """What a file holds, with a mapping ``config`` in it."""
    from tsp.config.strict_yaml import read_yaml

    content = read_yaml(path, "--file")
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        raise ConfigError(f"--file {path} has no 'config': give a file that 'tspctl submit --dry-run -o yaml' printed")
    return content


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """An earlier run as the template of a new one."""

    name: str
    config: RunConfig
    about: Mapping[str, Any]
    """Its run.json."""
    images: Sequence[str] = ()
    """That its pods had, with their digests or IDs."""


def earlier_run(session: Session, name: str) -> EarlierRun:
    """The run that --like names.

    Raises: NoSuchRunError; ConfigError if it is one of the original scripts.
    """
    found = session.find(name, only_training=True)
    try:
        config, about = found.run.config(), found.run.about()
    except NoSuchRunError as error:
        raise ConfigError(f"--like {name}: {error}") from error
    keep_images(found.run, found.status)
    return EarlierRun(name, config, about, images_of(found.run, found.status))


def report_origins(session: Session, earlier: EarlierRun, config: RunConfig, *, image: str | None) -> None:
    """Report programs, data and weights that differ from those of the earlier run.

    Args: config, of the new run; image, that its pods will have, None for the backend's own.
    """
    backend = session.backend
    here = {**backend.versions(), **({IMAGE: image} if image else {})}
    _report_image(earlier, here.pop(IMAGE, None))
    _report_versions(earlier, here)
    before = recorded(earlier.about, "digests")
    if not before:
        logger.warning("%s has no recorded digests of its data and weights: they are not compared", earlier.name)
        return
    same: list[str] = []
    unread: dict[str, list[str]] = {}
    for name, sha256, why in digests_here(config, sees_paths=backend.sees_paths):
        if name not in before:
            continue
        if sha256 is None:
            unread.setdefault(why, []).append(name)
        elif agrees(before[name], sha256):
            same.append(name)
        else:
            logger.warning(
                "%s is not the file that %s was made with: SHA-256 %.12s, was %.12s",
                _described(name), earlier.name, sha256, before[name],
            )  # fmt: skip
    if same:
        logger.info("the same as for %s (SHA-256): %s", earlier.name, ", ".join(map(_described, same)))
    for why, names in unread.items():
        logger.warning("not compared with %s: %s (%s)", earlier.name, ", ".join(map(_described, names)), why)


def _report_versions(earlier: EarlierRun, here: Mapping[str, str]) -> None:
    from tsp.version import commit, version

    before = recorded(earlier.about, "machine") | recorded(earlier.about, "versions")
    for key, value in {"tspctl": version(), "commit": commit() or "unknown", **here}.items():
        if not _is_same_version(before.get(key, value), value):
            logger.warning("%s was made with %s %s, this is %s", earlier.name, key, before[key], value)


def _is_same_version(one: str, other: str) -> bool:
    """Also where only one of them names its build, as torch does: ``2.15.0+cu132``."""
    if "+" in one and "+" in other:
        return one == other
    return one.partition("+")[0] == other.partition("+")[0]


def _report_image(earlier: EarlierRun, here: str | None) -> None:
    """Args: here, what the new run's pods will have; None where a run has no image."""
    if here is None:
        return
    before = recorded(earlier.about, "machine").get(IMAGE)
    images = earlier.images or ([before] if before and digest_of(before) else [])
    pinned = [image for image in images if digest_of(image)]
    if digest_of(here) in {digest_of(image) for image in pinned}:
        return
    if digest_of(here) or (before is not None and before != here):
        logger.warning("%s was made with image %s, this is %s", earlier.name, before or described(images), here)
    if images:
        advice = f"; to use the same image, give --image {pinned[-1]}" if pinned else ", which --image cannot refer to"
        logger.warning("the pods of %s ran %s%s", earlier.name, described(images), advice)


def _described(name: str) -> str:
    return {PRETRAINED: "the initial weights", RESUME: "the checkpoint to resume from"}.get(name, name)


def report_changes(before: RunConfig, after: RunConfig, what: str) -> None:
    """Report the settings of the new run that differ."""
    old, new = (flat(to_dict(config)) for config in (before, after))
    for key in sorted(old.keys() | new.keys()):
        if key != "name" and old.get(key) != new.get(key):
            logger.info("%s: %s is %s, was %s", what, key, _shown(new.get(key)), _shown(old.get(key)))


def _shown(value: Any) -> str:
    return "not set" if value is None else str(value)
