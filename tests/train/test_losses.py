"""Each loss against a second derivation in float64, its laws, and its label."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kdprobe.errors import InputError
from kdprobe.train.losses.contract import LOSSES, Outputs

EVERY = [
    "cross_entropy",
    "feature",
    "kd",
    "label_smoothing",
    "tfkd_reg",
    "tfkd_reg_released",
]


def logits(n: int, c: int, seed: int, scale: float = 2.0) -> Tensor:
    return torch.randn(n, c, generator=torch.Generator().manual_seed(seed)) * scale


def value(key: str, student: Tensor, teacher: Tensor, target: Tensor, **knobs: object) -> Tensor:
    found: Tensor = LOSSES[key].make(**knobs)(Outputs(student), Outputs(teacher), target)
    return found


def softened(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp((z - max(row)) / temperature) for z in row]
    return [power / sum(powers) for power in powers]


def naive(key: str, student: Tensor, teacher: Tensor, target: Tensor) -> float:
    """The mean over images by plain loops in double precision, every knob at its default."""
    total = 0.0
    for ours, theirs, label in zip(
        student.double().tolist(), teacher.double().tolist(), target.tolist(), strict=True
    ):
        if key == "cross_entropy":
            total -= math.log(softened(ours, 1)[label])
        elif key == "feature":
            total += sum((a - b) ** 2 for a, b in zip(ours, theirs, strict=True)) / len(ours)
        elif key == "label_smoothing":
            logs = [math.log(p) for p in softened(ours, 1)]
            total -= 0.9 * logs[label] + 0.1 * sum(logs) / len(logs)
        elif key.startswith("tfkd_reg"):
            count = len(ours)
            sure = [0.99 if k == label else 0.01 / (count - 1) for k in range(count)]
            warm, parts = (1, count) if key.endswith("released") else (20, 1)
            p, q = softened(sure, 20), softened(ours, warm)
            total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / parts
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


def test_smoothing_over_the_others_gives_the_label_exactly_one_less_eps():
    """The target by hand; and it is smoothing over all by eps K / (K - 1)."""
    student, target = logits(6, 5, 1).double(), torch.tensor([0, 1, 2, 3, 4, 0])
    wanted = torch.full((6, 5), 0.1 / 4, dtype=torch.float64)
    wanted[torch.arange(6), target] = 0.9
    by_hand = -(wanted * student.log_softmax(1)).sum(1).mean()
    found = value("label_smoothing", student, student, target, over="others")
    assert found.item() == pytest.approx(by_hand.item(), rel=1e-12)
    over_all = value("label_smoothing", student, student, target, eps=0.1 * 5 / 4)
    assert found.item() == pytest.approx(over_all.item(), rel=1e-12)
    plain = value("cross_entropy", student, student, target, smoothing=0.1)
    smooth = value("label_smoothing", student, student, target)
    assert smooth.item() == pytest.approx(plain.item(), rel=1e-12)


def test_kd_without_the_square_and_with_a_mean_over_classes_is_smaller_by_just_that():
    student, teacher = logits(8, 10, 1).double(), logits(8, 10, 2).double()
    target = torch.zeros(8, dtype=torch.int64)
    whole = value("kd", student, teacher, target, T=3.0).item()
    bare = value("kd", student, teacher, target, T=3.0, squared=False).item()
    mean = value("kd", student, teacher, target, T=3.0, reduction="mean").item()
    assert whole == pytest.approx(9 * bare, rel=1e-12)
    assert whole == pytest.approx(10 * mean, rel=1e-12)


@pytest.mark.parametrize(
    ("K", "soften", "label", "other"),
    [
        (10, "prob", 0.1045, 0.0995),
        (10, "logit", 0.1350, 0.0961),
        (100, "prob", 0.01050, 0.00999),
        (100, "logit", 0.01574, 0.00994),
    ],
)
def test_the_virtual_teacher_is_softened_as_either_reading_has_it(K, soften, label, other):
    made = LOSSES["tfkd_reg"].make(T=20.0, A=0.99, soften=soften)
    p = made.virtual(torch.zeros(1, K, dtype=torch.float64), torch.tensor([3])).exp()[0]
    assert p.sum().item() == pytest.approx(1, rel=1e-12)
    assert p[3].item() == pytest.approx(label, abs=5e-5)
    assert p[4].item() == pytest.approx(other, abs=5e-5)


def test_the_released_virtual_teacher_is_the_papers_with_its_four_changes():
    student, target = logits(8, 10, 1).double(), torch.arange(8)
    told = {"T": 40.0, "student_T": 1.0, "multiplier": 50.0}
    released = value("tfkd_reg_released", student, student, target, **told).item()
    spelled = value("tfkd_reg", student, student, target, reduction="mean", **told).item()
    paper = value("tfkd_reg", student, student, target, T=40.0).item()
    assert released == pytest.approx(spelled, rel=1e-12)
    assert released != pytest.approx(paper, rel=0.5)
    whole = value("tfkd_reg", student, student, target, T=40.0, student_T=1.0).item()
    assert released == pytest.approx(50 / 10 * whole, rel=1e-12)


LABELLED = ["cross_entropy", "label_smoothing", "tfkd_reg", "tfkd_reg_released"]


@pytest.mark.parametrize("key", LABELLED)
@pytest.mark.parametrize("c", [10, 2])
def test_labels_may_come_as_probabilities(key, c):
    student, target = logits(6, c, 1).double(), torch.arange(6) % c
    told = F.one_hot(target, c)
    for kind in (torch.float32, torch.float64):
        found = value(key, student, student, told.to(kind))
        assert found.item() == pytest.approx(value(key, student, student, target).item(), rel=1e-9)


@pytest.mark.parametrize(
    ("key", "knobs"),
    [
        ("cross_entropy", {}),
        ("cross_entropy", {"smoothing": 0.1}),
        ("label_smoothing", {}),
        ("label_smoothing", {"over": "others"}),
        ("tfkd_reg", {}),
        ("tfkd_reg", {"soften": "logit", "T": 2.0}),
        ("tfkd_reg_released", {"multiplier": 50.0}),
    ],
)
def test_the_push_of_a_mixed_image_is_the_mixture_of_its_labels_pushes(key, knobs):
    """Each image with a share of its own; the values differ by what does not depend on z."""
    student = logits(6, 10, 1).double().requires_grad_()
    one, two = torch.arange(6), torch.arange(6) + 3
    share = torch.linspace(0, 1, 6, dtype=torch.float64)[:, None]
    mixed = share * F.one_hot(one, 10) + (1 - share) * F.one_hot(two, 10)

    def push(target: Tensor) -> Tensor:
        return torch.autograd.grad(value(key, student, student, target, **knobs), student)[0]

    wanted = share * push(one) + (1 - share) * push(two)
    assert torch.allclose(push(mixed), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("soften", ["prob", "logit"])
def test_the_virtual_teachers_of_a_mixed_image_are_mixed(soften):
    made, z = LOSSES["tfkd_reg"].make(soften=soften), torch.zeros(1, 5, dtype=torch.float64)
    one, two = (made.virtual(z, torch.tensor([label])).exp() for label in (1, 4))
    mixed = made.virtual(z, torch.tensor([[0, 0.3, 0, 0, 0.7]], dtype=torch.float64)).exp()
    assert torch.allclose(mixed, 0.3 * one + 0.7 * two, rtol=1e-12)
    assert mixed.sum().item() == pytest.approx(1, rel=1e-12)


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
        ("kd", {"reduction": "sum"}),
        ("kd", {"squared": 1}),
        ("cross_entropy", {"smoothing": 1.0}),
        ("label_smoothing", {"eps": 1.0}),
        ("label_smoothing", {"over": "none"}),
        ("tfkd_reg", {"A": 1.0}),
        ("tfkd_reg", {"soften": "both"}),
        ("tfkd_reg", {"student_T": 0.0}),
        ("tfkd_reg", {"multiplier": 0.0}),
        ("tfkd_reg", {"reduction": "sum"}),
        ("tfkd_reg_released", {"T": "warm"}),
        ("feature", {"layer": ""}),
        ("feature", {"layer": 3}),
    ],
)
def test_senseless_knobs_are_refused(key, knobs):
    with pytest.raises(InputError, match=r"found .*; wanted"):
        LOSSES[key].make(**knobs)
