"""What a page can show, as plain data: no figure is drawn here and no network is known.

Every panel travels inside results.json; `report/sketch.py` and `report/interactive.py` draw it.
"""

import base64
import zlib
from importlib import import_module
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

Cell = str | int | float | None
SHOWN_BY = "kdprobe.report.notebook"  # above this floor: loaded when a notebook asks, never here


class Frozen(BaseModel):
    """A record that cannot be changed and refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Bytes(Frozen):
    """An array of 8-bit values, compressed: pictures, masks and quantised maps.

    The value of a stored byte `v` is ``low + v / 255 * (high - low)``.
    """

    shape: tuple[int, ...]
    data: str  # base64 of the zlib-compressed bytes, row-major
    low: float = 0.0
    high: float = 255.0

    @classmethod
    def pack(cls, values: ArrayLike, low: float = 0.0, high: float = 255.0) -> "Bytes":
        """Quantise `values` from [low, high] to 8 bits; what lies outside is clipped."""
        array = np.asarray(values, dtype=np.float64)
        scale = 255.0 / (high - low) if high > low else 0.0
        levels = np.clip(np.rint((array - low) * scale), 0, 255).astype(np.uint8)
        packed = base64.b64encode(zlib.compress(levels.tobytes(), 9)).decode()
        return cls(shape=array.shape, data=packed, low=low, high=high)

    def unpack(self) -> NDArray[np.float64]:
        """The array of `shape`, in the units it was packed from."""
        levels = np.frombuffer(zlib.decompress(base64.b64decode(self.data)), dtype=np.uint8)
        values = self.low + levels.astype(np.float64) / 255.0 * (self.high - self.low)
        return values.reshape(self.shape)


class Shown(Frozen):
    """A record that shows itself in a notebook, and draws its figures there."""

    def _repr_html_(self) -> str:
        return str(import_module(SHOWN_BY).fragment(self))

    def plot(self) -> Any:
        """Its figures as one ``matplotlib.figure.Figure``, one below the other.

        Raises:
            UsageError: it has no figure.
        """
        return import_module(SHOWN_BY).plotted(self)


class PanelBase(Shown):
    """What all panels share: a title, and one line on how to read what is shown."""

    title: str
    how_to_read: str = ""


class Text(PanelBase):
    """A paragraph."""

    kind: Literal["text"] = "text"
    text: str


class Table(PanelBase):
    """Rows under named columns; also written to ``tables/*.csv`` when it bears a `name`."""

    kind: Literal["table"] = "table"
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    name: str = ""  # file name of the CSV, without ending


class Series(Frozen):
    """One line; `low` and `high` are the edges of its interval where it has one."""

    name: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    role: str = ""  # teacher, baseline, student, control or reference: gives the colour

    @classmethod
    def over_seeds(cls, name: str, x: ArrayLike, ys: ArrayLike, role: str) -> "Series":
        """The mean of the rows of `ys` (r, len(x)), with the least and largest as interval."""
        rows = np.asarray(ys, dtype=np.float64)
        low, high = (tuple(rows.min(0).tolist()), tuple(rows.max(0).tolist()))
        several = len(rows) > 1
        return cls(
            name=name,
            x=tuple(np.asarray(x, dtype=np.float64).tolist()),
            y=tuple(rows.mean(0).tolist()),
            low=low if several else (),
            high=high if several else (),
            role=role,
        )


class Lines(PanelBase):
    """Curves over a common axis."""

    kind: Literal["lines"] = "lines"
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_y: bool = False  # draw the values on a logarithmic axis
    x_names: tuple[str, ...] = ()  # what stands at x = 1, 2, ..., where these are no numbers


class Heatmap(PanelBase):
    """A matrix with named rows and columns, its values written into the cells."""

    kind: Literal["heatmap"] = "heatmap"
    values: tuple[tuple[float | None, ...], ...]  # (rows, columns)
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_label: str = ""
    column_label: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def span(self) -> tuple[float, float]:
        """The values at both ends of the colours: as given, else the least and the greatest."""
        known = [value for row in self.values for value in row if value is not None]
        low = min(known, default=0.0) if self.low is None else self.low
        return low, max(known, default=1.0) if self.high is None else self.high


class Track(Frozen):
    """Points on a plane, joined in order: the way of a training, or one named place."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    labels: tuple[str, ...] = ()  # of the points, such as epochs
    role: str = ""  # teacher, baseline, student or control: gives the colour


class Surface(PanelBase):
    """A scalar over a plane, drawn as filled contours, and what lies on it."""

    kind: Literal["surface"] = "surface"
    x: tuple[float, ...]
    y: tuple[float, ...]
    z: tuple[tuple[float | None, ...], ...]  # (y, x)
    x_label: str = ""
    y_label: str = ""
    z_label: str = ""
    tracks: tuple[Track, ...] = ()


class Effect(Frozen):
    """One row of a forest plot: an estimate and its interval."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    verdict: str = ""


class Forest(PanelBase):
    """Effects with intervals against a line of no effect at zero."""

    kind: Literal["forest"] = "forest"
    x_label: str
    effects: tuple[Effect, ...]


class ConceptMap(Frozen):
    """What one network keeps of one image."""

    network: str
    role: str
    entropy: Bytes  # (g, g), or of parts (h, w), nats against the background's mean, low = kept
    concepts: Bytes  # alike: 255 where the unit is a visual concept, 128 where an unstable one
    found: int  # concepts
    units: int  # that could be one


class ConceptPicture(Frozen):
    """One image, its object, and the maps of several networks."""

    name: str
    label: str  # its class; empty where that is unknown
    pixels: Bytes  # (h, w, 3) RGB
    object: Bytes  # (h, w) 255 on the object
    maps: tuple[ConceptMap, ...]


class Gallery(PanelBase):
    """Images with the concept maps of several networks side by side: one layer, one moment."""

    kind: Literal["gallery"] = "gallery"
    layer: str
    pictures: tuple[ConceptPicture, ...]


class Viewed(Frozen):
    """An image of a viewer."""

    name: str
    label: str  # its class; empty where that is unknown


class Watched(Frozen):
    """A network of a viewer, and when it was looked at."""

    name: str
    role: str
    epochs: tuple[int, ...]  # ascending


class Viewer(PanelBase):
    """Images x networks x layers x checkpoints: what is kept of every unit.

    Axes: l layers, k checkpoints (of the first network, then of the next), n images, q units.
    """

    kind: Literal["viewer"] = "viewer"
    layers: tuple[str, ...]
    networks: tuple[Watched, ...]
    pictures: tuple[Viewed, ...]
    pixels: Bytes  # (n, h, w, 3) RGB
    object: Bytes  # (n, h, w) 255 on the object
    sides: Bytes  # (n, q) 255 a unit of the object, 128 one of the background, 0 none
    members: Bytes | None = None  # (n, h, w, 2) a pixel's unit + 1 in base 256; None: a square grid
    kept: Bytes  # (l, k, n, q) nats kept more than of the background, by steps that part at `b`
    unstable: Bytes  # (l, k, n, q) 255: a concept at `b` that other random draws do not find
    b: float  # nats; a concept is a unit with `kept` above it
    note: str = ""  # what there was no room for


class AttributionMap(Frozen):
    """What one method shows of one network on one image."""

    method: str
    network: str
    role: str
    values: Bytes  # (h, w) in [-1, 1]: for the class or against it, by the map's own largest
    note: str = ""


class AttributionPicture(Frozen):
    """One image under the maps of several networks."""

    name: str
    label: str  # its class; empty where that is unknown
    pixels: Bytes  # (h, w, 3) RGB
    object: Bytes | None = None  # (h, w) 255 on the object
    maps: tuple[AttributionMap, ...]


class Overlays(PanelBase):
    """Images under signed maps, by method, networks side by side."""

    kind: Literal["overlays"] = "overlays"
    pictures: tuple[AttributionPicture, ...]


Panel = Annotated[
    Text | Table | Lines | Heatmap | Surface | Forest | Gallery | Viewer | Overlays,
    Field(discriminator="kind"),
]
