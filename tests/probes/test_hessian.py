"""The Hessian of a loss: against the matrix written out, and networks that have none refused."""

from typing import Any

import numpy as np
import pytest
import torch
from stage import Stage, linear, network, noise_images
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, dropout
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import remove_parametrizations

from kdprobe.datasets.contract import Images
from kdprobe.errors import InputError
from kdprobe.metrics.curvature import bend_of, negative_share
from kdprobe.models.contract import Network, make_body
from kdprobe.probes.hessian import hessian, over_images
from kdprobe.probes.parts import parts_of
from kdprobe.probes.products import Hessian, bytes_an_image, lean
from kdprobe.taps import Tap

SMALL: dict[str, Any] = {
    "top": 2,
    "tolerance": 1e-3,
    "steps": 40,
    "trace_tolerance": 0.05,
    "draws": 12,
    "probes": 3,
    "probe_steps": 12,
    "per_layer": True,
}


def seeded(*modules: Any, seed: int = 0) -> nn.Sequential:
    """Modules from the makers, with weights of `seed` and BatchNorms as after some training."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = nn.Sequential(*(make() for make in modules))
        for module in body.modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
                if module.affine:
                    nn.init.uniform_(module.weight, 0.5, 1.5)
                    nn.init.normal_(module.bias, 0, 0.3)
    return body


def little(seed: int = 0) -> Network:
    """Convolution, BatchNorm and a linear layer of 95 weights, in float64."""
    body = seeded(
        lambda: nn.Conv2d(3, 2, 3, stride=3),
        lambda: nn.BatchNorm2d(2),
        nn.Tanh,
        nn.Flatten,
        lambda: nn.Linear(8, 3),
        seed=seed,
    )
    return network(body).double()


def pictures(count: int = 10, side: int = 8) -> Images:
    return noise_images(count, side)


def stage(net: Network, images: Images | None = None, **more: Any) -> Stage:
    return Stage(images or pictures(), {"net": net}, **more)


def look(net: Network, images: Images | None = None, **changes: Any) -> dict[str, Tensor]:
    return dict(hessian(["net"], stage(net, images), **(SMALL | changes)))


def written_out(net: Network, images: Images) -> Tensor:
    """(p, p): d2 loss / dw2 by differentiating every entry of the gradient."""
    names = [name for name, _ in net.named_parameters()]
    start = [weight.detach() for weight in net.parameters()]
    sizes = [weight.numel() for weight in start]

    def loss(flat: Tensor) -> Tensor:
        parts = torch.split(flat, sizes)
        weights = {
            name: part.view_as(like) for name, part, like in zip(names, parts, start, strict=True)
        }
        return cross_entropy(functional_call(net, weights, (images.pixels,)), images.labels)

    flat = torch.cat([weight.reshape(-1) for weight in start])
    return torch.autograd.functional.hessian(loss, flat)


def bent(net: Network, images: Images, rows: int = 128, memory: int = 1 << 40) -> Hessian:
    net.requires_grad_(True)
    return Hessian(net, list(net.parameters()), images.pixels, images.labels, rows, memory)


def some_vector(h: Hessian, seed: int = 3) -> Tensor:
    chance = torch.Generator().manual_seed(seed)
    return torch.randn(sum(h.sizes), generator=chance, dtype=h.weights[0].dtype)


@pytest.mark.parametrize("memory", [0, 1 << 40])
@pytest.mark.parametrize("rows", [1, 3, 99])
def test_products_are_those_of_the_matrix_written_out(rows, memory):
    net, images = little(), pictures()
    exact = written_out(net, images)
    h = bent(net, images, rows, memory)
    assert bool(h.kept) == bool(memory)
    v = some_vector(h)
    torch.testing.assert_close(h(v), exact @ v)
    inside = slice(sum(h.sizes[:2]), sum(h.sizes[:4]))  # the BatchNorm's two weights
    torch.testing.assert_close(h(v[inside], slice(2, 4)), exact[inside, inside] @ v[inside])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
def test_a_convolution_that_works_for_its_batchnorm_has_the_same_hessian(
    bias, affine, padding_mode
):
    body = seeded(
        lambda: nn.Conv2d(3, 4, 3, padding=1, bias=bias, padding_mode=padding_mode),
        lambda: nn.BatchNorm2d(4, affine=affine),
        nn.Softplus,
        lambda: nn.AdaptiveAvgPool2d(1),
        nn.Flatten,
        lambda: nn.Linear(4, 2),
    )
    net, images = network(body).double(), pictures()
    plain = bent(net, images)
    v = some_vector(plain)
    with lean(net, images.pixels):
        assert "forward" in vars(body[0])
        fast = bent(net, images)
        torch.testing.assert_close(fast(v), plain(v))
    assert not any("forward" in vars(module) for module in net.modules())


def test_a_batchnorm_stays_where_others_read_its_convolution():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)
            nn.init.constant_(self.norm.bias, 1.0)

        def forward(self, x: Tensor) -> Tensor:
            one = self.conv(x)
            return (one + self.norm(one)).mean((2, 3))

    net = network(Twice())
    with lean(net, pictures().pixels):
        assert "forward" not in vars(net.body.conv)


def test_everything_agrees_with_the_matrix_written_out():
    net, images = little(), pictures()
    exact = written_out(net, images)
    parts = parts_of(net.body)
    values = torch.linalg.eigvalsh(exact)
    seen = look(net, images, steps=99, draws=40, trace_tolerance=1e-9)
    found = bend_of({name: value.numpy() for name, value in seen.items()})
    np.testing.assert_allclose(found.eigenvalues, values.flip(0)[:2], rtol=1e-6)
    assert found.least == pytest.approx(float(values[0]), abs=found.least_bound)
    assert abs(found.trace - float(exact.trace())) <= 3.5 * found.trace_error + 1e-9
    assert found.trace_error < 0.3 * found.trace
    assert int(seen["images"]) == 10
    first = 0
    for place, part in enumerate(parts):
        inside = slice(first, first := first + part.size)
        block = exact[inside, inside]
        layer = found.layers[part.name]
        assert layer.weights == part.size
        assert abs(layer.trace - float(block.trace())) <= 3.5 * layer.trace_error + 1e-9
        top = float(torch.linalg.eigvalsh(block)[-1])
        assert abs(layer.top - top) <= layer.top_bound
        assert int(seen[f"layer/{part.name}"]) == place
    assert [layer.weights for layer in found.layers.values()] == [56, 4, 27]


def test_the_density_has_the_trace_and_the_shape_of_the_spectrum():
    net, images = little(), pictures()
    values = torch.linalg.eigvalsh(written_out(net, images)).numpy()
    seen = {k: v.numpy() for k, v in look(net, images, probes=30, draws=30).items()}
    density = seen["density"]
    assert density.shape[0] == 30
    assert seen["density_before"].shape[1] == density.shape[1] - 2  # one step has two rules
    masses, moments = density[..., 1].sum(1), density.prod(-1).sum(1)
    assert masses.mean() == pytest.approx(len(values), rel=0.05)
    error = moments.std(ddof=1) / 30**0.5
    assert abs(moments.mean() - values.sum()) <= 3.5 * error
    found = bend_of(seen)
    assert found.draws == 30  # the first products from the same vectors
    assert abs(found.trace - values.sum()) <= 3.5 * found.trace_error
    assert found.trace_error < 0.3
    assert abs(moments.mean() - found.trace) <= 3.5 * np.hypot(error, found.trace_error)
    share = np.abs(values[values < 0]).sum() / np.abs(values).sum()
    assert abs(found.negative_share - share) <= 3.5 * found.negative_share_error + 0.01
    for edge in (0.1 * values[-1], 0.5 * values[-1]):
        counted = (density[..., 1] * (density[..., 0] > edge)).sum(1).mean()
        assert counted == pytest.approx((values > edge).sum(), abs=1.0)


@pytest.mark.filterwarnings("ignore:Using backward")
def test_pyhessian_finds_the_same_largest_eigenvalue():
    peer = pytest.importorskip("pyhessian.hessian")
    net, images = little().float(), pictures()
    ours = look(net, images)["eigenvalues"][0, 0]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        data = (images.pixels, images.labels)
        other = peer.hessian(net.requires_grad_(True), nn.CrossEntropyLoss(), data, cuda=False)
        (theirs,), _ = other.eigenvalues(maxIter=500, tol=1e-7)
    assert theirs == pytest.approx(float(ours), rel=1e-3)


def test_one_matrix_in_any_batches_has_one_answer():
    net = little()
    one, two = (hessian(["net"], stage(net, batch=rows), **SMALL) for rows in (3, 128))
    for name, values in one.items():
        torch.testing.assert_close(values, two[name], rtol=1e-6, atol=1e-8)


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others():
    net = little()
    once, twice, other = (hessian(["net"], stage(net, seed=s), **SMALL) for s in (0, 0, 5))
    assert all(torch.equal(once[name], twice[name]) for name in once)
    assert not torch.equal(once["drawn"], other["drawn"])
    torch.testing.assert_close(
        once["eigenvalues"][:, 0], other["eigenvalues"][:, 0], rtol=1e-3, atol=0
    )


def test_groups_of_images_have_the_largest_eigenvalue_as_their_mean():
    net, images = little(), pictures(16)
    seen = look(net, images, tolerance=1e-8, steps=99)
    assert seen["groups"].shape == (8,)
    assert float(seen["groups"].mean()) == pytest.approx(float(seen["eigenvalues"][0, 0]))
    h = bent(net, images)
    v = some_vector(h)
    some = Images(images.pixels[3::8], images.labels[3::8], images.classes, None)
    assert float(over_images(h, v)[3]) == pytest.approx(float(v @ written_out(net, some) @ v))


def test_the_network_is_left_as_it_was_whatever_happens():
    net = network(seeded(nn.Flatten, lambda: nn.Linear(192, 2)))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    for changes in ({}, {"top": "nonsense"}):
        try:
            look(net, **changes)
        except TypeError:
            assert changes
        for name, value in net.state_dict().items():
            assert torch.equal(value, before[name])
        assert not any(p.requires_grad or p.grad is not None for p in net.parameters())
        assert not any(module.training for module in net.modules())
        assert torch.equal(torch.get_rng_state(), random)


class Calls(nn.Module):
    """A network of one function of a linear layer's output."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.linear, self.function = linear(2), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.linear(x))


