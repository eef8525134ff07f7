"""The images that a run's pods had, kept in its folder."""

import pytest

from tsp.errors import StoreError
from tsp.run.pod_images import FILE, described, digest_of, is_image_id, record_images, recorded_images
from tsp.run.stored_run import StoredRun

A, B, ID = "registry/tsp@sha256:aa", "registry/tsp@sha256:bb", "sha256:cc"


def test_a_digest_of_a_registry_is_told_from_a_tag_and_from_an_id_of_the_node():
    assert [digest_of(image) for image in (A, "registry:5000/tsp:v1", ID)] == ["sha256:aa", None, None]
    assert [is_image_id(image) for image in (A, "registry:5000/tsp:v1", ID)] == [False, False, True]
    assert described([A, ID]) == f"{A}, then image ID {ID} (from no registry)"
    assert described([]) == ""


def test_images_are_added_in_the_order_in_which_they_were_seen_and_once_each(local_run: StoredRun):
    local_run.store.write(local_run.key("run.json"), b"{}")
    assert recorded_images(local_run) == []
    record_images(local_run, [B, B, "registry/tsp:tag", ID])
    assert recorded_images(local_run) == [B, ID]
    record_images(local_run, [A, B])
    assert recorded_images(local_run) == [B, ID, A]


def test_nothing_is_written_where_there_is_nothing_new(local_run: StoredRun, monkeypatch):
    local_run.store.write(local_run.key("run.json"), b"{}")
    record_images(local_run, [A])
    monkeypatch.setattr(local_run.store, "write", lambda *_: pytest.fail("it was written again"))
    for images in ([], [A], ["registry/tsp:tag"]):
        record_images(local_run, images)


def test_a_run_that_is_not_there_gets_no_folder_by_being_looked_at(local_run: StoredRun):
    record_images(local_run, [A])
    assert list(local_run.store.list()) == []


@pytest.mark.parametrize(
    ("data", "message"), [(b"{", "is damaged: .*delete it"), (b"{}", "it is not a list; delete it")]
)
def test_a_damaged_record_is_named(local_run: StoredRun, data, message):
    local_run.store.write(local_run.key(FILE), data)
    with pytest.raises(StoreError, match=message):
        recorded_images(local_run)
