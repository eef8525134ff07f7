"""The encoder for inference, as fast as possible with features close to fp32's."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from tsp.config.run import Precision
from tsp.errors import GpuMemoryError
from tsp.model.backbone import build_backbone
from tsp.model.device import use_exact_fp32
from tsp.model.gpu_errors import is_out_of_memory
from tsp.model.weights import load_encoder, recognise

logger = logging.getLogger(__name__)

MIN_COSINE = 0.9999
"""Features in another precision must be at least this close to those in fp32."""
SAFE_COSINE = 0.99995
"""Half the allowed error: required of a few probe clips so that the rest stays within it."""
NUM_PROBE_CLIPS = 4

_DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_GPU_ORDER: tuple[Precision, ...] = ("fp16", "bf16", "fp32")
"""fp16 first: as fast as bf16 and eight times as precise; batch norm keeps activations far from its range limits."""
_CPU_ORDER: tuple[Precision, ...] = ("fp32",)
"""On CPUs fp16 is slow, and bf16 is four times as fast but only reaches a cosine of 0.9995."""


def load_backbone(content: Mapping[str, Any], backbone: str | None, *, where: str) -> tuple[str, nn.Module]:
    """The encoder of a checkpoint, of ours or of the original code, and its name.

    Args: backbone, None to read it off the checkpoint.
    Raises: ConfigError if it is no checkpoint or fits no backbone.
    """
    name = backbone or recognise(content, where=where)
    holder = nn.Module()
    holder.features = build_backbone(name)
    load_encoder(holder, content, where=where)
    return name, holder.features


class Encoder:
    """Clips in, features out, in the requested precision or one that is accurate enough.

    Batch norms are folded into the convolutions before them. ``calibrate`` settles the precision on real clips.
    """

    def __init__(self, network: nn.Module, device: torch.device, precision: Precision = "auto") -> None:
        use_exact_fp32()
        self.device = device
        self._exact = _fold(network).to(device)
        if precision == "auto":
            self._candidates = _GPU_ORDER if device.type == "cuda" else _CPU_ORDER
        else:
            self._candidates = (precision,)
        self._use(self._candidates[0])
        self.cosine: float | None = None
        """Lowest cosine similarity with fp32 among the probe clips; None in fp32."""
        self.max_batch: int | None = None
        """Largest batch that fits the device's memory, known once one did not."""

    def _use(self, precision: Precision) -> None:
        """Set the network up in a precision."""
        self.precision = precision
        self.dtype = _DTYPES[precision]
        # Channels-last is faster everywhere except in fp32 on a CPU.
        is_plain = self.device.type == "cpu" and precision == "fp32"
        self._layout = torch.contiguous_format if is_plain else torch.channels_last_3d
        self._network = self._exact
        if not is_plain:
            self._network = copy.deepcopy(self._exact).to(self.dtype).to(memory_format=self._layout)

    @torch.inference_mode()
    def calibrate(self, clips_BCTHW: Tensor) -> None:
        """Choose the precision by the first clips: with ``auto``, the first one that is close enough to fp32.

        Args: clips_BCTHW, float32, normalised, on the device.
        """
        clips = clips_BCTHW[:NUM_PROBE_CLIPS].contiguous()
        exact = self._exact(clips) if self._candidates != ("fp32",) else clips
        for precision in self._candidates:
            self._use(precision)
            self.cosine = None if precision == "fp32" else self._cosine(clips, exact)
            if self.cosine is None or self.cosine >= SAFE_COSINE:
                return
        if self.cosine is not None and self.cosine < MIN_COSINE:
            logger.warning("--precision auto would choose a precision that is close enough to fp32")

    def _cosine(self, clips: Tensor, exact: Tensor) -> float:
        """Least cosine similarity of the clips' features with the exact ones; -1 where they overflow."""
        features = self._network(clips.to(self.dtype).contiguous(memory_format=self._layout)).float()
        cosine = float(torch.cosine_similarity(exact, features).nan_to_num(-1.0).min())
        logger.info("%s: cosine similarity with fp32 is at least %.6f", self.precision, cosine)
        return cosine

    @torch.inference_mode()
    def __call__(self, clips_BCTHW: Tensor) -> Tensor:
        """Features float32 [B, 512] on the device, of clips [B, 3, T, H, W] in ``dtype``.

        A batch that does not fit into the device's memory is halved.
        Raises: GpuMemoryError if not even one clip fits.
        """
        num_clips = len(clips_BCTHW)
        if self.max_batch is None or num_clips <= self.max_batch:
            try:
                features: Tensor = self._network(clips_BCTHW.contiguous(memory_format=self._layout)).float()
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if num_clips == 1:
                    raise GpuMemoryError(f"a single clip does not fit on {self.device}: free its memory") from error
                self.max_batch = num_clips // 2
                logger.warning(
                    "a batch of %d does not fit on %s: continuing with %d", num_clips, self.device, self.max_batch
                )
            else:
                return features
        step = self.max_batch
        return torch.cat([self(clips_BCTHW[begin : begin + step]) for begin in range(0, num_clips, step)])

    @torch.inference_mode()
    def exact(self, clips_BCTHW: Tensor) -> Tensor:
        """Features in fp32, for clips whose features overflowed; slower."""
        clips = clips_BCTHW.float().contiguous()
        return torch.cat([self._exact(clips[index : index + 1]) for index in range(len(clips))])


def _fold(network: nn.Module) -> nn.Module:
    """A copy for inference whose batch norms are part of the convolutions before them.

    In all encoders here the two are neighbours in (nested) sequences.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    folded: set[nn.Module] = set()
    for sequence in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for conv, norm in pairwise(_leaves(sequence)):
            if isinstance(conv, nn.Conv3d) and isinstance(norm, nn.BatchNorm3d) and norm not in folded:
                _fold_pair(conv, norm)
                folded.add(norm)
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if child in folded:
                setattr(parent, name, nn.Identity())
    return network


def _leaves(sequence: nn.Sequential) -> Iterator[nn.Module]:
    for child in sequence.children():
        if isinstance(child, nn.Sequential):
            yield from _leaves(child)
        else:
            yield child


def _fold_pair(conv: nn.Conv3d, norm: nn.BatchNorm3d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
