"""What does the first screen say?  Who was judged, how accurate they are, and which claims hold."""

from collections import Counter
from dataclasses import dataclass
from statistics import fmean

from kdprobe.results import Estimate, Outcome, Problem, Results, Role, Verdict

OUTCOMES: tuple[Outcome, ...] = ("supported", "contradicted", "undecided", "not applicable")

COMPARED: tuple[Role, ...] = ("student", "control")


@dataclass(frozen=True)
class Arm:
    """The networks that were trained in one way."""

    name: str
    role: Role
    runs: int
    accuracy: float | None  # mean over runs
    seeds: tuple[float, ...]  # accuracy of each run that has one
    gain: float | None  # accuracy minus the baselines' mean; of students and controls alone
    tally: tuple[tuple[Outcome, int], ...]


@dataclass(frozen=True)
class Ruling:
    """One claim for one student arm: a verdict per layer."""

    arm: str
    verdicts: tuple[Verdict, ...]

    @property
    def sentence(self) -> str:
        """Where the claim holds, in words."""
        applicable = [entry for entry in self.verdicts if entry.outcome != "not applicable"]
        if not applicable:
            return "could not be judged"
        counts = Counter(entry.outcome for entry in applicable)
        found = [outcome for outcome in OUTCOMES if counts[outcome]]
        layers = "layer" if len(applicable) == 1 else "layers"
        if len(found) == 1:
            return f"{found[0]} at {len(applicable)} {layers}"
        return ", ".join(f"{outcome} at {counts[outcome]}" for outcome in found) + f" {layers}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What the controls leave of it: each sentence once, with its layers where not of all."""
        layers: dict[str, list[str]] = {}
        for entry in self.verdicts:
            layers.setdefault(entry.control_note, []).append(entry.layer)
        told = {note: where for note, where in layers.items() if note}
        return tuple(
            note if len(where) == len(self.verdicts) else f"{', '.join(where)}: {note}"
            for note, where in told.items()
        )


@dataclass(frozen=True)
class Claim:
    """One hypothesis and its rulings."""

    code: str
    statement: str
    source: str
    rulings: tuple[Ruling, ...]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts of all rulings."""
        return tuple(verdict for ruling in self.rulings for verdict in ruling.verdicts)


@dataclass(frozen=True)
class Headline:
    """The first screen, as plain data."""

    sentence: str
    arms: tuple[Arm, ...]
    claims: tuple[Claim, ...]
    attention: tuple[Problem, ...]
    unjudged: tuple[Problem, ...]

    @property
    def reach(self) -> tuple[float, float]:
        """The least and the greatest accuracy, for one scale over all networks."""
        shares = [share for arm in self.arms for share in arm.seeds]
        low, high = min(shares, default=0.0), max(shares, default=1.0)
        return (low, high) if high > low else (low - 0.5, high + 0.5)


def headline(results: Results) -> Headline:
    """Sum up `results` for the first screen."""
    arms = _arms(results)
    return Headline(
        sentence=_sentence(results, arms),
        arms=arms,
        claims=_claims(results.verdicts),
        attention=(*results.problems, *_fragile(results.verdicts), *_uncontrolled(results)),
        unjudged=(*_unjudged_verdicts(results.verdicts), *_unjudged_metrics(results)),
    )


def accuracies(results: Results) -> dict[str, float]:
    """Accuracy by run id, as the metric ``accuracy`` found it; empty when it was not asked for."""
    report = results.metric("accuracy")
    rows = report.values.get("runs") if report else None
    found = {}
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(share := row.get("accuracy"), int | float):
            found[str(row.get("run"))] = float(share)
    return found


def key_estimate(verdict: Verdict) -> Estimate | None:
    """The estimate to show where there is room for one: the first of the verdict's own outcome."""
    same = [entry for entry in verdict.estimates if entry.outcome == verdict.outcome]
    return next(iter(same or verdict.estimates), None)


