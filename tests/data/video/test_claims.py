"""What a container claims against what was read of it; files of plain bytes, streams of numbers."""

import struct
from fractions import Fraction
from types import SimpleNamespace

import pytest

from tsp.data.video.claims import missing_end, unheeded

FPS = Fraction(30)
ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


@pytest.fixture
def missing(tmp_path):
    """How a file of so many bytes is said to be shorter than claimed."""

    def ask(name, *, data=bytes(1000), sizes=None, frames=0, num_read=90, duration_sec=None, start_sec=0.0, **more):
        path = tmp_path / "a"
        path.write_bytes(data)
        places = [SimpleNamespace(pos=100 * at, size=size) for at, size in enumerate(sizes or [])]
        container = SimpleNamespace(
            format=SimpleNamespace(name=name), start_time=round(start_sec * 1e6),
            duration=None if duration_sec is None else round(duration_sec * 1e6),
        )  # fmt: skip
        stream = SimpleNamespace(index_entries=places, frames=frames, average_rate=more.get("rate", FPS))
        scan = SimpleNamespace(pts=[0] * num_read, end_sec=more.get("end_sec", 3.0))
        return missing_end(str(path), container, stream, scan, FPS)

    return ask


@pytest.mark.parametrize(
    ("sizes", "frames", "num_read", "claim"),
    [
        ([100] * 10, 10, 10, ""),  # the last ends with the file
        ([100] * 9 + [101], 10, 10, "10 frames, but it has 9"),
        ([100] * 12, 12, 12, "12 frames, but it has 10"),
        ([100] * 10, 10, 7, "10 frames, but it has 7"),
        ([100, 0, 0] + [100] * 7, 10, 8, ""),  # frames of no bytes were dropped while recording
        ([100, 0, 0] + [100] * 7, 10, 7, "8 frames, but it has 7"),
        ([100] * 10, 11, 9, "10 frames, but it has 9"),
        ([100], 1, 1, ""),
        ([2000], 1, 0, "1 frame, but it has 0"),
        ([100] * 10, 9, 2, ""),  # a list of more frames than there are is none of frames
    ],
)
def test_frames_that_an_mp4_file_lists_and_lacks_are_counted(missing, sizes, frames, num_read, claim):
    said = missing("mov,mp4,m4a", sizes=sizes, frames=frames, num_read=num_read)
    assert said == (f"its header claims {claim}: the file is truncated" if claim else "")


def test_a_long_file_of_which_every_frame_is_there_is_whole(missing):
    assert missing("mov,mp4,m4a", data=bytes(100_000), sizes=[100] * 1000, frames=1000, num_read=1000) == ""


@pytest.mark.parametrize(
    ("name", "more", "claim"),
    [
        # Three frames and 0.15 s are left to rounding and to sound that ends later.
        ("matroska,webm", {"duration_sec": 3.25}, ""),
        ("matroska,webm", {"duration_sec": 3.26}, "3.26 s, but it has 3.00 s"),
        ("flv", {"duration_sec": 3.26}, "3.26 s, but it has 3.00 s"),
        ("mov,mp4,m4a", {"duration_sec": 3.26}, "3.26 s, but it has 3.00 s"),
        ("matroska,webm", {}, ""),
        # Matroska claims when it ends, MP4 how long it lasts from its start: either may be meant.
        ("matroska,webm", {"duration_sec": 8.0, "start_sec": 5.0, "end_sec": 8.0}, ""),
        ("matroska,webm", {"duration_sec": 8.0, "start_sec": 5.0}, "8.00 s, but it has 3.00 s"),
        ("matroska,webm", {"duration_sec": 3.7, "start_sec": -0.5, "end_sec": 3.0}, ""),
        ("matroska,webm", {"duration_sec": 3.8, "start_sec": -0.5, "end_sec": 3.0}, "3.80 s, but it has 3.50 s"),
        # AVI claims a number of frames at a rate.
        ("avi", {"frames": 97}, ""),
        ("avi", {"frames": 98}, "3.27 s, but it has 3.00 s"),
        ("avi", {"frames": 98, "rate": None, "duration_sec": 9.0}, ""),
        ("avi", {"frames": 0, "duration_sec": 9.0}, ""),
        # Of these FFmpeg estimates a duration, which is no claim.
        ("mpegts", {"duration_sec": 9.0}, ""),
        ("mpeg", {"duration_sec": 9.0, "frames": 300}, ""),
    ],
)
def test_a_file_that_ends_well_before_the_time_it_claims_is_truncated(missing, name, more, claim):
    assert missing(name, **more) == (f"its header claims {claim}: the file is truncated" if claim else "")


def asf(claimed_bytes, *, flags=2, before=30, size=1000, cut=None):
    """A file of this size that claims another, 40 bytes into its properties; the flags are 48 bytes further on."""
    header = bytearray(92)
    header[:16] = ASF_PROPERTIES
    struct.pack_into("<Q", header, 40, claimed_bytes)
    struct.pack_into("<I", header, 88, flags)
    return (bytes(before) + bytes(header[:cut])).ljust(size if cut is None else 0, b"\0")


@pytest.mark.parametrize(
    ("data", "is_short"),
    [
        (asf(1000), False),
        (asf(1001), True),
        (asf(999), False),
        (asf(1001, before=0), True),
        (asf(1001, flags=3), False),  # a broadcast, whose size nobody knew
        (asf(1 << 40), True),
        (asf(1001, cut=91), False),
        (asf(1001, cut=92), True),
        (bytes(1000), False),
    ],
)
def test_an_asf_file_is_short_of_the_size_in_its_header(missing, data, is_short):
    said = missing("asf", data=data, duration_sec=99.0)
    claimed = struct.unpack_from("<Q", data, data.find(ASF_PROPERTIES) + 40)[0]
    expected = f"its header claims {claimed} bytes, but it has {len(data)}: the file is truncated"
    assert said == (expected if is_short else "")


@pytest.mark.parametrize(
    ("name", "num_bytes", "end_byte", "is_remarked"),
    [
        ("flv", 100_000, 90_000, False),  # a tenth of the file
        ("flv", 100_000, 89_999, True),
        ("flv", 20_000, 20_000 - 8192, False),  # or 8 KiB
        ("flv", 20_000, 20_000 - 8193, True),
        ("flv", 100_000, 0, False),  # packets without a place
        ("mov,mp4,m4a", 100_000, 10, False),
        ("matroska,webm", 100_000, 10, False),
    ],
)
def test_what_follows_the_last_readable_byte_is_remarked_where_it_is_no_index(
    tmp_path, name, num_bytes, end_byte, is_remarked
):
    path = tmp_path / "a"
    path.write_bytes(bytes(num_bytes))
    container, stream = SimpleNamespace(format=SimpleNamespace(name=name)), SimpleNamespace(index=0)
    remark = (f"{num_bytes - end_byte} of its {num_bytes} bytes follow after the last readable one: is a second file "
              "appended?")  # fmt: skip
    found = unheeded(str(path), container, stream, SimpleNamespace(end_byte=end_byte))
    assert found == ((remark,) if is_remarked else ())
