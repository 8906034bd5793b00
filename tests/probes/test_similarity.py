"""HSIC and CKA against their definitions, their laws, and what must not change them."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from stage import Stage, network, noise_images
from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.metrics.alignment import normalised
from kdprobe.probes.hsic_null import Null, permuted
from kdprobe.probes.kernels import (
    Kernel,
    gram,
    inner,
    off_diagonal,
    rbf,
    tapped,
    twice_centred,
    u_centred,
)
from kdprobe.probes.similarity import course, hsic

PLAIN: dict[str, Any] = {
    "kernel": "linear",
    "bandwidth": 0.8,
    "estimator": "debiased",
    "precision": "float32",
}
Seen = dict[str, Tensor]


def net(seed: int, *, inplace: bool = False) -> nn.Sequential:
    torch.manual_seed(seed)
    conv, norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
    return nn.Sequential(conv, norm, nn.ReLU(inplace=inplace), nn.Flatten(), nn.Linear(384, 5))


def looked(
    stage: Stage,
    layers: Sequence[str] = ("1", "4"),
    others: Sequence[str] = ("1", "2", "4"),
    **changes: Any,
) -> Seen:
    """Layers of "one", which is the second subject, against others of "two"."""
    names = (*(f"0/{name}" for name in others), *(f"1/{name}" for name in layers))
    settings = {"references": 1, "batch": 8, "permutations": 3, **PLAIN, **changes}
    return hsic(["two", "one"], stage, layers=names, **settings)


def cka(seen: Seen) -> np.ndarray:
    """(layers of "one", layers of "two")."""
    others = seen["cross"].shape[1]
    cross, own = (seen[name].numpy() for name in ("cross", "own"))
    return normalised(cross, own, own[:others])[others:]


def features(body: nn.Module, layer: str, pixels: Tensor) -> np.ndarray:
    """What the layer puts out, by running the modules before it one by one."""
    x = (pixels - 0.5).double()
    for module in list(body.double().children())[: int(layer) + 1]:
        x = module(x)
    return x.flatten(1).numpy()


def linear_kernel(x: np.ndarray) -> np.ndarray:
    return np.array([[sum(a * b) for b in x] for a in x])


def rbf_kernel(x: np.ndarray, bandwidth: float) -> np.ndarray:
    distance = np.array([[np.sqrt(((a - b) ** 2).sum()) for b in x] for a in x])
    far = sorted(distance[i, j] for i in range(len(x)) for j in range(i))
    width = bandwidth * far[(len(far) - 1) // 2]
    return np.exp(-(distance**2) / (2 * width**2))


def song(k: np.ndarray, m: np.ndarray) -> float:
    """Unbiased HSIC as the sum over distinct indices that Song et al. 2012 begin with: the mean of
    k_ij m_ij + k_ij m_qr - 2 k_ij m_iq over i, j, q, r that are all different.
    """
    n, total, count = len(k), 0.0, 0
    apart = ~np.eye(n, dtype=bool)
    for i in range(n):
        for j in np.flatnonzero(apart[i]):
            rest = [q for q in range(n) if q not in (i, j)]
            inner = m[np.ix_(rest, rest)]
            pairs = len(rest) * (len(rest) - 1)
            two = (inner.sum() - np.trace(inner)) / pairs
            total += k[i, j] * (m[i, j] + two - 2 * m[i, rest].mean())
            count += 1
    return total / count


def gretton(k: np.ndarray, m: np.ndarray) -> float:
    """Biased HSIC: trace(K H M H) / (n - 1)^2."""
    n = len(k)
    h = np.eye(n) - 1 / n
    return float(np.trace(k @ h @ m @ h)) / (n - 1) ** 2


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize(("estimator", "plain"), [("debiased", song), ("biased", gretton)])
def test_hsic_is_the_plain_formula_averaged_over_batches(kernel, estimator, plain):
    nets = {"one": network(net(0)).double(), "two": network(net(1)).double()}
    data = noise_images(26)
    seen = looked(Stage(data, nets), kernel=kernel, estimator=estimator, bandwidth=0.5)
    make = linear_kernel if kernel == "linear" else lambda x: rbf_kernel(x, 0.5)

    def kernels(name: str, layer: str) -> list[np.ndarray]:
        x = features(nets[name].body, layer, data.pixels[:24])
        return [make(x[rows]) for rows in np.split(np.arange(24), 3)]

    ours = [kernels("one", layer) for layer in ("1", "4")]
    theirs = [kernels("two", layer) for layer in ("1", "2", "4")]
    for j, other in enumerate(theirs):
        own = np.mean([plain(m, m) for m in other])
        assert float(seen["own"][j]) == pytest.approx(own, rel=1e-5)
        for i, layer in enumerate(ours):
            wanted = np.mean([plain(k, m) for k, m in zip(layer, other, strict=True)])
            assert float(seen["cross"][3 + i, j]) == pytest.approx(wanted, rel=1e-5)
    assert int(seen["images"]) == 24, "the last two are no whole batch"


def test_full_biased_linear_cka_has_a_feature_form():
    """||Yc' Xc||^2 / (||Xc' Xc|| ||Yc' Yc||), which needs no kernel at all."""
    nets = {"one": network(net(0)).double(), "two": network(net(1)).double()}
    data = noise_images(20)
    found = cka(looked(Stage(data, nets), estimator="biased", batch=64))
    for i, layer in enumerate(("1", "4")):
        for j, other in enumerate(("1", "2", "4")):
            x, y = (
                features(nets[name].body, at, data.pixels)
                for name, at in (("one", layer), ("two", other))
            )
            x, y = x - x.mean(0), y - y.mean(0)
            scale = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
            assert found[i, j] == pytest.approx(np.linalg.norm(y.T @ x) ** 2 / scale, abs=1e-6)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_single_precision_keeps_five_digits_and_bf16_two(kernel):
    data = noise_images(24)
    nets = {"one": network(net(0)), "two": network(net(1))}
    single = cka(looked(Stage(data, nets), kernel=kernel))
    coarse = cka(looked(Stage(data, nets), kernel=kernel, precision="bf16"))
    exact = cka(looked(Stage(data, {k: v.double() for k, v in nets.items()}), kernel=kernel))
    np.testing.assert_allclose(single, exact, atol=1e-5)
    assert 1e-5 < np.abs(coarse - exact).max() < 2e-2


