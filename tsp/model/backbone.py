"""Video encoders: clip in, one feature vector out.

All have a ``stem`` and end in a global average pool, so they are interchangeable. Parameter names are torchvision's, so
checkpoints can be exchanged in both directions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from tsp.errors import ConfigError

FEATURE_SIZE = 512
"""Length of the clip feature of every encoder here."""


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


def _published(name: str) -> nn.Module:
    # torchvision takes seconds to import, which the tiny encoder need not wait for
    from tsp.model import video_resnet

    builder: Callable[[], nn.Module] = getattr(video_resnet, name)
    return builder()


_BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "r2plus1d_34": partial(_published, "r2plus1d_34"),
    "r2plus1d_18": partial(_published, "r2plus1d_18"),
    "r3d_18": partial(_published, "r3d_18"),
    "tiny": TinyEncoder,
}

BACKBONES = tuple(_BUILDERS)
"""Names of the encoders that exist."""


def build_backbone(name: str) -> nn.Module:
    """An encoder with random weights: float clips [B, 3, T, H, W] -> features [B, 512].

    Raises: ConfigError for a name that is not one of BACKBONES.
    """
    if name not in _BUILDERS:
        raise ConfigError(f"unknown backbone {name!r}: use one of {', '.join(BACKBONES)}")
    return _BUILDERS[name]()
