"""The published encoders, built from torchvision's blocks, without their classifiers."""

from __future__ import annotations

from torch import nn
from torchvision.models import video
from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, R2Plus1dStem, VideoResNet


class FactorisedConv(Conv2Plus1D):  # type: ignore[misc]
    """R(2+1)D convolution whose own ends decide its width in the middle, as in the IG65M networks.

    torchvision takes the block's width for both convolutions of a block; the 34-layer weights were made with this rule.
    """

    def __init__(self, in_planes: int, out_planes: int, midplanes: int, stride: int = 1, padding: int = 1) -> None:
        del midplanes  # the block's; see above
        super().__init__(in_planes, out_planes, _midplanes(in_planes, out_planes), stride, padding)


def _midplanes(in_planes: int, out_planes: int) -> int:
    """Channels between the spatial and the temporal part, so that both together cost what a 3x3x3 convolution does."""
    return in_planes * out_planes * 27 // (in_planes * 9 + 3 * out_planes)


def r2plus1d_34() -> nn.Module:
    """R(2+1)D-34: 63,491,975 parameters.

    Source: the IG65M + Kinetics weights: layers 3-4-6-3, eps and momentum of Caffe2's batch norm.
    """
    network = VideoResNet(BasicBlock, [FactorisedConv] * 4, [3, 4, 6, 3], R2Plus1dStem)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps, module.momentum = 1e-3, 0.9
    return _without_classifier(network)


def r2plus1d_18() -> nn.Module:
    """torchvision's R(2+1)D-18."""
    return _without_classifier(video.r2plus1d_18(weights=None))


def r3d_18() -> nn.Module:
    """torchvision's R3D-18."""
    return _without_classifier(video.r3d_18(weights=None))


def _without_classifier(network: nn.Module) -> nn.Module:
    network.fc = nn.Identity()
    return network
