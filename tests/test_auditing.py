"""The audit finds what a loss asks for: published settings, mixtures by hand, and users' own."""

import json
import math
from functools import partial
from pathlib import Path

import pytest
import torch
from handmade import RUNS, run, write_study
from torch import Tensor, nn
from torch.nn import functional as F

import kdprobe
from kdprobe.auditing import audit
from kdprobe.cli import cli
from kdprobe.commands.ending import ended
from kdprobe.errors import InputError, UsageError
from kdprobe.train.asked import Audit, Fit, Form
from kdprobe.train.losses.contract import Outputs
from kdprobe.train.pushing import Draw, expressed, push

QUICK = {"classes": 10, "batch": 32, "draws": 3}


def fit_of(found: Audit, form: Form) -> Fit:
    return next(fit for fit in found.fits if fit.form is form)


def released(alpha: float, T: float, multiplier: float = 1) -> str:
    """Cross-entropy and a KL to a network, as Tf-KD's code has them: a mean over classes too."""
    heavy = round(alpha * multiplier, 6)
    return f'{1 - alpha:.2f}*cross_entropy + {heavy}*kd(T={T}, reduction="mean")'


def released_reg(alpha: float, T: float, multiplier: float) -> str:
    told = f"T={T}, multiplier={multiplier}"
    return f"{1 - alpha:.2f}*cross_entropy + {alpha}*tfkd_reg_released({told})"


@pytest.mark.parametrize(
    ("loss", "T", "c", "w"),
    [
        (released(0.95, 20), 20, 0.0595, 0.160),  # normal KD and De-KD
        (released(0.6, 20), 20, 0.406, 0.0148),  # Re-KD
        (released(0.95, 20, 1), 20, 0.0595, 0.160),  # self: MobileNetV2, ShuffleNetV2
        (released(0.95, 6, 50), 6, 0.525, 0.905),  # ResNet18
        (released(0.4, 20, 50), 20, 0.80, 0.25),  # GoogLeNet
        (released(0.9, 20, 50), 20, 0.55, 0.818),  # DenseNet121
        (released(0.9, 20, 100), 20, 1.0, 0.90),  # ResNeXt29
    ],
)
def test_the_published_settings_of_distillation_have_these_scales_and_shares(loss, T, c, w):
    """K = 100, batch 64. With a pencil: c = 1 - a + a m / K, w = a m / (K c)."""
    found = fit_of(audit(loss, draws=3), Form.DISTILLATION)
    assert found.scale.value == pytest.approx(c, rel=2e-3)
    assert found.share.value == pytest.approx(w, rel=4e-3)
    assert found.temperature.value == pytest.approx(T, rel=1e-6)
    assert found.residual.value < 1e-6


@pytest.mark.parametrize(
    ("loss", "c", "eps"),
    [
        (released_reg(0.95, 40, 1), 0.0595, 0.160),  # MobileNetV2
        (released_reg(0.95, 10, 1), 0.0595, 0.160),  # ShuffleNetV2
        (released_reg(0.1, 20, 100), 1.000, 0.1000),  # ResNet18
        (released_reg(0.1, 40, 50), 0.95, 0.0526),  # GoogLeNet
    ],
)
def test_the_released_teacher_free_regularisation_is_label_smoothing(loss, c, eps):
    found = audit(loss, draws=3)
    smooth = fit_of(found, Form.SMOOTHING)
    assert found.nearest is smooth
    assert smooth.scale.value == pytest.approx(c, rel=2e-3)
    assert smooth.share.value == pytest.approx(eps, rel=4e-3)
    assert smooth.residual.value < 1e-9
    assert smooth.cosine == pytest.approx(1)
    assert found.sentence.startswith(
        "this objective is more than 99.99% label smoothing with eps = "
    )


def test_the_nominal_eps_of_the_regularisation_is_off_by_what_was_found_by_hand():
    """Against smoothing by the nominal eps the released gradients differ by 1e-5 to 2e-4."""
    g = torch.Generator().manual_seed(0)
    z = 2 * torch.randn(64, 100, generator=g, dtype=torch.float64)
    y = torch.randint(100, (64,), generator=g)
    for loss, c, eps in (
        (released_reg(0.95, 40, 1), 0.0595, 0.95 / 100 / 0.0595),
        (released_reg(0.1, 20, 100), 1.0, 0.1),
    ):
        found = push(expressed(loss), Draw(Outputs(z), Outputs(z), y), 0)
        wanted = c * (z.softmax(1) - (1 - eps) * F.one_hot(y, 100) - eps / 100)
        assert 1e-6 < ((found - wanted).norm() / found.norm()).item() < 2e-4


