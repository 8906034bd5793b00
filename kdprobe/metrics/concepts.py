"""Which parts of the image does a network keep?  Visual concepts on the object and off it."""

from collections.abc import Mapping, Sequence

import numpy as np

from kdprobe.metrics.concept_page import SATURATION, Concepts, Curve
from kdprobe.metrics.contract import Inquiry, Seen, metric, roles_of
from kdprobe.metrics.counting import ConceptCount, Estimates, count, sides
from kdprobe.metrics.looking import ConceptLook
from kdprobe.metrics.scope import Scope
from kdprobe.metrics.viewer import viewer
from kdprobe.stats import mean_of_defined
from kdprobe.study import Checkpoint, Run, Study


@metric(
    "concepts",
    title="Visual concepts",
    question="Which parts of the image does a network keep, on the object and off it?",
    source="Cheng et al. 2020, arXiv:2003.03622, section 3.1",
    better="neither",
    range=(0.0, 1.0),
    ranged=("auroc", "precision", "jaccard", "unstable"),
    place=30,
)
def concepts(
    study: Study, scope: Scope, *, shown: int = 16, shown_b: float = 1.0
) -> Inquiry[Concepts]:
    """Cells of which a layer discards less information than of the background.

    H_c is the entropy of the noise in cell c that the layer cannot tell from the image (nats).
    A concept is a cell with Hbar - H_c > b, where Hbar is the mean over the background's cells.
    N_fg counts those on the object, N_bg those off it; lambda = mean N_fg / (N_fg + N_bg) over
    the images that have a concept. H comes from the estimator: "jacobian" (the closed form, from
    the layer's Jacobian at noise of the size that it loses), "fit" (the loss minimised to
    convergence), or "paper" (the released code's procedure, which stops early). Its error from
    random draws is carried into the counts.
    """
    how, cut = ConceptLook(scope, study), scope.discarding
    curved, epochs = study.learners, study.common_epochs()
    learned = [c for run in curved for c in run.at(epochs)]
    wanted = [*map(study.final, study.runs), *learned]
    seen = yield [how.pictures, *(how.at(checkpoint) for checkpoint in wanted)]
    objects, layers = how.objects(seen), how.layers
    runs = {
        run.id: {layer: _last_count(how, seen, study.final(run), layer) for layer in layers}
        for run in study.runs
    }
    curves = {
        run.id: {layer: _curve(how, seen, run, layer, epochs) for layer in layers} for run in curved
    }
    return Concepts(
        thresholds=cut.thresholds,
        headline=cut.headline,
        layers=layers,
        epochs=epochs,
        object_cells=objects.on.sum(1),
        background_cells=objects.off.sum(1),
        runs=runs,
        saturated=_saturated(runs, cut.headline),
        unconverged={layer: _unconverged(how, seen, wanted, layer) for layer in layers},
        effective={layer: float(how.effective(seen, layer).mean()) for layer in layers},
        curves=curves,
        roles=roles_of(study.runs),
        viewer=viewer(how, seen, study, shown=shown, b=shown_b),
    )


def _last_count(how: ConceptLook, seen: Seen, final: Checkpoint, layer: str) -> ConceptCount:
    quality, cut = how.quality(seen, final, layer), how.scope.discarding
    estimates = Estimates(
        h=how.entropies(seen, [final], layer)[0],
        replicates=[other[0] for other in how.replicates(seen, [final], layer)],
        restarts=[other[0] for other in how.restarts(seen, [final], layer)],
        lost=how.lost,
        dead=int(how.dead(seen, final, layer).sum()),
        converged=None if quality is None else quality.converged,
        distortion=None if quality is None else float(mean_of_defined(quality.distortion)),
    )
    return count(estimates, how.objects(seen), cut.thresholds, cut.level)


def _unconverged(
    how: ConceptLook, seen: Seen, checkpoints: Sequence[Checkpoint], layer: str
) -> tuple[int, int]:
    """How many live maps of all checkpoints did not converge, of how many."""
    flags = []
    for checkpoint in dict.fromkeys(checkpoints):
        quality = how.quality(seen, checkpoint, layer)
        if quality is not None:
            flags.append(quality.converged[~how.dead(seen, checkpoint, layer)])
    every = np.concatenate(flags) if flags else np.ones(0, dtype=bool)
    return int((~every).sum()), len(every)


def _curve(how: ConceptLook, seen: Seen, run: Run, layer: str, epochs: Sequence[int]) -> Curve:
    if not epochs:
        return Curve(np.zeros(0), np.zeros(0))
    objects, h = how.objects(seen), how.entropies(seen, run.at(epochs), layer)
    at_b = how.found(h, objects)[[how.scope.discarding.headline]]
    foreground, background = sides(at_b, h, objects)  # (1, k, n)
    return Curve(mean_of_defined(foreground[0]), mean_of_defined(background[0]))


def _saturated(
    runs: Mapping[str, Mapping[str, ConceptCount]], headline: int
) -> dict[str, list[str]]:
    return {
        layer: [run for run, at in runs.items() if at[layer].foreground_area[headline] > SATURATION]
        for layer in next(iter(runs.values()))
    }
