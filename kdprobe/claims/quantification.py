"""Does distillation make students learn more, earlier together, and straighter?  H1, H2 and H3.

    H1  N_fg(S) > N_fg(B),  N_bg(S) < N_bg(B),  lambda(S) > lambda(B)
    H2  D_mean(S) < D_mean(B)  and  D_var(S) < D_var(B), D by the checkpoints of the layer
    H3  rho(S) > rho(B)

S a distilled student, B the baseline of the same seed, judged per layer and student arm by a
bootstrap paired over seeds and images, Holm-adjusted over layers and parts, from three seeds on
(three decide only where they agree very well). The paper judges by eye, one seed, row by row; here
a claim holds when all its parts are significant, and is contradicted when one is significant the
other way.

Source: Cheng et al. 2020, arXiv:2003.03622, section 3.

Axes: r seeds, n images, b thresholds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kdprobe.claims.contract import claim
from kdprobe.pairing import pairs_by_arm
from kdprobe.results import Estimate, MetricReport, Outcome, Results, SweepPoint, Verdict
from kdprobe.stats import (
    Difference,
    Statistic,
    holm,
    mean_of_defined,
    outcome,
    paired_bootstrap,
    variance_of_defined,
)

Array = NDArray[np.float64]
Layer = Mapping[str, Any]  # the values of one run at one layer
SOURCE = "Cheng et al. 2020, arXiv:2003.03622"
SEEDS = 3  # fewer do not show how much training runs differ


@dataclass(frozen=True)
class Part:
    """One compared quantity of a hypothesis."""

    quantity: str
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


def _count(kind: str) -> Callable[[Layer, int], Array]:
    return lambda values, b: _floats(values[kind][b])


def _share(values: Layer, b: int) -> Array:
    foreground, background = _floats(values["foreground"][b]), _floats(values["background"][b])
    total = foreground + background
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, foreground / total, np.nan)


def _distance(values: Layer, b: int) -> Array:
    peak, path = np.asarray(values["peak"][b]), _floats(values["path"])
    return np.where(peak >= 0, path[np.maximum(peak, 0)], np.nan)


def _ratio(values: Layer, b: int) -> Array:
    return _floats(values["ratio"][b])


def _floats(values: Sequence[float | None]) -> Array:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


HYPOTHESES = (
    Hypothesis(
        "H1",
        "Distilled students encode more task-relevant and fewer task-irrelevant concepts.",
        "concepts",
        (
            Part("N_fg", "higher", _count("foreground")),
            Part("N_bg", "lower", _count("background")),
            Part("λ", "higher", _share),
        ),
    ),
    Hypothesis(
        "H2",
        "Distilled students learn their concepts earlier and more at the same time.",
        "simultaneity",
        (
            Part("D_mean", "lower", _distance),
            Part("D_var", "lower", _distance, variance_of_defined),
        ),
    ),
    Hypothesis(
        "H3",
        "Distilled students are trained with fewer detours.",
        "stability",
        (Part("ρ", "higher", _ratio),),
    ),
)


@claim(
    "quantification",
    title="Explaining Knowledge Distillation by Quantifying the Knowledge",
    source=SOURCE,
    names=("H1", "H2", "H3"),
)
def quantification(results: Results) -> list[Verdict]:
    """Verdicts on H1, H2 and H3 for every student arm at every layer."""
    pairs = seed_pairs(results)
    found = []
    for hypothesis in HYPOTHESES:
        report = results.metric(hypothesis.metric)
        for arm in _student_arms(results):
            reason = _why_not(report, hypothesis, pairs.get(arm, []))
            if reason or report is None:
                found.append(_not_applicable(hypothesis, arm, reason))
            else:
                found += _judge_arm(hypothesis, report, arm, pairs[arm])
        if not _student_arms(results):
            found.append(_not_applicable(hypothesis, "", "needs a student; this study has none"))
    return found


def seed_pairs(results: Results) -> dict[str, list[tuple[str, str]]]:
    """Ids of (student, baseline) of equal seed, by student arm."""
    pairs = pairs_by_arm(results.study.runs)
    return {arm: [(ours.id, base.id) for ours, base in found] for arm, found in pairs.items()}


def _student_arms(results: Results) -> list[str]:
    return list(dict.fromkeys(run.arm for run in results.study.runs if run.role == "student"))


def _why_not(
    report: MetricReport | None, hypothesis: Hypothesis, pairs: Sequence[tuple[str, str]]
) -> str:
    if report is None:
        return f"metric '{hypothesis.metric}' was not asked for"
    if report.status == "not applicable":
        return report.reason
    if not pairs:
        return (
            "needs a baseline of the same seed for at least one student; found none: "
            "give every run its seed in the manifest"
        )
    return ""


def _not_applicable(hypothesis: Hypothesis, arm: str, reason: str) -> Verdict:
    return Verdict(
        claim=hypothesis.name,
        statement=hypothesis.statement,
        source=SOURCE,
        arm=arm,
        layer="",
        outcome="not applicable",
        reason=reason,
    )


def _judge_arm(
    hypothesis: Hypothesis, report: MetricReport, arm: str, pairs: Sequence[tuple[str, str]]
) -> list[Verdict]:
    """One verdict a layer, with the outcomes along the sweep over b."""
    values: Any = report.values
    runs, thresholds, headline = values["runs"], values["thresholds"], values["headline"]
    layers = list(runs[pairs[0][0]])
    by_b = [estimates(hypothesis, runs, pairs, layers, index) for index in range(len(thresholds))]
    main, images = by_b[headline]
    found = []
    for layer in layers:
        points = tuple(
            SweepPoint(b=b, outcome=conjunction(at[layer], len(pairs)))
            for b, (at, _) in zip(thresholds, by_b, strict=True)
        )
        decided = conjunction(main[layer], len(pairs))
        found.append(
            Verdict(
                claim=hypothesis.name,
                statement=hypothesis.statement,
                source=SOURCE,
                arm=arm,
                layer=layer,
                outcome=decided,
                reason=_reason(main[layer], len(pairs)),
                estimates=tuple(main[layer]),
                seeds=len(pairs),
                images=images[layer],
                sweep=points,
                robust=all(point.outcome == decided for point in points),
            )
        )
    return found


def estimates(
    hypothesis: Hypothesis,
    runs: Mapping[str, Mapping[str, Layer]],
    pairs: Sequence[tuple[str, str]],
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
    pairs: Sequence[tuple[str, str]],
    layer: str,
    b: int,
) -> Difference:
    student = np.stack([part.per_image(runs[s][layer], b) for s, _ in pairs])
    baseline = np.stack([part.per_image(runs[base][layer], b) for _, base in pairs])
    return paired_bootstrap(student, baseline, part.statistic)


def _estimate(part: Part, difference: Difference, p: float) -> Estimate:
    defined = bool(np.isfinite(difference.effect))
    return Estimate(
        quantity=part.quantity,
        effect=difference.effect if defined else None,
        low=difference.low if defined else None,
        high=difference.high if defined else None,
        p_value=p if defined else None,
        wanted=part.wanted,
        outcome=outcome(difference.effect, p, part.wanted) if defined else "undecided",
    )


def conjunction(parts: Sequence[Estimate], seeds: int) -> Outcome:
    """All parts supported, one contradicted, or neither; too few seeds decide nothing."""
    outcomes = [part.outcome for part in parts]
    if seeds < SEEDS:
        return "undecided"
    if "contradicted" in outcomes:
        return "contradicted"
    return "supported" if all(found == "supported" for found in outcomes) else "undecided"


def _reason(parts: Sequence[Estimate], seeds: int) -> str:
    """One plain sentence: which parts hold, which are the other way, which are open."""
    if seeds == 1:
        return "One seed decides nothing: the intervals are over its images alone."
    if seeds < SEEDS:
        return f"{seeds} seeds decide nothing: at least {SEEDS} are needed."
    groups = {
        "as claimed": [p for p in parts if p.outcome == "supported"],
        "significantly the other way": [p for p in parts if p.outcome == "contradicted"],
        "not significant": [p for p in parts if p.outcome == "undecided" and p.effect is not None],
        "not defined on these images": [p for p in parts if p.effect is None],
    }
    told = [f"{_listed(found)} {how}" for how, found in groups.items() if found]
    return "; ".join(told) + "."


def _listed(parts: Sequence[Estimate]) -> str:
    verb = "is" if len(parts) == 1 else "are"
    return f"{', '.join(part.quantity for part in parts)} {verb}"
