"""What is noted of a run?  A line an epoch for metrics.jsonl, and all of run.json.

Axes: n images, c classes, m networks, t terms of the loss.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from kdprobe.errors import InputError
from kdprobe.loading import parameter_changes
from kdprobe.manifest import RunEntry
from kdprobe.models.cost import cost_of
from kdprobe.models.fingerprint import fingerprint
from kdprobe.store import digest_of
from kdprobe.train.learner import Learner, Member
from kdprobe.train.measuring import likeness, measured, named
from kdprobe.train.place import Place, logits_of, right_share
from kdprobe.train.plan import Cohort, StagePlan, layers_of, schedule_sentence
from kdprobe.train.rates import learning_rate
from kdprobe.train.sources import TeacherView

NUMBERS = ("loss", "accuracy", "top5", "ece")
ALIKE = ("agreement", "teacher_kl")


def metrics_line(
    place: Place,
    cohort: Cohort,
    learner: Learner,
    member: int,
    teacher: TeacherView | None,
    epoch: int,
    notes: Tensor,
) -> dict[str, Any]:
    """What metrics.jsonl keeps of an epoch. Losses in nats where they are likelihoods.

    Args:
        member: which of the learner's networks.
        notes: (steps, 2 t + 3) sums over images of this network: terms, loss, right answers,
            weighted terms, and the length of the step's gradient.
    """
    one, steps = learner.members[member], place.steps(cohort)
    span = learner.run.stages[learner.stage].span
    rates = (epoch - 1, epoch - 1 / steps) if epoch else ()
    how = place.recipe.optimizer
    line = {
        "epoch": epoch,
        "steps": epoch * steps,
        "lr": [learning_rate(how, span, passed, 1 / steps) for passed in rates],  # first, last
        **_training_line(place, cohort, learner, epoch, notes),
        **validation_line(place, one, teacher),
        **_weights_line(one),
    }
    for technique in one.techniques:
        line |= technique.facts(one.network.body)
    return line


def _training_line(
    place: Place, cohort: Cohort, learner: Learner, epoch: int, notes: Tensor
) -> dict[str, Any]:
    """Means over the epoch's images, as they were seen in training; nothing before the first."""
    if epoch == 0:
        return {"train_loss": None, "terms": {}, "train_accuracy": None, "gradient_norm": None}
    plan, steps = learner.run.stages[learner.stage], place.steps(cohort)
    labels = [term.label for term in plan.terms]
    _refuse_bad_step(learner, epoch, labels, notes)
    count, images = len(labels), len(place.share(cohort))
    *sums, slope = notes.sum(0).tolist()
    means = [total / images for total in sums]
    loss, right = means[count : count + 2]
    rows = zip(labels, means[:count], means[count + 2 :], strict=True)
    return {
        "train_loss": loss,
        "terms": {label: {"raw": raw, "weighted": part} for label, raw, part in rows},
        "train_accuracy": right,
        "gradient_norm": slope / steps if math.isfinite(slope) else None,  # mean over steps
    }


def _refuse_bad_step(learner: Learner, epoch: int, labels: Sequence[str], notes: Tensor) -> None:
    """Raise Diverged for the first step whose loss is not finite."""
    bad = ~torch.isfinite(notes[:, : len(labels) + 1])
    if not bool(bad.any()):
        return
    step = int(bad.any(1).int().argmax())
    at = [label for label, odd in zip(labels, bad[step].tolist(), strict=False) if odd]
    values = notes[step, : len(labels) + 1].tolist()
    raise _diverged(learner, f"epoch {epoch}, step {step + 1}", at or ["the sum"], values[-1])


def refuse_divergence(learner: Learner, epoch: int, line: Mapping[str, Any]) -> None:
    """Raise Diverged where a loss that was measured is not finite."""
    for part in ("validation", "test"):
        loss = line[f"{part}_loss"]
        if loss is not None and not math.isfinite(loss):
            raise _diverged(learner, f"after epoch {epoch}", [f"on the {part} images"], loss)


class Diverged(InputError):
    """A loss of `learner` is not finite."""

    def __init__(self, learner: Learner, found: str, kept: str) -> None:
        super().__init__(
            f"run {learner.run.id!r}, {found}, wanted a finite one; {kept}; lower optimizer.lr or "
            "the weights of the loss, and train into another folder"
        )
        self.learner = learner


def _diverged(learner: Learner, when: str, terms: Sequence[str], loss: float) -> Diverged:
    """`cohort.py` keeps what is said to be kept."""
    over = learner.over
    kept = f"its weights after epoch {over} are kept" if over >= 0 else "nothing of it is kept"
    return Diverged(learner, f"{when}: found a loss of {loss} ({', '.join(terms)})", kept)


