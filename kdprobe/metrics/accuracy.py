"""How good is each network?  Top-1 accuracy and cross-entropy on held-out images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.contract import Array, Inquiry, metric
from kdprobe.metrics.scope import Scope
from kdprobe.panels import Panel, Table
from kdprobe.probes.contract import sight
from kdprobe.study import Study


def log_softmax(logits: Array) -> Array:
    """(n, c) logits -> (n, c) log probabilities, in float64."""
    z = np.asarray(logits, dtype=np.float64)
    z = z - z.max(axis=-1, keepdims=True)
    result: Array = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return result


def proportion_error(share: float, count: int) -> float:
    """Standard error of a share observed on `count` images."""
    return float(np.sqrt(share * (1 - share) / count))


@dataclass(frozen=True)
class RunAccuracy:
    """One network's answers against the labels."""

    run: str
    role: str
    arm: str
    epoch: int
    accuracy: float  # share of images, [0, 1]
    error: float  # standard error of the share
    loss: float  # mean cross-entropy, nats


@dataclass(frozen=True)
class Accuracies:
    """Every network at the end of its training."""

    images: int
    runs: Sequence[RunAccuracy]

    def panels(self) -> list[Panel]:
        rows = tuple(
            (r.run, r.role, r.arm, r.epoch, round(100 * r.accuracy, 2), round(100 * r.error, 2))
            + (round(r.loss, 4),)
            for r in self.runs
        )
        columns = ("run", "role", "arm", "epoch", "accuracy %", "± %", "cross-entropy (nats)")
        return [
            Table(
                title="Accuracy of every run",
                how_to_read=f"Top-1 on {self.images} held-out images; ± is one standard error.",
                columns=columns,
                rows=rows,
                name="accuracy",
            )
        ]


@metric(
    "accuracy",
    title="Accuracy",
    question="How good is each network?",
    source="Definition; standard error of a binomial share",
    better="neither",
    range=(0.0, 1.0),
    ranged=("accuracy",),
    place=10,
)
def accuracy(study: Study, scope: Scope, *, images: int = 1000) -> Inquiry[Accuracies]:
    """Share of held-out images whose largest logit is the label's, and the mean cross-entropy.

    Every run at the end of its training: the last epoch that the learners share.
    """
    asked = {run: sight("outputs", study.final(run), images=images) for run in study.runs}
    seen = yield list(asked.values())
    found = []
    for run, answer in asked.items():
        logits, labels = seen[answer]["logits"], seen[answer]["labels"]
        share = float((logits.argmax(1) == labels).mean())
        loss = -float(log_softmax(logits)[np.arange(len(labels)), labels].mean())
        error = proportion_error(share, len(labels))
        epoch = study.final(run).epoch
        found.append(RunAccuracy(run.id, run.role, run.arm, epoch, share, error, loss))
        count = len(labels)
    return Accuracies(count, found)
