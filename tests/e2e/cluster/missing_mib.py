"""MiB of an image's layers that a node lacks: missing_mib.py LAYERS ON-NODE < DIGESTS

LAYERS is containers/storage's own record of layers, which names the size of each; ON-NODE a file with the digests of
the node's content, one a line.
"""

import json
import sys
from pathlib import Path

sizes = {
    item["diff-digest"]: item["diff-size"]
    for item in json.loads(Path(sys.argv[1]).read_text())
    if "diff-digest" in item
}
on_node = set(Path(sys.argv[2]).read_text().split())
print(sum(sizes.get(digest, 0) for digest in sys.stdin.read().split() if digest not in on_node) >> 20)
