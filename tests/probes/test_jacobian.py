"""Jacobian energies: closed forms, autograd's own Jacobian, laws of chance, noise of their size."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from stage import Stage, cell_sums, linear, network, noise_images
from torch import Tensor, nn

from kdprobe.datasets.contract import Images
from kdprobe.errors import InputError
from kdprobe.metrics.discarding import entropy
from kdprobe.metrics.looking import balanced_halves
from kdprobe.models.contract import Network, make_body
from kdprobe.probes.jacobian import (
    REACH,
    energies,
    jacobian,
    log_scale,
    pilot,
)
from kdprobe.probes.slopes import Eye, Looks
from kdprobe.probes.units import units_of
from kdprobe.taps import find_taps

STD = (0.5, 1.0, 2.0)
OUT = "1"  # path of the layer of a linear network
NOISE = 0.00226
KNOBS = {
    "layers": (OUT,),
    "units": "cells",
    "grid": 4,
    "probes": 64,
    "noises": 8,
    "radius": 0.0,
    "exact": 64,
    "lam": 6.0,
    "noise": NOISE,
    "relu": False,
}
SMOOTH = {"radius": 3**-0.5, "probes": 64, "noises": 16}


def look(net: Network, images: Images, *, batch: int = 128, seed: int = 0, **changes):
    stage = Stage(images, {"net": net}, batch=batch, seed=seed)
    return jacobian(["net"], stage, **{**KNOBS, **changes})


def energy(net: Network, images: Images, layer: str = OUT, **changes) -> Tensor:
    return look(net, images, **{"layers": (layer,), **changes})[f"energy/{layer}"]


def bent(seed: int = 0, kink: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = [nn.Conv2d(3, 4, 3, padding=1), kink(), nn.Flatten(), nn.Linear(256, 12)]
        return nn.Sequential(*parts)


def by_autograd(net: Network, images: Images, relu: bool = False) -> Tensor:
    """(n, 16) energies of the logits from the whole Jacobian of every image."""

    def answer(image: Tensor) -> Tensor:
        return net(image).relu() if relu else net(image)

    rows = []
    for image in images.pixels:
        jacobi = torch.autograd.functional.jacobian(answer, image[None])[0, :, 0]
        rows.append(cell_sums(jacobi.square().sum((0, 1))[None], 4).flatten())
    return torch.stack(rows)


# --- at the input itself


def test_a_linear_network_has_the_squared_weights_of_each_cell():
    net, images = network(linear(20), STD), noise_images(3)
    found = look(net, images)
    weight = net.body[1].weight.view(20, 3, 8, 8) / torch.tensor(STD).view(3, 1, 1)
    wanted = cell_sums(weight.square().sum((0, 1))[None], 4).flatten(1)
    torch.testing.assert_close(found["energy/1"], wanted.expand(3, 16))
    assert set(found) == {"energy/1"}, "no chance has a part in it"


def test_a_diagonal_map_has_its_squared_factors():
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.arange(1.0, 65.0).view(8, 8))

        def forward(self, x: Tensor) -> Tensor:
            return (x * self.factor).sum(1).flatten(1)

    found = energy(network(Scaled()), noise_images(2), "", exact=64)
    factors = torch.arange(1.0, 65.0).view(1, 8, 8)
    torch.testing.assert_close(found, 3 * cell_sums(factors**2, 4).flatten(1).expand(2, 16))
    for seed in range(3):  # outputs that share no pixel: one probe is as good as all
        some = energy(network(Scaled()), noise_images(2), "", exact=1, probes=2, seed=seed)
        torch.testing.assert_close(some, found)


@pytest.mark.parametrize("kink", [nn.Tanh, nn.ReLU])
def test_exact_energies_are_those_of_autograds_jacobian(kink):
    net, images = network(bent(kink=kink)), noise_images(3)
    torch.testing.assert_close(energy(net, images, "3"), by_autograd(net, images))


def test_relu_leaves_out_what_is_negative():
    net, images = network(bent()), noise_images(3)
    assert (net(images.pixels) < 0).any()
    found = energy(net, images, "3", relu=True)
    torch.testing.assert_close(found, by_autograd(net, images, relu=True))
    assert (found < energy(net, images, "3")).all()


@pytest.mark.parametrize(("fine", "coarse"), [(8, 2), (4, 1), (8, 4)])
@pytest.mark.parametrize("exact", [1, 64])
def test_a_finer_grid_adds_up_to_a_coarser_one(fine, coarse, exact):
    """With the same draws: the grid has no part in them."""
    net, images = network(bent()), noise_images(2)
    small, large = (energy(net, images, "3", grid=g, exact=exact) for g in (fine, coarse))
    summed = cell_sums(small.view(2, fine, fine), coarse).flatten(1)
    torch.testing.assert_close(summed, large, rtol=1e-5, atol=0)


def test_one_cell_a_pixel_is_the_gradient_squared():
    net, images = network(linear(1)), noise_images(1)
    found = energy(net, images, grid=8)
    wanted = net.body[1].weight.view(1, 3, 8, 8).square().sum(1).flatten(1)
    torch.testing.assert_close(found, wanted)


def test_a_grid_that_does_not_divide_the_image_loses_nothing():
    net, images = network(linear(5)), noise_images(2)
    found = energy(net, images, grid=3)
    assert found.shape == (2, 9)
    torch.testing.assert_close(found.sum(1), net.body[1].weight.square().sum().expand(2))


def test_random_probes_are_unbiased_and_as_far_off_as_theory_says():
    """Var g = 2 (||A||^2 - sum A_ii^2) / r of Rademacher probes, A = J_c J_c'."""
    net, images = network(linear(100)), noise_images(1)
    truth = energy(net, images, exact=100)
    drawn = [energy(net, images, probes=32, exact=1, seed=s) for s in range(200)]
    found = torch.stack(drawn)
    bias = (found.mean(0) - truth) / (found.std(0) / math.sqrt(200))
    assert bias.abs().max() < 4.5
    weight = net.body[1].weight.view(100, 3, 4, 2, 4, 2).transpose(3, 4)
    cells = weight.permute(2, 3, 0, 1, 4, 5).reshape(16, 100, 12).double()
    a = cells @ cells.transpose(1, 2)
    wanted = 2 * (a.square().sum((1, 2)) - a.diagonal(dim1=1, dim2=2).square().sum(1)) / 32
    ratio = found.var(0)[0] / wanted
    assert float(ratio.mean()) == pytest.approx(1, abs=0.1)
    assert ratio.sub(1).abs().max() < 0.5  # a variance of 200 draws is off by a tenth
    many = energy(net, images, probes=1024, exact=1) / truth - 1
    assert many.abs().max() < 5 * (wanted.sqrt() / math.sqrt(32) / truth[0]).max()


