"""What a page and paper are given of a gallery over training, and how many bytes it takes."""

import base64
import io
import zlib

import numpy as np
import pytest
from PIL import Image
from specimen import specimen
from specimen_gallery import B, viewer
from specimen_label import LAYERS

from kdprobe.panels import Bytes, Gallery, Panel, Text, Viewer
from kdprobe.report.colours import Colours
from kdprobe.report.html import page
from kdprobe.report.pictures import tiles
from kdprobe.report.printed import on_paper
from kdprobe.report.viewer import ACROSS, IN_CONTACT, ON_PAPER, contact, spans, viewed
from kdprobe.results import Results

KB, MB = 1000, 1_000_000
LAST = (0, 8, 16, 23)  # the last checkpoints of the networks


@pytest.fixture(scope="module")
def panel() -> Viewer:
    return viewer(10)


def test_paper_shows_the_first_images_at_the_end_of_training_a_gallery_a_layer(panel):
    text = Text(title="", text="")
    *stills, last = on_paper([panel, text])
    assert last is text
    assert [still.layer for still in stills if isinstance(still, Gallery)] == list(LAYERS)
    kept, shaky = panel.kept.unpack(), panel.unstable.unpack() > 127
    for place, still in enumerate(stills):
        assert len(still.pictures) == ON_PAPER
        for i, picture in enumerate(still.pictures):
            np.testing.assert_array_equal(picture.pixels.unpack(), panel.pixels.unpack()[i])
            for at, one in zip(LAST, picture.maps, strict=True):
                found = kept[place, at, i] > B
                assert (one.found, one.units) == (found.sum(), 256)
                marks = np.where(found, np.where(shaky[place, at, i], 128, 255), 0)
                np.testing.assert_array_equal(one.concepts.unpack().ravel(), marks)
                np.testing.assert_allclose(one.entropy.unpack().ravel(), -kept[place, at, i])


def test_parts_lie_where_their_pixels_are():
    members = np.array([[[0, 1], [2, 300]]])  # the unit of a pixel + 1
    kept = np.full((1, 1, 1, 300), -2.0)
    kept[..., 0], kept[..., 299] = 2.0, 1.0
    sides = np.zeros((1, 300))
    sides[0, [0, 1, 299]] = 128, 128, 255
    panel = viewer(1).model_copy(
        update={
            "layers": ("logits",),
            "networks": viewer(1).networks[:1],
            "pixels": Bytes.pack(np.zeros((1, 2, 2, 3))),
            "object": Bytes.pack(np.zeros((1, 2, 2))),
            "sides": Bytes.pack(sides),
            "members": Bytes.pack(np.stack([members // 256, members % 256], axis=-1)),
            "kept": Bytes.pack(kept, -2.0, 2.0),
            "unstable": Bytes.pack(np.zeros((1, 1, 1, 300))),
        }
    )
    (still,) = on_paper([panel])
    assert isinstance(still, Gallery)
    (one,) = still.pictures[0].maps
    assert (one.found, one.units) == (2, 3)
    np.testing.assert_array_equal(one.concepts.unpack(), [[0, 255], [0, 255]])
    np.testing.assert_allclose(one.entropy.unpack(), [[2, -2], [2, -1]], atol=0.02)


def test_the_colours_span_what_is_kept_over_all_of_training(panel):
    kept = panel.kept.unpack()
    for span, own in zip(spans(panel), kept, strict=True):
        np.testing.assert_allclose(span, np.percentile(own, (2, 98)))


def test_a_page_gets_arrays_as_they_are_stored_and_one_picture_of_all(panel):
    told = viewed(panel, Colours(specimen()))
    stored = np.frombuffer(zlib.decompress(base64.b64decode(told["packed"]["kept"])), np.uint8)
    values = told["low"] + stored * told["step"]
    np.testing.assert_allclose(values.reshape(panel.kept.shape), panel.kept.unpack())
    content = base64.b64decode(told["sprite"].removeprefix("data:image/webp;base64,"))
    whole = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    for i, pixels in enumerate(panel.pixels.unpack()):
        row, column = 32 * (i // ACROSS), 32 * (i % ACROSS)
        np.testing.assert_array_equal(whole[row : row + 32, column : column + 32], pixels)


def test_where_no_script_runs_some_tiles_stand_there(panel):
    small = contact(panel)
    assert len(small) == IN_CONTACT
    last = on_paper([panel])[-1]
    assert isinstance(last, Gallery)
    for (_, row), (_, large) in zip(small, tiles(last), strict=False):
        for few, many in zip(row, large, strict=True):
            assert (few.alt, few.note) == (many.alt, many.note)
            assert len(few.image) < len(many.image)
            one, other = (np.asarray(Image.open(io.BytesIO(t.image)), float) for t in (few, many))
            halved = other.reshape(96, 2, 96, 2, 3).mean((1, 3))
            assert np.abs(one - halved).mean() < 12, "it is the same picture, but for the loss"


def test_a_gallery_that_stands_still_is_a_panel_too(panel):
    still = on_paper([panel])[-1]
    text = page(with_panel(still))
    assert text.count("keeps of image test-") == ON_PAPER * len(panel.networks)
    assert 'class="viewer"' not in text


def test_a_gallery_of_nothing_is_drawn_too():
    empty = viewer(1).model_copy(
        update={
            "layers": (),
            "networks": (),
            "pictures": (),
            "pixels": Bytes.pack(np.zeros((0, 1, 1, 3))),
            "object": Bytes.pack(np.zeros((0, 1, 1))),
            "sides": Bytes.pack(np.zeros((0, 1))),
            "kept": Bytes.pack(np.zeros((0, 0, 0, 1))),
            "unstable": Bytes.pack(np.zeros((0, 0, 0, 1))),
        }
    )
    assert on_paper([empty]) == []
    assert contact(empty) == []
    assert viewed(empty, Colours(specimen()))["spans"] == []


def with_panel(panel: Panel) -> Results:
    """The specimen with `panel` in place of its gallery."""
    found = specimen()
    metrics = tuple(
        metric.model_copy(update={"panels": (panel, *metric.panels[1:])})
        if metric.key == "concepts"
        else metric
        for metric in found.metrics
    )
    return found.model_copy(update={"metrics": metrics})


def bytes_of(panel: Viewer) -> int:
    """What the gallery adds to a page."""
    none = Text(title="", text="")
    return len(page(with_panel(panel))) - len(page(with_panel(none)))


def test_it_stays_small():
    demo = viewer(16)
    assert demo.kept.shape[1] == 1 + 8 + 8 + 7
    assert len(demo.model_dump_json()) < 450 * KB
    assert bytes_of(demo) < 450 * KB
    large = viewer(64, tuple(range(20)))
    assert large.kept.shape[:3] == (3, 1 + 20 + 20 + 19, 64)
    assert len(large.model_dump_json()) < 4 * MB
    assert bytes_of(large) < 4 * MB
    assert len(page(with_panel(large)).encode()) < 15 * MB
    assert len(page(with_panel(demo)).encode()) < 3.5 * MB
