"""Files as other programs write them and ffmpeg does not: made from ffmpeg's own, byte by byte or packet by packet."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import av
from av.packet import Packet

VOP = b"\0\0\1\xb6"
N_VOP = VOP + b"\x50\x00\x7f"
"""A predicted VOP that is not coded: what stands in a packed stream where a frame was packed into the packet before."""
_USER_DATA = b"\0\0\1\xb2"
_B_VOP = 0b10


def without_box(source: Path, target: Path, name: bytes) -> None:
    """An MP4 in which a box is overwritten by free space: ``stss``, then all frames pass for key frames; ``ctts``, then
    frames have decoding times alone, as an elementary stream that was copied into MP4.
    """
    data = source.read_bytes()
    assert data.count(name) == 1
    target.write_bytes(data.replace(name, b"free"))


def with_edits(source: Path, target: Path, edits: Sequence[tuple[int, int]]) -> None:
    """An MP4, its index at the end, with another edit list: (milliseconds, media time or -1 for an empty edit)."""
    data = bytearray(source.read_bytes())
    begin = data.index(b"edts") - 4
    length = int.from_bytes(data[begin : begin + 4], "big")
    entries = b"".join(struct.pack(">iihh", duration, media, 1, 0) for duration, media in edits)
    elst = box(b"elst", struct.pack(">II", 0, len(edits)) + entries)
    new = box(b"edts", elst)
    assert data.index(b"mdat") < data.index(b"moov")
    data[begin : begin + length] = new
    for name in (b"trak", b"moov"):
        at = data.index(name) - 4
        data[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") + len(new) - length).to_bytes(4, "big")
    target.write_bytes(data)


def box(name: bytes, content: bytes = b"", *, large: bool = False) -> bytes:
    """A box of an MP4 file; ``large``, with a size of 64 bits."""
    if large:
        return struct.pack(">I4sQ", 1, name, 16 + len(content)) + content
    return struct.pack(">I4s", 8 + len(content), name) + content


def with_dropped_frames(source: Path, target: Path, numbers: Sequence[int]) -> None:
    """An MP4 with a chunk for each frame, as files with sound have, in which some frames have no bytes."""
    data = bytearray(source.read_bytes())
    sizes = data.index(b"stsz") + 16
    for number in numbers:
        data[sizes + 4 * number : sizes + 4 * number + 4] = bytes(4)
    target.write_bytes(data)


def with_every_block_a_key(source: Path, target: Path) -> None:
    """A Matroska file whose SimpleBlocks all say that they hold key frames."""
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        starts = [packet.pos for packet in container.demux(video=0) if packet.size and not packet.is_keyframe]
    for start in starts:
        assert data[start] == 0x81  # the track's number, before two bytes of time and the flags
        data[start + 3] |= 0x80
    target.write_bytes(data)


def with_exif(source: Path, target: Path, orientation: int) -> None:
    """Motion JPEG as cameras write it, with EXIF in each picture."""
    tag = struct.pack("<HHHIHH", 1, 0x0112, 3, 1, orientation, 0)  # one tag: Orientation, one short
    tiff = b"II*\0" + struct.pack("<I", 8) + tag + bytes(4)
    exif = b"\xff\xe1" + struct.pack(">H", 8 + len(tiff)) + b"Exif\0\0" + tiff
    with av.open(str(source)) as container, av.open(str(target), "w") as out:
        stream = container.streams.video[0]
        copy = out.add_stream_from_template(stream)
        for packet in container.demux(stream):
            if packet.size:
                picture = bytes(packet)
                again: Packet = Packet(picture[:2] + exif + picture[2:])
                again.stream, again.time_base, again.is_keyframe = copy, stream.time_base, True
                again.pts, again.dts, again.duration = packet.pts, packet.dts, packet.duration
                out.mux(again)


def packed(source: Path, target: Path) -> None:
    """MPEG-4 in AVI as DivX and Xvid wrote it: a B-frame travels in the packet of the frame that it needs."""
    with av.open(str(source)) as container, av.open(str(target), "w") as out:
        stream = container.streams.video[0]
        copy = out.add_stream_from_template(stream)
        for number, content in enumerate(_packed([bytes(p) for p in container.demux(stream) if p.size])):
            packet: Packet = Packet(content)
            packet.stream, packet.time_base = copy, stream.time_base
            packet.pts = packet.dts = number
            packet.duration, packet.is_keyframe = 1, _type_of(content) == 0
            out.mux(packet)


def _packed(frames: Iterable[bytes]) -> list[bytes]:
    """Frames in the decoder's order, as packets: the frame that B-frames need, with the first of these in it; the other
    B-frames, each one packet later; and a VOP that is not coded in the last one's place.
    """
    packets: list[bytes] = []
    waiting: list[bytes] = []
    for frame in (*frames, b""):
        if frame and _type_of(frame) == _B_VOP:
            waiting.append(frame)
            continue
        if waiting:
            packets[-1] += waiting[0]
            packets += [*waiting[1:], N_VOP]
            waiting = []
        if frame:
            packets.append(_as_divx(frame))
    return packets


def _type_of(frame: bytes) -> int:
    """0 for I, 1 for P, 2 for B."""
    return frame[frame.index(VOP) + 4] >> 6


def _as_divx(frame: bytes) -> bytes:
    """With the signature that tells decoders of packed frames in place of the encoder's own."""
    at = frame.find(_USER_DATA)
    if at < 0:
        return frame
    end = frame.index(b"\0\0\1", at + 4)
    return frame[:at] + _USER_DATA + b"DivX503b1393p" + frame[end:]


