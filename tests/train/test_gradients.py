"""How long and how aligned the gradients of the terms are, against autograd by hand."""

import pytest
import torch
from torch.nn import functional as F
from toystudy import RESNET, arm, files, lines, network, recipe, seen, trained

KD = "0.1*cross_entropy + 0.9*kd(T=4)"


def flat(loss, made):
    slopes = torch.autograd.grad(loss, list(made.parameters()), retain_graph=True)
    return torch.cat([slope.flatten() for slope in slopes]).double()


def cosine(one, other):
    return float(one @ other / (one.norm() * other.norm()))


def test_norms_and_cosines_are_those_of_autograd(tmp_path):
    arms = {"one": arm(KD)}
    folder = trained(tmp_path, arms, gradients=1)
    made, teacher = network(folder), network(folder, "teacher", 2).eval()
    pixels, target = seen(recipe(arms), 1)[0]
    logits = made(pixels)
    told = (teacher(pixels).detach() / 4).softmax(1)
    kd = 16 * (told * (told.log() - (logits / 4).log_softmax(1))).sum(1).mean()
    plain, soft = flat(F.cross_entropy(logits, target), made), flat(kd, made)
    found = lines(folder)[1]["gradients"]
    assert set(found) == {"cross_entropy", "kd(T=4)"}
    assert found["cross_entropy"]["norm"] == pytest.approx(float(plain.norm()), rel=1e-4)
    assert found["kd(T=4)"]["norm"] == pytest.approx(float(soft.norm()), rel=1e-4)
    assert found["kd(T=4)"]["cosine"] == pytest.approx(cosine(plain, soft), rel=1e-3)
    assert found["cross_entropy"]["cosine"] == pytest.approx(1)


def test_of_two_networks_a_terms_gradient_reaches_over_both(tmp_path):
    arms = {"one": arm("cross_entropy + dml", together=2)}
    folder = trained(tmp_path, arms, teacher=None, gradients=1)
    pair = torch.nn.ModuleList(network(folder, run) for run in ("one-seed0", "one-seed0.1"))
    pixels, target = seen(recipe(arms, teacher=None), 1)[0]
    logs = [made(pixels).log_softmax(1) for made in pair]
    plain = flat(sum(F.nll_loss(own, target) for own in logs), pair)
    peers = [(logs[0], logs[1].detach()), (logs[1], logs[0].detach())]
    dml = flat(sum((q.exp() * (q - p)).sum(1).mean() for p, q in peers), pair)
    found = lines(folder)[1]["gradients"]["dml"]
    assert found["norm"] == pytest.approx(float(dml.norm()), rel=1e-4)
    assert found["cosine"] == pytest.approx(cosine(plain, dml), rel=1e-3)
    assert lines(folder, "one-seed0.1")[1]["gradients"]["dml"] == found


def test_mixed_images_are_held_against_their_mixed_labels(tmp_path):
    arms = {"one": arm("cross_entropy")}
    mixed = "data.augment=['mixup(alpha=1.0)']"
    folder = trained(tmp_path, arms, mixed, teacher=None, gradients=1)
    pixels, target = seen(recipe(arms, mixed, teacher=None), 1)[0]
    assert target.dim() == 2
    made = network(folder)
    norm = float(flat(F.cross_entropy(made(pixels), target), made).norm())
    found = lines(folder)[1]["gradients"]["cross_entropy"]
    assert (found["norm"], found["cosine"]) == (pytest.approx(norm, rel=1e-4), pytest.approx(1))


def test_a_weight_is_left_out_and_a_schedule_too(tmp_path):
    """But a term of weight 0 is not looked at, and one without a length has no angle."""
    scheduled = "2*cross_entropy + 3*label_smoothing@after(epoch=1) + 0*kd"
    folder = trained(tmp_path, {"one": arm(scheduled)}, gradients=1)
    found = lines(folder)[1]["gradients"]
    assert found["cross_entropy"]["cosine"] == pytest.approx(1)
    smooth = next(value for key, value in found.items() if key.startswith("label_smoothing"))
    assert smooth["norm"] > 0
    assert 0 < smooth["cosine"] < 1.0001
    assert found["kd"] == {"norm": 0.0, "cosine": None}


def test_every_so_many_epochs(tmp_path):
    longer = "optimizer.epochs=5"
    folder = trained(tmp_path, {"one": arm("cross_entropy")}, longer, teacher=None, gradients=2)
    assert [line["epoch"] for line in lines(folder) if "gradients" in line] == [2, 4]


@pytest.mark.parametrize(
    ("loss", "model"),
    [
        ("cross_entropy + crd(dim=4)", RESNET),
        ("cross_entropy + 0.1*sampled_kd + vid", {**RESNET, "transforms": ["dropout(p=0.3)"]}),
    ],
)
def test_looking_changes_no_bit(tmp_path, loss, model):
    """Neither weights and statistics, nor a memory, nor what dropout draws."""
    arms = {"one": arm(loss, model=model, lr=0.01)}
    looked = trained(tmp_path / "looked", arms, gradients=1)
    plain = trained(tmp_path / "plain", arms)
    assert "gradients" in lines(looked)[1]
    assert files(looked) == files(plain)
