"""Files of containers that claim no length, whole and cut at many places."""

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import ffmpeg
from tsp.data.video.last_unit import ends_within

CONTAINERS = {
    "ogg": (".ogv", "-c:v libtheora -q:v 2"),
    "gif": (".gif", ""),
    "ivf": (".ivf", "-c:v libvpx -b:v 200k"),
    "mxf": (".mxf", "-c:v mpeg2video -q:v 20 -pix_fmt yuv422p"),
    "matroska": (".webm", "-c:v libvpx -b:v 200k -live 1"),
    "yuv4mpegpipe": (".y4m", "-pix_fmt yuv420p"),
    "dv": (".dv", "-vf scale=720:480,fps=30000/1001 -pix_fmt yuv411p -c:v dvvideo"),
    "mjpeg": (".mjpeg", "-c:v mjpeg -q:v 5"),
}
OF_FRAMES_ALONE = [
    ("ivf", *CONTAINERS["ivf"]),
    ("mjpeg", *CONTAINERS["mjpeg"]),
    *(
        ("yuv4mpegpipe", ".y4m", f"-s 51x17 -strict -1 -pix_fmt {pixels}")
        for pixels in (
            "yuv420p", "yuv422p", "yuv444p", "yuva444p", "yuv411p", "gray", "gray12", "yuv420p10", "yuv422p16",
            "yuv444p9",
        )
    ),
    ("dv", *CONTAINERS["dv"]),
    ("dv", ".dv", "-vf scale=720:576,fps=25 -pix_fmt yuv420p -c:v dvvideo"),
    ("dv", ".dv", "-vf scale=720:576,fps=25 -pix_fmt yuv422p -c:v dvvideo"),
]  # fmt: skip


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_file_ends_within_a_unit_wherever_it_is_cut_and_a_whole_one_does_not(name, tmp_path):
    suffix, options = CONTAINERS[name]
    path = ffmpeg.make(tmp_path / f"a{suffix}", options, num_frames=12)
    whole = path.read_bytes()
    assert ends_within(str(path), {name}) == ""
    path.write_bytes(whole + bytes(200))
    assert ends_within(str(path), {name}) == "", "something behind the end is no lack"
    cuts = range(len(whole) // 2, len(whole) - 1, max(1, len(whole) // 200))
    num_seen = 0
    for cut in cuts:
        path.write_bytes(whole[:cut])
        num_seen += bool(ends_within(str(path), {name}))
    assert num_seen >= 0.9 * len(cuts), "but for cuts between two units, or within the first bytes of one"


@pytest.mark.parametrize(("name", "suffix", "options"), OF_FRAMES_ALONE)
def test_a_file_of_frames_alone_is_whole_only_where_a_frame_ends(name, suffix, options, tmp_path):
    path = ffmpeg.make(tmp_path / f"a{suffix}", options, num_frames=4)
    whole = path.read_bytes()
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        head_bytes = 12 if name == "ivf" else 0  # FFmpeg gives the place of the frame's header
        ends = {packet.pos + head_bytes + packet.size for packet in packets}
        begin = packets[-2].pos
    assert max(ends) == len(whole)
    near = {end + step for end in ends for step in range(-40, 41)}
    for cut in sorted(near | set(range(begin, len(whole), max(1, len(whole) // 400)))):
        if begin < cut <= len(whole):
            path.write_bytes(whole[:cut])
            assert bool(ends_within(str(path), {name})) == (cut not in ends), (cut, ends)


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("data", [b"", b"\0" * 300, b"\xff" * 300, b"OggS", b"GIF89a", b"DKIF"])
def test_what_is_none_of_it_ends_a_walk(name, data, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(data)
    assert isinstance(ends_within(str(path), {name}), str)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("mxf", b"\x06\x0e\x2b\x34" + bytes(12) + b"\x88" + b"\xff" * 8),
        ("mxf", b"\x06\x0e\x2b\x34" + bytes(12) + b"\x88\x7f" + b"\xff" * 7),
        ("matroska", b"\x1a\x45\xdf\xa3\x01\x00" + b"\xff" * 5 + b"\xfe"),
        ("ivf", b"DKIF\0\0\x20\0" + bytes(24) + b"\xff" * 12),
    ],
)
def test_a_size_that_leads_further_than_any_file_reaches_is_of_a_file_that_was_cut(name, head, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(head + b"x" * 50)
    assert ends_within(str(path), {name})


@settings(max_examples=300)
@given(
    data=st.binary(max_size=200),
    start=st.sampled_from([b"", b"\x06\x0e\x2b\x34", b"\x1a\x45\xdf\xa3", b"GIF89a", b"OggS\0"]),
)
def test_no_bytes_are_an_unexpected_error(data, start, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any bytes"
    path.write_bytes(start + data)
    for name in CONTAINERS:
        assert isinstance(ends_within(str(path), {name}), str)


def test_of_other_containers_nothing_is_said(tmp_path):
    path = tmp_path / "a.ts"
    path.write_bytes(b"OggS\0" + bytes(21) + b"\xff" * 10)
    assert ends_within(str(path), {"mpegts"}) == ""
