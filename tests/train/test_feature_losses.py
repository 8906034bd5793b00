"""Losses that compare maps of layers: against plain loops in float64, and their laws."""

import math

import pytest
import torch
from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.train.losses.contract import LOSSES, Outputs
from kdprobe.train.losses.fsp import flow as flow_of

EVERY = ["fitnet", "at", "fsp", "nst", "vid"]
FORMS = [
    ("fitnet", {}),
    ("fitnet", {"form": "sum"}),
    ("at", {}),
    ("at", {"form": "sum"}),
    ("at", {"form": "norm"}),
    ("fsp", {}),
    ("fsp", {"form": "sum"}),
    ("nst", {}),
    ("vid", {}),
    ("vid", {"variance": 0.5}),
]
MEETING = ("fitnet", "vid")  # have weights of their own
STAGES = {"stage1": (2, 4, 4), "stage2": (3, 4, 4), "stage3": (5, 2, 2)}
WIDER = {"stage1": (4, 4, 4), "stage2": (6, 4, 4), "stage3": (10, 2, 2)}
FINER = {name: (c, 2 * h, 2 * w) for name, (c, h, w) in STAGES.items()}
Map = list[list[list[float]]]  # of one image: channels, rows, columns


def drawn(seed: int, n: int = 3, shapes: dict[str, tuple[int, ...]] = STAGES) -> Outputs:
    chance = torch.Generator().manual_seed(seed)
    features = {name: torch.randn(n, *shape, generator=chance) for name, shape in shapes.items()}
    return Outputs(torch.zeros(n, 3), features)


def changed(outputs: Outputs, change) -> Outputs:
    return Outputs(outputs.logits, {name: change(x) for name, x in outputs.features.items()})


def double(outputs: Outputs) -> Outputs:
    return changed(outputs, Tensor.double)


def leaves(outputs: Outputs) -> Outputs:
    return changed(outputs, lambda x: x.detach().clone().requires_grad_())


def value(key: str, student: Outputs, teacher: Outputs, **knobs: object) -> Tensor:
    found: Tensor = LOSSES[key].make(**knobs)(student, teacher, torch.zeros(len(student.logits)))
    return found


def met(key: str, student: Outputs, teacher: Outputs, **knobs: object) -> nn.Module:
    """The loss, its weights made from the seed 5."""
    loss = LOSSES[key].make(**knobs)
    torch.manual_seed(5)
    loss.meet(student, teacher)
    return loss


def shrunk(image: Map, height: int, width: int, how) -> Map:
    """Down by whole factors: `how` is of the pixels that become one."""
    h, w = len(image[0]) // height, len(image[0][0]) // width
    return [
        [
            [
                how([c[y * h + i][x * w + j] for i in range(h) for j in range(w)])
                for x in range(width)
            ]
            for y in range(height)
        ]
        for c in image
    ]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def alike(one: Map, other: Map, how=mean) -> tuple[Map, Map]:
    height, width = min(len(one[0]), len(other[0])), min(len(one[0][0]), len(other[0][0]))
    return shrunk(one, height, width, how), shrunk(other, height, width, how)


def flat(image: Map) -> list[list[float]]:
    return [[x for row in channel for x in row] for channel in image]


def normed(values: list[float]) -> list[float]:
    length = math.sqrt(sum(x * x for x in values))
    return [x / length for x in values]


def squares(a: list[float], b: list[float]) -> list[float]:
    return [(x - y) ** 2 for x, y in zip(a, b, strict=True)]


def convolved(image: Map, weight: list[list[float]], bias: list[float]) -> Map:
    """A 1x1 convolution."""
    return [
        [
            [
                b + sum(v * image[c][y][x] for c, v in enumerate(row))
                for x in range(len(image[0][0]))
            ]
            for y in range(len(image[0]))
        ]
        for row, b in zip(weight, bias, strict=True)
    ]


def weights_of(conv: nn.Module) -> tuple[list[list[float]], list[float]]:
    return conv.weight.double().flatten(1).tolist(), conv.bias.double().tolist()


def hint(ours: Map, theirs: Map, form: str) -> float:
    found = [x for a, b in zip(flat(ours), flat(theirs), strict=True) for x in squares(a, b)]
    return mean(found) if form == "mean" else sum(found) / 2


