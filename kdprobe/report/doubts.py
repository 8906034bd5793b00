"""What makes the results doubtful?  What went wrong, what is missing, what stands out."""

from collections.abc import Iterable, Iterator
from statistics import fmean, median

from kdprobe.pairing import pairs_by_arm
from kdprobe.report.accuracies import accuracies, chance_level
from kdprobe.report.finding import Finding, Kind, listed
from kdprobe.results import Results, Verdict
from kdprobe.stats import FEWEST_SEEDS

OUTLYING = 5.0  # standard errors of the share itself
NOTABLE = 0.05  # share of images; a smaller difference between seeds is no outlier
JUDGING = {"accuracy", "concepts", "simultaneity", "stability"}  # metrics that verdicts rest on


def problems(results: Results) -> Iterator[Finding]:
    """What the analysis complained of, each complaint once with all whom it concerns."""
    keys = {metric.title: metric.key for metric in results.metrics}
    subjects: dict[tuple[str, bool], list[str]] = {}
    for problem in results.problems:
        subjects.setdefault((problem.what, problem.left_out), []).append(problem.subject)
    for (what, left_out), names in subjects.items():
        known = [keys.get(name, "") for name in names]
        key = next((one for one in known if one in JUDGING), known[0])
        kind: Kind = "remark" if key and key not in JUDGING else "doubt"
        anchor = f"metric-{key}" if key else "runs"
        yield Finding(listed(names), what, anchor, kind, 4.0 if left_out else 3.0)


def fragile(results: Results) -> Iterator[Finding]:
    """Verdicts that are others at another concept threshold."""
    shaken = [entry for entry in results.verdicts if entry.robust is False]
    if shaken:
        one = len(shaken) == 1
        subject = (
            f"{len(shaken)} {'verdict changes' if one else 'verdicts change'} with the concept "
            "threshold b"
        )
        yield Finding(subject, "; ".join(_where(shaken)), "verdicts", "doubt", 2.5)


def lost_to_controls(results: Results) -> Iterator[Finding]:
    """Verdicts that hold against the baseline, and not against a control."""
    lost = [
        entry
        for entry in results.verdicts
        if entry.outcome == "supported" and entry.controls and not entry.outlasts_controls
    ]
    if lost:
        verdicts = "verdict is" if len(lost) == 1 else "verdicts are"
        subject = f"{len(lost)} supported {verdicts} not supported against a control"
        yield Finding(subject, "; ".join(_where(lost)), "verdicts", "doubt", 2.6)


def uncontrolled(results: Results) -> Iterator[Finding]:
    """Students were judged, and no control stands beside them."""
    judged = any(verdict.outcome != "not applicable" for verdict in results.verdicts)
    if judged and not any(run.role == "control" for run in results.study.runs):
        what = "so regularisation cannot be told from knowledge"
        yield Finding("The study has no control arm", what, "verdicts", "doubt", 1.0)


def few_seeds(results: Results) -> Iterator[Finding]:
    """Students with fewer seeds in common with the baseline than an interval needs."""
    pairs = pairs_by_arm(results.study.runs)
    arms = dict.fromkeys(run.arm for run in results.study.runs if run.role == "student")
    by_count: dict[int, list[str]] = {}
    for arm in arms:
        by_count.setdefault(len(pairs.get(arm, ())), []).append(arm)
    for count, names in by_count.items():
        if count < FEWEST_SEEDS:
            seeds = {0: "no seed", 1: "one seed"}.get(count, f"{count} seeds")
            what = (
                f"{seeds} in common with the baseline; {FEWEST_SEEDS} are needed for a verdict "
                "and for an interval over seeds"
            )
            yield Finding(listed(names), what, "runs", "doubt", 2.0)


def outliers(results: Results) -> Iterator[Finding]:
    """Runs whose accuracy is far from that of the other seeds of their arm."""
    known = accuracies(results)
    for run in results.study.runs:
        mates = [
            known[other.id].share
            for other in results.study.runs
            if (other.arm, other.role) == (run.arm, run.role)
            if other.id != run.id and other.id in known
        ]
        if run.id not in known or len(mates) < FEWEST_SEEDS - 1:
            continue
        mine, middle = known[run.id], median(mates)
        apart = abs(mine.share - middle)
        within = max(mates) - min(mates)
        if apart > max(NOTABLE, OUTLYING * mine.error, 3 * within):
            ends = dict.fromkeys(f"{100 * end:.1f}" for end in (min(mates), max(mates)))
            what = (
                f"{100 * mine.share:.1f}% right, while the other seeds of {run.arm} have "
                f"{' to '.join(ends)}%"
            )
            yield Finding(run.id, what, "metric-accuracy", "doubt", 2.2)


def guessing(results: Results) -> Iterator[Finding]:
    """Runs that are no better than guesses."""
    known, chance = accuracies(results), chance_level(results)
    poor = [
        run.id
        for run in results.study.runs
        if run.id in known and known[run.id].share - 2 * known[run.id].error <= chance
    ]
    if poor and len(results.study.classes) > 1:
        what = f"no better than guessing among {len(results.study.classes)} classes"
        yield Finding(listed(poor), what, "metric-accuracy", "doubt", 2.8)


def weak_teacher(results: Results) -> Iterator[Finding]:
    """A teacher that is beaten by those who never saw it."""
    known = accuracies(results)
    by_role = {
        role: [known[run.id].share for run in results.study.runs if run.role == role]
        for role in ("teacher", "baseline")
        if all(run.id in known for run in results.study.runs if run.role == role)
    }
    teacher, baseline = by_role.get("teacher"), by_role.get("baseline")
    if teacher and baseline and fmean(teacher) < fmean(baseline):
        what = (
            f"less accurate than the baseline: {100 * fmean(teacher):.1f} against "
            f"{100 * fmean(baseline):.1f}%"
        )
        yield Finding("The teacher", what, "metric-accuracy", "doubt", 2.1)


def _where(verdicts: Iterable[Verdict]) -> list[str]:
    """``H1 kd stage2, stage3``: the layers of each claim and arm."""
    layers: dict[tuple[str, str], list[str]] = {}
    for entry in verdicts:
        layers.setdefault((entry.claim, entry.arm), []).append(entry.layer or "every layer")
    return [f"{claim} {arm} {', '.join(found)}" for (claim, arm), found in layers.items()]
