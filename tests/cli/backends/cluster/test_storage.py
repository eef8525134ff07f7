"""Stores and data sets that a run's pods could not use are refused beforehand."""

import logging
from dataclasses import replace

import pytest

from cli.backends.cluster.storage import check_data, check_folders
from cli.stores import Stores
from tsp.config.store import StoreConfig
from tsp.errors import DataError
from tsp.store.open import open_store


def pod_with(*mounts, **volumes):
    found = [{"name": name, **volume} for name, volume in volumes.items()]
    return {"containers": [{"volumeMounts": list(mounts)}], "volumes": found}


EMPTY = {"emptyDir": {}}


CLAIM = {"persistentVolumeClaim": {"claimName": "c"}}


@pytest.mark.parametrize(
    ("pod", "message"),
    [
        (pod_with(), "is not on a volume that outlives the pods: give an s3:// address, or mount a claim there"),
        (pod_with({"name": "v", "mountPath": "/stores"}, v=CLAIM), "is not on a volume that outlives the pods"),
        (
            pod_with({"name": "v", "mountPath": "/store"}, v={"emptyDir": {}}),
            "is not on a volume that outlives the pods",
        ),
        (
            pod_with(
                {"name": "v", "mountPath": "/"}, {"name": "w", "mountPath": "/store/"}, v=CLAIM, w={"emptyDir": {}}
            ),
            "is not on a volume that outlives the pods",
        ),
        (
            pod_with({"name": "v", "mountPath": "/store", "readOnly": True}, v=CLAIM),
            "/store/runs is mounted read-only: set data.readOnly to false",
        ),
        (pod_with({"name": "v", "mountPath": "/store/"}, v=CLAIM), None),
        (pod_with({"name": "v", "mountPath": "/store/runs"}, v={"nfs": {"server": "s"}}), None),
    ],
)
def test_a_store_in_a_folder_must_outlive_the_pods(config, pod, message):
    config = replace(config, store=StoreConfig(uri="/store/runs"), data=replace(config.data, root="s3://data"))
    found = list(check_folders(config, pod))
    assert [item.level for item in found] == ([] if message is None else ["error"])
    assert not found or message in found[0].message


def test_data_in_a_folder_may_lie_in_the_image_but_a_missing_volume_is_said(config):
    config = replace(config, store=StoreConfig(uri="s3://runs"))
    (warning,) = check_folders(config, pod_with())
    assert (warning.level, warning.message) == (
        "warning",
        "no volume of the pods is mounted at /data: set data.claim, unless the image contains the data",
    )
    assert list(check_folders(config, pod_with({"name": "v", "mountPath": "/data", "readOnly": True}, v=CLAIM))) == []


COLUMNS = b"filename,t-start,t-end,video-duration,action-label,temporal-region-label\n"


ROWS = COLUMNS + b"a.mp4,0,3,9,Run,Action\nb.mp4,0,3,9,,No action\n"


LABEL_MAP = b'["Run", "Action", "No action"]'


@pytest.fixture
def bucket(config, s3_server):
    """A data set in a bucket, complete; returns configuration and store."""
    store = s3_server.config("sets/thumos14")
    config = replace(config, store=store, data=replace(config.data, root=store.uri))
    data = open_store(store)
    data.write(config.data.train.gvf, b"x")
    for head in config.model.heads:
        data.write(head.labels, LABEL_MAP)
    for subset in (config.data.train, config.data.valid):
        data.write(subset.csv, ROWS)
        for name in ("a.mp4", "b.mp4"):
            data.write(f"{subset.videos}/{name}", b"x")
    return config, data


def test_a_complete_data_set_passes(bucket):
    check_data(bucket[0], Stores())


def test_every_table_that_is_missing_is_named(bucket):
    config, data = bucket
    for name in (config.data.train.gvf, config.data.valid.csv):
        data.delete(name)
    with pytest.raises(DataError, match=rf"lacks {config.data.train.gvf}, {config.data.valid.csv}: check --data"):
        check_data(config, Stores())


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (b"a.mp4,0,x,9,Run,Action\n", "row 4: t-end is 'x', not a number"),
        (b"a.mp4,0,4,9,Walk,Action\n", "row 4: action-label 'Walk' is not in the label map"),
        (b"a.mp4,0,4\n", "row 4 has 3 fields, but the header has 6"),
    ],
)
def test_a_table_that_no_run_can_read_is_refused_with_its_row(bucket, rows, words):
    config, data = bucket
    data.write(config.data.valid.csv, ROWS + rows)
    with pytest.raises(DataError, match=f"{config.data.root}/{config.data.valid.csv} {words}"):
        check_data(config, Stores())


def test_a_folder_without_videos_is_named(bucket):
    config, data = bucket
    data.delete_all(f"{config.data.valid.videos}/")
    with pytest.raises(DataError, match=f"{config.data.root}/{config.data.valid.videos} contains no video"):
        check_data(config, Stores())


def test_more_missing_videos_than_a_run_puts_up_with_are_refused_and_fewer_are_said(bucket, caplog):
    config, data = bucket
    data.delete(f"{config.data.train.videos}/b.mp4")
    words = "lacks 1 of the 2 videos that .* names, for instance b.mp4: upload them, or leave them out"
    with pytest.raises(DataError, match=words):
        check_data(config, Stores())
    lenient = replace(config, data=replace(config.data, max_bad_share=0.5))
    with caplog.at_level(logging.WARNING):
        check_data(lenient, Stores())
    assert "with --bad-clips resample their clips are skipped" in caplog.text
    with pytest.raises(DataError, match=words):
        check_data(replace(lenient, data=replace(lenient.data, bad_clips="fail")), Stores())


def test_videos_at_the_root_are_found(bucket):
    config, data = bucket
    for name in ("a.mp4", "b.mp4"):
        data.write(name, b"x")
    here = replace(config.data.train, videos=".")
    check_data(
        replace(config, data=replace(config.data, train=here, valid=replace(here, csv=config.data.valid.csv))), Stores()
    )


def test_a_table_without_file_names_is_refused(bucket):
    config, data = bucket
    data.write(config.data.train.csv, b"video,t-start\na,0\n")
    with pytest.raises(DataError, match=f"{config.data.train.csv} lacks the column 'filename'"):
        check_data(config, Stores())
