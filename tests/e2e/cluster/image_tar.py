"""An image as a tar for ``ctr images import``, without what the node has: image_tar.py LAYOUT IMAGE < DIGESTS.

LAYOUT is an OCI layout that holds IMAGE alone; DIGESTS are those of the node's content, one a line. The tar goes to
stdout. Blobs that are no longer of the image are removed from LAYOUT.
"""

import io
import json
import sys
import tarfile
from pathlib import Path


def main() -> None:
    layout, name = Path(sys.argv[1]), sys.argv[2]
    on_node = set(sys.stdin.read().split())
    (found,) = json.loads((layout / "index.json").read_text())["manifests"]
    manifest = json.loads(blob(layout, found["digest"]).read_text())
    wanted = [found["digest"], manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]
    found["annotations"] = {"io.containerd.image.name": name}
    index = json.dumps({"schemaVersion": 2, "manifests": [found]}).encode()
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as tar:
        for text, content in (("oci-layout", (layout / "oci-layout").read_bytes()), ("index.json", index)):
            head = tarfile.TarInfo(text)
            head.size = len(content)
            tar.addfile(head, io.BytesIO(content))
        for digest in dict.fromkeys(wanted):
            if digest not in on_node:
                tar.add(blob(layout, digest), f"blobs/sha256/{digest.removeprefix('sha256:')}")
    kept = {blob(layout, digest) for digest in wanted}
    for path in (layout / "blobs" / "sha256").iterdir():
        if path not in kept:
            path.unlink()


def blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


main()
