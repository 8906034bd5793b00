"""DKD, DIST and standardised logits: plain float64 loops, identities, laws, and the corners."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kdprobe.errors import InputError
from kdprobe.train.losses.contract import LOSSES, Outputs
from kdprobe.train.losses.dist import direction
from kdprobe.train.losses.dkd import other_classes, sure

EVERY = ["dkd", "dist", "logit_std"]


def logits(n: int, c: int, seed: int, scale: float = 2.0) -> Tensor:
    return torch.randn(n, c, generator=torch.Generator().manual_seed(seed)) * scale


def value(key: str, student: Tensor, teacher: Tensor, target: Tensor, **knobs: object) -> Tensor:
    found: Tensor = LOSSES[key].make(**knobs)(Outputs(student), Outputs(teacher), target)
    return found


def softened(row: list[float], T: float) -> list[float]:
    powers = [math.exp((z - max(row)) / T) for z in row]
    return [power / sum(powers) for power in powers]


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def pearson(a: list[float], b: list[float]) -> float:
    x = [v - sum(a) / len(a) for v in a]
    y = [v - sum(b) / len(b) for v in b]
    size = math.sqrt(sum(v * v for v in x) * sum(v * v for v in y))
    return sum(v * w for v, w in zip(x, y, strict=True)) / size


def standard(row: list[float], ddof: int) -> list[float]:
    mean = sum(row) / len(row)
    std = math.sqrt(sum((z - mean) ** 2 for z in row) / (len(row) - ddof))
    return [(z - mean) / std for z in row]


def naive_dkd(ours: list[float], theirs: list[float], label: int) -> float:
    p, q = softened(theirs, 4), softened(ours, 4)
    others = [k for k in range(len(p)) if k != label]
    target = kl([p[label], 1 - p[label]], [q[label], 1 - q[label]])
    within = kl([p[k] / (1 - p[label]) for k in others], [q[k] / (1 - q[label]) for k in others])
    return 16 * (target + 8 * within)


def naive(key: str, student: Tensor, teacher: Tensor, target: Tensor) -> float:
    """The mean by plain loops in double precision, every knob at its default."""
    ours, theirs = student.double().tolist(), teacher.double().tolist()
    rows = list(zip(ours, theirs, target.tolist(), strict=True))
    if key == "dkd":
        return sum(naive_dkd(*row) for row in rows) / len(rows)
    if key == "logit_std":
        pairs = [(standard(a, 1), standard(b, 1)) for a, b, _ in rows]
        return sum(4 * kl(softened(b, 2), softened(a, 2)) for a, b in pairs) / len(rows)
    p, q = [softened(row, 4) for row in theirs], [softened(row, 4) for row in ours]
    over_classes = sum(1 - pearson(a, b) for a, b in zip(p, q, strict=True)) / len(p)
    if len(p) == 1:
        return 16 * over_classes
    columns = list(zip(zip(*p, strict=True), zip(*q, strict=True), strict=True))
    over_batch = sum(1 - pearson(list(a), list(b)) for a, b in columns) / len(columns)
    return 16 * (over_classes + over_batch)


@pytest.mark.parametrize("key", EVERY)
@pytest.mark.parametrize(("n", "c"), [(6, 10), (1, 10), (5, 3), (4, 100)])
def test_value_is_that_of_a_naive_loop(key, n, c):
    student, teacher, target = logits(n, c, 1), logits(n, c, 2), torch.arange(n) % c
    wanted = naive(key, student, teacher, target)
    double = value(key, student.double(), teacher.double(), target)
    assert double.item() == pytest.approx(wanted, rel=1e-9)
    assert value(key, student, teacher, target).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("key", ["dkd", "dist"])
@pytest.mark.parametrize("n", [5, 1])
def test_two_classes_have_the_value_of_the_naive_loop_as_well(key, n):
    student, teacher, target = logits(n, 2, 1), logits(n, 2, 2), torch.arange(n) % 2
    wanted = naive(key, student, teacher, target)
    double = value(key, student.double(), teacher.double(), target)
    assert double.item() == pytest.approx(wanted, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("key", EVERY)
def test_it_is_zero_at_the_teacher_and_has_no_slope_there(key):
    z, target = logits(4, 10, 1), torch.arange(4)
    at = z.clone().requires_grad_()
    found = value(key, at, z, target)
    found.backward()
    assert found.item() == pytest.approx(0, abs=1e-6)
    assert at.grad.abs().max() < 1e-5
    assert value(key, logits(4, 10, 3), z, target).item() > 1e-3


@pytest.mark.parametrize("key", EVERY)
def test_gradient_flows_to_the_student_only(key):
    student, teacher = logits(4, 10, 1).requires_grad_(), logits(4, 10, 2).requires_grad_()
    value(key, student, teacher, torch.arange(4)).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("key", EVERY)
def test_the_gradient_is_that_of_finite_differences(key):
    student, teacher = logits(3, 5, 1).double().requires_grad_(), logits(3, 5, 2).double()
    target = torch.tensor([0, 4, 2])
    assert torch.autograd.gradcheck(lambda z: value(key, z, teacher, target), student)


@pytest.mark.parametrize("key", EVERY)
@pytest.mark.parametrize("size", [420 * 4, 5e3, 1e6])
def test_large_margins_stay_finite(key, size):
    student = torch.tensor([[size, 0.0, -size], [0.0, size, 1.0]], requires_grad=True)
    teacher = torch.tensor([[-size, 0.0, size], [1.0, size, 0.0]])
    for label in range(3):
        found = value(key, student, teacher, torch.tensor([label, 1]))
        (slope,) = torch.autograd.grad(found, student)
        assert bool(torch.isfinite(found))
        assert bool(torch.isfinite(slope).all())


@pytest.mark.parametrize("key", EVERY)
def test_doubling_and_order_of_images_change_nothing(key):
    student, teacher, target = logits(4, 10, 1), logits(4, 10, 2), torch.arange(4)
    once = value(key, student, teacher, target).item()
    rows = torch.tensor([2, 0, 3, 1, 1, 3, 0, 2])
    again = value(key, student[rows], teacher[rows], target[rows]).item()
    assert again == pytest.approx(once, rel=1e-5)


@pytest.mark.parametrize("key", EVERY)
def test_one_image_shown_many_times_is_finite(key):
    student = logits(1, 10, 1).repeat(8, 1).requires_grad_()
    teacher, target = logits(1, 10, 2).repeat(8, 1), torch.zeros(8, dtype=torch.int64)
    found = value(key, student, teacher, target)
    found.backward()
    alone = value(key, student[:1], teacher[:1], target[:1])
    assert found.item() == pytest.approx(alone.item(), rel=1e-5)
    assert student.grad.norm() < 10


@pytest.mark.parametrize("key", EVERY)
def test_equal_logits_are_finite(key):
    student = torch.zeros(3, 10, requires_grad=True)
    found = value(key, student, logits(3, 10, 2), torch.arange(3))
    found.backward()
    assert bool(torch.isfinite(found))
    assert bool(torch.isfinite(student.grad).all())


@pytest.mark.parametrize("key", ["dkd", "dist", "logit_std"])
def test_it_grows_with_the_square_of_the_temperature(key):
    student, teacher = logits(4, 10, 1).double(), logits(4, 10, 2).double()
    target = torch.arange(4)
    warm = value(key, student, teacher, target, T=3.0).item()
    if key == "logit_std":  # the logits' size is gone before T is there
        v, w = (F.layer_norm(z, (10,), eps=0) * math.sqrt(0.9) for z in (student, teacher))
        plain = value("kd", v / 3, w / 3, target, T=1.0).item()
    else:
        plain = value(key, student / 3, teacher / 3, target, T=1.0).item()
    assert warm == pytest.approx(9 * plain, rel=1e-9)


@pytest.mark.parametrize("T", [1.0, 4.0])
def test_kd_is_the_labels_part_and_the_others_by_what_the_teacher_leaves_them(T):
    """KL = TCKD + (1 - p_t(y)) NCKD, image by image."""
    student, teacher = logits(6, 10, 1).double(), logits(6, 10, 2).double()
    for row in range(6):
        ours, theirs, y = student[row : row + 1], teacher[row : row + 1], torch.tensor([row])
        of_label = value("dkd", ours, theirs, y, alpha=1.0, beta=0.0, T=T).item()
        of_others = value("dkd", ours, theirs, y, alpha=0.0, beta=1.0, T=T).item()
        left = 1 - (theirs / T).softmax(1)[0, row].item()
        whole = value("kd", ours, theirs, y, T=T).item()
        assert of_label + left * of_others == pytest.approx(whole, rel=1e-12)


def test_of_two_classes_there_are_no_others_to_decouple():
    student, teacher = logits(6, 2, 1).requires_grad_(), logits(6, 2, 2)
    target = torch.arange(6) % 2
    others = value("dkd", student, teacher, target, alpha=0.0)
    others.backward()
    assert others.item() == 0
    assert not student.grad.any()
    whole = value("dkd", student, teacher, target).item()
    assert whole == pytest.approx(value("kd", student, teacher, target).item(), rel=1e-5)


def test_a_sure_network_leaves_the_others_their_logarithm():
    found = sure(torch.tensor([[1680.0, 0.0, 0.0]]), torch.tensor([0]))[0]
    assert found.tolist() == pytest.approx([0, math.log(2) - 1680])
    assert other_classes(torch.tensor([0, 1, 2]), 3).tolist() == [[1, 2], [0, 2], [0, 1]]


def test_of_mixed_images_dkd_takes_the_heavier_label():
    student, teacher, target = logits(4, 10, 1), logits(4, 10, 2), torch.arange(4)
    mixed = 0.7 * F.one_hot(target, 10) + 0.3 * F.one_hot(target + 1, 10)
    found, wanted = (value("dkd", student, teacher, y) for y in (mixed, target))
    assert torch.equal(found, wanted)


def test_correlation_forgives_stretched_and_shifted_answers():
    """Both answers of two images, so that the batch's correlation is 1 as well."""
    p = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3]], dtype=torch.float64)
    q = (p - 1 / 3) * 0.4 + 1 / 3
    found = value("dist", q.log(), p.log(), torch.tensor([0, 1]), T=1.0)
    assert found.item() == pytest.approx(0, abs=1e-12)


