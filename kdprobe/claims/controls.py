"""Is it knowledge, or only regularisation?  The same hypothesis against every arm of controls.

A control, such as a network that learns from smoothed labels, is regularised as a student is but
learns nothing of the teacher's. What a student has beyond the baseline and not beyond the control
need not be the teacher's knowledge.

Source: Yuan et al. 2020, arXiv:1909.11723, section 3 (distillation as label smoothing).
"""

from collections.abc import Mapping, Sequence

from kdprobe.claims.judging import Hypothesis, Layer, Pairs, conjunction, estimates, reason
from kdprobe.pairing import arms_of, pairs_by_arm
from kdprobe.results import AgainstControl, Outcome, Results

NO_PAIR = "No run of this control has the seed of a student."


def control_pairs(results: Results) -> dict[str, dict[str, Pairs]]:
    """Ids of (student, control) of equal seed, by student arm, then by control arm.

    Every arm of controls is there; its pairs are none where it shares no seed with the students.
    """
    runs = results.study.runs
    found: dict[str, dict[str, Pairs]] = {arm: {} for arm in arms_of(runs, "student")}
    for control, others in arms_of(runs, "control").items():
        pairs = pairs_by_arm(runs, others)
        for arm, rivals in found.items():
            rivals[control] = [(ours.id, other.id) for ours, other in pairs.get(arm, [])]
    return found


def against_controls(
    hypothesis: Hypothesis,
    runs: Mapping[str, Mapping[str, Layer]],
    rivals: Mapping[str, Pairs],
    layers: Sequence[str],
    b: int,
) -> dict[str, tuple[AgainstControl, ...]]:
    """By layer, the hypothesis against every control at the threshold of index `b`.

    p-values are adjusted over the layers and parts of each comparison, as against the baseline.
    """
    found: dict[str, tuple[AgainstControl, ...]] = {layer: () for layer in layers}
    for arm, pairs in rivals.items():
        if not pairs:
            unpaired = AgainstControl(arm=arm, outcome="not applicable", reason=NO_PAIR)
            found = {layer: (*so_far, unpaired) for layer, so_far in found.items()}
            continue
        parts, images = estimates(hypothesis, runs, pairs, layers, b)
        for layer in layers:
            judged = AgainstControl(
                arm=arm,
                outcome=conjunction(parts[layer], len(pairs)),
                reason=reason(parts[layer], len(pairs)),
                estimates=tuple(parts[layer]),
                seeds=len(pairs),
                images=images[layer],
            )
            found[layer] = (*found[layer], judged)
    return found


def control_note(decided: Outcome, controls: Sequence[AgainstControl]) -> str:
    """One sentence on what the controls leave of a supported verdict; "" where nothing is to say.

    A control that could not be judged, or of too few seeds, leaves it open and so does not support.
    """
    if decided != "supported" or not controls:
        return ""
    lost = [found.arm for found in controls if found.outcome != "supported"]
    if lost:
        return (
            f"Not supported against {_named(lost)}: "
            "what was gained may be regularisation, not knowledge."
        )
    whose = "its" if len(controls) == 1 else "their"
    return (
        f"Supported against {_named([found.arm for found in controls])} too: "
        f"regularisation of {whose} kind does not explain it."
    )


def _named(arms: Sequence[str]) -> str:
    *others, last = [f"'{arm}'" for arm in arms]
    return f"controls {', '.join(others)} and {last}" if others else f"control {last}"
