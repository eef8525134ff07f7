"""Digests of what a run reads, as found from this machine, and whether two are of one file."""

import dataclasses
import hashlib
from types import SimpleNamespace

import pytest

from tests.stores import s3_store
from tsp.config.backbones import published_weights
from tsp.run.origins import MAX_READ_BYTES, Digest, agrees, data_digest, digests_here, tables_of


def with_model(config, **changes):
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **changes))


def at(config, root):
    return dataclasses.replace(config, data=dataclasses.replace(config.data, root=root))


def weights(config, *, sees_paths=True):
    return next(found for found in digests_here(config, sees_paths=sees_paths) if found.name == "pretrained")


def test_weights_are_known_by_their_content_or_by_the_digest_in_their_name(config, tmp_path):
    (tmp_path / "mine.pth").write_bytes(b"weights")
    mine = with_model(config, pretrained=str(tmp_path / "mine.pth"))
    assert weights(mine).sha256 == hashlib.sha256(b"weights").hexdigest()
    assert weights(mine, sees_paths=False) == Digest("pretrained", None, "it is in the pods' file system")
    assert weights(config).sha256 == published_weights(config.model.backbone).sha256_prefix
    released = with_model(config, pretrained="https://mirror/r2plus1d_34-tac_on_kinetics-0547130e.pth")
    assert weights(released).sha256 == "0547130e"
    assert weights(with_model(config, pretrained="https://host/a.pth")).why == "it is on the web"
    names = [found.name for found in digests_here(with_model(config, pretrained="none"), sees_paths=True)]
    assert names == tables_of(config)


def test_a_data_set_in_a_bucket_is_read_and_large_objects_are_not(config, s3_servers, monkeypatch):
    server = s3_servers("moto")
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    store = s3_store(server)
    there = dataclasses.replace(at(config, store.uri), store=server.config("runs"))
    first, *others = tables_of(config)
    for name in others:
        store.write(name, name.encode())
    found = {item.name: item for item in digests_here(there, sees_paths=False)}
    assert {name: found[name].sha256 for name in others} == {
        name: hashlib.sha256(name.encode()).hexdigest() for name in others
    }
    assert (found[first].sha256, first in found[first].why) == (None, True)
    monkeypatch.setattr("tsp.run.origins.MAX_READ_BYTES", 3)
    assert {item.why for item in digests_here(there, sees_paths=False) if item.name in others} == {"it is large"}
    assert MAX_READ_BYTES > 32 << 20  # a published GVF file


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("abcd", "abcd", True), ("abcd", "ab", True), ("ab", "abcd", True), ("abcd", "abce", False), ("", "ab", False)],
)
def test_a_prefix_of_a_digest_is_compared_as_far_as_it_goes(one, other, expected):
    assert agrees(one, other) is expected


def test_the_digest_of_the_data_depends_on_names_and_contents_and_not_on_weights_or_order():
    files = {"a.csv": "1" * 64, "b.json": "2" * 64}
    assert data_digest(files) == data_digest({**dict(reversed(files.items())), "pretrained": "3" * 64})
    assert data_digest(files) != data_digest({**files, "b.json": "4" * 64})
    assert data_digest({"pretrained": "3" * 64}) is None


@pytest.mark.parametrize(("gvf", "read"), [("none", False), ("max", True), ("avg", True)])
def test_gvf_files_are_the_runs_only_where_it_uses_them(config, gvf, read):
    data = dataclasses.replace(config.data, train=dataclasses.replace(config.data.train, gvf="train.h5"))
    model = SimpleNamespace(heads=config.model.heads, gvf=gvf)
    names = tables_of(SimpleNamespace(data=data, model=model))
    assert ("train.h5" in names) is read
