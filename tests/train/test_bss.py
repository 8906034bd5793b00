"""Boundary supporting samples: against plain loops over linear networks, whose slopes are known."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.train.chance import generator
from kdprobe.train.losses.bss import other_drawn
from kdprobe.train.losses.contract import LOSSES, Batch, Outputs

SHAPE = (3, 2, 2)


class Linear(nn.Module):
    """Logits of all pixels; its slope in the pixels is its weight."""

    def __init__(self, classes: int, seed: int, scale: float = 2.0) -> None:
        super().__init__()
        chance = torch.Generator().manual_seed(seed)
        weight = scale * torch.randn(classes, math.prod(SHAPE), generator=chance)
        self.weight = nn.Parameter(weight.double())

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1) @ self.weight.T


def pixels(n: int, seed: int = 0) -> Tensor:
    chance = torch.Generator().manual_seed(seed)
    return torch.rand(n, *SHAPE, generator=chance, dtype=torch.float64)


def side(network: nn.Module, images: Tensor, seed: int = 0) -> Outputs:
    batch = Batch(images, torch.arange(len(images)), 100, seed)
    return Outputs(network(images), batch=batch, look=network)


def pair(classes: int, images: Tensor, near: float = 0.3) -> tuple[Linear, Linear, Tensor]:
    """A student, its teacher, and labels that the teacher names rightly but for the last image."""
    student, teacher = Linear(classes, 1), Linear(classes, 2)
    with torch.no_grad():
        student.weight.copy_(teacher.weight + near * student.weight)
    target = teacher(images).argmax(1)
    if len(images) > 1:
        target[-1] = (target[-1] + 1) % classes
    return student, teacher, target


def value(student: nn.Module, teacher: nn.Module, images: Tensor, target: Tensor, **knobs: object):
    made = LOSSES["bss"].make(**knobs)
    return made(side(student, images), side(teacher, images), target)


def softened(row: list[float], T: float) -> list[float]:
    powers = [math.exp((z - max(row)) / T) for z in row]
    return [power / sum(powers) for power in powers]


def answer(weight: list[list[float]], image: list[float]) -> list[float]:
    return [sum(w * x for w, x in zip(row, image, strict=True)) for row in weight]


def walked(weight: list[list[float]], image: list[float], label: int, towards: int) -> list[float]:
    """Ten steps of 0.3 towards the boundary, in [0, 1], while the answer is the label."""
    slope = [a - b for a, b in zip(weight[towards], weight[label], strict=True)]
    length = math.sqrt(sum(g * g for g in slope))
    for _ in range(10):
        z = answer(weight, image)
        if z.index(max(z)) != label:
            break
        size = 0.3 * (z[label] - z[towards] + 1e-4) / length
        image = [min(max(x + size * g, 0), 1) for x, g in zip(image, slope, strict=True)]
    return image


def naive(student: Linear, teacher: Linear, images: Tensor, target: Tensor, most: int) -> float:
    """By plain loops, on the draws of the same generator."""
    ours, theirs = student.weight.tolist(), teacher.weight.tolist()
    flat, scored = images.flatten(1).tolist(), []
    for i, (image, y) in enumerate(zip(flat, target.tolist(), strict=True)):
        p, q = (softened(answer(weight, image), 1) for weight in (theirs, ours))
        right = p.index(max(p)) == y == q.index(max(q))
        apart = sum((a - b) ** 2 for k, (a, b) in enumerate(zip(p, q, strict=True)) if k != y)
        scored.append((apart if right else -1.0, i))
    chosen = sorted(scored, reverse=True)[:most]
    times = torch.empty(len(chosen), len(ours)).exponential_(generator=generator(0, 0, "bss"))
    total, count = 0.0, 0
    for arrivals, (score, i) in zip(times.tolist(), chosen, strict=True):
        if score < 0:
            continue
        y, p = int(target[i]), softened(answer(theirs, flat[i]), 1)
        races = [math.inf if k == y else arrivals[k] / p[k] for k in range(len(p))]
        moved = walked(theirs, flat[i], y, races.index(min(races)))
        a, b = (softened(answer(weight, moved), 3) for weight in (theirs, ours))
        total += sum(x * math.log(x / z) for x, z in zip(a, b, strict=True))
        count += 1
    return total / max(count, 1)


@pytest.mark.parametrize(("n", "c"), [(12, 5), (1, 5), (8, 2), (1, 2), (40, 10)])
@pytest.mark.parametrize("most", [64, 5])
def test_value_is_that_of_a_naive_loop(n, c, most):
    images = pixels(n)
    student, teacher, target = pair(c, images)
    wanted = naive(student, teacher, images, target, most)
    assert wanted > 0
    found = value(student, teacher, images, target, most=most)
    assert found.item() == pytest.approx(wanted, rel=1e-8)


def test_it_is_zero_at_the_teacher_and_where_nobody_is_right():
    images = pixels(12)
    student, teacher, target = pair(5, images)
    assert value(teacher, teacher, images, target).item() == pytest.approx(0, abs=1e-12)
    wrong = value(student, teacher, images, (teacher(images).argmax(1) + 1) % 5)
    wrong.backward()
    assert wrong.item() == 0
    assert not student.weight.grad.any()


def test_gradient_flows_to_the_student_only_and_is_that_of_finite_differences():
    images = pixels(6)
    student, teacher, target = pair(5, images)
    images.requires_grad_()
    value(student, teacher, images, target).backward()
    assert teacher.weight.grad is None
    assert images.grad is None
    assert student.weight.grad.abs().sum() > 0
    start, slope = student.weight.detach().clone(), student.weight.grad.clone()
    way = torch.randn(slope.shape, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        ends = []
        for size in (1e-6, -1e-6):
            student.weight.copy_(start + size * way)
            ends.append(value(student, teacher, images.detach(), target).item())
    assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(float((slope * way).sum()), rel=1e-5)


def test_it_works_where_gradients_are_switched_off():
    images = pixels(6)
    student, teacher, target = pair(5, images)
    with torch.no_grad():
        found = value(student, teacher, images, target)
    assert found.item() == value(student, teacher, images, target).item()


def test_a_step_draws_by_its_seed_alone():
    images = pixels(30)
    student, teacher, target = pair(10, images)
    made, before = LOSSES["bss"].make(), torch.get_rng_state()
    found = [
        made(side(student, images, seed), side(teacher, images, seed), target).item()
        for seed in (5, 5, 6)
    ]
    assert found[0] == found[1] != found[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_the_images_stop_just_beyond_the_teachers_boundary():
    """Where the slope is 1, a step of eta = 1 lands 1e-4 of a logit beyond."""
    teacher, images = Linear(2, 2), 0.4 + 0.2 * pixels(20)
    with torch.no_grad():
        teacher.weight /= (teacher.weight[0] - teacher.weight[1]).norm()
    label = teacher(images).argmax(1)
    made = LOSSES["bss"].make(eta=1.0)
    moved = made.moved(side(teacher, images), images, label, 1 - label)
    z = teacher(moved).detach()
    inside = ((moved > 0) & (moved < 1)).flatten(1).all(1)
    assert inside.sum() > 10
    beyond = z.gather(1, (1 - label)[:, None]) - z.gather(1, label[:, None])
    assert torch.allclose(beyond[inside], torch.full_like(beyond[inside], 1e-4), atol=1e-9)
    assert moved.min() >= 0
    assert moved.max() <= 1


def test_the_base_is_the_images_whose_other_classes_are_told_most_apart():
    ours = torch.tensor([[4.0, 0, 0], [4, 3, 0], [4, 0, 3], [0, 4, 0], [4, 1, 0]]).log_softmax(1)
    theirs = torch.tensor([[4.0, 0, 0], [4, 0, 3], [4, 0, 3], [4, 0, 0], [0, 4, 0]])
    rows, counts = LOSSES["bss"].make(most=4).chosen(ours, theirs, torch.zeros(5).long())
    assert rows[0] == 1, "the two are right and differ most in the others"
    assert set(rows[:3].tolist()) == {0, 1, 2}
    assert counts.tolist() == [1, 1, 1, 0]


def test_another_class_is_drawn_as_often_as_the_teacher_says():
    n, p = 100_000, torch.tensor([0.6, 0.3, 0.08, 0.02])
    found = other_drawn(
        p.log().repeat(n, 1), torch.zeros(n).long(), torch.Generator().manual_seed(0)
    )
    shares, wanted = torch.bincount(found, minlength=4) / n, p[1:] / 0.4
    assert shares[0] == 0
    assert ((shares[1:] - wanted).abs() < 4 * (wanted * (1 - wanted) / n).sqrt()).all()


def test_of_mixed_images_the_heavier_label_counts():
    images = pixels(12)
    student, teacher, target = pair(5, images)
    mixed = 0.7 * torch.eye(5)[target] + 0.3 * torch.eye(5)[(target + 1) % 5]
    found, wanted = (value(student, teacher, images, y).item() for y in (mixed, target))
    assert found == wanted


def test_half_precision_is_computed_in_float32_and_large_margins_stay_finite():
    images = pixels(12).float()
    student, teacher, target = pair(5, images.double())
    for kind in (torch.float16, torch.bfloat16):

        def halved(network: nn.Module, kind: torch.dtype = kind):
            return lambda seen: network(seen.double()).to(kind)

        made = LOSSES["bss"].make()
        sides = [side(halved(network), images) for network in (student, teacher)]
        found = made(*sides, target)
        assert found.dtype == torch.float32
        assert bool(torch.isfinite(found))
    with torch.no_grad():
        student.weight.mul_(1e4), teacher.weight.mul_(1e4)
    far = value(student, teacher, images.double(), target)
    far.backward()
    assert bool(torch.isfinite(far))
    assert bool(torch.isfinite(student.weight.grad).all())


class Deep(nn.Module):
    """A small network with BatchNorm."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.body = nn.Sequential(
                nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten()
            )
            self.head = nn.Linear(4 * 4, 3)

    def forward(self, seen: Tensor) -> Tensor:
        return self.head(self.body(seen))


