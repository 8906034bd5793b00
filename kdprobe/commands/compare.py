"""`kdprobe compare`: results side by side, a page of them, and gates. Imports no torch."""

import re
from collections.abc import Sequence
from pathlib import Path

import click

from kdprobe.commands.tables import print_json, print_table
from kdprobe.comparing.comparison import compare as set_side_by_side
from kdprobe.comparing.gate import Gate, judge_rule
from kdprobe.comparing.record import By, Comparison, Difference
from kdprobe.report.comparison import write_comparison
from kdprobe.report.comparison_order import gap_text, strongest
from kdprobe.report.comparison_rows import key_of, where
from kdprobe.report.numbers import number

MOST_LINES = 40  # of one table on stdout


def compare(
    sources: Sequence[str],
    *,
    out: Path | None,
    baseline: str | None,
    by: By | None,
    runs: Sequence[str],
    rules: Sequence[str],
    confident: bool,
    html: bool,
    quiet: bool,
    as_json: bool,
) -> bool:
    """Print and write the comparison of `sources`; True when no gate fails.

    Raises:
        InputError: a file is missing or no results file.
        UsageError: fewer than two sides, or a name or rule that is not understood.
    """
    found = _compared(sources, baseline=baseline, by=by, runs=runs)
    gates = tuple(judge_rule(found, rule, confident=confident) for rule in rules)
    if as_json:
        judged = [gate.model_dump(mode="json") | {"passed": gate.passed} for gate in gates]
        print_json({**found.model_dump(mode="json"), "gates": judged})
    else:
        _print(found)
    if html:
        folder = out or default_folder(found)
        file = write_comparison(found, folder, gates)[0]
        if not quiet:
            click.echo(f"written: {file}", err=True)
    for gate in gates:
        _say(gate)
    return all(gate.passed for gate in gates)


def show_quantities(
    sources: Sequence[str], *, by: By | None, runs: Sequence[str], as_json: bool
) -> None:
    """Print every quantity that can be compared, and the places that a rule may name."""
    found = _compared(sources, baseline=None, by=by, runs=runs)
    places: dict[str, dict[str, dict[str, None]]] = {}
    for row in found.rows:
        for key, name in row.at.items():
            places.setdefault(row.quantity, {}).setdefault(key, {})[name] = None
    if as_json:
        known = {
            name: {key: list(every) for key, every in at.items()} for name, at in places.items()
        }
        entries = [entry.model_dump(mode="json") for entry in found.quantities]
        print_json([{**entry, "places": known.get(entry["name"], {})} for entry in entries])
        return
    rows = [
        (entry.name, entry.better, _places(places.get(entry.name, {})), entry.meaning)
        for entry in found.quantities
    ]
    print_table("Quantities", ("name", "better", "places", "what it is"), rows)


def _compared(
    sources: Sequence[str], *, baseline: str | None, by: By | None, runs: Sequence[str]
) -> Comparison:
    names, paths = zip(*map(_named, sources), strict=True)
    return set_side_by_side(paths, baseline=baseline, by=by, runs=runs, names=names)


def _named(source: str) -> tuple[str, str]:
    """``NAME=PATH`` or a path; a path that exists is one, whatever it is called."""
    name, sign, path = source.partition("=")
    named = sign and name and "/" not in name and not Path(source).exists()
    return (name, path) if named else ("", source)


def default_folder(comparison: Comparison) -> Path:
    """``reports/compare-A-B``, of the names of the studies."""
    studies = list(dict.fromkeys(side.study for side in comparison.sides))
    told = "-".join(studies[:3]) + (f"-and-{len(studies) - 3}" if len(studies) > 3 else "")
    plain = re.sub(r"[^\w.-]+", "-", told).strip("-.")[:80]
    return Path("reports") / f"compare-{plain or 'studies'}"


def _places(at: dict[str, dict[str, None]]) -> str:
    return "; ".join(f"{key}: {', '.join(names)}" for key, names in at.items())


def _print(comparison: Comparison) -> None:
    sides = [
        (side.name + (" (baseline)" if side.name == comparison.baseline else ""),)
        + (side.study, side.role, len(side.runs), *_tally(comparison, side.name))
        for side in comparison.sides
    ]
    columns = ("side", "study", "role", "runs", "better", "worse", "higher or lower", "undecided")
    print_table("What is compared", columns, sides)
    for caveat in comparison.caveats:
        click.echo(f"not alike: {caveat.subject}: {caveat.what}")
    _print_differences("Decided differences", comparison, strongest(comparison))
    leading = {entry.name for entry in comparison.quantities if entry.leading}
    rest = [d for d in comparison.differences if d.quantity in leading]
    _print_differences("Leading quantities", comparison, rest)
    _print_verdicts(comparison)
    if comparison.missing:
        lacking: dict[str, dict[str, None]] = {}
        for entry in comparison.missing:
            lacking.setdefault(entry.side, {})[entry.quantity] = None
        for side, names in lacking.items():
            click.echo(f"{side} lacks at some or all places: {', '.join(names)}")


def _tally(comparison: Comparison, side: str) -> tuple[int, ...]:
    outcomes = [d.outcome for d in comparison.differences if d.side == side]
    counted = (("better",), ("worse",), ("higher", "lower"), ("undecided", "equal"))
    return tuple(sum(outcome in words for outcome in outcomes) for words in counted)


def _print_differences(
    title: str, comparison: Comparison, differences: Sequence[Difference]
) -> None:
    if not differences:
        click.echo(f"{title}: none")
        return
    means = {
        (*key_of(row.quantity, row.at), side.name): sample.mean
        for row in comparison.rows
        for side, sample in zip(comparison.sides, row.samples, strict=True)
    }
    rows = [
        (d.quantity, where(d.at), d.side, number(means[*key_of(d.quantity, d.at), d.side]))
        + (number(means[*key_of(d.quantity, d.at), d.baseline]), gap_text(d), d.outcome)
        for d in differences[:MOST_LINES]
    ]
    columns = ("quantity", "where", "side", "mean", "baseline", "difference", "outcome")
    print_table(title, columns, rows)
    if len(differences) > MOST_LINES:
        click.echo(f"and {len(differences) - MOST_LINES} more, in compare.html")


def _print_verdicts(comparison: Comparison) -> None:
    changed = [entry for entry in comparison.verdicts if entry.changed]
    if changed:
        sides = [side.name for side in comparison.sides]
        rows = [
            (entry.claim, where(entry.at), *(outcome or "" for outcome in entry.outcomes))
            for entry in changed
        ]
        print_table("Hypotheses judged otherwise", ("claim", "where", *sides), rows)


def _say(gate: Gate) -> None:
    """What a gate found, on stderr: every place at which it fails, or may."""
    places = "place" if gate.checked == 1 else "places"
    word = "passed" if gate.passed else "FAILED"
    click.echo(f"gate {word}: {gate.rule} (judged at {gate.checked} {places})", err=True)
    for kind in ("failing", "undecided", "unknown"):
        for line in getattr(gate, kind):
            click.echo(f"  {kind}: {line}", err=True)