@pytest.mark.parametrize("radius", [0.0, 3**-0.5])
def test_groups_average_to_the_energy(radius):
    net, images = network(bent()), noise_images(3)
    for noises, groups in ((4, 2), (8, 4), (16, 8), (32, 8)):
        found = look(net, images, layers=("1",), exact=1, noises=noises, radius=radius)
        torch.testing.assert_close(found["groups/1"].mean(0), found["energy/1"])
        assert found["groups/1"].shape == (groups if radius else 8, 3, 16)
    two = look(net, images, layers=("1",), exact=1, probes=2)
    assert two["groups/1"].shape == (2, 3, 16)


def test_what_a_layer_cannot_see_has_no_energy():
    body = linear(5)
    with torch.no_grad():
        body[1].weight.view(5, 3, 8, 8)[..., :4, :] = 0
    found = energy(network(body), noise_images(1))
    assert torch.equal(found[:, :8], torch.zeros(1, 8))
    assert found[:, 8:].min() > 0


# --- chance


@pytest.mark.parametrize("radius", [0.0, 3**-0.5])
def test_the_seed_is_all_the_chance_there_is(radius):
    net, images = network(bent(kink=nn.ReLU)), noise_images(3)
    how = {"layers": ("1",), "exact": 1, "radius": radius}
    one, same, other = (look(net, images, seed=s, **how) for s in (5, 5, 6))
    for name, values in one.items():
        assert torch.equal(values, same[name])
        assert not torch.isclose(values, other[name]).all()


