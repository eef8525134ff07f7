"""Checks the store and data set of a run on a cluster from this machine, before anything is created."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cli.stores import Stores
from k8s.names import main_container_of
from tsp.config.run import RunConfig, SubsetConfig
from tsp.config.store import StoreConfig
from tsp.data.ground_truth import read_ground_truth
from tsp.data.label_map import load_label_map
from tsp.errors import ConfigError, DataError
from tsp.run.status import Finding
from tsp.store.base import Store
from tsp.store.s3.aws_settings import own_ca_bundle, source_of_credentials

logger = logging.getLogger(__name__)

_LOST_WITH_THE_POD = ("emptyDir", "configMap", "secret", "projected", "downwardAPI")
"""Kinds of volumes that hold nothing for longer than the pod lives."""
_CREDENTIAL_VARIABLES = {
    "AWS_ACCESS_KEY_ID",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
}


def check_store(config: RunConfig, stores: Stores) -> None:
    """Refuse a store that cannot be written; a folder is the pods' own and cannot be seen from here."""
    if config.store.uri.startswith("s3://"):
        stores.open(config.store).check_writable()


def check_access(store: StoreConfig, objects: Sequence[Mapping[str, Any]], pod: Mapping[str, Any]) -> Iterator[Finding]:
    """Do pods get what this machine reaches the S3 server with: credentials, and the authority of its certificate?

    Args: objects, of the release; pod, the spec of its template.
    """
    if not store.uri.startswith("s3://"):
        return
    container = main_container_of(pod)
    variables = {str(item["name"]) for item in container.get("env") or []}
    account = next((item for item in objects if item["kind"] == "ServiceAccount"), None)
    # An account that was made elsewhere may be bound to a role there, and so may an annotated one.
    has_role = account is None or account["metadata"].get("annotations")
    has_secret = any("secret" in volume for volume in pod.get("volumes") or [])
    if not (has_role or has_secret or container.get("envFrom") or variables & _CREDENTIAL_VARIABLES):
        source = source_of_credentials()
        here = f"credentials of this machine ({source}) are not sent to the cluster, and " if source else ""
        yield Finding(
            "credentials",
            "warning",
            f"{here}the pods have no credentials for {store.uri}: set store.existingSecret (chart value), unless a "
            "role of the nodes gives access",
        )
    bundle = own_ca_bundle(store)
    if bundle is not None and "AWS_CA_BUNDLE" not in variables:
        yield Finding(
            "certificates",
            "warning",
            f"this machine trusts {bundle}, which pods do not have: put it into a ConfigMap and set "
            "store.caConfigMap (chart value), unless the image trusts its certificate authority",
        )


def check_data(config: RunConfig, stores: Stores) -> None:
    """Refuse a data set in ``s3://`` whose tables no run can read, or that lacks more videos than a run tolerates.

    The content of a claim cannot be read from here.

    Raises: DataError naming what is missing or the row.
    """
    if not config.data.root.startswith("s3://"):
        return
    data = stores.open(replace(config.store, uri=config.data.root))
    files = {head.labels for head in config.model.heads}
    for subset in (config.data.train, config.data.valid):
        files |= {subset.csv} | ({subset.gvf} if subset.gvf and config.model.gvf != "none" else set())
    missing = sorted(name for name in files if not data.exists(name))
    if missing:
        raise DataError(f"{config.data.root} lacks {', '.join(missing)}: check --data (see 'tspctl data check')")
    root = config.data.root
    label_maps = {
        head.label_column: load_label_map(f"{root}/{head.labels}", data.read(head.labels))
        for head in config.model.heads
    }
    for subset in (config.data.train, config.data.valid):
        truth = read_ground_truth(f"{root}/{subset.csv}", label_maps, data.read(subset.csv))
        _check_videos(config, subset, data, [row.filename for row in truth.kept(config.clips)])


def _check_videos(config: RunConfig, subset: SubsetConfig, data: Store, wanted: Sequence[str]) -> None:
    """wanted, the video of each segment."""
    folder = subset.videos.strip("/").removeprefix(".").strip("/")
    prefix = f"{folder}/" if folder else ""
    there = {entry.key.removeprefix(prefix) for entry in data.list(prefix)}
    where = f"{config.data.root}/{folder}".rstrip("/")
    if not there:
        raise DataError(f"{where} contains no videos: check --data")
    if config.data.training_copy:
        # Copies have names of their own, which the pods know.
        return
    missing = sorted(set(wanted) - there)
    if not missing:
        return
    share = sum(name in set(missing) for name in wanted) / len(wanted)
    message = (
        f"{where} lacks {len(missing)} of the {len(set(wanted))} videos that {subset.csv} names, for instance "
        f"{missing[0]}: upload them, or leave them out of the table"
    )
    if config.data.bad_clips == "fail" or share > config.data.max_bad_share:
        raise DataError(message)
    logger.warning("%s; with --bad-clips %s their clips are skipped", message, config.data.bad_clips)


def check_folders(config: RunConfig, pod: Mapping[str, Any]) -> Iterator[Finding]:
    """Does the folder of a store or data set exist in the pods, and does it outlive them?

    Args: pod, the spec of its template.
    """
    if "://" not in config.store.uri:
        yield from writable_folder("store", config.store.uri, pod)
    root = config.data.root
    if "://" not in root and volume_at(root, pod) is None:
        message = f"no volume of the pods is mounted at {root}: set data.claim, unless the image contains the data"
        yield Finding("data", "warning", message)


def refuse_file_of_this_machine(option: str, path: str, pod: Mapping[str, Any]) -> None:
    """Refuse an input of a job that is here and on no volume of its pods.

    Raises: ConfigError.
    """
    found = volume_at(path, pod)
    on_volume = found is not None and not any(kind in found[0] for kind in _LOST_WITH_THE_POD)
    if "://" in path or on_volume or not Path(path).exists():
        return
    raise ConfigError(
        f"{option} {path} is a file or folder of this machine, which pods cannot see: copy it to the store or a "
        "volume claim, and give its s3:// address or its path in a volume of the pods (data.claim)"
    )


def writable_folder(what: str, path: str, pod: Mapping[str, Any]) -> Iterator[Finding]:
    """Can pods write into a folder that outlives them?"""
    found = volume_at(path, pod)
    if found is None or any(kind in found[0] for kind in _LOST_WITH_THE_POD):
        advice = "give an s3:// address, or mount a claim there (data.claim, or extraVolumes and extraVolumeMounts)"
        yield Finding(what, "error", f"{path} is not on a volume that outlives the pods: {advice}")
    elif found[1].get("readOnly"):
        yield Finding(what, "error", f"{path} is mounted read-only: set data.readOnly to false")


def volume_at(path: str, pod: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """The volume of a path in a pod, and its mount; None if the path is in the image."""
    mounts: Sequence[Mapping[str, Any]] = main_container_of(pod).get("volumeMounts") or []
    holding = [item for item in mounts if f"{path}/".startswith(item["mountPath"].rstrip("/") + "/")]
    if not holding:
        return None
    mount = max(holding, key=lambda item: len(item["mountPath"]))
    volumes: Sequence[Mapping[str, Any]] = pod.get("volumes") or []
    return next((item for item in volumes if item["name"] == mount["name"]), {}), mount
