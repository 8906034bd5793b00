"""How did the numbers come about?  Enough to measure them again."""

from importlib.metadata import version

import torch

from kdprobe.analysis import Plan
from kdprobe.loading import build
from kdprobe.taps import find_taps

KINDS = {"post": "after its activation", "pre": "before its activation", "raw": "as it puts out"}


def provenance_of(planned: Plan, command: str) -> dict[str, str]:
    """How the numbers came about: enough to measure them again. No time, no path, no host."""
    scope, cut = planned.scope, planned.scope.discarding
    sample = min(scope.images, scope.available)
    versions = ("kdprobe", "torch", "numpy", "scipy", "scikit-learn")
    return {
        "command": command,
        "seed": str(scope.seed),
        "images for concepts": f"{sample} of the test split, drawn by seed",
        "images digest": planned.images_digest,
        "layers": ", ".join(_kinds(planned)),
        "concept estimator": (
            f"{cut.estimator}: "
            + ", ".join(f"{name} {_told(value)}" for name, value in cut.asked.items())
            + ("; normalised pixels" if cut.estimator == "paper" else "; pixels in [0, 1]")
        ),
        "concept thresholds": (
            f"b = {cut.b:g}; sweep {', '.join(f'{b:g}' for b in cut.thresholds)}; "
            f"level {cut.level}; object {cut.object}"
        ),
        "device": planned.device.type,
        "threads": str(torch.get_num_threads()),
        "versions": ", ".join(f"{name} {version(name)}" for name in versions),
        **{f"checkpoint {run.id}": planned.study.final(run).digest for run in planned.study.runs},
    }


def _kinds(planned: Plan) -> list[str]:
    """Every layer, and where in it the networks are looked into."""
    body = build(planned.study.runs[0].last.network, planned.request.allowed).body
    taps = find_taps(body, planned.scope.layers)
    cut = planned.scope.discarding
    relu = ", then ReLU" if cut.relu or cut.estimator == "paper" else ""
    return [f"{name} ({KINDS[tap.kind]}{relu})" for name, tap in taps.items()]


def _told(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
