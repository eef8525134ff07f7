"""The images that a run's pods had, with their digests, kept in its folder.

The image in a pod's manifest is often given by a tag. The tag's digest is only in the pod's status, which is deleted
with the pod, so commands that read the status (``status``, ``wait``, ``report``, ...) record it. An image that was
loaded onto its node without a registry has no digest there, only the node's ID: it distinguishes two images, but cannot
be used to pull.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from tsp.config.codec import json_text
from tsp.errors import StoreError
from tsp.run.stored_run import StoredRun

FILE = "images.json"


def digest_of(reference: str) -> str | None:
    """``sha256:...`` that the registry gave, of a reference to an image that has one."""
    digest = reference.partition("@")[2]
    return digest or None


def is_image_id(reference: str) -> bool:
    """Whether it is not a reference, but a node's ID of an image that came from no registry."""
    return reference.startswith("sha256:")


def described(images: Iterable[str]) -> str:
    """In the order in which they were seen; IDs are marked, so that they are not mistaken for a registry's digest."""
    return ", then ".join(f"image ID {image} (from no registry)" if is_image_id(image) else image for image in images)


def record_images(run: StoredRun, images: Sequence[str]) -> None:
    """Add images to those that are recorded, if any is new and the run is there.

    Raises: StoreError.
    """
    key = run.key(FILE)
    seen = [image for image in dict.fromkeys(images) if digest_of(image) or is_image_id(image)]

    def extended(before: bytes | None) -> bytes:
        known = _parsed(before, run.store.address(key))
        new = [image for image in seen if image not in known]
        return json_text([*known, *new]).encode() if new or before is None else before

    known = recorded_images(run)
    if any(image not in known for image in seen) and run.store.exists(run.key("run.json")):
        run.store.change(key, extended)


def recorded_images(run: StoredRun) -> list[str]:
    """In the order in which they were seen; none for a run of this machine, or if no command saw its pods.

    Raises: StoreError.
    """
    key = run.key(FILE)
    return _parsed(run.store.content(key), run.store.address(key))


def _parsed(content: bytes | None, where: str) -> list[str]:
    try:
        found = json.loads(b"[]" if content is None else content)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{where} is damaged: {error!r:.200}; delete it") from error
    if not isinstance(found, list):
        raise StoreError(f"{where} is damaged: it is not a list; delete it")
    return [str(image) for image in found]
