"""What does a network keep of an image?  The picture under its entropy map, with outlines.

Axes: h and w pixels of the picture, g grid cells, s pixels of the composite.
"""

import base64
import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kdprobe.panels import AttributionPicture, Bytes, ConceptMap, ConceptPicture, Gallery

SIDE = 192  # least height of a composite, in pixels
SPREAD = (2.0, 98.0)  # percentiles of a gallery's entropies that get the ends of the colour scale
HEAT = ((11, 16, 38), (39, 48, 99), (104, 71, 128), (190, 96, 96), (242, 150, 62), (255, 208, 92))
OBJECT_INK = (64, 224, 255)
CONCEPT_INK = (255, 255, 255)
HALO_INK = (8, 10, 22)
BLEND = 0.68  # share of the map in the composite
LOSSLESS_UP_TO = 96  # pixels; larger photographs are stored as JPEG

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


UNSURE = (64, 192)  # marks between these are concepts that other random draws do not find again


@dataclass(frozen=True)
class Tile:
    """One picture of a gallery, ready to be shown."""

    title: str
    role: str  # empty for the plain picture
    note: str
    alt: str
    image: bytes
    kind: str  # webp or jpeg

    @property
    def uri(self) -> str:
        """The picture as a data URI."""
        return f"data:image/{self.kind};base64,{base64.b64encode(self.image).decode()}"


def tiles(gallery: Gallery) -> list[tuple[ConceptPicture, list[Tile]]]:
    """For each picture of the gallery: the picture itself, then one composite a network."""
    span = reach(gallery)
    return [
        (
            picture,
            [
                bare(picture, _enlarged(picture)),
                *(_composite(picture, entry, span) for entry in picture.maps),
            ],
        )
        for picture in gallery.pictures
    ]


def most_tiles(gallery: Gallery) -> int:
    """How many tiles stand beside each other."""
    return 1 + max((len(picture.maps) for picture in gallery.pictures), default=0)


def heat_colour(share: float) -> tuple[int, int, int]:
    """The colour of `share` in [0, 1] of the scale: 0 = discarded, 1 = kept."""
    red, green, blue = _heat(np.array([[share]]))[0, 0]
    return int(red), int(green), int(blue)


def reach(gallery: Gallery) -> tuple[float, float]:
    """Nats kept more than the background at both ends of the colours."""
    gaps = [_kept(entry).ravel() for picture in gallery.pictures for entry in picture.maps]
    if not gaps:
        return 0.0, 1.0
    low, high = np.percentile(np.concatenate(gaps), SPREAD)
    return float(low), float(max(high, low + 1e-9))


def _kept(entry: ConceptMap) -> NDArray[np.float64]:
    """How much less is discarded than of the background, in nats: (g, g)."""
    return -entry.entropy.unpack()


def bare(picture: ConceptPicture | AttributionPicture, ground: tuple[Pixels, Mask]) -> Tile:
    """The picture itself; `ground` is it enlarged, and the outline of its object."""
    pixels, outline = ground
    ink(pixels, outline, OBJECT_INK)
    kind = f"class {picture.label}" if picture.label else ""
    told = f" of {kind}" if kind else ""
    told += "; its object is outlined" if outline.any() else ""
    alt = f"Image {picture.name}{told}."
    return packed("image", "", kind, alt, pixels, picture.pixels.shape[0])


def _composite(picture: ConceptPicture, entry: ConceptMap, span: tuple[float, float]) -> Tile:
    pixels, outline = _enlarged(picture)
    height, width = pixels.shape[:2]
    low, high = span
    kept = stretch((_kept(entry) - low) / (high - low), height, width)
    grey = pixels.mean(axis=2, keepdims=True)
    mixed = np.rint(BLEND * _heat(kept) + (1 - BLEND) * grey).astype(np.uint8)
    marks = stretch(entry.concepts.unpack(), height, width)
    ink(mixed, outline, OBJECT_INK)
    ink(mixed, edge((marks > UNSURE[0]) & (marks < UNSURE[1]), 1), CONCEPT_INK)
    ink(mixed, edge(marks >= UNSURE[1], 2), CONCEPT_INK)
    note = f"{entry.found} concept{'' if entry.found == 1 else 's'}"
    cells = f"{entry.found} of {entry.units} cells are concepts"
    alt = f"What {entry.network} keeps of image {picture.name}: {cells}."
    return packed(entry.network, entry.role, note, alt, mixed, picture.pixels.shape[0])


def smaller(tile: Tile) -> Tile:
    """The same tile in fewer bytes: half as large, and with loss."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(tile.image)) as image:
        side = (max(1, image.width // 2), max(1, image.height // 2))
        image.convert("RGB").resize(side, Image.Resampling.BOX).save(file, "webp", quality=70)
    return replace(tile, image=file.getvalue(), kind="webp")


def _enlarged(picture: ConceptPicture) -> tuple[Pixels, Mask]:
    pixels = enlarged(picture.pixels)
    outline = edge(stretch(picture.object.unpack() > 127, *pixels.shape[:2]), 2)
    return pixels, outline


def enlarged(packed_pixels: Bytes) -> Pixels:
    """RGB (h, w, 3), every pixel repeated until the picture is about `SIDE` high."""
    source = packed_pixels.unpack().round().astype(np.uint8)
    factor = max(1, round(SIDE / source.shape[0]))
    return source.repeat(factor, axis=0).repeat(factor, axis=1)


def stretch(grid: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """`grid` (g, g) as (height, width), by the nearest."""
    rows = np.arange(height) * grid.shape[0] // height
    columns = np.arange(width) * grid.shape[1] // width
    return np.asarray(grid[rows[:, None], columns])


def edge(mask: Mask, thick: int) -> Mask:
    """The pixels of `mask` that lie within `thick` of its border; the frame is a border too."""
    inside = np.pad(mask, thick)
    core = inside.copy()
    for step in range(1, thick + 1):
        for axis in (0, 1):
            core &= np.roll(inside, step, axis) & np.roll(inside, -step, axis)
    return np.asarray((inside & ~core)[thick:-thick, thick:-thick])


def ink(pixels: Pixels, outline: Mask, colour: tuple[int, int, int]) -> None:
    """Draw `outline` into `pixels`, with a dark rim."""
    halo = outline.copy()
    halo[1:] |= outline[:-1]
    halo[:-1] |= outline[1:]
    halo[:, 1:] |= outline[:, :-1]
    halo[:, :-1] |= outline[:, 1:]
    pixels[halo & ~outline] = (pixels[halo & ~outline] * 0.35 + np.array(HALO_INK) * 0.65).astype(
        np.uint8
    )
    pixels[outline] = colour


def _heat(share: NDArray[np.float64]) -> NDArray[np.float64]:
    stops = np.linspace(0, 1, len(HEAT))
    inks = np.array(HEAT, dtype=np.float64)
    values = np.clip(share, 0, 1)
    return np.stack([np.interp(values, stops, inks[:, tone]) for tone in range(3)], axis=-1)


def packed(title: str, role: str, note: str, alt: str, pixels: Pixels, height: int) -> Tile:
    """`pixels` as a file; `height` is the picture's own, which decides on the format."""
    small = height <= LOSSLESS_UP_TO
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    if small:
        image.save(file, "webp", lossless=True, quality=50, method=1)  # half the time, no larger
    else:
        image.save(file, "jpeg", quality=86)
    return Tile(title, role, note, alt, file.getvalue(), "webp" if small else "jpeg")
