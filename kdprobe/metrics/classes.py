"""Which classes gain by distillation, and which lose?  Accuracy class by class.

Axes: n images, c classes, r seeds.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from kdprobe.errors import NotApplicable
from kdprobe.metrics.answers import read_answers
from kdprobe.metrics.classes_page import ArmAccuracy, ByClass, Gains
from kdprobe.metrics.contract import Array, Inquiry, by_arm, metric, roles_of
from kdprobe.metrics.effects import over_images
from kdprobe.metrics.scope import Scope
from kdprobe.pairing import arms_of, pairs_by_arm
from kdprobe.probes.contract import sight
from kdprobe.stats import Difference, holm, of_shares
from kdprobe.study import Study

FEWEST = 5  # images of a class, for an interval
DIGITS = 4  # that are kept: more than the images can tell


def by_class(values: Array, labels: Array, classes: int) -> tuple[Array, Array]:
    """Mean of (n,) values within every class and its standard error, each (c,).

    NaN without images; of one image the error is.
    """
    count = np.bincount(labels, minlength=classes)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(labels, values, classes) / count
        square = np.bincount(labels, (values - mean[labels]) ** 2, classes)
        return mean, np.sqrt(square / (count - 1) / count)


def unevenness(differences: Sequence[Array]) -> float:
    """Standard deviation over the classes of (c,) differences, root mean square of several."""
    known = [one[np.isfinite(one)] for one in differences]
    squares = [one.var(ddof=1) for one in known if len(one) > 1]
    return float(np.sqrt(np.mean(squares))) if squares else float("nan")


def _gains(found: Sequence[Difference | None], own: Sequence[Array]) -> Gains:
    """From each class's difference, None without images, and each seed's (c,) gains."""
    nan = float("nan")
    blank = Difference(nan, nan, nan, nan, 0, 0)
    rows = np.array([(d.effect, d.low, d.high, d.p_value) for d in (one or blank for one in found)])
    known = np.flatnonzero(np.isfinite(rows[:, 3]))
    rows[known, 3] = holm(rows[known, 3].tolist())
    effect, low, high, p_value = np.round(rows, DIGITS).T
    return Gains(effect, low, high, p_value, unevenness(own))


def _difference(study: Study, rows: Mapping[str, Array]) -> dict[str, Difference]:
    """By arm, of (n,) images of one class; few of them have no interval."""
    found = {arm: of_shares(one) for arm, one in over_images(study, rows).items()}
    few = len(next(iter(rows.values()))) < FEWEST
    nan = float("nan")
    return {
        arm: Difference(d.effect, nan, nan, nan, d.seeds, d.images) if few else d
        for arm, d in found.items()
    }


@metric(
    "classes",
    title="Gains by class",
    question="Which classes gain by distillation, and which lose?",
    source="Definition; Holm 1979",
    better="higher",
    range=(0.0, 1.0),
    ranged=("accuracy",),
    place=23,
)
def classes(study: Study, scope: Scope, *, images: int = 1000) -> Inquiry[ByClass]:
    """Share of the held-out images of each class that are answered right, and gains.

    Accuracy of an arm is the mean over its seeds. A gain is student minus baseline of the same
    seed, on the same images of the class; its interval is over seeds and images, p is adjusted
    for the number of classes (Holm). Unevenness is the standard deviation of one seed's gains
    over the classes; two baselines of different seeds show how much of it is chance of training.
    At the last epoch that the learners share.
    """
    asked = {run: sight("outputs", study.final(run), images=images) for run in study.runs}
    seen = yield list(asked.values())
    given = read_answers(seen, asked)
    labels = given.labels
    if len(np.unique(labels)) < 2:
        raise NotApplicable(
            f"needs images of at least two classes; all {len(labels)} are of one: take more "
            "images, or a test split that is shuffled"
        )
    count = len(scope.classes)
    right = {
        run.id: (logits.argmax(1) == labels).astype(float) for run, logits in given.logits.items()
    }
    arms = {
        arm: ArmAccuracy(
            *(
                np.round(part, DIGITS)
                for part in by_class(np.mean([right[run] for run in runs], axis=0), labels, count)
            )
        )
        for (arm, _), runs in by_arm(roles_of(study.runs), right).items()
    }
    return ByClass(
        names=scope.classes,
        images=np.bincount(labels, minlength=count),
        arms=arms,
        gains=_all_gains(study, right, labels, count),
        unevenness_by_chance=_between_baselines(study, right, labels, count),
        lost=given.lost,
    )


def _all_gains(
    study: Study, right: Mapping[str, Array], labels: Array, count: int
) -> dict[str, Gains]:
    each: list[dict[str, Difference]] = []
    for k in range(count):
        inside = labels == k
        rows = {run: hits[inside] for run, hits in right.items()}
        each.append(_difference(study, rows) if inside.any() else {})
    shares = {run: by_class(hits, labels, count)[0] for run, hits in right.items()}
    found = {}
    for arm, pairs in pairs_by_arm(study.runs).items():
        own = [
            shares[ours.id] - shares[theirs.id]
            for ours, theirs in pairs
            if {ours.id, theirs.id} <= shares.keys()
        ]
        if own:
            found[arm] = _gains([one.get(arm) for one in each], own)
    return found


def _between_baselines(
    study: Study, right: Mapping[str, Array], labels: Array, count: int
) -> float:
    """Unevenness of the differences between baselines of one arm, all pairs."""
    first = next(iter(arms_of(study.runs, "baseline").values()), [])
    shares = [by_class(right[run.id], labels, count)[0] for run in first if run.id in right]
    return unevenness([one - two for one, two in combinations(shares, 2)])
