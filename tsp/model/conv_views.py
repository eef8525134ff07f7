"""The factorised convolutions of R(2+1)D computed as 2-D ones, on views of the same memory.

In channels-last order a clip is stored frame by frame, pixel by pixel, with the channels innermost. A (1, k, k)
convolution over [B, C, T, H, W] is then a k x k one over B * T images, and a (k, 1, 1) one is k x 1 over images of T
rows and H * W columns: nothing is copied, weights keep their shapes and names, and libraries often have faster kernels
for two dimensions than for three.

In fp32 on the CPU, outputs and input gradients equal those of Conv3d bit for bit in every layer that torch also
computes with oneDNN in three dimensions. It uses its own loops where it expects them to be faster (a single clip of few
pixels, or a (k, 1, 1) convolution with stride 1 on one thread and fewer than 16 clips); then sums are added in another
order. Weight gradients of (1, k, k) are equal on one thread; on several, and for (k, 1, 1), oneDNN splits the sum over
images differently, so the last bits differ. They may also differ in input gradients of strided layers over images of 4
x 4 pixels or fewer, for which oneDNN chooses another blocking.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from tsp.config.run import Conv2d


class ViewConv3d(nn.Conv3d):
    """A Conv3d whose kernel is flat in time or in space."""

    def forward(self, input: Tensor) -> Tensor:  # torch's name
        """As Conv3d: [B, C, T, H, W] to [B, out, T', H', W']."""
        batch, _, frames, height, width = input.shape
        if self.kernel_size[0] == 1:
            images = input.transpose(1, 2).flatten(0, 1)
            maps = functional.conv2d(
                images, self.weight.squeeze(2), self.bias, _pair(self.stride[1:]), _pair(self.padding[1:])
            )
            return maps.view(batch, frames, *maps.shape[1:]).transpose(1, 2)
        images = input.flatten(3)
        maps = functional.conv2d(
            images, self.weight.squeeze(3), self.bias, (self.stride[0], 1), (int(self.padding[0]), 0)
        )
        return maps.view(*maps.shape[:3], height, width)


def _pair(values: tuple[int, ...] | str) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def convolve_on_views(features: nn.Module, which: Conv2d) -> int:
    """Compute an encoder's factorised convolutions as 2-D ones; returns their number.

    Args: which, ``spatial`` for (1, k, k) alone, ``all`` for (k, 1, 1) too, ``off``.
    Modules, parameters and their names stay.
    """
    wanted = {"off": (), "spatial": (_is_spatial,), "all": (_is_spatial, _is_temporal)}[which]
    convs = [module for module in features.modules() if type(module) is nn.Conv3d and _is_plain(module)]
    found = [conv for conv in convs if any(fits(conv) for fits in wanted)]
    for module in found:
        module.__class__ = ViewConv3d
    return len(found)


def _is_plain(conv: nn.Conv3d) -> bool:
    is_dense = conv.groups == 1 and all(step == 1 for step in conv.dilation)
    return is_dense and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def _is_spatial(conv: nn.Conv3d) -> bool:
    return (conv.kernel_size[0], conv.stride[0], conv.padding[0]) == (1, 1, 0) and conv.kernel_size[1] > 1


def _is_temporal(conv: nn.Conv3d) -> bool:
    flat = ((1, 1), (1, 1), (0, 0))
    return (conv.kernel_size[1:], conv.stride[1:], conv.padding[1:]) == flat and conv.kernel_size[0] > 1
