"""How does the report become paper?  Typst sets the same chapters; all text reaches it as data.

Nothing is ever pasted into typst source, so a name such as ``#panic()`` stays a name. Fonts come
from matplotlib's folder and the date is fixed: two renderings are equal byte for byte.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kdprobe.panels import Cell, Gallery, Overlays, Panel, Table, Text
from kdprobe.report.colours import ICONS, OUTCOME_PRINT, PRINT, Colours
from kdprobe.report.document import Chapter, chapters, describe
from kdprobe.report.first_page import Data, FirstPage
from kdprobe.report.fitting import breakable, cut
from kdprobe.report.numbers import number
from kdprobe.report.overlays import AGAINST, FOR, layers
from kdprobe.report.pictures import Tile, heat_colour, tiles
from kdprobe.report.printed import on_paper, printed
from kdprobe.report.templating import source
from kdprobe.report.typesetting import typeset
from kdprobe.results import Results

MOST_ROWS, FIRST_ROWS = 16, 12  # a table of more rows than that shows so many


def pdf(results: Results) -> bytes:
    """The whole report as a PDF: tagged, with alternative text, outline and contents.

    Raises:
        PaperError: the PDF cannot be set.
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
        shown = [chapter for chapter in chapters(self._results) if chapter.key != "summary"]
        return {
            **FirstPage(self._results, self._colours, shown).data(),
            "study": cut(self._results.study.name),
            "version": self._results.kdprobe_version,
            "chapters": [self._chapter(chapter) for chapter in shown],
            "heat": [f"#{bytes(heat_colour(step / 6)).hex()}" for step in range(7)],
            "signs": [f"#{bytes(colour).hex()}" for colour in (AGAINST, FOR)],
            "icons": ICONS,
            "inks": OUTCOME_PRINT,
        }

    def _chapter(self, chapter: Chapter) -> Data:
        words = ("title", "part", "question", "definition", "source", "better", "reason")
        facts: Data = {word: breakable(getattr(chapter, word)) for word in words}
        shown = () if chapter.key == "verdicts" else chapter.panels  # the cards hold it all
        ids = {panel.title: chapter.place_of(panel.title) for panel in shown}
        return facts | {"key": chapter.key, "blocks": list(self._blocks(shown, ids))}

    def _blocks(self, panels: tuple[Panel, ...], ids: dict[str, str]) -> Iterator[Data]:
        """The panels in order; figures that follow each other share one block."""
        figures: list[Data] = []
        for panel in on_paper(panels):
            drawn = printed(panel, self._colours)
            if drawn:
                image = {
                    "image": self._keep(drawn.encode(), "svg"),
                    "alt": breakable(describe(panel)),
                }
                figures.append(_head(panel, ids) | image)
                continue
            if figures:
                yield {"kind": "figures", "figures": figures}
                figures = []
            yield _head(panel, ids) | self._block(panel)
        if figures:
            yield {"kind": "figures", "figures": figures}

    def _block(self, panel: Panel) -> Data:
        block: Data = {"kind": panel.kind}
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
            "ink": PRINT[self._colours.of(tile.role, tile.title)] if tile.role else None,
            "note": breakable(tile.note),
            "alt": tile.alt,
            "image": self._keep(tile.image, tile.kind),
        }

    def _keep(self, content: bytes, ending: str) -> str:
        self._files += 1
        name = f"figure-{self._files}.{ending}"
        (self._folder / name).write_bytes(content)
        return name


def _head(panel: Panel, ids: dict[str, str]) -> Data:
    """Its title, how it is read, and for the first of its title the id that findings lead to."""
    title, how = breakable(panel.title), breakable(panel.how_to_read)
    return {"title": title, "how": how, "id": ids.pop(panel.title, "")}


def _rest(table: Table, shown: int) -> str:
    """Where the rows are that paper has no room for; nothing of a table that is whole."""
    count = len(table.rows)
    if shown == count:
        return ""
    place = f"tables/{table.name}.csv" if table.name else "results.json"
    return f"The first {shown} of {number(count)} rows; {place} holds all of them."


def _cell(cell: Cell) -> str:
    return breakable(cell) if isinstance(cell, str) else number(cell)
