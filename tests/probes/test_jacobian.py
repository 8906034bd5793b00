"""Jacobian energies: a linear network in closed form, a naive loop, and their own error bars."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from stage import Stage, cell_sums, linear, network, noise_images
from torch import Tensor, nn

from kdprobe.metrics.discarding import UNIFORM_NOISE, entropy
from kdprobe.models.contract import Network, make_body
from kdprobe.probes.jacobian import Directions, directions, energies, jacobian
from kdprobe.taps import find_taps

STD = (0.5, 1.0, 2.0)
OUT = "1"  # path of the layer of a linear network


def bent(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    parts = [nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(256, 12)]
    return nn.Sequential(*parts)


def seen(net: Network, layer: str, pixels: Tensor, *, grid=4, probes=64, exact=64, chunk=8, seed=1):
    taps = find_taps(net.body, [layer])
    vectors = directions(net, taps, pixels.to(net.mean.dtype), probes, exact, seed)
    found = energies(net, taps, pixels, vectors, grid=grid, chunk=chunk)
    return found[f"energy/{layer}"], found[f"error/{layer}"]


def test_a_linear_network_has_the_squared_weights_of_each_cell():
    net, pixels = network(linear(20), STD), noise_images(3).pixels
    energy, error = seen(net, OUT, pixels)
    weight = net.body[1].weight.view(20, 3, 8, 8) / torch.tensor(STD).view(3, 1, 1)
    wanted = cell_sums(weight.square().sum((0, 1))[None], 4)
    torch.testing.assert_close(energy, wanted.expand(3, 4, 4))
    assert torch.equal(error, torch.zeros(3, 4, 4))


def test_exact_is_the_naive_loop_over_the_outputs():
    net, pixels = network(bent(), STD).double(), noise_images(2).pixels.double()
    energy, _ = seen(net, "3", pixels, chunk=5)
    wanted = []
    for image in pixels:
        jacobi = torch.autograd.functional.jacobian(net, image[None])  # (1, 12, 1, 3, 8, 8)
        wanted.append(cell_sums(jacobi[0, :, 0].square().sum((0, 1))[None], 4)[0])
    torch.testing.assert_close(energy, torch.stack(wanted), rtol=1e-12, atol=0)


def test_a_finer_grid_adds_up_to_a_coarser_one():
    net, pixels = network(bent()).double(), noise_images(2).pixels.double()
    fine, coarse = (seen(net, "3", pixels, grid=g)[0] for g in (8, 2))
    torch.testing.assert_close(cell_sums(fine, 2), coarse, rtol=1e-12, atol=0)


def test_random_probes_agree_with_the_exact_energies_within_their_own_error():
    net, pixels = network(linear(100)), noise_images(1).pixels
    truth, _ = seen(net, OUT, pixels, exact=100)
    trials = [seen(net, OUT, pixels, probes=32, exact=0, seed=s) for s in range(200)]
    found, error = (torch.stack(part) for part in zip(*trials, strict=True))
    bias = (found.mean(0) - truth) / (found.std(0) / math.sqrt(200))
    assert bias.abs().max() < 4.5
    assert (found.std(0) / error.square().mean(0).sqrt()).sub(1).abs().max() < 0.25
    assert ((found - truth).abs() < 2 * error).float().mean() > 0.9


def test_the_error_shrinks_with_the_root_of_the_probes():
    net, pixels = network(linear(100)), noise_images(1).pixels
    truth, _ = seen(net, OUT, pixels, exact=100)
    off, told = {}, {}
    for probes in (64, 1024):
        trials = [
            seen(net, OUT, pixels, probes=probes, exact=0, chunk=256, seed=s) for s in range(20)
        ]
        off[probes] = torch.stack([(g - truth).square().mean() for g, _ in trials]).mean().sqrt()
        told[probes] = torch.stack([error.mean() for _, error in trials]).mean()
    assert off[1024] / off[64] == pytest.approx(1 / 4, rel=0.2)
    assert told[1024] / told[64] == pytest.approx(1 / 4, rel=0.1)


@pytest.mark.parametrize("exact", [0, 64])
def test_neither_chunks_nor_batches_change_the_numbers(exact):
    net, data = network(bent()), noise_images(7)
    knobs = {"layers": ("1", "3"), "grid": 4, "probes": 10, "exact": exact}
    whole = jacobian(["net"], Stage(data, {"net": net}), **knobs)
    parts = jacobian(["net"], Stage(data, {"net": net}, batch=3), **knobs)
    groups = set() if exact else {"groups/3"}
    assert set(whole) == {"energy/1", "energy/3", "error/1", "error/3", "groups/1"} | groups
    for name, values in whole.items():
        assert values.shape == ((4, 7, 4, 4) if name.startswith("groups") else (7, 4, 4))
        torch.testing.assert_close(parts[name], values, rtol=1e-4, atol=1e-6)
    alone = jacobian(["net"], Stage(data.take(torch.tensor([5])), {"net": net}), **knobs)
    torch.testing.assert_close(alone["energy/3"][0], whole["energy/3"][5], rtol=1e-4, atol=0)


def test_all_layers_and_probes_ride_on_one_forward_pass():
    net, pixels = network(bent()), noise_images(2).pixels
    taps = find_taps(net.body, ["0", "1", "3"])
    vectors = directions(net, taps, pixels, 9, 12, 0)
    passes = []
    net.register_forward_hook(lambda *_: passes.append(1))
    found = energies(net, taps, pixels, vectors, grid=4, chunk=4)
    assert len(passes) == 1
    assert len(found) == 8  # two of the layers have probes in groups


def test_networks_of_one_shape_share_their_probes():
    data = noise_images(2)
    nets = {"one": network(bent(0)), "two": network(bent(1)), "like one": network(bent(0))}
    stage = Stage(data, nets)
    knobs = {"layers": ("1",), "grid": 4, "probes": 4, "exact": 0}
    one, two, again = (jacobian([name], stage, **knobs)["energy/1"] for name in nets)
    assert torch.equal(one, again)
    assert not torch.equal(one, two)
    taps = find_taps(nets["one"].body, ["1"])
    drawn = [
        torch.cat(list(directions(nets[name], taps, data.pixels, 4, 0, 1)["1"].chunks(3)))
        for name in nets
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert drawn[0].abs().eq(1).all()


def test_vectors_are_the_same_however_they_are_cut():
    for exact in (False, True):
        how = Directions(37, 37 if exact else 11, exact, seed=3)
        whole, cut = (torch.cat(list(how.chunks(size))) for size in (99, 2))
        assert torch.equal(whole, cut)


def test_groups_of_probes_average_to_the_energy():
    net, data = network(bent()), noise_images(3)
    knobs = {"layers": ("1",), "grid": 4, "probes": 8, "exact": 0}
    found = jacobian(["net"], Stage(data, {"net": net}), **knobs)
    torch.testing.assert_close(found["groups/1"].mean(0), found["energy/1"])
    two = jacobian(["net"], Stage(data, {"net": net}), **knobs | {"probes": 2})
    assert two["groups/1"].shape == (2, 3, 4, 4)


def test_what_a_layer_cannot_see_has_no_energy():
    body = linear(5)
    with torch.no_grad():
        body[1].weight.view(5, 3, 8, 8)[..., :4, :] = 0
    energy, _ = seen(network(body), OUT, noise_images(1).pixels)
    assert torch.equal(energy[:, :2], torch.zeros(1, 2, 4))
    assert energy[:, 2:].min() > 0


def test_bundled_networks_are_looked_at_layer_by_layer():
    torch.manual_seed(0)
    net = network(make_body("resnet8", num_classes=3, width=2))
    data = noise_images(2, side=32)
    knobs = {"layers": ("stage3", "logits"), "grid": 8, "probes": 4, "exact": 16}
    found = jacobian(["net"], Stage(data, {"net": net}), **knobs)
    assert torch.equal(found["error/logits"], torch.zeros(2, 8, 8))
    assert found["error/stage3"].min() > 0
    assert found["energy/stage3"].min() > 0


def design(width: int) -> np.ndarray:
    """Noises with exactly the second moments of a standard normal: sqrt(width) times a rotation."""
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(width, width)))
    return rotation * math.sqrt(width)


def least(features, x: np.ndarray, grid: int, lam: float) -> tuple[np.ndarray, float]:
    """Entropies at the minimum of the paper's loss over log s, and the feature loss there."""
    noise = torch.from_numpy(design(x.size))
    start = torch.from_numpy(x).flatten()
    clean = features(start[None])
    unit = (features(start + UNIFORM_NOISE * noise) - clean).square().mean()

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

    start_s = np.full(grid * grid, math.log(UNIFORM_NOISE))
    found = minimize(loss, start_s, jac=True, method="L-BFGS-B", options={"ftol": 0, "gtol": 1e-10})
    h = found.x.reshape(grid, grid) + 0.5 * math.log(2 * math.pi * math.e)
    return h, float(distortion(torch.from_numpy(found.x)))


@pytest.mark.parametrize("lam", [1.0, 6.0])
def test_the_entropy_is_where_a_minimiser_ends_on_a_linear_layer(lam):
    net, x = network(linear(20), STD).double(), noise_images(1).pixels.double()
    energy, _ = seen(net, OUT, x)
    wanted, distortion = least(lambda rows: net(rows.view(-1, 3, 8, 8)), x.numpy(), 4, lam)
    np.testing.assert_allclose(entropy(energy.numpy(), lam)[0], wanted, atol=1e-6)
    assert distortion == pytest.approx(lam / 2, rel=1e-6)


def test_the_entropy_is_the_limit_of_small_noise_on_a_bent_layer():
    net, x = network(bent()).double(), noise_images(1).pixels.double()
    energy, _ = seen(net, "3", x)
    off = []
    for lam in (1.0, 1e-4):
        wanted, _ = least(lambda rows: net(rows.view(-1, 3, 8, 8)), x.numpy(), 4, lam)
        off.append(np.abs(entropy(energy.numpy(), lam)[0] - wanted).max())
    assert off[1] < 1e-3
    assert off[1] < off[0]
