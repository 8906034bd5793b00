"""What is learned, forgotten and learned again?  Answers to each image over the checkpoints.

Source: Toneva et al. 2019, arXiv:1812.05159 (there of training images, at every step;
here of held-out images, from checkpoint to checkpoint).

Axes: k checkpoints after epoch 0, n images.
"""

from collections.abc import Iterable, Mapping
from itertools import combinations, product

import numpy as np

from kdprobe.errors import NotApplicable, Refused
from kdprobe.metrics.answers import Answers, mean_error, read_answers
from kdprobe.metrics.contract import Array, Inquiry, followed, metric, roles_of
from kdprobe.metrics.effects import over_images
from kdprobe.metrics.forgetting_page import Course, Forgetting, Likeness, share_error
from kdprobe.metrics.scope import Scope
from kdprobe.pairing import arms_of
from kdprobe.probes.contract import sight
from kdprobe.study import Checkpoint, Run, Study

FEWEST = 3  # checkpoints


def events(right: Array) -> Array:
    """(n,) how often an image is right at one checkpoint and wrong at the next, of (k, n) bool."""
    return np.asarray((right[:-1] & ~right[1:]).sum(0))


def events_by_chance(right: Array) -> float:
    """Events a mean image if each checkpoint's right answers fell on images at random.

        sum_k acc_{k-1} (1 - acc_k)

    It is the mean over all permutations of the images of every checkpoint.
    """
    share = right.mean(1)
    return float((share[:-1] * (1 - share[1:])).sum())


def right_from_here(right: Array) -> Array:
    """(k, n) whether an image is right at this checkpoint and all later ones."""
    return np.asarray(np.logical_and.accumulate(right[::-1])[::-1])


def learned_at(right: Array) -> Array:
    """(n,) the first checkpoint from which an image stays right; k if it is wrong at the end."""
    return np.asarray(len(right) - right_from_here(right).sum(0))


def order_scores(learned: Array) -> Array | None:
    """(n,) standardised ranks, ties sharing theirs; None where all images are learned at once."""
    from scipy.stats import rankdata

    ranks = rankdata(learned)
    spread = ranks.std()
    return None if spread == 0 else np.asarray((ranks - ranks.mean()) / spread)


def likeness_by_image(one: Array, two: Array) -> Array:
    """(n,) from standardised ranks: the mean is Spearman's rho, the error of the mean its error.

    rho plus the influence of every image on a correlation, one two - rho (one^2 + two^2) / 2.
    """
    rho = (one * two).mean()
    return np.asarray(rho + one * two - rho * (one**2 + two**2) / 2)


@metric(
    "forgetting",
    title="Forgetting and learning order",
    question="What is learned when, and what is forgotten on the way?",
    source="Toneva et al. 2019, arXiv:1812.05159",
    better="neither",
    range=(-1.0, 1.0),
    ranged=("rho", "never_right", "never_forgotten"),
    place=25,
)
def forgetting(study: Study, scope: Scope, *, images: int = 500) -> Inquiry[Forgetting]:
    """Forgetting events of held-out images, and the order in which they are learned.

    An event is an image that is answered right at one checkpoint and wrong at the next (Toneva et
    al. count training images at every step). An image is learned at the first checkpoint from
    which it stays right; wrong at the last one, it is later than all. The order of learning is
    compared by Spearman's rho of these checkpoints' ranks, so networks of different epochs can
    be. Learners at the epochs that all of them share, the teacher at its own; without epoch 0,
    where answers are right by chance. Effects are student minus baseline of the same seed.
    """
    learners = followed(study)
    if not learners:
        raise NotApplicable("needs a student or a baseline; this study has only a teacher")
    epochs = study.common_epochs()
    if len(epochs) < FEWEST:
        raise NotApplicable(
            f"needs at least {FEWEST} checkpoints at the same epochs in every run, found "
            f"{len(epochs)}; keep more checkpoints of the training"
        )
    courses = {run: _trained(run.at(epochs)) for run in learners}
    if study.teacher and len(study.teacher.checkpoints) >= FEWEST:
        courses = {study.teacher: _trained(study.teacher.checkpoints)} | courses
    asked = {
        point: sight("outputs", point, images=images) for all in courses.values() for point in all
    }
    seen = yield list(asked.values())
    given = read_answers(seen, asked)
    right = _answered_right(courses, given)
    if not any(run.role != "teacher" for run in right):
        raise Refused("; ".join(given.lost))
    scores = {run: order_scores(learned_at(hits)) for run, hits in right.items()}
    known = {run: score for run, score in scores.items() if score is not None}
    return Forgetting(
        images=len(given.labels),
        runs={
            run.id: _course(run, [c.epoch for c in courses[run]], hits)
            for run, hits in right.items()
        },
        order=_orders(study, known),
        order_null=1 / np.sqrt(len(given.labels) - 1) if len(given.labels) > 1 else float("nan"),
        fewer=over_images(study, {run.id: events(x).astype(float) for run, x in right.items()}),
        nearer=over_images(
            study, {run.id: x for run, x in _with_teacher(study.teacher, known).items()}
        ),
        lost=given.lost,
        roles=roles_of(study.runs),
    )


