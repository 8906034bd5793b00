"""How do results differ?  Reads them, sets them side by side, and judges every difference."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from kdprobe.comparing.caveats import caveats, missing
from kdprobe.comparing.differences import differences
from kdprobe.comparing.ranking import ranking
from kdprobe.comparing.record import At, By, Comparison, Side, SideBySide
from kdprobe.comparing.sides import Named, apart, chosen, compared, rows_of, sides_of
from kdprobe.errors import UsageError
from kdprobe.registry import did_you_mean
from kdprobe.results import Outcome, Results, Verdict, read_results

Source = str | Path | Results


def compare(
    sources: Sequence[Source],
    *,
    baseline: str | None = None,
    by: By | None = None,
    runs: Sequence[str] = (),
    names: Sequence[str] = (),
) -> Comparison:
    """Set results side by side.

    Args:
        sources: results, files called results.json, or folders that hold one.
        baseline: the name of the side that the others are compared with; default the first, and
            among the arms of one study the first arm of baselines.
        by: what is compared: "study" (default for several results: arm by arm), "arm" (default
            for one), or "run" (default where `runs` are named).
        runs: only these runs: ``kd-seed0``, or ``A/kd-seed0`` in one study of several.
        names: of the studies in this comparison; default their own, told apart by their folders.

    Returns:
        The comparison; every number in it is in the unit of its metric.

    Raises:
        InputError: a file is missing or no results file.
        UsageError: fewer than two sides, no number, or a name that does not exist.
    """
    studies = _named(sources, names)
    by = by or ("run" if runs else "study" if len(studies) > 1 else "arm")
    sides = sides_of(studies, by, chosen(studies, runs))
    if len(sides) < 2:
        raise UsageError(
            f"found {len(sides)} to compare by {by}; wanted two or more: pass another results.json "
            "or compare the arms or runs of one, --by arm or --by run"
        )
    rows, quantities = rows_of(studies, by, sides), compared(studies)
    if not rows:
        raise UsageError("found no number of any run; wanted some: analyze with other metrics")
    unjudged = Comparison(
        kdprobe_version=version("kdprobe"),
        by=by,
        baseline=sides[0].name,
        sides=tuple(sides),
        quantities=quantities,
        rows=tuple(rows),
        differences=(),
        ranking=ranking(rows, sides, quantities),
        verdicts=tuple(_verdicts(studies, by, sides)),
        caveats=caveats(studies),
        missing=missing(studies, sides, rows, quantities),
    )
    return against(unjudged, baseline or _default(sides, by))


def against(comparison: Comparison, baseline: str) -> Comparison:
    """The same sides, with all differences against `baseline`.

    Raises:
        UsageError: no side is called so.
    """
    sides, names = comparison.sides, [side.name for side in comparison.sides]
    if baseline not in names:
        hint = did_you_mean(baseline, names) or "."
        raise UsageError(f"no side is called {baseline!r}{hint} Known: {', '.join(names)}")
    base = names.index(baseline)
    found = differences(comparison.rows, sides, comparison.quantities, baseline)
    verdicts = tuple(
        entry.model_copy(update={"changed": _changed(entry.outcomes, base)})
        for entry in comparison.verdicts
    )
    changes = {"baseline": baseline, "differences": found, "verdicts": verdicts}
    return comparison.model_copy(update=changes)


def _default(sides: Sequence[Side], by: By) -> str:
    studies = {side.study for side in sides}
    fitting = [side for side in sides if by == "arm" and side.role == "baseline"]
    return (fitting if fitting and len(studies) == 1 else sides)[0].name


def _named(sources: Sequence[Source], names: Sequence[str]) -> list[Named]:
    """The results, each under a name of its own."""
    read = [
        source if isinstance(source, Results) else read_results(Path(source)) for source in sources
    ]
    asked = [
        names[place] if place < len(names) and names[place] else "" for place in range(len(read))
    ]
    own = [given or results.study.name for given, results in zip(asked, read, strict=True)]
    if len(set(own)) < len(own):
        own = [
            name if own.count(name) == 1 or asked[place] else _folder(sources[place]) or name
            for place, name in enumerate(own)
        ]
    return [Named(name, results) for name, results in zip(apart(own), read, strict=True)]


def _folder(source: Source) -> str:
    if isinstance(source, Results):
        return ""
    path = Path(source)
    path = path.parent if path.name == "results.json" else path
    path = path if path.name not in ("", "..") else path.resolve()
    return path.stem if path.suffix == ".json" else path.name


def _verdicts(studies: Sequence[Named], by: By, sides: Sequence[Side]) -> list[SideBySide]:
    """Every claim at every place with each side's outcome; runs are not judged one by one."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], list[Outcome | None]] = {}
    statements: dict[str, str] = {}
    for named in studies if by != "run" else ():
        for verdict in named.results.verdicts:
            statements.setdefault(verdict.claim, verdict.statement)
            for place, side in enumerate(sides):
                if side.study == named.name and side.arm in ("", verdict.arm):
                    key = (verdict.claim, tuple(_place(verdict, by).items()))
                    found.setdefault(key, [None] * len(sides))[place] = verdict.outcome
    return [
        SideBySide(
            claim=claim,
            statement=statements[claim],
            at=dict(at),
            outcomes=tuple(outcomes),
            changed=False,  # until there is a baseline
        )
        for (claim, at), outcomes in sorted(found.items(), key=lambda item: item[0][0])
    ]


def _place(verdict: Verdict, by: By) -> At:
    arm = {"arm": verdict.arm} if by == "study" else {}
    return {**arm, **({"layer": verdict.layer} if verdict.layer else {})}


def _changed(outcomes: Sequence[Outcome | None], base: int) -> bool:
    known = {outcome for outcome in outcomes if outcome is not None}
    return outcomes[base] is not None and len(known) > 1
