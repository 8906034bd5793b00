"""Signed maps over a picture: for the class in orange, against it in blue, nothing in grey."""

import io

import numpy as np
from PIL import Image
from specimen_overlays import panel

from kdprobe.panels import AttributionMap, AttributionPicture, Bytes, Overlays
from kdprobe.report.overlays import AGAINST, FOR, GREY, layers, most_layers
from kdprobe.report.pictures import OBJECT_INK, Tile

SIDE = 32


def opened(tile: Tile) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(tile.image)).convert("RGB"), dtype=int)


def one(values: np.ndarray, on: np.ndarray | None = None) -> list[Tile]:
    picture = AttributionPicture(
        name="a",
        label="seven",
        pixels=Bytes.pack(np.full((SIDE, SIDE, 3), 100.0)),
        object=None if on is None else Bytes.pack(on * 255.0),
        maps=(
            AttributionMap(
                method="IG", network="kd0", role="student", values=Bytes.pack(values, -1, 1)
            ),
        ),
    )
    ((_, tiles),) = layers(Overlays(title="t", pictures=(picture,)))
    return tiles


def test_colours_are_the_signs_of_the_map():
    values = np.zeros((4, 4))
    values[0], values[1] = 1.0, -1.0
    plain, over = one(values)
    assert (opened(plain) == 100).all()
    found = opened(over)
    assert found[0, 0].tolist() == list(FOR)
    assert found[60, 0].tolist() == list(AGAINST)
    assert np.ptp(found[-1, 0]) < 12, "nothing is grey, but for the rounding of 8 bits"
    assert abs(found[-1, 0].mean() - GREY * 100) < 12


def test_the_object_is_outlined_where_it_is_known():
    on = np.zeros((SIDE, SIDE))
    on[8:24, 8:24] = 1
    for tile in one(np.zeros((SIDE, SIDE)), on):
        assert (opened(tile) == OBJECT_INK).all(axis=2).sum() > 100
    for tile in one(np.zeros((SIDE, SIDE))):
        assert not (opened(tile) == OBJECT_INK).all(axis=2).any()


def test_every_tile_says_what_it_is():
    plain, over = one(np.zeros((4, 4)), np.ones((4, 4)))
    assert (plain.note, plain.role, over.title, over.role) == ("class seven", "", "kd0", "student")
    assert plain.alt == "Image a of class seven; its object is outlined."
    assert over.alt == "What of a speaks for its class in kd0, by IG."


def test_rows_are_pictures_and_methods():
    rows = layers(panel())
    assert [name for name, _ in rows][:2] == ["test-0000, IG", "test-0000, occlusion"]
    assert {len(tiles) for _, tiles in rows} == {most_layers(panel())} == {4}
    assert most_layers(Overlays(title="t", pictures=())) == 1
