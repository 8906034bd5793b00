"""What is compared with what?  Studies by their arms, arms of studies, or runs: the sides.

Where sides are studies, the arm is one of the places at which a quantity is compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kdprobe.comparing.reading import scalars
from kdprobe.comparing.record import By, Compared, Point, Row, Sample, Side
from kdprobe.errors import UsageError
from kdprobe.registry import did_you_mean
from kdprobe.results import Results, RunSummary

Key = tuple[str, tuple[tuple[str, str], ...]]  # quantity, place


@dataclass(frozen=True)
class Named:
    """Results, and the name of their study in this comparison."""

    name: str
    results: Results


def chosen(studies: Sequence[Named], runs: Sequence[str]) -> dict[str, list[RunSummary]]:
    """The runs of every study; only those called `runs` (``kd-seed0`` or ``A/kd-seed0``), if any.

    Raises:
        UsageError: a name is that of no run.
    """
    known = [f"{named.name}/{run.id}" for named in studies for run in named.results.study.runs]
    short = [run.id for named in studies for run in named.results.study.runs]
    for name in runs:
        if name not in known and name not in short:
            hint = did_you_mean(name, short) or "."
            raise UsageError(f"no run is called {name!r}{hint} Known: {', '.join(known)}")
    return {
        named.name: [
            run
            for run in named.results.study.runs
            if not runs or run.id in runs or f"{named.name}/{run.id}" in runs
        ]
        for named in studies
    }


def sides_of(studies: Sequence[Named], by: By, runs: dict[str, list[RunSummary]]) -> list[Side]:
    """The sides, in the order of the studies and of their runs; no two have one name."""
    alone = len(studies) == 1
    found: dict[tuple[str, str], list[RunSummary]] = {}
    for study, members in runs.items():
        for run in members:
            own = {"study": "", "arm": run.arm, "run": run.id}[by]
            found.setdefault((study, own), []).append(run)
    told = [own if alone and own else f"{study}/{own}" if own else study for study, own in found]
    return [
        Side(
            name=name,
            study=study,
            arm="" if by == "study" else members[0].arm,
            role=None if by == "study" else members[0].role,
            runs=tuple(run.id for run in members),
        )
        for name, ((study, _), members) in zip(apart(told), found.items(), strict=True)
    ]


def apart(names: Sequence[str]) -> list[str]:
    """The names in their order; one that was met before gets the first number that is free."""
    found: list[str] = []
    for name in names:
        free, number = name, 1
        while free in found:
            number += 1
            free = f"{name} ({number})"
        found.append(free)
    return found


def rows_of(studies: Sequence[Named], by: By, sides: Sequence[Side]) -> list[Row]:
    """Every quantity at every place where one side has a number, in the order it is met."""
    points: dict[Key, list[list[Point]]] = {}
    for named in studies:
        owners = _owners(named, sides)
        facts = {run.id: run for run in named.results.study.runs}
        for scalar in scalars(named.results):
            for place in owners.get(scalar.run, ()):
                run = facts[scalar.run]
                arm = (("arm", run.arm),) if by == "study" else ()
                key = (scalar.quantity.name, (*arm, *scalar.at))
                row = points.setdefault(key, [[] for _ in sides])
                row[place].append(Point(run=run.id, seed=run.seed, value=scalar.value))
    return [
        Row(
            quantity=quantity,
            at=dict(at),
            samples=tuple(Sample(points=tuple(side)) for side in found),
        )
        for (quantity, at), found in _in_order(points).items()
    ]


def _owners(named: Named, sides: Sequence[Side]) -> dict[str, list[int]]:
    """The places of the sides that a run of this study belongs to."""
    owners: dict[str, list[int]] = {}
    for place, side in enumerate(sides):
        for run in side.runs if side.study == named.name else ():
            owners.setdefault(run, []).append(place)
    return owners


def _in_order(points: dict[Key, list[list[Point]]]) -> dict[Key, list[list[Point]]]:
    """All places of a quantity together."""
    order = {name: place for place, name in enumerate(dict.fromkeys(key[0] for key in points))}
    return dict(sorted(points.items(), key=lambda item: order[item[0][0]]))


def compared(studies: Sequence[Named]) -> tuple[Compared, ...]:
    """The quantities that some study has, in the order of the first to have them."""
    found: dict[str, Compared] = {}
    for named in studies:
        titles = {report.key: report.title for report in named.results.metrics}
        for scalar in scalars(named.results):
            entry = scalar.quantity
            if entry.name not in found:
                found[entry.name] = Compared(
                    name=entry.name,
                    metric=entry.metric,
                    title=titles[entry.metric],
                    better=entry.better,
                    meaning=entry.meaning,
                    leading=entry.leading,
                )
    return tuple(found.values())
