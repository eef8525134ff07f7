"""Kinds of files, each with how the ffmpeg program makes it, and what ffmpeg shows of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from tests import ffmpeg
from tests.data.video.made import (
    FRAGMENTS,
    MANY,
    TONE,
    X264,
    X265,
    X265_OPEN,
    attached_picture,
    copied,
    dash_joined,
    fields,
    followed_by,
    hls_joined,
    joined,
    joined_of,
    two_programs,
    two_videos,
    with_cover,
    with_subtitles,
)
from tests.data.video.rewritten import (
    cut_before_key,
    packed,
    with_edits,
    with_every_block_a_key,
    without_avi_index,
    without_box,
    without_fragments,
)

MAX_COLOUR_ERROR = 3.0
"""Levels of 255, mean over a frame and channel."""


@dataclass(frozen=True)
class Kind:
    """How to make a file, and what is special about it."""

    suffix: str
    options: str = X264
    rate: str = "30"
    extra: str = ""
    then: Callable[[Path, Path], None] | None = None
    """Makes the file of the one that the options make."""
    num_frames: int = 90
    fps: Fraction | None = Fraction(30)
    """Its true rate; None where it varies."""
    is_delayed: bool = False
    """ffmpeg shows all frames of AVI later by the decoder's delay: the container stores no times of presentation."""
    lies: bool = False
    """Its container marks frames as key frames that are none."""
    reads: bool = True
    """False: the reader refuses it and says why; standardize takes it."""
    is_partial: bool = False
    """Players show a part of it, which is remarked."""
    filters_restart: bool = False
    """ffmpeg begins its filters anew where the pictures' form changes, and with them the counting of frames."""


def late(source: Path, target: Path) -> None:
    """The picture begins two seconds after the sound."""
    ffmpeg.run("-v", "error", "-itsoffset", "2", "-i", str(source), *TONE.split(), "-map", "0:v", "-map", "1:a",
               "-c:v", "copy", "-c:a", "aac", str(target))  # fmt: skip


