"""Does a difference bear a hypothesis out?  Two arms of equal seeds, compared part by part.

Every part is a difference by a bootstrap paired over seeds and images, Holm-adjusted over the
layers and parts of one comparison. A hypothesis is supported when all its parts are, and
contradicted when one is significant the other way; fewer than three seeds decide nothing.

Axes: r seeds, n images, b thresholds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kdprobe.results import Estimate, Outcome
from kdprobe.stats import (
    FEWEST_SEEDS,
    Difference,
    Statistic,
    holm,
    mean_of_defined,
    outcome,
    paired_bootstrap,
)

Array = NDArray[np.float64]
Layer = Mapping[str, Any]  # the values of one run at one layer
Pairs = Sequence[tuple[str, str]]  # ids of (student, other) of equal seed


@dataclass(frozen=True)
class Part:
    """One compared quantity of a hypothesis."""

    quantity: str
    meaning: str  # in a few words, with the unit
    wanted: Literal["higher", "lower"]
    per_image: Callable[[Layer, int], Array]  # values, index of b -> (n,)
    statistic: Statistic = mean_of_defined


@dataclass(frozen=True)
class Hypothesis:
    """One of the three, and the metric that it is judged on."""

    name: str
    statement: str
    metric: str
    parts: tuple[Part, ...]


def estimates(
    hypothesis: Hypothesis,
    runs: Mapping[str, Mapping[str, Layer]],
    pairs: Pairs,
    layers: Sequence[str],
    b: int,
) -> tuple[dict[str, list[Estimate]], dict[str, int]]:
    """Every part of a hypothesis at every layer, and the least number of images it rests on.

    p-values are adjusted over the layers and parts of the hypothesis together: it is enough for a
    contradiction that one part is the other way at one layer, and that is what each may cost.
    """
    differences = {
        (part, layer): _difference(part, runs, pairs, layer, b)
        for layer in layers
        for part in hypothesis.parts
    }
    adjusted = holm([difference.p_value for difference in differences.values()])
    found: dict[str, list[Estimate]] = {layer: [] for layer in layers}
    images: dict[str, int] = {}
    for ((part, layer), difference), p in zip(differences.items(), adjusted, strict=True):
        found[layer].append(_estimate(part, difference, p))
        images[layer] = min(difference.images, images.get(layer, difference.images))
    return found, images


def _difference(
    part: Part,
    runs: Mapping[str, Mapping[str, Layer]],
    pairs: Pairs,
    layer: str,
    b: int,
) -> Difference:
    ours = np.stack([part.per_image(runs[student][layer], b) for student, _ in pairs])
    theirs = np.stack([part.per_image(runs[other][layer], b) for _, other in pairs])
    return paired_bootstrap(ours, theirs, part.statistic)


def _estimate(part: Part, difference: Difference, p: float) -> Estimate:
    defined = bool(np.isfinite(difference.effect))
    decided = defined and difference.seeds >= FEWEST_SEEDS  # fewer do not show how runs differ
    return Estimate(
        quantity=part.quantity,
        meaning=part.meaning,
        effect=difference.effect if defined else None,
        low=difference.low if defined else None,
        high=difference.high if defined else None,
        p_value=p if defined else None,
        wanted=part.wanted,
        outcome=outcome(difference.effect, p, part.wanted) if decided else "undecided",
    )


def conjunction(parts: Sequence[Estimate], seeds: int) -> Outcome:
    """All parts supported, one contradicted, or neither; too few seeds decide nothing."""
    outcomes = [part.outcome for part in parts]
    if seeds < FEWEST_SEEDS:
        return "undecided"
    if "contradicted" in outcomes:
        return "contradicted"
    return "supported" if all(found == "supported" for found in outcomes) else "undecided"


def reason(parts: Sequence[Estimate], seeds: int) -> str:
    """One plain sentence: which parts hold, which are the other way, which are open."""
    if seeds == 1:
        return "One seed decides nothing: the intervals are over its images alone."
    if seeds < FEWEST_SEEDS:
        return f"{seeds} seeds decide nothing: at least {FEWEST_SEEDS} are needed."
    groups = {
        "as claimed": [p for p in parts if p.outcome == "supported"],
        "significantly the other way": [p for p in parts if p.outcome == "contradicted"],
        "not significant": [p for p in parts if p.outcome == "undecided" and p.effect is not None],
        "not defined": [p for p in parts if p.effect is None],
    }
    told = [f"{_listed(found)} {how}" for how, found in groups.items() if found]
    return "; ".join(told) + "."


def _listed(parts: Sequence[Estimate]) -> str:
    verb = "is" if len(parts) == 1 else "are"
    return f"{', '.join(part.quantity for part in parts)} {verb}"
