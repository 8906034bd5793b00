"""How does a comparison become one page?  As the report does: one file that loads nothing.

It needs no drawing library: every figure is a few marks on a line, laid out by the template.
What depends on the baseline stands in the page for each side that may be chosen as one.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from kdprobe.comparing.gate import Gate
from kdprobe.comparing.record import Comparison, Difference
from kdprobe.files import write_whole
from kdprobe.report.comparison_bases import changed, data, none_decided, places, what_changed
from kdprobe.report.comparison_chapters import (
    caveat_table,
    comparison_chapters,
    judged,
    missing_table,
)
from kdprobe.report.comparison_effects import axes, marks
from kdprobe.report.comparison_order import gap_text, strongest
from kdprobe.report.comparison_rows import SIGNS, key_of, subjects, tones, where
from kdprobe.report.tables import write_named
from kdprobe.report.templating import environment, frame

STYLES = ("page", "tables", "compare", "compare_effects")
SCRIPTS = ("page", "tables", "compare", "compare_effects")
MOST_EFFECTS = 24  # of a figure; one with more starts folded
Line = tuple[int, int]  # row and side
T = TypeVar("T")
MOST_LINES = 6  # of a gate and kind
MOST_TOLD = 12  # decided differences on the first screen


def write_comparison(
    comparison: Comparison,
    folder: Path,
    gates: tuple[Gate, ...] = (),
    *,
    parquet: bool | None = None,
) -> tuple[Path, ...]:
    """Write ``compare.html``, ``compare.json`` and ``tables/*.csv`` into `folder`.

    Args:
        comparison: what was found.
        folder: is made when it is missing.
        gates: the rules that were judged on it.
        parquet: whether to write Parquet beside CSV; by default where pyarrow is installed.

    Returns:
        The files that were written, the page first.

    Raises:
        UsageError: `parquet` is True and pyarrow is not installed.
        OutputError: a file cannot be written.
    """
    panels = [
        panel for chapter in comparison_chapters(comparison, gates) for panel in chapter.panels
    ]
    return (
        write_whole(folder / "compare.html", comparison_page(comparison, gates).encode("utf-8")),
        write_whole(folder / "compare.json", comparison.to_json().encode("utf-8")),
        *write_named(panels, folder, parquet=parquet),
    )


def comparison_page(comparison: Comparison, gates: tuple[Gate, ...] = ()) -> str:
    """The comparison as one HTML document, with the outcome of its gates."""
    filled = environment()
    filled.filters |= {"where": where, "gap": gap_text}
    filled.globals |= {
        "signs": SIGNS,
        "most_lines": MOST_LINES,
        "most_effects": MOST_EFFECTS,
    }
    held, told = data(comparison), strongest(comparison)
    return filled.get_template("compare.html.j2").render(
        comparison=comparison,
        gates=gates,
        subjects=subjects(comparison),
        tones=tones(comparison.sides),
        gaps=_by_line(comparison, ((d, d) for d in comparison.differences)),
        told=told[:MOST_TOLD],
        told_total=len(told),
        tallies=[
            _tally(d for d in comparison.differences if d.side == side.name)
            for side in comparison.sides
        ],
        of_group={
            entry.name: _tally(d for d in comparison.differences if d.quantity == entry.name)
            for entry in comparison.quantities
        },
        judged=judged(comparison),
        caveats=caveat_table(comparison) if comparison.caveats else None,
        missing=missing_table(comparison) if comparison.missing else None,
        axes=axes(comparison),
        marks=_by_line(comparison, marks(comparison)),
        changed=changed(comparison),
        notes=(none_decided(comparison), what_changed(comparison)),
        data=held,
        centres=held["centres"],
        **frame(STYLES, SCRIPTS),
    )


def _by_line(comparison: Comparison, found: Iterable[tuple[Difference, T]]) -> dict[Line, T]:
    """What belongs to a difference, by the numbers of its row and side."""
    row, side = places(comparison)
    return {(row[key_of(d.quantity, d.at)], side[d.side]): told for d, told in found}


def _tally(differences: Iterable[Difference]) -> dict[str, int]:
    """How often it is better, worse ... than the baseline."""
    counts = Counter(d.outcome for d in differences)
    return {change: counts[change] for change in SIGNS}
