"""Has something become worse than allowed?  A rule is judged wherever it applies.

By default a rule is about means over seeds. With `confident` it must hold over the whole 95%
interval over seeds as well, so that chance alone seldom fails a gate (and three seeds seldom find
a small loss). The interval is of the two sides' difference: Student's t over the seeds where all
numbers have the same, otherwise Welch's, by the slopes of the rule at the means. It is not adjusted
for the number of places.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from kdprobe.comparing.caveats import partly_known
from kdprobe.comparing.cells import Case, Cell, cases, resolved
from kdprobe.comparing.differences import Gap, freedom, may_pair, over_seeds, seeds_of, student
from kdprobe.comparing.record import Comparison, Point
from kdprobe.comparing.rule import parse_rule
from kdprobe.comparing.terms import Order, Reference, Truth
from kdprobe.panels import Frozen
from kdprobe.stats import FEWEST_SEEDS, is_rounding

STEP = 1e-6  # of a value, or of one where it is 0: for slopes


class Gate(Frozen):
    """A rule after it was judged; every line names a side, a place and the numbers."""

    rule: str
    confident: bool
    checked: int  # places at which it could be judged
    failing: tuple[str, ...]  # where it holds, or that it could be judged nowhere
    undecided: tuple[str, ...]  # holds for the means, not for the whole interval
    unknown: tuple[str, ...]  # a number is missing, or that of some runs

    @property
    def passed(self) -> bool:
        """Whether nothing is as the rule forbids."""
        return not self.failing


def judge_rule(comparison: Comparison, rule: str, *, confident: bool = False) -> Gate:
    """Judge `rule` at every place and side that it is about.

    Raises:
        UsageError: the rule cannot be read, or names what is not compared.
    """
    condition = parse_rule(rule)
    meant = {order: resolved(order, comparison) for order in condition.orders}
    references = list(dict.fromkeys(ref for own in meant.values() for ref in own.values()))
    failing: list[str] = []
    undecided: list[str] = []
    unknown: list[str] = []
    checked = 0
    partly = {
        (id(row), comparison.sides[place].name): f"only {here} of {of} runs of it have a number"
        for row, place, here, of in partly_known(comparison.rows)
    }
    for case in cases(references, comparison):
        by_mean = condition.truth(partial(_by_mean, meant, case))
        line = f"{rule.strip()}: {_told(case, comparison)}"
        for ref, cell in case.cells.items():
            if lost := partly.get((id(cell.row), cell.side.name)):
                unknown.append(f"{line}; {ref.label} of {cell.side.name}: {lost}")
        if by_mean is None:
            unknown.append(line)
            continue
        checked += 1
        if by_mean and confident:
            sure = condition.truth(partial(_surely, meant, case))
            (failing if sure else undecided).append(line)
        elif by_mean:
            failing.append(line)
    if not checked:
        failing.append(f"{rule.strip()}: could be judged nowhere, a number is missing everywhere")
    return Gate(
        rule=rule.strip(),
        confident=confident,
        checked=checked,
        failing=tuple(failing),
        undecided=tuple(undecided),
        unknown=tuple(unknown),
    )


Meant = Mapping[Order, Mapping[Reference, Reference]]


def _by_mean(meant: Meant, case: Case, order: Order) -> Truth:
    means = {ref: case.cells[full].sample.mean for ref, full in meant[order].items()}
    known = {ref: mean for ref, mean in means.items() if mean is not None}
    gap = order.gap(known) if len(known) == len(means) else float("nan")
    return order.holds(gap) if np.isfinite(gap) else None


def _surely(meant: Meant, case: Case, order: Order) -> Truth:
    """True or false where the whole interval says so; unknown between."""
    cells = {ref: case.cells[full] for ref, full in meant[order].items()}
    if not all(cell.sample.points for cell in cells.values()):
        return None
    found = order_gap(order, cells)
    if found.low is None or found.high is None:
        return None
    ends = (order.holds(found.low), order.holds(found.high))
    return ends[0] if ends[0] == ends[1] else None


def order_gap(order: Order, cells: Mapping[Reference, Cell]) -> Gap:
    """How far an order is from its border, with the interval over seeds."""
    if not cells:
        effect = order.gap({})
        return Gap(effect, 0.0, effect, effect)
    if _share_seeds(list(cells.values())):
        every = [
            dict(zip(cells, values, strict=True)) for values in zip(*_by_run(cells), strict=True)
        ]
        gaps = np.array([order.gap(values) for values in every])
        if not np.isfinite(gaps).all():
            return Gap(float("nan"))
        return over_seeds(gaps, np.array([order.ends(values) for values in every]))
    return _by_slopes(order, cells)


def _by_run(cells: Mapping[Reference, Cell]) -> list[list[float]]:
    """The numbers of every cell, those of one run or seed at the same place."""
    sides = {cell.side.name for cell in cells.values()}

    def key(point: Point) -> tuple[int, str]:
        return (0, point.run) if len(sides) == 1 else (point.seed or 0, "")

    return [[p.value for p in sorted(cell.sample.points, key=key)] for cell in cells.values()]


def _share_seeds(cells: Sequence[Cell]) -> bool:
    """Whether all numbers can be compared seed by seed; those of the same runs always can."""
    if len({cell.side.name for cell in cells}) == 1 and len(set(map(_runs, cells))) == 1:
        return True
    seeds = {seeds_of(cell.sample) for cell in cells}
    known = len(seeds) == 1 and None not in seeds
    return known and all(_may_pair(cells[0], cell) for cell in cells)


def _may_pair(one: Cell, two: Cell) -> bool:
    """As `may_pair`; the arm of a side that is a study is that of the place."""
    same = one.row.at.get("arm") == two.row.at.get("arm")
    return may_pair(one.side, two.side) and (same or one.side.study == two.side.study)


def _runs(cell: Cell) -> tuple[str, ...]:
    return tuple(sorted(point.run for point in cell.sample.points))


def _by_slopes(order: Order, cells: Mapping[Reference, Cell]) -> Gap:
    """The first-order error of the rule at the means (Welch); numbers of the same runs go along."""
    means = {ref: float(np.mean(cell.sample.values)) for ref, cell in cells.items()}
    effect = order.gap(means)
    if min(len(cell.sample.points) for cell in cells.values()) < FEWEST_SEEDS:
        return Gap(effect)
    alike: dict[tuple[str, tuple[str, ...]], dict[Reference, Cell]] = {}
    for ref, cell in cells.items():
        alike.setdefault((cell.side.name, _runs(cell)), {})[ref] = cell
    slopes = {ref: _slope(order, means, ref) for ref in cells}
    parts, counts = [], []
    for group in alike.values():
        moved = sum(
            slopes[ref] * np.array(values)
            for ref, values in zip(group, _by_run(group), strict=True)
        )
        parts.append(float(np.var(moved, ddof=1)) / np.size(moved))
        counts.append(np.size(moved))
    if not np.isfinite(parts).all():
        return Gap(effect)
    sizes = [slopes[ref] * mean for ref, mean in means.items()]
    if is_rounding(sum(parts) ** 0.5, np.array(sizes)):
        return Gap(effect, 0.0, effect, effect)
    return student(effect, sum(parts) ** 0.5, freedom(parts, counts))


def _slope(order: Order, means: Mapping[Reference, float], moved: Reference) -> float:
    """How the rule changes with one of its numbers."""
    step = STEP * (abs(means[moved]) or 1.0)
    ends = [order.gap({**means, moved: means[moved] + way * step}) for way in (1, -1)]
    return (ends[0] - ends[1]) / (2 * step)


def _told(case: Case, comparison: Comparison) -> str:
    """Which side, where, and what its numbers are."""
    where = ", ".join(f"{key} {name}" for key, name in case.at.items())
    numbers = "; ".join(_number(ref, cell) for ref, cell in case.cells.items())
    return f"{case.side}{f' at {where}' if where else ''}: {numbers}"


def _number(ref: Reference, cell: Cell) -> str:
    role = ", the baseline," if ref.of_baseline and cell.side.name != "baseline" else ""
    mean, count = cell.sample.mean, len(cell.sample.points)
    value = "missing" if mean is None else f"{mean:.4g} ({count} run{'' if count == 1 else 's'})"
    return f"{ref.label} of {cell.side.name}{role} {value}"
