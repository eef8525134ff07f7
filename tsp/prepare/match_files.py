"""Matches annotated videos to files, and checks that the annotated times are possible for them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from tsp.data.tables import VideoFacts, composed
from tsp.errors import DataError
from tsp.prepare.annotations import Action, refuse_entries
from tsp.prepare.find_videos import VIDEO_SUFFIXES

_BEYOND_SHARE, _BEYOND_SEC = 0.2, 1.0
"""An action that ends so much after its video is hardly annotated in seconds of that video."""
_DURATION_SHARE, _DURATION_SEC = 0.02, 1.0
_SHARES_UP_TO, _LONG_SEC = 1.0, 5.0


def match_files(names: Collection[str], videos: Sequence[VideoFacts], prefix: str | None) -> dict[str, VideoFacts]:
    """The file of each annotated video that has one, matched by path, name, or name without extension.

    Args: prefix, what file names have before the video's name; None detects it.
    Raises: DataError if a name matches several files, or several names match one file.
    """
    by_name: dict[str, list[VideoFacts]] = {}
    for facts in videos:
        path = PurePosixPath(composed(facts.filename))
        for spelling in {str(path), str(path.with_suffix("")), path.name, path.stem}:
            by_name.setdefault(spelling, []).append(facts)
    if prefix is None:
        # ActivityNet's files are called v_<name>.mp4; nearly everyone else's are called by the name.
        prefix = max(("", "v_"), key=lambda candidate: sum(bool(_files(name, candidate, by_name)) for name in names))
    matched: dict[str, VideoFacts] = {}
    name_of: dict[str, str] = {}
    errors = []
    for name in sorted(names):
        files = _files(name, prefix, by_name)
        if len(files) > 1:
            one, other = (facts.filename for facts in files[:2])
            several = f"{one} and {other}"
            errors.append(
                f"the metadata names the file {one} in {len(files)} rows: remove all but one"
                if one == other
                else f"the annotated video {name!r} may be any of {several}: use its path in the annotations, or give "
                "--folder"
            )
        elif files:
            other = name_of.setdefault(files[0].filename, name)
            if other != name:
                errors.append(f"the annotated videos {other!r} and {name!r} both match the file {files[0].filename}")
            matched[name] = files[0]
    refuse_entries(errors)
    return matched


def _files(name: str, prefix: str, by_name: Mapping[str, list[VideoFacts]]) -> list[VideoFacts]:
    path = PurePosixPath(composed(name))
    spellings = [path]
    if path.suffix.lower() in VIDEO_SUFFIXES:
        spellings.append(path.with_suffix(""))
    for spelling in spellings:
        if spelling.name:
            found = by_name.get(str(spelling.with_name(prefix + spelling.name)))
            if found:
                return found
    return []


def ends_beyond(end_sec: float, duration_sec: float) -> bool:
    """Whether an action ends after its video by more than annotators round."""
    return end_sec > duration_sec * (1 + _BEYOND_SHARE) + _BEYOND_SEC


def refuse_other_units(actions: Sequence[Action], by_name: Mapping[str, VideoFacts]) -> None:
    """Raises: DataError if the times can hardly be seconds of these files."""
    last: dict[str, Action] = {}
    for action in actions:
        if action.video not in last or action.end_sec > last[action.video].end_sec:
            last[action.video] = action
    beyond = [action for video, action in last.items() if ends_beyond(action.end_sec, by_name[video].duration_sec)]
    if 2 * len(beyond) > len(last):
        raise DataError(
            f"{beyond[0].where}: an action ends at {beyond[0].end_sec:g} s of a video that lasts "
            f"{by_name[beyond[0].video].duration_sec:g} s, and so it is in {len(beyond)} of {len(last)} videos: are "
            f"these frames or milliseconds? The times must be seconds"
        )
    if last and all(
        0 < action.end_sec <= _SHARES_UP_TO and by_name[video].duration_sec >= _LONG_SEC
        for video, action in last.items()
    ):
        raise DataError(
            f"{actions[0].where}: no action of {len(last)} videos ends after {_SHARES_UP_TO:g} s: are these fractions "
            f"of the video? The times must be seconds"
        )


def other_durations(durations_sec: Mapping[str, float], by_name: Mapping[str, VideoFacts]) -> list[str]:
    """Describes the videos whose annotated duration differs from their file's."""
    return [
        f"{facts.filename} (annotated {durations_sec[name]:g} s, the file lasts {facts.duration_sec:g} s)"
        for name, facts in by_name.items()
        if name in durations_sec
        and abs(durations_sec[name] - facts.duration_sec) > max(_DURATION_SEC, _DURATION_SHARE * facts.duration_sec)
    ]


def within_folder(videos: list[VideoFacts], folder: str | None, table: str) -> list[VideoFacts]:
    """The videos in a folder of the table, named relative to it."""
    if folder is None:
        return videos
    begin = folder.strip("/") + "/"
    found = [
        replace(facts, filename=facts.filename.removeprefix(begin))
        for facts in videos
        if facts.filename.startswith(begin)
    ]
    if not found:
        first = videos[0].filename if videos else "none"
        raise DataError(
            f"{table} has no file in the folder {folder!r} (its first one is {first!r}): give another --folder"
        )
    return found
