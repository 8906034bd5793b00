"""What is said of curvature on the page?  The result of the metric `curvature`, as panels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.contract import Array, Roles, arm_series, by_arm, page_only
from kdprobe.panels import Cell, Lines, Series, Table

POINTS = 141  # of the density's axis
WIDTH = 0.08  # decades: standard deviation of the Gaussian in place of every eigenvalue
DECADES = 3  # below the largest eigenvalue: where the axis turns from logarithmic to linear


@dataclass(frozen=True)
class LayerBend:
    """The diagonal block of one layer's weights."""

    weights: int
    trace: float
    trace_error: float  # standard error
    top: float | None  # largest eigenvalue
    top_bound: float | None  # an eigenvalue lies within this of it


@dataclass(frozen=True)
class Bend:
    """The Hessian at one network. Nats per squared unit of weight."""

    eigenvalues: Array  # (e,) the largest, descending
    bounds: Array  # (e,) an eigenvalue lies within this of each
    image_error: float | None  # standard error of the largest over samples of images
    steps: int  # of Lanczos
    least: float
    least_bound: float
    trace: float
    trace_error: float  # standard error
    draws: int
    negative_share: float  # sum of |lambda| below 0, over that of all
    negative_share_error: float  # over the random vectors, and of the quadrature
    layers: Mapping[str, LayerBend]
    nodes: Array = page_only()  # (m, i) eigenvalues that stand for all
    masses: Array = page_only()  # (m, i) how many each stands for

    def settled(self, tolerance: float) -> bool:
        """Whether the largest eigenvalues are known as well as asked."""
        return bool(np.all(self.bounds <= tolerance * np.abs(self.eigenvalues)))

    @property
    def weights(self) -> int:
        """How many there are."""
        return sum(layer.weights for layer in self.layers.values())


@dataclass(frozen=True)
class Axis:
    """sign(lambda) log10(1 + |lambda| / unit): linear near 0, decades beyond."""

    unit: float

    @staticmethod
    def over(bends: Mapping[str, Bend]) -> "Axis":
        """One for all."""
        largest = max(float(np.abs(_ends(bend)).max()) for bend in bends.values())
        return Axis(10.0 ** (np.floor(np.log10(largest)) - DECADES) if largest > 0 else 1.0)

    def place(self, values: Array) -> Array:
        """Where on the axis `values` stand."""
        return np.asarray(np.sign(values) * np.log10(1 + np.abs(values) / self.unit))

    def points(self, bends: Mapping[str, Bend]) -> Array:
        """(x,) from end to end of the spectra."""
        ends = self.place(np.concatenate([_ends(bend) for bend in bends.values()]))
        return np.linspace(ends.min() - 4 * WIDTH, ends.max() + 4 * WIDTH, POINTS)


def _ends(bend: Bend) -> Array:
    return np.array([bend.least, bend.eigenvalues[0]])


def density(bend: Bend, axis: Axis, x: Array) -> Array:
    """(m, x) share of the eigenvalues per unit of the axis, as each random vector sees it."""
    places = axis.place(bend.nodes)
    bumps = np.exp(-0.5 * ((x[:, None] - places[:, None, :]) / WIDTH) ** 2)  # (m, x, j)
    heights = (bumps * bend.masses[:, None, :]).sum(2) / (WIDTH * np.sqrt(2 * np.pi))
    return np.asarray(heights / bend.weights)


def density_panel(bends: Mapping[str, Bend], roles: Roles, images: int) -> Lines:
    """The spectral density of every arm."""
    axis = Axis.over(bends)
    x = axis.points(bends)
    floor = 0.1 / max(bend.weights for bend in bends.values())
    seen = {run: density(bend, axis, x) for run, bend in bends.items()}
    means = {run: np.maximum(heights.mean(0), floor) for run, heights in seen.items()}
    alone = {arm: runs[0] for (arm, _), runs in by_arm(roles, bends).items() if len(runs) == 1}
    series = tuple(
        _banded(one, seen[alone[one.name]], floor) if one.name in alone else one
        for one in arm_series(roles, x, means)
    )
    return Lines(
        title="Spectral density of the Hessian",
        how_to_read=(
            f"Share of eigenvalues, of the loss on {images} images; the band spans the seeds, or "
            "of a single network one standard error over random vectors. The axis is "
            f"sign(λ) log10(1 + |λ| / {axis.unit:g}): {_stops(axis)}. Every eigenvalue is drawn as "
            f"a Gaussian {WIDTH:g} wide on it. Most directions are flat (the peak at 0); those far "
            "to the right are steep, those to the left of 0 curve downwards; lumps near 0 are "
            "nodes of the quadrature. The teacher has other weights and is shown, not compared."
        ),
        x_label=f"sign(λ) log10(1 + |λ| / {axis.unit:g})",
        y_label="density",
        log_y=True,
        series=series,
    )


