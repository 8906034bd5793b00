"""How closely does the student answer as its teacher does?  Agreement, divergence, copied errors.

Axes: n images, c classes.
"""

from collections.abc import Sequence

import numpy as np

from kdprobe.errors import NotApplicable, UsageError
from kdprobe.metrics.accuracy import log_softmax, proportion_error
from kdprobe.metrics.answers import mean_error, read_answers
from kdprobe.metrics.contract import Array, Inquiry, followed, metric, the_teacher
from kdprobe.metrics.effects import over_images
from kdprobe.metrics.fidelity_page import SHARES, Fidelities, RunFidelity
from kdprobe.metrics.scope import Scope
from kdprobe.probes.contract import sight
from kdprobe.stats import mean_of_defined, of_shares
from kdprobe.study import Run, Study


def divergence(teacher: Array, student: Array, temperature: float = 1.0) -> Array:
    """KL(p_teacher || p_student) of every image, in nats: (n, c) and (n, c) logits -> (n,).

    Both are softened by `temperature`: p = softmax(z / T). Not multiplied by T^2.
    """
    log_t, log_s = log_softmax(teacher / temperature), log_softmax(student / temperature)
    result: Array = (np.exp(log_t) * (log_t - log_s)).sum(axis=1)
    return result


def chance_of_copying(theirs: Array, ours: Array, labels: Array, classes: int) -> Array:
    """(n,) how likely we give their answer if ours depends on the class of the image alone.

    The share of the other images of that class to which we give it; NaN of a class of one image.
    """
    table = np.zeros((classes, classes))
    np.add.at(table, (labels, ours), 1)
    others = table.sum(1)[labels] - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(others > 0, (table[labels, theirs] - (ours == theirs)) / others, np.nan)


def chance_where_wrong(theirs: Array, ours: Array, labels: Array, classes: int) -> Array:
    """(n,) how likely we give their wrong answer, if we err where we do and no image is special.

        [s != y] (N(y, a) + 1 / (c - 1)) / (N(y) + 1)

    N(y, a): our wrong answers a to other images of class y, N(y) all of our wrong ones there; the
    one more, spread evenly over the wrong classes, makes it known of a class without other errors.
    """
    wrong = ours != labels
    table = np.zeros((classes, classes))
    np.add.at(table, (labels[wrong], ours[wrong]), 1)
    same = table[labels, theirs] - (wrong & (ours == theirs))
    result: Array = wrong * (same + 1 / (classes - 1)) / (table.sum(1)[labels] - wrong + 1)
    return result


def _share(hits: Array) -> tuple[float | None, float | None]:
    """The part of (n,) bool that is True, and its standard error; None of no images."""
    if not len(hits):
        return None, None
    share = float(hits.mean())
    return share, proportion_error(share, len(hits))


def _chances(
    theirs: Array, ours: Array, labels: Array, classes: int
) -> tuple[float | None, float | None, float | None, float | None]:
    """Chance, chance where wrong, copied beyond it and its error, where the teacher is wrong."""
    wrong = theirs != labels
    if not wrong.any() or classes < 2:
        return None, None, None, None
    free = chance_of_copying(theirs, ours, labels, classes)[wrong]
    tied = chance_where_wrong(theirs, ours, labels, classes)[wrong]
    beyond = (ours == theirs)[wrong] - tied
    return (
        float(mean_of_defined(free)),
        float(tied.mean()),
        float(beyond.mean()),
        mean_error(beyond),
    )


def _measured(
    run: Run, reference: Array, logits: Array, labels: Array, temperatures: Sequence[float]
) -> RunFidelity:
    theirs, ours = reference.argmax(1), logits.argmax(1)
    same, right = ours == theirs, theirs == labels
    kl = divergence(reference, logits)
    softened = [divergence(reference, logits, t) for t in temperatures]
    return RunFidelity(
        run.id,
        run.role,
        run.arm,
        float(same.mean()),
        proportion_error(float(same.mean()), len(labels)),
        *_share(same[right]),
        *_share(same[~right]),
        _share((ours != labels)[~right])[0],
        *_chances(theirs, ours, labels, logits.shape[1]),
        kl=float(kl.mean()),
        kl_error=mean_error(kl),
        kl_at=[float(values.mean()) for values in softened],
        kl_at_error=[mean_error(values) for values in softened],
    )


def _by_image(
    reference: Array, logits: Array, labels: Array, temperatures: Sequence[float]
) -> dict[str, Array]:
    """One number an image of everything that is compared with the baseline; NaN where undefined."""
    same = (logits.argmax(1) == reference.argmax(1)).astype(float)
    right = reference.argmax(1) == labels
    parts = (np.ones_like(right), right, ~right)
    found = {name: np.where(part, same, np.nan) for name, part in zip(SHARES, parts, strict=True)}
    for t in temperatures:
        found[f"kl at {t:g}"] = divergence(reference, logits, t)
    return {name: values for name, values in found.items() if not np.isnan(values).all()}


@metric(
    "fidelity",
    title="Fidelity to the teacher",
    question="How closely does the student answer as its teacher does?",
    source="Stanton et al. 2021, arXiv:2106.05945, section 3; errors copied: "
    "Mason-Williams 2025, arXiv:2510.12615",
    better="neither",
    range=(0.0, 1.0),
    ranged=("agreement",),
    place=20,
)
def fidelity(
    study: Study,
    scope: Scope,
    *,
    images: int = 1000,
    temperatures: tuple[float, ...] = (1.0, 4.0),
) -> Inquiry[Fidelities]:
    """Top-1 agreement mean[argmax s = argmax t] and mean KL(p_t || p_s), p = softmax(z / T).

    KL in nats at each temperature T, without the factor T^2 of the distillation loss. On held-out
    images, at the last epoch that the learners share; agreement also apart for images that the
    teacher answers right and wrong. Where it is wrong, agreement means a copied error; beside it
    stands what independent errors would give: the network's wrong answers a to class y, drawn
    from its other errors, [s != y] (N(y, a) + 1/(c - 1)) / (N(y) + 1), c classes. Effects are
    student minus baseline of the same seed, over images and seeds.
    """
    if min(temperatures) <= 0:
        raise UsageError(
            f"setting fidelity.temperatures holds {min(temperatures):g}; wanted numbers above 0"
        )
    teacher = the_teacher(study)
    runs = followed(study)
    if not runs:
        raise NotApplicable("needs a student or a baseline; this study has only a teacher")
    asked = {run: sight("outputs", study.final(run), images=images) for run in (teacher, *runs)}
    seen = yield list(asked.values())
    given = read_answers(seen, asked)
    reference, temperatures = given.needed(teacher), tuple(dict.fromkeys(temperatures))
    found, values = [], {}
    for run, logits in given.others(teacher).items():
        found.append(_measured(run, reference, logits, given.labels, temperatures))
        values[run.id] = _by_image(reference, logits, given.labels, temperatures)
    quantities = dict.fromkeys(name for own in values.values() for name in own)
    effects = {
        name: over_images(study, {run: own[name] for run, own in values.items()})
        for name in quantities
    }
    for name in effects.keys() & SHARES.keys():
        effects[name] = {arm: of_shares(one) for arm, one in effects[name].items()}
    return Fidelities(
        len(given.labels),
        int((reference.argmax(1) != given.labels).sum()),
        temperatures,
        found,
        {name: arms for name, arms in effects.items() if arms},
        given.lost,
    )
