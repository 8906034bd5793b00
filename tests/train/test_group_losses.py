"""Networks that are trained together: mutual learning, and branches with a gated ensemble."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kdprobe.errors import InputError
from kdprobe.train.losses.contract import LOSSES, Batch, Outputs

N, C, M = 6, 5, 3


def logits(m: int = M, n: int = N, c: int = C, seed: int = 0) -> Tensor:
    return 2 * torch.randn(m, n, c, generator=torch.Generator().manual_seed(seed))


def layer(n: int = N) -> Tensor:
    return torch.randn(n, 4, 3, 3, generator=torch.Generator().manual_seed(9))


def side(together: Tensor, place: int, seen: Tensor, total: int = 60) -> Outputs:
    n = together.shape[1]
    batch = Batch(torch.zeros(n, 3, 4, 4), torch.arange(n), total)
    return Outputs(together[place], {"stage2": seen}, batch, None, together, place)


def dml(together: Tensor, place: int, **knobs: object) -> Tensor:
    own = side(together, place, layer(together.shape[1]))
    found: Tensor = LOSSES["dml"].make(**knobs)(own, own, torch.zeros(len(own.logits)).long())
    return found


def gated(together: Tensor, seen: Tensor, **knobs: object) -> torch.nn.Module:
    """A loss 'one' that has met the branches, its gate drawn with a seed."""
    made = LOSSES["one"].make(**knobs).to(together.dtype)
    own = side(together, 0, seen)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made.meet(own, own)
    return made.to(together.dtype)


def softened(row: list[float], T: float) -> list[float]:
    powers = [math.exp((z - max(row)) / T) for z in row]
    return [power / sum(powers) for power in powers]


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize(("m", "n", "c"), [(2, 6, 10), (3, 4, 5), (2, 1, 2), (4, 1, 10)])
@pytest.mark.parametrize("T", [1.0, 3.0])
def test_mutual_learning_is_a_naive_loop(m, n, c, T):
    every = logits(m, n, c)
    for place in range(m):
        total = 0.0
        for i in range(n):
            rows = [softened(row, T) for row in every[:, i].double().tolist()]
            total += sum(kl(rows[other], rows[place]) for other in range(m) if other != place)
        wanted = T**2 * total / n / (m - 1)
        assert dml(every.double(), place, T=T).item() == pytest.approx(wanted, rel=1e-10)
        assert dml(every, place, T=T).item() == pytest.approx(wanted, rel=1e-5)


def test_mutual_learning_of_two_is_kd_from_the_other():
    every = logits(2).double()
    kd = LOSSES["kd"].make(T=1.0)
    wanted = kd(Outputs(every[0]), Outputs(every[1]), torch.zeros(N).long())
    assert dml(every, 0).item() == pytest.approx(wanted.item(), rel=1e-12)


def test_mutual_learning_moves_only_the_network_whose_loss_it_is():
    every = logits().requires_grad_()
    dml(every, 1).backward()
    moved = every.grad.abs().sum((1, 2))
    assert moved[1] > 0
    assert moved[0] == moved[2] == 0


def test_networks_of_one_mind_have_nothing_to_learn():
    assert dml(logits(1).repeat(3, 1, 1), 2).item() == pytest.approx(0, abs=1e-6)


def test_mutual_learning_stays_finite_and_in_float32():
    far = torch.tensor([[[5e3, 0.0, -5e3]], [[-5e3, 0.0, 5e3]]], requires_grad=True)
    found = dml(far, 0)
    found.backward()
    assert bool(torch.isfinite(found))
    assert bool(torch.isfinite(far.grad).all())
    half = logits().half()
    assert torch.equal(dml(half, 0), dml(half.float(), 0))


def naive_gates(made: torch.nn.Module, seen: Tensor) -> list[list[float]]:
    """softmax(ReLU(BN(FC(mean)))) in training, by plain loops."""
    weight, bias = made.gate.score.weight.tolist(), made.gate.score.bias.tolist()
    scale, shift = made.gate.norm.weight.tolist(), made.gate.norm.bias.tolist()
    pooled = [[sum(d) / len(d) for d in row] for row in seen.double().flatten(2).tolist()]
    rows = list(zip(weight, bias, strict=True))
    scores = [
        [sum(w * x for w, x in zip(row, image, strict=True)) + b for row, b in rows]
        for image in pooled
    ]
    for branch in range(len(weight)):
        column = [row[branch] for row in scores]
        mean = sum(column) / len(column)
        std = math.sqrt(sum((s - mean) ** 2 for s in column) / len(column) + 1e-5)
        for row in scores:
            told = (row[branch] - mean) / std * scale[branch] + shift[branch]
            row[branch] = max(told, 0)
    return [softened(row, 1) for row in scores]


@pytest.mark.parametrize("rise", [0, 80])
def test_one_is_a_naive_loop(rise):
    every, seen = logits().double(), layer().double()
    target = torch.arange(N) % C
    made = gated(every, seen, rise=rise)
    gates = naive_gates(made, seen)
    w = math.exp(-5) if rise else 1
    for place in range(M):
        total = 0.0
        for i in range(N):
            rows = every[:, i].tolist()
            ensemble = [sum(gates[i][b] * rows[b][k] for b in range(M)) for k in range(C)]
            total -= math.log(softened(ensemble, 1)[int(target[i])]) / M
            total += w * 9 * kl(softened(ensemble, 3), softened(rows[place], 3))
        found = made(side(every, place, seen), side(every, place, seen), target)
        assert found.item() == pytest.approx(total / N, rel=1e-9)


def test_the_sum_over_the_branches_has_the_ensembles_cross_entropy_once():
    every, seen, target = logits(), layer(), torch.arange(N) % C
    made = gated(every, seen, rise=0)
    values = [
        made(side(every, place, seen), side(every, place, seen), target) for place in range(M)
    ]
    gates = made.gates(side(every, 0, seen))
    ensemble = (gates.T[:, :, None] * every).sum(0)
    kd = LOSSES["kd"].make(T=3.0)
    parts = [kd(Outputs(branch), Outputs(ensemble), target) for branch in every]
    whole = F.cross_entropy(ensemble, target) + torch.stack(parts).sum()
    summed = torch.stack(values).sum()
    assert summed.item() == pytest.approx(whole.item(), rel=1e-5)
    gate = list(made.gate.parameters())
    found = torch.autograd.grad(summed, gate, retain_graph=True)
    wanted = torch.autograd.grad(F.cross_entropy(ensemble, target), gate)
    for slope, of_ensemble in zip(found, wanted, strict=True):
        assert torch.allclose(slope, of_ensemble, atol=1e-6)


def test_the_likeness_to_the_ensemble_moves_its_branch_alone():
    """What moves gate and branches is the ensemble's cross-entropy, as without the KL."""
    seen, target = layer().requires_grad_(), torch.arange(N) % C
    every = logits().requires_grad_()
    made = gated(every, seen, rise=0)
    wanted = [every, seen, *made.gate.parameters()]
    own = side(every, 1, seen)
    whole = torch.autograd.grad(made(own, own, target), wanted)
    ensemble = torch.einsum("nm,mnc->nc", made.gates(own), every)
    alone = torch.autograd.grad(F.cross_entropy(ensemble, target) / M, wanted)
    for found, plain in zip(whole[1:], alone[1:], strict=True):
        assert torch.allclose(found, plain, atol=1e-7)
    assert torch.allclose(whole[0][[0, 2]], alone[0][[0, 2]], atol=1e-7)
    assert not torch.allclose(whole[0][1], alone[0][1], atol=1e-4)


