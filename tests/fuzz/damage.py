"""Damage as disks, networks and other programs do it: cut, flipped, zeroed, doubled, and sizes that lie."""

from __future__ import annotations

import random
import re

_TAGS = re.compile(rb"[a-zA-Z][a-zA-Z0-9 ]{3}")
_LIES = (0, 1, 7, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF)


def damaged(content: bytes, seed: str) -> bytes:
    """The content, damaged in a way that the seed decides."""
    rng = random.Random(seed)
    kinds = (_cut, _flipped, _lied, _lied, _zeroed, _doubled, _removed)
    for _ in range(rng.choice((1, 1, 2))):
        content = rng.choice(kinds)(content, rng) if content else content
    return content


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 2, 8, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _lied(content: bytes, rng: random.Random) -> bytes:
    """Overwrite a number, most often the one before or after a tag of four letters: there containers keep sizes."""
    head = content[:4096] + content[-4096:]
    tags = [match.start() for match in _TAGS.finditer(head)]
    at = (
        rng.choice(tags) + rng.choice((-8, -4, 4, 8, 12))
        if tags and rng.random() < 0.8
        else rng.randrange(len(content))
    )
    at = min(max(0, at), len(content))
    lie = rng.choice((*_LIES, len(content), len(content) + 1))
    number = (lie & 0xFFFFFFFF).to_bytes(4, rng.choice(("big", "little")))
    return content[:at] + number + content[at + 4 :]


def _zeroed(content: bytes, rng: random.Random) -> bytes:
    begin, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    end = min(end, begin + 4096)
    return content[:begin] + bytes(end - begin) + content[end:]


def _doubled(content: bytes, rng: random.Random) -> bytes:
    begin, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[:end] + content[begin:end] + content[end:]


def _removed(content: bytes, rng: random.Random) -> bytes:
    begin, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[:begin] + content[min(end, begin + 1024) :]
