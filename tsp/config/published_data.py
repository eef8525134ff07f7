"""Files that the authors of TSP publish for a data set, by the git blob id of their content.

Tables, label maps and global video features (GVF) of the repository HumamAlwassel/TSP (MIT licence), pinned to one
commit so that they cannot change. The ids are git's own: SHA-1 over ``blob <size>\\0`` and the content.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from tsp.errors import ConfigError

REPOSITORY = "https://github.com/HumamAlwassel/TSP"
COMMIT = "9809875ece714d572e77f09b579a7bbb9d31c73b"
RAW_URL = f"https://raw.githubusercontent.com/HumamAlwassel/TSP/{COMMIT}"


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file of the repository."""

    path: str
    """In the repository."""
    blob_id: str

    @property
    def name(self) -> str:
        """Its name in a data set's folder, which is flat."""
        return PurePosixPath(self.path).name


def _files(folder: str, blob_ids: dict[str, str]) -> tuple[PublishedFile, ...]:
    return tuple(PublishedFile(f"{folder}/{name}", blob_id) for name, blob_id in blob_ids.items())


PUBLISHED_DATA: dict[str, tuple[PublishedFile, ...]] = {
    "thumos14": _files(
        "data/thumos14",
        {
            "global_video_features/r2plus1d_34-max_gvf.h5": "8d6a826b79018babfaf672c350ce455c8b0f2640",
            "thumos14_action_label_mapping.json": "5633b6aaa3c8f5d211d8d62a1d72ed25317968c3",
            "thumos14_temporal_region_label_mapping.json": "9f9525e7e02923b5ba5dbeb7e7dc7c99f1162933",
            "thumos14_test_metadata.csv": "6fbfce39dfff368aa0a527135b0dc9f87ac66c30",
            "thumos14_test_tsp_groundtruth.csv": "9a7ecced3de5f9a7a84fb722a61b04f6e815d192",
            "thumos14_valid_metadata.csv": "7aa0eee0f21363c2f066de4befc69b9346e2861c",
            "thumos14_valid_tsp_groundtruth.csv": "af2268ee5b9be39dd2681012a69736e0d5def7f4",
        },
    ),
    "activitynet": _files(
        "data/activitynet",
        {
            "activitynet_v1-3_action_label_mapping.json": "fa30a0d703878a215d7167284c18013c46bc56db",
            "activitynet_v1-3_temporal_region_label_mapping.json": "9f9525e7e02923b5ba5dbeb7e7dc7c99f1162933",
            "activitynet_v1-3_test_metadata.csv": "eebba4bd1f6e715cbab9c775ec6dc6e8604bd3c0",
            "activitynet_v1-3_train_metadata.csv": "78fc4e1119d7acf81fac3dd05659df2cb8a388bf",
            "activitynet_v1-3_train_tsp_groundtruth.csv": "44dfe8bf882570418c302932045bf152ace2b8a5",
            "activitynet_v1-3_valid_metadata.csv": "44e8eab51932560dea6ac0fb28347b2ff27d77d1",
            "activitynet_v1-3_valid_tsp_groundtruth.csv": "45650cf38b2b11606db77a1a8455da03d6fff12c",
            "global_video_features/r2plus1d_18-max_gvf.h5": "6270b65ae3d607af8140bd7baac65398860a12e9",
            "global_video_features/r2plus1d_34-avg_gvf.h5": "6d626ec3367a6c0ce083b014bf7a43df46c1b441",
            "global_video_features/r2plus1d_34-max_gvf.h5": "07260b273634a6002fa0e549024c4bf6efd9acee",
            "global_video_features/r3d_18-max_gvf.h5": "4b9b1e8934590b0965406c43217f9aa8a30aaf4c",
        },
    ),
}
"""Data set -> its files."""


def published_files(dataset: str) -> tuple[PublishedFile, ...]:
    """The files of a data set.

    Raises: ConfigError for one without published files.
    """
    if dataset not in PUBLISHED_DATA:
        raise ConfigError(f"nothing is published for the data set {dataset!r}: choose {' or '.join(PUBLISHED_DATA)}")
    return PUBLISHED_DATA[dataset]
