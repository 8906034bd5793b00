"""Photodigits: disjoint splits, exact masks, visible digits, and all of it by seed."""

import subprocess
import sys

import pytest
import torch

from kdprobe.datasets import _memory
from kdprobe.datasets import photodigits as photodigits_file
from kdprobe.datasets.contract import DATASETS
from kdprobe.datasets.digits import load_scans
from kdprobe.datasets.photodigits import (
    BYTES,
    CONTRAST,
    SIDE,
    ZOOMS,
    Scenes,
    choose_colours,
    crop,
    load_photographs,
    luminance,
    paint,
    photodigits,
    plan_scenes,
)
from kdprobe.errors import InputError


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return plan_scenes("test", 200, 0)


def columns(scenes: Scenes, photo: int) -> set[int]:
    rows = torch.nonzero(scenes.photos == photo).squeeze(1)
    ends = scenes.lefts + SIDE * scenes.zooms
    return {c for i in rows for c in range(int(scenes.lefts[i]), int(ends[i]))}


def test_the_images_keep_the_promise_of_the_label() -> None:
    data = photodigits("train", train=300)
    assert data.pixels.shape == (300, 3, 32, 32)
    assert data.labels.unique().tolist() == list(range(10))
    assert data.objects is not None
    assert data.objects.flatten(1).any(1).all()
    assert not data.objects.flatten(1).all(1).any()
    assert DATASETS["photodigits"].has_masks


def test_the_same_seed_gives_the_same_images() -> None:
    first = photodigits("test", test=50, seed=5)
    torch.manual_seed(99)
    assert photodigits("test", test=50, seed=5).digest() == first.digest()
    assert photodigits("test", test=50, seed=6).digest() != first.digest()


def test_a_split_does_not_depend_on_the_count_of_the_other() -> None:
    test = photodigits("test", train=1, test=40)
    assert photodigits("test", train=77, test=40).digest() == test.digest()
    train = photodigits("train", train=40, test=1)
    assert photodigits("train", train=40, test=77).digest() == train.digest()


@pytest.mark.parametrize("seed", range(6))
def test_the_splits_share_no_scan_and_no_region(seed: int) -> None:
    train, test = plan_scenes("train", 3000, seed), plan_scenes("test", 1000, seed)
    assert not set(train.scans.tolist()) & set(test.scans.tolist())
    for photo in (0, 1):
        ours, theirs = columns(train, photo), columns(test, photo)
        assert min(abs(min(ours) - max(theirs)), abs(min(theirs) - max(ours))) > 40
        assert not ours & theirs


def test_the_seed_chooses_the_side_of_each_photograph() -> None:
    sides = {
        tuple(min(columns(plan_scenes("test", 50, s), p)) > 300 for p in (0, 1)) for s in range(30)
    }
    assert sides == {(False, False), (False, True), (True, False), (True, True)}


def test_backgrounds_are_squares_of_the_photographs(scenes: Scenes) -> None:
    photographs, backgrounds = load_photographs(), crop(scenes)
    assert scenes.zooms.unique().tolist() == list(ZOOMS)
    for i in range(60):
        zoom, top, left = (int(part[i]) for part in (scenes.zooms, scenes.tops, scenes.lefts))
        side = SIDE * zoom
        square = photographs[scenes.photos[i], :, top : top + side, left : left + side]
        means = square.reshape(3, SIDE, zoom, SIDE, zoom).mean((2, 4))
        assert torch.allclose(backgrounds[i], means, atol=1e-6)


def test_pixels_outside_the_mask_are_the_photograph_and_inside_are_not(scenes: Scenes) -> None:
    backgrounds = crop(scenes)
    pixels, strokes = paint(scenes, backgrounds)
    outside = (~strokes).unsqueeze(1).expand_as(pixels)
    assert torch.equal(pixels[outside], backgrounds[outside])
    changed = (pixels != backgrounds).any(1)
    assert changed[strokes].float().mean() > 0.999
    data = photodigits("test", test=200, seed=0)
    assert torch.equal(data.pixels, pixels)
    assert torch.equal(data.objects, strokes)