def test_bf16_is_of_the_products_too():
    x = torch.randn(16, 50, generator=torch.Generator().manual_seed(0))
    off = (gram(x, bf16=True) - gram(x)).abs().max() / gram(x).abs().max()
    assert 1e-5 < off < 1e-2
    data, body = noise_images(8), network(net(0))
    with torch.autocast("cpu", torch.bfloat16):
        logits = body(data.pixels)
    found = tapped("one", ("4",), Stage(data, {"one": body})).grams(data.pixels, bf16=True)
    torch.testing.assert_close(found[0], gram(logits, bf16=True), rtol=0, atol=0)


def test_independent_features_have_none_on_average_without_bias():
    chance = torch.Generator().manual_seed(0)
    found = {"debiased": [], "biased": []}
    for _ in range(400):
        ours, theirs = (torch.randn(8, 6, generator=chance).double() for _ in range(2))
        grams = torch.stack([gram(ours), gram(theirs)])
        for estimator, values in found.items():
            one, two = Kernel(estimator=estimator).centred(grams)
            values.append(float(one @ two))
    error = np.std(found["debiased"]) / np.sqrt(400)
    assert abs(np.mean(found["debiased"])) < 3 * error
    assert np.mean(found["biased"]) > 10 * error


def turned(scale: float, offset: float = 0.0) -> tuple[nn.Sequential, nn.Sequential]:
    """Two networks; the second's last layer turns, scales and moves what the first puts out."""
    torch.manual_seed(0)
    first = nn.Sequential(nn.Flatten(), nn.Linear(192, 16))
    rotation, _ = torch.linalg.qr(torch.randn(16, 16))
    turn = nn.Linear(16, 16)
    turn.weight.data = rotation * scale
    turn.bias.data.fill_(offset)
    return first, nn.Sequential(*first, turn)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("estimator", ["debiased", "biased"])
@pytest.mark.parametrize("scale", [1.0, 1e-8, 1e8])
def test_rotation_and_scale_leave_one(scale, estimator, kernel):
    one, two = turned(scale)
    stage = Stage(noise_images(16), {"one": network(one), "two": network(two)})
    found = cka(looked(stage, ("1",), ("2",), estimator=estimator, kernel=kernel))
    assert found[0, 0] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("offset", [10.0, 100.0, 1000.0])
def test_a_common_offset_changes_nothing(offset, kernel):
    data, values = noise_images(16), []
    for moved in (0.0, offset):
        _, two = turned(1.0, moved)
        nets = {"one": network(net(0)), "two": network(two)}
        spread = nets["two"](data.pixels).std().item()
        assert moved == 0 or moved > offset * spread
        values.append(cka(looked(Stage(data, nets), ("4",), ("2",), kernel=kernel)))
        assert 0.01 < abs(values[0][0, 0]) < 0.99
    np.testing.assert_allclose(values[1], values[0], atol=1e-6 * offset)