@pytest.mark.parametrize("radius", [0.0, 3**-0.5])
def test_the_order_of_the_images_is_that_of_the_maps(radius):
    net, images = network(bent(kink=nn.ReLU)), noise_images(6)
    order = torch.tensor([4, 0, 5, 1, 3, 2])
    how = {"layers": ("1", "3"), "exact": 1, "radius": radius}
    found, turned = look(net, images, **how), look(net, images.take(order), **how)
    for name, values in found.items():
        wanted = values[..., order, :]
        torch.testing.assert_close(
            turned[name], wanted, rtol=1e-3, atol=1e-3 * float(wanted.mean())
        )


@pytest.mark.parametrize("radius", [0.0, 3**-0.5])
@pytest.mark.parametrize("exact", [1, 64])
def test_neither_batches_nor_chunks_of_noise_change_the_numbers(exact, radius):
    net, images = network(bent()), noise_images(7)
    how = {"layers": ("1", "3"), "probes": 32, "noises": 16, "exact": exact, "radius": radius}
    whole = look(net, images, **how)
    for batch in (1, 3, 6, 40):
        parts = look(net, images, batch=batch, **how)
        assert parts.keys() == whole.keys()
        for name, values in whole.items():
            close = {"rtol": 1e-4, "atol": 1e-5 * float(values.mean())}
            torch.testing.assert_close(parts[name], values, **close)
    alone = look(net, images.take(torch.tensor([5])), **how)
    torch.testing.assert_close(alone["energy/3"][0], whole["energy/3"][5], rtol=1e-4, atol=0)


def test_networks_of_one_shape_share_their_noise_and_probes():
    images = noise_images(2)
    one, two, again = (energy(network(bent(s)), images, "1", exact=1, **SMOOTH) for s in (0, 1, 0))
    assert torch.equal(one, again)
    assert not torch.isclose(one, two).all()
    body = bent(0)
    with torch.no_grad():
        body[3].weight *= -1  # signs cancel in every probe
    torch.testing.assert_close(
        energy(network(body), images, "3", exact=1, **SMOOTH),
        energy(network(bent(0)), images, "3", exact=1, **SMOOTH),
    )


def spread_of(net: Network, images: Images, layer: str, seeds: int = 8, **how) -> Tensor:
    """(seeds, n, q) log energies."""
    drawn = [energy(net, images, layer, seed=s, **how) for s in range(seeds)]
    return torch.stack(drawn).log()


def test_layers_asked_together_or_alone_agree_within_their_error():
    net, images = network(bent(kink=nn.ReLU)), noise_images(2)
    alone = spread_of(net, images, "3", **SMOOTH)
    drawn = [look(net, images, seed=s, layers=("1", "3"), **SMOOTH)["energy/3"] for s in range(8)]
    together = torch.stack(drawn).log()
    error = (alone.var(0).mean() / 8 + together.var(0).mean() / 8).sqrt()
    assert (alone.mean(0) - together.mean(0)).square().mean().sqrt() < 2 * error


@pytest.mark.parametrize("radius", [0.0, 3**-0.5])
def test_groups_tell_the_error_of_the_whole(radius):
    """Half-samples of one look scatter as looks with other seeds do."""
    net, images = network(bent(kink=nn.ReLU)), noise_images(2)
    how = {"layers": ("1",), "exact": 1, "radius": radius, "noises": 32}
    found = [look(net, images, seed=s, **how) for s in range(60)]
    scatter = torch.stack([one["energy/1"].log() for one in found]).var(0)
    told = torch.stack(
        [
            torch.stack([one["groups/1"][half].mean(0).log() for half in balanced_halves(8)])
            .sub(one["energy/1"].log())
            .square()
            .mean(0)
            for one in found
        ]
    ).mean(0)
    assert float((told / scatter).mean()) == pytest.approx(1, abs=0.2)


# --- at noise of the size that is lost