def test_correlation_of_opposite_answers_is_minus_one():
    p = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    found = value("dist", (2 / 3 - p).log(), p.log(), torch.tensor([0]), T=1.0)
    assert found.item() == pytest.approx(2, rel=1e-9)


def test_of_two_classes_only_the_batch_teaches():
    student, teacher = logits(5, 2, 1).double().requires_grad_(), logits(5, 2, 2).double()
    target = torch.zeros(5, dtype=torch.int64)
    over_classes = value("dist", student, teacher, target, gamma=0.0, squared=False)
    (slope,) = torch.autograd.grad(over_classes, student)
    same = (student.argmax(1) == teacher.argmax(1)).double().mean().item()
    assert over_classes.item() == pytest.approx(2 * (1 - same), abs=1e-12)
    assert slope.abs().max() < 1e-12
    value("dist", student, teacher, target, beta=0.0).backward()
    assert student.grad.abs().max() > 1e-3


def test_of_one_image_only_the_classes_teach():
    student, teacher = logits(1, 10, 1).requires_grad_(), logits(1, 10, 2)
    over_batch = value("dist", student, teacher, torch.tensor([0]), beta=0.0)
    over_batch.backward()
    assert over_batch.item() == 0
    assert not student.grad.any()


def test_the_square_can_be_left_out_of_dist():
    student, teacher, target = logits(5, 10, 1), logits(5, 10, 2), torch.arange(5)
    whole = value("dist", student, teacher, target)
    bare = value("dist", student, teacher, target, squared=False)
    assert whole.item() == pytest.approx(16 * bare.item(), rel=1e-6)


