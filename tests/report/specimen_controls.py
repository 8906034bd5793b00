"""The specimen with two arms of controls, one of them with a name that tries to get out."""

from specimen import specimen

from kdprobe.panels import Lines, Series
from kdprobe.results import AgainstControl, Outcome, Results, RunSummary, Verdict

SMOOTH, RANDOM = "label-smoothing", "<b>random</b> teacher"
LOST = (
    f"Not supported against control '{SMOOTH}': "
    "what was gained may be regularisation, not knowledge."
)
KEPT = (
    f"Supported against controls '{SMOOTH}' and '{RANDOM}' too: "
    "regularisation of their kind does not explain it."
)


def controlled() -> Results:
    """Of the supported verdicts, those of `kd` get lost against a control, the others are kept."""
    found = specimen()
    runs = [_run(found.study.runs[-1], arm, seed) for arm in (SMOOTH, RANDOM) for seed in range(3)]
    study = found.study.model_copy(update={"runs": (*found.study.runs, *runs)})
    series = tuple(
        Series(name=arm, x=(0.0, 1.0), y=(1.0, 2.0), low=(0.5, 1.5), high=(1.5, 2.5), role=role)
        for arm, role in (("kd", "student"), (SMOOTH, "control"), (RANDOM, "control"))
    )
    lines = Lines(title="With controls", series=series, x_label="epoch", y_label="share")
    metric = found.metrics[0].model_copy(update={"panels": (*found.metrics[0].panels, lines)})
    verdicts = tuple(_controlled(verdict) for verdict in found.verdicts)
    changes = {"study": study, "verdicts": verdicts, "metrics": (metric, *found.metrics[1:])}
    return found.model_copy(update=changes)


def _run(like: RunSummary, arm: str, seed: int) -> RunSummary:
    return like.model_copy(
        update={"id": f"{arm}-seed{seed}", "arm": arm, "role": "control", "seed": seed}
    )


def _controlled(verdict: Verdict) -> Verdict:
    lost = verdict.arm == "kd"
    smooth = _against(verdict, SMOOTH, "undecided" if lost else verdict.outcome)
    note = "" if verdict.outcome != "supported" else LOST if lost else KEPT
    controls = (smooth, _against(verdict, RANDOM, verdict.outcome))
    return verdict.model_copy(update={"controls": controls, "control_note": note})


def _against(verdict: Verdict, arm: str, outcome: Outcome) -> AgainstControl:
    return AgainstControl(
        arm=arm,
        outcome=outcome,
        reason=f"It is {outcome}.",
        estimates=verdict.estimates,
        seeds=verdict.seeds,
        images=verdict.images,
    )
