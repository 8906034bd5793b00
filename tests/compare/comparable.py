"""Results made by hand: every number known, every metric shaped as the real one shapes it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from plain import metric_report

from kdprobe.comparing.record import Compared, Point, Sample, Side
from kdprobe.results import MetricReport, Outcome, Results, RunSummary, StudySummary, Verdict

ARMS = {"baseline": "baseline", "kd": "student", "feature": "student"}
LAYERS = ("stage3", "logits")
Gains = Mapping[str, float]


def results(
    name: str = "demo",
    *,
    seeds: int = 4,
    gains: Gains | None = None,
    chance: int = 0,
    arms: tuple[str, ...] = tuple(ARMS),
    settings: Mapping[str, Any] | None = None,
    without: tuple[str, ...] = (),
    layers: tuple[str, ...] = LAYERS,
) -> Results:
    """A teacher and `seeds` runs of every arm.

    Args:
        name: of the study.
        seeds: of every arm but the teacher.
        gains: accuracy of an arm above 0.8; rho of an arm above 0.5 is twice that.
        chance: seed of the noise over runs.
        arms: beside the teacher.
        settings: of the metric ``stability``.
        without: metrics that are not applicable.
        layers: of concepts.
    """
    runs = (_run("teacher", "teacher", "teacher", 0),) + tuple(
        _run(f"{arm}-seed{seed}", ARMS.get(arm, "student"), arm, seed)
        for arm in arms
        for seed in range(seeds)
    )
    known = gains or {"kd": 0.05, "feature": 0.02}
    noise = np.random.default_rng(chance)
    gained = {run.id: known.get(run.arm, 0.0) + 0.01 * float(noise.normal()) for run in runs}
    metrics = (
        _accuracy(runs, gained),
        _concepts(runs, gained, layers),
        _stability(runs, gained, layers, settings or {}),
        _cka(runs, gained, layers),
        _unknown(runs, gained),
    )
    return Results(
        kdprobe_version="0.1.0",
        study=StudySummary(name=name, dataset="photodigits", classes=("0", "1"), runs=runs),
        metrics=tuple(_dropped(metric) if metric.key in without else metric for metric in metrics),
        verdicts=_verdicts(arms, layers, seeds),
        provenance={"seed": "0", "device": "cpu"},
    )


def _run(name: str, role: str, arm: str, seed: int) -> RunSummary:
    return RunSummary.model_validate(
        {
            "id": name,
            "role": role,
            "arm": arm,
            "seed": seed,
            "model": "resnet8",
            "parameters": 78042,
            "epochs": (0, 1),
            "digest": "0" * 64,
        }
    )


def report(
    key: str, values: dict[str, Any], settings: Mapping[str, Any] | None = None
) -> MetricReport:
    """A measured metric."""
    return metric_report(
        key, title=f"Title of {key}", settings=dict(settings or {}), values=values, better="higher"
    )


def _dropped(metric: MetricReport) -> MetricReport:
    changes = {"status": "not applicable", "reason": "needs masks", "values": {}}
    return metric.model_copy(update=changes)


def _accuracy(runs: tuple[RunSummary, ...], gained: Gains) -> MetricReport:
    rows = [
        {"run": run.id, "accuracy": 0.8 + gained[run.id], "loss": 0.6 - gained[run.id], "epoch": 1}
        for run in runs
    ]
    return report("accuracy", {"images": 48, "runs": rows})


def _concepts(runs: tuple[RunSummary, ...], gained: Gains, layers: tuple[str, ...]) -> MetricReport:
    def at(run: RunSummary, place: int) -> dict[str, Any]:
        on = 10 + 20 * gained[run.id] + place
        return {
            "foreground": [[0, 0, 0], [on, on + 2, None]],
            "background": [[0, 0, 0], [on, 0, 0]],
            "auroc": [0.7, 0.9],
        }

    found = {run.id: {layer: at(run, i) for i, layer in enumerate(layers)} for run in runs}
    return report("concepts", {"thresholds": [0.1, 0.2], "headline": 1, "runs": found})


def _stability(
    runs: tuple[RunSummary, ...],
    gained: Gains,
    layers: tuple[str, ...],
    settings: Mapping[str, Any],
) -> MetricReport:
    found = {
        run.id: {
            layer: {"ratio": [[0.5 + 2 * gained[run.id] + 0.1 * i, None]], "persistent": [0.5]}
            for i, layer in enumerate(layers)
        }
        for run in runs
        if run.role != "teacher"
    }
    return report("stability", {"headline": 0, "runs": found}, settings)


def _cka(runs: tuple[RunSummary, ...], gained: Gains, layers: tuple[str, ...]) -> MetricReport:
    found = {
        run.id: {
            "layers": list(layers),
            "cka": [[0.5 + gained[run.id] if a == b else 0.1 for b in layers] for a in layers],
        }
        for run in runs
        if run.role != "teacher"
    }
    return report("cka", {"teacher_layers": list(layers), "runs": found})


def _unknown(runs: tuple[RunSummary, ...], gained: Gains) -> MetricReport:
    """Of a third party: no quantity of it is declared."""
    found = {
        run.id: {"speed": 1 + gained[run.id], "speed_error": 9.0, "size": {"value": 3, "error": 1}}
        for run in runs
    }
    return report("theirs", {"runs": found})


def _verdicts(arms: tuple[str, ...], layers: tuple[str, ...], seeds: int) -> tuple[Verdict, ...]:
    def outcome(arm: str, layer: str) -> Outcome:
        return "supported" if arm == "kd" and layer == "logits" and seeds > 2 else "undecided"

    return tuple(
        Verdict(
            claim="H3",
            statement="Fewer detours.",
            source="Cheng et al. 2020",
            arm=arm,
            layer=layer,
            outcome=outcome(arm, layer),
            reason="So it is.",
        )
        for arm in arms
        if ARMS.get(arm) == "student"
        for layer in layers
    )


def sample(*values: float, seeds: tuple[int | None, ...] | None = None) -> Sample:
    """Numbers of runs; seeds 0, 1, ... where none are given."""
    named = seeds if seeds is not None else tuple(range(len(values)))
    return Sample(
        points=tuple(
            Point(run=f"run{place}", seed=seed, value=value)
            for place, (value, seed) in enumerate(zip(values, named, strict=True))
        )
    )


def side(name: str, arm: str = "", study: str = "s") -> Side:
    """A side of which nothing but the names matters."""
    return Side(name=name, study=study, arm=arm, runs=("run0",))


def quantity(name: str = "q", better: str = "higher") -> Compared:
    """A quantity of some metric."""
    return Compared.model_validate(
        {"name": name, "metric": "m", "title": "M", "better": better, "meaning": "it"}
    )