@pytest.mark.parametrize("outputs", [3, 100])
def test_a_linear_network_is_the_same_everywhere(outputs):
    """Its slopes do not depend on the point: only probes have an error, and narrow layers none."""
    net, images = network(linear(outputs)), noise_images(2)
    truth = energy(net, images, exact=100)
    found = look(net, images, **SMOOTH)
    if outputs == 3:
        torch.testing.assert_close(found["energy/1"], truth)
        torch.testing.assert_close(found["groups/1"], truth.expand(8, 2, 16))
    else:
        logs = spread_of(net, images, OUT, **SMOOTH) - truth.log()
        assert logs.mean().abs() < 0.05
        assert logs.std() < 0.25
        at_input = spread_of(net, images, OUT, exact=1) - truth.log()
        assert float(logs.std() / at_input.std()) == pytest.approx(1, abs=0.25)


class Bowl(nn.Module):
    """Slopes whose squares are linear in the pixels: (x + 4)."""

    def forward(self, x: Tensor) -> Tensor:
        return ((x + 4) ** 1.5 * (2 / 3)).flatten(1)


def test_noise_comes_in_opposite_pairs():
    """What is linear in the noise cancels in every pair, so that no group has an error."""
    net, images = network(Bowl()), noise_images(2)
    how = {"layers": ("",), "noise": 0.05, "radius": 3**-0.5}
    found = look(net, images, **how)["groups/"]
    wanted = cell_sums((images.pixels - 0.5 + 4).sum(1), 4).flatten(1)
    torch.testing.assert_close(found, wanted.expand_as(found))


def shut(depth: float) -> Network:
    """Two rectifiers a pixel of a gray image: open on the left, shut by `depth` on the right."""

    class Rectified(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            bias = torch.ones(8, 8)
            bias[:, 4:] = -depth
            self.register_buffer("bias", bias)

        def forward(self, x: Tensor) -> Tensor:
            return (x.sum(1) + self.bias).relu().flatten(1)

    return network(Rectified())


GRAY = Images(torch.full((2, 3, 8, 8), 0.5), torch.zeros(2, dtype=torch.int64), ("a",), None)
RIGHT = torch.arange(8).expand(8, 8).flatten() >= 4


def test_a_rectifier_that_is_shut_at_the_image_opens_a_step_aside():
    at_image = energy(shut(0.004), GRAY, "", grid=8)
    assert torch.equal(at_image[:, RIGHT], torch.zeros(2, 32))
    torch.testing.assert_close(at_image[:, ~RIGHT], torch.full((2, 32), 3.0))
    aside = energy(shut(0.004), GRAY, "", grid=8, radius=3**-0.5, noises=128, probes=1024)
    never = energy(shut(9.0), GRAY, "", grid=8, radius=3**-0.5, noises=128, probes=1024)
    assert (aside[:, RIGHT] > 5 * never[:, RIGHT]).all(), "far more than what is only unknown"
    torch.testing.assert_close(aside[:, ~RIGHT], torch.full((2, 32), 3.0))


def test_the_share_of_open_rectifiers_is_that_of_the_normal_distribution():
    """E g = 3 P(sum of three normals of sd r s > depth), s from the pilot."""
    depth, net = 0.004, shut(0.004)
    how = Looks(("",), 4096, 512, 3**-0.5, 64, 6.0, NOISE)
    eye = Eye(net, find_taps(net.body, [""]), GRAY.pixels, units_of(GRAY, "cells", 8))
    scale = pilot(eye, how, torch.Generator().manual_seed(0), 128).exp()
    found = energies(eye, how, seed=0, rows=128)["energy/"]
    z = depth / (math.sqrt(3) * 3**-0.5 * scale[:, RIGHT])
    wanted = 3 * (1 - torch.special.ndtr(z))
    assert 0.3 < wanted.min() < wanted.max() < 1.5
    error = 3 * math.sqrt(0.25 / 512)
    assert (found[:, RIGHT] - wanted).abs().max() < 4.5 * error
    assert (found[:, RIGHT] - wanted).mean().abs() < error


@pytest.mark.parametrize("depth", [0.004, 0.05, 9.0])
def test_no_more_is_believed_than_reach_beyond_the_noise_that_was_tried(depth):
    net = shut(depth)
    how = Looks(("",), 64, 16, 3**-0.5, 64, 6.0, NOISE)
    eye = Eye(net, find_taps(net.body, [""]), GRAY.pixels, units_of(GRAY, "cells", 8))
    tried = pilot(eye, how, torch.Generator().manual_seed(3), 128)
    found = energies(eye, how, seed=3, rows=128)["energy/"]
    assert found.min() > 0
    lost = log_scale(found, torch.ones(2, 64, dtype=torch.bool), how)
    assert (lost - tried).max() < REACH + 0.1, "but for what the bound itself adds to the sum"
    if depth == 9.0:
        assert (lost - tried)[:, RIGHT].min() > REACH - 0.1, "and the shut ones lie there"


@pytest.mark.parametrize("radius", [0.0, 3**-0.5])
def test_the_scale_and_shift_of_the_features_cancel_in_the_entropies(radius):
    images, body, scaled = noise_images(2), bent(kink=nn.ReLU), bent(kink=nn.ReLU)
    with torch.no_grad():
        scaled[3].weight *= 64
        scaled[3].bias.mul_(64).add_(5)
    one, two = (
        entropy(energy(network(b), images, "3", exact=1, radius=radius).numpy(), 6.0, NOISE)
        for b in (body, scaled)
    )
    np.testing.assert_allclose(one, two, atol=1e-4)


def test_one_image_alone():
    net = network(bent(kink=nn.ReLU))
    found = look(net, noise_images(1), layers=("1", "3"), **SMOOTH)
    assert found["energy/3"].shape == (1, 16)
    assert all(torch.isfinite(values).all() for values in found.values())


@pytest.mark.parametrize("radius", [0.0, 3**-0.5])
def test_a_dead_layer_has_no_energy_and_no_entropy(radius):
    body = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.ReLU())
    with torch.no_grad():
        body[1].bias.fill_(-1e6)
    found = look(network(body), noise_images(2), layers=("1", "2"), radius=radius)
    assert torch.equal(found["energy/2"], torch.zeros(2, 16))
    assert np.isnan(entropy(found["energy/2"].numpy(), 6.0, NOISE)).all()
    torch.testing.assert_close(
        found["energy/1"],
        energy(network(body), noise_images(2)),
        msg="the dead layer leaves the live one alone",
    )


