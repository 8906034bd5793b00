"""A made-up but plausible analysis: every kind of panel, every outcome, nothing measured."""

import math

import numpy as np
from numpy.typing import NDArray

from kdprobe.panels import (
    Bytes,
    ConceptMap,
    ConceptPicture,
    Effect,
    Forest,
    Gallery,
    Heatmap,
    Lines,
    Panel,
    Series,
    Surface,
    Table,
    Text,
)
from kdprobe.results import (
    Estimate,
    MetricReport,
    Outcome,
    Problem,
    Results,
    RunSummary,
    StudySummary,
    SweepPoint,
    Verdict,
)

LAYERS = ("stage2", "stage3", "logits")
EPOCHS = (0, 1, 2, 4, 6, 8, 10, 12)
ARMS = (("baseline", "baseline"), ("kd", "student"), ("feature", "student"))
Grid = NDArray[np.float64]


def specimen() -> Results:
    """Ten runs, six metrics and eighteen verdicts; the same at every call."""
    return Results(
        kdprobe_version="0.1.0",
        study=_study(),
        metrics=(
            _fidelity(),
            _concepts(),
            _simultaneity(),
            _stability(),
            _similarity(),
            _landscape(),
            _calibration(),
        ),
        verdicts=_verdicts(),
        problems=(
            Problem(subject="kd-seed2", what="epoch-0006 holds NaN weights; it was left out"),
            Problem(subject="feature-seed0", what="no path lengths were recorded while training"),
        ),
        provenance={
            "command": "kdprobe analyze checkpoints/demo --images 32 --seed 0",
            "seed": "0",
            "images": "32 held-out images of photodigits, drawn without replacement",
            "estimator": "closed-form Jacobian, exact at logits, else 64 Hutchinson probes",
            "kdprobe": "0.1.0",
            "torch": "2.13.0",
            "numpy": "2.4.0",
            "device": "cpu, 2 threads",
            "data digest": "9f2c61d07be4d8a35b0c3a54c9a2dd1e0a7c7f1d52ce0b6a1f6e9d0b6c3f8a21",
        },
    )


def _study() -> StudySummary:
    runs = [_run("teacher", "teacher", "teacher", 0, "resnet8_w32", 1_230_000)]
    for arm, role in ARMS:
        runs += [
            _run(f"{arm}-seed{seed}", role, arm, seed, "resnet8_w8", 78_042) for seed in range(3)
        ]
    return StudySummary(
        name="demo", dataset="photodigits", classes=tuple("0123456789"), runs=tuple(runs)
    )


def _run(name: str, role: str, arm: str, seed: int, model: str, parameters: int) -> RunSummary:
    return RunSummary.model_validate(
        {
            "id": name,
            "role": role,
            "arm": arm,
            "seed": seed,
            "model": model,
            "parameters": parameters,
            "epochs": EPOCHS,
            "digest": f"{abs(hash_of(name)):016x}" * 4,
        }
    )


def hash_of(text: str) -> int:
    """A number from a text that is the same in every process."""
    return sum((place + 1) * 7919 * ord(letter) for place, letter in enumerate(text))


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


