"""Tells whether a finished output is what a repeated command asks for, since its features look the same if not."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tsp.data.file_version import FileVersion
from tsp.errors import ConfigError
from tsp.wording import first_few

logger = logging.getLogger(__name__)


def refuse_other_work(
    report: Mapping[str, Any], num_clips: Mapping[str, int], *, table: str, encoder: str | None, where: str
) -> None:
    """Refuse to call an output finished that holds other videos than the table, or comes from another encoder.

    Args: report, of the output; num_clips, what the table asks for, by the video's name; encoder, if one was asked for;
        where, the output's address.
    Raises: ConfigError.
    """
    if encoder is not None and report.get("encoder") not in (None, encoder):
        raise ConfigError(
            f"{where} was made by the encoder {report['encoder']}, not {encoder}: leave out --backbone, or choose "
            "another --out"
        )
    if "videos" in report and (differences := list(_differences(report, num_clips))):
        raise ConfigError(
            f"{where} is finished, but does not hold the videos of {table} ({'; '.join(differences)}): choose another "
            f"--out, or delete {where} to extract all of them again"
        )


def refuse_other_files(
    made_from: Mapping[str, FileVersion], there: Mapping[str, FileVersion | None], *, folder: str, where: str
) -> None:
    """Refuse to call an output finished whose features are of other files than those in the folder; warn if files that
    it was made from are no longer there.

    Args: made_from, each video's file when it was extracted; there, the file now, None if there is none.
    Raises: ConfigError.
    """
    absent = [name for name in made_from if there.get(name) is None]
    other = other_files(made_from, there)
    differences = "; ".join([*_counted(absent, "not there"), *described(other, made_from)])
    if absent and not other:
        # Whoever has removed the videos since may repeat the command all the same.
        logger.warning("%s is finished; not compared with the files in %s: %s", where, folder, differences)
    elif other:
        raise ConfigError(
            f"{where} is finished, but not from the files in {folder} ({differences}): check --data, "
            f"choose another --out, or delete {where} to extract all of them again"
        )


def other_files(
    made_from: Mapping[str, FileVersion], there: Mapping[str, FileVersion | None]
) -> dict[str, FileVersion]:
    """The files that are there by the names of the videos whose features were made from another one."""
    return {
        name: now
        for name, before in made_from.items()
        if (now := there.get(name)) is not None and not before.may_be(now)
    }


def described(other: Mapping[str, FileVersion], made_from: Mapping[str, FileVersion]) -> list[str]:
    """In which way such files differ."""
    is_resized = {name: now.size_bytes != made_from[name].size_bytes for name, now in other.items()}
    return [
        *_counted([name for name in other if is_resized[name]], "of another size"),
        *_counted([name for name in other if not is_resized[name]], "of other content"),
    ]


def _differences(report: Mapping[str, Any], num_clips: Mapping[str, int]) -> Iterator[str]:
    held = {name: facts["features"] for name, facts in report["videos"].items()}
    # These were left out as the command wished, and its answer names them again.
    broken = {row["video"] for row in report["holds"]["rows"] if row["state"] == "broken"}
    yield from _counted([name for name in num_clips if name not in held and name not in broken], "not in it")
    yield from _counted(
        [name for name in num_clips if held.get(name, num_clips[name]) != num_clips[name]], "of another length in it"
    )
    yield from _counted([name for name in held if name not in num_clips], "in it, but not wanted")


def _counted(names: Sequence[str], what: str) -> Iterator[str]:
    if names:
        yield f"{len(names)} {what}: {first_few(names)}"
