"""An object that several read, change and write back keeps the change of each, on every kind of store."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.jobs import do_job
from tsp.prepare import annotate
from tsp.run import pod_images
from tsp.run.stored_run import StoredRun
from tsp.store.base import Store
from tsp.store.s3.store import S3Store


def add(name: str) -> Callable[[bytes | None], bytes]:
    """A change: one name more in a JSON list."""
    return lambda before: json.dumps(sorted({*json.loads(before or b"[]"), name})).encode()


def test_what_another_wrote_meanwhile_is_kept(store: Store) -> None:
    others = iter(["first", "second"])

    def changed(before: bytes | None) -> bytes:
        if (other := next(others, None)) is not None:
            store.change("names.json", add(other))
        return add("mine")(before)

    store.change("names.json", changed)
    assert json.loads(store.read("names.json")) == ["first", "mine", "second"]
    assert [entry.key for entry in store.list()] == ["names.json"]


def test_many_at_once_lose_nothing(store: Store) -> None:
    names = [f"name-{number}" for number in range(6)]
    threads = [threading.Thread(target=store.change, args=("names.json", add(name))) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert json.loads(store.read("names.json")) == names


@pytest.mark.parametrize("there", [None, b"other"])
def test_only_what_was_expected_is_replaced(store: Store, there: bytes | None) -> None:
    for expected in (None, b"other", b"mine"):
        store.delete("key")
        if there is not None:
            store.write("key", there)
        assert store.replace("key", b"new", expected=expected) is (expected == there)
        assert (store.read("key") if store.exists("key") else None) == (b"new" if expected == there else there)


def annotate_job(folder: Path, store: Store, subset: str) -> dict[str, Any]:
    fields = {} if not isinstance(store, S3Store) else {"store": asdict(store.config)}
    return {
        "annotations": str(folder / "a.json"),
        "metadata": str(folder / "m.csv"),
        "subset": subset,
        "out": str(folder / f"{subset}.csv"),
        "json": f"{store.uri}/for_training.json",
        **fields,
    }


def test_subsets_that_two_machines_annotate_at_once_are_both_in_the_json(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = {
        name: {"subset": subset, "duration": 9.0, "annotations": [{"segment": [1.0, 3.0], "label": "Jump"}]}
        for name, subset in (("a", "training"), ("b", "validation"))
    }
    (tmp_path / "a.json").write_text(json.dumps({"database": database}))
    (tmp_path / "m.csv").write_text(
        "filename,video-duration,fps,video-frames\na.mp4,9.0,30.0,270\nb.mp4,9.0,30.0,270\n"
    )
    real, others = annotate.merged, ["validation"]

    def merged(*args: Any, **options: Any) -> str:
        if others:
            do_job("annotate", annotate_job(tmp_path, store, others.pop()))
        return real(*args, **options)

    monkeypatch.setattr(annotate, "merged", merged)
    do_job("annotate", annotate_job(tmp_path, store, "training"))
    assert json.loads(store.read("for_training.json"))["database"].keys() == {"a", "b"}


def test_images_that_two_commands_record_at_once_are_both_recorded(
    run: StoredRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [f"reg/tspctl:1@sha256:{digit * 64}" for digit in "ab"]
    run.store.write(run.key("run.json"), b"{}")
    real, others = pod_images.json_text, [images[1]]

    def json_text(value: object) -> str:
        if others:
            pod_images.record_images(run, [others.pop()])
        return real(value)

    monkeypatch.setattr(pod_images, "json_text", json_text)
    pod_images.record_images(run, [images[0]])
    assert sorted(pod_images.recorded_images(run)) == images
