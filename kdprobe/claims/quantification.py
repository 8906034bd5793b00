"""Does distillation make students learn more, earlier together, and straighter?  H1, H2 and H3.

    H1  N_fg(S) > N_fg(B),  N_bg(S) < N_bg(B),  lambda(S) > lambda(B)
    H2  D_mean(S) < D_mean(B)  and  D_var(S) < D_var(B), D by the checkpoints of the layer
    H3  rho(S) > rho(B)

S a distilled student, B the baseline of the same seed, judged per layer and student arm by a
bootstrap paired over seeds and images, Holm-adjusted over layers and parts, from three seeds on
(three decide only where they agree very well). The paper judges by eye, one seed, row by row; here
a claim holds when all its parts are significant, and is contradicted when one is significant the
other way. Where the study has controls, the same is judged against each of their arms.

Source: Cheng et al. 2020, arXiv:2003.03622, section 3.

Axes: r seeds, n images, b thresholds.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kdprobe.claims.contract import claim
from kdprobe.claims.controls import against_controls, control_note, control_pairs
from kdprobe.claims.judging import (
    Array,
    Hypothesis,
    Layer,
    Pairs,
    Part,
    conjunction,
    estimates,
    reason,
)
from kdprobe.pairing import pairs_by_arm
from kdprobe.results import MetricReport, Results, SweepPoint, Verdict
from kdprobe.stats import variance_of_defined

WALKED = "path of the weights until an image has most concepts"
SOURCE = "Cheng et al. 2020, arXiv:2003.03622"


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
            Part("N_fg", "concepts on the object, an image", "higher", _count("foreground")),
            Part("N_bg", "concepts off the object, an image", "lower", _count("background")),
            Part("λ", "share of the concepts that is on the object", "higher", _share),
        ),
    ),
    Hypothesis(
        "H2",
        "Distilled students learn their concepts earlier and more at the same time.",
        "simultaneity",
        (
            Part("D_mean", f"{WALKED}, in norms of the weights", "lower", _distance),
            Part(
                "D_var",
                f"variance over images of the {WALKED}",
                "lower",
                _distance,
                variance_of_defined,
            ),
        ),
    ),
    Hypothesis(
        "H3",
        "Distilled students are trained with fewer detours.",
        "stability",
        (Part("ρ", "share of the concepts ever tried that is kept to the end", "higher", _ratio),),
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
    pairs, rivals = seed_pairs(results), control_pairs(results)
    found = []
    for hypothesis in HYPOTHESES:
        report = results.metric(hypothesis.metric)
        for arm in _student_arms(results):
            lack = _why_not(report, hypothesis, pairs.get(arm, []))
            if lack or report is None:
                found.append(_not_applicable(hypothesis, arm, lack))
            else:
                found += _judge_arm(hypothesis, report, arm, pairs[arm], rivals[arm])
        if not _student_arms(results):
            found.append(_not_applicable(hypothesis, "", "needs a student; this study has none"))
    return found


def seed_pairs(results: Results) -> dict[str, list[tuple[str, str]]]:
    """Ids of (student, baseline) of equal seed, by student arm."""
    pairs = pairs_by_arm(results.study.runs)
    return {arm: [(ours.id, base.id) for ours, base in found] for arm, found in pairs.items()}


def _student_arms(results: Results) -> list[str]:
    return list(dict.fromkeys(run.arm for run in results.study.runs if run.role == "student"))


def _why_not(report: MetricReport | None, hypothesis: Hypothesis, pairs: Pairs) -> str:
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


def _not_applicable(hypothesis: Hypothesis, arm: str, lack: str) -> Verdict:
    return Verdict(
        claim=hypothesis.name,
        statement=hypothesis.statement,
        source=SOURCE,
        arm=arm,
        layer="",
        outcome="not applicable",
        reason=lack,
    )


def _judge_arm(
    hypothesis: Hypothesis,
    report: MetricReport,
    arm: str,
    pairs: Pairs,
    rivals: Mapping[str, Pairs],
) -> list[Verdict]:
    """One verdict a layer: the outcomes along the sweep over b, and against every control."""
    values: Any = report.values
    runs, thresholds, headline = values["runs"], values["thresholds"], values["headline"]
    layers = list(runs[pairs[0][0]])
    by_b = [estimates(hypothesis, runs, pairs, layers, index) for index in range(len(thresholds))]
    main, images = by_b[headline]
    controls = against_controls(hypothesis, runs, rivals, layers, headline)
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
                reason=reason(main[layer], len(pairs)),
                estimates=tuple(main[layer]),
                seeds=len(pairs),
                images=images[layer],
                sweep=points,
                robust=all(point.outcome == decided for point in points),
                controls=controls[layer],
                control_note=control_note(decided, controls[layer]),
            )
        )
    return found
