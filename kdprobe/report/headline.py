"""What does the first screen say?  Who was judged, how accurate they are, and which claims hold."""

from collections import Counter
from dataclasses import dataclass
from statistics import fmean

from kdprobe.report.accuracies import Accuracy, Gain, accuracies, gain_over_baseline
from kdprobe.report.finding import Finding, listed
from kdprobe.report.findings import SHOWN, caution, findings
from kdprobe.report.numbers import interval
from kdprobe.results import Estimate, Outcome, Results, Role, StudySummary, Verdict
from kdprobe.stats import FEWEST_SEEDS

READING = (
    "Effects are student minus baseline, with 95% intervals over seeds and images; the arrow is "
    "the way that the hypothesis wants. Verdicts adjust for the number of layers and quantities "
    "(Holm), so an effect whose own interval is clear of zero may be undecided."
)
ALL_JUDGED = "Every hypothesis and every metric could be measured; what is undecided is no gap."
WAYS = {"higher": "↑", "lower": "↓"}
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
    gain: float | None  # accuracy minus the baseline's; of students and controls alone
    tally: tuple[tuple[Outcome, int], ...]
    gain_low: float | None = None  # 95% interval over seeds; None below three of them
    gain_high: float | None = None
    pairs: int = 0  # seeds in common with the baseline

    @property
    def gain_in_points(self) -> str:
        """``+4.5 [+3.1, +5.9]``; no interval where there is none."""
        effect, low, high = (
            None if end is None else 100 * end for end in (self.gain, self.gain_low, self.gain_high)
        )
        return interval(Gain(effect, low, high))

    @property
    def no_interval(self) -> str:
        """Why the gain has no interval."""
        if self.pairs >= FEWEST_SEEDS:
            return f"{self.pairs} seeds, all alike"
        return f"{self.pairs or 'no'} seed{'' if self.pairs == 1 else 's'} in common"


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
        layers: dict[Outcome, list[str]] = {outcome: [] for outcome in OUTCOMES}
        for entry in applicable:
            layers[entry.outcome].append(entry.layer or "every layer")
        told = [(outcome, where) for outcome, where in layers.items() if where]
        if len(told) == 1 and 1 < len(applicable) == len(self.verdicts):
            return f"{told[0][0]} at every layer"
        return ", ".join(f"{outcome} at {listed(where)}" for outcome, where in told)

    @property
    def why(self) -> str:
        """The reason of all its verdicts, where they have one in common."""
        reasons = {entry.reason for entry in self.verdicts}
        return reasons.pop() if len(reasons) == 1 else ""

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

    @property
    def terms(self) -> tuple[tuple[str, str], ...]:
        """What its quantities are, in words: those that say it."""
        all_of_them = (entry for verdict in self.verdicts for entry in verdict.estimates)
        return tuple({one.quantity: one.meaning for one in all_of_them if one.meaning}.items())


@dataclass(frozen=True)
class Headline:
    """The first screen, as plain data."""

    sentence: str
    facts: str
    arms: tuple[Arm, ...]
    claims: tuple[Claim, ...]
    attention: tuple[Finding, ...]  # the weightiest first
    unjudged: tuple[Finding, ...]
    caution: str = ""  # how far the differences among the findings can be trusted

    @property
    def first(self) -> tuple[Finding, ...]:
        """The findings that the first screen has room for."""
        return self.attention[:SHOWN]

    @property
    def further(self) -> tuple[Finding, ...]:
        """The other findings."""
        return self.attention[SHOWN:]

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
        facts=_facts(results.study),
        arms=arms,
        claims=_claims(results.verdicts),
        attention=findings(results),
        unjudged=(*_unjudged_verdicts(results.verdicts), *_unjudged_metrics(results)),
        caution=caution(results),
    )


def key_estimate(verdict: Verdict) -> Estimate | None:
    """The estimate to show where there is room for one: the first of the verdict's own outcome."""
    same = [entry for entry in verdict.estimates if entry.outcome == verdict.outcome]
    return next(iter(same or verdict.estimates), None)


def _arms(results: Results) -> tuple[Arm, ...]:
    known = accuracies(results)
    names = dict.fromkeys((run.arm, run.role) for run in results.study.runs)
    return tuple(_arm(results, name, role, known) for name, role in names)


def _arm(results: Results, name: str, role: Role, known: dict[str, Accuracy]) -> Arm:
    members = [run for run in results.study.runs if (run.arm, run.role) == (name, role)]
    seeds = tuple(known[run.id].share for run in members if run.id in known)
    counts = Counter(verdict.outcome for verdict in results.verdicts if verdict.arm == name)
    gain = gain_over_baseline(results, members) if role in COMPARED else Gain(None)
    return Arm(
        name=name,
        role=role,
        runs=len(members),
        accuracy=fmean(seeds) if seeds else None,
        seeds=seeds,
        gain=gain.effect,
        gain_low=gain.low,
        gain_high=gain.high,
        pairs=gain.pairs,
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
    of_what = [_count(claims, "hypothesis"), f"{_count(len(students), 'kind')} of student"]
    of_what += [_count(layers, "layer")] if layers else []
    return f"{_count(len(results.verdicts), 'verdict')} on {listed(of_what)}: {', '.join(parts)}."


def _facts(study: StudySummary) -> str:
    runs, classes = _count(len(study.runs), "run"), _count(len(study.classes), "class")
    return f"{runs} on {study.dataset}, {classes}"


def _count(number: int, noun: str) -> str:
    plural = {"hypothesis": "hypotheses", "class": "classes"}.get(noun, f"{noun}s")
    return f"{number} {noun if number == 1 else plural}"


def _unjudged_verdicts(verdicts: tuple[Verdict, ...]) -> tuple[Finding, ...]:
    layers: dict[tuple[str, str, str], list[str]] = {}
    for verdict in verdicts:
        if verdict.outcome == "not applicable":
            layers.setdefault((verdict.claim, verdict.arm, verdict.reason), []).append(
                verdict.layer
            )
    return tuple(
        Finding(", ".join(filter(None, (claim, arm, *where))), reason, "verdicts", "remark")
        for (claim, arm, reason), where in layers.items()
    )


def _unjudged_metrics(results: Results) -> tuple[Finding, ...]:
    return tuple(
        Finding(metric.title, metric.reason, f"metric-{metric.key}", "remark")
        for metric in results.metrics
        if metric.status == "not applicable"
    )
