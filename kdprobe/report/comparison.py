"""How does a comparison become one page?  As the report does: one file that loads nothing.

It needs no drawing library: every figure is a few marks on a line, laid out by the template.
"""

from pathlib import Path

from kdprobe.comparing.gate import Gate
from kdprobe.comparing.record import Comparison, Difference
from kdprobe.files import write_whole
from kdprobe.report.colours import Colours
from kdprobe.report.comparison_chapters import (
    caveat_table,
    comparison_chapters,
    forests,
    missing_table,
    verdict_table,
)
from kdprobe.report.comparison_order import strongest
from kdprobe.report.comparison_rows import (
    SIGNS,
    data,
    key_of,
    subjects,
    tones,
    where,
)
from kdprobe.report.sketch import sketch
from kdprobe.report.tables import write_named
from kdprobe.report.templating import environment, frame

STYLES = ("page", "tables", "figures", "compare")
ROW, AROUND = 20, 56  # pixels of a figure: a row, and its axis
SCRIPTS = ("page", "compare")
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
    filled.filters |= {"where": where}
    filled.globals |= {
        "signs": SIGNS,
        "most_lines": MOST_LINES,
        "around": AROUND,
        "row": ROW,
    }
    held, told = data(comparison), strongest(comparison)
    return filled.get_template("compare.html.j2").render(
        comparison=comparison,
        gates=gates,
        subjects=subjects(comparison),
        tones=tones(comparison.sides),
        gaps=_gaps_by_line(comparison),
        told=told[:MOST_TOLD],
        told_total=len(told),
        tallies=_tallies(comparison),
        caveats=caveat_table(comparison) if comparison.caveats else None,
        verdicts=verdict_table(comparison) if comparison.verdicts else None,
        missing=missing_table(comparison) if comparison.missing else None,
        figures=[
            (panel, sketch(panel, Colours([]), AROUND + ROW * len(panel.effects)))
            for panel in forests(comparison)
        ],
        data=held,
        centres=held["centres"],
        **frame(STYLES, SCRIPTS),
    )


def _gaps_by_line(comparison: Comparison) -> dict[tuple[int, int], Difference]:
    """The difference of every (row, side)."""
    rows = {key_of(row.quantity, row.at): place for place, row in enumerate(comparison.rows)}
    sides = {side.name: place for place, side in enumerate(comparison.sides)}
    return {(rows[key_of(d.quantity, d.at)], sides[d.side]): d for d in comparison.differences}


def _tallies(comparison: Comparison) -> list[dict[str, int]]:
    """How often every side is better, worse ... than the baseline."""
    return [
        {
            change: sum(d.outcome == change for d in comparison.differences if d.side == side.name)
            for change in SIGNS
        }
        for side in comparison.sides
    ]