# --- other units


def parted() -> Images:
    """Four parts; the second image lacks the last two, the third one has none at all."""
    images = noise_images(3)
    parts = torch.full((3, 8, 8), -1)
    parts[:2, :4], parts[:2, 5:] = 0, 1
    parts[0, :4, 4:], parts[0, 6:, :2] = 2, 3
    return Images(images.pixels, images.labels, images.classes, None, parts)


@pytest.mark.parametrize("radius", [0.0, 3**-0.5])
def test_parts_have_the_energy_of_their_pixels(radius):
    images, net = parted(), network(linear(3))
    found = energy(net, images, units="parts", radius=radius)
    weight = net.body[1].weight.view(3, 3, 8, 8).square().sum((0, 1))
    wanted = torch.stack(
        [torch.stack([weight[image == part].sum() for part in range(4)]) for image in images.parts]
    )
    torch.testing.assert_close(found, wanted)
    assert found[1, 2:].tolist() == [0, 0], "an absent part has none"
    assert found[2].tolist() == [0] * 4


def sequences(n: int = 3, t: int = 5, d: int = 4) -> Images:
    values = torch.randn(n, t, d, generator=torch.Generator().manual_seed(0))
    return Images(values, torch.zeros(n, dtype=torch.int64), ("a",), None)


def reader(body: nn.Module) -> Network:
    return Network(body, (0.0,), (1.0,)).eval().requires_grad_(False)


@pytest.mark.parametrize("radius", [0.0, 3**-0.5])
def test_tokens_of_a_linear_map(radius):
    torch.manual_seed(0)
    net = reader(nn.Sequential(nn.Flatten(), nn.Linear(20, 3)))
    found = energy(net, sequences(), units="tokens", radius=radius)
    wanted = net.body[1].weight.view(3, 5, 4).square().sum((0, 2))
    torch.testing.assert_close(found, wanted.expand(3, 5))