def _stops(axis: Axis) -> str:
    values = axis.unit * 10.0 ** np.arange(1, DECADES + 1)
    return ", ".join(
        f"λ = {value:g} stands at {place:.2f}"
        for value, place in zip(values, axis.place(values), strict=True)
    )


def _banded(series: Series, heights: Array, floor: float) -> Series:
    mean, error = heights.mean(0), heights.std(axis=0, ddof=1) / np.sqrt(len(heights))
    low, high = (np.maximum(mean + sign * error, floor).tolist() for sign in (-1, 1))
    return series.model_copy(update={"low": tuple(low), "high": tuple(high)})


def layer_panel(bends: Mapping[str, Bend], roles: Roles) -> Lines:
    """Trace by layer, of the arms whose layers bear the names of the first learner's."""
    first = next((run for run in bends if roles[run][1] != "teacher"), next(iter(bends)))
    names = tuple(bends[first].layers)
    traces = {
        run: np.array([layer.trace for layer in bend.layers.values()])
        for run, bend in bends.items()
        if tuple(bend.layers) == names
    }
    x = np.arange(1, len(names) + 1)
    return Lines(
        title="Curvature by layer",
        how_to_read=(
            "Trace of each layer's own block of the Hessian; the layers add up to the whole. "
            "The band spans the seeds; standard errors are in the table. Traces below 0 are left "
            "out."
        ),
        x_label="layer",
        x_names=names,
        y_label="trace (nats per squared weight)",
        log_y=True,
        series=tuple(_above_zero(one) for one in arm_series(roles, x, traces)),
    )


def _above_zero(series: Series) -> Series:
    kept = [value is not None and value > 0 for value in series.y]
    fields = {
        name: tuple(v if keep else None for v, keep in zip(values, kept, strict=True))
        for name in ("y", "low", "high")
        if (values := getattr(series, name))
    }
    if fields.get("low"):
        fields["low"] = tuple(v if v is not None and v > 0 else None for v in fields["low"])
    return series.model_copy(update=fields)


def layer_table(bends: Mapping[str, Bend]) -> Table:
    """The numbers of every layer's block."""
    return Table(
        title="Curvature of every layer's block",
        how_to_read=(
            "± trace is a standard error over random vectors; ± top is a bound: an eigenvalue of "
            "the block lies within it."
        ),
        columns=("run", "layer", "weights", "trace", "± trace", "largest eigenvalue", "± top"),
        rows=tuple(
            (run, name, layer.weights)
            + tuple(short(v) for v in (layer.trace, layer.trace_error, layer.top, layer.top_bound))
            for run, bend in bends.items()
            for name, layer in bend.layers.items()
        ),
        name="curvature_layers",
    )


def table(bends: Mapping[str, Bend], images: int) -> Table:
    """The numbers of every run."""
    return Table(
        title="Curvature at every network",
        how_to_read=(
            f"Of the mean cross-entropy on {images} held-out images. ± bound: an eigenvalue lies "
            "within it (that no larger one exists rests on the random start). ± images: standard "
            "error of the largest over samples of images, of which the other columns' errors know "
            "nothing. ± trace: standard error over random vectors; ± share: that, and the last "
            "step's change. Negative share: part of the whole |curvature| that bends downwards. "
            "The Hessian's scale depends on how a function is written in weights (Dinh et al. "
            "2017, arXiv:1703.04933): compare networks of one architecture."
        ),
        columns=("run", "largest eigenvalue", "± bound", "± images", "trace", "± trace", "least")
        + ("± least", "negative share %", "± share", "steps", "draws"),
        rows=tuple((run, *_row(bend)) for run, bend in bends.items()),
        name="curvature",
    )


def _row(bend: Bend) -> Sequence[Cell]:
    return (
        *(short(v) for v in (bend.eigenvalues[0], bend.bounds[0], bend.image_error)),
        *(short(v) for v in (bend.trace, bend.trace_error, bend.least, bend.least_bound)),
        round(100 * bend.negative_share, 2),
        round(100 * bend.negative_share_error, 2),
        bend.steps,
        bend.draws,
    )


def short(value: float | None) -> float | None:
    """Five digits, whatever the size."""
    return None if value is None else float(f"{value:.5g}")