def test_the_gate_is_one_for_each_image_and_reads_vectors_as_well():
    every, seen = logits(), layer()
    made = gated(every, seen)
    gates = made.gates(side(every, 0, seen))
    assert gates.shape == (N, M)
    assert torch.allclose(gates.sum(1), torch.ones(N))
    flat = seen.flatten(2).mean(2)
    assert torch.allclose(made.gates(side(every, 0, flat)), gates, atol=1e-6)


@pytest.mark.parametrize("passed", [0.0, 0.7, 1.9, 2.0, 5.0])
def test_the_weight_of_the_likeness_rises_with_the_epochs(passed):
    every, seen, target = logits(), layer(), torch.arange(N) % C
    made, still = gated(every, seen, rise=2), gated(every, seen, rise=0)
    own = side(every, 0, seen)
    full = still(own, own, target).item()
    ensemble = F.cross_entropy(torch.einsum("nm,mnc->nc", still.gates(own), every), target)
    base = ensemble.item() / M
    now = replace(own, batch=replace(own.batch, passed=passed))
    w = math.exp(-5 * max(1 - passed / 2, 0) ** 2)
    assert made(now, now, target).item() == pytest.approx(base + w * (full - base), rel=1e-4)


def test_the_gate_is_saved():
    keys = set(gated(logits(), layer()).state_dict())
    assert {"gate.score.weight", "gate.norm.running_mean"} <= keys


