"""Made-up heat maps and surfaces."""

import numpy as np
from specimen_label import ARMS, labelled

from kdprobe.panels import Heatmap, Panel, Surface
from kdprobe.results import MetricReport


def similarity() -> MetricReport:
    """Ten heat maps."""
    taps = ("stage1", "stage2", "stage3", "pool", "logits")
    networks = [f"{arm}-seed{seed}" for arm, _ in ARMS for seed in range(3)] + ["kd, mean"]
    panels: list[Panel] = []
    for place, name in enumerate(networks):
        rng = np.random.default_rng(place)
        gap = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
        values = np.clip(np.exp(-gap / 2.5) * 0.92 + rng.normal(0, 0.03, (5, 5)), 0, 1)
        panels.append(
            Heatmap(
                title=f"{name} and the teacher",
                how_to_read="1: the layers carry the same geometry; 0: nothing in common.",
                values=tuple(tuple(map(float, row)) for row in values),
                rows=taps,
                columns=taps,
                row_label="student layer",
                column_label="teacher layer",
                low=0.0,
                high=1.0,
            )
        )
    return labelled(
        "cka",
        "Similarity of layers (CKA)",
        "Do student and teacher layers carry the same geometry?",
        panels,
        definition="CKA(X, Y) = ||Yc' Xc||^2 / (||Xc' Xc|| ||Yc' Yc||)",
        source="Kornblith et al. 2019, arXiv:1905.00414, section 3",
    )


def landscape() -> MetricReport:
    """Four surfaces."""
    steps = np.linspace(-1, 1, 21)
    panels: list[Panel] = []
    for place, name in enumerate(("teacher", "baseline-seed0", "kd-seed0", "feature-seed0")):
        bend = 1.0 + 0.6 * place
        x, y = np.meshgrid(steps, steps)
        z = 0.3 + bend * (x**2 + 0.7 * y**2) + 0.3 * np.sin(3 * x + place) * y
        panels.append(
            Surface(
                title=f"Loss around {name}",
                how_to_read="Lines join equal loss; wide spacing means flat ground.",
                x=tuple(map(float, steps)),
                y=tuple(map(float, steps)),
                z=tuple(tuple(map(float, row)) for row in z),
                x_label="direction 1",
                y_label="direction 2",
                z_label="loss",
            )
        )
    return labelled(
        "landscape",
        "Loss landscape",
        "How flat is the ground on which the networks stand?",
        panels,
        definition="L(a, b) = loss(w + a d1 + b d2), d filter-normalised",
        source="Li et al. 2018, arXiv:1712.09913, section 4",
        better="lower",
    )
