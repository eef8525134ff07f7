"""The clips that a checkpoint was trained on: another length, rate or size of picture gives other features."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tsp.config.codec import from_dict
from tsp.config.run import ClipConfig
from tsp.errors import ConfigError
from tsp.model.weights import training_args

_SEEN = ("length_frames", "rate_fps", "resize_height_px", "resize_width_px", "crop_px")


def trained_clips(content: Mapping[str, Any]) -> ClipConfig | None:
    """As the checkpoint of ours or of the original code says; None if it says nothing that can be used."""
    args = training_args(content)
    try:
        if "tspctl_config" in args:
            return from_dict(ClipConfig, json.loads(args["tspctl_config"])["clips"])
        return ClipConfig(length_frames=args["clip_len"], rate_fps=float(args["frame_rate"]))
    except (ConfigError, KeyError, TypeError, ValueError):
        return None


def other_settings(clips: ClipConfig, trained: ClipConfig) -> list[str]:
    """Settings of what the encoder sees that its training had otherwise, with the training's values."""
    return [
        f"clips.{name}={getattr(trained, name)}" for name in _SEEN if getattr(clips, name) != getattr(trained, name)
    ]
