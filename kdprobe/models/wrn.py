"""Wide residual networks: activation before convolution, k times the channels, 6n+4 layers.

The stage outputs are sums *before* normalisation and ReLU, so they hold negative numbers.
State-dict keys are those of RepDistiller, so that its checkpoints load.

Source: Zagoruyko and Komodakis 2016, arXiv:1605.07146, table 1 (blocks B(3,3), no dropout).

Axes: n images, h and w pixels, c classes.
"""

from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.models._initial import kaiming
from kdprobe.models._residual import ResidualBlock
from kdprobe.models.contract import family
from kdprobe.taps import Tap


class PreActivationBlock(ResidualBlock):
    """Norm, ReLU, convolution, twice; where the channels change, a 1x1 convolution is the skip."""

    projections = ("convShortcut",)

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU(inplace=False)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU(inplace=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same = inputs == outputs
        self.convShortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h / stride, w / stride)."""
        active = self.relu1(self.bn1(x))
        out: Tensor = self.conv2(self.relu2(self.bn2(self.conv1(active))))
        return self.joined(out, lambda: self._skipped(x, active))

    def _skipped(self, x: Tensor, active: Tensor) -> Tensor:
        out: Tensor = x if self.convShortcut is None else self.convShortcut(active)
        return out


class Stage(nn.Module):
    """`blocks` blocks in a row; the first one changes channels and size."""

    def __init__(self, inputs: int, outputs: int, blocks: int, stride: int) -> None:
        super().__init__()
        first = PreActivationBlock(inputs, outputs, stride)
        rest = [PreActivationBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
        self.layer = nn.Sequential(first, *rest)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h / stride, w / stride)."""
        out: Tensor = self.layer(x)
        return out


class WideResNet(nn.Module):
    """Stem of 16 channels, three stages of 16k, 32k and 64k, norm, ReLU, mean, linear layer."""

    upper_parts = ("block3", "bn1", "relu", "avgpool", "fc")

    def __init__(self, blocks: int, widening: int, num_classes: int) -> None:
        super().__init__()
        stem, first, second, third = 16, 16 * widening, 32 * widening, 64 * widening
        self.conv1 = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        self.block1 = Stage(stem, first, blocks, 1)
        self.block2 = Stage(first, second, blocks, 2)
        self.block3 = Stage(second, third, blocks, 2)
        self.bn1 = nn.BatchNorm2d(third)
        self.relu = nn.ReLU(inplace=False)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(third, num_classes)
        self.taps = {
            "stem": Tap("conv1", "pre", "conv1"),
            **{f"stage{i}": Tap(f"block{i}", "pre", f"block{i}") for i in (1, 2, 3)},
            "pooled": Tap("avgpool", "post"),
            "logits": Tap("", "raw", "fc"),
        }
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> (n, c) logits."""
        return self.upper(self.lower(x))

    def lower(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> what the tap stage2 shows."""
        h: Tensor = self.block2(self.block1(self.conv1(x)))
        return h

    def upper(self, h: Tensor) -> Tensor:
        """What the tap stage2 shows -> (n, c) logits."""
        x = self.relu(self.bn1(self.block3(h)))
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


@family(
    "wrn",
    pattern=r"wrn_(\d+)_(\d+)",
    summary="wide residual network for small images: wrn_DEPTH_WIDENING, depth 6n+4",
    examples=("wrn_16_1", "wrn_16_2", "wrn_40_1", "wrn_40_2"),
)
def wrn(depth: str, widening: str, *, num_classes: int) -> nn.Module:
    """``wrn_16_2``: 16 layers, twice the channels. Raises InputError unless depth is 6n+4."""
    blocks, rest = divmod(int(depth) - 4, 6)
    if rest or blocks < 1:
        raise InputError(
            f"found depth {depth} in 'wrn_{depth}_{widening}'; wanted 6n+4, n > 0; "
            "take 10, 16, 22, 28 or 40"
        )
    if int(widening) < 1:
        raise InputError(
            f"found widening {widening} in 'wrn_{depth}_{widening}'; wanted at least 1; take 1 or 2"
        )
    return WideResNet(blocks, int(widening), num_classes)
