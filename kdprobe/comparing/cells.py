"""Where does a rule apply?  At all places that one of its quantities has, for every side.

What is named without a place in brackets is taken at all of its places; what two quantities both
have (an arm, a layer) is the same for both. A place that one of them lacks is asked about too: the
number is missing there, which matters or not, as the rule has it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kdprobe.comparing.record import At, By, Comparison, Row, Sample, Side
from kdprobe.comparing.terms import Order, Pins, Reference
from kdprobe.errors import UnknownName, UsageError
from kdprobe.registry import did_you_mean


@dataclass(frozen=True)
class Cell:
    """The numbers of one side at one place."""

    row: Row
    side: Side
    sample: Sample


@dataclass(frozen=True)
class Case:
    """One place and side at which a rule is judged, and what every reference means there."""

    side: str
    at: At
    cells: dict[Reference, Cell]


def resolved(order: Order, comparison: Comparison) -> dict[Reference, Reference]:
    """Every reference of an order by its full name; ``baseline`` alone is its only quantity's.

    Raises:
        UsageError: a quantity or place is not compared, or ``baseline`` could be that of several.
    """
    named = {
        ref: Reference(quantity_named(ref.name, comparison), ref.pins, ref.of_baseline)
        for ref in order.references
        if ref.name
    }
    own = [ref for ref in named.values() if not ref.of_baseline]
    for ref in order.references:
        if not ref.name:
            if len(own) != 1:
                raise UsageError(
                    f"found 'baseline' beside {len(own)} quantities in {order.text!r}, wanted one; "
                    "say of which, such as baseline(rho)"
                )
            inherited = dict(_place_pins(own[0].pins, comparison)) | dict(ref.pins)
            named[ref] = Reference(own[0].name, tuple(inherited.items()), of_baseline=True)
    for ref in named.values():
        _refuse_unknown_places(ref, comparison)
    return named


def quantity_named(name: str, comparison: Comparison) -> str:
    """The quantity that `name` (``rho``, ``stability.rho``) means. Raises UnknownName."""
    full = {f"{entry.metric}.{entry.name}": entry.name for entry in comparison.quantities}
    known = full | {entry.name: entry.name for entry in comparison.quantities}
    if name not in known:
        hint = did_you_mean(name, known) or "."
        names = ", ".join(entry.name for entry in comparison.quantities)
        raise UnknownName(f"no quantity is called {name!r}{hint} Known: {names}")
    return known[name]


def cases(references: Sequence[Reference], comparison: Comparison) -> Iterator[Case]:
    """Every side and place at which all of the `references`, by their full names, can be asked.

    Judged are all sides (but the baseline, where a rule compares with it); where brackets name the
    side of every quantity, those of the first, which is not the baseline's.
    """
    own = [ref for ref in references if not ref.of_baseline]
    if not own:
        raise UsageError("found a rule about the baseline alone, wanted one about a quantity")
    candidates = comparison.others if len(own) < len(references) else comparison.sides
    free = [ref for ref in own if not _names_a_side(ref, comparison)]
    first = None if free else own[0]
    judged = [one for one in candidates if not first or _fits(one, first.pins, comparison.by)]
    for at, rows in _joined(references, comparison):
        for side in judged:
            cells = {
                ref: _cell(comparison, ref, rows.get(ref), side, ref == first) for ref in references
            }
            yield Case(side.name, at, cells)


def _names_a_side(ref: Reference, comparison: Comparison) -> bool:
    known = facts(comparison.sides[0], comparison.by)
    return any(key in known for key, _ in ref.pins)


def _joined(
    references: Sequence[Reference], comparison: Comparison
) -> list[tuple[At, dict[Reference, Row]]]:
    """Places on which the references agree in every coordinate that is not pinned.

    A reference that has nothing at a place of the others is left out there.
    """
    found: list[tuple[At, dict[Reference, Row]]] = []
    for ref in references:
        pins = dict(ref.pins)
        rows = [
            ({key: name for key, name in row.at.items() if key not in pins}, row)
            for row in _rows(ref, comparison)
        ]
        longer, met = [], set()
        for at, chosen in found:
            here = [
                place
                for place, (free, _) in enumerate(rows)
                if all(at.get(key, name) == name for key, name in free.items())
            ]
            met |= set(here)
            longer += [(at | rows[i][0], {**chosen, ref: rows[i][1]}) for i in here]
            longer += [] if here else [(at, chosen)]
        longer += [(free, {ref: row}) for i, (free, row) in enumerate(rows) if i not in met]
        found = longer
    return found


def _rows(ref: Reference, comparison: Comparison) -> list[Row]:
    pins = _place_pins(ref.pins, comparison)
    return [
        row
        for row in comparison.rows
        if row.quantity == ref.name and all(row.at.get(key) == name for key, name in pins)
    ]


def _cell(comparison: Comparison, ref: Reference, row: Row | None, side: Side, first: bool) -> Cell:
    """The side that `ref` means: the baseline, the one in its brackets, or the one judged."""
    pinned = _names_a_side(ref, comparison)
    if ref.of_baseline:
        side = next(one for one in comparison.sides if one.name == comparison.baseline)
    elif pinned and not first:
        fitting = [one for one in comparison.sides if _fits(one, ref.pins, comparison.by)]
        if len(fitting) != 1:
            raise UsageError(
                f"found {len(fitting)} sides that {ref.label!r} could mean, wanted one; say which, "
                f"such as {ref.name}[side={comparison.sides[0].name}]"
            )
        side = fitting[0]
    if row is None:
        return Cell(Row(quantity=ref.name, at={}, samples=()), side, Sample())
    return Cell(row, side, row.samples[comparison.sides.index(side)])


def facts(side: Side, by: By) -> At:
    """By what a side can be told in brackets."""
    found = {"side": side.name, "study": side.study}
    if by != "study":
        found["arm"] = side.arm
    if by == "run":
        found["run"] = side.runs[0]
    return found


def _fits(side: Side, pins: Pins, by: By) -> bool:
    known = facts(side, by)
    return all(known[key] == name for key, name in pins if key in known)


def _place_pins(pins: Pins, comparison: Comparison) -> Pins:
    known = facts(comparison.sides[0], comparison.by)
    return tuple((key, name) for key, name in pins if key not in known)


def _refuse_unknown_places(ref: Reference, comparison: Comparison) -> None:
    known = _known_places(ref.name, comparison)
    for key, name in ref.pins:
        if key not in known:
            hint = did_you_mean(key, known) or "."
            raise UnknownName(f"{ref.name!r} has no {key!r}{hint} Known: {', '.join(known)}")
        if name not in known[key]:
            hint = did_you_mean(name, known[key]) or "."
            every = ", ".join(known[key])
            raise UnknownName(f"{ref.name!r} has no {key} {name!r}{hint} Known: {every}")
        if key in facts(comparison.sides[0], comparison.by) and ref.of_baseline:
            raise UsageError(
                f"'baseline' is {comparison.baseline!r}, so {key}={name} cannot choose its side; "
                f"write {ref.name}[{key}={name}]"
            )


def _known_places(quantity: str, comparison: Comparison) -> dict[str, dict[str, None]]:
    """All names of every coordinate that may stand in the brackets of a quantity."""
    rows = [row.at for row in comparison.rows if row.quantity == quantity]
    known: dict[str, dict[str, None]] = {}
    sides = [facts(side, comparison.by) for side in comparison.sides]
    for at in (*rows, *sides):
        for key, name in at.items():
            known.setdefault(key, {})[name] = None
    return known
