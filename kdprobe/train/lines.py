"""What is noted of a run?  A line an epoch for metrics.jsonl, and all of run.json.

Axes: n images, c classes, t terms of the loss.
"""

import math
from typing import Any

from torch.nn import functional as F

from kdprobe.errors import InputError
from kdprobe.manifest import RunEntry
from kdprobe.train.learner import Learner
from kdprobe.train.place import Place, TeacherView, logits_of, share
from kdprobe.train.plan import Cohort, learning_rate, schedule_sentence


def metrics_line(
    place: Place, cohort: Cohort, learner: Learner, teacher: TeacherView | None, epoch: int
) -> dict[str, Any]:
    """What metrics.jsonl keeps of an epoch. Losses in nats where they are likelihoods."""
    steps = place.steps
    how = place.recipe.optimizer
    rates = (epoch - 1, epoch - 1 / steps) if epoch else ()
    logits = logits_of(learner.network, place.test.pixels)
    agreement = share(logits.argmax(1) == teacher.test_logits.argmax(1)) if teacher else None
    test_loss = float(F.cross_entropy(logits, place.test.labels))
    _refuse_divergence(learner, epoch, test_loss)
    return {
        "epoch": epoch,
        "steps": epoch * steps,
        "lr": [learning_rate(how, cohort, passed) for passed in rates],  # of first and last step
        **_training_line(place, learner, epoch),
        "test_loss": test_loss,
        "test_accuracy": share(logits.argmax(1) == place.test.labels),
        "test_agreement": agreement,  # share of test images with the teacher's answer
        "path_length": learner.path.by_scope()[""],
    }


def _training_line(place: Place, learner: Learner, epoch: int) -> dict[str, Any]:
    """Means over the epoch's images, as they were seen in training; nothing before the first."""
    if epoch == 0:
        return {"train_loss": None, "terms": {}, "train_accuracy": None}
    *terms, total, right = (learner.tally / len(place.train.labels)).tolist()
    _refuse_divergence(learner, epoch, sum(terms) + total)
    rows = zip(learner.run.terms, terms, strict=True)
    named = {term.label: {"raw": raw, "weighted": raw * term.weight} for term, raw in rows}
    return {"train_loss": total, "terms": named, "train_accuracy": right}


def _refuse_divergence(learner: Learner, epoch: int, loss: float) -> None:
    if not math.isfinite(loss):
        raise InputError(
            f"run {learner.run.id!r}, epoch {epoch}: found a loss of {loss}, wanted a finite one; "
            "lower optimizer.lr or the weights of the loss, and train into another folder"
        )


def run_record(
    place: Place, cohort: Cohort, learner: Learner, teacher: TeacherView | None
) -> dict[str, Any]:
    """All of run.json."""
    run = learner.run
    entry = RunEntry(
        id=run.id,
        role=run.role,
        arm=run.arm,
        seed=cohort.seed,
        network=learner.entry,
        matched_layer=run.matched_layer,
        status="running",
        schedule=schedule_sentence(place.recipe.optimizer, cohort),
    )
    return {
        "schema_version": 1,
        "run": entry.model_dump(mode="json"),
        "recipe": place.recipe.model_dump(mode="json"),
        "seeds": {"run": cohort.seed, "draws": "sha256 of 'seed/epoch/purpose', first 63 bits"},
        "precision": place.recipe.precision,
        "teacher": dict(teacher.record) if teacher else None,
        "data": place.facts["data"],
        **place.facts["environment"],
    }
