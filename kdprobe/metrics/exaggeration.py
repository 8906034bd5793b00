"""Is the student surer than its teacher where that is sure?  Slope of log-odds on log-odds.

    y = log p_s(a) / (1 - p_s(a)),  x = log p_t(a) / (1 - p_t(a)),  a the teacher's answer
    slope = sum (x - mean x) y / sum (x - mean x)^2

Source: Nagarajan et al. 2023, arXiv:2301.12923 (the exaggerated bias in confidence).

Axes: n images, c classes, b bins.
"""

from collections.abc import Mapping

import numpy as np

from kdprobe.errors import NotApplicable
from kdprobe.metrics.answers import read_answers
from kdprobe.metrics.contract import (
    Array,
    Inquiry,
    Roles,
    by_arm,
    followed,
    metric,
    roles_of,
    the_teacher,
)
from kdprobe.metrics.effects import over_images
from kdprobe.metrics.exaggeration_page import Estimate, Exaggeration, Straight
from kdprobe.metrics.scope import Scope
from kdprobe.probes.contract import sight
from kdprobe.stats import Difference, mean_of_defined, paired_bootstrap
from kdprobe.study import Study

FEWEST = 10  # images
BINS = 10  # of the figure


def log_odds(logits: Array, classes: Array) -> Array:
    """(n,) log p / (1 - p) of class classes[i] in row i of (n, c) logits: z less the others'."""
    z = np.asarray(logits, dtype=np.float64)
    row = np.arange(len(z))
    others = z.copy()
    others[row, classes] = -np.inf
    most = others.max(1)
    rest = most + np.log(np.exp(others - most[:, None]).sum(1))
    result: Array = z[row, classes] - rest
    return result


def estimate(value: float, influence: Array) -> Estimate:
    """From a number and the influence (n,) of every image on it (Huber and White's error)."""
    n = len(influence)
    error = float(np.sqrt((influence**2).sum() / (n * (n - 2)))) if n > 2 else float("nan")
    return Estimate(float(value), error, value + influence)


def line(x: Array, y: Array) -> tuple[Estimate, Estimate, Estimate, Estimate]:
    """Slope, intercept, correlation and ratio of spreads of (n,) y over (n,) x."""
    u, v = ((side - side.mean()) for side in (x, y))
    sx, sy = u.std(), v.std()
    slope = (u * v).mean() / sx**2
    rest, pull = v - slope * u, u / sx**2
    r, a, b = slope * sx / sy if sy > 0 else 0.0, u / sx, v / sy if sy > 0 else np.zeros_like(v)
    return (
        estimate(slope, pull * rest),
        estimate(y.mean() - slope * x.mean(), rest * (1 - x.mean() * pull)),
        estimate(r, a * b - r * (a**2 + b**2) / 2),
        estimate(sy / sx, sy / sx * (b**2 - a**2) / 2),
    )


def binned(x: Array, values: Array) -> Array:
    """(b,) means of (n,) values in bins of equally many images by x; fewer than BINS of few."""
    bins = min(BINS, len(x))
    return np.array(
        [part.mean() for part in np.array_split(values[np.argsort(x, kind="stable")], bins)]
    )


@metric(
    "exaggeration",
    title="Confidence exaggeration",
    question="Is the student surer than its teacher where that is sure?",
    source="Nagarajan et al. 2023, arXiv:2301.12923",
    better="neither",
    range=(float("-inf"), float("inf")),
    ranged=("value",),
    place=22,
)
def exaggeration(study: Study, scope: Scope, *, images: int = 1000) -> Inquiry[Exaggeration]:
    """Least-squares slope of the network's log-odds log p/(1 - p) over the teacher's, in nats.

    p is the probability, at temperature 1, of the class that the teacher answers, so x is the
    teacher's own confidence. 1 = faithful, above 1 = surer where the teacher is sure and less so
    where it is not. On held-out images, at the last epoch that the learners share. The teacher's
    log-odds are what is asked about and not a noisy measure of something, so no correction for
    errors in x applies; scatter of y lowers the correlation, which stands beside the slope.
    Standard errors allow for unequal scatter (White 1980); effects are student minus baseline of
    the same seed, over images and seeds.
    """
    teacher = the_teacher(study)
    runs = followed(study)
    if not runs:
        raise NotApplicable("needs a student or a baseline; this study has only a teacher")
    scope.enough("exaggeration", images, FEWEST)
    asked = {run: sight("outputs", study.final(run), images=images) for run in (teacher, *runs)}
    seen = yield list(asked.values())
    given = read_answers(seen, asked)
    reference, others = given.needed(teacher), given.others(teacher)
    x, answer = _of_teacher(reference)
    odds = {run: log_odds(logits, answer) for run, logits in others.items()}
    found = [Straight(run.id, run.role, run.arm, *line(x, y)) for run, y in odds.items()]
    slopes = {one.run: one.slope.by_image for one in found}
    return Exaggeration(
        len(x),
        found,
        _less_one(roles_of(runs), slopes),
        over_images(study, slopes),
        given.lost,
        roles_of(runs),
        binned(x, x),
        {run.id: binned(x, y) for run, y in odds.items()},
    )


def _of_teacher(logits: Array) -> tuple[Array, Array]:
    """The teacher's log-odds (n,) of its answers (n,). Raises NotApplicable if they never vary."""
    answer = logits.argmax(1)
    if logits.shape[1] < 2:
        raise NotApplicable("needs at least two classes; the teacher has one output")
    x = log_odds(logits, answer)
    if np.ptp(x) < 1e-9:
        raise NotApplicable(
            "needs a teacher whose confidence varies; it is the same on all "
            f"{len(x)} images: analyse more images, or check the teacher's checkpoint"
        )
    return x, answer


def _less_one(roles: Roles, slopes: Mapping[str, Array]) -> dict[str, Difference]:
    """By arm, the slope less that of a faithful network."""
    return {
        arm: paired_bootstrap(
            rows := np.stack([slopes[run] for run in runs]), 0 * rows + 1, mean_of_defined
        )
        for (arm, _), runs in by_arm(roles, slopes).items()
    }
