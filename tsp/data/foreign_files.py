"""Recognises files that are not what their names say: refused downloads, archives, pointers to files kept elsewhere."""

from __future__ import annotations

import re

HEAD_BYTES = 512
"""How much of a file ``what_begins`` wants to see."""

_BEGINNINGS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), what)
    for pattern, what in (
        (rb"\s*<(!doctype html|html)", "it is a web page: was the download refused?"),
        (rb"\s*<\?xml.{0,200}<error>", "it is a store's error message: was the download refused?"),
        (rb"\s*<\?xml", "it is XML"),
        (rb"\s*\{\s*\"(error|message|code)", "it is an error message in JSON: was the download refused?"),
        (rb"version https://git-lfs\.github\.com", "it is a pointer of Git LFS: run 'git lfs pull'"),
        (rb"\.\./.{0,300}/annex/objects/", "it is a pointer of git-annex: run 'git annex get'"),
        (rb"#EXTM3U|ffconcat version|\[playlist\]", "it is a list of other files"),
        (rb"\x1f\x8b", "it is compressed by gzip: unpack it"),
        (rb"BZh[1-9]1AY", "it is compressed by bzip2: unpack it"),
        (rb"\xfd7zXZ\0", "it is compressed by xz: unpack it"),
        (rb"\x28\xb5\x2f\xfd", "it is compressed by zstd: unpack it"),
        (rb"PK\x03\x04", "it is a ZIP archive or an Excel workbook: unpack it, or export it"),
        (rb"7z\xbc\xaf\x27\x1c|Rar!\x1a\x07", "it is an archive: unpack it"),
        (rb".{257}ustar", "it is a tar archive: unpack it"),
        (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "it is an old Office document: export it"),
        (rb"\x89HDF\r\n\x1a\n", "it is an HDF5 file"),
        (rb"\x93NUMPY", "it is a NumPy file"),
        (rb"PAR1", "it is a Parquet file: export it as CSV"),
        (rb"%PDF-", "it is a PDF document"),
        (rb"\0{%d}" % HEAD_BYTES, "it begins with zeros: was it written completely?"),
    )
)


def what_begins(head: bytes) -> str:
    """Describes a file that begins like this, and what to do, if it is surely neither video, table, JSON nor H5. Args:
    head, its first HEAD_BYTES; not for the reader of HDF5 files. Empty for everything unknown.
    """
    return next((what for pattern, what in _BEGINNINGS if pattern.match(head)), "")
