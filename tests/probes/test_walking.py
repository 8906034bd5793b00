"""Walking: a quadratic in closed form, folding that is checked, and a network left as it was."""

import pytest
import torch
from stage import Stage, network, noise_images
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn.functional import cross_entropy

from kdprobe.errors import InputError, UsageError
from kdprobe.models.contract import Network, make_body
from kdprobe.probes import walking
from kdprobe.probes.directions import random_direction
from kdprobe.probes.walking import loss_of, settling, walk


def stirred(body: nn.Module, seed: int = 0) -> Network:
    """`body` with statistics and factors as after some training."""
    chance = torch.Generator().manual_seed(seed)
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            for name in ("running_mean", "weight", "bias", "running_var"):
                drawn = torch.randn(module.num_features, generator=chance)
                value = drawn.abs() + 0.5 if name == "running_var" else drawn
                getattr(module, name).data.copy_(value)
    return network(body)


def resnet(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return stirred(make_body("resnet8", num_classes=2, width=2), seed)


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def state(net: nn.Module):
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    return weights, modes, [p.requires_grad for p in net.parameters()], torch.get_rng_state()


def plainly(net: Network, data, places) -> Tensor:
    """(p, n) by writing the weights one place after another, and nothing else."""
    start = {name: value.clone() for name, value in net.body.state_dict().items()}
    found = []
    for place in places:
        moved = {name: value.clone() for name, value in start.items()}
        for step, way in place:
            for name, change in way.items():
                moved[name] += step * change
        net.body.load_state_dict(moved)
        found.append(cross_entropy(net(data.pixels), data.labels, reduction="none"))
    net.body.load_state_dict(start)
    return torch.stack(found)


def test_a_quadratic_is_walked_in_closed_form():
    net = network(nn.Linear(4, 3, bias=False)).double()
    w = net.body.weight.clone()
    a = torch.rand(3, 4, generator=chance()).double()
    one, two = (random_direction(net.body, chance(seed)) for seed in (1, 2))
    places = [[(x, one), (y, two)] for x in (-1.0, 0.0, 0.5) for y in (-0.3, 0.0, 2.0)]
    found = walk(net, places, lambda: (a * net.body.weight.square()).sum())
    d, e = one["weight"], two["weight"]
    for value, ((x, _), (y, _)) in zip(found.tolist(), places, strict=True):
        wanted = (a * w * w).sum() + 2 * (a * w * (x * d + y * e)).sum()
        wanted = wanted + (a * (x * d + y * e) ** 2).sum()
        assert value == pytest.approx(float(wanted), rel=1e-12)
    assert torch.equal(net.body.weight, w)


def test_a_step_of_one_moves_every_filter_by_its_own_length():
    net = resnet()
    before = {name: weight.clone() for name, weight in net.body.named_parameters()}
    moved = {}

    def loss() -> Tensor:
        for name, weight in net.body.named_parameters():
            moved[name] = (weight - before[name]).flatten(1 if weight.dim() > 1 else 0).norm(dim=-1)
        return torch.zeros(())

    walk(net, [[(1.0, random_direction(net.body, chance()))]], loss)
    for name, weight in before.items():
        sides = tuple(range(1, weight.dim()))
        wanted = vector_norm(weight, dim=sides) if sides else torch.zeros(())
        torch.testing.assert_close(moved[name], wanted, rtol=1e-5, atol=1e-7)


class Shared(nn.Module):
    """One convolution for two steps, and a BatchNorm whose input is read elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.more, self.again = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.out = nn.LazyLinear(2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(self.conv(x)).relu_()
        y = self.more(self.norm(y) + y)
        return self.out((self.again(y) + y).flatten(1))


def bodies() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    shared = Shared()
    shared(torch.zeros(1, 3, 8, 8))
    grouped = [nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(True), nn.Dropout(), nn.Flatten()]
    biased = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(True), nn.Flatten()]
    bare = [nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False), nn.Flatten()]
    return {
        "residual": make_body("resnet8", num_classes=2, width=2),
        "wide": make_body("wrn_16_1", num_classes=2),
        "plain": make_body("vgg8", num_classes=2),
        "shared": shared,
        "grouped": nn.Sequential(*grouped, nn.Linear(144, 2)),
        "biased": nn.Sequential(*biased, nn.Linear(144, 2)),
        "bare": nn.Sequential(*bare, nn.Linear(144, 2)),
    }


@pytest.mark.parametrize(
    "name", ["residual", "wide", "plain", "shared", "grouped", "biased", "bare"]
)
def test_the_loss_is_that_of_plain_writes_also_where_statistics_move(name):
    net = network(bodies()[name]) if name == "bare" else stirred(bodies()[name])
    side = 32 if name in ("residual", "wide", "plain") else 8
    data = noise_images(6, side=side)
    stage = Stage(data, {"net": net}, batch=4)
    way = random_direction(net.body, chance(1))
    stir = {
        key: torch.rand(value.shape, generator=chance(2))
        for key, value in net.body.state_dict().items()
        if value.is_floating_point()
    }
    places = [[(0.3, way)], [(-0.2, way), (0.5, stir)], [(0.1, stir)], []]
    loss = loss_of("net", stage, net)
    assert (loss._follower is None) == (name in ("shared", "grouped"))
    found = walk(net, places, loss)
    wanted = plainly(net, data, places)
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert loss.off < 1e-5


def test_a_fold_that_answers_otherwise_is_given_up(monkeypatch):
    """Of a wrong scale, which at the network's own place cannot be seen."""
    net, data = resnet(), noise_images(6, side=32)
    loss = loss_of("net", Stage(data, {"net": net}), net)
    assert loss._follower is not None
    monkeypatch.setattr(loss._follower, "follow", lambda: None)  # it stays where the network was
    places = [[(0.5, random_direction(net.body, chance()))]] * 2
    found = walk(net, places, loss)
    torch.testing.assert_close(found, plainly(net, data, places))
    assert loss._follower is None
    assert loss.off == 0


def test_a_follower_that_agrees_is_asked_alone():
    net, data = resnet(), noise_images(6, side=32)
    loss, asked = loss_of("net", Stage(data, {"net": net}), net), []
    net.register_forward_hook(lambda *_: asked.append(1))
    walk(net, [[]] * 5, loss)
    assert len(asked) == 1, "the second of the two checks"


def test_the_loss_has_a_number_an_image_whatever_the_batch():
    net, data = resnet(), noise_images(10, side=32)
    losses = [loss_of("net", Stage(data, {"net": net}, batch=size), net)() for size in (3, 7, 99)]
    wanted = cross_entropy(net(data.pixels), data.labels, reduction="none")
    for found in losses:
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_an_unknown_precision_is_refused():
    net, data = resnet(), noise_images(4, side=32)
    with pytest.raises(UsageError, match="found precision 'half'; wanted float32, bf16"):
        loss_of("net", Stage(data, {"net": net}), net, precision="half")


class Picky(nn.Sequential):
    """Has no answer in bfloat16, or none at all."""

    def __init__(self, dtypes: tuple[torch.dtype, ...]) -> None:
        super().__init__(nn.Flatten(), nn.Linear(192, 2))
        self.dtypes = dtypes

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype in self.dtypes:
            raise RuntimeError("not implemented for 'BFloat16'")
        return super().forward(x)


def test_a_network_that_cannot_run_in_bf16_is_refused():
    net, data = network(Picky((torch.bfloat16,))), noise_images(4)
    stage = Stage(data, {"net": net})
    assert loss_of("net", stage, net)().shape == (4,)
    with pytest.raises(InputError, match=r"cannot run in bf16 .*; wanted operations that can: set"):
        loss_of("net", stage, net, precision="bf16")
    broken = network(Picky((torch.float32,)))
    with pytest.raises(InputError, match=r"network failed .* not implemented"):
        walk(broken, [[]], loss_of("net", Stage(data, {"net": broken}), broken))


def test_classes_in_another_order_stay_so():
    net, data = resnet(), noise_images(4, side=32)
    net.ordered(("b", "a"), ("a", "b"))
    wanted = cross_entropy(net(data.pixels), data.labels, reduction="none")
    torch.testing.assert_close(loss_of("net", Stage(data, {"net": net}), net)(), wanted)


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_the_network_ends_as_it_began(error):
    net = resnet()
    net.body.bn1.train()
    weights, modes, flags, random = state(net)

    def loss() -> Tensor:
        net.train()
        net(torch.rand(4, 3, 32, 32))  # moves BatchNorm's statistics and the random state
        if error is not None:
            raise error("stopped")
        return torch.zeros(())

    places = [[(1.0, random_direction(net.body, chance()))]]
    settle = settling(net, noise_images(4, side=32).pixels, 2)
    if error is None:
        walk(net, places, loss, settle)
    else:
        with pytest.raises(error, match="stopped"):
            walk(net, places, loss, settle)
    after = state(net)
    assert all(torch.equal(after[0][name], value) for name, value in weights.items())
    assert after[1:3] == (modes, flags)
    assert torch.equal(after[3], random)


def test_the_rows_on_a_cpu_are_few():
    net, data = resnet(), noise_images(40, side=32)
    assert loss_of("net", Stage(data, {"net": net}, batch=128), net)._rows == walking.ROWS
