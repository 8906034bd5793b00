"""Grouped 1x1 convolutions whose channels are shuffled between, around a depthwise 3x3.

``ShuffleV1`` is RepDistiller's, under its keys: three groups, a 1x1 stem for small images. The
first block of a stage joins its averaged input to its branch side by side; the others add it.

Source: Zhang et al. 2018, arXiv:1707.01083, figure 2 and table 1 (g = 3).

Axes: n images, h and w pixels, c classes.
"""

import torch
from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.models._initial import kaiming
from kdprobe.models._residual import ResidualBlock
from kdprobe.models._shuffled import shuffled
from kdprobe.models.contract import family
from kdprobe.taps import Tap

STEM, GROUPS, BLOCKS = 24, 3, (4, 8, 4)


class ShuffleUnit(ResidualBlock):
    """1x1 to a quarter of the channels, shuffle, depthwise 3x3, 1x1; then the input joins."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner, self.groups = outputs // 4, 1 if inputs == STEM else GROUPS
        self.conv1 = nn.Conv2d(inputs, inner, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.relu1 = nn.ReLU(inplace=False)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU(inplace=False)
        self.conv3 = nn.Conv2d(inner, outputs, 1, groups=GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else nn.Identity()
        self.relu3 = nn.ReLU(inplace=False)
        self.skips = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h, w), or with stride 2 (n, outputs + inputs, ...)."""
        out = shuffled(self.relu1(self.bn1(self.conv1(x))), self.groups)
        out = self.bn3(self.conv3(self.relu2(self.bn2(self.conv2(out)))))
        if isinstance(self.shortcut, nn.AvgPool2d):
            out = torch.cat([out, self.shortcut(x)], dim=1)
        activated: Tensor = self.relu3(self.joined(out, lambda: x))
        return activated


class ShuffleNetV1(nn.Module):
    """Stem, three stages, mean over the image, linear layer."""

    upper_parts = ("layer3", "avgpool", "linear")

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.relu = nn.ReLU(inplace=False)
        self.layer1 = _stage(STEM, width, BLOCKS[0])
        self.layer2 = _stage(width, 2 * width, BLOCKS[1])
        self.layer3 = _stage(2 * width, 4 * width, BLOCKS[2])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(4 * width, num_classes)
        self.taps = {
            "stem": Tap("relu", "post", "conv1"),
            **{f"stage{i}": Tap(f"layer{i}", "post", f"layer{i}") for i in (1, 2, 3)},
            "pooled": Tap("avgpool", "post"),
            "logits": Tap("", "raw", "linear"),
        }
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> (n, c) logits."""
        return self.upper(self.lower(x))

    def lower(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> what the tap stage2 shows."""
        h: Tensor = self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x)))))
        return h

    def upper(self, h: Tensor) -> Tensor:
        """What the tap stage2 shows -> (n, c) logits."""
        logits: Tensor = self.linear(self.avgpool(self.layer3(h)).flatten(1))
        return logits


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    first = ShuffleUnit(inputs, outputs - inputs, 2)
    return nn.Sequential(first, *(ShuffleUnit(outputs, outputs, 1) for _ in range(blocks - 1)))


@family(
    "ShuffleV1",
    pattern="ShuffleV1",
    summary="shuffled groups of channels and depthwise convolutions; knob: width",
    examples=("ShuffleV1",),
)
def shufflenet1(*, num_classes: int, width: int = 240) -> nn.Module:
    """`width` is the channels of stage 1; stages 2 and 3 have 2x and 4x as many.

    Raises:
        InputError: a width whose quarter the three groups cannot share.
    """
    if width < 36 or width % 12:
        raise InputError(
            f"found width {width}; wanted a multiple of 12, from 36 on; the usual width is 240"
        )
    return ShuffleNetV1(num_classes, width)