def attention(ours: Map, theirs: Map, form: str) -> float:
    maps = [
        normed([sum(x * x for x in pixel) for pixel in zip(*flat(image), strict=True)])
        for image in alike(ours, theirs)
    ]
    found = squares(*maps)
    return {"mean": mean(found), "sum": sum(found), "norm": math.sqrt(sum(found))}[form]


def flow(one: Map, other: Map) -> list[float]:
    left, right = (flat(image) for image in alike(one, other, max))
    return [mean([x * y for x, y in zip(a, b, strict=True)]) for a in left for b in right]


def kernel(one: Map, other: Map) -> float:
    left, right = ([normed(channel) for channel in flat(image)] for image in (one, other))
    return mean([sum(x * y for x, y in zip(a, b, strict=True)) ** 2 for a in left for b in right])


def likelihood(ours: Map, theirs: Map, variance: float) -> float:
    found = [x for a, b in zip(flat(ours), flat(theirs), strict=True) for x in squares(a, b)]
    return mean([(math.log(variance) + x / variance) / 2 for x in found])


def naive(key: str, loss: nn.Module, student: Outputs, teacher: Outputs, **knobs: object) -> float:
    """The mean over images by plain loops, from the float64 features."""
    form, total, n = str(knobs.get("form", "mean")), 0.0, len(student.logits)
    for i in range(n):
        ours = {name: x[i].double().tolist() for name, x in student.features.items()}
        theirs = {name: x[i].double().tolist() for name, x in teacher.features.items()}
        if key == "fitnet":
            image, wanted = alike(ours["stage2"], theirs["stage2"])
            if isinstance(loss.regressors[0], nn.Conv2d):
                image = convolved(image, *weights_of(loss.regressors[0]))
            total += hint(image, wanted, form)
        elif key == "at":
            total += sum(attention(ours[name], theirs[name], form) for name in STAGES)
        elif key == "fsp":
            for a, b in (("stage1", "stage2"), ("stage2", "stage3")):
                found = squares(flow(ours[a], ours[b]), flow(theirs[a], theirs[b]))
                total += mean(found) if form == "mean" else sum(found)
        elif key == "nst":
            for name in STAGES:
                a, b = alike(ours[name], theirs[name])
                total += kernel(a, a) + kernel(b, b) - 2 * kernel(a, b)
        else:
            for name, regressor in zip(STAGES, loss.regressors, strict=True):
                image, wanted = alike(ours[name], theirs[name])
                image = convolved(image, *weights_of(regressor))
                total += likelihood(image, wanted, float(knobs.get("variance", 5.0)))
    return total / n


@pytest.mark.parametrize(("key", "knobs"), FORMS)
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(
    ("shapes", "others"), [(STAGES, STAGES), (STAGES, WIDER), (FINER, STAGES), (STAGES, FINER)]
)
def test_value_is_that_of_a_plain_loop(key, knobs, n, shapes, others):
    if key == "fsp" and others is WIDER:
        with pytest.raises(InputError, match="wants equal channels"):
            value(key, drawn(1, n, shapes), drawn(2, n, others), **knobs)
        return
    student, teacher = drawn(1, n, shapes), drawn(2, n, others)
    for kind, tight in ((student, 1e-5), (double(student), 1e-11)):
        against = double(teacher) if tight < 1e-6 else teacher
        loss = (met if key in MEETING else _unmet)(key, kind, against, **knobs)
        wanted = naive(key, loss, student, teacher, **knobs)
        found = loss(kind, against, torch.zeros(n)).item()
        assert found == pytest.approx(wanted, rel=tight, abs=tight / 10)


def _unmet(key: str, student: Outputs, teacher: Outputs, **knobs: object) -> nn.Module:
    return LOSSES[key].make(**knobs)


@pytest.mark.parametrize(("key", "knobs"), FORMS)
def test_the_gradient_is_that_of_finite_differences(key, knobs):
    student, teacher = double(drawn(1, 2)), double(drawn(2, 2, FINER))
    loss = LOSSES[key].make(**knobs)
    names = list(STAGES)

    def of(*features: Tensor) -> Tensor:
        return loss(Outputs(student.logits, dict(zip(names, features, strict=True))), teacher, None)

    shown = tuple(student.features[name].requires_grad_() for name in names)
    assert torch.autograd.gradcheck(of, shown)


