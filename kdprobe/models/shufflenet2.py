"""Half of the channels pass each block untouched, the other half is convolved; then a shuffle.

``ShuffleV2`` is RepDistiller's, under its keys, with a 1x1 stem for small images. Nothing is added
anywhere: what is kept stands beside what is new.

Source: Ma et al. 2018, arXiv:1807.11164, figure 3 and table 5 (1x).

Axes: n images, h and w pixels, c classes.
"""

import torch
from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.models._initial import kaiming
from kdprobe.models._shuffled import shuffled
from kdprobe.models.contract import family
from kdprobe.taps import Tap

STEM, LAST, BLOCKS = 24, 1024, (3, 7, 3)


class SplitBlock(nn.Module):
    """Second half of the channels: 1x1, depthwise 3x3, 1x1; the first half stays."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.relu1 = nn.ReLU(inplace=False)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.relu2 = nn.ReLU(inplace=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> the same shape."""
        kept, other = x.chunk(2, dim=1)
        other = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(other)))))
        other = self.relu2(self.bn3(self.conv3(other)))
        return shuffled(torch.cat([kept, other], dim=1), 2)


class DownBlock(nn.Module):
    """Two branches of stride 2 over all channels, side by side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.conv1 = nn.Conv2d(inputs, inputs, 3, 2, padding=1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv2 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.relu1 = nn.ReLU(inplace=False)
        self.conv3 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.relu2 = nn.ReLU(inplace=False)
        self.conv4 = nn.Conv2d(half, half, 3, 2, padding=1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)
        self.relu3 = nn.ReLU(inplace=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h / 2, w / 2)."""
        left = self.relu1(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = self.bn4(self.conv4(self.relu2(self.bn3(self.conv3(x)))))
        right = self.relu3(self.bn5(self.conv5(right)))
        return shuffled(torch.cat([left, right], dim=1), 2)


class ShuffleNetV2(nn.Module):
    """Stem, three stages, 1x1 convolution, mean over the image, linear layer."""

    upper_parts = ("layer3", "conv2", "bn2", "relu2", "avgpool", "linear")

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.relu1 = nn.ReLU(inplace=False)
        self.layer1 = _stage(STEM, width, BLOCKS[0])
        self.layer2 = _stage(width, 2 * width, BLOCKS[1])
        self.layer3 = _stage(2 * width, 4 * width, BLOCKS[2])
        self.conv2 = nn.Conv2d(4 * width, LAST, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(LAST)
        self.relu2 = nn.ReLU(inplace=False)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(LAST, num_classes)
        self.taps = {
            "stem": Tap("relu1", "post", "conv1"),
            **{f"stage{i}": Tap(f"layer{i}", "post", f"layer{i}") for i in (1, 2, 3)},
            "pooled": Tap("avgpool", "post", "conv2"),
            "logits": Tap("", "raw", "linear"),
        }
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> (n, c) logits."""
        return self.upper(self.lower(x))

    def lower(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> what the tap stage2 shows."""
        h: Tensor = self.layer2(self.layer1(self.relu1(self.bn1(self.conv1(x)))))
        return h

    def upper(self, h: Tensor) -> Tensor:
        """What the tap stage2 shows -> (n, c) logits."""
        x = self.relu2(self.bn2(self.conv2(self.layer3(h))))
        logits: Tensor = self.linear(self.avgpool(x).flatten(1))
        return logits


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(DownBlock(inputs, outputs), *(SplitBlock(outputs) for _ in range(blocks)))


@family(
    "ShuffleV2",
    pattern="ShuffleV2",
    summary="half of the channels kept, half convolved, then shuffled; knob: width",
    examples=("ShuffleV2",),
)
def shufflenet2(*, num_classes: int, width: int = 116) -> nn.Module:
    """`width` is the channels of stage 1; stages 2 and 3 have 2x and 4x as many.

    Raises:
        InputError: a width that cannot be halved.
    """
    if width < 2 or width % 2:
        raise InputError(f"found width {width}; wanted an even number; the usual width is 116")
    return ShuffleNetV2(num_classes, width)
