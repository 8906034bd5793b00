"""How does the loss bend around each solution?  Eigenvalues, trace and density of its Hessian."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.errors import UsageError
from kdprobe.metrics.contract import (
    Array,
    Inquiry,
    Roles,
    answered,
    metric,
    page_only,
    roles_of,
)
from kdprobe.metrics.curvature_page import (
    Bend,
    LayerBend,
    density_panel,
    layer_panel,
    layer_table,
    table,
)
from kdprobe.metrics.curvature_remarks import rough, unsettled
from kdprobe.metrics.effects import forest, over_seeds
from kdprobe.metrics.scope import Scope
from kdprobe.panels import Forest, Panel
from kdprobe.probes.contract import sight
from kdprobe.stats import Difference
from kdprobe.study import Run, Study

FEWEST = 2  # draws without which there is no standard error


@dataclass(frozen=True)
class Curvature:
    """The Hessian of the loss at every network."""

    images: int
    tolerance: float  # asked for: bound of an eigenvalue, of itself
    trace_tolerance: float  # asked for: standard error of the trace, of itself
    runs: Mapping[str, Bend]
    effects: Mapping[str, Difference]  # by arm and number: student minus baseline of its logarithm
    most_steps: int = page_only()
    roles: Roles = page_only()
    reasons: Sequence[str] = page_only()

    def panels(self) -> list[Panel]:
        return [
            density_panel(self.runs, self.roles, self.images),
            layer_panel(self.runs, self.roles),
            *([self._forest()] if self.effects else []),
            table(self.runs, self.images),
            layer_table(self.runs),
        ]

    def _forest(self) -> Forest:
        return forest(
            "Curvature against the baseline's",
            "ln(student / baseline)",
            self.effects,
            "Below 0 the loss bends less around the student: -0.69 is half as much. The scale of "
            "a Hessian depends on how a function is written in weights, so only networks of the "
            "baseline's architecture stand here.",
        )

    def findings(self) -> list[str]:
        """What was not found as precisely as was asked for."""
        return [
            *unsettled(self.runs, self.tolerance, self.most_steps),
            *rough(self.runs, self.trace_tolerance),
        ]

    def lacking(self) -> Sequence[str]:
        return self.reasons


def error_of(values: Array) -> Array:
    """Standard error of the mean over the first axis."""
    return np.asarray(values.std(axis=0, ddof=1) / np.sqrt(len(values)))


def negative_share(density: Array) -> Array:
    """(m,) sum of |lambda| over eigenvalues below 0, over that of all; from (m, i, 2)."""
    nodes, weights = density[..., 0], density[..., 1]
    sizes = weights * np.abs(nodes)
    whole = sizes.sum(1)
    return np.asarray((sizes * (nodes < 0)).sum(1) / np.where(whole > 0, whole, 1))


def bend_of(seen: Mapping[str, Array]) -> Bend:
    """The numbers of one network from what the probe saw."""
    drawn = seen["known"] + seen["drawn"]  # (s, l)
    whole = drawn.sum(1)
    share, before = (negative_share(seen[name]) for name in ("density", "density_before"))
    groups = seen["groups"]
    names = sorted(
        (name.removeprefix("layer/") for name in seen if name.startswith("layer/")),
        key=lambda name: int(seen[f"layer/{name}"]),
    )
    blocks = seen.get("blocks")
    layers = {
        name: LayerBend(
            weights=int(seen["sizes"][i]),
            trace=float(drawn[:, i].mean()),
            trace_error=float(error_of(drawn[:, i])),
            top=None if blocks is None else float(blocks[i, 0]),
            top_bound=None if blocks is None else float(blocks[i, 1]),
        )
        for i, name in enumerate(names)
    }
    return Bend(
        eigenvalues=seen["eigenvalues"][:, 0],
        bounds=seen["eigenvalues"][:, 1],
        image_error=float(error_of(groups)) if len(groups) > 1 else None,
        steps=int(seen["steps"]),
        least=float(seen["least"][0]),
        least_bound=float(seen["least"][1]),
        trace=float(whole.mean()),
        trace_error=float(error_of(whole)),
        draws=len(whole),
        negative_share=float(share.mean()),
        negative_share_error=float(np.hypot(error_of(share), np.mean(share - before))),
        layers=layers,
        nodes=seen["density"][..., 0],
        masses=seen["density"][..., 1],
    )


def effects_of(study: Study, bends: Mapping[Run, Bend]) -> dict[str, Difference]:
    """Student minus baseline of the logarithm, where both are of one architecture and above 0."""
    found: dict[str, Difference] = {}
    alike = [run for run in bends if run.role != "teacher" and _like_the_baseline(study, run)]
    for name, number in (
        ("largest eigenvalue", lambda bend: float(bend.eigenvalues[0])),
        ("trace", lambda bend: bend.trace),
    ):
        values = {run.id: number(bends[run]) for run in alike}
        logs = {run: float(np.log(value)) for run, value in values.items() if value > 0}
        found |= {f"{arm}, {name}": one for arm, one in over_seeds(study, logs).items()}
    return found


def _like_the_baseline(study: Study, run: Run) -> bool:
    return any(run.entry.network == other.entry.network for other in study.baselines)


def _must_be_possible(draws: int, probes: int, tolerance: float, trace_tolerance: float) -> None:
    for name, count in (("draws", draws), ("probes", probes)):
        if count < FEWEST:
            raise UsageError(
                f"setting curvature.{name} is {count}; wanted at least {FEWEST}: "
                "one alone does not show its error"
            )
    for name, value in (("tolerance", tolerance), ("trace_tolerance", trace_tolerance)):
        if value <= 0:
            raise UsageError(f"setting curvature.{name} is {value:g}; wanted a number above 0")


@metric(
    "curvature",
    title="Curvature of the loss",
    question="How sharply does the loss bend around each solution, and where?",
    source="Ghorbani et al. 2019, arXiv:1901.10159 (density); Meyer et al. 2021, "
    "arXiv:2010.09649 (trace)",
    better="neither",
    range=(0.0, 1.0),
    ranged=("negative_share",),
    place=75,
)
def curvature(
    study: Study,
    scope: Scope,
    *,
    images: int = 48,
    top: int = 3,
    tolerance: float = 1e-3,
    steps: int = 60,
    trace_tolerance: float = 0.05,
    draws: int = 32,
    probes: int = 3,
    probe_steps: int = 12,
    per_layer: bool = True,
) -> Inquiry[Curvature]:
    """H = d2 L / dw2, L the mean cross-entropy (nats) over held-out images, w all weights.

    At the last epoch that the learners share, BatchNorm with its stored statistics; its scale and
    shift are weights too. Units are nats per squared unit of weight.

    Eigenvalues: the `top` largest, and the least, by Lanczos with full reorthogonalisation, each
    with its bound ||H x - lambda x||: an eigenvalue lies within it. It stops when the bounds of
    the largest are within `tolerance` of them, and that of the least within `tolerance` of the
    largest in size, or after `steps`; then it says so. Groups of images show how much the largest
    would change with the images, to first order. Trace: known exactly on Lanczos's space, and by
    random signs beyond it (Hutch++), until its standard error is `trace_tolerance` of it or after
    `draws`. Layers: trace and largest eigenvalue of a layer's own diagonal block.

    Density: stochastic Lanczos quadrature, the mean of the Gauss and the anti-Gauss rule, `probes`
    vectors of `probe_steps` steps each, the converged eigenvectors taken out first and put back
    exactly. Negative share: sum of |lambda| over the eigenvalues below 0, over that of all; its
    error is that over the vectors, and what the last step changed.
    """
    _must_be_possible(draws, probes, tolerance, trace_tolerance)
    asked = {
        run: sight(
            "hessian",
            study.final(run),
            images=images,
            top=top,
            tolerance=float(tolerance),
            steps=steps,
            trace_tolerance=float(trace_tolerance),
            draws=draws,
            probes=probes,
            probe_steps=probe_steps,
            per_layer=per_layer,
        )
        for run in study.runs
    }
    seen, reasons = answered((yield list(asked.values())), asked)
    bends = {run: bend_of(found) for run, found in seen.items()}
    return Curvature(
        images=min(int(found["images"]) for found in seen.values()),
        tolerance=tolerance,
        trace_tolerance=trace_tolerance,
        runs={run.id: bend for run, bend in bends.items()},
        effects=effects_of(study, bends),
        most_steps=steps,
        roles=roles_of(study.runs),
        reasons=reasons,
    )
