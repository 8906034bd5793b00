"""Chains of 3x3 convolutions with batch norm: five blocks, then one linear layer.

Made for 32-pixel images: max-pooling after the first three blocks, after the fourth only for
images of 64 pixels or more. State-dict keys are those of RepDistiller, so that its checkpoints
load; these are not the ImageNet nets of the same name, which end in three linear layers.

Source: Simonyan and Zisserman 2015, arXiv:1409.1556, table 1 (A, B, D, E); vgg8 has one
convolution a block.

Axes: n images, h and w pixels, c classes.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.models._initial import kaiming
from kdprobe.models.contract import family
from kdprobe.taps import Tap

TIMES = (1, 2, 4, 8, 8)  # the width, in each of the five blocks
CONVOLUTIONS = {  # depth -> how many each block has
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


class VGG(nn.Module):
    """Five blocks of `convolutions` convolutions; each ends in a ReLU module of its own."""

    upper_parts = (
        "pool1",
        *(f"{part}{i}" for i in (2, 3, 4) for part in ("block", "relu", "pool")),
        "classifier",
    )

    def __init__(self, convolutions: Sequence[int], num_classes: int, *, width: int = 64) -> None:
        super().__init__()
        channels = [width * times for times in TIMES]
        inputs = (3, *channels)
        for i, count in enumerate(convolutions):
            self.add_module(f"block{i}", _block(inputs[i], channels[i], count))
            self.add_module(f"relu{i}", nn.ReLU(inplace=False))
            self.add_module(f"pool{i}", nn.AdaptiveAvgPool2d(1) if i == 4 else nn.MaxPool2d(2))
        self.classifier = nn.Linear(channels[-1], num_classes)
        self.taps = {
            **{f"stage{i + 1}": Tap(f"relu{i}", "post", f"block{i}") for i in range(5)},
            "pooled": Tap("pool4", "post"),
            "logits": Tap("", "raw", "classifier"),
        }
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> (n, c) logits."""
        return self.upper(self.lower(x))

    def lower(self, x: Tensor) -> Tensor:
        """(n, 3, h, w) -> what the tap stage2 shows, of half the size."""
        return self._convolved(self.get_submodule("pool0")(self._convolved(x, 0)), 1)

    def upper(self, h: Tensor) -> Tensor:
        """What the tap stage2 shows -> (n, c) logits."""
        small = h.shape[2] < 32  # images of less than 64 pixels
        x = self.get_submodule("pool1")(h)
        for i in (2, 3, 4):
            x = self._convolved(x, i)
            if not (i == 3 and small):
                x = self.get_submodule(f"pool{i}")(x)
        logits: Tensor = self.classifier(x.flatten(1))
        return logits

    def _convolved(self, x: Tensor, i: int) -> Tensor:
        out: Tensor = self.get_submodule(f"relu{i}")(self.get_submodule(f"block{i}")(x))
        return out


def _block(inputs: int, outputs: int, count: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(count):
        source = outputs if i else inputs
        layers += [nn.Conv2d(source, outputs, 3, padding=1), nn.BatchNorm2d(outputs)]
        layers += [nn.ReLU(inplace=False)]
    return nn.Sequential(*layers[:-1])


@family(
    "vgg",
    pattern=r"vgg(\d+)",
    summary="chain of convolutions with batch norm and one linear layer; knob: width",
    examples=tuple(f"vgg{depth}" for depth in CONVOLUTIONS),
)
def vgg(depth: str, *, num_classes: int, width: int = 64) -> nn.Module:
    """``vgg8``: eight layers with weights, if its one linear layer counts as three.

    `width` is the channels of the first block; the others have 2, 4, 8 and 8 times as many.
    """
    if int(depth) not in CONVOLUTIONS:
        known = ", ".join(map(str, CONVOLUTIONS))
        raise InputError(f"found depth {depth} in 'vgg{depth}'; wanted one of {known}; take vgg8")
    if width < 1:
        raise InputError(f"found width {width}; wanted at least 1 channel; the usual width is 64")
    return VGG(CONVOLUTIONS[int(depth)], num_classes, width=width)
