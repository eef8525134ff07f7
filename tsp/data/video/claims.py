"""Compares a container's claims with the data that was read: a truncated file can often be read without errors up to
its end.

Only claims are compared; where a container makes none, a file that ends within one of its units is truncated. MPEG-TS
and MPEG-PS are cut anywhere by recorders, so truncation cannot be detected there; FFmpeg's own estimate of a duration
is not a claim. Frames that a container hides (a trim without encoding) or repeats (dropped frames of AVI) are not lost.
"""

from __future__ import annotations

import os
import struct
from fractions import Fraction

from av.container import InputContainer
from av.video.stream import VideoStream

from tsp.data.video.boxes import clean_aperture, joined_at
from tsp.data.video.last_unit import ends_within
from tsp.data.video.matroska import pixel_crop
from tsp.data.video.packet_scan import Scan
from tsp.wording import counted

_CLAIM_DURATION = frozenset({"matroska", "webm", "flv", "mov"})
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
"""Begins the object of an ASF header that says the file's size 40 bytes on and its flags 88 bytes on."""
_ASF_HEADER_BYTES = 1 << 16
_TOLERANCE_FRAMES = 3
_TOLERANCE_SEC = 0.15
"""A sound's last packet may end so much later than what it holds."""
_US_PER_SEC = 1_000_000
_INDEXED_LAST = frozenset({"mov", "matroska", "webm"})
"""Formats that may hold an index, fonts or empty space of any size behind the pictures."""
_TRAILER_BYTES, _TRAILER_SHARE = 8192, 0.1


def missing_end(path: str, container: InputContainer, stream: VideoStream, scan: Scan, fps: Fraction) -> str:
    """In words how a file is shorter than its container claims; empty if it is not."""
    formats = set(container.format.name.split(","))
    if "mov" in formats and 0 < len(stream.index_entries) <= stream.frames:
        # An entry of no bytes is a frame that was dropped while recording: the one before stays.
        entries, size_bytes = [entry for entry in stream.index_entries if entry.size], os.path.getsize(path)
        num_there = sum(entry.pos + entry.size <= size_bytes for entry in entries)
        num_claimed = len(entries)
        num_there = min(num_there, len(scan.pts))
        if num_there < num_claimed:
            return f"its header claims {counted(num_claimed, 'frame')}, but it has {num_there}: the file is truncated"
        return ""
    if "asf" in formats:
        return _missing_of_asf(path)
    claimed_sec = _claimed_sec(formats, container, stream)
    if claimed_sec is None:
        unit = ends_within(path, formats)
        return f"it ends within {unit} of its container: the file is truncated" if unit else ""
    # Some containers claim how long they last, others (Matroska) when they end: whichever is reached counts.
    end_sec = scan.end_sec - min(0, (container.start_time or 0) / _US_PER_SEC)
    if claimed_sec - end_sec <= _TOLERANCE_SEC + _TOLERANCE_FRAMES / fps:
        return ""
    return f"its header claims {claimed_sec:.2f} s, but it has {end_sec:.2f} s: the file is truncated"


def unheeded(path: str, container: InputContainer, stream: VideoStream, scan: Scan) -> tuple[str, ...]:
    """Descriptions of what a container contains or requests that neither training nor ``standardize`` applies."""
    formats, found = set(container.format.name.split(",")), []
    if "mov" in formats:
        if (at := joined_at(path)) is not None:
            found.append(
                f"a second file is appended at byte {at}, which players and training do not see: join MP4 files "
                "with 'ffmpeg -f concat'"
            )
        if size := clean_aperture(path):
            found.append(f"it asks players to crop its picture to {size[0]}x{size[1]}; the crop is not applied")
    if formats & {"matroska", "webm"} and (edges := pixel_crop(path, stream.index)):
        cut = ", ".join(f"{pixels} at the {edge}" for edge, pixels in edges.items())
        found.append(f"it asks players to crop its picture ({cut}); the crop is not applied")
    num_bytes = os.path.getsize(path)
    num_behind = num_bytes - scan.end_byte
    if not formats & _INDEXED_LAST and scan.end_byte and num_behind > max(_TRAILER_BYTES, num_bytes * _TRAILER_SHARE):
        found.append(
            f"{num_behind} of its {num_bytes} bytes follow after the last readable one: is a second file appended?"
        )
    return tuple(found)


def _claimed_sec(formats: set[str], container: InputContainer, stream: VideoStream) -> float | None:
    if "avi" in formats and stream.average_rate and stream.frames:
        return float(stream.frames / stream.average_rate)
    if formats & _CLAIM_DURATION and container.duration:
        return container.duration / _US_PER_SEC
    return None


def _missing_of_asf(path: str) -> str:
    """By the size in the header, since FFmpeg hides an ASF file's duration where the size does not hold."""
    with open(path, "rb") as file:
        header = file.read(_ASF_HEADER_BYTES)
    at = header.find(_ASF_PROPERTIES)
    if at < 0 or len(header) < at + 92:
        return ""
    (claimed_bytes,), (flags,) = struct.unpack_from("<Q", header, at + 40), struct.unpack_from("<I", header, at + 88)
    size_bytes, is_broadcast = os.path.getsize(path), flags & 1
    if is_broadcast or claimed_bytes <= size_bytes:
        return ""
    return f"its header claims {claimed_bytes} bytes, but it has {size_bytes}: the file is truncated"
