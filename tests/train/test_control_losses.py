"""Controls: drawn labels, shuffled teachers, uniform teachers; each against what it controls."""

import math
from itertools import permutations

import pytest
import torch
from torch import Tensor

from kdprobe.errors import InputError
from kdprobe.train.chance import generator
from kdprobe.train.losses.contract import LOSSES, Batch, Outputs
from kdprobe.train.losses.permuted_kd import shuffled
from kdprobe.train.losses.sampled_kd import drawn

EVERY = ["permuted_kd", "sampled_kd", "uniform_kd"]
DRAWING = ["permuted_kd", "sampled_kd"]


def logits(n: int, c: int, seed: int, scale: float = 2.0) -> Tensor:
    return torch.randn(n, c, generator=torch.Generator().manual_seed(seed)) * scale


def batch(n: int, seed: int = 0) -> Batch:
    return Batch(torch.zeros(n, 3, 4, 4), torch.arange(n), 100, seed)


def value(
    key: str, student: Tensor, teacher: Tensor, target: Tensor, seed: int = 0, **knobs: object
) -> Tensor:
    made, seen = LOSSES[key].make(**knobs), batch(len(student), seed)
    found: Tensor = made(Outputs(student, batch=seen), Outputs(teacher, batch=seen), target)
    return found


def softened(row: list[float], T: float) -> list[float]:
    powers = [math.exp((z - max(row)) / T) for z in row]
    return [power / sum(powers) for power in powers]


def naive(key: str, student: Tensor, teacher: Tensor, target: Tensor) -> float:
    """By plain loops, on the draws of the same generator, every knob at its default."""
    n, c = student.shape
    chance = generator(0, 0, key)
    times = torch.empty(n, c).exponential_(generator=chance) if key == "sampled_kd" else None
    ranks = torch.rand(n, c - 1, generator=chance) if key == "permuted_kd" else None
    total = 0.0
    for i in range(n):
        ours, theirs = student[i].double().tolist(), teacher[i].double().tolist()
        y = int(target[i])
        if times is not None:
            arrivals = [t / p for t, p in zip(times[i].tolist(), softened(theirs, 1), strict=True)]
            total -= math.log(softened(ours, 1)[arrivals.index(min(arrivals))])
            continue
        p = softened(theirs, 4)
        if ranks is not None:
            others = [k for k in range(c) if k != y]
            order = sorted(range(c - 1), key=lambda j: float(ranks[i, j]))
            p = [p[others[order[others.index(k)]]] if k != y else p[y] for k in range(c)]
        else:
            p = [1 / c] * c
        total += 16 * sum(a * math.log(a / b) for a, b in zip(p, softened(ours, 4), strict=True))
    return total / n


