"""CKA against its definition, its laws, and what must not change it."""

import numpy as np
import pytest
import torch
from stage import Stage, network, noise_images
from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.metrics.cka import normalised
from kdprobe.probes.similarity import centred_grams, gram, hsic, pair_hsic, u_centred
from kdprobe.taps import find_taps


def net(seed: int, *, inplace: bool = False) -> nn.Sequential:
    torch.manual_seed(seed)
    conv, norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
    return nn.Sequential(conv, norm, nn.ReLU(inplace=inplace), nn.Flatten(), nn.Linear(384, 5))


def looked(stage: Stage, layers=("1", "4"), others=("1", "2", "4"), batch=8) -> dict[str, Tensor]:
    return hsic(["one", "two"], stage, layers=layers, others=others, batch=batch)


def cka(seen: dict[str, Tensor]) -> np.ndarray:
    return normalised(*(seen[part].numpy() for part in ("cross", "first", "second")))


def song(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased HSIC of one batch as Song et al. 2012 write it, equation 4, linear kernel."""
    n, one = len(x), np.ones(len(x))
    k, m = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    whole = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return float((np.trace(k @ m) + whole - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3)))


def features(body: nn.Module, layer: str, pixels: Tensor) -> np.ndarray:
    """What the layer puts out, by running the modules before it one by one."""
    x = (pixels - 0.5).double()
    for module in list(body.double().children())[: int(layer) + 1]:
        x = module(x)
    return x.flatten(1).numpy()


def test_hsic_is_the_trace_formula_averaged_over_batches():
    nets = {"one": network(net(0)).double(), "two": network(net(1)).double()}
    data = noise_images(26)
    seen = looked(Stage(data, nets))
    for i, layer in enumerate(("1", "4")):
        for j, other in enumerate(("1", "2", "4")):
            x = features(nets["one"].body, layer, data.pixels)
            y = features(nets["two"].body, other, data.pixels)
            wanted = np.mean([song(x[rows], y[rows]) for rows in np.split(np.arange(24), 3)])
            assert float(seen["cross"][i, j]) == pytest.approx(wanted, rel=1e-6)
            wanted = np.mean([song(y[rows], y[rows]) for rows in np.split(np.arange(24), 3)])
            assert float(seen["second"][j]) == pytest.approx(wanted, rel=1e-6)
    assert int(seen["images"]) == 24, "the last two are no whole batch"


def test_single_precision_keeps_five_digits():
    data = noise_images(24)
    single, double = ({"one": network(net(0)), "two": network(net(1))} for _ in range(2))
    double = {name: one.double() for name, one in double.items()}
    np.testing.assert_allclose(
        cka(looked(Stage(data, single))), cka(looked(Stage(data, double))), atol=1e-5
    )


def test_independent_features_have_none_on_average():
    chance = torch.Generator().manual_seed(0)
    found = []
    for _ in range(400):
        ours, theirs = (torch.randn(8, 6, generator=chance).double() for _ in range(2))
        grams = [u_centred(gram(side)).flatten()[None] for side in (ours, theirs)]
        found.append(float(pair_hsic(*grams)[0]))
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(400)


def turned(scale: float, offset: float = 0.0) -> tuple[nn.Sequential, nn.Sequential]:
    """Two networks; the second's last layer turns, scales and moves what the first puts out."""
    torch.manual_seed(0)
    first = nn.Sequential(nn.Flatten(), nn.Linear(192, 16))
    rotation, _ = torch.linalg.qr(torch.randn(16, 16))
    turn = nn.Linear(16, 16)
    turn.weight.data = rotation * scale
    turn.bias.data.fill_(offset)
    return first, nn.Sequential(*first, turn)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 50.0])
def test_rotation_and_scale_leave_one(scale):
    one, two = turned(scale)
    stage = Stage(noise_images(16), {"one": network(one), "two": network(two)})
    found = cka(looked(stage, layers=("1",), others=("2",)))
    assert found[0, 0] == pytest.approx(1, abs=1e-5)


def test_a_common_offset_a_thousand_times_the_spread_changes_nothing():
    data, values = noise_images(16), []
    for offset in (0.0, 1000.0):
        _, two = turned(1.0, offset)
        nets = {"one": network(net(0)), "two": network(two)}
        spread = nets["two"](data.pixels).std().item()
        assert offset == 0 or offset > 1000 * spread
        values.append(cka(looked(Stage(data, nets), layers=("4",), others=("2",))))
        assert 0.01 < abs(values[0][0, 0]) < 0.99
    np.testing.assert_allclose(values[1], values[0], atol=1e-3)


def test_an_in_place_step_after_a_tap_changes_nothing():
    data = noise_images(16)
    found = []
    for inplace in (False, True):
        nets = {"one": network(net(0, inplace=inplace)), "two": network(net(1, inplace=inplace))}
        found.append(looked(Stage(data, nets)))
    assert all(torch.equal(found[0][part], found[1][part]) for part in found[0])
    kept = cka(found[0])
    assert abs(kept[0, 0] - kept[0, 1]) > 1e-3, "before and after the ReLU are told apart"


@pytest.mark.parametrize("value", [0.0, 0.3, 7.7, 1e3])
def test_a_layer_that_gives_every_image_the_same_has_no_cka(value):
    constant = nn.Linear(5, 4)
    constant.weight.data.zero_()
    constant.bias.data = value * torch.tensor([1.0, 1 / 3, 0.1, 0.7])
    nets = {"one": network(net(0)), "two": network(nn.Sequential(*net(1), constant))}
    found = cka(looked(Stage(noise_images(24), nets), others=("4", "5")))
    assert np.isnan(found[:, 1]).all()
    assert not np.isnan(found[:, 0]).any()


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


def test_centring_leaves_no_row_sum():
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)).double()
    k = u_centred(gram(x))
    assert k.diagonal().eq(0).all()
    torch.testing.assert_close(k.sum(0), torch.zeros(9).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(k, k.T)


def test_a_row_a_layer_in_the_order_asked():
    body = network(net(0))
    rows = centred_grams(body, find_taps(body.body, ["4", "1"]), noise_images(6).pixels, 6)
    assert rows.shape == (2, 36)
    swapped = centred_grams(body, find_taps(body.body, ["1", "4"]), noise_images(6).pixels, 4)
    torch.testing.assert_close(rows, swapped.flip(0))
