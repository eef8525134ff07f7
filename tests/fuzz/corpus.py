"""Sound files of every kind that is read, to be damaged: twelve containers, tables, JSON, H5 and checkpoints."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import av
import h5py
import numpy as np
import torch

from tests.data.video.field_coded import write_field_coded
from tests.videos import Made, numbered_frame, write_video
from tsp.data.video.training_copy import write_training_copy

NUM_FRAMES, WIDTH, HEIGHT = 48, 64, 48
CONTAINERS = {
    "mp4": "libx264", "mov": "libx264", "mkv": "libx264", "webm": "libvpx", "avi": "mpeg4", "ts": "libx264",
    "flv": "flv", "mpg": "mpeg2video", "wmv": "wmv2", "3gp": "libx264", "ogv": "libvpx", "m2ts": "mpeg2video",
}  # fmt: skip


def write_corpus(folder: Path) -> list[tuple[str, Path]]:
    """Write one file or more of each kind; returns (kind, path)."""
    files = [("video", _video(folder / f"v.{suffix}", codec)) for suffix, codec in CONTAINERS.items()]
    write_field_coded(folder / "fields.ts", NUM_FRAMES, apart=True)
    files.append(("video", folder / "fields.ts"))
    source = write_video(folder / "source.mp4", Made(num_frames=NUM_FRAMES, width=WIDTH, height=HEIGHT, audio=True))
    files.append(("video", source))
    for copy_format in ("mjpeg", "raw"):
        write_training_copy(
            source, folder / f"{copy_format}.mov", height_px=HEIGHT, width_px=WIDTH, copy_format=copy_format
        )
        files.append(("video", folder / f"{copy_format}.mov"))
    files += [("metadata", _metadata(folder)), ("ground truth", _ground_truth(folder)), ("thumos text", _text(folder))]
    files += [("label map", _labels(folder)), ("activitynet", _activitynet(folder))]
    files += [("h5", _h5(folder)), ("checkpoint", _checkpoint(folder, zipped=True))]
    files.append(("checkpoint", _checkpoint(folder, zipped=False)))
    return files


def _video(path: Path, codec: str) -> Path:
    with av.open(str(path), "w", format="mpegts" if path.suffix in (".ts", ".m2ts") else None) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(NUM_FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(number, WIDTH, HEIGHT))))
        container.mux(stream.encode())
    return path


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _metadata(folder: Path) -> Path:
    rows = "".join(f"v_{number}é.mp4,{number + 2}.5,30.0,{30 * number + 75}\n" for number in range(20))
    return _written(folder / "m.csv", f"filename,video-duration,fps,video-frames\n{rows}")


def _ground_truth(folder: Path) -> Path:
    header = "video-name,t-start,t-end,action-label,video-duration,filename,fps,video-frames,temporal-region-label\n"
    rows = "".join(
        f'v{number},{number},{number + 2},Run,30.0,"v{number}.mp4",30.0,900,Action\n' for number in range(20)
    )
    return _written(folder / "g.csv", header + rows)


def _text(folder: Path) -> Path:
    return _written(
        folder / "Diving_val.txt", "".join(f"video_{number}  {number}.0 {number}.5\n" for number in range(20))
    )


def _labels(folder: Path) -> Path:
    return _written(folder / "l.json", json.dumps(["Run", "Jump", "Sprüng", "No action"]))


def _activitynet(folder: Path) -> Path:
    entry = {"subset": "training", "duration": 9.5, "annotations": [{"segment": [1.5, 4.0], "label": "Run"}]}
    return _written(folder / "a.json", json.dumps({"version": "1", "database": {f"v{n}": entry for n in range(5)}}))


def _h5(folder: Path) -> Path:
    with h5py.File(folder / "f.h5", "w") as file:
        for number in range(4):
            values = np.random.default_rng(number).random(512, np.float32)
            file.create_dataset(f"v{number}", data=values, compression="gzip" if number % 2 else None)
        file["link"] = h5py.SoftLink("/v0")
    return folder / "f.h5"


def _checkpoint(folder: Path, *, zipped: bool) -> Path:
    path = folder / f"{'new' if zipped else 'old'}.pth"
    model = torch.nn.Linear(8, 4).state_dict()
    content = {"model": model, "epoch": 3, "args": argparse.Namespace(lr=0.1, names=["a"])}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path
