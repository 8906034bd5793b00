"""Updates and lesions against networks that are built without the block."""

import copy

import numpy as np
import pytest
import torch
from stage import Stage, network, noise_images
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from kdprobe.errors import InputError
from kdprobe.models.contract import make_body
from kdprobe.probes.lesions import carried, instead, lesions

DATA = noise_images(24)


def looked(body: nn.Module, data=DATA, blocks=("auto",), batch=8, rows=128) -> dict[str, Tensor]:
    stage = Stage(data, {"one": network(body)}, batch=rows)
    return lesions(["one"], stage, blocks=blocks, batch=batch)


def resnet(seed: int = 0, name: str = "resnet20") -> nn.Module:
    torch.manual_seed(seed)
    body = make_body(name, num_classes=2, width=4).eval()
    for module in body.modules():  # or all blocks would start alike
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.5)
            module.weight.data.uniform_(0.2, 1)
    with torch.no_grad():  # both answers are given
        body.fc.bias -= network(body)(DATA.pixels).median(0).values
    return body


def right(body: nn.Module, data=DATA) -> Tensor:
    return network(body)(data.pixels).argmax(1) == data.labels


def test_the_identity_lesion_is_the_network_without_the_block():
    seen, body = looked(resnet()), resnet()
    assert seen["same"].tolist() == [True, True, True, False, True, True, False, True, True]
    torch.testing.assert_close(seen["right"], right(body))
    changed = False
    for i, path in ((1, "layer1.1"), (5, "layer2.2"), (8, "layer3.2")):
        other = copy.deepcopy(body)
        stage, place = path.split(".")
        other.get_submodule(stage)[int(place)] = nn.Identity()
        assert torch.equal(seen["without"][i], right(other))
        changed |= not torch.equal(seen["without"][i], seen["right"])
    assert changed
    assert torch.equal(seen["without"][3], seen["right"]), "no identity of another shape"


def test_blocks_inside_a_block_are_lesioned_too():
    inner = looked(resnet(), blocks=("layer1.1", "layer2.2"))
    both = looked(resnet(), blocks=("layer1", "layer1.1", "layer2", "layer2.2"))
    assert bytes(both["names"].tolist()) == b"layer1\nlayer1.1\nlayer2\nlayer2.2"
    for part in ("without", "still"):
        assert torch.equal(both[part][[1, 3]], inner[part])


class Held(nn.Module):
    def __init__(self, held: Tensor, shape: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.held, self.shape = held, shape

    def forward(self, x: Tensor) -> Tensor:
        if self.shape:
            pooled = adaptive_avg_pool2d(x, self.shape[1:])
            x = torch.cat([pooled, torch.zeros_like(pooled)], dim=1)[:, : self.shape[0]]
        return x + self.held


@pytest.mark.parametrize(("place", "path"), [(2, "layer1.2"), (3, "layer2.0"), (4, "layer2.1")])
@pytest.mark.parametrize("rows", [128, 5])
def test_the_mean_lesion_holds_what_a_block_adds(place, path, rows):
    seen, body = looked(resnet(), rows=rows), resnet()
    block, kept = body.get_submodule(path), {}
    block.register_forward_hook(lambda module, x, out: kept.update(x=x[0], out=out))
    right(body)
    shape = kept["out"].shape[1:] if kept["x"].shape != kept["out"].shape else None
    zero = Held(torch.zeros(()), shape)
    held = Held((kept["out"] - zero(kept["x"])).mean(0), shape)
    stage, number = path.split(".")
    body.get_submodule(stage)[int(number)] = held
    assert torch.equal(seen["still"][place], right(body))
    assert not torch.equal(seen["still"][place], seen["right"])


class Times(nn.Module):
    """f(x) = factor * x, in place or not, and a weight so that it counts as a block."""

    def __init__(self, factor: float, inplace: bool = False) -> None:
        super().__init__()
        self.inner = nn.Linear(1, 1)
        self.factor, self.inplace = factor, inplace

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(self.factor) if self.inplace else x * self.factor


def chain(*blocks: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 6), *blocks, nn.Linear(6, 2))


@pytest.mark.parametrize("inplace", [False, True])
def test_updates_of_multiples_are_known_and_in_place_ones_too(inplace):
    seen = looked(chain(Times(3.0, inplace), Times(0.5, inplace)))
    ratios = (seen["update"] / seen["size"]).numpy()
    np.testing.assert_allclose(ratios, np.broadcast_to([[2.0], [0.5]], (2, 24)), rtol=1e-5)
    within = seen["within"].sum(0)
    cka = within[:, 0] / (within[:, 1] * within[:, 2]).sqrt()
    np.testing.assert_allclose(cka, 1, rtol=1e-5)
    plain = looked(chain(Times(3.0), Times(0.5)))
    for part in ("without", "still", "right"):
        assert torch.equal(seen[part], plain[part])