def test_the_order_of_the_images_changes_nothing_of_the_full_measure():
    data = noise_images(16)
    nets = {"one": network(net(0)), "two": network(net(1))}
    turned_round = data.take(torch.arange(16).flip(0))
    found = [cka(looked(Stage(images, nets), batch=16)) for images in (data, turned_round)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_an_in_place_step_after_a_tap_changes_nothing():
    data = noise_images(16)
    found = []
    for inplace in (False, True):
        nets = {"one": network(net(0, inplace=inplace)), "two": network(net(1, inplace=inplace))}
        found.append(looked(Stage(data, nets)))
        found.append(looked(Stage(data, nets, batch=3)))
    for part in found[0]:
        torch.testing.assert_close(found[2][part], found[0][part], rtol=0, atol=0)
        torch.testing.assert_close(found[1][part], found[0][part], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found[3][part], found[1][part], rtol=0, atol=0)
    kept = cka(found[0])
    assert abs(kept[0, 0] - kept[0, 1]) > 1e-3, "before and after the ReLU are told apart"


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("value", [0.0, 0.3, 7.7, 1e3])
def test_a_layer_that_gives_every_image_the_same_has_no_cka(value, kernel):
    constant = nn.Linear(5, 4)
    constant.weight.data.zero_()
    constant.bias.data = value * torch.tensor([1.0, 1 / 3, 0.1, 0.7])
    nets = {"one": network(net(0)), "two": network(nn.Sequential(*net(1), constant))}
    seen = looked(Stage(noise_images(24), nets), others=("4", "5"), kernel=kernel)
    found = cka(seen)
    assert np.isnan(found[:, 1]).all()
    assert not np.isnan(found[:, 0]).any()
    assert (seen["p"][:, 1] == 1).all()
    assert all(values.isfinite().all() for values in seen.values())


def test_a_layer_that_varies_a_little_is_not_taken_for_constant():
    x = 1 + 1e-4 * torch.randn(8, 50, generator=torch.Generator().manual_seed(0))
    assert gram(x).abs().sum() > 0
    alike = torch.full((8, 50), 1 / 3) * (1 + 1e-7 * (torch.arange(8) % 2)[:, None])
    assert (gram(alike) == 0).all(), "no more than rounding"


def test_images_fewer_than_a_batch_are_one_batch():
    nets = {"one": network(net(0)), "two": network(net(1))}
    few = looked(Stage(noise_images(8), nets), batch=128)
    assert int(few["images"]) == 8
    torch.testing.assert_close(few["cross"], looked(Stage(noise_images(8), nets))["cross"])


@pytest.mark.parametrize(("images", "batch"), [(3, 128), (16, 3), (16, 2)])
def test_batches_too_small_for_the_estimator_are_refused(images, batch):
    nets = {"one": network(net(0)), "two": network(net(1))}
    with pytest.raises(InputError, match=f"found {images} images in batches of {batch}; .* raise"):
        looked(Stage(noise_images(images), nets), batch=batch)


def test_without_a_batch_is_what_the_others_show():
    """Three batches: leaving one out is the look at the two others."""
    nets, data = {"one": network(net(0)), "two": network(net(1))}, noise_images(24)
    seen = looked(Stage(data, nets))
    assert seen["share"].tolist() == pytest.approx([1 / 3] * 3)
    for group in range(3):
        rest = torch.arange(24)[torch.arange(24) // 8 != group]
        alone = looked(Stage(data.take(rest), nets))
        for name in ("cross", "own"):
            torch.testing.assert_close(seen[f"without/{name}"][group], alone[name])


def test_without_some_images_of_one_batch_is_what_the_others_show():
    nets, data = {"one": network(net(0)), "two": network(net(1))}, noise_images(18)
    seen = looked(Stage(data, nets), batch=18)
    assert seen["share"].tolist() == pytest.approx([3 / 18] * 2 + [2 / 18] * 6)
    for group in range(8):
        rest = torch.arange(18)[torch.arange(18) % 8 != group]
        alone = looked(Stage(data.take(rest), nets), batch=18)
        torch.testing.assert_close(
            seen["without/cross"][group], alone["cross"], rtol=1e-4, atol=1e-8
        )
    assert len(looked(Stage(noise_images(4), nets))["share"]) == 0, "none can be spared"


def test_more_batches_than_groups_are_dealt_out():
    nets = {"one": network(net(0)), "two": network(net(1))}
    seen = looked(Stage(noise_images(40), nets), batch=4)
    assert seen["share"].tolist() == pytest.approx([0.2, 0.2] + [0.1] * 6)
    rest = (1 - seen["share"])[:, None] * seen["without/own"]
    torch.testing.assert_close(rest.sum(0), (8 - 1) * seen["own"])


class Odd(nn.Module):
    """Some of its layers cannot be tapped."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.never, self.head = nn.ReLU(), nn.ReLU(), nn.Linear(192, 4)
        self.mean, self.first = Mean(), First()

    def forward(self, x: Tensor) -> Tensor:
        flat = self.twice(self.twice(x)).flatten(1)
        return self.head(flat) + self.mean(x) + self.first(x).mean()


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean()


class First(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:1]


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ("twice", "called more than once"),
        ("never", "is not called on these images"),
        ("mean", r"shape \(\) for 2 images; wanted one row an image"),
        ("first", r"shape \(1, 3, 8, 8\) for 2 images"),
        ("nowhere", "found no layer 'nowhere'"),
    ],
)
def test_one_network_that_cannot_be_looked_at_leaves_the_others(layer, reason):
    data = noise_images(16)
    nets = {"one": network(Odd()), "two": network(net(1)), "three": network(net(2))}
    settings = {"references": 2, "batch": 8, "permutations": 3, **PLAIN}
    names = ("0/4", "1/head", f"1/{layer}", "2/4")
    seen = hsic(["two", "one", "three"], Stage(data, nets), layers=names, **settings)
    assert re.search(reason, bytes(seen.pop("refused/1").tolist()).decode())
    assert (seen["own"][[1, 2]] == 0).all()
    alone = hsic(["two", "three"], Stage(data, nets), layers=("0/4", "1/4"), **settings)
    torch.testing.assert_close(seen["cross"][[0, 3]][:, [0]], alone["cross"][:, [0]])
    assert all(values.isfinite().all() for values in seen.values())
    with pytest.raises(InputError, match=reason):
        hsic(["one"], Stage(data, nets), layers=(f"0/{layer}",), **settings | {"references": 1})


def test_centring_leaves_no_row_sum():
    chance = torch.Generator().manual_seed(0)
    k = torch.stack([gram(torch.randn(9, d, generator=chance).double()) for d in (4, 6)])
    for centre in (u_centred, twice_centred):
        found = centre(k)
        torch.testing.assert_close(found.sum(1), torch.zeros(2, 9).double(), atol=1e-12, rtol=0)
        torch.testing.assert_close(found, found.transpose(1, 2))
    assert u_centred(k).diagonal(dim1=1, dim2=2).eq(0).all()
    assert not twice_centred(k).diagonal(dim1=1, dim2=2).eq(0).any()


@pytest.mark.parametrize("n", [4, 7])
def test_products_are_of_all_rows(n):
    rows = torch.randn(n, 5, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(inner(rows), rows @ rows.T)


def test_what_is_off_the_diagonal():
    k = torch.arange(18.0).view(2, 3, 3)
    assert off_diagonal(k).tolist() == [[1, 2, 3, 5, 6, 7], [10, 11, 12, 14, 15, 16]]


def test_rbf_of_images_that_are_mostly_the_same_has_no_scale():
    x = torch.zeros(6, 3)
    x[0] = 1
    assert (rbf(gram(x)[None], 0.5) == 0).all()
    x[:4] = torch.eye(4)[:, :3] * 5
    assert (rbf(gram(x)[None], 0.5) > 0).all()


def test_a_row_a_layer_in_the_order_asked_and_in_parts_too():
    data, body = noise_images(6), network(net(0))
    rows = tapped("one", ("4", "1"), Stage(data, {"one": body})).grams(data.pixels)
    assert rows.shape == (2, 6, 6)
    swapped = tapped("one", ("1", "4"), Stage(data, {"one": body}, batch=4)).grams(data.pixels)
    torch.testing.assert_close(rows, swapped.flip(0))


def test_layers_that_do_not_fit_together_are_seen_one_after_another(monkeypatch):
    data, body, passes = noise_images(6), network(net(0)), []
    body.register_forward_hook(lambda *_: passes.append(1))
    stage = Stage(data, {"one": body})
    whole = tapped("one", ("1", "2", "4"), stage).grams(data.pixels)
    counted = len(passes)
    monkeypatch.setattr("kdprobe.probes.kernels.budget", lambda device: 4 * 6 * 384)
    parted = tapped("one", ("1", "2", "4"), stage).grams(data.pixels)
    assert len(passes) - counted == counted + 2, "three groups instead of one"
    torch.testing.assert_close(whole, parted)


def test_permuted_is_both_rows_and_columns():
    k = torch.arange(32.0).view(2, 4, 4)
    orders, places = torch.tensor([[2, 0, 3, 1], [0, 1, 2, 3]]), torch.triu_indices(4, 4)
    found = permuted(k.flatten(1), orders, places)
    assert found.shape == (2, 2, 10)
    for r in range(2):
        for u, order in enumerate(orders.tolist()):
            wanted = [float(k[r, order[i], order[j]]) for i, j in places.T.tolist()]
            assert found[r, u].tolist() == wanted


def related(strength: float, seed: int = 0) -> Tensor:
    """(2, n, n) kernels of two sides, of which `strength` is common."""
    chance = torch.Generator().manual_seed(seed)
    common, one, two = (torch.randn(24, 5, generator=chance).double() for _ in range(3))
    sides = [strength * common + (1 - strength) * own for own in (one, two)]
    return torch.stack([gram(side) for side in sides])


def judged(kernels: Tensor, permutations: int = 99) -> tuple[dict[str, Tensor], Tensor]:
    rows = Kernel().centred(kernels)
    chance = torch.Generator().manual_seed(0)
    null = Null(torch.arange(len(kernels)), 1, permutations, chance)
    null.add(rows, kernels.shape[1])
    found = rows @ rows[:1].T
    return null.judged(found), found


def test_what_is_related_is_above_the_null_and_what_is_not_is_not():
    close, _ = judged(related(0.7))
    assert float(close["p"][1, 0]) == pytest.approx(0.01)
    p = [float(judged(related(0.0, seed))[0]["p"][1, 0]) for seed in range(40)]
    assert 0.3 < np.mean(p) < 0.7
    assert np.mean(np.array(p) <= 0.1) < 0.3


def test_the_null_is_the_hsic_of_permuted_images():
    kernels = related(0.5)
    seen, found = judged(kernels, permutations=7)
    chance = torch.Generator().manual_seed(0)
    orders = torch.rand(7, 24, generator=chance).argsort(1)
    one, two = (k.numpy() for k in kernels)
    null = np.array([song(two, one[np.ix_(order, order)]) for order in orders.numpy()])
    assert float(seen["chance"][1, 0]) == pytest.approx(null.mean(), rel=1e-3, abs=1e-3)
    assert float(seen["spread"][1, 0]) == pytest.approx(null.std(), rel=1e-3)
    deviation = (null - null.mean()) / null.std()
    np.testing.assert_allclose(seen["highest"], deviation, atol=1e-3)
    assert float(seen["p"][1, 0]) == (1 + (null >= float(found[1, 0])).sum()) / 8


def test_the_null_of_several_batches_is_the_mean_of_theirs():
    chance, rows = torch.Generator().manual_seed(0), []
    null = Null(torch.arange(2), 1, 50, chance)
    for seed in (0, 1):
        rows.append(Kernel().centred(related(0.5, seed)))
        null.add(rows[-1], 24)
    found = torch.stack([each @ each[:1].T for each in rows]).mean(0)
    both, (one, two) = null.judged(found), (judged(related(0.5, seed), 50)[0] for seed in (0, 1))
    mean = (one["spread"].square() + two["spread"].square()).sqrt() / 2
    assert float(both["spread"][1, 0]) == pytest.approx(float(mean[1, 0]), rel=0.3)
    assert float(both["p"][1, 0]) == pytest.approx(1 / 51)


def test_the_null_does_not_depend_on_how_many_fit_at_once(monkeypatch):
    whole, _ = judged(related(0.3))
    monkeypatch.setattr("kdprobe.probes.hsic_null.AT_ONCE", 1)
    parted, _ = judged(related(0.3))
    for name in whole:
        torch.testing.assert_close(whole[name], parted[name], rtol=1e-5, atol=1e-6)


def test_checkpoints_of_one_network_are_pairs_of_a_look_at_both():
    nets = {"one": network(net(0)), "two": network(net(1))}
    stage, data = Stage(noise_images(24), nets), PLAIN | {"batch": 8}
    seen = course(["two", "one"], stage, layers=("1", "4"), **data)
    assert seen["cross"].shape == (2, 2, 2)
    both = looked(stage, others=("1", "4"))
    for place in range(2):
        torch.testing.assert_close(seen["cross"][place, 1, 0], both["cross"][2 + place, place])
        torch.testing.assert_close(seen["cross"][place, 0, 0], both["own"][place])
        torch.testing.assert_close(
            seen["without/cross"][:, place, 0, 1], both["without/cross"][:, 2 + place, place]
        )
    assert int(seen["images"]) == 24