def _arms(results: Results) -> tuple[Arm, ...]:
    known = accuracies(results)
    names = dict.fromkeys((run.arm, run.role) for run in results.study.runs)
    base = [
        known[run.id] for run in results.study.runs if run.role == "baseline" if run.id in known
    ]
    return tuple(_arm(results, name, role, known, base) for name, role in names)


def _arm(
    results: Results, name: str, role: Role, known: dict[str, float], base: list[float]
) -> Arm:
    members = [run.id for run in results.study.runs if (run.arm, run.role) == (name, role)]
    seeds = tuple(known[run] for run in members if run in known)
    mean = fmean(seeds) if seeds else None
    counts = Counter(verdict.outcome for verdict in results.verdicts if verdict.arm == name)
    return Arm(
        name=name,
        role=role,
        runs=len(members),
        accuracy=mean,
        seeds=seeds,
        gain=mean - fmean(base) if mean is not None and base and role in COMPARED else None,
        tally=tuple((outcome, counts[outcome]) for outcome in OUTCOMES if counts[outcome]),
    )


def _claims(verdicts: tuple[Verdict, ...]) -> tuple[Claim, ...]:
    claims = []
    for code in dict.fromkeys(verdict.claim for verdict in verdicts):
        mine = [verdict for verdict in verdicts if verdict.claim == code]
        rulings = tuple(
            Ruling(arm, tuple(verdict for verdict in mine if verdict.arm == arm))
            for arm in dict.fromkeys(verdict.arm for verdict in mine)
        )
        claims.append(Claim(code, mine[0].statement, mine[0].source, rulings))
    return tuple(claims)


def _sentence(results: Results, arms: tuple[Arm, ...]) -> str:
    students = [arm for arm in arms if arm.role == "student"]
    if not students:
        return "The study holds no student, so nothing could be judged."
    if not results.verdicts:
        return "No hypothesis was judged; the measurements below stand for themselves."
    counts = Counter(verdict.outcome for verdict in results.verdicts)
    parts = [f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome]]
    layers = len({verdict.layer for verdict in results.verdicts} - {""})
    claims = len({verdict.claim for verdict in results.verdicts})
    return (
        f"{_count(len(results.verdicts), 'verdict')} on {_count(claims, 'hypothesis')}, "
        f"{_count(len(students), 'kind')} of student and {_count(layers, 'layer')}: "
        f"{', '.join(parts)}."
    )


def _count(number: int, noun: str) -> str:
    plural = "hypotheses" if noun == "hypothesis" else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def _fragile(verdicts: tuple[Verdict, ...]) -> tuple[Problem, ...]:
    shaken = [entry for entry in verdicts if entry.robust is False]
    if not shaken:
        return ()
    names = "; ".join(f"{entry.claim} {entry.arm} {entry.layer}" for entry in shaken)
    verb = "changes" if len(shaken) == 1 else "change"
    subject = f"{_count(len(shaken), 'verdict')} {verb} with the concept threshold b"
    return (Problem(subject=subject, what=names),)


def _uncontrolled(results: Results) -> tuple[Problem, ...]:
    """Said once where students were judged and no control stands beside them."""
    judged = any(verdict.outcome != "not applicable" for verdict in results.verdicts)
    if not judged or any(run.role == "control" for run in results.study.runs):
        return ()
    what = "so regularisation cannot be told from knowledge"
    return (Problem(subject="The study has no control arm", what=what),)


def _unjudged_verdicts(verdicts: tuple[Verdict, ...]) -> tuple[Problem, ...]:
    layers: dict[tuple[str, str, str], list[str]] = {}
    for verdict in verdicts:
        if verdict.outcome == "not applicable":
            layers.setdefault((verdict.claim, verdict.arm, verdict.reason), []).append(
                verdict.layer
            )
    return tuple(
        Problem(subject=", ".join(filter(None, (claim, arm, *where))), what=reason)
        for (claim, arm, reason), where in layers.items()
    )


def _unjudged_metrics(results: Results) -> tuple[Problem, ...]:
    return tuple(
        Problem(subject=metric.title, what=metric.reason)
        for metric in results.metrics
        if metric.status == "not applicable"
    )
