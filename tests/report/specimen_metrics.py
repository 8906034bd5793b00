"""Made-up metric reports that hold every kind of panel; `specimen.py` puts them together."""

import math

import numpy as np
from specimen_gallery import viewer
from specimen_label import ARMS, EPOCHS, LAYERS, labelled
from specimen_maps import landscape, similarity
from specimen_overlays import attributions

from kdprobe.panels import (
    Effect,
    Forest,
    Lines,
    Panel,
    Series,
    Table,
    Text,
)
from kdprobe.results import MetricReport


def metrics() -> tuple[MetricReport, ...]:
    """Eight measured metrics and one that is not applicable."""
    return (
        _accuracy(),
        _fidelity(),
        _concepts(),
        _simultaneity(),
        _stability(),
        similarity(),
        landscape(),
        attributions(),
        _calibration(),
    )


ACCURACY = {
    "teacher": 0.923,
    "baseline-seed0": 0.818,
    "baseline-seed1": 0.824,
    "baseline-seed2": 0.809,
    "kd-seed0": 0.861,
    "kd-seed1": 0.858,
    "kd-seed2": 0.867,
    "feature-seed0": 0.842,
    "feature-seed1": 0.829,
    "feature-seed2": 0.836,
}


def _fidelity() -> MetricReport:
    agreement = {run: 0.55 + value * 0.4 for run, value in ACCURACY.items() if run != "teacher"}
    table = Table(
        title="Agreement with the teacher",
        name="fidelity",
        how_to_read="Agreement is the share of held-out images on which both name the same class.",
        columns=("run", "accuracy", "agreement", "KL (nats)"),
        rows=tuple(
            (run, ACCURACY[run], value, round(0.9 - value * 0.8, 4))
            for run, value in agreement.items()
        ),
    )
    forest = Forest(
        title="Agreement gained over the baseline",
        how_to_read="Right of the dashed line, the student agrees more with the teacher than the "
        "baseline of the same seed does. Bars are 95% intervals over images and seeds.",
        x_label="difference in agreement",
        effects=(
            Effect(name="kd", value=0.081, low=0.043, high=0.118, verdict="supported"),
            Effect(name="feature", value=0.019, low=-0.012, high=0.052, verdict="undecided"),
            Effect(name="feature, teacher wrong", value=-0.03, low=-0.05, high=-0.01),
        ),
    )
    return labelled(
        "fidelity",
        "Fidelity to the teacher",
        "Does the student answer as the teacher does?",
        [table, forest],
        definition="agreement = mean[argmax s = argmax t];  KL = mean KL(p_t || p_s)",
        source="Stanton et al. 2021, arXiv:2106.05945",
        settings={"images": 1000, "split": "test"},
    )


def _accuracy() -> MetricReport:
    rows = tuple((run, round(100 * share, 2)) for run, share in ACCURACY.items())
    table = Table(
        title="Accuracy of every run", columns=("run", "accuracy %"), rows=rows, name="accuracy"
    )
    return labelled(
        "accuracy",
        "Accuracy",
        "How good is each network?",
        [table],
        values={"runs": [{"run": run, "accuracy": share} for run, share in ACCURACY.items()]},
    )


def _concepts() -> MetricReport:
    counts = [
        Lines(
            title=f"{name} over training, {layer}",
            how_to_read="One line is the mean over three seeds; the band is its 95% interval.",
            x_label="epoch",
            y_label=f"{sign} (cells)",
            series=_growth(seed * 7 + place),
        )
        for seed, layer in enumerate(LAYERS)
        for place, (name, sign) in enumerate(
            (("Concepts on the object", "N_fg"), ("Concepts off the object", "N_bg"))
        )
    ]
    return labelled(
        "concepts",
        "Visual concepts",
        "Which parts of an image does a layer keep, and do they lie on the object?",
        [viewer(), *counts],
        definition="a cell is a visual concept when Hbar - H_c > b;  "
        "lambda = mean N_fg / (N_fg + N_bg)",
        source="Cheng et al. 2020, arXiv:2003.03622, section 3",
        better="higher",
        settings={"images": 32, "b": 0.2, "grid": 16, "probes": 64, "layers": list(LAYERS)},
    )


def _growth(seed: int) -> tuple[Series, ...]:
    rng = np.random.default_rng(seed)
    networks = (("teacher", "teacher"), *ARMS)
    series = []
    for name, role in networks:
        top, rate = 30 + 12 * rng.random(), 0.25 + 0.4 * rng.random()
        y = [top * (1 - math.exp(-rate * epoch)) + rng.normal(0, 0.6) for epoch in EPOCHS]
        spread = 1.0 + 1.5 * rng.random()
        series.append(
            Series(
                name=name,
                role=role,
                x=tuple(map(float, EPOCHS)),
                y=tuple(y),
                low=tuple(value - spread for value in y),
                high=tuple(value + spread for value in y),
            )
        )
    return tuple(series)


def _simultaneity() -> MetricReport:
    panels: list[Panel] = [
        Text(
            title="What is compared",
            text="Weight distance is the length of the path that the weights walked, in units of "
            "their initial norm, up to the checkpoint at which an image has most concepts.",
        ),
        Lines(
            title="Weight distance walked, logits",
            how_to_read="A line that is flat early: the network was soon near its end.",
            x_label="epoch",
            y_label="path length / initial norm",
            series=_growth(91),
        ),
    ]
    return labelled(
        "simultaneity",
        "Learning simultaneity",
        "Are the concepts learned early, and all at one time?",
        panels,
        definition="D_mean = mean_x d(x);  D_var = var_x d(x)",
        source="Cheng et al. 2020, arXiv:2003.03622, section 3.2",
        better="lower",
    )


def _stability() -> MetricReport:
    return labelled(
        "stability",
        "Stability of what is learned",
        "How many of the concepts that were ever tried are kept to the end?",
        [
            Lines(
                title=f"rho up to each checkpoint, {layer}",
                how_to_read="1: no concept that was ever tried is lost; the band spans the seeds.",
                x_label="epoch",
                y_label="rho",
                series=_growth(50 + place),
            )
            for place, layer in enumerate(LAYERS)
        ],
        definition="rho = mean_x |S_M(x)| / |union_k S_k(x)|",
        source="Cheng et al. 2020, arXiv:2003.03622, section 3.3",
        better="higher",
    )


def _calibration() -> MetricReport:
    return labelled(
        "calibration",
        "Calibration",
        "Is the confidence of the student earned?",
        [],
        status="not applicable",
        reason="the data set has too few images per confidence bin: 32 found, 200 wanted",
    )
