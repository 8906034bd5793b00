"""Residual networks for ImageNet's depths with a stem for small images: four stages, 64 to 512.

``ResNet50`` (capital R) is built of bottlenecks, 1x1 - 3x3 - 1x1; ``ResNet18`` and ``ResNet34`` of
pairs of 3x3 convolutions. ``resnet20`` and its like are another family, in `resnet.py`. The stem is
one 3x3 convolution without pooling. State-dict keys are those of RepDistiller.

Source: He et al. 2016, arXiv:1512.03385, table 1 and figure 5.

Axes: n images, h and w pixels, c classes.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.models._initial import kaiming
from kdprobe.models._residual import ResidualBlock
from kdprobe.models.contract import family
from kdprobe.taps import Tap

CHANNELS = (64, 128, 256, 512)  # inside the blocks of the four stages
BLOCKS = {  # depth -> blocks of each stage
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


class Pair(ResidualBlock):
    """Two 3x3 convolutions around which the input is added."""

    projections, expansion = ("shortcut",), 1

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU(inplace=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module | None = _skip(inputs, channels, stride)
        self.relu2 = nn.ReLU(inplace=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, channels, h / stride, w / stride)."""
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        activated: Tensor = self.relu2(self.joined(out, lambda: _through(self.shortcut, x)))
        return activated


class Bottleneck(ResidualBlock):
    """Channels reduced, convolved and expanded fourfold, around which the input is added."""

    projections, expansion = ("shortcut",), 4

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        outputs = self.expansion * channels
        self.conv1 = nn.Conv2d(inputs, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU(inplace=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU(inplace=False)
        self.conv3 = nn.Conv2d(channels, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module | None = _skip(inputs, outputs, stride)
        self.relu3 = nn.ReLU(inplace=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, 4 channels, h / stride, w / stride)."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn3(self.conv3(self.relu2(self.bn2(self.conv2(out)))))
        activated: Tensor = self.relu3(self.joined(out, lambda: _through(self.shortcut, x)))
        return activated


def _skip(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    return nn.Sequential(projection, nn.BatchNorm2d(outputs))


def _through(shortcut: nn.Module | None, x: Tensor) -> Tensor:
    out: Tensor = x if shortcut is None else shortcut(x)
    return out


class DeepResNet(nn.Module):
    """Stem, four stages, mean over the image, linear layer."""

    upper_parts = ("layer3", "layer4", "avgpool", "linear")

    def __init__(
        self,
        block: type[Pair] | type[Bottleneck],
        blocks: Sequence[int],
        num_classes: int,
        width: int,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=False)
        inputs = width
        for i, count in enumerate(blocks):
            channels = width * CHANNELS[i] // CHANNELS[0]
            outputs = channels * block.expansion
            first = block(inputs, channels, 1 if i == 0 else 2)
            rest = [block(outputs, channels, 1) for _ in range(count - 1)]
            self.add_module(f"layer{i + 1}", nn.Sequential(first, *rest))
            inputs = outputs
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(inputs, num_classes)
        self.taps = {
            "stem": Tap("relu", "post", "conv1"),
            **{f"stage{i}": Tap(f"layer{i}", "post", f"layer{i}") for i in (1, 2, 3, 4)},
            "pooled": Tap("avgpool", "post"),
            "logits": Tap("", "raw", "linear"),
        }
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> (n, c) logits."""
        return self.upper(self.lower(x))

    def lower(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> what the tap stage2 shows."""
        x = self.relu(self.bn1(self.conv1(x)))
        h: Tensor = self.get_submodule("layer2")(self.get_submodule("layer1")(x))
        return h

    def upper(self, h: Tensor) -> Tensor:
        """What the tap stage2 shows -> (n, c) logits."""
        x = self.get_submodule("layer4")(self.get_submodule("layer3")(h))
        logits: Tensor = self.linear(self.avgpool(x).flatten(1))
        return logits


@family(
    "ResNet",
    pattern=r"ResNet(\d+)",
    summary="residual network of four stages, from depth 50 on of bottlenecks; knob: width",
    examples=("ResNet18", "ResNet34", "ResNet50"),
)
def deep_resnet(depth: str, *, num_classes: int, width: int = 64) -> nn.Module:
    """``ResNet50``: 64 channels in the stem, 4 x 64 `width`-fold 1, 2, 4, 8 after the stages."""
    if int(depth) not in BLOCKS:
        known = ", ".join(map(str, BLOCKS))
        raise InputError(
            f"found depth {depth} in 'ResNet{depth}'; wanted one of {known}; take ResNet50, or "
            "resnet56 for a network of three stages"
        )
    if width < 1:
        raise InputError(f"found width {width}; wanted at least 1 channel; the usual width is 64")
    block = Bottleneck if int(depth) >= 50 else Pair
    return DeepResNet(block, BLOCKS[int(depth)], num_classes, width)
