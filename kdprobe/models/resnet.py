"""Residual networks for small images: a stem, three stages of 2n convolutions, 6n+2 layers.

``resnet8x4`` has four times the channels of ``resnet8`` in its stages, and twice in its stem.
State-dict keys are those of RepDistiller, so that its checkpoints load.

Source: He et al. 2016, arXiv:1512.03385, section 4.2; option B (projection) shortcuts.

Axes: n images, d channels, h and w pixels, c classes.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.models._initial import kaiming
from kdprobe.models._residual import ResidualBlock
from kdprobe.models.contract import family
from kdprobe.taps import Tap


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions around which the input is added, unless `residual` is False."""

    projections = ("downsample",)

    def __init__(self, inputs: int, outputs: int, stride: int, residual: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU(inplace=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = _skip(inputs, outputs, stride) if residual else None
        self.skips = residual
        self.relu2 = nn.ReLU(inplace=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h / stride, w / stride)."""
        out: Tensor = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        activated: Tensor = self.relu2(self.joined(out, lambda: self._skipped(x)))
        return activated

    def _skipped(self, x: Tensor) -> Tensor:
        out: Tensor = x if self.downsample is None else self.downsample(x)
        return out


def _skip(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    return nn.Sequential(projection, nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """Stem, three stages of `blocks` blocks, mean over the image, linear layer.

    `filters` are the channels of the stem and of the three stages.
    """

    upper_parts = ("layer3", "avgpool", "fc")

    def __init__(
        self, blocks: int, filters: Sequence[int], num_classes: int, *, residual: bool = True
    ) -> None:
        super().__init__()
        stem, first, second, third = filters
        self.conv1 = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=False)
        self.layer1 = _stage(stem, first, blocks, 1, residual)
        self.layer2 = _stage(first, second, blocks, 2, residual)
        self.layer3 = _stage(second, third, blocks, 2, residual)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(third, num_classes)
        self.taps = {
            "stem": Tap("relu", "post", "conv1"),
            **{f"stage{i}": Tap(f"layer{i}", "post", f"layer{i}") for i in (1, 2, 3)},
            "pooled": Tap("avgpool", "post"),
            "logits": Tap("", "raw", "fc"),
        }
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> (n, c) logits."""
        return self.upper(self.lower(x))

    def lower(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> what the tap stage2 shows."""
        x = self.relu(self.bn1(self.conv1(x)))
        h: Tensor = self.layer2(self.layer1(x))
        return h

    def upper(self, h: Tensor) -> Tensor:
        """What the tap stage2 shows -> (n, c) logits."""
        logits: Tensor = self.fc(self.avgpool(self.layer3(h)).flatten(1))
        return logits


def _stage(inputs: int, outputs: int, blocks: int, stride: int, residual: bool) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride, residual)
    rest = [BasicBlock(outputs, outputs, 1, residual) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


def blocks_per_stage(name: str, depth: int) -> int:
    """The n of a depth 6n+2. Raises InputError for another depth; `name` is the network's."""
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise InputError(
            f"found depth {depth} in {name!r}; wanted 6n+2, n > 0; take 8, 14, 20, 32, 56 or 110"
        )
    return blocks


def stage_filters(width: int, x4: bool) -> tuple[int, int, int, int]:
    """Channels of the stem and three stages. Raises InputError when `width` is not positive."""
    if width < 1:
        raise InputError(f"found width {width}; wanted at least 1 channel; the usual width is 16")
    stem, stage = (2 * width, 4 * width) if x4 else (width, width)
    return stem, stage, 2 * stage, 4 * stage


@family(
    "resnet",
    pattern=r"resnet(\d+)(x4)?",
    summary="residual network for small images, depth 6n+2; knob: width",
    examples=(
        *(f"resnet{depth}" for depth in (8, 14, 20, 32, 44, 56, 110)),
        "resnet8x4",
        "resnet32x4",
    ),
)
def resnet(depth: str, x4: str | None = None, *, num_classes: int, width: int = 16) -> nn.Module:
    """``resnet20``: channels `width` (stem and stage 1), 2x and 4x `width`; x4: see the module."""
    blocks = blocks_per_stage(f"resnet{depth}{x4 or ''}", int(depth))
    return ResNet(blocks, stage_filters(width, bool(x4)), num_classes)