@pytest.mark.parametrize(
    ("loss", "c", "eps"),
    [
        ("label_smoothing(eps=0.2)", 1, 0.2),
        ("3*label_smoothing(eps=0.2, over='others')", 3, 0.2 * 10 / 9),
        ("0.5*cross_entropy(smoothing=0.1)", 0.5, 0.1),
        ("0.25*cross_entropy", 0.25, 0),
    ],
)
def test_smoothing_is_found_with_its_eps_and_scale(loss, c, eps):
    found = audit(loss, **QUICK)
    assert found.nearest.form is Form.SMOOTHING
    assert found.nearest.scale.value == pytest.approx(c)
    assert found.nearest.share.value == pytest.approx(eps, abs=1e-12)
    assert ("cross-entropy" in found.sentence) == (eps == 0)
    assert [fit.form for fit in found.fits] == [Form.SMOOTHING, Form.TEMPERED], "no teacher"


def test_the_papers_form_of_the_regularisation_is_hardly_more_than_cross_entropy():
    """Without T^2 its part is 1 / T^2 of a distillation's; of nearly equal forms the simplest."""
    found = audit("0.9*cross_entropy + 0.1*tfkd_reg(T=20)", draws=3)
    warm, plain = fit_of(found, Form.TEMPERED), fit_of(found, Form.SMOOTHING)
    assert warm.share.value == pytest.approx(0.1 / 20**2 / 0.9, rel=0.05)
    assert warm.explained > plain.explained
    assert found.nearest is plain
    assert "cross-entropy, times c = 0.9" in found.sentence


def test_a_mean_squared_error_of_logits_is_distillation_at_a_high_temperature():
    """But for the mean of the logits, 1 / K of its squared length; its c is 2."""
    found = audit("feature", classes=100, draws=3)
    warm = fit_of(found, Form.DISTILLATION)
    assert warm.temperature.value == pytest.approx(100, rel=1e-3)
    assert warm.scale.value == pytest.approx(2, rel=0.01)
    assert 1 - warm.explained == pytest.approx(1 / 100, rel=0.1)
    assert "at temperature 100 or more" in found.sentence


def test_what_is_of_no_such_form_is_told_so():
    class Shifted(nn.Module):
        def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
            return student.logits.roll(1, dims=1).square().mean() + student.logits.mean()

    found = audit(Shifted(), **QUICK)
    assert found.nearest.explained < 0.9
    left = 100 * (1 - found.nearest.explained)
    assert f"not of this form: {left:.0f}% of its gradient is left over" in found.sentence
    assert not found.notes, "no scale is told of a form that it does not have"


def test_the_scale_is_warned_of_and_a_sum_is_told_from_a_mean():
    assert "compare with an arm '0.0595*cross_entropy'" in audit(released(0.95, 20)).notes[0]
    assert audit("cross_entropy", **QUICK).notes == ()

    class Summed(nn.Module):
        def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
            return F.cross_entropy(student.logits, target, reduction="sum")

    (note,) = audit(Summed(), **QUICK).notes
    assert note == "its scale is the batch's size, 32: it is a sum over images, no mean"


def test_a_share_outside_0_to_1_is_told():
    class Contrary(nn.Module):
        def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
            logs = student.logits.log_softmax(1)
            return F.nll_loss(logs, target) + 0.2 * logs.mean()

    found = audit(Contrary(), **QUICK)
    assert found.nearest.share.value == pytest.approx(-0.25)
    assert any("pushes away from the soft target" in note for note in found.notes)


def test_the_same_seed_gives_the_same_numbers_and_errors_are_over_draws():
    before = torch.get_rng_state()
    one, two = (audit("feature", **QUICK, seed=3) for _ in range(2))
    assert one == two
    assert audit("feature", **QUICK, seed=4) != one
    assert torch.equal(torch.get_rng_state(), before)
    assert one.fits[0].scale.error > 0
    alone = audit("feature", classes=10, batch=32, draws=1)
    assert alone.fits[0].scale.error is None


def test_a_temperature_can_be_given():
    found = audit("kd(T=4)", **QUICK, temperature=2.0)
    warm = fit_of(found, Form.DISTILLATION)
    assert warm.temperature.value == 2.0
    assert warm.residual.value > 0.01


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"loss": "cros_entropy"}, "position 1: found 'cros_entropy'.*did you mean"),
        ({"loss": "0.1*"}, "position 5: found the end"),
        ({"loss": "kd(T=0)"}, "found T=0; wanted a temperature"),
        ({"loss": "kd", "classes": 1}, "found --classes 1; wanted at least 2"),
        ({"loss": "kd", "batch": 0}, "found --batch 0; wanted at least 1"),
        ({"loss": "kd", "draws": 0}, "found --draws 0; wanted at least 1"),
        ({"loss": "kd", "temperature": math.nan}, "found --temperature nan; wanted"),
    ],
)
def test_words_that_cannot_be_used_are_refused(words, told):
    with pytest.raises(UsageError, match=told):
        audit(**words)


class Layered(nn.Module):
    """Reads a layer without naming it in `layers`."""

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        return student.layer("stage3").mean()


class Broken(nn.Module):
    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        raise ZeroDivisionError("oh")


class Many(nn.Module):
    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        return student.logits.mean(1)


class Blind(nn.Module):
    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        return torch.zeros((), requires_grad=True) + teacher.logits.mean()


