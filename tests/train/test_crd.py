"""CRD against a plain loop in float64, its memories, its draws, and what it must know."""

import math

import pytest
import torch
from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.train.losses.contract import LOSSES, Batch, Outputs

TOTAL = 12


def batch(rows: Tensor, seed: int = 0, total: int = TOTAL) -> Batch:
    return Batch(torch.zeros(len(rows), 3, 2, 2), rows, total, seed)


def outputs(features: Tensor, seen: Batch | None) -> Outputs:
    return Outputs(torch.zeros(len(features), 3), {"pooled": features}, seen)


def shown(
    rows: list[int], seed: int = 0, total: int = TOTAL, d: int = 4, e: int = 6
) -> tuple[Outputs, Outputs, Tensor]:
    """The same images always have the same features, float64."""
    chance = torch.Generator().manual_seed(1)
    ours, theirs = (torch.randn(total, x, generator=chance).double() for x in (d, e))
    which = torch.tensor(rows)
    seen = batch(which, seed, total)
    return outputs(ours[which], seen), outputs(theirs[which], seen), torch.zeros(len(rows))


def met(sides: tuple[Outputs, Outputs, Tensor], **knobs: object) -> nn.Module:
    loss = LOSSES["crd"].make(**{"dim": 5, "negatives": 7, **knobs})
    torch.manual_seed(4)
    loss.meet(*sides[:2])
    return loss


def normed(values: list[float]) -> list[float]:
    length = math.sqrt(sum(x * x for x in values))
    return [x / length for x in values]


def naive(loss: nn.Module, sides: tuple[Outputs, Outputs, Tensor]) -> float:
    """The paper's h with P = exp(u), by plain loops, each image with its own list of negatives."""
    seen = sides[0].seen("crd")
    order = torch.randperm(seen.total, generator=seen.chance("negatives of crd")).tolist()
    many = min(loss.negatives, seen.total - 1)
    total = 0.0
    for place in range(2):
        embed, memory = loss.embeddings[place], loss.memory[1 - place].tolist()
        weight, bias = embed.weight.tolist(), embed.bias.tolist()
        z, level = math.exp(loss.log_z[place].item()), many / seen.total
        for row, features in zip(seen.rows.tolist(), sides[place].features["pooled"], strict=True):
            flat = features.tolist()
            pairs = zip(weight, bias, strict=True)
            view = normed(
                [sum(w * x for w, x in zip(ws, flat, strict=True)) + b for ws, b in pairs]
            )
            others = [other for other in order[: many + 1] if other != row][:many]
            assert len(others) == many
            for other in [row, *others]:
                cosine = sum(a * b for a, b in zip(view, memory[other], strict=True))
                p = math.exp(cosine / loss.tau) / z
                h = p / (p + level)
                total -= math.log(h if other == row else 1 - h)
    return total / len(seen.rows)


@pytest.mark.parametrize("rows", [[0, 3, 7, 9], [5], [2, 2, 4]])
@pytest.mark.parametrize("knobs", [{}, {"negatives": 500}, {"negatives": 1}, {"tau": 0.5}])
def test_value_is_that_of_a_plain_loop(rows, knobs):
    first = met(shown(rows), **knobs).eval()
    for seed in range(3):  # Z stays that of the first batch
        sides = shown(rows, seed)
        found = first(*sides).item()
        assert found == pytest.approx(naive(first, sides), rel=1e-9)


def test_z_makes_the_first_batch_have_a_mean_of_one_over_all_images():
    """With every other image as a negative the mean is over all of them, so it is known."""
    sides = shown([0, 3, 7])
    loss = met(sides, negatives=TOTAL).eval()
    loss(*sides)
    for place in range(2):
        view = nn.functional.normalize(loss.embeddings[place](sides[place].features["pooled"]))
        powers = (view @ loss.memory[1 - place].mT / loss.tau).exp()
        assert loss.log_z[place].exp().item() == pytest.approx(powers.mean().item() * TOTAL)


def test_z_is_set_once_and_comes_back_with_the_rest():
    sides = shown([0, 3, 7])
    loss = met(sides)
    assert bool(loss.log_z.isnan().all())
    loss(*sides)
    z = loss.log_z.clone()
    loss(*shown([1, 2], seed=5))
    assert torch.equal(loss.log_z, z)
    again = met(shown([4, 5]))
    again.load_state_dict(loss.state_dict())
    later = shown([6, 8], seed=6)
    assert again(*later).item() == loss(*later).item()
    assert all(
        torch.equal(a, b)
        for a, b in zip(again.state_dict().values(), loss.state_dict().values(), strict=True)
    )


def test_images_seen_move_in_memory_and_no_others_do():
    sides = shown([1, 4, 10])
    loss = met(sides, momentum=0.25)
    before = loss.memory.clone()
    loss(*sides).backward()
    rows = torch.tensor([1, 4, 10])
    others = torch.tensor([x for x in range(TOTAL) if x not in (1, 4, 10)])
    assert torch.equal(loss.memory[:, others], before[:, others])
    for place in range(2):
        view = nn.functional.normalize(loss.embeddings[place](sides[place].features["pooled"]))
        wanted = nn.functional.normalize(0.25 * before[place, rows] + 0.75 * view)
        assert torch.allclose(loss.memory[place, rows], wanted, rtol=1e-12)
    assert torch.allclose(loss.memory.norm(dim=2), torch.ones(2, TOTAL).double())
    held = loss.eval().memory.clone()
    loss(*sides)
    assert torch.equal(loss.memory, held)