def _trained(points: Iterable[Checkpoint]) -> tuple[Checkpoint, ...]:
    return tuple(point for point in points if point.epoch > 0)


def _answered_right(
    courses: Mapping[Run, tuple[Checkpoint, ...]], given: Answers[Checkpoint]
) -> dict[Run, Array]:
    """(k, n) bool of the runs of which every checkpoint answered."""
    return {
        run: np.stack([given.logits[point].argmax(1) == given.labels for point in points])
        for run, points in courses.items()
        if all(point in given.logits for point in points)
    }


def _course(run: Run, epochs: list[int], right: Array) -> Course:
    lost, ever = events(right), right.any(0)
    when = np.array(epochs, dtype=float)[learned_at(right)[right[-1]]]
    return Course(
        run.role,
        epochs,
        float(lost.mean()),
        mean_error(lost),
        events_by_chance(right),
        *share_error(np.logical_not(ever)),
        *share_error(np.logical_and(ever, lost == 0)),
        learning_epoch=float(when.mean()) if len(when) else float("nan"),
        learning_epoch_error=mean_error(when),
        settled=right_from_here(right).mean(1),
    )


def _with_teacher(teacher: Run | None, scores: Mapping[Run, Array]) -> dict[Run, Array]:
    """Likeness by image of every learner's order with the teacher's."""
    if teacher is None or teacher not in scores:
        return {}
    return {
        run: likeness_by_image(score, scores[teacher])
        for run, score in scores.items()
        if run is not teacher
    }


def _orders(study: Study, scores: Mapping[Run, Array]) -> list[Likeness]:
    """By kind of pair: with the teacher, with baselines of the same seed and with others, ..."""
    arms = {arm: [run for run in runs if run in scores] for arm, runs in study.arms.items()}
    base = next(iter(arms_of(study.runs, "baseline")), "")
    found = []
    teacher = study.teacher
    if teacher is not None and teacher in scores:
        for arm, runs in arms.items():
            found.append(_likeness(f"{arm} with teacher", product(runs, [teacher]), scores))
    for arm, runs in arms.items():
        pairs = list(product(runs, arms.get(base, [])))
        same = [(a, b) for a, b in pairs if a.seed is not None and a.seed == b.seed]
        other = [pair for pair in pairs if pair not in same]
        if arm != base:
            found.append(_likeness(f"{arm} with {base}, same seed", same, scores))
            found.append(_likeness(f"{arm} with {base}, another run", other, scores))
        found.append(_likeness(f"{arm} with {arm}, another run", combinations(runs, 2), scores))
    return [one for one in found if one.pairs]


def _likeness(kind: str, pairs: Iterable[tuple[Run, Run]], scores: Mapping[Run, Array]) -> Likeness:
    rows = [likeness_by_image(scores[one], scores[two]) for one, two in pairs]
    if not rows:
        nan = float("nan")
        return Likeness(kind, 0, nan, nan, nan, nan)
    each, mean = [float(row.mean()) for row in rows], np.mean(rows, axis=0)
    return Likeness(kind, len(rows), float(mean.mean()), mean_error(mean), min(each), max(each))