class Once(torch.autograd.Function):
    """Doubles, and can be differentiated one time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return slope * 2


class Outside(torch.autograd.Function):
    """Doubles; its backward pass leaves torch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return torch.from_numpy(slope.detach().numpy() * 2)


def training(net: Network, place: int) -> Network:
    net.body[place].train()
    return net


def shaky(x: Tensor) -> Tensor:
    """Only where gradients are taken."""
    return x * (1 + 0.1 * torch.randn(())) if x.requires_grad else x


REFUSED = {
    "dropout in training": (
        lambda: training(network(nn.Sequential(linear(2), nn.Dropout())), 1),
        "dropout '1'",
    ),
    "batchnorm in training": (
        lambda: training(network(nn.Sequential(nn.BatchNorm2d(3), linear(2))), 0),
        "BatchNorm '0'",
    ),
    "batchnorm without statistics": (
        lambda: network(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), linear(2))),
        "BatchNorm '0'",
    ),
    "dropout of its own": (
        lambda: network(Calls(lambda x: dropout(x, 0.5, training=True))),
        "by chance",
    ),
    "chance in gradients": (lambda: network(Calls(shaky)), "draws from chance"),
    "company": (lambda: network(Calls(lambda x: x - x.mean(0))), "beside it"),
    "no weights": (lambda: network(nn.Flatten()), "without weights"),
    "no slope": (lambda: network(Calls(lambda x: x.detach())), "do not depend on the weights"),
    "not finite": (
        lambda: network(Calls(lambda x: (x - x).norm(dim=1, keepdim=True) + x)),
        "not finite",
    ),
    "half a graph": (
        lambda: network(nn.Sequential(Calls(Outside.apply), nn.Linear(2, 2))),
        r"not symmetric.*full precision: .*parametrize\.remove_parametrizations.*autocast",
    ),
    "not implemented": (
        lambda: network(Calls(lambda x: torch.cdist(x, torch.eye(2)))),
        "second derivatives",
    ),
    "not twice": (lambda: network(Calls(Once.apply)), "second derivatives"),
}


