"""How does the report become paper?  Typst sets the same chapters; all text reaches it as data.

Nothing is ever pasted into typst source, so a name such as ``#panic()`` stays a name. Fonts come
from matplotlib's folder and the date is fixed: two renderings are equal byte for byte.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdprobe.panels import Cell, Gallery, Overlays, Panel, Table, Text
from kdprobe.report.colours import ICONS, OUTCOME_PRINT, PRINT, Colours
from kdprobe.report.document import Chapter, chapters, describe
from kdprobe.report.finding import Finding
from kdprobe.report.fitting import breakable, cut
from kdprobe.report.headline import (
    ALL_JUDGED,
    READING,
    WAYS,
    Arm,
    Claim,
    Headline,
    headline,
    key_estimate,
)
from kdprobe.report.numbers import interval, number, percent, scales
from kdprobe.report.overlays import AGAINST, FOR, layers
from kdprobe.report.pictures import Tile, heat_colour, tiles
from kdprobe.report.printed import printed
from kdprobe.report.templating import source
from kdprobe.report.typesetting import typeset
from kdprobe.report.viewer import on_paper
from kdprobe.results import AgainstControl, Estimate, Results, Verdict

MOST_ROWS, FIRST_ROWS = 16, 12  # a table of more rows than that shows so many

Data = dict[str, Any]


def pdf(results: Results) -> bytes:
    """The whole report as a PDF: tagged, with alternative text, outline and contents.

    Raises:
        OutputError: the PDF cannot be set.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content = _Content(results, folder).data()
        text = json.dumps(content, ensure_ascii=False, allow_nan=False)
        (folder / "report.json").write_text(text, encoding="utf-8")
        (folder / "report.typ").write_text(source("report.typ"), encoding="utf-8")
        return typeset(folder)


class _Content:
    """Turns results into what `report.typ` reads, and lays the pictures beside it."""

    def __init__(self, results: Results, folder: Path) -> None:
        self._results, self._folder = results, folder
        self._colours = Colours(results)
        self._files = 0

    def data(self) -> Data:
        """Everything that the page setter reads."""
        study = self._results.study
        top = headline(self._results)
        return {
            "study": cut(study.name),
            "facts": breakable(top.facts),
            "version": self._results.kdprobe_version,
            "sentence": top.sentence,
            "arms": [self._arm(arm) for arm in top.arms],
            "claims": [self._claim(claim) for claim in top.claims],
            "findings": _findings(top),
            "caution": top.caution,
            "reading": READING,
            "chapters": [
                self._chapter(chapter)
                for chapter in chapters(self._results)
                if chapter.key != "summary"
            ],
            "heat": [f"#{bytes(heat_colour(step / 6)).hex()}" for step in range(7)],
            "signs": [f"#{bytes(colour).hex()}" for colour in (AGAINST, FOR)],
            "icons": ICONS,
            "inks": OUTCOME_PRINT,
        }

    def _ink(self, role: str, name: str) -> str:
        return PRINT[self._colours.of(role, name)]

    def _arm(self, arm: Arm) -> Data:
        gain = None if arm.gain is None else f"{arm.gain_in_points} points against the baseline"
        return {
            "name": cut(arm.name),
            "role": "" if arm.name == arm.role else arm.role,
            "runs": f"{arm.runs} {'run' if arm.runs == 1 else 'runs'}",
            "ink": self._ink(arm.role, arm.name),
            "accuracy": percent(arm.accuracy),
            "gain": gain,
            "tally": [{"outcome": outcome, "count": count} for outcome, count in arm.tally],
        }

    def _claim(self, claim: Claim) -> Data:
        reach = scales(claim.verdicts)
        return {
            "code": breakable(claim.code),
            "statement": breakable(claim.statement),
            "source": breakable(claim.source),
            "rulings": [
                {
                    "arm": cut(ruling.arm) or "students",
                    "ink": self._ink("student", ruling.arm),
                    "sentence": ruling.sentence,
                    "notes": [breakable(note) for note in ruling.notes],
                    "verdicts": [self._verdict(verdict, reach) for verdict in ruling.verdicts],
                }
                for ruling in claim.rulings
            ],
        }

    def _verdict(self, verdict: Verdict, reach: dict[str, float]) -> Data:
        shown = key_estimate(verdict)
        return {
            "layer": cut(verdict.layer) or "every layer",
            "outcome": verdict.outcome,
            "reason": breakable(verdict.reason),
            "sample": _sample(verdict),
            "note": breakable(verdict.control_note),
            "controls": [self._control(entry) for entry in verdict.controls],
            "effect": breakable(f"{WAYS[shown.wanted]} {shown.quantity} {interval(shown)}")
            if shown
            else "",
            "estimates": [_estimate(entry, reach[entry.quantity]) for entry in verdict.estimates],
        }

    def _control(self, entry: AgainstControl) -> Data:
        seeds = f" ({entry.seeds} {'seed' if entry.seeds == 1 else 'seeds'})" if entry.seeds else ""
        text = f"Against {entry.arm}{seeds}, {entry.outcome}: {entry.reason}"
        return {"ink": self._ink("control", entry.arm), "text": breakable(text)}

    def _chapter(self, chapter: Chapter) -> Data:
        words = ("title", "part", "question", "definition", "source", "better", "reason")
        facts: Data = {word: breakable(getattr(chapter, word)) for word in words}
        shown = () if chapter.key == "verdicts" else chapter.panels  # the cards hold it all
        return facts | {"key": chapter.key, "blocks": list(self._blocks(shown))}

    def _blocks(self, panels: tuple[Panel, ...]) -> Iterator[Data]:
        """The panels in order; figures that follow each other share one block."""
        figures: list[Data] = []
        for panel in on_paper(panels):
            drawn = printed(panel, self._colours)
            if drawn:
                image = {
                    "image": self._keep(drawn.encode(), "svg"),
                    "alt": breakable(describe(panel)),
                }
                figures.append(_head(panel) | image)
                continue
            if figures:
                yield {"kind": "figures", "figures": figures}
                figures = []
            yield self._block(panel)
        if figures:
            yield {"kind": "figures", "figures": figures}

    def _block(self, panel: Panel) -> Data:
        block = _head(panel) | {"kind": panel.kind}
        if isinstance(panel, Text):
            block["text"] = breakable(panel.text)
        elif isinstance(panel, Table):
            block["columns"] = [breakable(name) for name in panel.columns]
            shown = panel.rows if len(panel.rows) <= MOST_ROWS else panel.rows[:FIRST_ROWS]
            block["rows"] = [[_cell(cell) for cell in row] for row in shown]
            block["rest"] = _rest(panel, len(shown))
        elif isinstance(panel, Gallery):
            block["pictures"] = self._pictures([(p.name, shown) for p, shown in tiles(panel)])
        elif isinstance(panel, Overlays):
            block["pictures"] = self._pictures(layers(panel))
        return block

    def _pictures(self, rows: list[tuple[str, list[Tile]]]) -> list[Data]:
        return [
            {"name": cut(name), "tiles": [self._tile(tile) for tile in shown]}
            for name, shown in rows
        ]

    def _tile(self, tile: Tile) -> Data:
        return {
            "title": cut(tile.title),
            "ink": self._ink(tile.role, tile.title) if tile.role else None,
            "note": breakable(tile.note),
            "alt": tile.alt,
            "image": self._keep(tile.image, tile.kind),
        }

    def _keep(self, content: bytes, ending: str) -> str:
        self._files += 1
        name = f"figure-{self._files}.{ending}"
        (self._folder / name).write_bytes(content)
        return name