def test_a_full_stroke_has_one_colour_at_a_visible_distance(scenes: Scenes) -> None:
    light = luminance(crop(scenes))
    _, strokes = paint(scenes, crop(scenes))
    colours = choose_colours(scenes.colours, light, strokes)
    for i in range(len(strokes)):
        hidden = light[i][strokes[i]].mean()
        assert abs(luminance(colours[i : i + 1])[0] - hidden) >= CONTRAST - 1e-5


def test_digits_differ_from_what_they_hide() -> None:
    """Over all pixels of a mask: its edges are half opaque, so half of the contrast is left."""
    data, scenes = photodigits("test", test=200), plan_scenes("test", 200, 0)
    gap = (luminance(data.pixels) - luminance(crop(scenes))).abs() * data.objects
    assert (gap.sum((1, 2)) / data.objects.sum((1, 2))).min() > CONTRAST / 2


@pytest.mark.parametrize(("light", "wanted"), [(0.4, 1.0), (0.6, 0.0)])
def test_black_or_white_is_taken_where_no_candidate_stands_out(light: float, wanted: float) -> None:
    candidates = torch.full((1, 3, 3), light)
    strokes = torch.ones(1, 4, 4, dtype=torch.bool)
    colours = choose_colours(candidates, torch.full((1, 4, 4), light), strokes)
    assert torch.equal(colours, torch.full((1, 3), wanted))


def test_a_mask_is_the_shape_of_its_scan_at_its_place(scenes: Scenes) -> None:
    """The ink's centre of mass, moved by size and centre, is the mask's: derived without a grid."""
    _, strokes = paint(scenes, crop(scenes))
    scans, _ = load_scans()
    place = torch.arange(8) + 0.5
    for i in range(0, 200, 5):
        ink = scans[scenes.scans[i]]
        middle = torch.stack([(ink.sum(0) * place).sum(), (ink.sum(1) * place).sum()]) / ink.sum()
        wanted = scenes.centres[i] + (middle / 8 - 0.5) * scenes.sizes[i]
        y, x = torch.nonzero(strokes[i]).float().mean(0) + 0.5
        assert torch.allclose(torch.stack([x, y]), wanted, atol=1.0)


def test_digits_lie_inside_the_image(scenes: Scenes) -> None:
    half = scenes.sizes.unsqueeze(1) / 2
    assert (scenes.centres - half >= -1e-4).all()
    assert (scenes.centres + half <= SIDE + 1e-4).all()


def test_an_unknown_split_or_an_empty_one_is_refused() -> None:
    with pytest.raises(InputError, match="found split 'val'"):
        photodigits("val")
    with pytest.raises(InputError, match="found 0 train images; wanted at least 1"):
        photodigits("train", train=0)
    assert len(photodigits("test", train=0, test=1)) == 1


def test_reading_the_catalogue_loads_no_scikit_learn() -> None:
    look = "import sys; from kdprobe.datasets.contract import DATASETS; list(DATASETS)"
    code = f"{look}; assert 'sklearn' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("split", ["train", "test"])
def test_more_images_than_memory_are_refused_before_any_is_drawn(split, monkeypatch) -> None:
    monkeypatch.setattr(_memory, "available", lambda: 2**30)
    monkeypatch.setattr(photodigits_file, "plan_scenes", lambda *words: pytest.fail("it was drawn"))
    told = rf"found 1.0 GiB .* for 40,000 images of 32 x 32 pixels: lower {split}="
    with pytest.raises(InputError, match=told):
        photodigits(split, **{split: 40_000})


PEAK = """
import sys
from pathlib import Path
from kdprobe.datasets.photodigits import photodigits
photodigits("train", train=int(sys.argv[1]))
lines = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_what_an_image_takes_while_it_is_painted_is_what_is_asked_for() -> None:
    def peak(count: int) -> int:
        command = [sys.executable, "-c", PEAK, str(count)]
        return 1024 * int(subprocess.run(command, capture_output=True, check=True).stdout)

    assert 0.7 * BYTES < (peak(11_000) - peak(1000)) / 10_000 < 1.3 * BYTES
