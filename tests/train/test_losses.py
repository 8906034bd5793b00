"""Each loss against a second derivation in float64, its laws, and its label."""

import math

import pytest
import torch
from torch import Tensor

from kdprobe.errors import InputError
from kdprobe.train.losses.contract import LOSSES, Outputs

EVERY = ["cross_entropy", "feature", "kd"]


def logits(n: int, c: int, seed: int, scale: float = 2.0) -> Tensor:
    return torch.randn(n, c, generator=torch.Generator().manual_seed(seed)) * scale


def value(key: str, student: Tensor, teacher: Tensor, target: Tensor, **knobs: object) -> Tensor:
    found: Tensor = LOSSES[key].make(**knobs)(Outputs(student), Outputs(teacher), target)
    return found


def softened(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp((z - max(row)) / temperature) for z in row]
    return [power / sum(powers) for power in powers]


def naive(key: str, student: Tensor, teacher: Tensor, target: Tensor) -> float:
    """The mean over images by plain loops in double precision; kd at T = 4."""
    total = 0.0
    for ours, theirs, label in zip(
        student.double().tolist(), teacher.double().tolist(), target.tolist(), strict=True
    ):
        if key == "cross_entropy":
            total -= math.log(softened(ours, 1)[label])
        elif key == "feature":
            total += sum((a - b) ** 2 for a, b in zip(ours, theirs, strict=True)) / len(ours)
        else:
            p, q = softened(theirs, 4), softened(ours, 4)
            total += 16 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total / len(target)


def test_the_room_holds_these_losses():
    assert set(EVERY) <= set(LOSSES)


@pytest.mark.parametrize("key", EVERY)
@pytest.mark.parametrize(("n", "c"), [(6, 10), (1, 10), (5, 2), (1, 2)])
def test_value_is_that_of_a_naive_loop(key, n, c):
    student, teacher = logits(n, c, 1), logits(n, c, 2)
    target = torch.arange(n) % c
    wanted = naive(key, student, teacher, target)
    assert value(key, student, teacher, target).item() == pytest.approx(wanted, rel=1e-5, abs=1e-5)
    double = value(key, student.double(), teacher.double(), target)
    assert double.item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("key", EVERY)
def test_gradient_flows_to_the_student_only(key):
    student, teacher = logits(4, 10, 1).requires_grad_(), logits(4, 10, 2).requires_grad_()
    value(key, student, teacher, torch.zeros(4, dtype=torch.int64)).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert bool(torch.isfinite(student.grad).all())
    assert float(student.grad.abs().sum()) > 0


@pytest.mark.parametrize("key", EVERY)
def test_label_tells_where_the_loss_is_zero_and_whether_it_needs_a_teacher(key):
    z, target = logits(4, 10, 1), torch.zeros(4, dtype=torch.int64)
    at_teacher = value(key, z, z.clone(), target).item()
    assert (abs(at_teacher) < 1e-6) == LOSSES[key].zero_at_teacher
    other = value(key, z, logits(4, 10, 3), target).item()
    assert (other != at_teacher) == LOSSES[key].needs_teacher


@pytest.mark.parametrize("key", EVERY)
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(key, kind):
    student, teacher = logits(4, 10, 1).to(kind), logits(4, 10, 2).to(kind)
    target = torch.tensor([0, 1, 2, 3])
    found = value(key, student, teacher, target)
    assert found.dtype == torch.float32
    assert torch.equal(found, value(key, student.float(), teacher.float(), target))


@pytest.mark.parametrize("key", EVERY)
def test_large_margins_stay_finite(key):
    student = torch.tensor([[5e3, 0.0, -5e3]], requires_grad=True)
    teacher = torch.tensor([[-5e3, 0.0, 5e3]])
    found = value(key, student, teacher, torch.tensor([2]))
    found.backward()
    assert bool(torch.isfinite(found))
    assert student.grad is not None
    assert bool(torch.isfinite(student.grad).all())


@pytest.mark.parametrize("key", EVERY)
def test_order_and_doubling_of_images_change_nothing(key):
    student, teacher, target = logits(4, 10, 1), logits(4, 10, 2), torch.tensor([0, 1, 2, 3])
    once = value(key, student, teacher, target).item()
    rows = torch.tensor([2, 0, 3, 1, 1, 3, 0, 2])
    again = value(key, student[rows], teacher[rows], target[rows]).item()
    assert again == pytest.approx(once, rel=1e-6)


def test_kd_at_high_temperature_is_the_centred_squared_difference():
    student, teacher = logits(8, 10, 1).double(), logits(8, 10, 2).double()
    apart = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    wanted = apart.pow(2).sum(1).mean().item() / (2 * 10)
    target = torch.zeros(8, dtype=torch.int64)
    assert value("kd", student, teacher, target, T=1e4).item() == pytest.approx(wanted, rel=1e-3)


def test_kd_scales_with_the_square_of_the_temperature():
    student, teacher = logits(8, 10, 1).double(), logits(8, 10, 2).double()
    target = torch.zeros(8, dtype=torch.int64)
    warm = value("kd", student, teacher, target, T=3.0)
    plain = value("kd", student / 3, teacher / 3, target, T=1.0)
    assert warm.item() == pytest.approx(9 * plain.item(), rel=1e-12)


def test_smoothing_mixes_in_the_mean_over_all_classes():
    student, target = logits(6, 5, 1).double(), torch.tensor([0, 1, 2, 3, 4, 0])
    logs = student.log_softmax(1)
    wanted = 0.9 * -logs[torch.arange(6), target].mean() - 0.1 * logs.mean()
    found = value("cross_entropy", student, student, target, smoothing=0.1)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12)


def test_feature_reads_the_named_layer():
    ours, theirs = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 2.0)
    student = Outputs(logits(2, 5, 1), {"stage3": ours})
    teacher = Outputs(logits(2, 7, 2), {"stage3": theirs})
    found = LOSSES["feature"].make(layer="stage3")(student, teacher, torch.tensor([0, 1]))
    assert found.item() == pytest.approx(4.0)


def test_feature_refuses_layers_of_two_widths():
    with pytest.raises(InputError, match=r"has shape \(5,\), teacher 'logits' has \(7,\).*choose"):
        value("feature", logits(2, 5, 1), logits(2, 7, 2), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("key", "knobs"),
    [
        ("kd", {"T": 0}),
        ("kd", {"T": math.nan}),
        ("cross_entropy", {"smoothing": 1.0}),
        ("feature", {"layer": ""}),
        ("feature", {"layer": 3}),
    ],
)
def test_senseless_knobs_are_refused(key, knobs):
    with pytest.raises(InputError, match=r"found .*; wanted"):
        LOSSES[key].make(**knobs)
