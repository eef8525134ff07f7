"""The inputs of an extraction: checkpoint and videos, local or remote."""

from __future__ import annotations

from pathlib import Path

from tsp.config.jobs import EncodingJob
from tsp.data.cache import MIB, VideoCache
from tsp.data.dataset_files import Videos, clean
from tsp.errors import ConfigError
from tsp.run.epochs import is_checkpoint
from tsp.run.stored_run import StoredRun
from tsp.store.fetch import fetch_object
from tsp.store.files import folder_and_name, open_folder
from tsp.store.local import LocalStore
from tsp.store.open import path_of_file_uri, with_uri
from tsp.store.scratch import cache_folder


def cache_of(job: EncodingJob) -> Path:
    """Folder for downloads: the job's, else the user's cache."""
    return Path(job.cache_dir) if job.cache_dir else cache_folder("extract")


def fetch_checkpoint(job: EncodingJob, cache: Path) -> Path:
    """The checkpoint as a local file; the address of a run means its best epoch.

    Raises: ConfigError (no such file, no epoch), StoreError.
    """
    return fetch_object(_checkpoint_address(job), cache, settings=job.store)


def _checkpoint_address(job: EncodingJob) -> str:
    address = job.checkpoint.rstrip("/")
    if is_checkpoint(address):
        return address
    if "://" not in address and not Path(address).expanduser().is_dir():
        return address
    folder, name = folder_and_name(address)
    return StoredRun(open_folder(folder, job.store), name).checkpoint_address()


def open_videos(job: EncodingJob, cache: Path) -> Videos:
    """The source of the videos: a folder, or S3 through the machine's bounded cache.

    Raises: ConfigError if there is no such folder.
    """
    address = job.videos.rstrip("/")
    if address.startswith("s3://"):
        return Videos(
            clean(VideoCache(cache / "videos", with_uri(job.store, address), limit_bytes=job.cache_mib * MIB))
        )
    folder = path_of_file_uri(address) if address.startswith("file://") else Path(address or "/").expanduser()
    if not folder.is_dir():
        raise ConfigError(f"the folder of the videos {folder} does not exist: check --data")
    return Videos(LocalStore(folder))