def validation_line(place: Place, member: Member, teacher: TeacherView | None) -> dict[str, Any]:
    """On held-out training images; None where none are held out."""
    numbers, alike = None, None
    if place.validation is not None:
        logits = logits_of(member.shown, place.validation)
        numbers = measured(logits, place.validation.labels)
        if teacher is not None and teacher.validation_logits is not None:
            alike = likeness(logits, teacher.validation_logits)
    return {**named("validation", numbers, NUMBERS), **named("validation", alike, ALIKE)}


def test_line(place: Place, member: Member, teacher: TeacherView | None) -> dict[str, Any]:
    """On the test images, and on mislabelled training ones: for the record, never to choose."""
    logits = logits_of(member.shown, place.test)
    alike = likeness(logits, teacher.test_logits) if teacher else None
    numbers = measured(logits, place.test.labels)
    told = {**named("test", numbers, NUMBERS), **named("test", alike, ALIKE)}
    wrong = place.mislabelled
    if wrong is None:
        return told
    answers = logits_of(member.shown, wrong).argmax(1)
    return told | {
        "memorised": right_share(answers == wrong.labels),  # the wrong label of training
        "recovered": right_share(answers == wrong.clean),  # the true one, never shown
    }


def not_tested(place: Place) -> dict[str, Any]:
    """The same keys in an epoch that is not saved."""
    told = {**named("test", None, NUMBERS), **named("test", None, ALIKE)}
    return told if place.mislabelled is None else told | dict.fromkeys(("memorised", "recovered"))


@torch.no_grad()
def _weights_line(member: Member) -> dict[str, Any]:
    now = [weight.detach() for weight in member.network.body.parameters()]
    moved = torch._foreach_sub(now, member.begin)
    lengths = [torch.stack(torch._foreach_norm(part)).norm() for part in (now, moved)]
    size, distance = torch.stack(lengths).tolist()
    return {
        "weight_norm": size,
        "distance": distance,  # from the initial weights
        "path_length": member.path.by_scope()[""],
    }


def run_record(
    place: Place,
    cohort: Cohort,
    learner: Learner,
    member: Member,
    teacher: TeacherView | None,
) -> dict[str, Any]:
    """All of run.json."""
    run = learner.run
    entry = RunEntry(
        id=member.id,
        role=run.role,
        arm=run.arm,
        seed=cohort.seed,
        network=learner.entry,
        matched_layer=run.matched_layer,
        status="running",
        schedule=schedule_sentence(place.recipe.optimizer, run),
    )
    recipe = place.recipe.model_dump(mode="json")
    return {
        "schema_version": 1,
        "run": entry.model_dump(mode="json"),
        "argv": sys.argv,
        "recipe": recipe,
        "recipe_sha256": digest_of(recipe),
        "losses": [_loss_line(stage) for stage in run.stages],
        "fingerprint": asdict(fingerprint(member.network.body)),
        "seeds": {"run": cohort.seed, "draws": "sha256 of 'seed/epoch/purpose', first 63 bits"},
        "precision": place.recipe.precision,
        "teacher": dict(teacher.record) if teacher else None,
        "together": list(run.members) if run.together > 1 else None,
        "cost": cost_line(place, member),
        "parameter_changes": parameter_changes(learner.entry),  # by each transform of the network
        "processes": _processes(place),
        "data": place.facts["data"],
        "normalisation": {"mean": place.mean, "std": place.std},
        **place.facts["environment"],
    }


def _loss_line(stage: StagePlan) -> dict[str, Any]:
    """A stage's terms, with their weights and the layers that they read."""
    terms = [
        {
            "term": term.label,
            "weight": term.weight,
            "layers": layers_of(term),
            "teacher_layers": layers_of(term, "teacher_layers"),
        }
        for term in stage.terms
    ]
    return {"epochs": [stage.begin, stage.end], "frozen": stage.freeze, "terms": terms}


def cost_line(place: Place, member: Member) -> dict[str, Any]:
    """Parameters, how many of them are not 0, multiply-adds for one image, bits of the weights."""
    height, width = place.test.pixels.shape[2:]
    return asdict(cost_of(member.network.body, (3, height, width)))


def _processes(place: Place) -> Mapping[str, Any]:
    count, size = place.processes.count, place.recipe.optimizer.batch_size
    return {
        "count": count,
        "images_a_step_and_process": -(-size // count // place.recipe.optimizer.accumulate),
        "normalisation": "statistics of each process's own images; the first one's are saved",
        "relations": "losses that relate images see those of their process",
        "gradients": "of the terms and of the step: means over the images of all processes",
    }
