"""Are concepts learned early, and at the same time?  Path walked until an image's concepts peak."""

from collections.abc import Mapping, Sequence

import numpy as np

from kdprobe.metrics.contract import Array, Inquiry, Seen, metric, roles_of
from kdprobe.metrics.counting import sides
from kdprobe.metrics.learning_page import UNDEFINED, Learning, Simultaneity, distances
from kdprobe.metrics.looking import ConceptLook, learners
from kdprobe.metrics.scope import Scope
from kdprobe.probes.contract import Sight, sight
from kdprobe.stats import mean_of_defined, variance_of_defined
from kdprobe.study import Checkpoint, Study

NEARLY = 0.95  # of an image's most concepts: the second rule for when it has learned


def peaks(foreground: Array, share: float = 1.0) -> Array:
    """m (..., n): the first checkpoint with at least `share` of the most concepts.

    From counts (..., k, n), NaN where there is none; share 1 is the paper's argmax.
    """
    known = np.where(np.isnan(foreground), 0, foreground)
    most = known.max(axis=-2)
    first = (known >= share * most[..., None, :]).argmax(axis=-2)
    return np.where(most > 0, first, UNDEFINED)


@metric(
    "simultaneity",
    title="Learning simultaneity",
    question="Are concepts learned early, and at the same time?",
    source="Cheng et al. 2020, arXiv:2003.03622, section 3.2",
    better="lower",
    range=(0.0, float("inf")),
    ranged=("path", "path_all", "path_steps", "path_all_steps", "trace", "error"),
    place=40,
)
def simultaneity(study: Study, scope: Scope) -> Inquiry[Simultaneity]:
    """The weight distance that training walks until an image has most task-relevant concepts.

    m(x) = argmax_k N_fg,k(x), the first maximum over checkpoints, and beside it the first
    checkpoint within 95% of the maximum; d(x) = sum_{k=1..m(x)} ||w_k - w_{k-1}|| / ||w_0||, of
    the weights behind the probed layer; D_mean, D_var and D_std are its mean, variance and standard
    deviation over images. Beside it the same of all weights, and summed over every optimiser step
    where the trainer recorded that. The same checkpoints for every network.
    """
    how, cut = ConceptLook(scope, study), scope.discarding
    runs, epochs = learners(study)
    walks = {run: sight("weights", *run.at(epochs), layers=how.layers) for run in runs}
    maps = [how.at(c) for run in runs for c in run.at(epochs)]
    seen = yield [how.pictures, *maps, *walks.values()]
    found = {
        run.id: {layer: _learning(how, seen, walk, run.at(epochs), layer) for layer in how.layers}
        for run, walk in walks.items()
    }
    return Simultaneity(cut.thresholds, cut.headline, epochs, found, roles_of(runs))


def _learning(
    how: ConceptLook, seen: Seen, walk: Sight, course: Sequence[Checkpoint], layer: str
) -> Learning:
    objects, walked = how.objects(seen), seen[walk]
    path = _over(walked[f"moved/{layer}"], walked[f"start/{layer}"])

    def counted(h: Array) -> Array:
        """(b, k, n) task-relevant concepts."""
        return sides(how.found(h, objects), h, objects)[0]

    foreground = counted(how.entropies(seen, course, layer))
    others = [distances(path, peaks(counted(h))) for h in how.replicates(seen, course, layer)]
    spread = [
        np.stack([statistic(d) for d in others]).std(axis=0, ddof=how.lost)
        for statistic in (mean_of_defined, variance_of_defined)
        if others
    ]
    return Learning(
        peak=peaks(foreground),
        near=peaks(foreground, NEARLY),
        error=np.stack(spread, axis=1) if others else np.zeros((len(foreground), 2)),
        trace=foreground[how.scope.discarding.headline],
        path=path,
        path_all=_over(walked["moved/"], walked["start/"]),
        path_steps=_stepped(walked, layer),
        path_all_steps=_stepped(walked, ""),
    )


def _stepped(walked: Mapping[str, Array], layer: str) -> Array | None:
    """(k,) path summed over optimiser steps, from the first checkpoint, over its weights' norm."""
    steps = walked.get(f"stepped/{layer}")
    return None if steps is None else _over(steps - steps[0], walked[f"start/{layer}"])


def _over(path: Array, start: Array) -> Array:
    """`path` (k,) in units of the norm of the first weights; NaN where these are zero."""
    return path / start if start > 0 else np.full(len(path), np.nan)
