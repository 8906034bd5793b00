"""Where does a network look?  The picture in grey under its signed map, orange for, blue against.

Axes: h and w pixels of the picture.
"""

import numpy as np

from kdprobe.panels import AttributionMap, AttributionPicture, Overlays
from kdprobe.report.pictures import (
    OBJECT_INK,
    Mask,
    Pixels,
    Tile,
    bare,
    edge,
    enlarged,
    ink,
    packed,
    stretch,
)

FOR, AGAINST = (255, 140, 40), (60, 130, 255)
GREY = 0.55  # of the picture's brightness that stays below a map
GAMMA = 0.6  # of a map's size: the weak parts are to be seen too


def layers(panel: Overlays) -> list[tuple[str, list[Tile]]]:
    """For each picture and method: what it is, the picture itself, then one tile a network."""
    rows = []
    for picture in panel.pictures:
        plain = bare(picture, _ground(picture))
        for method, maps in _by_method(picture).items():
            tiles = [plain, *(_over(picture, at) for at in maps)]
            rows.append((f"{picture.name}, {method}", tiles))
    return rows


def most_layers(panel: Overlays) -> int:
    """How many tiles stand beside each other."""
    found = [len(maps) for picture in panel.pictures for maps in _by_method(picture).values()]
    return 1 + max(found, default=0)


def _by_method(picture: AttributionPicture) -> dict[str, list[AttributionMap]]:
    found: dict[str, list[AttributionMap]] = {}
    for at in picture.maps:
        found.setdefault(at.method, []).append(at)
    return found


def _over(picture: AttributionPicture, at: AttributionMap) -> Tile:
    pixels, outline = _ground(picture)
    values = stretch(at.values.unpack(), *pixels.shape[:2])
    grey = GREY * pixels.mean(axis=2, keepdims=True)
    strength = np.abs(values)[..., None] ** GAMMA
    colour = np.where(values[..., None] > 0, FOR, AGAINST)
    mixed = np.rint((1 - strength) * grey + strength * colour).astype(np.uint8)
    ink(mixed, outline, OBJECT_INK)
    alt = f"What of {picture.name} speaks for its class in {at.network}, by {at.method}."
    return packed(at.network, at.role, at.note, alt, mixed, picture.pixels.shape[0])


def _ground(picture: AttributionPicture) -> tuple[Pixels, Mask]:
    """The picture enlarged, and the outline of its object."""
    pixels = enlarged(picture.pixels)
    if picture.object is None:
        return pixels, np.zeros(pixels.shape[:2], dtype=bool)
    return pixels, edge(stretch(picture.object.unpack(), *pixels.shape[:2]) > 127, 1)
