"""H5 files keyed by video name: features and global video features (GVF); the only importer of h5py.

``FeatureFile`` is the boundary: errors of h5py for a damaged file, a dangling link or values that are not numbers
become a DataError that names file and entry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from tsp.data.deflated_chunks import Chunk, DeflatedChunks
from tsp.data.foreign_files import HEAD_BYTES, what_begins
from tsp.data.tables import composed
from tsp.errors import DataError
from tsp.store.sink import Sink
from tsp.wording import counted_is

GVF_DIMS = 512
"""Size of the encoder's feature, and so of its pooling over a video."""
GZIP_LEVEL = 1
"""Half the time of the default level for 4 % more bytes: floats hardly compress."""

_SMALL_BYTES = 16 << 10
"""Up to this size HDF5's own way of reading costs less than to look for the chunks."""


class GvfFile:
    """An H5 file that maps a video's name to its global feature."""

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)

    def load(self, videos: Sequence[str]) -> np.ndarray:
        """Features of the videos, float32 [V, 512], in their order; the file is closed afterwards.

        Raises: DataError naming the first video that is missing and how many are, or one whose feature cannot be read,
            has another shape or is not finite.
        """
        with FeatureFile(self.path, where=f"the GVF file {self.path}") as file:
            name_of = {composed(name): name for name in file.names}
            missing = [video for video in videos if composed(video) not in name_of]
            if missing:
                # With all of them missing, the names are of another form.
                entries = _entries(file.names) if len(missing) == len(videos) else ""
                raise DataError(
                    f"the GVF file {self.path} has no feature for the video {missing[0]!r} ({len(missing)} of "
                    f"{counted_is(len(videos), 'video')} missing{entries}): build it with 'tspctl gvf', or "
                    f"train with --gvf none"
                )
            features = np.empty((len(videos), GVF_DIMS), np.float32)
            there = frozenset(file.names)
            for index, video in enumerate(videos):
                features[index] = self._vector(file, video if video in there else name_of[composed(video)])
        return features

    def _vector(self, file: FeatureFile, video: str) -> np.ndarray:
        vector = file.read(video)
        if vector.size != GVF_DIMS:
            raise DataError(
                f"{self.path}: the feature of {video!r} has shape {vector.shape}, expected ({GVF_DIMS},): one vector "
                "per video, pooled over time ('tspctl gvf' writes such files)"
            )
        if not np.isfinite(vector).all():
            raise DataError(f"{self.path}: the feature of {video!r} contains NaN or infinite values")
        return vector.reshape(GVF_DIMS)


def _entries(names: Sequence[str]) -> str:
    return f"; its entries begin with {names[0]!r}" if names else "; it has no entry"


class FeatureFile:
    """An H5 file that maps a video's name to its features [T, dimension]; a context manager."""

    def __init__(self, path: str | Path, *, where: str) -> None:
        """Open it.

        Args: where, how messages call it.
        Raises: DataError if it cannot be read as H5.
        """
        self._where = where
        _refuse_what_is_no_h5(Path(path), where)
        with _explained(f"{where} cannot be read as H5"):
            self._file = h5py.File(path, "r")

    def __enter__(self) -> FeatureFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def names(self) -> list[str]:
        """Of the videos, sorted.

        Raises: DataError.
        """
        with _explained(f"{self._where} does not list its videos"):
            return sorted(self._file)

    def shape(self, name: str) -> tuple[int, ...]:
        """Without reading the values.

        Raises: DataError if the entry is a group, a dangling link or empty.
        """
        return tuple(self._entry(name).shape)

    def read(self, name: str) -> np.ndarray:
        """The values, float32. Threads that read at the same time inflate at the same time.

        Raises: DataError.
        """
        entry = self._entry(name)
        with _explained(f"{self._where}: the features of {name!r} cannot be read"):
            chunks = None if entry.nbytes <= _SMALL_BYTES else _deflated_chunks(entry)
            return np.asarray(entry, np.float32) if chunks is None else chunks.values()

    def blocks(self, name: str) -> Iterator[np.ndarray]:
        """The values in pieces of whole rows, float32, each to be used before the next; threads as in ``read``.

        Raises: DataError.
        """
        entry = self._entry(name)
        with _explained(f"{self._where}: the features of {name!r} cannot be read"):
            chunks = _deflated_chunks(entry)
            if chunks is None:
                yield np.asarray(entry, np.float32)
            else:
                yield from chunks.bands()

    def raw_offset(self, name: str) -> int | None:
        """The offset of the values if the file holds them as in memory, float32 and rows first; else None.

        Raises: DataError.
        """
        entry = self._entry(name)
        with _explained(f"{self._where}: the features of {name!r} cannot be read"):
            if entry.dtype != np.dtype("<f4") or entry.chunks is not None or entry.external or entry.is_virtual:
                return None
            offset: int | None = entry.id.get_offset() if entry.file == self._file else None
            return offset

    def _entry(self, name: str) -> h5py.Dataset:
        # The link is looked at only where it leads nowhere: that takes longer than to read a vector.
        with _explained(lambda: f"{self._where}: {name!r} is {self._link(name)}whose target is missing; restore it"):
            entry = self._file[name]
        if not isinstance(entry, h5py.Dataset):
            what = "a group" if isinstance(entry, h5py.Group) else "a type"
            raise DataError(
                f"{self._where}: {name!r} is {what}, not the features of a video: each video needs an array of its "
                "own at the top level of the file"
            )
        with _explained(f"{self._where}: the features of {name!r} cannot be read"):
            if entry.shape is None:
                raise DataError(f"{self._where}: {name!r} is empty, without any values")
        return entry

    def _link(self, name: str) -> str:
        with _explained(f"{self._where}: the entry {name!r} is damaged"):
            link = self._file.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            return f"a link to {link.path} in {link.filename} "
        return f"a link to {link.path} " if isinstance(link, h5py.SoftLink) else "an entry "


