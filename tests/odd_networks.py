"""Networks of strangers, each odd in its own way, and small images and sequences for them."""

import torch
from torch import Tensor, nn
from torch.nn.functional import relu_, scaled_dot_product_attention
from torch.nn.utils.parametrizations import weight_norm

from kdprobe.datasets.contract import Images

SIDE, CLASSES, COUNT, TOKENS, WIDTH = 16, 3, 36, 9, 4


def pictures(split: str) -> Images:
    """Noise, and a square whose colour is the class."""
    chance = torch.Generator().manual_seed(len(split))
    labels = torch.arange(COUNT) % CLASSES
    pixels = torch.rand(COUNT, 3, SIDE, SIDE, generator=chance) * 0.5
    pixels[torch.arange(COUNT), labels, 4:12, 4:12] += 0.5
    objects = torch.zeros(COUNT, SIDE, SIDE, dtype=torch.bool)
    objects[:, 4:12, 4:12] = True
    return Images(pixels, labels, ("red", "green", "blue"), objects)


def sentences(split: str) -> Images:
    """Vectors of noise; the first three tell the class."""
    chance = torch.Generator().manual_seed(len(split))
    labels = torch.arange(COUNT) % CLASSES
    x = torch.randn(COUNT, TOKENS, WIDTH, generator=chance)
    x[torch.arange(COUNT), :3, labels] += 2
    objects = torch.zeros(COUNT, TOKENS, dtype=torch.bool)
    objects[:, :3] = True
    return Images(x, labels, ("one", "two", "three"), objects)


def _head(width: int, num_classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes)]


def _stem(norm: nn.Module, *more: nn.Module, inplace: bool = False) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 6, 3, 2, padding=1), norm, nn.ReLU(inplace=inplace), *more)


def batch_norm(num_classes: int) -> nn.Module:
    """Steps in place after every module that can be tapped, and dropout of three kinds."""
    again = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
    return nn.Sequential(
        _stem(nn.BatchNorm2d(6), nn.Dropout2d(0.5, inplace=True), inplace=True),
        again,
        nn.Dropout(0.5),
        nn.AlphaDropout(0.5),
        *_head(6, num_classes),
    )


def group_norm(num_classes: int) -> nn.Module:
    norms = (_stem(nn.GroupNorm(3, 6)), nn.InstanceNorm2d(6, affine=True), nn.ELU(inplace=True))
    return nn.Sequential(*norms, *_head(6, num_classes))


def layer_norm(num_classes: int) -> nn.Module:
    norm = nn.LayerNorm([6, SIDE // 2, SIDE // 2])
    return nn.Sequential(_stem(norm, nn.GELU()), *_head(6, num_classes))


class Shared(nn.Module):
    """One block called three times, and tied weights."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem, self.pool = nn.Conv2d(3, 6, 3, 2, padding=1), nn.AdaptiveAvgPool2d(1)
        self.block = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Tanh())
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
        self.two.weight = self.one.weight
        self.head = nn.Linear(6, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(3):
            x = x + self.block(x)
        x = self.one(self.pool(relu_(x)).flatten(1)).tanh()
        return self.head(x + self.two(x))


class Halves(nn.Module):
    """Gives two tensors and a number."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(3, 4, 5, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor], int]:
        return self.left(x), {"right": self.right(x)}, 4


class Tuples(nn.Module):
    """An inner module that puts out no tensor, one that takes named arguments, one unused."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.halves, self.unused = Halves(), nn.Linear(5, 5)
        self.mix = nn.Bilinear(4, 4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        left, more, _ = self.halves(x)
        left, right = (side.mean((2, 3)) for side in (left.relu(), more["right"].relu()))
        return self.mix(input1=left, input2=right)


class Transformer(nn.Module):
    """A small vision transformer: patches, a class token, places, encoder layers, attention."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.first = nn.Parameter(torch.randn(1, 1, 8) * 0.1)
        self.places = nn.Parameter(torch.randn(1, 17, 8) * 0.1)
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.attention, self.norm = nn.MultiheadAttention(8, 2, 0.1), nn.LayerNorm(8)
        self.head = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], dim=1) + self.places
        x = self.encoder(x).transpose(0, 1)  # tokens first, as the attention wants it
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(self.norm(x[0]))


class Rows(nn.Module):
    """Reads the rows of an image one after the other; its layer gives a tuple."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.reader = nn.GRU(3 * SIDE, 8, batch_first=True, bidirectional=True)
        self.head = nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.permute(0, 2, 1, 3).flatten(2)
        return self.head(self.reader(rows)[0].mean(1))


def linear(num_classes: int) -> nn.Module:
    """No convolution and no hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, num_classes))


def company(num_classes: int) -> nn.Module:
    """Normalises by the images beside an image, and cannot see one alone."""
    norm, after = (nn.BatchNorm2d(6, track_running_stats=False) for _ in range(2))
    last = nn.BatchNorm1d(6, track_running_stats=False)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), last, nn.Linear(6, num_classes)]
    return nn.Sequential(_stem(norm), nn.Conv2d(6, 6, 3, padding=1), after, *head)


class Half(nn.Module):
    """Works in bfloat16 inside, and gives float64."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem, self.head = _stem(nn.BatchNorm2d(6)), nn.Linear(6, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            logits = self.head(self.stem(x).mean((2, 3)))
        return logits.double()


def weight_normed(num_classes: int) -> nn.Module:
    """Weights made anew in every pass; torch differentiates this norm once, not twice."""
    wide, norm = nn.Linear(3 * SIDE * SIDE, 6), weight_norm(nn.Linear(6, 6))
    return nn.Sequential(nn.Flatten(), wide, nn.Tanh(), norm, nn.Tanh(), nn.Linear(6, num_classes))


class Silent(nn.Module):
    """The same answer to every image: its weights are zero."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_stem(nn.BatchNorm2d(6)), *_head(6, num_classes))
        for weight in self.parameters():
            weight.data.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Rounding(nn.Module):
    """Answers that no slope leads back from."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem, self.head = _stem(nn.Identity()), nn.Linear(6, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.stem(x) * 8).round().mean((2, 3)))


class Reader(nn.Module):
    """Attention over the tokens of a sequence, by the function and not by a module."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(WIDTH, 12), nn.LayerNorm(4)
        self.head = nn.Linear(4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.embed(x).chunk(3, dim=-1)
        return self.head(self.norm(scaled_dot_product_attention(query, key, value)).mean(1))


shared, tuples, transformer, rows = Shared, Tuples, Transformer, Rows
silent, rounding, reader, half = Silent, Rounding, Reader, Half