class Attention(nn.Module):
    """One block of attention over tokens, then their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.MultiheadAttention(4, 2, batch_first=True)
        self.norm, self.out = nn.LayerNorm(4), nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.norm(x + self.mix(x, x, x, need_weights=False)[0]).mean(1))


def test_tokens_of_a_transformer_are_those_of_autograds_jacobian():
    torch.manual_seed(0)
    net, images = reader(Attention()), sequences()
    found = look(net, images, layers=("norm", "out"), units="tokens")
    wanted = torch.stack(
        [
            torch.autograd.functional.jacobian(net, x[None])[0, :, 0].square().sum((0, 2))
            for x in images.pixels
        ]
    )
    torch.testing.assert_close(found["energy/out"], wanted)
    near = look(net, images, layers=("norm", "out"), units="tokens", noises=4, radius=1e-3)
    torch.testing.assert_close(near["energy/out"], wanted, rtol=1e-3, atol=0)


# --- refusals and real networks


class Hard(nn.Module):
    def __init__(self, cut: str) -> None:
        super().__init__()
        self.cut, self.inner, self.out = cut, nn.Identity(), nn.Linear(192, 5)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        steps = {
            "detach": lambda: flat.detach(),
            "round": lambda: flat.gt(0.5).float(),
            "argmax": lambda: nn.functional.one_hot(flat.argmax(1), 192).float(),
        }
        return self.out(self.inner(steps[self.cut]()))


@pytest.mark.parametrize("radius", [0.0, 3**-0.5])
@pytest.mark.parametrize("cut", ["detach", "round", "argmax"])
def test_a_layer_without_a_gradient_is_named(cut, radius):
    wanted = r"no slope from layer 'inner'.*choose a layer before"
    with pytest.raises(InputError, match=wanted):
        look(network(Hard(cut)), noise_images(2), layers=("inner", "out"), radius=radius)


@pytest.mark.parametrize("radius", [0.0, 3**-0.5])
def test_bundled_networks_are_looked_at_layer_by_layer(radius):
    torch.manual_seed(0)
    net = network(make_body("resnet8", num_classes=3, width=2))
    how = {"layers": ("stage3", "logits"), "grid": 8, "radius": radius}
    found = look(net, noise_images(2, side=32), **how)
    groups = {"groups/stage3"} | ({"groups/logits"} if radius else set())
    assert set(found) == {"energy/stage3", "energy/logits"} | groups
    assert all(values.min() > 0 for values in found.values())


def test_at_no_radius_all_layers_and_probes_ride_on_one_forward_pass():
    net = network(bent())
    passes = []
    net.register_forward_hook(lambda *_: passes.append(1))
    look(net, noise_images(2), layers=("0", "1", "3"), exact=12)
    guard = 1  # asks once whether the layers answer at all
    folding = 1  # looks once which convolutions are followed by a BatchNorm
    assert len(passes) == 1 + guard + folding


# --- what the energies are for


def design(width: int) -> np.ndarray:
    """Noises with exactly the second moments of a standard normal: sqrt(width) times a rotation."""
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(width, width)))
    return rotation * math.sqrt(width)


def least(features, x: np.ndarray, grid: int, lam: float) -> tuple[np.ndarray, float]:
    """Entropies at the minimum of the paper's loss over log s, and the feature loss there."""
    noise = torch.from_numpy(design(x.size))
    start = torch.from_numpy(x).flatten()
    clean = features(start[None])
    unit = (features(start + NOISE * noise) - clean).square().mean()

    def distortion(log_s: Tensor) -> Tensor:
        spread = log_s.exp().view(1, grid, grid)
        spread = spread.repeat_interleave(8 // grid, 1).repeat_interleave(8 // grid, 2)
        noisy = start + spread.expand(3, 8, 8).flatten() * noise
        return (features(noisy) - clean).square().mean() / unit

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        log_s = torch.from_numpy(values).requires_grad_()
        total = distortion(log_s) - lam * (log_s.mean() + 0.5 * math.log(2 * math.pi * math.e))
        (slope,) = torch.autograd.grad(total, log_s)
        return total.item(), slope.numpy()

    start_s = np.full(grid * grid, math.log(NOISE))
    found = minimize(loss, start_s, jac=True, method="L-BFGS-B", options={"ftol": 0, "gtol": 1e-10})
    h = found.x + 0.5 * math.log(2 * math.pi * math.e)
    return h, float(distortion(torch.from_numpy(found.x)))


def exact_double(net: Network, x: Tensor, layer: str) -> np.ndarray:
    images = Images(x.float(), torch.zeros(1, dtype=torch.int64), ("a",), None)
    eye = Eye(net, find_taps(net.body, [layer]), x, units_of(images, "cells", 4))
    how = Looks((layer,), 2, 2, 0.0, 64, 1.0, NOISE)
    return energies(eye, how, seed=0, rows=128)[f"energy/{layer}"].numpy()


@pytest.mark.parametrize("lam", [1.0, 6.0])
def test_the_entropy_is_where_a_minimiser_ends_on_a_linear_layer(lam):
    net, x = network(linear(20), STD).double(), noise_images(1).pixels.double()
    wanted, distortion = least(lambda rows: net(rows.view(-1, 3, 8, 8)), x.numpy(), 4, lam)
    found = entropy(exact_double(net, x, OUT), lam, NOISE)[0]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert distortion == pytest.approx(lam / 2, rel=1e-6)


def test_the_entropy_is_the_limit_of_small_noise_on_a_bent_layer():
    net, x = network(bent()).double(), noise_images(1).pixels.double()
    found, off = exact_double(net, x, "3"), []
    for lam in (20.0, 1e-2):
        wanted, _ = least(lambda rows: net(rows.view(-1, 3, 8, 8)), x.numpy(), 4, lam)
        off.append(np.abs(entropy(found, lam, NOISE)[0] - wanted).max())
    assert off[1] < 1e-3
    assert off[1] < off[0]


def kinked(seed: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        hidden, out = nn.Linear(192, 400), nn.Linear(400, 8)
        nn.init.normal_(hidden.bias, std=0.01)  # gray images lie close to the kinks
        return nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), out)


