"""A made-up but plausible analysis: every kind of panel, every outcome, nothing measured."""

from specimen_label import ARMS, EPOCHS, LAYERS
from specimen_metrics import metrics

from kdprobe.results import (
    Estimate,
    Outcome,
    Problem,
    Results,
    RunSummary,
    StudySummary,
    SweepPoint,
    Verdict,
)


def specimen() -> Results:
    """Ten runs, six metrics and sixteen verdicts; the same at every call."""
    return Results(
        kdprobe_version="0.1.0",
        study=_study(),
        metrics=metrics(),
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


STATEMENTS = {
    "H1": "The student learns more concepts on the object, and fewer off it, than the baseline.",
    "H2": "The student learns its concepts earlier, and more at one time, than the baseline.",
    "H3": "The student drops fewer of the concepts that it tried than the baseline.",
}
QUANTITIES = {
    "H1": (("N_fg", "higher", 4.0), ("N_bg", "lower", -3.0), ("λ", "higher", 0.06)),
    "H2": (("D_mean", "lower", -0.4), ("D_var", "lower", -0.15)),
    "H3": (("ρ", "higher", 0.05),),
}
MEANINGS = {"N_fg": "concepts on the object, an image", "λ": "their share on the object"}
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
        for place, layer in enumerate(LAYERS if (arm, claim) != ("feature", "H2") else ("",))
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
                "meaning": MEANINGS.get(quantity, ""),
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
