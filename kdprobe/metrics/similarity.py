"""Is the student alike the teacher by other notions than CKA?  Five measures, each with its chance.

Axes: u measures, l layers, r learners, n images.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from kdprobe.errors import NotApplicable, UsageError
from kdprobe.metrics.company import Company
from kdprobe.metrics.contract import (
    Array,
    Inquiry,
    Roles,
    answered,
    by_arm,
    followed,
    metric,
    roles_of,
    the_teacher,
)
from kdprobe.metrics.effects import over_seeds
from kdprobe.metrics.geometry import (
    HALVES,
    SHUFFLES,
    before_the_answer,
    chance,
    half_sample_error,
    halves,
    look,
    shapes_of,
    shared_layers,
    shuffles,
    stacked,
)
from kdprobe.metrics.measures import MEASURES, Choice, Measure
from kdprobe.metrics.scope import Scope
from kdprobe.metrics.similarity_page import Chance, Likeness, Likenesses
from kdprobe.pairing import pairs_by_arm
from kdprobe.registry import did_you_mean
from kdprobe.study import Run, Study


@metric(
    "similarity",
    title="Feature similarity by other measures",
    question="By which notions of likeness is the student nearer to the teacher than the baseline?",
    source="Raghu et al. 2017, arXiv:1706.05806; Morcos et al. 2018, arXiv:1806.05759; Williams et "
    "al. 2021, arXiv:2110.14739; Kriegeskorte et al. 2008; Huh et al. 2024, arXiv:2405.07987",
    better="neither",
    range=(-1.0, 1.0),
    ranged=("similarity", "level", "to_baseline", "between_seeds"),
    place=62,
)
def similarity(
    study: Study,
    scope: Scope,
    *,
    images: int = 256,
    measures: tuple[str, ...] = tuple(MEASURES),
    variance: float = 0.99,
    k: int = 10,
    permutations: int = 99,
    half_samples: int = 16,
) -> Inquiry[Likenesses]:
    """SVCCA, PWCCA, Procrustes, RSA and mutual k-NN of equal layers of learner and teacher.

    All are reckoned from the Gram matrices of the centred features, every value of a map being a
    feature of its own, at the last epoch that the learners share; the table of measures defines
    them. Of SVCCA and PWCCA no more directions are kept than a fifth of the images, since more are
    alike by chance alone. ± is the standard error by the delete-half jackknife over images. Chance
    is the mean over shuffles of the teacher's images, for the first run of an arm, and
    p = (1 + #{shuffled >= value}) / (1 + permutations).
    """
    chosen = _chosen(measures, variance, half_samples)
    teacher, runs = the_teacher(study), followed(study)
    if not runs:
        raise NotApplicable("needs a student or a baseline; this study has only a teacher")
    scope.enough("similarity", images, 2 * (k + 2), k)  # of a half, k neighbours and one beside
    layers = shared_layers(scope, (teacher, *runs))
    asked = {run: look(study, scope, run, images) for run in (teacher, *runs)}
    seen = yield list(asked.values())
    found, reasons = answered(seen, {run: asked[run] for run in runs})
    own = shapes_of(seen[asked[teacher]], scope.similarity_layers[teacher.id], layers)
    learners = [shapes_of(at, scope.similarity_layers[r.id], layers) for r, at in found.items()]
    company = Company(own, stacked(learners), chosen, Choice(variance, k))
    rows = halves(company.images, half_samples, chance(scope, HALVES))
    orders = shuffles(company.images, permutations, chance(scope, SHUFFLES))
    return _result(study, company, tuple(found), layers, rows, orders, reasons)


def _chosen(keys: Sequence[str], variance: float, half_samples: int) -> list[Measure]:
    """The measures asked for. Raises UsageError for a setting that cannot be used."""
    for key in keys:
        if key not in MEASURES:
            hint = did_you_mean(key, MEASURES) or ";"
            raise UsageError(
                f"setting similarity.measures has {key!r}{hint} wanted {', '.join(MEASURES)}"
            )
    if not 0 < variance <= 1:
        raise UsageError(
            f"setting similarity.variance is {variance:g}; wanted above 0 and at most 1"
        )
    if half_samples < 2:
        raise UsageError(f"setting similarity.half_samples is {half_samples}; wanted at least 2")
    return [MEASURES[key] for key in dict.fromkeys(keys)]


def _result(
    study: Study,
    company: Company,
    runs: Sequence[Run],
    layers: Sequence[str],
    rows: Sequence[Array],
    orders: Array,
    reasons: Sequence[str],
) -> Likenesses:
    names, roles = [run.id for run in runs], roles_of(runs)
    firsts = {arm: names.index(own[0]) for (arm, _), own in by_arm(roles, names).items()}
    every, drawn = company.each_with_each(list(firsts.values()), orders)
    values = every[:, :, 0, 1:]
    error = half_sample_error(company.with_the_teacher, rows, company.images)
    shown = before_the_answer(layers)
    return Likenesses(
        images=company.images,
        measures=tuple(measure.key for measure in company.measures),
        layers=tuple(layers),
        runs={run: Likeness(values[..., r], error[..., r]) for r, run in enumerate(names)},
        chance={
            arm: _chance(names[r], values[..., r], drawn[:, :, place])
            for place, (arm, r) in enumerate(firsts.items())
        },
        to_baseline=dict(_means(every, names, _paired(study))),
        between_seeds=dict(_means(every, names, _of_an_arm(roles, names))),
        constant=_constant(("the teacher", *names), layers, company),
        unseen=tuple(reasons),
        roles=roles,
        shown=shown,
        effects=[
            over_seeds(study, dict(zip(names, row.tolist(), strict=True)))
            for row in values[:, shown]
        ],
        everyone=every[:, shown],
    )


def _chance(run: str, values: Array, drawn: Array) -> Chance:
    """From likeness (u, l) and that of shuffled images (u, l, draws)."""
    as_high = (drawn >= values[..., None] - 1e-12).sum(-1)
    p = np.where(np.isnan(values), np.nan, (1 + as_high) / (1 + drawn.shape[-1]))
    return Chance(run, drawn.mean(-1), p)


Pairs = Mapping[str, Sequence[tuple[str, str]]]  # by arm, of runs


def _paired(study: Study) -> Pairs:
    """Students and the baselines of their seed, which began alike."""
    return {a: [(x.id, y.id) for x, y in some] for a, some in pairs_by_arm(study.runs).items()}


def _of_an_arm(roles: Roles, names: Sequence[str]) -> Pairs:
    """Runs of one arm, which differ by seed."""
    return {arm: list(combinations(runs, 2)) for (arm, _), runs in by_arm(roles, names).items()}


def _means(every: Array, names: Sequence[str], pairs: Pairs) -> Iterator[tuple[str, Array]]:
    """By arm, likeness (u, l) as the mean over those of its pairs that were seen."""
    place = {name: 1 + r for r, name in enumerate(names)}
    for arm, some in pairs.items():
        found = [every[..., place[x], place[y]] for x, y in some if {x, y} <= place.keys()]
        if found:
            yield arm, np.mean(found, axis=0)


def _constant(names: Sequence[str], layers: Sequence[str], company: Company) -> tuple[str, ...]:
    return tuple(f"{layers[layer]} of {names[who]}" for layer, who in np.argwhere(company.constant))