def test_what_does_not_vary_but_for_rounding_has_no_direction():
    nearly = torch.full((1, 7), 0.1) + 1e-8 * torch.arange(7)
    assert not direction(nearly, 1).any()
    assert direction(1e-12 * torch.arange(7.0)[None], 1).norm().item() == pytest.approx(1)


@pytest.mark.parametrize("ddof", [0, 1])
def test_stretched_and_shifted_logits_are_the_same_once_standardised(ddof):
    z = logits(5, 10, 1).double()
    found = value("logit_std", 3 * z + 100, z, torch.arange(5), ddof=ddof)
    assert found.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("ddof", [0, 1])
def test_it_is_kd_of_logits_standardised_by_torch(ddof):
    student, teacher = logits(5, 10, 1).double(), logits(5, 10, 2).double()
    v, w = (
        (z - z.mean(1, keepdim=True)) / z.std(1, correction=ddof, keepdim=True)
        for z in (student, teacher)
    )
    target = torch.arange(5)
    found = value("logit_std", student, teacher, target, ddof=ddof).item()
    assert found == pytest.approx(value("kd", v, w, target, T=2.0).item(), rel=1e-9)


def test_of_two_classes_standardised_logits_would_be_a_sign():
    for z in (logits(4, 2, 1), 100 * logits(4, 2, 1)):
        v = math.sqrt(2 - 1) * direction(z, 1)
        assert torch.allclose(v.abs(), torch.full_like(v, 0.5**0.5))
    with pytest.raises(InputError, match=r"found 2 classes; 'logit_std' wanted 3 or more.*'kd'"):
        value("logit_std", logits(4, 2, 1), logits(4, 2, 2), torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize(
    ("key", "knobs"),
    [
        ("dkd", {"T": 0}),
        ("dkd", {"alpha": -1.0}),
        ("dkd", {"beta": math.inf}),
        ("dkd", {"beta": "eight"}),
        ("dist", {"T": "warm"}),
        ("dist", {"beta": -0.5}),
        ("dist", {"gamma": math.nan}),
        ("dist", {"squared": 1}),
        ("logit_std", {"T": -1}),
        ("logit_std", {"ddof": 2}),
        ("logit_std", {"ddof": True}),
    ],
)
def test_senseless_knobs_are_refused(key, knobs):
    with pytest.raises(InputError, match=r"found .*; wanted"):
        LOSSES[key].make(**knobs)