def _head(panel: Panel) -> Data:
    return {"title": breakable(panel.title), "how": breakable(panel.how_to_read)}


def _sample(verdict: Verdict) -> str:
    seeds = f"{verdict.seeds} seed{'' if verdict.seeds == 1 else 's'}"
    parts = [f"{seeds}, {verdict.images} images"] if verdict.seeds else []
    if verdict.robust is not None:
        parts.append(f"{'same' if verdict.robust else 'not the same'} at every threshold b")
    return "; ".join(parts)


def _estimate(entry: Estimate, reach: float) -> Data:
    places = {
        side: None if value is None else value / reach
        for side, value in (("low", entry.low), ("at", entry.effect), ("high", entry.high))
    }
    return {
        "quantity": breakable(entry.quantity),
        "wanted": f"{WAYS[entry.wanted]} {entry.wanted}",
        "effect": interval(entry),
        "p": number(entry.p_value),
        "outcome": entry.outcome,
        **places,
    }


def _findings(top: Headline) -> list[Data]:
    return [
        _finding(
            "What deserves attention",
            top.attention,
            "No problem was found in the study, and no clear difference.",
        ),
        _finding("What could not be judged", top.unjudged, ALL_JUDGED),
    ]


def _finding(title: str, found: tuple[Finding, ...], nothing: str) -> Data:
    entries = [
        {"subject": breakable(entry.subject), "what": breakable(entry.what)} for entry in found
    ]
    return {"title": title, "entries": entries, "nothing": nothing}


def _rest(table: Table, shown: int) -> str:
    """Where the rows are that paper has no room for; nothing of a table that is whole."""
    count = len(table.rows)
    if shown == count:
        return ""
    place = f"tables/{table.name}.csv" if table.name else "results.json"
    return f"The first {shown} of {number(count)} rows; {place} holds all of them."


def _cell(cell: Cell) -> str:
    return breakable(cell) if isinstance(cell, str) else number(cell)
