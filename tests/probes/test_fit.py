"""The converged fit: closed forms of linear and diagonal networks, and what every match holds."""

import itertools
import math

import pytest
import torch
from stage import Stage, cell_sums, linear, network, noise_images
from torch import Tensor, nn

from kdprobe.datasets.contract import Images
from kdprobe.errors import InputError, UsageError
from kdprobe.probes.contract import HALF_LOG_2PIE
from kdprobe.probes.descent import REACH, TARGET, Problem
from kdprobe.probes.fit import fit, warm_start
from kdprobe.probes.slopes import Eye, Looks
from kdprobe.probes.units import units_of
from kdprobe.taps import Tap

OUT = "1"  # path of the layer of a linear network
NOISE = 0.002
KNOBS = {
    "layers": (OUT,),
    "units": "cells",
    "grid": 4,
    "lam": 6.0,
    "noise": NOISE,
    "relu": False,
    "steps": 200,
    "draws": 8,
    "tolerance": 0.2,
    "match": "weight",
}


class Gains(nn.Module):
    """Every pixel by its gain, after a ReLU of everything where it is bent."""

    def __init__(self, gain: Tensor, bent: bool = False) -> None:
        super().__init__()
        self.gain, self.bent = nn.Parameter(gain), bent

    def forward(self, x: Tensor) -> Tensor:
        found = (x * self.gain).flatten(1)
        return (found + 1).relu() if self.bent else found


class Whole(nn.Module):
    """Answers in whole numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).argsort(1)[:, :3]


class Cut(nn.Module):
    """Loses its gradient on the way."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach().flatten(1)[:, :3]