VARYING = "-vf setpts='if(lt(N,30),N,30+(N-30)*2)/30/TB' -fps_mode vfr"
DROPPED = "-vf select='not(eq(mod(n,10),5))' -fps_mode vfr"
COLOUR = "-colorspace {0} -color_primaries {0} -color_trc {0}"
KINDS: dict[str, Kind] = {
    "mp4 h264": Kind(".mp4"),
    "mp4 h264 no B-frames": Kind(".mp4", f"{X264} -bf 0"),
    "mp4 h264 open GOP": Kind(".mp4", f"{X264} -x264-params open-gop=1"),
    "mp4 h264 fragmented": Kind(".mp4", f"{X264} -movflags frag_keyframe+empty_moov"),
    "mp4 h264 with sound": Kind(".mp4", f"{X264} -c:a aac -shortest", extra=TONE),
    "mp4 hevc": Kind(".mp4", X265),
    "mp4 av1": Kind(".mp4", "-c:v libaom-av1 -cpu-used 8 -crf 20 -g 25 -pix_fmt yuv420p"),
    "mp4 mpeg4 B-frames": Kind(".mp4", f"{MANY.format('mpeg4')} -bf 2"),
    "mov h264": Kind(".mov"),
    "mov mjpeg": Kind(".mov", "-c:v mjpeg -q:v 2 -pix_fmt yuvj420p"),
    "mov prores": Kind(".mov", "-c:v prores_ks -pix_fmt yuv422p10le"),
    "mov qtrle alpha": Kind(".mov", "-vf format=argb -c:v qtrle"),
    "3gp mpeg4": Kind(".3gp", MANY.format("mpeg4")),
    "mkv h264": Kind(".mkv"),
    "mkv hevc": Kind(".mkv", X265),
    "mkv mpeg4 B-frames": Kind(".mkv", f"{MANY.format('mpeg4')} -bf 2"),
    "mkv ffv1 RGB": Kind(".mkv", "-c:v ffv1 -pix_fmt bgr0"),
    "mkv with cues at its front, opus": Kind(".mkv", f"{X264} -c:a libopus -shortest", extra=TONE),
    "webm vp8": Kind(".webm", "-c:v libvpx -b:v 2M -auto-alt-ref 1 -lag-in-frames 16 -g 25"),
    "webm vp9": Kind(".webm", "-c:v libvpx-vp9 -b:v 2M -g 25 -pix_fmt yuv420p"),
    "webm vp9 alpha": Kind(".webm", "-c:v libvpx-vp9 -b:v 2M -g 25 -pix_fmt yuva420p"),
    "webm av1": Kind(".webm", "-c:v libaom-av1 -cpu-used 8 -crf 20 -g 25 -pix_fmt yuv420p"),
    "avi h264 B-frames": Kind(".avi", is_delayed=True),
    "avi mpeg4": Kind(".avi", MANY.format("mpeg4")),
    "avi mpeg4 B-frames": Kind(".avi", f"{MANY.format('mpeg4')} -bf 2", is_delayed=True),
    "avi mjpeg": Kind(".avi", "-c:v mjpeg -q:v 2 -pix_fmt yuvj420p"),
    "avi dropped frames": Kind(".avi", f"{DROPPED} {MANY.format('mpeg4')}", fps=None),
    "ts h264": Kind(".ts"),
    "ts h264 with sound": Kind(".ts", f"{X264} -c:a mp2 -shortest", extra=TONE),
    "ts hevc": Kind(".ts", X265),
    "ts mpeg2": Kind(".ts", f"{MANY.format('mpeg2video')} -bf 2"),
    "m2ts h264": Kind(".m2ts"),
    "ts clock restarts": Kind(".ts", then=joined(0)),
    "ts clock jumps": Kind(".ts", then=joined(600)),
    "flv h264": Kind(".flv"),
    "flv flv1": Kind(".flv", MANY.format("flv1")),
    "mpg mpeg1": Kind(".mpg", f"{MANY.format('mpeg1video')} -bf 2"),
    "vob mpeg2": Kind(".vob", f"{MANY.format('mpeg2video')} -bf 2"),
    # Small frames share a unit of the stream, and only the first that begins in one has a time.
    "vob h264 of few times": Kind(".vob", f"{X264} -bf 3 -x264-params b-pyramid=strict"),
    "mpg h264 of few times and a pause": Kind(
        ".mpg", f"{X264} -bf 0 -vf setpts='N+gt(N,10)*90' -fps_mode vfr", rate="15", fps=Fraction(15)
    ),
    "wmv wmv2": Kind(".wmv", MANY.format("wmv2")),
    "asf h264 B-frames with sound": Kind(
        ".asf", f"{X264} -bf 3 -c:a wmav2", rate="10", fps=Fraction(10), extra=TONE, is_delayed=True
    ),
    "asf msmpeg4": Kind(".asf", MANY.format("msmpeg4")),
    "ogv theora": Kind(".ogv", "-c:v libtheora -q:v 10"),
    "15 fps": Kind(".mp4", rate="15", fps=Fraction(15)),
    "29.97 fps": Kind(".mp4", rate="30000/1001", fps=Fraction(30000, 1001)),
    "23.976 fps in mkv": Kind(".mkv", rate="24000/1001", fps=Fraction(24000, 1001)),
    "12.5 fps": Kind(".mp4", rate="25/2", fps=Fraction(25, 2)),
    "60 fps": Kind(".mp4", rate="60", fps=Fraction(60)),
    "time base of a frame": Kind(".mp4", f"{X264} -video_track_timescale 30"),
    "mp4 varying rate": Kind(".mp4", f"{VARYING} {X264}", fps=None),
    "mkv varying rate": Kind(".mkv", f"{VARYING} {X264}", fps=None),
    "mp4 begins at 5 s": Kind(".mp4", f"{X264} -output_ts_offset 5"),
    "mkv begins at 5 s": Kind(".mkv", f"{X264} -output_ts_offset 5"),
    "mp4 late picture": Kind(".mp4", then=late),
    "mkv late picture": Kind(".mkv", then=late),
    "ts late picture": Kind(".ts", then=late),
    "mp4 trimmed by an edit list": Kind(".mp4", then=copied(before="-ss 1.3")),
    "mov trimmed by an edit list": Kind(".mov", then=copied(before="-ss 0.9")),
    "mkv trimmed": Kind(".mkv", then=copied(before="-ss 1.3")),
    "ts trimmed": Kind(".ts", then=copied(before="-ss 1.3")),
    "h264 interlaced": Kind(".mp4", f"{X264} -flags +ildct+ilme -x264-params tff=1"),
    "mpeg2 interlaced": Kind(".ts", f"{MANY.format('mpeg2video')} -flags +ildct+ilme -vf setfield=tff"),
    "full range, JPEG's format": Kind(".mp4", X264.replace("yuv420p", "yuvj420p")),
    "full range, marked": Kind(".mkv", f"-vf scale=out_range=pc,format=yuv420p {X264} -color_range pc"),
    "BT.709": Kind(".mp4", f"-vf scale=out_color_matrix=bt709,format=yuv420p {X264} {COLOUR.format('bt709')}"),
    "BT.601 marked": Kind(".mp4", f"{X264} {COLOUR.format('smpte170m')}"),
    "BT.2020, 10 bit": Kind(
        ".mp4",
        "-vf scale=out_color_matrix=bt2020,format=yuv420p10le -c:v libx264 -crf 14 -g 25 -colorspace bt2020nc "
        "-color_primaries bt2020 -color_trc bt2020-10",
    ),
    "full range BT.709": Kind(
        ".mkv", f"-vf scale=out_range=pc:out_color_matrix=bt709,format=yuv420p {X264} -color_range pc "
        f"{COLOUR.format('bt709')}",
    ),
    "10 bit": Kind(".mp4", X264.replace("yuv420p", "yuv420p10le")),
    "4:2:2": Kind(".mp4", X264.replace("yuv420p", "yuv422p")),
    "4:4:4": Kind(".mp4", X264.replace("yuv420p", "yuv444p")),
    "4:4:4 RGB": Kind(".mp4", "-c:v libx264rgb -crf 10 -g 25"),
    "grey": Kind(".mp4", X264.replace("yuv420p", "gray")),
    "mp4 fragmented after its first part": Kind(".mp4", f"{X264} -movflags frag_keyframe"),
    "mp4 of two edits": Kind(".mp4", then=partial(with_edits, edits=[(1000, 3584), (1000, 26624)])),
    "mp4 that shows a part twice": Kind(
        ".mp4", then=partial(with_edits, edits=[(1000, 1024), (1000, 1024), (1000, 31744)])
    ),
    "mp4 hevc, all frames marked as key frames": Kind(".mp4", X265, then=partial(without_box, name=b"stss"), lies=True),
    "mp4 mpeg4, all frames marked as key frames": Kind(
        ".mp4", f"{MANY.format('mpeg4')} -g 25", then=partial(without_box, name=b"stss"), lies=True
    ),
    "mkv hevc, all frames marked as key frames": Kind(".mkv", X265, then=with_every_block_a_key, lies=True),
    "h264 intra refresh": Kind(".mp4", f"{X264} -bf 0 -x264-params intra-refresh=1", lies=True),
    "avi mpeg4 packed, 1 B-frame": Kind(".avi", f"{MANY.format('mpeg4')} -bf 1 -g 25", then=packed, is_delayed=True),
    "avi mpeg4 packed, 2 B-frames": Kind(".avi", f"{MANY.format('mpeg4')} -bf 2 -g 25", then=packed, is_delayed=True),
    "hevc HLG, turned and trimmed": Kind(
        ".mp4",
        f"-vf scale=out_color_matrix=bt2020,format=yuv420p10le {X265.replace('-pix_fmt yuv420p', '')} -tag:v hvc1 "
        f"-colorspace bt2020nc -color_primaries bt2020 -color_trc arib-std-b67 -c:a aac -shortest",
        extra=TONE, then=copied("-metadata:s:v", "rotate=90", before="-ss 1.25"),
    ),
    "ts clock wraps": Kind(".ts", f"{X264} -c:a mp2 -shortest -output_ts_offset 95442", extra=TONE),
    "mpg clock wraps": Kind(".mpg", f"{MANY.format('mpeg2video')} -bf 2 -output_ts_offset 95442"),
    "ts of two programs": Kind(".ts", then=two_programs),
    "webm live, without duration and cues": Kind(".webm", "-c:v libvpx -b:v 2M -g 25 -live 1"),
    "mov with a time code": Kind(".mov", f"{X264} -timecode 01:00:00:00 -c:a aac -shortest", extra=TONE),
    "mxf mpeg2 with a time code": Kind(".mxf", "-c:v mpeg2video -q:v 2 -pix_fmt yuv422p -timecode 01:00:00:00"),
    "gif": Kind(".gif", "-vf split[a][b];[a]palettegen[p];[b][p]paletteuse", fps=None),
    "mpg telecined": Kind(
        ".mpg", f"-vf telecine {MANY.format('mpeg2video')} -bf 2 -flags +ildct+ilme -r 30000/1001", rate="24000/1001",
        fps=Fraction(30000, 1001),
    ),
    "pixels that are no squares": Kind(".mp4", f"-vf setsar=64/45 {X264}"),
    "pixel format changes": Kind(".ts", then=followed_by(X264.replace("yuv420p", "yuv422p")), filters_restart=True),
    "mp4 h264, cropped at its left": Kind(".mp4", then=copied("-bsf:v", "h264_metadata=crop_left=6:crop_top=4")),
    "ts hevc, cropped at its left": Kind(".ts", X265, then=copied("-bsf:v", "hevc_metadata=crop_left=2:crop_right=4")),
    "two videos": Kind(".mkv", then=two_videos),
    "a cover": Kind(".mp4", then=with_cover),
    "size changes": Kind(".ts", then=followed_by(f"-vf scale=192:128 {X264}"), reads=False, filters_restart=True),
    "elementary stream": Kind(".h264", reads=False),
    "ts, each field a packet": Kind(".ts", then=partial(fields, apart=True)),
    "mp4, each field a packet": Kind(".mp4", then=partial(fields, apart=True)),
    "mkv, two fields a packet": Kind(".mkv", then=partial(fields, apart=False)),
    "mkv hevc, open GOP cut at a key frame": Kind(".mkv", X265_OPEN, then=partial(cut_before_key, number=2)),
    "mp4 of three edits, one of them empty": Kind(
        ".mp4", then=partial(with_edits, edits=[(1000, 1024), (500, -1), (1500, 16384)])
    ),
    "mp4 fragments without the first ones": Kind(".mp4", f"{X264} {FRAGMENTS}", then=partial(without_fragments, num=1)),
    "two mp4 files joined": Kind(".mp4", then=joined(0), is_partial=True),
    "two flv files joined": Kind(".flv", then=joined(0), is_partial=True),
}  # fmt: skip
VP9 = "-c:v libvpx-vp9 -b:v 2M -g 32 -auto-alt-ref 6 -lag-in-frames 25 -pix_fmt yuv420p"
MPEG2 = f"{MANY.format('mpeg2video')} -bf 2"
MJPEG = "-c:v mjpeg -q:v 2 -pix_fmt yuvj420p"
DV = "-vf scale=720:480 -c:v dvvideo -pix_fmt yuv411p"
MORE_KINDS: dict[str, Kind] = {
    "mp4 fake interlaced": Kind(".mp4", f"{X264} -x264-params fake-interlaced=1"),
    "mp4 dash, with an index of segments": Kind(".mp4", f"{X264} -movflags +dash+global_sidx -frag_duration 500000"),
    "mp4 cmaf": Kind(".mp4", f"{X264} -movflags +cmaf+frag_keyframe"),
    "mp4 negative offsets": Kind(".mp4", f"{X264} -movflags +negative_cts_offsets"),
    "mp4 without an edit list": Kind(".mp4", f"{X264} -use_editlist 0"),
    "mp4 time base of a nanosecond": Kind(".mp4", f"{X264} -video_track_timescale 1000000000"),
    "mp4 vp9": Kind(".mp4", VP9),
    "mp4 svt-av1": Kind(".mp4", "-c:v libsvtav1 -preset 12 -crf 20 -g 16 -pix_fmt yuv420p"),
    "mp4 mpeg2": Kind(".mp4", f"{MANY.format('mpeg2video')} -bf 2"),
    "f4v h264": Kind(".f4v"),
    "avi without an index": Kind(".avi", MANY.format("mpeg4"), then=without_avi_index),
    "avi mpeg2 B-frames": Kind(".avi", f"{MANY.format('mpeg2video')} -bf 2", is_delayed=True),
    "avi vp9": Kind(".avi", VP9),
    "avi raw BGR": Kind(".avi", "-c:v rawvideo -pix_fmt bgr24"),
    "avi raw palette": Kind(".avi", "-vf split[a][b];[a]palettegen[p];[b][p]paletteuse -c:v rawvideo -pix_fmt pal8"),
    "avi huffyuv": Kind(".avi", "-c:v huffyuv -pix_fmt yuv422p"),
    "avi utvideo RGB": Kind(".avi", "-c:v utvideo -pix_fmt gbrp"),
    "avi magicyuv": Kind(".avi", "-c:v magicyuv -pix_fmt yuv420p"),
    "avi cinepak": Kind(".avi", "-c:v cinepak -g 16"),
    "avi zmbv": Kind(".avi", "-c:v zmbv -g 16"),
    "avi asv1": Kind(".avi", "-c:v asv1 -q:v 2"),
    "avi late picture": Kind(".avi", MANY.format("mpeg4"), then=late, fps=None),
    "dv": Kind(".dv", DV, rate="30000/1001", fps=Fraction(30000, 1001)),
    "mov dv PAL": Kind(".mov", "-vf scale=720:576 -c:v dvvideo -pix_fmt yuv420p", rate="25", fps=Fraction(25)),
    "mov dnxhr": Kind(".mov", "-vf scale=256:128 -c:v dnxhd -profile:v dnxhr_sq -pix_fmt yuv422p"),
    "mxf dnxhr": Kind(".mxf", "-vf scale=256:128 -c:v dnxhd -profile:v dnxhr_sq -pix_fmt yuv422p"),
    "mxf mpeg2 B-frames": Kind(".mxf", f"{MANY.format('mpeg2video')} -bf 2"),
    "mov jpeg2000": Kind(".mov", "-c:v jpeg2000 -q:v 2"),
    "mov cineform": Kind(".mov", "-c:v cfhd -pix_fmt yuv422p10le"),
    "mov v210": Kind(".mov", "-c:v v210"),
    "mov png": Kind(".mov", "-c:v png"),
    "mov svq1": Kind(".mov", "-c:v svq1 -q:v 2 -g 16"),
    "mkv hevc 12 bit": Kind(".mkv", X265.replace("yuv420p", "yuv420p12le")),
    "mkv 4:4:0": Kind(".mkv", "-c:v ffv1 -pix_fmt yuv440p"),
    "mkv 4:1:1": Kind(".mkv", "-c:v ffv1 -pix_fmt yuv411p"),
    "mkv 16 bit grey": Kind(".mkv", "-c:v ffv1 -pix_fmt gray16le"),
    "mkv dirac": Kind(".mkv", "-c:v vc2 -pix_fmt yuv420p -strict -1"),
    "mkv av1 with film grain": Kind(
        ".mkv", "-c:v libaom-av1 -cpu-used 8 -crf 20 -g 16 -aom-params film-grain-test=1 -pix_fmt yuv420p"
    ),
    "mkv rav1e": Kind(".mkv", "-c:v librav1e -speed 10 -qp 40 -g 16 -pix_fmt yuv420p"),
    "webm vp8 alpha": Kind(".webm", "-c:v libvpx -b:v 2M -g 16 -auto-alt-ref 0 -pix_fmt yuva420p"),
    "webm vp9 with hidden frames": Kind(".webm", VP9),
    "webm live, varying rate": Kind(".webm", f"{VARYING} -c:v libvpx -b:v 2M -g 16 -live 1", fps=None),
    "ivf vp9": Kind(".ivf", VP9),
    "flv flashsv": Kind(".flv", "-c:v flashsv"),
    "flv late picture": Kind(".flv", then=late),
    "nut h264": Kind(".nut"),
    "nut late picture": Kind(".nut", then=late),
    "y4m": Kind(".y4m", "-pix_fmt yuv420p"),
    "apng": Kind(".apng", "-plays 1"),
    "rm rv10": Kind(".rm", "-c:v rv10 -q:v 2 -g 16"),
    "rm rv20": Kind(".rm", "-c:v rv20 -q:v 2 -g 16"),
    "3gp h263": Kind(".3gp", "-vf scale=176:144 -c:v h263 -q:v 2 -g 16"),
    "wmv wmv1": Kind(".wmv", f"{MANY.format('wmv1')} -g 16"),
    "asf mpeg4 B-frames": Kind(".asf", f"{MANY.format('mpeg4')} -bf 2", is_delayed=True),
    "mod mpeg2": Kind(".mod", f"{MANY.format('mpeg2video')} -bf 2 -f vob"),
    "wtv mpeg2": Kind(".wtv", f"{MANY.format('mpeg2video')} -bf 2"),
    "swf flv1": Kind(".swf", MANY.format("flv1")),
    "mpg joined": Kind(".mpg", MPEG2, then=joined_of(MPEG2), reads=False),
    "avi joined": Kind(".avi", MANY.format("mpeg4"), then=joined_of(MANY.format("mpeg4"))),
    "1 fps": Kind(".mp4", rate="1", fps=Fraction(1)),
    "0.5 fps": Kind(".mkv", rate="1/2", fps=Fraction(1, 2)),
    "59.94 fps in mkv": Kind(".mkv", rate="60000/1001", fps=Fraction(60000, 1001)),
    "240 fps": Kind(".mp4", rate="240", fps=Fraction(240), num_frames=300),
    "29.97 fps in flv": Kind(".flv", rate="30000/1001", fps=Fraction(30000, 1001)),
    "29.97 fps in avi": Kind(".avi", MJPEG, rate="30000/1001", fps=Fraction(30000, 1001)),
    "mp4 hevc, hev1": Kind(".mp4", f"{X265} -tag:v hev1"),
    "mov hevc, hvc1": Kind(".mov", f"{X265} -tag:v hvc1"),
    "mp4 sound longer than the picture": Kind(".mp4", f"{X264} -c:a aac", extra=TONE),
    "ts sound longer than the picture": Kind(".ts", f"{X264} -c:a mp2", extra=TONE),
    "avi mpeg4 with mp3": Kind(".avi", f"{MANY.format('mpeg4')} -c:a libmp3lame -q:a 5", extra=TONE),
    "ogv theora with vorbis": Kind(".ogv", "-c:v libtheora -q:v 10 -c:a libvorbis", extra=TONE),
    "wmv wmv2 with wmav2": Kind(".wmv", f"{MANY.format('wmv2')} -c:a wmav2", extra=TONE),
    "webm vp9 with opus": Kind(".webm", f"{VP9} -c:a libopus", extra=TONE),
    "mkv attached picture": Kind(".mkv", then=attached_picture),
    "mkv subtitles and an attachment": Kind(".mkv", then=with_subtitles),
    "mp4 subtitles": Kind(".mp4", then=with_subtitles),
    "mov begins before 0": Kind(".mov", f"{X264} -avoid_negative_ts disabled -output_ts_offset -0.5"),
    "mp4 begins before 0": Kind(".mp4", f"{X264} -avoid_negative_ts disabled -output_ts_offset -0.5"),
    "mp4 time base of a prime": Kind(".mp4", f"{X264} -video_track_timescale 90001"),
    "odd size, 4:2:0": Kind(".mkv", "-vf scale=95:63 -c:v ffv1 -pix_fmt yuv420p"),
    "odd size, vp9": Kind(".webm", f"-vf scale=95:63 {VP9}"),
    "odd size, 4:4:4": Kind(".mp4", f"-vf scale=95:63 {X264.replace('yuv420p', 'yuv444p')}"),
    "wide": Kind(".mp4", f"-vf scale=2048:64 {X264}"),
    "h264 bottom field first": Kind(".mp4", f"{X264} -flags +ildct+ilme -x264-params bff=1"),
    "mpeg2 bottom field first": Kind(".mkv", f"{MPEG2} -flags +ildct+ilme -vf setfield=bff"),
    "mov prores interlaced": Kind(".mov", "-c:v prores_ks -pix_fmt yuv422p10le -flags +ildct"),
    "h264 lossless": Kind(".mkv", f"{X264} -qp 0"),
    "h264 zero latency, slices": Kind(".mp4", f"{X264} -tune zerolatency -x264-params slices=4"),
    "h264 many references, pyramid": Kind(".mp4", f"{X264} -refs 8 -bf 8 -x264-params b-pyramid=normal:b-adapt=0"),
    "mkv vp9 10 bit 4:4:4": Kind(".mkv", VP9.replace("yuv420p", "yuv444p10le")),
    "mp4 av1 10 bit": Kind(".mp4", "-c:v libaom-av1 -cpu-used 8 -crf 20 -g 25 -pix_fmt yuv420p10le"),
    "mkv ffvhuff": Kind(".mkv", "-c:v ffvhuff -pix_fmt yuv420p"),
    "mkv mjpeg": Kind(".mkv", MJPEG),
    "mp4 mjpeg": Kind(".mp4", MJPEG),
    "mkv theora": Kind(".mkv", "-c:v libtheora -q:v 10"),
    "mov raw": Kind(".mov", "-c:v rawvideo -pix_fmt uyvy422"),
    "m4v h264": Kind(".m4v"),
    "ismv h264": Kind(".ismv"),
    "gxf mpeg2": Kind(".gxf", "-vf scale=720:576 -c:v mpeg2video -q:v 2 -pix_fmt yuv420p", rate="25", fps=Fraction(25)),
    "dash, its parts joined": Kind(".mp4", then=dash_joined),
    "dash, a part without the first": Kind(".mp4", then=partial(dash_joined, without=1)),
    "hls, its parts joined": Kind(".ts", then=hls_joined),
    "hls, its last parts": Kind(".ts", then=partial(hls_joined, without=1)),
    "mp4 index first": Kind(".mp4", f"{X264} -movflags +faststart"),
    "mp4 varying rate, hevc": Kind(".mp4", f"{VARYING} {X265}", fps=None),
    "webm dropped frames": Kind(".webm", f"{DROPPED} {VP9}", fps=None),
    "ts dropped frames": Kind(".ts", f"{DROPPED} {X264}", fps=None),
    "raw hevc": Kind(".hevc", X265, reads=False),
    "raw mpeg4": Kind(".m4v", f"{MANY.format('mpeg4')} -f m4v", reads=False),
    "raw av1": Kind(".obu", "-c:v libaom-av1 -cpu-used 8 -crf 20 -g 25 -pix_fmt yuv420p", reads=False),
    "raw mjpeg": Kind(".mjpeg", MJPEG, reads=False),
}  # fmt: skip
"""Further kinds, which ``benchmarks.bench_kinds`` judges but no test."""


