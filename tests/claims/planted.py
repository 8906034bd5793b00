"""Results made by hand, in which the truth is planted."""

from typing import Any

import numpy as np
from plain import metric_report

from kdprobe.claims.quantification import quantification
from kdprobe.results import MetricReport, Results, RunSummary, StudySummary, Verdict

IMAGES, THRESHOLDS = 40, [0.2, 1.0]
METRIC = {"H1": "concepts", "H2": "simultaneity", "H3": "stability"}


def spread(mean: float, seed: int, scale: float = 1.0) -> list[float]:
    return (mean + scale * np.random.default_rng(seed).normal(size=IMAGES)).tolist()


def counts(fg: float, bg: float, seed: int) -> dict[str, Any]:
    return {
        "foreground": [spread(fg, seed)] * 2,
        "background": [spread(bg, seed + 50)] * 2,
    }


def learning(early: bool, seed: int) -> dict[str, Any]:
    """Peaks at checkpoint 1 of nearly all images, or anywhere."""
    chance = np.random.default_rng(seed)
    peak = np.where(
        chance.random(IMAGES) < (0.95 if early else 0.3), 1, chance.integers(2, 5, IMAGES)
    )
    return {"peak": [peak.tolist()] * 2, "path": [0.0, 1.0, 2.0, 5.0, 9.0]}


def ratios(mean: float, seed: int) -> dict[str, Any]:
    return {"ratio": [spread(mean, seed, 0.05)] * 2}


def values(name: str, student: bool, better: int, seed: int) -> dict[str, Any]:
    """One run's numbers; a student's are better (1) or worse (-1) than a baseline's, or alike."""
    shift = better if student else 0
    if name == "H1":
        return counts(20 + 5 * shift, 15 - 5 * shift, seed + 7 * student)
    if name == "H2":
        return learning(early=shift > 0 or (not student and better < 0), seed=seed + 7 * student)
    return ratios(0.6 + 0.2 * shift, seed + 7 * student)


def summary(id: str, role: str, arm: str, seed: int | None) -> RunSummary:
    facts = {"model": "m", "parameters": 1, "epochs": (0, 1), "digest": ""}
    return RunSummary(id=id, role=role, arm=arm, seed=seed, **facts)


def report(key: str, found: dict[str, Any], **changes: Any) -> MetricReport:
    return metric_report(key, values=found, **({"better": "higher"} | changes))


def results(
    name: str,
    better: int = 1,
    seeds: int = 3,
    layers: tuple[str, ...] = ("logits",),
    **changes: Any,
) -> Results:
    """A study of one arm in which one hypothesis has numbers."""
    people = [("b", "baseline", "baseline"), ("s", "student", "kd")]
    runs = [summary(f"{n}{i}", role, arm, i) for i in range(seeds) for n, role, arm in people]
    measured = {
        run.id: {
            layer: values(name, run.role == "student", better, 10 * run.seed) for layer in layers
        }
        for run in runs
    }
    found = {"thresholds": THRESHOLDS, "headline": 0, "runs": measured}
    facts = {
        "kdprobe_version": "0",
        "study": StudySummary(name="s", dataset="d", classes=("a",), runs=runs),
        "metrics": (report(METRIC[name], found),),
    }
    return Results(**{**facts, **changes})


def the(name: str, found: Results) -> Verdict:
    (verdict,) = [v for v in quantification(found) if v.claim == name]
    return verdict