def test_one_of_mixed_images_is_the_mixture():
    every, seen = logits(), layer()
    target = torch.arange(N) % C
    other = (target + 1) % C
    made = gated(every, seen, rise=0)
    own = side(every, 0, seen)
    mixed = 0.7 * F.one_hot(target, C) + 0.3 * F.one_hot(other, C)
    parts = [made(own, own, label).item() for label in (target, other)]
    assert made(own, own, mixed).item() == pytest.approx(0.7 * parts[0] + 0.3 * parts[1], rel=1e-5)


def test_one_in_half_precision_and_at_large_margins():
    every, seen, target = logits().half(), layer().half(), torch.arange(N) % C
    made = gated(every.float(), seen.float(), rise=0)
    own, wide = side(every, 0, seen), side(every.float(), 0, seen.float())
    assert torch.equal(made(own, own, target), made(wide, wide, target))
    far = (2e3 * logits()).requires_grad_()
    found = made(side(far, 0, seen), side(far, 0, seen), target)
    found.backward()
    assert bool(torch.isfinite(found))
    assert bool(torch.isfinite(far.grad).all())


def test_of_two_classes_and_two_images_all_is_well():
    every, seen = logits(2, 2, 2), layer(2)
    made = gated(every, seen, rise=0)
    own = side(every, 0, seen)
    assert bool(torch.isfinite(made(own, own, torch.tensor([0, 1]))))


def test_the_catalogue_says_that_they_need_company():
    assert LOSSES["dml"].needs_company
    assert LOSSES["one"].needs_company
    assert not LOSSES["kd"].needs_company


def test_it_reads_its_layer_of_the_student_alone():
    made = LOSSES["one"].make(layer="stage3")
    assert made.layers == ("stage3",)
    assert made.teacher_layers == ()


def test_one_network_alone_has_nobody_to_learn_from():
    z = logits()[0]
    lone = [Outputs(z, {"stage2": layer()}), Outputs(z, {"stage2": layer()}, together=z[None])]
    for own in lone:
        with pytest.raises(InputError, match=r"'dml' wants networks .* found one alone; give"):
            LOSSES["dml"].make()(own, own, torch.zeros(N).long())
        with pytest.raises(InputError, match=r"'one' wants networks .* found one alone; give"):
            LOSSES["one"].make().meet(own, own)
        with pytest.raises(InputError, match=r"'one' wants networks .* found one alone; give"):
            LOSSES["one"].make()(own, own, torch.zeros(N).long())


def test_one_wants_a_gate_a_batch_and_two_images():
    every, seen, target = logits(), layer(), torch.arange(N) % C
    own = side(every, 0, seen)
    with pytest.raises(InputError, match="found no gate; wanted meet"):
        LOSSES["one"].make()(own, own, target)
    bare = Outputs(every[0], {"stage2": seen}, together=every)
    with pytest.raises(InputError, match="loss 'one' must know which images"):
        gated(every, seen)(bare, bare, target)
    single = side(every[:, :1], 0, seen[:1])
    with pytest.raises(InputError, match=r"found one image in a step of training.*batch_size"):
        gated(every, seen)(single, single, target[:1])
    gated(every, seen).eval()(single, single, target[:1])


@pytest.mark.parametrize(
    ("key", "knobs"),
    [
        ("dml", {"T": 0}),
        ("one", {"T": -1}),
        ("one", {"rise": -1}),
        ("one", {"rise": math.inf}),
        ("one", {"layer": ""}),
        ("one", {"layer": 2}),
        ("one", {"layer": "stage1,stage2"}),
        ("one", {"layer": "stage1:stage2"}),
    ],
)
def test_senseless_knobs_are_refused(key, knobs):
    with pytest.raises(InputError, match=r"found .*; wanted"):
        LOSSES[key].make(**knobs)