@pytest.mark.parametrize("key", EVERY)
def test_gradient_flows_to_the_student_and_to_own_weights_only(key):
    student, teacher = leaves(drawn(1)), leaves(drawn(2, 3, WIDER if key != "fsp" else STAGES))
    loss = LOSSES[key].make()
    loss(student, teacher, torch.zeros(3)).backward()
    assert all(x.grad is None for x in teacher.features.values())
    for name in loss.layers:
        slope = student.features[name].grad
        assert slope is not None
        assert bool(torch.isfinite(slope).all())
        assert float(slope.abs().sum()) > 0
    assert bool(list(loss.parameters())) == (key in MEETING)
    assert all(float(weight.grad.abs().sum()) > 0 for weight in loss.parameters())


@pytest.mark.parametrize("key", EVERY)
def test_zero_at_the_teacher_where_the_label_says_so(key):
    at_teacher = value(key, double(drawn(2)), double(drawn(2))).item()
    assert (abs(at_teacher) < 1e-12) == LOSSES[key].zero_at_teacher
    assert value(key, drawn(1), drawn(2)).item() > 1e-3


@pytest.mark.parametrize(("key", "power"), [("fitnet", 2), ("fsp", 4), ("at", 0), ("nst", 0)])
@pytest.mark.parametrize("factor", [1e-6, 30.0, 1e6])
def test_scale_law(key, power, factor):
    """Both networks scaled: the loss goes with this power of the factor."""
    plain = value(key, drawn(1), drawn(2)).item()
    grown = value(key, *(changed(drawn(seed), lambda x: x * factor) for seed in (1, 2))).item()
    assert grown == pytest.approx(plain * factor**power, rel=1e-4)


@pytest.mark.parametrize("key", ["at", "nst"])
def test_the_size_of_either_network_alone_does_not_matter(key):
    plain = value(key, drawn(1), drawn(2)).item()
    large = changed(drawn(1), lambda x: x * 1e15)
    assert value(key, large, drawn(2)).item() == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize(("key", "knobs"), FORMS)
@pytest.mark.parametrize("make", [torch.zeros_like, lambda x: x * 1e4])
def test_large_values_dead_layers_and_equal_images_stay_finite(key, knobs, make):
    student = leaves(changed(drawn(1), lambda x: make(x)[[0, 0, 1]]))
    for teacher in (changed(drawn(2), make), changed(drawn(2), torch.zeros_like), student):
        loss = LOSSES[key].make(**knobs)
        found = loss(student, teacher, torch.zeros(3))
        found.backward()
        assert bool(torch.isfinite(found))
        for name in loss.layers:
            assert bool(torch.isfinite(student.features[name].grad).all()), name


@pytest.mark.parametrize(("key", "knobs"), FORMS)
def test_order_and_doubling_of_images_change_nothing(key, knobs):
    rows = torch.tensor([2, 0, 1, 1, 0, 2])
    student, teacher = drawn(1), drawn(2)
    loss = LOSSES[key].make(**knobs)
    once = loss(student, teacher, torch.zeros(3)).item()
    again = loss(*(changed(x, lambda y: y[rows]) for x in (student, teacher)), torch.zeros(6))
    assert again.item() == pytest.approx(once, rel=1e-5)


@pytest.mark.parametrize(("key", "knobs"), FORMS)
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(key, knobs, kind):
    student, teacher = (changed(drawn(seed), lambda x: x.to(kind)) for seed in (1, 2))
    found = value(key, student, teacher, **knobs)
    wide = [changed(x, Tensor.float) for x in (student, teacher)]
    assert found.dtype == torch.float32
    assert torch.equal(found, value(key, *wide, **knobs))