def test_smoothed_energies_are_nearer_to_what_a_minimiser_finds_than_those_at_the_image():
    """On a network of kinks with noise large enough to cross them."""
    lam, noise_at, plain, smooth = 6.0, 0.01, [], []
    for seed in range(3):
        net = network(kinked(seed))
        images = Images(
            torch.full((1, 3, 8, 8), 0.5), torch.zeros(1, dtype=torch.int64), ("a",), None
        )
        how = {"layers": ("3",), "lam": lam, "noise": noise_at}
        start = entropy(energy(net, images, "3", **how).numpy(), lam, noise_at)[0]
        aside = look(net, images, **how, radius=3**-0.5, probes=4096, noises=512)["energy/3"]
        wanted = fitted(net, images.pixels, lam, noise_at, start)
        plain.append(off_by(start, wanted))
        smooth.append(off_by(entropy(aside.numpy(), lam, noise_at)[0], wanted))
    assert np.mean(smooth) < 0.7 * np.mean(plain)


def off_by(found: np.ndarray, wanted: np.ndarray) -> float:
    """Root mean square of the difference, but for the level, which cancels in concepts."""
    gap = (found - found.mean()) - (wanted - wanted.mean())
    return float(np.sqrt((gap**2).mean()))


def fitted(net: Network, x: Tensor, lam: float, noise: float, start: np.ndarray) -> np.ndarray:
    """Entropies at the minimum of the loss over many fixed noises, on a 4 x 4 grid."""
    chance = torch.Generator().manual_seed(7)
    half = torch.randn(1500, 3, 8, 8, generator=chance)
    e = torch.cat([half, -half])
    clean = net(x)
    unit = (net(x + noise * e) - clean).square().mean()

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        log_s = torch.from_numpy(values).float().requires_grad_()
        s = log_s.exp().view(1, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
        total = (net(x + s * e) - clean).square().mean() / unit - lam * log_s.mean()
        (slope,) = torch.autograd.grad(total, log_s)
        return total.item(), slope.double().numpy()

    from_here = np.asarray(start, dtype=np.float64) - 0.5 * math.log(2 * math.pi * math.e)
    found = minimize(loss, from_here, jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return found.x + 0.5 * math.log(2 * math.pi * math.e)
