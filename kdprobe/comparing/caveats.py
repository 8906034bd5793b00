"""What makes results less than comparable?  Other data, settings, versions, layers; gaps."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from kdprobe.comparing.record import Caveat, Compared, Missing, Row, Side
from kdprobe.comparing.sides import Named
from kdprobe.results import Results

FACTS = (  # of the provenance: what decides which numbers come out
    "seed",
    "images for concepts",
    "images digest",
    "layers",
    "concept estimator",
    "concept thresholds",
)


def caveats(studies: Sequence[Named]) -> tuple[Caveat, ...]:
    """One a thing in which the studies differ, and that a difference may come from."""
    return (*_of_data(studies), *_of_facts(studies), *_of_settings(studies))


def _of_data(studies: Sequence[Named]) -> Iterator[Caveat]:
    asked: dict[str, Callable[[Results], str]] = {
        "data set": lambda results: results.study.dataset,
        "classes": lambda results: ", ".join(results.study.classes),
        "kdprobe version": lambda results: results.kdprobe_version,
    }
    for subject, fact in asked.items():
        told = {named.name: fact(named.results) for named in studies}
        if len(set(told.values())) > 1:
            yield Caveat(subject=subject, what=_listed(told))
    models = {named.name: _models(named.results) for named in studies}
    for arm in dict.fromkeys(arm for found in models.values() for arm in found):
        told = {name: found[arm] for name, found in models.items() if arm in found}
        if len(set(told.values())) > 1:
            yield Caveat(subject=f"networks of {arm}", what=_listed(told))


def _models(results: Results) -> dict[str, str]:
    """What the networks of every arm are."""
    models: dict[str, dict[str, None]] = {}
    for run in results.study.runs:
        models.setdefault(run.arm, {})[f"{run.model}, {run.parameters} parameters"] = None
    return {arm: "; ".join(found) for arm, found in models.items()}


def _of_facts(studies: Sequence[Named]) -> Iterator[Caveat]:
    for fact in FACTS:
        told = {named.name: named.results.provenance.get(fact, "not said") for named in studies}
        if len(set(told.values())) > 1:
            yield Caveat(subject=fact, what=_listed(told))


def _of_settings(studies: Sequence[Named]) -> Iterator[Caveat]:
    """Settings of one metric that are not the same in all studies that measured it."""
    keys = dict.fromkeys(report.key for named in studies for report in named.results.metrics)
    for key in keys:
        reports = {named.name: named.results.metric(key) for named in studies}
        measured = {
            name: report.settings
            for name, report in reports.items()
            if report is not None and report.status == "measured"
        }
        for setting in dict.fromkeys(name for used in measured.values() for name in used):
            told = {name: _written(used.get(setting)) for name, used in measured.items()}
            if len(set(told.values())) > 1:
                yield Caveat(subject=f"{key}.{setting}", what=_listed(told))


def _written(value: object) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)


def _listed(told: dict[str, str]) -> str:
    return "; ".join(f"{name}: {_short(text)}" for name, text in told.items())


def _short(text: str) -> str:
    return text if len(text) <= 90 else f"{text[:89]}…"


def missing(
    studies: Sequence[Named],
    sides: Sequence[Side],
    rows: Sequence[Row],
    quantities: Sequence[Compared],
) -> tuple[Missing, ...]:
    """Which side has no number where another has one, how often, and why."""
    lacking: dict[tuple[str, int], int] = {}
    for row in rows:
        for place, sample in enumerate(row.samples):
            if not sample.points:
                lacking[row.quantity, place] = lacking.get((row.quantity, place), 0) + 1
    results = {named.name: named.results for named in studies}
    metric = {entry.name: entry.metric for entry in quantities}
    whole = [
        Missing(
            quantity=quantity,
            side=sides[place].name,
            rows=count,
            reason=_why(results[sides[place].study], metric[quantity]),
        )
        for (quantity, place), count in lacking.items()
    ]
    told = Counter((row.quantity, place, here, of) for row, place, here, of in partly_known(rows))
    some = [
        Missing(
            quantity=quantity,
            side=sides[place].name,
            rows=count,
            reason=f"only {here} of its {of} runs have a number there",
        )
        for (quantity, place, here, of), count in told.items()
    ]
    return (*whole, *some)


def partly_known(rows: Sequence[Row]) -> Iterator[tuple[Row, int, int, int]]:
    """Where runs of a side lack a number that another side's have: how many have it, of how many.

    A run that diverged has no number, and would make the mean of the others look better.
    """
    runs: dict[tuple[int, str], int] = {}
    for row in rows:
        for place, sample in enumerate(row.samples):
            key = (place, row.at.get("arm", ""))
            runs[key] = max(runs.get(key, 0), len(sample.points))
    for row in rows:
        every = [runs[place, row.at.get("arm", "")] for place in range(len(row.samples))]
        counts = [len(sample.points) for sample in row.samples]
        best = max(here / max(of, 1) for here, of in zip(counts, every, strict=True))
        for place, (here, of) in enumerate(zip(counts, every, strict=True)):
            if 0 < here < best * of:
                yield row, place, here, of


def _why(results: Results, metric: str) -> str:
    report = results.metric(metric)
    if report is None:
        return f"metric '{metric}' was not asked for"
    if report.status == "not applicable":
        return report.reason or "not applicable, no reason was given"
    return "it has no such arm, layer or part, or no number there"
