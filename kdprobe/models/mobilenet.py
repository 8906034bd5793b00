"""Inverted residuals: channels expanded, filtered each by itself, and projected without ReLU.

``MobileNetV2`` is RepDistiller's, under its keys: half the channels, expansion 6, a stem of stride
2, made for images of 32 pixels. Other zoos have another network of this name. The stage outputs
are linear projections, so they hold negative numbers.

Source: Sandler et al. 2018, arXiv:1801.04381, tables 1 and 2.

Axes: n images, h and w pixels, c classes.
"""

from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.models._initial import kaiming
from kdprobe.models._residual import ResidualBlock
from kdprobe.models.contract import family
from kdprobe.taps import Tap

EXPANSION, LAST = 6, 1280
GROUPS = (  # expanded, channels at width 1, blocks, stride
    (False, 16, 1, 1),
    (True, 24, 2, 1),
    (True, 32, 3, 2),
    (True, 64, 4, 2),
    (True, 96, 3, 1),
    (True, 160, 3, 2),
    (True, 320, 1, 1),
)
STAGES = (1, 2, 4, 6)  # the groups that the taps show


def _activated(inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=False)]


class InvertedResidual(ResidualBlock):
    """Expansion, depthwise 3x3, projection; the input is added where shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.conv = nn.Sequential(
            *_activated(inputs, inner, 1, 1, 1),
            *_activated(inner, inner, 3, stride, inner),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h / stride, w / stride)."""
        return self.joined(self.conv(x), lambda: x)


class MobileNetV2(nn.Module):
    """Stem, seven groups of inverted residuals, 1x1 convolution, mean, linear layer."""

    upper_parts = ("blocks.3", "blocks.4", "blocks.5", "blocks.6", "conv2", "avgpool", "classifier")

    def __init__(self, num_classes: int, width: float) -> None:
        super().__init__()
        inputs = int(32 * width)
        self.conv1 = nn.Sequential(*_activated(3, inputs, 3, 2, 1))
        self.blocks = nn.ModuleList()
        for expanded, channels, count, stride in GROUPS:
            outputs, expansion = int(channels * width), EXPANSION if expanded else 1
            first = InvertedResidual(inputs, outputs, stride, expansion)
            rest = [InvertedResidual(outputs, outputs, 1, expansion) for _ in range(count - 1)]
            self.blocks.append(nn.Sequential(first, *rest))
            inputs = outputs
        last = max(LAST, int(LAST * width))
        self.conv2 = nn.Sequential(*_activated(inputs, last, 1, 1, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(last, num_classes))
        paths = {f"stage{i + 1}": f"blocks.{group}" for i, group in enumerate(STAGES)}
        self.taps = {
            "stem": Tap("conv1", "post", "conv1"),
            **{name: Tap(path, "raw", path) for name, path in paths.items()},
            "pooled": Tap("avgpool", "post", "conv2"),
            "logits": Tap("", "raw", "classifier"),
        }
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> (n, c) logits."""
        return self.upper(self.lower(x))

    def lower(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> what the tap stage2 shows."""
        x = self.conv1(x)
        for group in self.blocks[:3]:
            x = group(x)
        return x

    def upper(self, h: Tensor) -> Tensor:
        """What the tap stage2 shows -> (n, c) logits."""
        for group in self.blocks[3:]:
            h = group(h)
        logits: Tensor = self.classifier(self.avgpool(self.conv2(h)).flatten(1))
        return logits


@family(
    "MobileNetV2",
    pattern="MobileNetV2",
    summary="inverted residuals with depthwise convolutions, stem of stride 2; knob: width",
    examples=("MobileNetV2",),
)
def mobilenet(*, num_classes: int, width: float = 0.5) -> nn.Module:
    """`width` multiplies all channels but those of the last convolution, which stay 1280 or more.

    Raises:
        InputError: so small a width that a group has no channel.
    """
    if int(16 * width) < 1:
        raise InputError(f"found width {width}; wanted at least 1/16; the usual width is 0.5")
    return MobileNetV2(num_classes, width)