def test_in_training_the_students_statistics_move_towards_the_moved_images_too():
    images, student, teacher = pixels(16).float(), Deep(1), Deep(2).eval().requires_grad_(False)
    target = teacher(images).argmax(1)
    sides = side(student, images), side(teacher, images)
    student_norm, teacher_norm = student.body[1], teacher.body[1]
    before = student_norm.running_mean.clone(), teacher_norm.running_mean.clone()
    LOSSES["bss"].make()(*sides, target).backward()
    assert student_norm.num_batches_tracked == 2
    assert not torch.equal(student_norm.running_mean, before[0])
    assert torch.equal(teacher_norm.running_mean, before[1])
    assert all(weight.grad is not None for weight in student.parameters())


def test_outputs_alone_are_not_enough():
    images = pixels(4)
    student, teacher, target = pair(5, images)
    made = LOSSES["bss"].make()
    bare = Outputs(student(images))
    with pytest.raises(InputError, match="'bss' must know which images it is shown"):
        made(bare, bare, target)
    cached = replace(side(teacher, images), look=None)
    with pytest.raises(InputError, match=r"'bss' shows the networks images of its own.*cached"):
        made(side(student, images), cached, target)


@pytest.mark.parametrize(
    "knobs",
    [
        {"T": 0},
        {"steps": 0},
        {"steps": 2.5},
        {"most": 0},
        {"most": True},
        {"eta": -1},
        {"eta": "a"},
    ],
)
def test_senseless_knobs_are_refused(knobs):
    with pytest.raises(InputError, match=r"found .*; wanted"):
        LOSSES["bss"].make(**knobs)