@pytest.mark.parametrize("key", EVERY)
def test_layers_of_other_names_are_paired(key):
    student, teacher = drawn(1), drawn(2)
    own = LOSSES[key].make().layers
    named = dict(zip(own, ("a", "b", "c"), strict=False))
    knob = "layer" if key == "fitnet" else "layers"
    loss = LOSSES[key].make(**{knob: ", ".join(f"{ours}:{named[ours]}" for ours in own)})
    assert loss.layers == own
    assert loss.teacher_layers == tuple(named[name] for name in own)
    renamed = Outputs(teacher.logits, {named[name]: teacher.features[name] for name in own})
    found = loss(student, renamed, torch.zeros(3)).item()
    assert found == value(key, student, teacher).item()


@pytest.mark.parametrize("key", MEETING)
def test_weights_are_those_of_the_chance_that_is_lent_and_else_always_the_same(key):
    student, teacher = drawn(1), drawn(2, 3, WIDER)
    before = torch.get_rng_state()
    one, two = (LOSSES[key].make() for _ in range(2))
    first, second = (loss(student, teacher, torch.zeros(3)) for loss in (one, two))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second)
    lent = [met(key, student, teacher).state_dict() for _ in range(2)]
    assert all(torch.equal(lent[0][name], lent[1][name]) for name in lent[0])
    assert any(not torch.equal(lent[0][name], weight) for name, weight in one.state_dict().items())
    few = [changed(x, lambda y: y[:2]) for x in (student, teacher)]
    two_images = met(key, *few)
    two_images.load_state_dict(one.state_dict())
    assert torch.equal(two_images(student, teacher, torch.zeros(3)), first)


@pytest.mark.parametrize(
    ("knob", "others", "kinds"),
    [
        ("auto", STAGES, [nn.Identity]),
        ("auto", WIDER, [nn.Conv2d]),
        ("conv", STAGES, [nn.Conv2d]),
        ("conv_bn_relu", STAGES, [nn.Sequential, nn.Conv2d, nn.BatchNorm2d, nn.ReLU]),
    ],
)
def test_fitnet_leads_from_channels_to_channels(knob, others, kinds):
    loss = met("fitnet", drawn(1), drawn(2, 3, others), regressor=knob)
    assert [type(module) for module in loss.regressors[0].modules()] == kinds
    assert loss(drawn(1), drawn(2, 3, others), torch.zeros(3)).item() > 0