class Counting(Times):
    """Remembers how often it ran."""

    ran = 0

    def forward(self, x: Tensor) -> Tensor:
        self.ran += 1
        return super().forward(x)


def test_what_comes_before_a_block_is_not_run_again():
    first, second = Counting(3.0), Counting(0.5)
    looked(chain(first, second), batch=24)
    assert first.ran == 3, "to find it, to see what it adds, and to keep what it gives"
    assert second.ran == 3 + 2


class Raising(nn.Module):
    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        return x.add_(1.0) if self.inplace else x + 1.0


def test_a_step_in_place_after_a_block_does_not_spoil_what_is_kept():
    spoiled, plain = (
        looked(chain(Times(3.0), Raising(inplace), Times(-0.5), Times(-2.0)))
        for inplace in (True, False)
    )
    assert plain["still"].float().mean() not in (0, 0.5, 1), "both answers are given"
    for part in ("right", "without", "still"):
        assert torch.equal(spoiled[part], plain[part])


class Pooling(nn.Module):
    """An inner module of a class that is there twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).tanh()


def debiased(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased HSIC, Song et al. 2012, equation 4, linear kernel."""
    n, one = len(x), np.ones(len(x))
    k, m = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    whole = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return float((np.trace(k @ m) + whole - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3)))


def test_hsic_is_the_trace_formula_of_every_batch():
    torch.manual_seed(0)
    first, second = Pooling(), Pooling()
    seen = looked(nn.Sequential(first, second, nn.Flatten(), nn.Linear(192, 2)), batch=10)
    assert seen["sizes"].tolist() == [10, 10, 4]
    x = DATA.pixels[10:20] - 0.5
    with torch.no_grad():
        y = first(x)
        sides = [side.flatten(1).double().numpy() for side in (x, y, second(y))]
    pairs = [(0, 1), (0, 0), (1, 1)]
    found = [debiased(sides[i], sides[j]) for i, j in pairs]
    np.testing.assert_allclose(seen["within"][1, 0], found, rtol=1e-4)
    np.testing.assert_allclose(seen["between"][1, 0, 1], debiased(sides[1], sides[2]), rtol=1e-4)


@pytest.mark.parametrize(("count", "batches"), [(3, 0), (4, 1), (11, 1), (12, 2)])
def test_batches_too_small_for_hsic_have_none(count, batches):
    seen = looked(chain(Times(3.0), Times(0.5)), noise_images(count))
    assert seen["within"].shape == (batches, 2, 3)
    assert seen["between"].shape == (batches, 2, 2)
    assert seen["update"].shape == (2, count)


def test_carrying_pools_and_pads_or_gives_nothing():
    x = torch.arange(32.0).view(1, 2, 4, 4)
    assert torch.equal(carried(x, torch.Size((2, 4, 4))), x)
    smaller = carried(x, torch.Size((3, 2, 2)))
    assert smaller[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert smaller[0, 2].eq(0).all()
    assert torch.equal(carried(x, torch.Size((1, 4, 4))), x[:, :1])
    assert carried(x, torch.Size((7,))).tolist() == [[0.0] * 7]


def test_a_replaced_module_runs_again_even_after_an_error():
    module, x = nn.Linear(2, 2), torch.ones(1, 2)
    before = module(x)
    with pytest.raises(RuntimeError, match="shapes"), instead(module, torch.clone):
        module(x) @ torch.ones(3, 1)
    assert torch.equal(module(x), before)
    assert "forward" not in vars(module)
    wrapped = module.forward
    vars(module)["forward"] = lambda x: wrapped(x) + 1
    with instead(module, torch.clone):
        assert torch.equal(module(x), x)
    assert torch.equal(module(x), before + 1), "what was wrapped before stays so"


class Moody(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.flat, self.one, self.two = nn.Flatten(), nn.Linear(192, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(self.flat(x))
        return self.head(self.two(x) if len(x) == 2 else x)


def test_a_block_that_is_called_on_some_images_only_is_refused():
    with pytest.raises(
        InputError, match=r"block 'two' is called on some images only; wanted .* set"
    ):
        looked(Moody())


def test_a_network_without_blocks_shows_none():
    seen = looked(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)))
    assert list(seen) == ["names"]
    assert seen["names"].shape == (0,)
