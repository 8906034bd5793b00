"""Losses that compare images with each other: against plain loops in float64, and their laws."""

import json
import math
from collections.abc import Callable
from itertools import accumulate, chain
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from kdprobe.errors import InputError
from kdprobe.train.losses.contract import LOSSES, Outputs

LAYER = {"sp": "stage3", "rkd": "pooled", "pkt": "pooled", "cc": "pooled"}
EVERY = list(LAYER)
FORMS = [
    ("sp", {}),
    ("rkd", {}),
    ("rkd", {"distance": 1, "angle": 0}),
    ("rkd", {"distance": 0, "angle": 1}),
    ("pkt", {}),
    ("pkt", {"form": "sum"}),
    ("cc", {}),
    ("cc", {"gamma": 1.5, "order": 5}),
]
Rows = list[list[float]]


def drawn(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def outputs(key: str, features: Tensor) -> Outputs:
    return Outputs(torch.zeros(len(features), 3), {LAYER[key]: features})


def value(key: str, ours: Tensor, theirs: Tensor, **knobs: object) -> Tensor:
    found: Tensor = LOSSES[key].make(**knobs)(
        outputs(key, ours), outputs(key, theirs), torch.zeros(len(ours), dtype=torch.int64)
    )
    return found


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def minus(a: list[float], b: list[float]) -> list[float]:
    return [x - y for x, y in zip(a, b, strict=True)]


def cosine(a: list[float], b: list[float]) -> float:
    lengths = math.sqrt(dot(a, a) * dot(b, b))
    return dot(a, b) / lengths if lengths else 0.0


def huber(x: float) -> float:
    return x * x / 2 if abs(x) <= 1 else abs(x) - 0.5


def similar(rows: Rows) -> Rows:
    found = [[dot(a, b) for b in rows] for a in rows]
    return [[x / math.sqrt(dot(row, row)) for x in row] for row in found]


def kernel(rows: Rows, gamma: float, order: int) -> Rows:
    """From the Gaussian's own series around |x - y|^2 = 2 - 2 cos."""
    return [
        [
            math.exp(-2 * gamma)
            * sum((2 * gamma * cosine(a, b)) ** p / math.factorial(p) for p in range(order + 1))
            for b in rows
        ]
        for a in rows
    ]


def spread(rows: Rows) -> Rows:
    found = [[math.dist(a, b) for b in rows] for a in rows]
    above = [x for row in found for x in row if x > 0]
    mean = sum(above) / len(above) if above else 1.0
    return [[x / mean for x in row] for row in found]


def bends(rows: Rows) -> list[float]:
    """Of all triples i, j, k the cosine of the angle at j."""
    return [cosine(minus(i, j), minus(k, j)) for j in rows for i in rows for k in rows]


def choices(rows: Rows) -> Rows:
    found = []
    for i, a in enumerate(rows):
        near = [(1 + cosine(a, b)) / 2 for j, b in enumerate(rows) if j != i]
        found.append([x / sum(near) for x in near])
    return found


def mean_square(ours: Rows, theirs: Rows) -> float:
    pairs = zip(chain(*ours), chain(*theirs), strict=True)
    apart = [(a - b) ** 2 for a, b in pairs]
    return sum(apart) / len(apart)


def naive(key: str, ours: Rows, theirs: Rows, **knobs: float | str) -> float:
    """By plain loops; knobs as the losses have them."""
    n = len(ours)
    if key == "sp":
        return mean_square(similar(ours), similar(theirs))
    if key == "cc":
        told = float(knobs.get("gamma", 0.4)), int(knobs.get("order", 2))
        return mean_square(kernel(ours, *told), kernel(theirs, *told))
    if key == "pkt":
        pairs = zip(chain(*choices(ours)), chain(*choices(theirs)), strict=True)
        whole = sum(p * math.log(p / q) for q, p in pairs)
        return whole if knobs.get("form") == "sum" else whole / n**2
    total, told = 0.0, {"distance": 1.0, "angle": 2.0} | knobs
    for a, b in zip(chain(*spread(ours)), chain(*spread(theirs)), strict=True):
        total += told["distance"] * huber(a - b) / n**2
    for a, b in zip(bends(ours), bends(theirs), strict=True):
        total += told["angle"] * huber(a - b) / n**3
    return total


@pytest.mark.parametrize(("key", "knobs"), FORMS)
@pytest.mark.parametrize(("n", "d", "e"), [(7, 5, 5), (6, 4, 9), (9, 2, 3), (3, 2, 2), (2, 3, 4)])
def test_value_is_that_of_a_plain_loop(key, knobs, n, d, e):
    ours, theirs = drawn(n, d, 1), drawn(n, e, 2)
    wanted = naive(key, ours.double().tolist(), theirs.double().tolist(), **knobs)
    assert value(key, ours, theirs, **knobs).item() == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    double = value(key, ours.double(), theirs.double(), **knobs).item()
    assert double == pytest.approx(wanted, rel=1e-10, abs=1e-14)


@pytest.mark.parametrize(("key", "knobs"), FORMS)
@pytest.mark.parametrize("d", [3, 12])
def test_the_gradient_is_that_of_finite_differences(key, knobs, d):
    ours, theirs = drawn(6, d, 1).double().requires_grad_(), drawn(6, 4, 2).double()
    assert torch.autograd.gradcheck(lambda x: value(key, x, theirs, **knobs), ours)


@pytest.mark.parametrize("key", EVERY)
def test_gradient_flows_to_the_student_only(key):
    ours, theirs = drawn(6, 5, 1).requires_grad_(), drawn(6, 5, 2).requires_grad_()
    value(key, ours, theirs).backward()
    assert theirs.grad is None
    assert ours.grad is not None
    assert bool(torch.isfinite(ours.grad).all())
    assert float(ours.grad.abs().sum()) > 0


@pytest.mark.parametrize("key", EVERY)
def test_zero_at_the_teacher_and_at_all_that_has_its_relations(key):
    """A turned and stretched teacher relates images as it did, and for RKD a shifted one too."""
    theirs = drawn(8, 5, 1).double()
    turn, _ = torch.linalg.qr(drawn(5, 5, 3).double())
    alike = theirs @ turn * 3.7 + (2.0 if key == "rkd" else 0.0)
    assert LOSSES[key].zero_at_teacher
    assert value(key, theirs, theirs).item() == pytest.approx(0, abs=1e-15)
    assert value(key, alike, theirs).item() == pytest.approx(0, abs=1e-15)
    assert value(key, drawn(8, 5, 2).double(), theirs).item() > 1e-4


@pytest.mark.parametrize("key", EVERY)
@pytest.mark.parametrize("factor", [1e-12, 1e3, 1e15])
def test_the_size_of_features_does_not_matter(key, factor):
    ours, theirs = drawn(6, 5, 1), drawn(6, 5, 2)
    plain = value(key, ours, theirs).item()
    assert value(key, ours * factor, theirs).item() == pytest.approx(plain, rel=1e-4)
    large = (ours * factor).requires_grad_()
    found = value(key, large, theirs * factor)
    found.backward()
    assert found.item() == pytest.approx(plain, rel=1e-4)
    assert large.grad is not None
    assert bool(torch.isfinite(large.grad).all())


@pytest.mark.parametrize(("key", "knobs"), FORMS)
def test_the_order_of_images_does_not_matter(key, knobs):
    ours, theirs = drawn(6, 5, 1).double(), drawn(6, 4, 2).double()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    once = value(key, ours, theirs, **knobs).item()
    assert value(key, ours[order], theirs[order], **knobs).item() == pytest.approx(once, rel=1e-12)
    assert value(key, ours[order], theirs, **knobs).item() != pytest.approx(once, rel=1e-3)


@pytest.mark.parametrize("key", EVERY)
@pytest.mark.parametrize("rows", [[0], [0, 0, 0], [0, 0, 1, 1, 2], [3, 3], [3, 0, 1]])
def test_one_image_equal_images_and_images_without_features_are_no_fault(key, rows):
    """Image 3 is all zeros."""
    shown = torch.cat([drawn(3, 5, 1), torch.zeros(1, 5)])[rows].requires_grad_()
    theirs = drawn(4, 5, 2)[rows]
    found = value(key, shown, theirs)
    found.backward()
    assert bool(torch.isfinite(found))
    assert shown.grad is not None
    assert bool(torch.isfinite(shown.grad).all())
    if len(rows) == 1:
        assert found.item() == pytest.approx(0, abs=1e-12)
        assert float(shown.grad.abs().max()) < 1e-6


def test_two_images_leave_no_choice_of_neighbours():
    assert value("pkt", drawn(2, 5, 1), drawn(2, 5, 2)).item() == 0


@pytest.mark.parametrize("key", EVERY)
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(key, kind):
    ours, theirs = drawn(6, 5, 1).to(kind), drawn(6, 5, 2).to(kind)
    found = value(key, ours, theirs)
    assert found.dtype == torch.float32
    assert torch.equal(found, value(key, ours.float(), theirs.float()))


@pytest.mark.parametrize("key", EVERY)
def test_layers_of_any_shape_and_of_other_names_are_compared(key):
    ours, theirs = drawn(4, 24, 1), drawn(4, 30, 2)
    knob = "layers" if key == "sp" else "layer"
    loss = LOSSES[key].make(**{knob: "mine:theirs"})
    assert (loss.layers, loss.teacher_layers) == (("mine",), ("theirs",))
    found = loss(
        Outputs(torch.zeros(4, 3), {"mine": ours.view(4, 6, 2, 2)}),
        Outputs(torch.zeros(4, 3), {"theirs": theirs.view(4, 5, 6)}),
        torch.zeros(4, dtype=torch.int64),
    )
    assert found.item() == value(key, ours, theirs).item()


def test_sp_sums_over_its_layers():
    maps = {"a": drawn(4, 5, 1), "b": drawn(4, 6, 2)}, {"a": drawn(4, 5, 3), "b": drawn(4, 6, 4)}
    student, teacher = (Outputs(torch.zeros(4, 3), features) for features in maps)
    one, two, both = (
        LOSSES["sp"].make(layers=layers)(student, teacher, torch.zeros(4)).item()
        for layers in ("a", "b", "a,b")
    )
    assert both == pytest.approx(one + two, rel=1e-6)


def test_rkd_is_the_weighted_sum_of_its_parts():
    ours, theirs = drawn(6, 5, 1).double(), drawn(6, 5, 2).double()
    d = value("rkd", ours, theirs, distance=1, angle=0).item()
    a = value("rkd", ours, theirs, distance=0, angle=1).item()
    assert value("rkd", ours, theirs).item() == pytest.approx(d + 2 * a, rel=1e-12)
    assert value("rkd", ours, theirs, distance=25, angle=50).item() == pytest.approx(
        25 * (d + 2 * a), rel=1e-12
    )


def test_rkd_sees_small_differences_on_a_large_offset():
    """Distances by inner products are wrong by more than their size here."""
    ours, theirs = 100 + 0.01 * drawn(16, 8, 1), drawn(16, 8, 2)
    exact = value("rkd", ours.double(), theirs.double()).item()
    assert value("rkd", ours, theirs).item() == pytest.approx(exact, rel=1e-4)


def test_cc_is_the_gaussian_kernel_where_the_expansion_is_long():
    ours, theirs = drawn(6, 5, 1).double(), drawn(6, 5, 2).double()
    gauss = [
        torch.exp(-0.4 * torch.cdist(x, x).square())
        for x in (torch.nn.functional.normalize(y) for y in (ours, theirs))
    ]
    wanted = (gauss[0] - gauss[1]).square().mean().item()
    assert value("cc", ours, theirs, order=20).item() == pytest.approx(wanted, rel=1e-9)


class Largest(TorchDispatchMode):
    """Remembers how many elements the largest tensor had that any operation gave."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # torch's own signature
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(one, Tensor):
                self.elements = max(self.elements, one.numel())
        return found


@pytest.mark.parametrize(("n", "d"), [(64, 1), (96, 8), (40, 64), (200, 3)])
@pytest.mark.parametrize("angle", [0, 2])
def test_rkd_makes_no_tensor_larger_than_pairs_times_features(n, d, angle):
    ours, theirs = drawn(n, d, 1).requires_grad_(), drawn(n, d, 2)
    kept: list[int] = []

    def pack(x: Tensor) -> Tensor:
        kept.append(x.numel())
        return x

    with Largest() as seen, torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        value("rkd", ours, theirs, angle=angle).backward()
    assert seen.elements <= (n * n * d if angle else max(n * n, n * d))
    assert seen.elements < n**3 or d >= n
    assert sum(kept) <= 8 * n * n + 16 * n * d


def held_at_once(step: Callable[[], object], where: Path) -> float:
    """The most numbers of four bytes that were allocated at one moment of `step`."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    seen.export_chrome_trace(str(where))
    events = json.loads(where.read_text())["traceEvents"]
    events = sorted((e for e in events if e["name"] == "[memory]"), key=lambda e: e["ts"])
    return max(accumulate(e["args"]["Bytes"] for e in events)) / 4


@pytest.mark.parametrize(
    ("n", "d", "e"),
    [(128, 64, 64), (128, 256, 256), (96, 8, 8), (64, 16, 16), (32, 512, 512), (64, 64, 16)],
)
@pytest.mark.parametrize("distance", [0, 1])
def test_rkd_never_holds_more_than_pairs_times_features(n, d, e, distance, tmp_path):
    """Forward and backward, with all that operations need inside."""
    ours, theirs = drawn(n, d, 1).requires_grad_(), drawn(n, e, 2)

    def step() -> None:
        value("rkd", ours, theirs, distance=distance).backward()

    assert held_at_once(step, tmp_path / "trace.json") <= n * n * d


@pytest.mark.parametrize("d", [1, 3])
def test_of_few_features_a_vertex_at_a_time_holds_the_pairs_twice(d, tmp_path):
    ours, theirs = drawn(100, d, 1).requires_grad_(), drawn(100, d, 2)

    def step() -> None:
        value("rkd", ours, theirs, distance=0).backward()

    assert held_at_once(step, tmp_path / "trace.json") <= 2.3 * 100 * 100


def test_the_watch_on_memory_sees_a_tensor_that_is_gone_again(tmp_path):
    held = held_at_once(lambda: (drawn(64, 64, 1) * 2).sum(), tmp_path / "trace.json")
    assert 2 * 64 * 64 <= held < 2.2 * 64 * 64


def test_the_watch_sees_the_cube_of_a_plain_angle_loss():
    rows = drawn(12, 3, 1)
    with Largest() as seen:
        apart = torch.nn.functional.normalize(rows - rows[:, None], dim=2)
        _ = apart @ apart.mT
    assert seen.elements == 12**3


@pytest.mark.parametrize("n", [5, 8])
def test_angles_in_many_chunks_are_those_of_one(n, monkeypatch):
    ours, theirs = drawn(n, 6, 1).double().requires_grad_(), drawn(n, 3, 2).double()
    whole = value("rkd", ours, theirs, distance=0)
    (slope,) = torch.autograd.grad(whole, ours)
    monkeypatch.setattr("kdprobe.train.losses.rkd.CHUNK", 1)
    apart = value("rkd", ours, theirs, distance=0)
    (again,) = torch.autograd.grad(apart, ours)
    assert apart.item() == pytest.approx(whole.item(), rel=1e-12)
    assert torch.allclose(slope, again, rtol=1e-10)


@pytest.mark.parametrize(
    ("key", "knobs"),
    [
        ("rkd", {"distance": -1}),
        ("rkd", {"angle": math.inf}),
        ("rkd", {"distance": 0, "angle": 0}),
        ("rkd", {"layer": "stage2,stage3"}),
        ("rkd", {"layer": ""}),
        ("sp", {"layers": "stage2,"}),
        ("pkt", {"form": "both"}),
        ("cc", {"gamma": 0}),
        ("cc", {"order": 0}),
        ("cc", {"order": 1.5}),
    ],
)
def test_senseless_knobs_are_refused(key, knobs):
    with pytest.raises(InputError, match=r"found .*; wanted"):
        LOSSES[key].make(**knobs)