def test_each_image_meets_others_only_none_twice_and_all_alike_often():
    counts = torch.zeros(TOTAL, TOTAL)
    rows = torch.arange(TOTAL)
    loss = met(shown([0, 1]), negatives=4)
    for seed in range(400):
        drawn, spare = loss._drawn(batch(rows, seed), rows)
        assert len(set(drawn.tolist())) == len(drawn) == 5
        for row in rows.tolist():
            left = [x for place, x in enumerate(drawn.tolist()) if place != spare[row].item()]
            counts[row, left] += 1
            assert len(left) == 4
    assert float(counts.diagonal().sum()) == 0
    share = counts[~torch.eye(TOTAL, dtype=torch.bool)] / 400
    assert float((share - 4 / 11).abs().max()) < 5 * math.sqrt(4 / 11 * 7 / 11 / 400)


def test_gradient_flows_to_the_student_and_to_the_embeddings_only():
    sides = shown([0, 3, 7, 9])
    for side in sides[:2]:
        side.features["pooled"].requires_grad_()
    loss = met(sides)
    loss(*sides).backward()
    assert sides[1].features["pooled"].grad is None
    assert float(sides[0].features["pooled"].grad.abs().sum()) > 0
    assert all(float(weight.grad.abs().sum()) > 0 for weight in loss.parameters())
    assert not loss.memory.requires_grad


def test_the_gradient_is_that_of_finite_differences():
    student, teacher, target = shown([0, 3, 7])
    loss = met((student, teacher, target)).eval()
    loss(student, teacher, target)
    x = student.features["pooled"].clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda features: loss(outputs(features, student.batch), teacher, target), x
    )


def test_the_order_of_images_does_not_matter():
    once, again = (met(shown([0, 3, 7, 9])) for _ in range(2))
    value = once(*shown([0, 3, 7, 9])).item()
    assert again(*shown([7, 0, 9, 3])).item() == pytest.approx(value, rel=1e-12)
    assert torch.allclose(once.memory, again.memory, rtol=1e-12)


def test_the_same_step_draws_the_same_and_nothing_draws_from_the_global_state():
    before = torch.get_rng_state()
    values = []
    for seed in (0, 0, 1):
        loss = LOSSES["crd"].make(dim=5, negatives=4)
        values.append(loss(*shown([0, 3, 7], seed)).item())
    assert torch.equal(torch.get_rng_state(), before)
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("make", [torch.zeros_like, lambda x: x * 1e12, lambda x: x[[0, 0, 0]]])
def test_large_dead_and_equal_features_stay_finite(make):
    student, teacher, target = shown([0, 3, 7])
    ours = make(student.features["pooled"].float()).requires_grad_()
    theirs = make(teacher.features["pooled"].float())
    loss = LOSSES["crd"].make()
    found = loss(outputs(ours, student.batch), outputs(theirs, student.batch), target)
    found.backward()
    assert bool(torch.isfinite(found))
    assert bool(torch.isfinite(ours.grad).all())


def test_learning_tells_images_from_one_another():
    """From the student's features alone the loss falls far below what chance gives."""
    rows = list(range(TOTAL))
    loss = met(shown(rows), dim=16, negatives=TOTAL)
    learning = torch.optim.Adam(loss.parameters(), lr=1e-2)
    values = []
    for seed in range(150):
        found = loss(*shown(rows, seed))
        learning.zero_grad()
        found.backward()
        learning.step()
        values.append(found.item())
    assert values[-1] < values[0] / 4


def test_what_was_shown_must_be_known():
    student, teacher, target = shown([0, 3])
    bare = outputs(student.features["pooled"], None)
    with pytest.raises(InputError, match="'crd' must know which images it is shown"):
        LOSSES["crd"].make()(bare, teacher, target)
    with pytest.raises(InputError, match="'crd' must know which images it is shown"):
        LOSSES["crd"].make().meet(bare, teacher)


def test_one_training_image_is_refused():
    with pytest.raises(InputError, match="found 1 training image; 'crd' wants others"):
        LOSSES["crd"].make()(*shown([0], total=1))


def test_layers_of_other_names_are_paired():
    loss = LOSSES["crd"].make(layer="pooled:avgpool")
    assert (loss.layers, loss.teacher_layers) == (("pooled",), ("avgpool",))


@pytest.mark.parametrize(
    "knobs",
    [
        {"tau": 0.0},
        {"dim": 0},
        {"dim": 2.5},
        {"negatives": True},
        {"negatives": 0},
        {"momentum": 1.0},
        {"momentum": "half"},
        {"layer": "stage1,stage2"},
    ],
)
def test_senseless_knobs_are_refused(knobs):
    with pytest.raises(InputError, match=r"found .*; wanted"):
        LOSSES["crd"].make(**knobs)