def _refuse_what_is_no_h5(path: Path, where: str) -> None:
    """Raises: DataError where the library's own words would not help."""
    if not path.is_file():
        raise DataError(f"{where} {'is not a file' if path.exists() else 'does not exist'}")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{where} cannot be read: {error.strerror}") from error
    if not head:
        raise DataError(f"{where} is empty")
    if not h5py.is_hdf5(path) and (foreign := what_begins(head)):
        raise DataError(f"{where} cannot be read as H5: {foreign}")


def _deflated_chunks(entry: h5py.Dataset) -> DeflatedChunks | None:
    """The chunks of its values; None unless they are float32 in chunks that are all written, deflated, perhaps
    shuffled.

    Raises: ValueError if the index of the chunks is damaged.
    """
    settings = entry.id.get_create_plist()
    filters = [settings.get_filter(number)[0] for number in range(settings.get_nfilters())]
    if (
        entry.chunks is None
        or entry.dtype != np.dtype("<f4")
        or filters not in ([h5py.h5z.FILTER_DEFLATE], [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE])
        or entry.id.get_num_chunks() != math.prod(map(math.ceil, np.divide(entry.shape, entry.chunks)))
        # HDF5 before 2.0 counts a chunk's offset from the end of a user block.
        or entry.file.userblock_size
    ):
        return None
    found: list[h5py.h5d.StoreInfo] = []
    entry.id.chunk_iter(found.append)
    # A set bit means that the filter of this number was left out for this chunk.
    is_shuffled, is_deflated = len(filters) - 2, len(filters) - 1
    chunks = [
        Chunk(
            offset=chunk.chunk_offset,
            begin_bytes=chunk.byte_offset,
            size_bytes=chunk.size,
            is_shuffled=is_shuffled >= 0 and not chunk.filter_mask >> is_shuffled & 1,
            is_deflated=not chunk.filter_mask >> is_deflated & 1,
        )
        for chunk in found
    ]
    return DeflatedChunks(entry.file.filename, entry.shape, entry.chunks, chunks)


@contextmanager
def _explained(what: str | Callable[[], str]) -> Iterator[None]:
    """Turn what h5py raises, which is nearly every kind of exception, into a DataError."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{what if isinstance(what, str) else what()}: {error}") from error


class PlainH5:
    """A new H5 file of float32 arrays that lie in it one after the other, each filled by its offset. A context manager.

    HDF5 writes only the structure; several threads may write values, which HDF5 does not support.
    """

    def __init__(self, path: str | Path) -> None:
        self._sink = Sink(path)
        self._file = h5py.File(self._sink, "w")

    def __enter__(self) -> PlainH5:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        finally:
            self._sink.__exit__(kind, error, traceback)

    @property
    def descriptor(self) -> int:
        """Of the file, to write values."""
        return self._sink.fileno()

    def reserve(self, name: str, shape: tuple[int, ...]) -> int:
        """Room for an array; returns its offset in the file. Values that are not written are undefined."""
        how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        entry = self._file.create_dataset(name, shape, "<f4", dcpl=how, track_times=False)
        self._sink.check()
        offset: int | None = entry.id.get_offset()
        assert offset is not None, "early allocation gives an offset"
        return offset


def write_arrays(path: str | Path, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    """One float32 data set per video name, with gzip, as TSP publishes them. The arrays are consumed one by one.

    The file is not written atomically: use a temporary name.
    Raises: StoreError if the disk refuses a write.
    """
    with Sink(path) as sink, h5py.File(sink, "w") as file:
        for video, array in arrays:
            values = array.astype(np.float32, copy=False)
            file.create_dataset(video, data=values, track_times=False, compression="gzip", compression_opts=GZIP_LEVEL)
            sink.check()