@pytest.mark.parametrize("kind", list(REFUSED))
def test_a_network_without_one_hessian_is_refused_with_the_remedy(kind):
    make, told = REFUSED[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make()
        with pytest.raises(InputError, match=told) as refused:
            look(net)
    assert "wanted" in str(refused.value)
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_weight_norm_that_is_folded_into_the_weight_is_no_obstacle():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(
            weight_norm(nn.Conv2d(3, 8, 3)), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 36, 2)
        )
    with pytest.raises(InputError, match=r"fold weight_norm .*remove_parametrizations"):
        look(network(body))
    remove_parametrizations(body[0], "weight")
    assert look(network(body))["eigenvalues"].isfinite().all()


class Failing(torch.autograd.Function):
    """Its backward pass is broken."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        raise RuntimeError("something else")


def test_other_errors_pass_as_they_are():
    with pytest.raises(RuntimeError, match="something else"):
        look(network(Calls(Failing.apply)))


def test_dropout_that_drops_nothing_is_no_reason():
    body = nn.Sequential(linear(2), nn.Dropout(0.0))
    net = network(body)
    body[1].train()
    assert look(net)["eigenvalues"][0, 0] > 0


class Attention(nn.Module):
    """Sequences: a layer of a transformer, the mean over its tokens, classes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x).mean(1))


