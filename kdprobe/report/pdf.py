"""How does the report become paper?  Typst sets the same chapters; all text reaches it as data.

Nothing is ever pasted into typst source, so a name such as ``#panic()`` stays a name. Fonts come
from matplotlib's folder and the date is fixed: two renderings are equal byte for byte.
"""

import json
import re
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import typst

from kdprobe.panels import Cell, Gallery, Overlays, Panel, Table, Text
from kdprobe.report.colours import ICONS, OUTCOME_PRINT, PRINT, Colours
from kdprobe.report.document import Chapter, chapters, describe
from kdprobe.report.headline import Arm, Claim, Headline, headline, key_estimate
from kdprobe.report.numbers import interval, number, percent, points, scales
from kdprobe.report.overlays import AGAINST, FOR, layers
from kdprobe.report.pictures import Tile, heat_colour, tiles
from kdprobe.report.still import drawing, font_folder
from kdprobe.results import AgainstControl, Estimate, Problem, Results, Verdict

EPOCH = 0  # seconds; the date that typst writes into the file
LONGEST = 48  # letters of a name where there is little room
UNBROKEN = 32  # characters after which a word without spaces may be broken

Data = dict[str, Any]


def pdf(results: Results) -> bytes:
    """The whole report as a PDF."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content = _Content(results, folder).data()
        text = json.dumps(content, ensure_ascii=False, allow_nan=False)
        (folder / "report.json").write_text(text, encoding="utf-8")
        source = files("kdprobe.report").joinpath("templates", "report.typ").read_bytes()
        (folder / "report.typ").write_bytes(source)
        made = typst.compile(
            folder / "report.typ",
            root=folder,
            font_paths=[font_folder()],
            ignore_system_fonts=True,
            timestamp=EPOCH,
            format="pdf",
        )
    if not isinstance(made, bytes):
        raise TypeError(f"typst gave {type(made).__name__} for a PDF, wanted bytes")
    return made


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
        facts = f"{len(study.runs)} runs on {study.dataset}, {len(study.classes)} classes"
        return {
            "study": _cut(study.name),
            "facts": _breakable(facts),
            "version": self._results.kdprobe_version,
            "sentence": top.sentence,
            "arms": [self._arm(arm) for arm in top.arms],
            "claims": [self._claim(claim) for claim in top.claims],
            "findings": _findings(top),
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
        gain = None if arm.gain is None else f"{points(arm.gain)} points against the baseline"
        return {
            "name": _cut(arm.name),
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
            "code": _breakable(claim.code),
            "statement": _breakable(claim.statement),
            "source": _breakable(claim.source),
            "rulings": [
                {
                    "arm": _cut(ruling.arm) or "students",
                    "ink": self._ink("student", ruling.arm),
                    "sentence": ruling.sentence,
                    "notes": [_breakable(note) for note in ruling.notes],
                    "verdicts": [self._verdict(verdict, reach) for verdict in ruling.verdicts],
                }
                for ruling in claim.rulings
            ],
        }

    def _verdict(self, verdict: Verdict, reach: dict[str, float]) -> Data:
        shown = key_estimate(verdict)
        return {
            "layer": _cut(verdict.layer) or "every layer",
            "outcome": verdict.outcome,
            "reason": _breakable(verdict.reason),
            "sample": _sample(verdict),
            "note": _breakable(verdict.control_note),
            "controls": [self._control(entry) for entry in verdict.controls],
            "effect": _breakable(f"{shown.quantity} {interval(shown)}") if shown else "",
            "estimates": [_estimate(entry, reach[entry.quantity]) for entry in verdict.estimates],
        }

    def _control(self, entry: AgainstControl) -> Data:
        seeds = f" ({entry.seeds} {'seed' if entry.seeds == 1 else 'seeds'})" if entry.seeds else ""
        text = f"Against {entry.arm}{seeds}, {entry.outcome}: {entry.reason}"
        return {"ink": self._ink("control", entry.arm), "text": _breakable(text)}

    def _chapter(self, chapter: Chapter) -> Data:
        words = ("title", "part", "question", "definition", "source", "better", "reason")
        facts: Data = {word: _breakable(getattr(chapter, word)) for word in words}
        shown = () if chapter.key == "verdicts" else chapter.panels  # the cards hold it all
        return facts | {"key": chapter.key, "blocks": list(self._blocks(shown))}

    def _blocks(self, panels: tuple[Panel, ...]) -> Iterator[Data]:
        """The panels in order; figures that follow each other share one block."""
        figures: list[Data] = []
        for panel in panels:
            drawn = drawing(panel, self._colours)
            if drawn is not None:
                image = {"image": self._keep(drawn, "svg"), "alt": _breakable(describe(panel))}
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
            block["text"] = _breakable(panel.text)
        elif isinstance(panel, Table):
            block["columns"] = [_breakable(name) for name in panel.columns]
            block["rows"] = [[_cell(cell) for cell in row] for row in panel.rows]
        elif isinstance(panel, Gallery):
            block["pictures"] = self._pictures([(p.name, shown) for p, shown in tiles(panel)])
        elif isinstance(panel, Overlays):
            block["pictures"] = self._pictures(layers(panel))
        return block

    def _pictures(self, rows: list[tuple[str, list[Tile]]]) -> list[Data]:
        return [
            {"name": _cut(name), "tiles": [self._tile(tile) for tile in shown]}
            for name, shown in rows
        ]

    def _tile(self, tile: Tile) -> Data:
        return {
            "title": _cut(tile.title),
            "ink": self._ink(tile.role, tile.title) if tile.role else None,
            "note": _breakable(tile.note),
            "alt": tile.alt,
            "image": self._keep(tile.image, tile.kind),
        }

    def _keep(self, content: bytes, ending: str) -> str:
        self._files += 1
        name = f"figure-{self._files}.{ending}"
        (self._folder / name).write_bytes(content)
        return name


def _head(panel: Panel) -> Data:
    return {"title": _breakable(panel.title), "how": _breakable(panel.how_to_read)}


def _sample(verdict: Verdict) -> str:
    parts = [f"{verdict.seeds} seeds, {verdict.images} images"] if verdict.seeds else []
    if verdict.robust is not None:
        parts.append(f"{'same' if verdict.robust else 'not the same'} at every threshold b")
    return "; ".join(parts)


def _estimate(entry: Estimate, reach: float) -> Data:
    places = {
        side: None if value is None else value / reach
        for side, value in (("low", entry.low), ("at", entry.effect), ("high", entry.high))
    }
    return {
        "quantity": _breakable(entry.quantity),
        "wanted": f"{'↑' if entry.wanted == 'higher' else '↓'} {entry.wanted}",
        "effect": interval(entry),
        "p": number(entry.p_value),
        "outcome": entry.outcome,
        **places,
    }


def _findings(top: Headline) -> list[Data]:
    return [
        _finding("What deserves attention", top.attention, "No problem was found in the study."),
        _finding("What could not be judged", top.unjudged, "Nothing was left out."),
    ]


def _finding(title: str, found: tuple[Problem, ...], nothing: str) -> Data:
    entries = [
        {"subject": _breakable(entry.subject), "what": _breakable(entry.what)} for entry in found
    ]
    return {"title": title, "entries": entries, "nothing": nothing}


def _cell(cell: Cell) -> str:
    return _breakable(cell) if isinstance(cell, str) else number(cell)


def _cut(name: str) -> str:
    """A name for a narrow place; the tables hold it in full."""
    return _breakable(name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…")


def _breakable(text: str) -> str:
    """Lets very long words, such as digests, go over several lines."""
    return re.sub(rf"(\S{{{UNBROKEN}}})(?=\S)", "\\1\u200b", text)
