"""What does a page need to draw a viewer itself?  Maps as they are stored, and all pictures as one.

And the same for paper, which cannot be turned over: the first images at the end of training.

Axes: l layers, k checkpoints (of the first network, then of the next), n images, q units.
"""

import base64
import io
import math
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kdprobe.panels import Bytes, ConceptMap, ConceptPicture, Gallery, Viewed, Viewer
from kdprobe.report.colours import Colours
from kdprobe.report.pictures import HEAT, LOSSLESS_UP_TO, SPREAD, Tile, smaller, tiles

ACROSS = 8  # pictures side by side in the one that holds them all
ON_PAPER = 6  # images of each layer
IN_CONTACT = 3  # images that stand on a page whose scripts do not run
QUALITY = 82  # of pictures too large to be stored without loss

Values = NDArray[np.float64]


def viewed(panel: Viewer, colours: Colours) -> dict[str, Any]:
    """What `gallery_data.js` reads: names, colours, compressed arrays as they are, one picture."""
    return {
        "layers": panel.layers,
        "networks": [
            {
                "name": network.name,
                "role": network.role,
                "ink": f"var(--{colours.of(network.role, network.name)})",
                "epochs": network.epochs,
            }
            for network in panel.networks
        ],
        "pictures": [{"name": one.name, "label": one.label} for one in panel.pictures],
        "heat": HEAT,
        "spans": spans(panel),
        "b": panel.b,
        "step": (panel.kept.high - panel.kept.low) / 255,
        "low": panel.kept.low,
        "shape": panel.pixels.shape[1:3],
        "units": panel.kept.shape[-1],
        "across": ACROSS,
        "sprite": _sprite(panel.pixels),
        "packed": {
            name: part.data
            for name in ("kept", "unstable", "sides", "object", "members")
            if (part := getattr(panel, name)) is not None
        },
    }


def spans(panel: Viewer) -> list[tuple[float, float]]:
    """Nats at both ends of the colours, of each layer: the same over all of training."""
    if 0 in panel.kept.shape:
        return [(0.0, 1.0)] * len(panel.layers)
    present = panel.sides.unpack() > 0
    kept = panel.kept.unpack()[:, :, present]
    if kept.size == 0:
        return [(0.0, 1.0)] * len(panel.layers)
    low, high = np.percentile(kept.reshape(len(kept), -1), SPREAD, axis=1)
    return [(float(a), float(max(b, a + 1e-9))) for a, b in zip(low, high, strict=True)]


def _sprite(pixels: Bytes) -> str:
    """All pictures (n, h, w, 3) in rows of `ACROSS`, as a data URI."""
    images = pixels.unpack().round().astype(np.uint8)
    count, high, wide = images.shape[:3]
    rows = max(1, math.ceil(count / ACROSS))
    padded = np.zeros((rows * ACROSS, high, wide, 3), dtype=np.uint8)
    padded[:count] = images
    laid = padded.reshape(rows, ACROSS, high, wide, 3).swapaxes(1, 2)
    file = io.BytesIO()
    whole = Image.fromarray(laid.reshape(rows * high, ACROSS * wide, 3))
    whole.save(file, "webp", lossless=high <= LOSSLESS_UP_TO, quality=QUALITY, method=6)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def contact(panel: Viewer) -> list[tuple[ConceptPicture, list[Tile]]]:
    """Small tiles of a few images at the last layer, for a page whose scripts do not run."""
    shown = stills(panel, IN_CONTACT)
    return (
        [(picture, [smaller(tile) for tile in row]) for picture, row in tiles(shown[-1])]
        if shown
        else []
    )


def stills(panel: Viewer, images: int = ON_PAPER) -> tuple[Gallery, ...]:
    """The first `images` at the last checkpoint of every network, a gallery a layer."""
    last = [stop - 1 for stop in accumulate(len(one.epochs) for one in panel.networks)]
    kept = panel.kept.unpack()[:, last, :images]
    shaky = panel.unstable.unpack()[:, last, :images] > 127
    return tuple(
        Gallery(
            title=f"{panel.title}, {layer}",
            how_to_read=f"{panel.how_to_read} At the end of training.",
            layer=layer,
            pictures=tuple(
                _picture(panel, one, i, kept[place, :, i], shaky[place, :, i])
                for i, one in enumerate(panel.pictures[:images])
            ),
        )
        for place, layer in enumerate(panel.layers)
    )


def _picture(
    panel: Viewer, one: Viewed, i: int, kept: Values, shaky: NDArray[np.bool_]
) -> ConceptPicture:
    """Image `i` with the maps (k, q) of all networks."""
    present = panel.sides.unpack()[i] > 0
    found = (kept > panel.b) & present
    marks = np.where(found & shaky, 128.0, found * 255.0)
    low = panel.kept.low
    return ConceptPicture(
        name=one.name,
        label=one.label,
        pixels=Bytes.pack(panel.pixels.unpack()[i]),
        object=Bytes.pack(panel.object.unpack()[i]),
        maps=tuple(
            ConceptMap(
                network=network.name,
                role=network.role,
                entropy=Bytes.pack(-_laid(panel, kept[at], i, low), -panel.kept.high, -low),
                concepts=Bytes.pack(_laid(panel, marks[at], i, 0.0)),
                found=int(found[at].sum()),
                units=int(present.sum()),
            )
            for at, network in enumerate(panel.networks)
        ),
    )


def _laid(panel: Viewer, values: Values, i: int, nothing: float) -> Values:
    """Units (q,) of image `i` as a map: (g, g) of a grid, else (h, w), `nothing` where none is."""
    if panel.members is None:
        side = math.isqrt(len(values))
        return values.reshape(side, side)
    high, low = np.moveaxis(panel.members.unpack()[i], -1, 0).round().astype(int)
    unit = 256 * high + low - 1
    return np.where(unit >= 0, values[unit], nothing)
