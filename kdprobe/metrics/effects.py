"""What is the difference to the baseline?  Student minus baseline of the same seed, by arm.

With one number an image the error bars are over seeds and images (`kdprobe.stats`); with one number
a run they are over seeds alone, and fewer than three seeds have none.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from kdprobe.metrics.contract import Array
from kdprobe.pairing import pairs_by_arm
from kdprobe.panels import Effect, Forest
from kdprobe.stats import Difference, Statistic, mean_of_defined, over_runs, paired_bootstrap
from kdprobe.study import Study


def over_images(
    study: Study, values: Mapping[str, Array], statistic: Statistic = mean_of_defined
) -> dict[str, Difference]:
    """By student arm, the difference of a statistic of (n,) numbers a run, one an image.

    NaN where an image has none. Runs that `values` lacks are left out, with their partners.
    """
    return {
        arm: paired_bootstrap(
            np.stack([values[ours] for ours, _ in pairs]),
            np.stack([values[theirs] for _, theirs in pairs]),
            statistic,
        )
        for arm, pairs in _pairs(study, values).items()
    }


def over_seeds(study: Study, values: Mapping[str, float]) -> dict[str, Difference]:
    """By student arm, the mean difference of one number a run; NaN edges below three seeds."""
    return {
        arm: over_runs([values[ours] for ours, _ in pairs], [values[theirs] for _, theirs in pairs])
        for arm, pairs in _pairs(study, values).items()
    }


def forest(
    title: str,
    x_label: str,
    found: Mapping[str, Difference],
    reading: str = "",
    *,
    what: str = "Student minus baseline of the same seed",
) -> Forest:
    """Effects against the line of no effect, with 95% intervals; `what` minus what they are.

    `found` bears the name of every row; `reading` says what a positive value means.
    """
    seeds = sorted({difference.seeds for difference in found.values()})
    told = " or ".join(map(str, seeds))
    return Forest(
        title=title,
        how_to_read=(
            f"{what}, {told} seed{'s' if seeds != [1] else ''}; "
            f"95% interval where there is one. {reading}"
        ).strip(),
        x_label=x_label,
        effects=tuple(
            Effect(name=name, value=_known(d.effect), low=_known(d.low), high=_known(d.high))
            for name, d in found.items()
        ),
    )


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _pairs(study: Study, values: Mapping[str, object]) -> dict[str, Sequence[tuple[str, str]]]:
    """(student, baseline) ids by arm, both of which `values` knows."""
    by_arm = {
        arm: [(one.id, two.id) for one, two in pairs if {one.id, two.id} <= values.keys()]
        for arm, pairs in pairs_by_arm(study.runs).items()
    }
    return {arm: pairs for arm, pairs in by_arm.items() if pairs}
