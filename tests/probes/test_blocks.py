"""Blocks of networks of many kinds, found by running them."""

import pytest
import torch
from stage import network
from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.models.contract import make_body
from kdprobe.probes.blocks import find_blocks

IMAGE = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def blocks(body: nn.Module, names=("auto",), image: Tensor = IMAGE) -> list[str]:
    return list(find_blocks(network(body), image, names))


STAGES = [f"layer{i}.{j}" for i in (1, 2, 3) for j in range(3)]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("resnet20", STAGES),
        ("plain20", STAGES),
        ("resnet8", ["layer1.0", "layer2.0", "layer3.0"]),
        ("wrn_16_1", [f"block{i}.layer.{j}" for i in (1, 2, 3) for j in range(2)]),
        ("vgg8", [f"block{i}" for i in range(5)]),
    ],
)
def test_bundled_networks_have_the_blocks_of_their_papers(name, wanted):
    assert blocks(make_body(name, num_classes=2), image=torch.rand(1, 3, 32, 32)) == wanted


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.layer = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(self.norm(x))


class Stage(nn.Module):
    """Passes on what its last block gives."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList([Residual(width), Residual(width)])

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


class Pair(nn.Module):
    """Two tensors in, or two out."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        return self.one(x) + self.two(y) if y is not None else (self.one(x), self.two(x))


class Odd(nn.Module):
    """Layers of every kind that cannot be a block, and one that can."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shared = nn.Linear(192, 6), nn.Linear(6, 6)
        self.splits, self.joins = Pair(), Pair()
        self.turned, self.unused = nn.Linear(2, 2), nn.Linear(6, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(self.shared(self.stem(x.flatten(1))))
        x = self.joins(*self.splits(x))
        return self.head(self.turned(x.T[:, :2]).repeat(1, 3)[:2].repeat(len(x) // 2, 1) + x)


def flat_net(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 6), *layers, nn.Linear(6, 2))


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (flat_net(Residual(6), Residual(6)), ["2", "3"]),
        (flat_net(Stage(6), Stage(6)), ["2.steps.0", "2.steps.1", "3.steps.0", "3.steps.1"]),
        (flat_net(*(nn.Sequential(nn.Linear(6, 6), nn.ReLU()) for _ in range(3))), list("234")),
        (flat_net(nn.ReLU(), nn.LayerNorm(6), nn.Linear(6, 6)), ["1", "4"]),
        (flat_net(Residual(6)), ["1", "2.layer"]),
        (flat_net(nn.Sequential(nn.Linear(6, 6), nn.ReLU())), ["1", "2.0"]),
        (Odd(), ["stem", "splits.one", "splits.two", "joins.one", "joins.two"]),
    ],
    ids=["class", "stages", "groups", "layers", "one class", "one group", "odd"],
)
def test_blocks_are_the_repeated_modules_else_groups_else_layers(body, wanted):
    assert blocks(body) == wanted


def test_blocks_of_a_transformer_are_its_encoder_layers():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 3)
    body = nn.Sequential(nn.Flatten(2), encoder, nn.Flatten(), nn.Linear(24, 2))
    image = torch.rand(1, 3, 2, 4)
    assert blocks(body, image=image) == [f"1.layers.{i}" for i in range(3)]


def test_named_blocks_come_in_the_order_they_are_called():
    body = make_body("resnet8", num_classes=2, width=2)
    assert blocks(body, ("layer3", "conv1")) == ["conv1", "layer3"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("shared", "is called 2 times in a forward pass"),
        ("joins", "takes 2 tensors"),
        ("splits", "returns tuple"),
        ("turned", "does not keep images along the first axis"),
        ("head", "puts out the logits"),
        ("unused", "is not called, or has no weights"),
        ("nowhere", "is no module of this network"),
    ],
)
def test_what_can_be_no_block_is_refused(name, why):
    with pytest.raises(InputError, match=f"found that block {name!r} {why}; wanted .*: set "):
        blocks(Odd(), (name,))


class Whole(nn.Module):
    """Looks up whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(4, 6), nn.Linear(6, 2)
        self.scale = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        bias = self.scale(torch.ones(1))
        return self.head(self.table((x[:, 0, 0, 0] * 3).long())) + bias


def test_numbers_that_have_no_norm_make_no_block():
    with pytest.raises(InputError, match="found that block 'table' works on whole numbers"):
        blocks(Whole(), ("table",))


def test_a_network_may_have_no_block():
    assert blocks(nn.Sequential(nn.Flatten(), nn.Linear(192, 2))) == []