def make_kind(name: str, folder: Path) -> Path:
    """Write the file of a kind into a folder, unless it is there."""
    kinds = {**KINDS, **MORE_KINDS}
    kind = kinds[name]
    path = folder / f"{list(kinds).index(name)}{kind.suffix}"
    if not path.exists():
        first = path.with_name(f"first-{path.name}") if kind.then else path
        ffmpeg.make(first, kind.options, num_frames=kind.num_frames, rate=kind.rate, extra=kind.extra)
        if kind.then:
            kind.then(first, path)
    return path


shown_of_kind = functools.lru_cache(maxsize=4)(ffmpeg.shown)
"""The tests of one kind of file come one after the other."""


def oracle(name: str, path: Path) -> ffmpeg.Shown:
    """What ffmpeg shows, with times from 0 where it adds the decoder's delay."""
    truth = shown_of_kind(path)
    if not {**KINDS, **MORE_KINDS}[name].is_delayed:
        return truth
    return ffmpeg.Shown([time - truth.times_sec[0] for time in truth.times_sec], truth.frames)


def colour_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The worst channel's mean distance in levels, of frames of one size."""
    distance = np.abs(np.subtract(ours, theirs, dtype=np.int16))
    return max(float(distance[..., channel].mean()) for channel in range(ours.shape[-1]))
