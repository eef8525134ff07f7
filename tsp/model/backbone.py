"""Video encoders: clip in, one feature vector out.

All have a ``stem`` and end in a global average pool, so that any of them can stand for any other. Parameter
names are torchvision's: released checkpoints load here and ours load there.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torchvision.models.video.resnet import (
    BasicBlock,
    Conv2Plus1D,
    R2Plus1dStem,
    VideoResNet,
    r2plus1d_18,
    r3d_18,
)

from tsp.errors import ConfigError

FEATURE_SIZE = 512
"""Length of the clip feature of every encoder here."""


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


class TinyEncoder(nn.Module):
    """A few milliseconds a clip on one CPU core: for the demo, tests and debugging.

    The stem looks at patches of 4x4 pixels and 2 frames; the layers above see textures and motion in them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, 24, kernel_size=(2, 4, 4), stride=(2, 4, 4), bias=False),
            nn.BatchNorm3d(24),
            nn.ReLU(inplace=True),
        )
        self.layer1 = _conv_norm_relu(24, 32)
        self.layer2 = _conv_norm_relu(32, 64)
        self.layer3 = _conv_norm_relu(64, 128, stride=(1, 2, 2))
        self.layer4 = _conv_norm_relu(128, FEATURE_SIZE, kernel_size=1, stride=1)
        self.avgpool = nn.AdaptiveAvgPool3d((1, 1, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        """Features [B, 512] of float clips [B, 3, T, H, W]."""
        maps = self.layer2(self.layer1(self.stem(clips_BCTHW)))
        pooled: Tensor = self.avgpool(self.layer4(self.layer3(maps)))
        return pooled.flatten(1)


def _conv_norm_relu(
    in_planes: int, out_planes: int, *, kernel_size: int = 3, stride: int | tuple[int, int, int] = 2
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(in_planes, out_planes, kernel_size, stride=stride, padding=kernel_size // 2, bias=False),
        nn.BatchNorm3d(out_planes),
        nn.ReLU(inplace=True),
    )


def _without_classifier(network: nn.Module) -> nn.Module:
    network.fc = nn.Identity()
    return network


def _r2plus1d_34() -> nn.Module:
    network = VideoResNet(BasicBlock, [FactorisedConv] * 4, [3, 4, 6, 3], R2Plus1dStem)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps, module.momentum = 1e-3, 0.9  # Caffe2's, with which the published weights were trained
    return _without_classifier(network)


_BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "r2plus1d_34": _r2plus1d_34,
    "r2plus1d_18": lambda: _without_classifier(r2plus1d_18(weights=None)),
    "r3d_18": lambda: _without_classifier(r3d_18(weights=None)),
    "tiny": TinyEncoder,
}

BACKBONES = tuple(_BUILDERS)
"""Names of the encoders that exist."""


def build_backbone(name: str) -> nn.Module:
    """An encoder with random weights: float clips [B, 3, T, H, W] -> features [B, 512].

    Raises: ConfigError for a name that is not one of BACKBONES.
    Source: torchvision's VideoResNet; widths, eps and momentum of r2plus1d_34 as in the IG65M weights.
    """
    if name not in _BUILDERS:
        raise ConfigError(f"unknown backbone {name!r}: use one of {', '.join(BACKBONES)}")
    return _BUILDERS[name]()