def test_fitnet_with_normalisation_is_torchs_own_chain():
    student, teacher = double(drawn(1)), double(drawn(2, 3, WIDER))
    loss = met("fitnet", student, teacher, regressor="conv_bn_relu")
    conv = loss.regressors[0][0]
    lead = torch.einsum("nchw,dc->ndhw", student.features["stage2"], conv.weight.flatten(1))
    lead = lead + conv.bias[:, None, None]
    centred = lead - lead.mean((0, 2, 3), keepdim=True)
    lead = centred / (lead.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    wanted = (lead.clamp_min(0) - teacher.features["stage2"]).square().mean().item()
    assert loss(student, teacher, torch.zeros(3)).item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(("regressor", "holds"), [("conv", False), ("conv_bn_relu", True)])
def test_the_usual_weight_of_fitnet_wants_normalisation(regressor, holds):
    """At 0.05, the usual learning rate, with features that do not move."""
    student, teacher = drawn(1), drawn(2)
    loss = met("fitnet", student, teacher, regressor=regressor)
    learning = torch.optim.SGD(loss.parameters(), lr=0.05)
    for _ in range(20):
        learning.zero_grad()
        found = 100 * loss(student, teacher, torch.zeros(3))
        found.backward()
        learning.step()
    assert (found.item() < 200) == holds


@pytest.mark.parametrize("key", MEETING)
def test_vectors_are_maps_of_one_pixel(key):
    shapes = {"pooled": (6,)}
    knob = {"layer" if key == "fitnet" else "layers": "pooled"}
    student, teacher = drawn(1, 4, shapes), drawn(2, 4, {"pooled": (9, 1, 1)})
    assert value(key, student, teacher, **knob).item() > 0


def test_vid_falls_below_zero_where_the_layer_is_foretold():
    """And its variances then become small: the least is at the mean squared error."""
    student, teacher = drawn(1), drawn(1)
    loss = met("vid", student, teacher, layers="stage1")
    with torch.no_grad():
        loss.regressors[0].weight.copy_(torch.eye(2)[:, :, None, None])
        loss.regressors[0].bias.fill_(0.1)
    learning = torch.optim.Adam(loss.spreads.parameters(), lr=0.3)
    for _ in range(300):
        learning.zero_grad()
        found = loss(student, teacher, torch.zeros(3))
        found.backward()
        learning.step()
    assert found.item() == pytest.approx((math.log(0.01) + 1) / 2, rel=1e-3)
    variance = nn.functional.softplus(loss.spreads[0]) + 1e-5
    assert variance.tolist() == pytest.approx([0.01, 0.01], rel=1e-2)


def test_vid_starts_at_its_variance():
    loss = met("vid", drawn(1), drawn(2), variance=5.0)
    for spread in loss.spreads:
        assert (nn.functional.softplus(spread) + 1e-5).tolist() == pytest.approx(
            [5.0] * len(spread)
        )


def test_attention_forms_differ_by_the_pixels():
    student, teacher = double(drawn(1)), double(drawn(2))
    mean, whole = (
        value("at", student, teacher, layers="stage1", form=form).item() for form in ("mean", "sum")
    )
    assert whole == pytest.approx(16 * mean, rel=1e-12)


def test_nst_is_the_distance_of_mean_outer_products():
    """The kernel (x . y)^2 is the inner product of x x^T and y y^T."""
    student, teacher = double(drawn(1)), double(drawn(2, 3, WIDER))
    wanted = 0.0
    for name in STAGES:
        means = []
        for outputs in (student, teacher):
            x = nn.functional.normalize(outputs.features[name].flatten(2), dim=2)
            means.append(x.mT @ x / x.shape[1])
        wanted += (means[0] - means[1]).square().sum((1, 2)).mean().item()
    assert value("nst", student, teacher).item() == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("size", [(2, 3), (3, 2), (4, 4)])
def test_flow_takes_the_largest_of_each_patch_of_any_size(size):
    """Patches that do not divide the map overlap, as adaptive pooling has them."""
    one, other = (
        drawn(1, 3, {"a": (2, 7, 6)}).features["a"],
        drawn(2, 3, {"a": (4, *size)}).features["a"],
    )
    small = nn.functional.adaptive_max_pool2d(one, size)
    wanted = torch.einsum("nchw,nehw->nce", small, other) / (size[0] * size[1])
    assert torch.allclose(flow_of(one, other), wanted, atol=1e-6)
    assert torch.allclose(flow_of(other, one), wanted.mT, atol=1e-6)


def test_fsp_refuses_layers_of_other_channels():
    words = r"student layer 'stage1' has shape \(2, 4, 4\), teacher 'stage1' has \(4, 4, 4\).*pass"
    with pytest.raises(InputError, match=words):
        value("fsp", drawn(1), drawn(2, 3, WIDER))


@pytest.mark.parametrize("key", ["at", "nst"])
def test_maps_of_one_pixel_are_refused(key):
    shapes = {"pooled": (4,)}
    with pytest.raises(InputError, match=r"'pooled' has shape \(4, 1, 1\), .*more than one pixel"):
        value(key, drawn(1, 3, shapes), drawn(2, 3, shapes), layers="pooled")


@pytest.mark.parametrize("key", EVERY)
def test_tokens_are_refused(key):
    shapes = {name: (9, 4) for name in STAGES}
    with pytest.raises(
        InputError, match=r"has shape \(9, 4\).*wants maps \(c, h, w\): pass layers"
    ):
        value(key, drawn(1, 3, shapes), drawn(2, 3, shapes))


@pytest.mark.parametrize(
    ("key", "knobs"),
    [
        ("fitnet", {"layer": "stage1,stage2"}),
        ("fitnet", {"layer": 3}),
        ("fitnet", {"form": "half"}),
        ("fitnet", {"regressor": "linear"}),
        ("at", {"form": "l1"}),
        ("at", {"layers": ""}),
        ("fsp", {"layers": "stage1"}),
        ("fsp", {"form": "norm"}),
        ("nst", {"layers": "stage1:"}),
        ("vid", {"variance": 0.0}),
        ("vid", {"variance": "five"}),
    ],
)
def test_senseless_knobs_are_refused(key, knobs):
    with pytest.raises(InputError, match=r"found .*; wanted"):
        LOSSES[key].make(**knobs)