def _metric(
    key: str, title: str, question: str, panels: list[Panel], **facts: object
) -> MetricReport:
    return MetricReport.model_validate(
        {
            "key": key,
            "title": title,
            "question": question,
            "definition": "",
            "source": "",
            "better": "neither",
            "settings": {},
            "status": "measured",
            "panels": panels,
            **facts,
        }
    )


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
    return _metric(
        "fidelity",
        "Fidelity to the teacher",
        "Does the student answer as the teacher does?",
        [table, forest],
        definition="agreement = mean[argmax s = argmax t];  KL = mean KL(p_t || p_s)",
        source="Stanton et al. 2021, arXiv:2106.05945",
        better="higher",
        settings={"images": 1000, "split": "test"},
        values={"accuracy": dict(ACCURACY)},
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
    galleries = [_gallery(layer, place) for place, layer in enumerate(LAYERS)]
    return _metric(
        "concepts",
        "Visual concepts",
        "Which parts of an image does a layer keep, and do they lie on the object?",
        [*galleries, *counts],
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


def _gallery(layer: str, place: int) -> Gallery:
    return Gallery(
        title=f"What {layer} keeps",
        layer=layer,
        how_to_read="Bright cells are kept, dark cells are discarded. White outlines mark visual "
        "concepts, the cyan outline marks the object: concepts inside it are task-relevant.",
        pictures=tuple(_picture(place * 10 + number, number) for number in range(6)),
    )


def _picture(seed: int, number: int) -> ConceptPicture:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:32, 0:32] / 31.0
    inside = _ring(x, y, 0.35 + 0.3 * rng.random(), 0.4 + 0.2 * rng.random())
    ground = np.stack(
        [0.5 + 0.4 * np.sin(3 * x + k + number) * np.cos(4 * y - k) for k in range(3)]
    )
    ink = rng.random(3)[:, None, None]
    pixels = np.where(inside, 0.25 * ink, ground) + rng.normal(0, 0.03, (3, 32, 32))
    maps = tuple(
        _map(inside[::2, ::2], network, role, rng, strength)
        for network, role, strength in (
            ("teacher", "teacher", 1.1),
            ("baseline-seed0", "baseline", 0.45),
            ("kd-seed0", "student", 0.8),
        )
    )
    return ConceptPicture(
        name=f"test-{seed:04d}",
        label=str(number),
        pixels=Bytes.pack(np.clip(pixels, 0, 1).transpose(1, 2, 0) * 255),
        object=Bytes.pack(inside * 255.0),
        maps=maps,
    )


def _ring(x: Grid, y: Grid, centre_x: float, centre_y: float) -> NDArray[np.bool_]:
    radius = np.hypot((x - centre_x) * 1.3, y - centre_y)
    return (radius > 0.12) & (radius < 0.27)


def _map(
    inside: NDArray[np.bool_], name: str, role: str, rng: np.random.Generator, strength: float
) -> ConceptMap:
    rough = rng.normal(0, 0.35, (16, 16))
    smooth = sum(np.roll(rough, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)) / 3.0
    entropy = -3.0 + smooth * 0.5 - strength * inside
    concept = (entropy[~inside].mean() - entropy) > 0.35
    return ConceptMap(
        network=name,
        role=role,
        entropy=Bytes.pack(entropy, float(entropy.min()), float(entropy.max())),
        concepts=Bytes.pack(concept * 255.0),
    )


def _simultaneity() -> MetricReport:
    panels: list[Panel] = [
        Text(
            title="What is compared",
            text="Weight distance is the length of the path that the weights walked, in units of "
            "their initial norm, up to the checkpoint at which an image has most concepts.",
        ),
        Lines(
            title="Weight distance walked, logits",
            x_label="epoch",
            y_label="path length / initial norm",
            series=_growth(91),
        ),
    ]
    return _metric(
        "simultaneity",
        "Learning simultaneity",
        "Are the concepts learned early, and all at one time?",
        panels,
        definition="D_mean = mean_x d(x);  D_var = var_x d(x)",
        source="Cheng et al. 2020, arXiv:2003.03622, section 3.2",
        better="lower",
    )


def _stability() -> MetricReport:
    return _metric(
        "stability",
        "Stability of what is learned",
        "How many of the concepts that were ever tried are kept to the end?",
        [
            Lines(
                title=f"rho up to each checkpoint, {layer}",
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


def _similarity() -> MetricReport:
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
    return _metric(
        "cka",
        "Similarity of layers (CKA)",
        "Do student and teacher layers carry the same geometry?",
        panels,
        definition="CKA(X, Y) = ||Yc' Xc||^2 / (||Xc' Xc|| ||Yc' Yc||)",
        source="Kornblith et al. 2019, arXiv:1905.00414, section 3",
    )


def _landscape() -> MetricReport:
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
    return _metric(
        "landscape",
        "Loss landscape",
        "How flat is the ground on which the networks stand?",
        panels,
        definition="L(a, b) = loss(w + a d1 + b d2), d filter-normalised",
        source="Li et al. 2018, arXiv:1712.09913, section 4",
        better="lower",
    )


def _calibration() -> MetricReport:
    return _metric(
        "calibration",
        "Calibration",
        "Is the confidence of the student earned?",
        [],
        status="not applicable",
        reason="the data set has too few images per confidence bin: 32 found, 200 wanted",
    )


STATEMENTS = {
    "H1": "The student learns more concepts on the object, and fewer off it, than the baseline.",
    "H2": "The student learns its concepts earlier, and more at one time, than the baseline.",
    "H3": "The student drops fewer of the concepts that it tried than the baseline.",
}
QUANTITIES = {
    "H1": (("N_fg", "higher", 4.0), ("N_bg", "lower", -3.0), ("lambda", "higher", 0.06)),
    "H2": (("D_mean", "lower", -0.4), ("D_var", "lower", -0.15)),
    "H3": (("rho", "higher", 0.05),),
}
OUTCOMES: dict[tuple[str, str], tuple[Outcome, Outcome, Outcome]] = {
    ("kd", "H1"): ("supported", "supported", "undecided"),
    ("kd", "H2"): ("undecided", "contradicted", "supported"),
    ("kd", "H3"): ("supported", "supported", "supported"),
    ("feature", "H1"): ("undecided", "contradicted", "supported"),
    ("feature", "H2"): ("not applicable", "not applicable", "not applicable"),
    ("feature", "H3"): ("undecided", "supported", "contradicted"),
}
REASONS: dict[Outcome, str] = {
    "supported": "Every compared quantity moves as stated, in all three seeds.",
    "contradicted": "At least one quantity moves against the statement, beyond chance.",
    "undecided": "The intervals include no effect.",
    "not applicable": "No path lengths were recorded for the feature students.",
}


def _verdicts() -> tuple[Verdict, ...]:
    return tuple(
        _verdict(claim, arm, layer, OUTCOMES[arm, claim][place], place)
        for claim in STATEMENTS
        for arm in ("kd", "feature")
        for place, layer in enumerate(LAYERS)
    )


def _verdict(claim: str, arm: str, layer: str, outcome: Outcome, place: int) -> Verdict:
    if outcome == "not applicable":
        return Verdict(
            claim=claim,
            statement=STATEMENTS[claim],
            source="Cheng et al. 2020, arXiv:2003.03622",
            arm=arm,
            layer=layer,
            outcome=outcome,
            reason=REASONS[outcome],
        )
    sign = {"supported": 1.0, "contradicted": -0.8, "undecided": 0.15}[outcome]
    estimates = tuple(
        Estimate.model_validate(
            {
                "quantity": quantity,
                "effect": sign * size * (1 + 0.2 * place),
                "low": sign * size * (1 + 0.2 * place) - abs(size) * 0.5,
                "high": sign * size * (1 + 0.2 * place) + abs(size) * 0.5,
                "p_value": 0.41 if outcome == "undecided" else 0.0023,
                "wanted": wanted,
                "outcome": outcome,
            }
        )
        for quantity, wanted, size in QUANTITIES[claim]
    )
    sweep = tuple(
        SweepPoint(b=b, outcome="undecided" if b > 0.25 and place == 1 else outcome)
        for b in (0.1, 0.15, 0.2, 0.25, 0.3)
    )
    return Verdict(
        claim=claim,
        statement=STATEMENTS[claim],
        source="Cheng et al. 2020, arXiv:2003.03622",
        arm=arm,
        layer=layer,
        outcome=outcome,
        reason=REASONS[outcome],
        estimates=estimates,
        seeds=3,
        images=32,
        sweep=sweep,
        robust=all(point.outcome == outcome for point in sweep),
    )