class Shift(nn.Module):
    """Undoes the normalisation of the stage's networks."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.5


def seen(body: nn.Module, images: Images, batch: int = 128, **changes):
    return fit(["net"], Stage(images, {"net": network(body)}, batch=batch), **{**KNOBS, **changes})


def closed_form(g: Tensor, lam: float) -> Tensor:
    """(n, q) entropies of a linear layer from its energies."""
    count = g.shape[1]
    return 0.5 * torch.log(lam * NOISE**2 * g.sum(1, True) / (2 * count * g)) + HALF_LOG_2PIE


def energies(body: nn.Sequential, outputs: int) -> Tensor:
    """(1, q) energies of `linear`."""
    squares = body[1].weight.detach().view(outputs, 3, 8, 8).square().sum((0, 1))
    return cell_sums(squares[None], 4).flatten(1)


def uneven(outputs: int = 40, seed: int = 0) -> nn.Sequential:
    """A linear layer to which some cells matter more than others: by up to 4 nats."""
    body = linear(outputs, seed=seed)
    scale = torch.linspace(-2, 2, 16).exp().view(4, 4)
    scale = scale.repeat_interleave(2, 0).repeat_interleave(2, 1)
    with torch.no_grad():
        body[1].weight.view(outputs, 3, 8, 8).mul_(scale)
    return body


def planted() -> tuple[nn.Sequential, Tensor]:
    """Two layers with a ReLU between them that see five cells twice as sharply as the others."""
    torch.manual_seed(3)
    gain = torch.ones(4, 4)
    cells = torch.tensor([0, 3, 5, 10, 14])
    gain.view(-1)[cells] = 2
    wide = gain.repeat_interleave(2, 0).repeat_interleave(2, 1)
    first, second = nn.Linear(192, 256), nn.Linear(256, 64)
    body = nn.Sequential(Gains(wide), first, nn.ReLU(), second)
    return body, cells


@pytest.mark.parametrize("lam", [0.5, 6.0])
def test_a_linear_layer_has_the_closed_form_and_loses_half_the_weight(lam):
    body = uneven()
    found = seen(body, noise_images(2), lam=lam)
    wanted = closed_form(energies(body, 40), lam).expand(2, -1)
    assert (found[f"entropy/{OUT}"] - wanted).square().mean().sqrt() < 0.08
    assert (found[f"entropy/{OUT}"] - wanted).mean().abs() < 0.03
    torch.testing.assert_close(
        found[f"distortion/{OUT}"], torch.full((2,), lam / 2), rtol=0.04, atol=0
    )
    assert found[f"weight/{OUT}"].tolist() == [lam] * 2
    assert found[f"converged/{OUT}"].tolist() == [True] * 2
    assert found[f"steps/{OUT}"].tolist() == [200] * 2


@pytest.mark.parametrize(("draws", "chains"), [(4, 2), (8, 4), (12, 2), (16, 4)])
def test_groups_are_chains_whose_mean_is_the_entropy(draws, chains):
    found = seen(uneven(), noise_images(2), draws=draws, steps=20)
    assert found[f"groups/{OUT}"].shape == (chains, 2, 16)
    torch.testing.assert_close(found[f"groups/{OUT}"].mean(0), found[f"entropy/{OUT}"])
    assert found[f"groups/{OUT}"].std(0).min() > 0


def test_chains_tell_the_error_of_their_mean():
    """They scatter as fits with other seeds do."""
    images, (body, _) = noise_images(2), planted()
    fits = []
    for seed in range(16):
        stage = Stage(images, {"net": network(body)}, seed=100 * seed)
        fits.append(fit(["net"], stage, **{**KNOBS, "layers": ("3",)}))
    scatter = torch.stack([one["entropy/3"] for one in fits]).var(0).mean().sqrt()
    told = torch.stack([one["groups/3"].var(0) / 4 for one in fits]).mean().sqrt()
    assert float(told / scatter) == pytest.approx(1, abs=0.15)
    chains = torch.cat([one["groups/3"] for one in fits])
    assert float(chains.var(0).mean().sqrt() / scatter) == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("steps", [10, 25, 199, 200, 201, 300, 410])
def test_no_step_is_left_out_where_nothing_converges(steps):
    found = seen(uneven(outputs=5), noise_images(1), steps=steps, tolerance=1e-9, grid=2)
    assert found[f"steps/{OUT}"].tolist() == [steps]
    assert found[f"entropy/{OUT}"].isfinite().all()


def test_more_steps_come_nearer():
    body, images = uneven(), noise_images(2)
    wanted = closed_form(energies(body, 40), 6.0).expand(2, -1)
    off = [
        (seen(body, images, steps=steps, tolerance=1e-9)[f"entropy/{OUT}"] - wanted).square().mean()
        for steps in (20, 100, 300, 1000)
    ]
    assert all(more < few for few, more in itertools.pairwise(off))


def test_units_of_the_features_do_not_matter():
    one, ten = uneven(), uneven()
    with torch.no_grad():
        ten[1].weight.mul_(10)
    images = noise_images(2)
    a, b = (seen(body, images)[f"entropy/{OUT}"] for body in (one, ten))
    torch.testing.assert_close(a, b, atol=2e-2, rtol=0)


def test_neither_company_nor_order_changes_an_image():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 12))
    images, order = noise_images(5), torch.tensor([3, 1, 4, 0, 2])
    knobs = {"layers": ("3",), "steps": 40}
    whole = seen(body, images, **knobs)
    parts = seen(body, images, batch=16, **knobs)
    turned = seen(body, images.take(order), **knobs)
    alone = seen(body, images.take(order[:1]), **knobs)
    for name in ("entropy/3", "groups/3", "distortion/3"):
        rows = whole[name].movedim(1, 0) if name == "groups/3" else whole[name]
        for found, wanted in ((parts, rows), (turned, rows[order]), (alone, rows[order[:1]])):
            other = found[name].movedim(1, 0) if name == "groups/3" else found[name]
            torch.testing.assert_close(other, wanted, atol=2e-3, rtol=0)


def test_an_image_that_is_done_early_leaves_the_others_as_they_are():
    images = noise_images(3)
    body, _ = planted()
    knobs = {"layers": ("3",), "steps": 400}
    knobs["tolerance"] = next(
        tolerance
        for tolerance in torch.linspace(0.01, 0.2, 39).tolist()
        if seen(body, images, **knobs | {"steps": 200, "tolerance": tolerance})["converged/3"].any()
    )  # one is done, two are not
    together = seen(body, images, **knobs)
    assert sorted(together["steps/3"].tolist()) == [200, 400, 400]
    for row in range(3):
        alone = seen(body, images.take(torch.tensor([row])), **knobs)
        assert alone["steps/3"].item() == together["steps/3"][row]
        torch.testing.assert_close(
            alone["groups/3"][:, 0], together["groups/3"][:, row], atol=5e-3, rtol=0
        )


def start(body: nn.Module, x: Tensor) -> Tensor:
    """(n, q) entropies at which a fit of the output of `body` begins."""
    owned, n = units_of(noise_images(len(x)), "cells", 4), len(x)
    has, net = torch.ones(n, 16, dtype=torch.bool), network(body)
    task = Problem(net, x, net(x), torch.ones(n), owned, has, 6.0, NOISE, "weight")
    how = Looks(("out",), 8, 2, 3**-0.5, 192, 6.0, NOISE)
    eye = Eye(net, {"out": Tap("", "raw")}, x, owned)
    return warm_start(task, eye, how, torch.Generator().manual_seed(0)) + HALF_LOG_2PIE


def test_the_start_is_near_the_minimum_of_a_linear_layer():
    body = uneven()
    wanted = closed_form(energies(body, 40), 6.0).expand(2, -1)
    found = start(body, noise_images(2).pixels)
    error = (found - found.mean(1, True) - wanted + wanted.mean(1, True)).square().mean().sqrt()
    assert error < 0.2  # of 16 probes


def test_the_start_sees_what_only_noise_wakes():
    """Two cells lie below their ReLU, one of them by less than the noise it would be given."""
    dim = torch.full((1, 3, 8, 8), 0.5)
    dim[..., :2, :2], dim[..., :2, 2:4] = -NOISE / 2, -100
    shut = nn.Sequential(Shift(), nn.ReLU(), nn.Flatten())
    h = start(shut, dim)
    even = math.log(NOISE) + 0.5 * math.log(3) + HALF_LOG_2PIE
    assert h[0, 0] - even < 1.5  # the image alone would say much more
    assert h[0, 1] > h[0, 0] + 0.3
    assert (h[0, 2:] - even).abs().max() < 0.6  # of 16 probes


def test_a_diagonal_layer_has_the_entropy_of_its_gains():
    gain = torch.linspace(-1, 1, 16).exp().view(4, 4)
    wide = gain.repeat_interleave(2, 0).repeat_interleave(2, 1)
    found = seen(nn.Sequential(nn.Identity(), Gains(wide)), noise_images(1))
    wanted = closed_form(12 * gain.square().view(1, 16), 6.0)
    assert (found[f"entropy/{OUT}"] - wanted).abs().max() < 0.1


def test_planted_cells_of_a_relu_network_are_kept_by_the_log_of_their_gain():
    images = noise_images(3)
    body, cells = planted()
    h = seen(body, images, layers=("3",))["entropy/3"]
    on = torch.zeros(16, dtype=torch.bool)
    on[cells] = True
    assert (h[:, on].max(1).values < h[:, ~on].min(1).values).all()
    assert h[:, ~on].mean() - h[:, on].mean() == pytest.approx(math.log(2), abs=0.1)


def test_small_noise_ends_at_the_closed_form_of_a_bent_layer():
    images = noise_images(2)
    body, _ = planted()
    x = images.pixels.clone().requires_grad_()
    g = torch.zeros(2, 16)
    for out in network(body)(x).T:
        (slope,) = torch.autograd.grad(out.sum(), x, retain_graph=True)
        g += cell_sums(slope.square().sum(1), 4).flatten(1)
    found = seen(body, images, layers=("3",), lam=1e-2)
    assert (found["entropy/3"] - closed_form(g, 1e-2)).square().mean().sqrt() < 0.08


def test_what_the_layer_never_sees_ends_at_the_reach():
    body = linear(20)
    with torch.no_grad():
        body[1].weight.view(20, 3, 8, 8)[..., :2, :] = 0
    h = seen(body, noise_images(1))[f"entropy/{OUT}"]
    ceiling = math.log(NOISE) + 0.5 * math.log(3) + REACH + HALF_LOG_2PIE
    torch.testing.assert_close(h[:, :4], torch.full((1, 4), ceiling), atol=1e-3, rtol=0)
    assert h[:, 4:].max() < ceiling - 5


def test_a_dead_image_has_no_numbers_and_the_others_have():
    images = noise_images(3)
    images.pixels[1] = 0
    shifted = nn.Sequential(nn.Threshold(-0.3, -0.5), Gains(torch.ones(8, 8)), nn.ReLU())
    found = seen(shifted, images, layers=("2",), steps=20, tolerance=9.0)
    assert found["entropy/2"].isnan().all(1).tolist() == [False, True, False]
    assert found["groups/2"].isnan().any((0, 2)).tolist() == [False, True, False]
    assert found["distortion/2"].isnan().tolist() == [False, True, False]
    assert found["converged/2"].tolist() == [True, False, True]
    assert found["steps/2"].tolist() == [20, 0, 20]


def test_relu_hides_what_is_below_zero():
    body = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    with torch.no_grad():
        body[1].weight.zero_()
        body[1].weight[0, :8] = 1
        body[1].weight[1, 32:40] = 1
        body[1].bias.copy_(torch.tensor([50.0, -50.0]))
    plain = seen(body, noise_images(1), grid=2, steps=20)[f"entropy/{OUT}"]
    after = seen(body, noise_images(1), grid=2, steps=20, relu=1)[f"entropy/{OUT}"]
    assert (plain[0, 2:] - plain[0, :2].mean()).abs().max() < 0.5
    assert (after[0, 2:] - after[0, :2].mean()).min() > 4


def test_parts_and_pixels_of_none():
    parts = torch.full((2, 8, 8), -1)
    parts[:, :2] = 0
    parts[0, 6:] = 1
    images = noise_images(2)
    images = Images(images.pixels, images.labels, images.classes, None, parts)
    body = linear(40)
    h = seen(body, images, units="parts")[f"entropy/{OUT}"]
    squares = body[1].weight.detach().view(40, 3, 8, 8).square().sum((0, 1))
    change = squares[:2].sum() + squares[6:].sum()  # what is of no part is never perturbed
    for row, part, members, count in ((0, 0, squares[:2], 2), (0, 1, squares[6:], 2)):
        wanted = 0.5 * torch.log(6 * NOISE**2 * change / (2 * count * members.sum()))
        assert h[row, part] == pytest.approx(float(wanted) + HALF_LOG_2PIE, abs=0.1)
    assert h[1].isnan().tolist() == [False, True]


def test_tokens():
    torch.manual_seed(0)
    pixels = torch.randn(2, 5, 4)
    images = Images(pixels, torch.zeros(2, dtype=torch.int64), ("a",), None)
    gain = torch.tensor([1.0, 2.0, 0.5, 1.0, 4.0])
    body = nn.Sequential(nn.Identity(), Gains(gain[:, None]))
    net = network(body)
    net.mean, net.std = torch.zeros(4), torch.ones(4)
    found = fit(["net"], Stage(images, {"net": net}), **{**KNOBS, "units": "tokens"})
    wanted = closed_form(4 * gain.square().view(1, 5), 6.0).expand(2, -1)
    assert (found[f"entropy/{OUT}"] - wanted).abs().max() < 0.1


def test_what_has_not_settled_is_said_to_have_not():
    found = seen(uneven(), noise_images(2), steps=10, tolerance=1e-3)
    assert found[f"converged/{OUT}"].tolist() == [False] * 2
    assert found[f"steps/{OUT}"].tolist() == [10] * 2
    assert found[f"entropy/{OUT}"].isfinite().all()


def test_equal_distortion_is_half_the_weight_where_equal_weight_is_not():
    """Noise that a saturating layer hardly shows: the same weight ends at another distortion."""
    body = nn.Sequential(nn.Tanh(), *planted()[0])
    images = noise_images(3)
    images.pixels.sub_(0.5).mul_(torch.tensor([1.0, 0.2, 0.02]).view(3, 1, 1, 1)).add_(0.5)
    knobs = {"layers": ("4",), "lam": 6.0, "noise": 0.1}
    free, held = (seen(body, images, match=m, **knobs) for m in ("weight", "distortion"))
    assert (free["distortion/4"] - 3).abs().max() > 0.2
    torch.testing.assert_close(held["distortion/4"], torch.full((3,), 3.0), rtol=0.03, atol=0)
    again = seen(body, images, match="weight", **knobs | {"lam": float(held["weight/4"][0])})
    assert again["distortion/4"][0] == pytest.approx(3.0, rel=0.06)


def test_equal_entropy_is_the_target_and_tells_its_weight():
    body = uneven()
    found = seen(body, noise_images(2), match="entropy")
    torch.testing.assert_close(found[f"entropy/{OUT}"].mean(1), torch.full((2,), TARGET))
    weight = float(found[f"weight/{OUT}"][0])
    wanted = closed_form(energies(body, 40), weight)
    assert wanted.mean() == pytest.approx(TARGET, abs=0.05)
    assert (found[f"entropy/{OUT}"] - wanted).square().mean().sqrt() < 0.1


def test_all_layers_are_fitted_on_their_own_and_one_image_is_enough():
    images = noise_images(1)
    body, _ = planted()
    both = seen(body, images, layers=("1", "3"), steps=20)
    one = seen(body, images, layers=("3",), steps=20)
    assert torch.equal(both["entropy/3"], one["entropy/3"])
    assert both["entropy/1"].shape == (1, 16)


@pytest.mark.parametrize(
    ("layer", "changes", "words"),
    [
        ("0", {}, "found no slope from layer 'parts.0'"),
        ("1", {}, "found no slope from layer 'parts.1'"),
    ],
)
def test_a_layer_that_cannot_be_fitted_is_named(layer, changes, words):
    class Three(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList([Whole(), Cut(), Gains(torch.zeros(8, 8))])

        def forward(self, x: Tensor) -> Tensor:
            return [part(x) for part in self.parts][-1]

    with pytest.raises(InputError, match=words):
        seen(Three(), noise_images(2), layers=(f"parts.{layer}",), steps=20)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 9}, "found 9 steps of the fit; wanted at least 10"),
        ({"draws": 6}, "found 6 draws of the fit; wanted a multiple of 4"),
        ({"match": "lamda"}, "wanted one of weight, distortion, entropy"),
    ],
)
def test_settings_that_no_fit_can_be_made_of(changes, words):
    with pytest.raises(UsageError, match=words):
        seen(uneven(), noise_images(1), **changes)
