"""Folding a BatchNorm: the same answers by fewer modules, or the network as it was."""

import pytest
import torch
from stage import network
from torch import Tensor, nn

from kdprobe.models.contract import Network, make_body
from kdprobe.probes.folding import folded
from kdprobe.taps import Tap, find_taps, watch


def stirred(body: nn.Module, seed: int = 0) -> Network:
    """`body` with statistics and factors as after some training."""
    chance = torch.Generator().manual_seed(seed)
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            for name in ("running_mean", "weight", "bias", "running_var"):
                value = getattr(module, name)
                if value is not None:
                    drawn = torch.randn(value.shape, generator=chance)
                    value.data.copy_(drawn.abs() + 0.5 if name == "running_var" else drawn)
    return network(body)


def pixels(side: int = 8, n: int = 4) -> Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(1))


def pair(**norm) -> list[nn.Module]:
    return [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4, **norm), nn.ReLU()]


def plain(**norm) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*pair(**norm), nn.Flatten(), nn.Linear(256, 5))


class Above(nn.Module):
    """Whether an output is above 0."""

    def forward(self, x: Tensor) -> Tensor:
        return x > 0


def tapped(net: Network, names: list[str], x: Tensor) -> dict[str, Tensor]:
    taps = find_taps(net.body, names)
    with torch.no_grad(), watch(net.body, taps) as seen:
        net(x)
        return {name: seen[name] for name in names}


def lean(net: Network, names: list[str], x: Tensor) -> Network:
    return folded(net, find_taps(net.body, names), x)


def norms(net: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())


@pytest.mark.parametrize("norm", [{}, {"affine": False}])
def test_a_fold_answers_alike_and_leaves_the_network_as_it_was(norm):
    net, names = stirred(plain(**norm)), ["2", "4"]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modules = dict(net.named_modules())
    hooks = [len(module._forward_hooks) for module in net.modules()]
    found = lean(net, names, pixels())
    assert found is not net
    assert norms(found) == 0
    wanted = tapped(net, names, pixels())
    for name, output in tapped(found, names, pixels()).items():
        torch.testing.assert_close(output, wanted[name], rtol=1e-4, atol=1e-5)
    assert dict(net.named_modules()) == modules, "the same objects"
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [len(module._forward_hooks) for module in net.modules()] == hooks
    assert not any(p.requires_grad for p in found.parameters())
    assert not found.training


def test_a_fold_of_a_network_with_gradients_has_none():
    net = stirred(plain()).requires_grad_()
    found = lean(net, ["4"], pixels())
    assert not found.body[0].weight.requires_grad
    assert net.body[0].weight.requires_grad


def test_energies_by_the_fold_are_those_without_it():
    net, x = stirred(plain()), pixels()
    found = lean(net, ["4"], x)
    gradients = []
    for one in (net, found):
        leaf = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad(one(leaf).square().sum(), leaf)[0])
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "arguments", "taps"),
    [
        ("resnet8", {"width": 4}, ["stage1", "stage3", "logits"]),
        ("vgg8", {}, ["pooled", "logits"]),
        ("wrn_16_1", {}, ["stage3", "logits"]),
    ],
)
def test_bundled_networks_fold(name, arguments, taps):
    torch.manual_seed(0)
    net, x = stirred(make_body(name, num_classes=3, **arguments)), pixels(32)
    found = lean(net, taps, x)
    assert found is not net
    assert norms(found) <= (norms(net) + 1) / 2
    wanted = tapped(net, taps, x)
    for tap, output in tapped(found, taps, x).items():
        off = (output - wanted[tap]).abs().max() / wanted[tap].abs().max()
        assert off < 1e-4


def test_what_is_only_true_or_false_stays_so():
    net = stirred(nn.Sequential(*plain()[:2], Above(), nn.Flatten()))
    x = pixels()
    found = lean(net, ["2"], x)
    wanted = tapped(net, ["2"], x)["2"]
    assert wanted.dtype == torch.bool
    assert torch.equal(tapped(found, ["2"], x)["2"], wanted)


def test_without_a_batch_norm_there_is_nothing_to_fold():
    net = network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)))
    assert lean(net, ["3"], pixels()) is net


@pytest.mark.parametrize("name", ["0", "1"])
def test_what_is_looked_at_is_never_folded_away(name):
    """The convolution itself would put out something else; its BatchNorm puts out the same."""
    net = stirred(plain())
    found = lean(net, [name], pixels())
    assert (found is net) == (name == "0")
    wanted = tapped(net, [name], pixels())[name]
    torch.testing.assert_close(tapped(found, [name], pixels())[name], wanted, rtol=1e-4, atol=1e-4)


def test_statistics_of_the_batch_are_not_folded():
    net = stirred(plain(track_running_stats=False))
    assert lean(net, ["4"], pixels()) is net
    net = stirred(plain())
    net.body[1].train()
    assert lean(net, ["4"], pixels()) is net


class Twice(nn.Module):
    """A convolution whose output is read twice, or that is called twice."""

    def __init__(self, what: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.what = what
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.out = nn.Linear(192, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.what == "read twice":
            y = self.norm(y) + y
        elif self.what == "called twice":
            y = self.conv(self.norm(y))
        elif self.what == "norm called twice":
            y = self.norm(self.norm(y))
        else:
            y = self.norm(y * 2)
        return self.out(y.flatten(1))


@pytest.mark.parametrize(
    "what", ["read twice", "called twice", "norm called twice", "something between"]
)
def test_only_what_one_batch_norm_alone_reads_is_folded(what):
    net = stirred(Twice(what))
    assert norms(lean(net, ["out"], pixels())) == norms(net)


def test_one_pair_that_must_stay_does_not_hinder_the_others():
    net = stirred(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), Twice("read twice")))
    found = folded(net, {"logits": Tap("", "raw")}, pixels())
    assert norms(found) == 1
    torch.testing.assert_close(found(pixels()), net(pixels()), rtol=1e-4, atol=1e-4)
