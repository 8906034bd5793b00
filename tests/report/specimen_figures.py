"""One panel of each kind of figure and a long table, with names that a spreadsheet would run."""

from specimen import specimen
from specimen_label import labelled

from kdprobe.panels import Effect, Forest, Heatmap, Lines, Panel, Series, Surface, Table, Track
from kdprobe.results import Results

GRID = (-1.0, 0.0, 1.0, 2.0)
LINES = Lines(
    title="Curves <b>",
    how_to_read="As it is.",
    x_label="epoch",
    y_label="=loss",
    log_y=True,
    x_names=("first", "second"),
    series=(
        Series(
            name="kd", role="student", x=(0, 1, 2), y=(4, None, 1), low=(3, 1, 1), high=(5, 2, 1)
        ),
        Series(name='=1+1,"', x=(0, 1, 2), y=(0.123456, 0.2, 30)),
    ),
)
HEAT = Heatmap(
    title="Cells",
    how_to_read="As it is.",
    values=((0.5, None, 1.0), (0.25, 0.0, 0.75)),
    rows=("a", "@b"),
    columns=("u", "v", "w"),
    row_label="layer",
    column_label="of the teacher",
)
GROUND = Surface(
    title="Ground",
    how_to_read="As it is.",
    x=GRID,
    y=GRID,
    z=tuple(tuple(1 + 2 * x - y + x * y for x in GRID) for y in GRID),
    x_label="first",
    y_label="second",
    z_label="height",
    tracks=(
        Track(name="kd", role="student", x=(0, 1, 1.5), y=(0, 1, 0.5), labels=("1", "2", "3")),
    ),
)
FOREST = Forest(
    title="Effects",
    how_to_read="As it is.",
    x_label="difference",
    effects=(
        Effect(name="kd", value=1.5, low=0.5, high=2.5, verdict="supported"),
        Effect(name="feature", value=-1.0, low=None, high=None),
        Effect(name="none", value=None, low=None, high=None, verdict="not applicable"),
    ),
)
WORDS = {5: "007", 7: "1.10"}  # names that look like numbers
TABLE = Table(
    title="Long",
    how_to_read="As it is.",
    columns=("run", "value", "word"),
    rows=tuple(
        (
            f"run{i}",
            None if i == 3 else (-1) ** i * i * 1000.5,
            WORDS.get(i, ("=even", "odd")[i % 2]),
        )
        for i in range(20)
    ),
)
FIGURES: tuple[Panel, ...] = (LINES, HEAT, GROUND, FOREST)


def figures(*panels: Panel) -> Results:
    """The specimen with one metric that shows `panels`, by default one of each kind."""
    metric = labelled("figures", "Figures", "How?", list(panels or (*FIGURES, TABLE)))
    return specimen().model_copy(update={"metrics": (metric,), "verdicts": ()})