class Constant(nn.Module):
    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        return torch.ones(())


class Infinite(nn.Module):
    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        return (student.logits * math.inf).mean()


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (Layered(), "reads layer 'stage3', which was not looked at; name it"),
        (Broken(), "the loss failed: ZeroDivisionError: oh; wanted it to return"),
        (Many(), r"the loss gave \(32,\); wanted one number"),
        (Blind(), "does not depend on the student's logits"),
        (Constant(), "does not depend on the student's logits"),
        (Infinite(), "found a gradient that is not finite"),
        ('feature(layer="stage3")', "reads 'stage3'; random logits have no layers: give a study"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_losses_that_cannot_be_audited_say_why(loss, told):
    with pytest.raises(InputError, match=told):
        audit(loss, **QUICK)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("audited") / "hand")


def test_a_studys_networks_give_logits_layers_and_labels(study):
    mixed = '0.5*cross_entropy + 3*feature(layer="stage3")'
    found = audit(mixed, study=study, batch=8, draws=2, device="cpu")
    assert (found.source, found.classes) == ("study hand, s at epoch 1", 10)
    assert (found.batch, found.draws) == (8, 2)
    assert found.nearest.scale.value == pytest.approx(0.5, rel=1e-5)
    assert any("also reads stage3" in note for note in found.notes)
    kd = audit("0.1*cross_entropy + 0.9*kd(T=4)", study=study, batch=8, draws=2, run="b")
    assert kd.source == "study hand, b at epoch 1"
    assert fit_of(kd, Form.DISTILLATION).share.value == pytest.approx(0.9, rel=1e-3)
    with pytest.raises(InputError, match="does not depend on the student's logits"):
        audit('feature(layer="stage3")', study=study, batch=8, draws=1)
    with pytest.raises(UsageError, match="found no student 'x'; wanted b, s"):
        audit("kd", study=study, run="x")


def test_studies_without_what_a_loss_needs_are_refused(tmp_path):
    alone = write_study(tmp_path / "alone", [RUNS[0]])
    with pytest.raises(InputError, match="has only a teacher"):
        audit("kd", study=alone)
    none = write_study(tmp_path / "none", RUNS[1:2])
    with pytest.raises(InputError, match="needs a teacher; study 'hand' has none"):
        audit("kd", study=none)
    found = audit("cross_entropy", study=none, batch=8, draws=1)
    assert "cross-entropy, times c = 1" in found.sentence
    few = {"name": "resnet8", "num_classes": 7, "arguments": {"width": 2}}
    other = [{**run("t", "teacher"), "network": few}, RUNS[2]]
    with pytest.raises(InputError, match="run 't' has 7 classes"):
        audit("kd", study=write_study(tmp_path / "other", other))


OWN = """
import torch
from torch import nn
class Mine(nn.Module):
    def forward(self, student, teacher, target):
        soft = (teacher.logits / 3).softmax(1)
        kl = nn.functional.kl_div((student.logits / 3).log_softmax(1), soft, reduction="sum")
        return 9 * kl / len(target)
def make(): return Mine()
def wrong(): return 3
def fails(): raise ValueError("no")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "my_audited_code.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_audited_code"


def call(*words: object) -> int:
    return ended(partial(cli, ["audit", *map(str, words)]))


def test_a_loss_of_the_users_is_audited_when_it_is_allowed(own, capsys):
    few = ("--classes=10", "--batch=32", "--draws=2", f"--allow-code={own}")
    assert call("--loss", f"{own}:make", "--json", *few) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["nearest"] == "distillation"
    (fit,) = [fit for fit in found["fits"] if fit["form"] == "distillation"]
    assert fit["temperature"]["value"] == pytest.approx(3, rel=1e-2)
    assert fit["share"]["value"] == pytest.approx(1, rel=1e-3)
    assert call("--loss", f"{own}:wrong", *few) == 3
    assert "gave int; wanted a torch.nn.Module" in capsys.readouterr().err
    assert call("--loss", f"{own}:fails", *few) == 3
    assert "failed: ValueError: no" in capsys.readouterr().err
    assert call("--loss", f"{own}:make") == 3
    assert f"refused. If you trust it, run again with --allow-code {own}" in capsys.readouterr().err


def test_the_command_prints_a_table_and_the_sentence(capsys):
    assert call("0.9*cross_entropy + 0.1*tfkd_reg_released(T=20, multiplier=100)") == 0
    shown = capsys.readouterr().out
    assert "this objective is more than 99.99% label smoothing with eps = 0.100" in shown
    assert "0.09995" in shown
    assert call(released(0.95, 20)) == 0
    assert "note: its scale is c = 0.0595 of a plain cross-entropy's" in capsys.readouterr().out


def test_one_loss_is_wanted(capsys):
    assert call() == 2
    assert call("kd", "--loss", "a:b") == 2
    assert "wanted one loss" in capsys.readouterr().err


def test_it_is_on_the_face_of_the_package():
    assert kdprobe.audit is audit