@pytest.mark.parametrize("key", EVERY)
@pytest.mark.parametrize(("n", "c"), [(6, 10), (1, 10), (5, 2), (1, 2)])
def test_value_is_that_of_a_naive_loop(key, n, c):
    student, teacher, target = logits(n, c, 1), logits(n, c, 2), torch.arange(n) % c
    wanted = naive(key, student, teacher, target)
    double = value(key, student.double(), teacher.double(), target)
    assert double.item() == pytest.approx(wanted, rel=1e-9)
    assert value(key, student, teacher, target).item() == pytest.approx(wanted, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("key", EVERY)
def test_gradient_flows_to_the_student_only(key):
    student, teacher = logits(4, 10, 1).requires_grad_(), logits(4, 10, 2).requires_grad_()
    value(key, student, teacher, torch.arange(4)).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("key", EVERY)
def test_no_control_is_zero_at_the_teacher_and_each_says_whether_it_looks_at_one(key):
    z, target = logits(4, 10, 1), torch.zeros(4, dtype=torch.int64)
    at_teacher = value(key, z, z, target).item()
    assert at_teacher > 1e-3
    assert not LOSSES[key].zero_at_teacher
    others = {value(key, z, logits(4, 10, seed), target).item() for seed in range(2, 8)}
    assert (others != {at_teacher}) == LOSSES[key].needs_teacher


@pytest.mark.parametrize("key", EVERY)
def test_large_margins_stay_finite(key):
    student = torch.tensor([[5e3, 0.0, -5e3]], requires_grad=True)
    found = value(key, student, torch.tensor([[-5e3, 0.0, 5e3]]), torch.tensor([2]))
    found.backward()
    assert bool(torch.isfinite(found))
    assert bool(torch.isfinite(student.grad).all())


@pytest.mark.parametrize("key", EVERY)
def test_it_grows_with_the_square_of_the_temperature(key):
    student, teacher = logits(4, 10, 1).double(), logits(4, 10, 2).double()
    target = torch.arange(4)
    warm = value(key, student, teacher, target, T=3.0).item()
    plain = value(key, student / 3, teacher / 3, target, T=1.0).item()
    assert warm == pytest.approx(9 * plain, rel=1e-12)


@pytest.mark.parametrize("key", DRAWING)
def test_a_step_draws_by_its_seed_alone(key):
    student, teacher, target = logits(8, 10, 1), logits(8, 10, 2), torch.arange(8)
    before = torch.get_rng_state()
    one, two = (value(key, student, teacher, target, seed=5) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, value(key, student, teacher, target, seed=6))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("key", DRAWING)
def test_without_a_batch_there_is_no_seed_to_draw_from(key):
    z = Outputs(logits(2, 3, 1))
    with pytest.raises(InputError, match=f"loss '{key}' must know which images it is shown"):
        LOSSES[key].make()(z, z, torch.tensor([0, 1]))


@pytest.mark.parametrize("T", [1.0, 4.0])
def test_the_gradient_expected_of_drawn_labels_is_that_of_kd(T):
    """Exactly: every label in turn, weighted by the chance that it is drawn."""
    student, teacher = logits(1, 5, 1).double().requires_grad_(), logits(1, 5, 2).double()
    p = (teacher / T).softmax(1)[0]
    slopes = []
    for label in range(5):
        sure = torch.full((1, 5), -1e6, dtype=torch.float64)
        sure[0, label] = 1e6  # a teacher of whom only this label can be drawn
        drawn_loss = value("sampled_kd", student, sure, torch.tensor([0]), T=T)
        (slope,) = torch.autograd.grad(drawn_loss, student)
        slopes.append(slope)
    expected = sum(p[label] * slope for label, slope in enumerate(slopes))
    (wanted,) = torch.autograd.grad(value("kd", student, teacher, torch.tensor([0]), T=T), student)
    assert torch.allclose(expected, wanted, atol=1e-12)


def test_the_mean_of_many_draws_comes_to_kd():
    """40,000 images of one answer: the gradient's error is that of so many drawn labels."""
    n = 40_000
    student = logits(1, 5, 1).double().repeat(n, 1).requires_grad_()
    teacher = logits(1, 5, 2).double().repeat(n, 1)
    target = torch.zeros(n, dtype=torch.int64)
    (found,) = torch.autograd.grad(value("sampled_kd", student, teacher, target), student)
    (wanted,) = torch.autograd.grad(value("kd", student, teacher, target, T=1.0), student)
    assert torch.allclose(found.sum(0), wanted.sum(0), atol=4 * 0.5 / math.sqrt(n))


def test_labels_are_drawn_as_often_as_the_teacher_says():
    p = torch.tensor([0.5, 0.3, 0.15, 0.049, 0.001])
    n = 200_000
    found = drawn(p.log().repeat(n, 1), torch.Generator().manual_seed(0))
    counts = torch.bincount(found, minlength=5) / n
    errors = (p * (1 - p) / n).sqrt()
    assert bool(((counts - p).abs() < 4 * errors).all())


def test_what_cannot_be_is_never_drawn():
    z = torch.tensor([[0.0, -torch.inf, -1e4]]).repeat(1000, 1)
    assert drawn(z, torch.Generator().manual_seed(0)).eq(0).all()


def test_a_shuffled_teacher_keeps_its_entropy_and_its_trust_in_the_label():
    teacher, label = logits(50, 10, 2).double(), torch.arange(50) % 10
    found = shuffled(teacher, label, torch.Generator().manual_seed(0))
    p, q = teacher.softmax(1), found.softmax(1)
    rows = torch.arange(50)
    assert torch.allclose(p[rows, label], q[rows, label], rtol=1e-12)
    assert torch.equal(teacher.sort(1).values, found.sort(1).values)
    entropies = (-(part * part.log()).sum(1) for part in (p, q))
    assert torch.allclose(*entropies, rtol=1e-12)
    assert (found != teacher).any(1).float().mean() > 0.9


def test_every_order_of_the_others_is_as_likely():
    n = 24_000
    z, label = torch.tensor([[9.0, 1.0, 2.0, 3.0, 4.0]]), torch.zeros(n, dtype=torch.int64)
    found = shuffled(z.repeat(n, 1), label, torch.Generator().manual_seed(0))
    seen = {tuple(row) for row in found.int().tolist()}
    assert seen == {(9, *order) for order in permutations((1, 2, 3, 4))}
    first = torch.bincount(found[:, 1].long(), minlength=5)[1:] / n
    assert (first - 0.25).abs().max() < 4 * math.sqrt(0.25 * 0.75 / n)


def test_of_two_classes_there_is_nothing_to_shuffle():
    student, teacher, target = logits(6, 2, 1), logits(6, 2, 2), torch.arange(6) % 2
    found = value("permuted_kd", student, teacher, target)
    assert torch.equal(found, value("kd", student, teacher, target))


def test_of_mixed_images_the_heavier_label_stays():
    student, teacher = logits(6, 10, 1), logits(6, 10, 2)
    target = torch.arange(6)
    mixed = 0.6 * torch.eye(10)[target] + 0.4 * torch.eye(10)[target + 1]
    found = value("permuted_kd", student, teacher, mixed)
    assert torch.equal(found, value("permuted_kd", student, teacher, target))


def test_a_uniform_teacher_beside_cross_entropy_is_label_smoothing():
    """But for the entropy of the uniform answer, which pushes nowhere."""
    student, target = logits(6, 10, 1).double(), torch.arange(6)
    plain = value("cross_entropy", student, student, target).item()
    mixed = 0.9 * plain + 0.1 * value("uniform_kd", student, student, target, T=1.0).item()
    smooth = value("label_smoothing", student, student, target, eps=0.1).item()
    assert mixed == pytest.approx(smooth - 0.1 * math.log(10), rel=1e-12)


@pytest.mark.parametrize("T", [1.0, 4.0])
def test_a_uniform_teacher_is_kd_from_equal_logits(T):
    student, target = logits(6, 10, 1), torch.arange(6)
    found = value("uniform_kd", student, student, target, T=T)
    assert torch.equal(found, value("kd", student, torch.ones(6, 10), target, T=T))
    assert value("uniform_kd", torch.ones(6, 10), student, target).item() == pytest.approx(0)


@pytest.mark.parametrize("key", EVERY)
def test_senseless_temperatures_are_refused(key):
    with pytest.raises(InputError, match="found T=0; wanted a temperature above 0"):
        LOSSES[key].make(T=0)
