"""How good is each network?  Top-1 accuracy and cross-entropy on held-out images.

Axes: n images, c classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.answers import every_second, read_answers
from kdprobe.metrics.contract import Array, Inquiry, metric
from kdprobe.metrics.scope import Scope
from kdprobe.panels import Panel, Table
from kdprobe.probes.contract import sight
from kdprobe.study import Study

FAR = 0.1  # share of images by which another order of the classes must be better to be told
LEVEL = 1e-4  # p-value of that, sign test
TOLD = 5  # classes that a sentence names


def log_softmax(logits: Array) -> Array:
    """(n, c) logits -> (n, c) log probabilities, in float64."""
    z = np.asarray(logits, dtype=np.float64)
    z = z - z.max(axis=-1, keepdims=True)
    result: Array = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return result


def proportion_error(share: float, count: int) -> float:
    """Standard error of a share observed on `count` images."""
    return float(np.sqrt(share * (1 - share) / count))


def best_order(answers: Array, labels: Array, classes: int) -> Array:
    """(c,) which class each output would stand for, one to one, so that most answers are right.

    Solved exactly as an assignment problem (Kuhn 1955). Among equals, an output keeps its class.
    """
    from scipy.optimize import linear_sum_assignment

    counts = np.eye(classes) / (2 * classes)
    np.add.at(counts, (answers, labels), 1)
    order: Array = linear_sum_assignment(counts, maximize=True)[1]
    return order


def right_in_best_order(answers: Array, labels: Array, classes: int) -> Array:
    """(n,) bool: right once the outputs are put in the order that suits the other half best.

    Halves alternate within every class. What is found by chance in one half fails in the other.
    """
    half, right = every_second(labels), np.zeros(len(labels), dtype=bool)
    for part in (half, ~half):
        order = best_order(answers[~part], labels[~part], classes)
        right[part] = order[answers[part]] == labels[part]
    return right


def is_in_another_order(right: Array, reordered: Array, labels: Array) -> bool:
    """Whether (n,) answers are far more often right in another order of the classes.

    Far: by a tenth of the images, beyond chance (sign test), and well above always giving the
    commonest class, so that no untrained network is meant.
    """
    from scipy.special import bdtr

    won, lost = int((reordered & ~right).sum()), int((right & ~reordered).sum())
    commonest = np.bincount(labels).max() / len(labels)
    return bool(
        won - lost >= FAR * len(labels)
        and reordered.mean() >= commonest + FAR
        and bdtr(lost, won + lost, 0.5) < LEVEL
    )


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
    reordered: float  # share right in the order of classes that suits the other half of the images
    moved: Sequence[tuple[str, str]]  # (output is named, it means) if the order looks wrong


@dataclass(frozen=True)
class Accuracies:
    """Every network at the end of its training."""

    images: int
    runs: Sequence[RunAccuracy]
    only_class: str = ""  # of all images, where they are of a single one
    lost: Sequence[str] = ()

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

    def findings(self) -> list[str]:
        """Classes in another order, and images of a single class."""
        told = [_order_sentence(run) for run in self.runs if run.moved]
        if self.only_class:
            told.append(
                f"all {self.images} images are of class {self.only_class!r}, so accuracy says "
                "nothing of the other classes; take more images, or a test split that is shuffled"
            )
        return told

    def lacking(self) -> Sequence[str]:
        """Networks whose answers could not be used."""
        return self.lost


def _order_sentence(run: RunAccuracy) -> str:
    pairs = ", ".join(f"{named!r} means {meant!r}" for named, meant in run.moved[:TOLD])
    more = f" and {len(run.moved) - TOLD} more" if len(run.moved) > TOLD else ""
    return (
        f"{run.run} is right on {100 * run.accuracy:.1f}% of the images, and on "
        f"{100 * run.reordered:.1f}% if its outputs stand in another order: {pairs}{more}; its "
        "classes look ordered otherwise than the data set's: name them in the order of its "
        "outputs, by 'classes' of its network in the manifest"
    )


@metric(
    "accuracy",
    title="Accuracy",
    question="How good is each network?",
    source="Definition; standard error of a binomial share",
    better="neither",
    range=(0.0, 1.0),
    ranged=("accuracy", "reordered"),
    place=10,
)
def accuracy(study: Study, scope: Scope, *, images: int = 1000) -> Inquiry[Accuracies]:
    """Share of held-out images whose largest logit is the label's, and the mean cross-entropy.

    Every run at the end of its training: the last epoch that the learners share. A network that
    is far more often right when its outputs are renamed one to one (the order found on one half
    of the images, counted on the other) is named on the first screen.
    """
    asked = {run: sight("outputs", study.final(run), images=images) for run in study.runs}
    seen = yield list(asked.values())
    given = read_answers(seen, asked)
    found = []
    for run, logits in given.logits.items():
        one = _measured(logits, given.labels, scope.classes)
        found.append(RunAccuracy(run.id, run.role, run.arm, study.final(run).epoch, *one))
    shown = np.unique(given.labels)
    only = _name(scope.classes, shown[0]) if len(shown) == 1 else ""
    return Accuracies(len(given.labels), found, only, given.lost)


def _measured(
    logits: Array, labels: Array, names: Sequence[str]
) -> tuple[float, float, float, float, list[tuple[str, str]]]:
    answers, classes = logits.argmax(1), logits.shape[1]
    right = answers == labels
    share = float(right.mean())
    loss = -float(log_softmax(logits)[np.arange(len(labels)), labels].mean())
    reordered, moved = right_in_best_order(answers, labels, classes), []
    if is_in_another_order(right, reordered, labels):
        order = best_order(answers, labels, classes)
        moved = [(_name(names, i), _name(names, order[i])) for i in range(classes) if order[i] != i]
    return share, proportion_error(share, len(labels)), loss, float(reordered.mean()), moved


def _name(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else str(index)
