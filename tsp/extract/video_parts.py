"""An extraction's intermediate results: one small object per video, next to the output.

    <out>.parts/about.json            what is extracted: checkpoint, stride, ...
               /done/<version>/<video>.npy    float32; version, of the file they were made from (``FileVersion``)
               /padded/<version>/<video>.npy  the same; some clip repeats the video's last frame
               /broken/<version>/<video>.txt  why it could not be decoded
               /merging.json          which shard merges
    <out>                             the H5, whole or not there
    <out>.json                        what it holds; the parts are gone then

With one file per video the output is a folder: the parts become its files, ``features.json`` describes them and is
written last, ``missing_files.txt`` names the videos without features.

A part's folders show its state and its source, so that one listing shows the remaining work: a part made from another
version of the file is another file's. Parts of older releases have no version, and are accepted unchecked.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tsp.config.codec import json_text
from tsp.config.jobs import FeatureFormat
from tsp.config.store import StoreConfig
from tsp.data.file_version import FileVersion
from tsp.errors import ConfigError, DataError, MissingKeyError
from tsp.extract.ahead import map_ahead
from tsp.extract.npy import array_of
from tsp.extract.stream import VideoResult
from tsp.run.feature_set import DESCRIPTION, MISSING_FILES
from tsp.store.atomic import new_file
from tsp.store.base import KeyExistsError, Store
from tsp.store.files import open_folder, output_folder_and_name

PartState = Literal["done", "padded", "broken"]
ENDINGS: dict[PartState, str] = {"done": ".npy", "padded": ".npy", "broken": ".txt"}

NPY_HEADER_BYTES = 128
PARTS_AT_A_TIME = 8
"""Each is held whole: an hour at stride 1 is 106 MiB."""


@dataclass(frozen=True, slots=True)
class Part:
    """The part of one video."""

    state: PartState
    key: str
    made_from: FileVersion | None
    """The file; None in parts of older releases."""


class VideoParts:
    """The parts of one output, in the same store."""

    def __init__(self, store: Store, name: str, form: FeatureFormat = "h5") -> None:
        self.store = store
        self.name = name
        """Key of the H5, or of the folder."""
        self._form = form
        self._prefix = f"{name}.parts/"
        self._report_key = f"{name}.json" if form == "h5" else f"{name}/{DESCRIPTION}"

    @classmethod
    def beside(cls, out: str, settings: StoreConfig | None, form: FeatureFormat = "h5") -> VideoParts:
        """The parts of an output given by path or URI.

        Raises: ConfigError if it names no file or folder.
        """
        if form == "h5":
            folder, name = output_folder_and_name(out, like="features.h5")
        else:
            folder, name = output_folder_and_name(out.rstrip("/"), like="features")
        parts = cls(open_folder(folder, settings), name, form)
        parts._refuse_other_kind()
        return parts

    @property
    def address(self) -> str:
        """Of the output."""
        return self.store.address(self.name)

    def _refuse_other_kind(self) -> None:
        """Raises: ConfigError if the H5 is a folder, or the folder a file: before anything is extracted."""
        path = self.store.local_path(self.name)
        if path is not None and self._form == "h5" and path.is_dir():
            raise ConfigError(f"{path} is a folder: give a file, for instance {path}/features.h5")
        if path is not None and self._form == "npy" and path.is_file():
            raise ConfigError(f"{path} is a file: give a folder for the .npy files")

    # What is extracted

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Record the parameters of the extraction, or check that existing parts have the same.

        Raises: ConfigError naming the difference.
        """
        key = self._prefix + "about.json"
        found = [entry.key for entry in self.store.list(self._prefix)]
        if key not in found:
            # Parts that a process left which was killed while it removed them, or which did not see that another had
            # finished: nobody knows by which encoder they were made.
            for orphan in found:
                self.store.delete(orphan)
        try:
            self.store.write(key, _json(identity), only_if_absent=True)
        except KeyExistsError:
            _check_same(json.loads(self.store.read(key)), identity, self.store.address(self._prefix))

    def are_there(self) -> bool:
        """Whether an extraction was started and is not merged yet."""
        return self.store.exists(self._prefix + "about.json")

    def report(self) -> dict[str, Any] | None:
        """The report of a finished output; None if there is none."""
        try:
            report: dict[str, Any] = json.loads(self.store.read(self._report_key))
        except MissingKeyError:
            return None
        return report if self._is_there() else None

    def _is_there(self) -> bool:
        if self._form == "h5":
            return self.store.exists(self.name)
        return next(self.store.list(f"{self.name}/"), None) is not None

    def finished(self, identity: Mapping[str, Any]) -> dict[str, Any] | None:
        """The report of a finished output of the same identity; None if there is none.

        Raises: ConfigError if there is something else.
        """
        report = self.report()
        if report is not None:
            _check_same(report["about"], identity, self.address)
            # The merging process may have been killed during cleanup.
            self.store.delete_all(self._prefix)
        elif self._is_there() and not (self._form == "npy" and self.are_there()):
            # A folder is filled file by file; if its parts still exist, a merge was interrupted.
            raise ConfigError(
                f"{self.address} already exists and was not written by this command: choose another --out, or move it"
            )
        return report

    # Parts

    def write(self, result: VideoResult, made_from: FileVersion | None) -> None:
        """Store a video's result. Args: made_from, the video's file, if there is one."""
        state: PartState = "broken" if result.array is None else "padded" if result.num_padded else "done"
        key = self._key(state, result.video.name, made_from)
        if result.array is None:
            self.store.write(key, result.message.encode())
            return
        buffer = io.BytesIO()
        np.save(buffer, result.array.astype(np.float32, copy=False), allow_pickle=False)
        self.store.write(key, buffer.getvalue())

    def all(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Part]:
        """The part of each video; those without one, or with one of another shape, are omitted."""
        found: dict[str, Part] = {}
        for entry in self.store.list(self._prefix):
            state, _, file = entry.key.removeprefix(self._prefix).partition("/")
            source, _, file = file.rpartition("/")
            made_from = FileVersion.parse(source)
            name = file.removesuffix(".npy").removesuffix(".txt")
            if state not in ENDINGS or name not in shapes or (source and made_from is None):
                continue
            part = Part(state, entry.key, made_from)
            if state == "broken":
                found.setdefault(name, part)
            elif entry.size_bytes == NPY_HEADER_BYTES + 4 * math.prod(shapes[name]):
                found[name] = part
        return found

    def discard(self, parts: Iterable[Part]) -> None:
        """Remove parts."""
        for part in parts:
            self.store.delete(part.key)

    def why_broken(self, part: Part) -> str:
        """Why a video could not be decoded."""
        return self.store.read(part.key).decode()

    def arrays(self, parts: Mapping[str, Part]) -> Iterator[tuple[str, np.ndarray]]:
        """Name and array of each video, in order, with read-ahead."""
        yield from zip(parts, map_ahead(self._read, parts.values(), threads=PARTS_AT_A_TIME), strict=True)

    def _read(self, part: Part) -> np.ndarray:
        try:
            return array_of(self.store.read(part.key))
        except (ValueError, EOFError) as error:
            raise DataError(f"{self.store.address(part.key)} is damaged: delete it and extract again") from error

    def _key(self, state: PartState, name: str, made_from: FileVersion | None) -> str:
        source = "" if made_from is None else f"{made_from}/"
        return f"{self._prefix}{state}/{source}{name}{ENDINGS[state]}"

    # The end

    def claim_merge(self, shard: int) -> bool:
        """Whether this shard merges: the first to ask does, also after a restart."""
        key = self._prefix + "merging.json"
        try:
            self.store.write(key, _json({"shard": shard}), only_if_absent=True)
        except KeyExistsError:
            return bool(json.loads(self.store.read(key))["shard"] == shard)
        return True

    def about(self) -> dict[str, Any]:
        """The identity noted at the start."""
        about: dict[str, Any] = json.loads(self.store.read(self._prefix + "about.json"))
        return about

    def finish(self, h5: Path, sha256: str, report: Mapping[str, Any]) -> None:
        """Publish the H5, then its report, then remove the parts."""
        self.store.upload(self.name, h5, sha256=sha256)
        self._close({"sha256": sha256, **report})

    def finish_files(
        self, stems: Mapping[str, str], parts: Mapping[str, Part], missing: bytes, report: Mapping[str, Any]
    ) -> None:
        """Publish one file per video, the list of videos without, then the report; then remove the parts.

        Args: stems, the name of each video's file without its ending; missing, the list's content.
        """

        def publish(video: str) -> None:
            self._copy(parts[video].key, f"{self.name}/{stems[video]}.npy")

        for _ in map_ahead(publish, stems, threads=PARTS_AT_A_TIME):
            pass
        self.store.write(f"{self.name}/{MISSING_FILES}", missing)
        self._close(report)

    def _copy(self, key: str, new_key: str) -> None:
        """The object under another key, too; on this machine as a second name of the file, which is on the disk."""
        path, new_path = self.store.local_path(key), self.store.local_path(new_key)
        if path is not None and new_path is not None:
            with contextlib.suppress(OSError), new_file(new_path) as temp:
                os.link(path, temp)
                return
        self.store.write(new_key, self.store.read(key))

    def _close(self, report: Mapping[str, Any]) -> None:
        self.store.write(self._report_key, _json({"about": self.about(), **report}))
        self.store.delete_all(self._prefix)


def _json(value: Mapping[str, Any]) -> bytes:
    return json_text(value).encode()


def _check_same(before: Mapping[str, Any], now: Mapping[str, Any], where: str) -> None:
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise ConfigError(
                f"{where} was started with {key} = {before.get(key)!r}, not {now.get(key)!r}: choose another "
                "--out, or delete the old files"
            )
