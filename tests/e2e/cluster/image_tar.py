"""What a node lacks of a docker archive, as an OCI archive: image_tar.py IMAGE DIGESTS < DOCKER-ARCHIVE > OCI-ARCHIVE

DIGESTS is a file with the digests of the node's content, one a line: layers among them are left out, which spares
copying gigabytes for a change of a few kilobytes. ``ctr images import`` takes the rest.
"""

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

OCI = "application/vnd.oci.image"


def main() -> None:
    name, on_node = sys.argv[1], set(Path(sys.argv[2]).read_text().split())
    sizes: dict[str, int] = {}
    small: dict[str, bytes] = {}
    with (
        tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as source,
        tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as target,
    ):
        for member in source:
            content = source.extractfile(member) if member.isfile() else None
            if content is None:
                continue  # links of an older form of the archive
            if member.name.endswith(".json"):
                small[member.name] = content.read()
                continue
            sizes[member.name] = member.size
            digest = digest_of(member.name)
            if digest not in on_node:
                member.name = blob(digest)
                target.addfile(member, content)
        (image,) = json.loads(small["manifest.json"])
        layers = [descriptor("layer.v1.tar", digest_of(layer), sizes[layer]) for layer in image["Layers"]]
        config = put_blob(target, "config.v1+json", small[image["Config"]])
        manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": config, "layers": layers}
        entry = put_blob(target, "manifest.v1+json", json.dumps(manifest).encode())
        entry["annotations"] = {"io.containerd.image.name": name}
        put(target, "index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
        put(target, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')


def digest_of(layer: str) -> str:
    """Layers of the archive are named by their digests."""
    return f"sha256:{layer.removesuffix('.tar')}"


def blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def descriptor(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": f"{OCI}.{kind}", "digest": digest, "size": size}


def put_blob(target: tarfile.TarFile, kind: str, content: bytes) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    put(target, blob(digest), content)
    return descriptor(kind, digest, len(content))


def put(target: tarfile.TarFile, name: str, content: bytes) -> None:
    head = tarfile.TarInfo(name)
    head.size = len(content)
    target.addfile(head, io.BytesIO(content))


main()
