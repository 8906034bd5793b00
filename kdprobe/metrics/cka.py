"""Do teacher and student layers carry the same geometry?  CKA of all layer pairs."""

from collections.abc import Mapping, Sequence

import numpy as np

from kdprobe.errors import NotApplicable, Refused
from kdprobe.metrics.alignment import SMALLEST, Pairs, must_be_known, variant_of
from kdprobe.metrics.cka_page import Beside, Gap, Similarity
from kdprobe.metrics.contract import Inquiry, followed, metric, roles_of, the_teacher
from kdprobe.metrics.effects import over_seeds
from kdprobe.metrics.scope import Scope
from kdprobe.probes.contract import sight
from kdprobe.stats import holm
from kdprobe.study import Run, Study


@metric(
    "cka",
    title="Feature similarity (CKA)",
    question="Do teacher and student layers carry the same geometry?",
    source="Kornblith et al. 2019, arXiv:1905.00414, section 3; Song et al. 2012, equation 4; "
    "Nguyen et al. 2021, arXiv:2010.15327, equations 2-4",
    better="neither",
    range=(-1.0, 1.0),
    ranged=("cka",),
    place=60,
)
def cka(
    study: Study,
    scope: Scope,
    *,
    images: int = 512,
    batch: int = 128,
    kernel: str = "linear",
    bandwidth: float = 0.8,
    estimator: str = "debiased",
    permutations: int = 200,
    precision: str = "float32",
) -> Inquiry[Similarity]:
    """CKA(X, Y) = HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)) of the layers of two networks.

    Every layer with every layer of the teacher, and with the layer of the same name of the
    baseline of the same seed (a baseline: of those of other seeds), at the last epoch that the
    learners share. By default the kernel is linear, and HSIC is averaged over minibatches by its
    debiased estimator, so that the value does not depend on the number of images and can be a
    little below 0; with a batch of all images it is the full measure. kernel=rbf takes
    exp(-d^2 / (2 w^2)), w = bandwidth times the median distance of the batch; estimator=biased
    the HSIC of 2005, which few images raise. precision=bf16 is for speed: passes and Grams.

    The standard error is a jackknife over minibatches (of one: over images). The null: the images
    of the other network change places within the minibatch; p is of the largest deviation, in
    units of each pair's own spread, over all pairs. What similarity means is told by networks that
    know nothing of each other: student minus baseline, the p-values adjusted by Holm.
    """
    must_be_known("cka", bandwidth, kernel=kernel, estimator=estimator, precision=precision)
    teacher = the_teacher(study)
    learners = followed(study)
    if not learners:
        raise NotApplicable("needs a student or a baseline; this study has only a teacher")
    scope.enough("cka", images, SMALLEST)
    runs = (teacher, *learners)  # the baselines come first among the learners
    names = {run.id: scope.similarity_layers[run.id] for run in runs}
    wanted = sight(
        "hsic",
        *(study.final(run) for run in runs),
        images=images,
        layers=tuple(f"{i}/{name}" for i, run in enumerate(runs) for name in names[run.id]),
        references=1 + len(study.baselines),
        batch=batch,
        permutations=permutations,
        kernel=kernel,
        bandwidth=float(bandwidth),
        estimator=estimator,
        precision=precision,
    )
    seen = (yield [wanted])[wanted]
    refused = {
        run.id: bytes(seen[f"refused/{i}"]).decode()
        for i, run in enumerate(runs)
        if f"refused/{i}" in seen
    }
    if teacher.id in refused:
        raise Refused(f"{teacher.id}: {refused[teacher.id]}")
    known = [run for run in learners if run.id not in refused]
    if not known:
        raise Refused("; ".join(f"{run}: {reason}" for run, reason in refused.items()))
    pairs, count = Pairs.read(seen, _places(names)), int(seen["images"])
    to_teacher = {run.id: pairs.between(run.id, [teacher.id], names[run.id]) for run in known}
    beside = _beside(study, known, names, pairs)
    return Similarity(
        variant=variant_of(kernel, bandwidth, estimator, precision, batch=batch, images=count),
        images=count,
        permutations=permutations,
        teacher_layers=names[teacher.id],
        runs=to_teacher,
        beside=beside,
        nearer_teacher=_gaps(
            study, {run: at.matched(names[teacher.id]) for run, at in to_teacher.items()}
        ),
        nearer_baseline=_gaps(study, {run: at.named for run, at in beside.items()}),
        roles=roles_of(known),
        refused=refused,
    )


def _places(names: Mapping[str, Sequence[str]]) -> dict[str, slice]:
    ends = np.cumsum([len(layers) for layers in names.values()]).tolist()
    return {
        run: slice(end - len(layers), end)
        for (run, layers), end in zip(names.items(), ends, strict=True)
    }


def _beside(
    study: Study, known: Sequence[Run], names: Mapping[str, Sequence[str]], pairs: Pairs
) -> dict[str, Beside]:
    """Students and the baseline of their seed; baselines and those of other seeds."""
    ids = [run.id for run in known]
    baselines = [run for run in study.baselines if run.arm == study.baselines[0].arm]
    partners = {ours.id: [theirs.id] for ours, theirs in study.pairs()} | {
        run.id: [other.id for other in baselines if other.seed != run.seed] for run in baselines
    }
    found = {}
    for run in ids:
        others = [other for other in partners.get(run, []) if other in ids]
        if others and len({tuple(names[other]) for other in others}) == 1:
            seen = pairs.between(run, others, names[run])
            found[run] = seen.equals(others, names[others[0]])
    return {run: at for run, at in found.items() if at.layers}


def _gaps(study: Study, values: Mapping[str, Mapping[str, float]]) -> list[Gap]:
    """Student minus baseline by layer and arm; p-values adjusted by Holm over all of them."""
    found = []
    for layer in dict.fromkeys(name for at in values.values() for name in at):
        known = {run: at[layer] for run, at in values.items() if np.isfinite(at.get(layer, np.nan))}
        found += [(arm, layer, gap) for arm, gap in over_seeds(study, known).items()]
    p_values = holm([gap.p_value for _, _, gap in found])
    return [
        Gap(arm, layer, gap.effect, gap.low, gap.high, gap.seeds, p)
        for (arm, layer, gap), p in zip(found, p_values, strict=True)
    ]
