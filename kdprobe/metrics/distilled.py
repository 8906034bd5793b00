"""What has the student that its baseline has not, and is it what the task needs?

Axes: p networks, l layers, n images, s pairs of student and baseline.
"""

from collections.abc import Iterator, Sequence
from itertools import permutations as ordered_pairs

import numpy as np

from kdprobe.errors import NotApplicable, Refused, UsageError
from kdprobe.metrics.contract import Array, Inquiry, answered, metric, roles_of, the_teacher
from kdprobe.metrics.distance_correlation import (
    distance_correlations,
    quantities,
    relevance_by_chance,
)
from kdprobe.metrics.distilled_page import QUANTITIES, Distillate, Distilled
from kdprobe.metrics.effects import over_seeds
from kdprobe.metrics.geometry import (
    HALVES,
    SHUFFLES,
    Shapes,
    chance,
    half_sample_error,
    halves,
    look,
    shapes_of,
    shared_layers,
    shuffles,
    stacked,
)
from kdprobe.metrics.scope import Scope
from kdprobe.stats import Difference
from kdprobe.study import Run, Study

FEWEST = 8  # images: four in a half sample, for the U-centring


@metric(
    "distilled",
    title="Distilled and residual features",
    question="Has the student taken from the teacher what its baseline lacks?",
    source="Adhane et al., UniCAM, arXiv:2412.13943; Szekely and Rizzo 2014 (partial distance "
    "correlation)",
    better="neither",
    range=(-1.0, 1.0),
    ranged=("fss", "fss_baseline", "distilled", "residual", "beyond", "shared"),
    place=63,
)
def distilled(
    study: Study,
    scope: Scope,
    *,
    images: int = 256,
    permutations: int = 99,
    half_samples: int = 16,
) -> Inquiry[Distilled]:
    """Distance correlations of student, baseline of the same seed, teacher and classes, by layer.

    A, B, T are the U-centred matrices of Euclidean distances of all pairs of images of student,
    baseline and teacher; Y that of one-hot labels, which is 0 inside a class and equal across.
    A|B = A - <A, B> / <B, B> B is what the student has and the baseline has not: distilled
    features; B|A are residual features. Relevance (RS) is corr(A|B, Y), and corr(B|A, Y). Feature
    similarity (FSS) is corr(A, T) of features scaled to length one: the bias-corrected, squared
    distance correlation. Beyond the baseline is corr(A|B, T|B), the partial distance correlation of
    student and teacher given the baseline. Correlations of independent features are 0 on average.
    All are at the last epoch that the learners share. ± is the standard error by the delete-half
    jackknife over images; p = (1 + #{shuffled labels >= value}) / (1 + permutations).
    """
    teacher, pairs = the_teacher(study), study.pairs()
    if not pairs:
        raise NotApplicable("needs a student and a baseline of its seed; found no such pair")
    scope.enough("distilled", images, FEWEST)
    if half_samples < 2:
        raise UsageError(f"setting distilled.half_samples is {half_samples}; wanted at least 2")
    runs = tuple(dict.fromkeys(run for side in zip(*pairs, strict=True) for run in side))
    layers = shared_layers(scope, (teacher, *runs))
    asked = {run: look(study, scope, run, images) for run in (teacher, *runs)}
    seen = yield list(asked.values())
    own = seen[asked[teacher]]
    found, reasons = answered(seen, {run: asked[run] for run in runs})
    known = [(one, two) for one, two in pairs if one in found and two in found]
    if not known:
        raise Refused(reasons[0])
    everyone = [
        shapes_of(at, scope.similarity_layers[run.id], layers)
        for run, at in ((teacher, own), *found.items())
    ]
    labels = own["labels"]
    return _result(
        study,
        stacked(everyone),
        labels,
        tuple(found),
        known,
        layers,
        halves(len(labels), half_samples, chance(scope, HALVES)),
        shuffles(len(labels), permutations, chance(scope, SHUFFLES)),
        reasons,
    )


def _result(
    study: Study,
    networks: Shapes,
    labels: Array,
    runs: Sequence[Run],
    pairs: Sequence[tuple[Run, Run]],
    layers: Sequence[str],
    rows: Sequence[Array],
    orders: Array,
    reasons: Sequence[str],
) -> Distilled:
    place = {run: 1 + p for p, run in enumerate(runs)}
    places = [(place[one], place[two]) for one, two in pairs]

    def on(some: Array) -> Array:
        return quantities(*distance_correlations(networks, labels, some), places)

    everything = distance_correlations(networks, labels, np.arange(len(labels)))
    values, errors = quantities(*everything, places), half_sample_error(on, rows, len(labels))
    drawn = relevance_by_chance(networks, labels, places, orders)
    as_high = (drawn >= values[2][..., None] - 1e-12).sum(-1)
    p_values = np.where(np.isnan(values[2]), np.nan, (1 + as_high) / (1 + drawn.shape[-1]))
    strangers = list(ordered_pairs([place[run] for run in runs if run.role == "baseline"], 2))
    by_chance = {}
    if strangers:
        means = quantities(*everything, strangers).mean(1)
        by_chance = {"distilled": means[2], "beyond": means[4]}
    return Distilled(
        images=len(labels),
        classes=len(np.unique(labels)),
        layers=tuple(layers),
        students={
            one.id: Distillate(
                baseline=two.id,
                errors=errors[:, s],
                p_value=p_values[s],
                **dict(zip(QUANTITIES, values[:, s], strict=True)),
            )
            for s, (one, two) in enumerate(pairs)
        },
        strangers=by_chance,
        roles=roles_of([one for one, _ in pairs]),
        relevance=dict(_effects(study, pairs, layers, values[2], values[3])),
        closeness=dict(_effects(study, pairs, layers, values[0], values[1])),
        unseen=tuple(reasons),
    )


def _effects(
    study: Study,
    pairs: Sequence[tuple[Run, Run]],
    layers: Sequence[str],
    ours: Array,
    theirs: Array,
) -> Iterator[tuple[str, Difference]]:
    """Of every arm and layer, the difference of two numbers a pair (s, l) over seeds."""
    for arm in dict.fromkeys(one.arm for one, _ in pairs):
        own = [s for s, (one, _) in enumerate(pairs) if one.arm == arm]
        for place, layer in enumerate(layers):
            values: dict[str, float] = {pairs[s][0].id: float(ours[s, place]) for s in own}
            values |= {pairs[s][1].id: float(theirs[s, place]) for s in own}
            yield f"{arm} · {layer}", over_seeds(study, values)[arm]