class Shared(nn.Module):
    """One convolution called twice, GroupNorm, an in-place ReLU; a weight that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.GroupNorm(3, 3)
        self.head, self.idle = nn.Linear(3, 2), nn.Parameter(torch.ones(5))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = nn.functional.relu_(self.norm(self.conv(x)))
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("kind", ["tokens", "shared", "resnet", "plain"])
def test_strangers_are_looked_at_too(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = {
            "tokens": Attention,
            "shared": Shared,
            "resnet": lambda: make_body("resnet8", num_classes=2, width=2),
            "plain": lambda: make_body("plain8", num_classes=2, width=2),
        }[kind]()
    images = pictures(6, 32)
    if kind == "tokens":
        images = Images(torch.rand(6, 5, 8), images.labels, images.classes, None)
        net = Network(body, (0.0,) * 8, (1.0,) * 8).eval().requires_grad_(False)
    else:
        net = network(body)
    seen = look(net, images, steps=12)
    assert all(torch.isfinite(value).all() for value in seen.values())
    assert float(seen["eigenvalues"][0, 0]) > 0
    assert int(seen["sizes"].sum()) == sum(p.numel() for p in body.parameters())


@pytest.mark.parametrize("count", [1, 2])
def test_one_image_and_one_class_have_a_hessian(count):
    images = pictures(count)
    images = Images(images.pixels, torch.zeros(count, dtype=torch.long), images.classes, None)
    net = little()
    seen = look(net, images)
    exact = torch.linalg.eigvalsh(written_out(net, images))
    assert float(seen["eigenvalues"][0, 0]) == pytest.approx(float(exact[-1]), rel=1e-6)
    assert len(seen["groups"]) == count


def test_without_curvature_everything_is_zero():
    seen = look(network(Calls(lambda x: 0 * x)))
    assert seen["eigenvalues"][:, 0].abs().max() == 0
    assert (seen["known"] + seen["drawn"]).abs().max() == 0
    assert negative_share(seen["density"].numpy()).tolist() == [0.0] * 3


def test_few_steps_have_wide_bounds():
    net, images = little(), pictures()
    exact = torch.linalg.eigvalsh(written_out(net, images))
    seen = look(net, images, steps=2, top=1)
    value, bound = seen["eigenvalues"][0].tolist()
    assert int(seen["steps"]) == 2
    assert bound > 1e-3 * value
    assert (exact - value).abs().min() <= bound


def test_layers_are_those_of_the_taps_and_the_other_children():
    parts = parts_of(make_body("resnet8", num_classes=2, width=2))
    assert [part.name for part in parts] == ["stem", "bn1", "stage1", "stage2", "stage3", "logits"]
    nested = make_body("resnet8", num_classes=2, width=2)
    nested.taps = {"outer": Tap("layer1", "raw", "layer1"), "own": Tap("layer1", "raw", "layer1.0")}
    assert [part.name for part in parts_of(nested)][2] == "own"
    many = parts_of(nn.Sequential(*(nn.Linear(2, 2) for _ in range(37))))
    assert len(many) == 16
    assert many[0].name == "0 to 1"
    assert sum(part.size for part in many) == 37 * 6


def test_memory_is_counted_by_the_image():
    net = network(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Tanh(), nn.Flatten(), nn.Linear(256, 2)))
    net.requires_grad_(True)
    found = bytes_an_image(net, pictures().pixels)
    assert 4 * 8 * 8 * 4 <= found <= 4 * 8 * 8 * (3 + 4 + 4 + 3)
    assert bytes_an_image(net, pictures(1).pixels) == 0