def with_doubled_times(source: Path, target: Path) -> None:
    """Each frame but every third has a time of its own; the third has that of the one before it."""
    with av.open(str(source)) as container, av.open(str(target), "w") as out:
        stream = container.streams.video[0]
        copy = out.add_stream_from_template(stream)
        before = 0
        for number, packet in enumerate(container.demux(stream)):
            if packet.pts is None:
                continue
            again: Packet = Packet(bytes(packet))
            again.stream, again.time_base, again.is_keyframe = copy, stream.time_base, packet.is_keyframe
            again.pts = again.dts = before = before if number % 3 == 2 else packet.pts
            out.mux(again)


def cut_before_key(source: Path, target: Path, number: int) -> None:
    """Without what is stored before a key frame, counted from 0: of an open GOP the frames shown before it are lost."""
    with av.open(str(source)) as container, av.open(str(target), "w") as out:
        stream = container.streams.video[0]
        copy, num_keys = out.add_stream_from_template(stream), 0
        for packet in container.demux(stream):
            num_keys += packet.is_keyframe
            if packet.size and num_keys > number:
                packet.stream = copy
                out.mux(packet)


def without_avi_index(source: Path, target: Path) -> None:
    """An AVI file that was cut off in its index, at the end."""
    data = source.read_bytes()
    target.write_bytes(data[: data.rindex(b"idx1")])


def without_fragments(source: Path, target: Path, num: int) -> None:
    """A fragmented MP4 as a player keeps it of a live stream that it joined late."""
    data = source.read_bytes()
    boxes, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        boxes.append(data[at : at + length])
        at += length
    first = next(number for number, box in enumerate(boxes) if box[4:8] == b"moof")
    target.write_bytes(b"".join(boxes[:first] + boxes[first + 2 * num :]))


def with_clean_aperture(source: Path, target: Path, width: int, height: int) -> None:
    """An MP4, its index at the end, whose picture players are to cut to a size, about its middle."""
    data = bytearray(source.read_bytes())
    clap = box(b"clap", struct.pack(">8I", width, 1, height, 1, 0, 1, 0, 1))
    entry = data.index(b"avc1", data.index(b"stsd")) - 4
    length = int.from_bytes(data[entry : entry + 4], "big")
    data[entry + length : entry + length] = clap
    assert data.index(b"mdat") < data.index(b"moov")
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"):
        at = data.index(name, data.index(b"moov")) - 4
        data[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") + len(clap)).to_bytes(4, "big")
    data[entry : entry + 4] = (length + len(clap)).to_bytes(4, "big")
    target.write_bytes(data)


def with_pixel_crop(source: Path, target: Path, top: int) -> None:
    """A Matroska file whose picture players are to crop; the mark's room comes from the padding before the tracks.

    The source is muxed with ``-fflags +bitexact``: identifiers drawn at random may contain what is searched for here.
    """
    data = bytearray(source.read_bytes())
    mark = b"\x54\xbb\x81" + bytes((top,))
    padding = data.index(b"\xec\x01")
    tracks = data.index(b"\x16\x54\xae\x6b", padding)
    track = data.index(b"\xae", tracks + 4)
    video = data.index(b"\xe0", track + 1)
    while data[video + 1] & 0x80 == 0 or b"\xb0\x81" not in data[video + 2 : video + 12]:
        video = data.index(b"\xe0", video + 1)
    for at in (tracks + 4, track + 1, video + 1):
        _lengthen(data, at, len(mark))
    data[video + 2 : video + 2] = mark
    _lengthen(data, padding + 1, -len(mark))
    del data[padding + 9 : padding + 9 + len(mark)]
    target.write_bytes(data)


def _lengthen(data: bytearray, at: int, num_bytes: int) -> None:
    """Change the length of a Matroska element, which keeps its width."""
    width = 9 - data[at].bit_length()
    data[at : at + width] = (int.from_bytes(data[at : at + width], "big") + num_bytes).to_bytes(width, "big")
