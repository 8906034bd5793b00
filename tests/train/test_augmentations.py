"""Augmentations against closed forms, plain loops, Pillow and colorsys; and their laws."""

import colorsys
import inspect
import random
import re

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops, ImageEnhance, ImageFilter, ImageOps
from scipy import stats
from torch import Tensor

from kdprobe.errors import InputError, UnknownName
from kdprobe.expression import parse_call
from kdprobe.train.augmentations import colour_jitter as colours
from kdprobe.train.augmentations import rand_augment as changes
from kdprobe.train.augmentations.contract import AUGMENTATIONS, View
from kdprobe.train.augmentations.mixup import drawn_share
from kdprobe.train.augmentations.rotation import moved, turned_by
from kdprobe.train.augmenting import augmentation_faults, augmented

EVERY = [
    "flip",
    "crop",
    "rotation",
    "cutout",
    "mixup",
    "cutmix",
    "colour_jitter",
    "rand_augment",
]
MIXING = ("mixup", "cutmix")


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 12, height: int = 16, width: int = 16, seed: int = 0) -> Tensor:
    """Whole levels of 255, as images out of files have them."""
    drawn = torch.randint(256, (n, 3, height, width), generator=chance(seed))
    return drawn.float() / 255


def view(n: int = 12, height: int = 16, width: int = 16) -> View:
    return View(images(n, height, width), torch.arange(n) % 5, 5)


def seen(text: str, given: View | None = None, seed: int = 0) -> View:
    return augmented(given or view(), [parse_call(text)], seed)


def made(key: str, given: View, generator: torch.Generator, **knobs: object) -> View:
    found: View = AUGMENTATIONS[key].view(given, generator, **knobs)
    return found


def test_the_room_holds_these_augmentations():
    assert set(EVERY) <= set(AUGMENTATIONS)


@pytest.mark.parametrize("key", list(AUGMENTATIONS))
@pytest.mark.parametrize("shape", [(12, 16, 16), (1, 16, 16), (3, 12, 20), (2, 7, 6)])
def test_a_view_is_a_batch_of_images_with_targets(key, shape):
    given = view(*shape)
    before = given.pixels.clone(), given.target.clone()
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    found = seen(key, given)
    assert torch.equal(given.pixels, before[0]), "the images that were given are changed"
    assert torch.equal(given.target, before[1])
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]
    assert random.getstate() == states[2]
    assert found.pixels.shape == given.pixels.shape
    assert found.pixels.dtype == torch.float32
    assert float(found.pixels.min()) >= 0
    assert float(found.pixels.max()) <= 1
    if key in MIXING:
        assert found.target.shape == (shape[0], 5)
        assert torch.allclose(found.target.sum(1), torch.ones(shape[0]))
        assert float(found.target.min()) >= 0
    else:
        assert torch.equal(found.target, given.target)


@pytest.mark.parametrize("key", list(AUGMENTATIONS))
def test_the_seed_alone_decides(key):
    given = view(40)
    one = seen(key, given, seed=7)
    torch.manual_seed(99)
    again, other = seen(key, given, seed=7), seen(key, given, seed=8)
    assert torch.equal(one.pixels, again.pixels)
    assert torch.equal(one.target, again.target)
    assert not torch.equal(one.pixels, other.pixels)


def test_an_augmentation_more_changes_the_draws_of_no_other():
    squares = seen(
        "cutout(size=4, fill=0.0)", View(torch.ones(12, 3, 16, 16), torch.arange(12), 12)
    )
    calls = [parse_call(text) for text in ("colour_jitter(hue=0.2)", "cutout(size=4, fill=0.0)")]
    white = View(torch.ones(12, 3, 16, 16), torch.arange(12), 12)
    after = augmented(white, calls, 0)
    assert torch.equal(after.pixels == 0, squares.pixels == 0)


def test_the_same_augmentation_twice_draws_twice():
    calls = [parse_call("cutout(size=4, fill=0.0)")] * 2
    white = View(torch.ones(12, 3, 16, 16), torch.arange(12), 12)
    hidden = (augmented(white, calls, 0).pixels == 0).sum()
    assert int(hidden) > int((augmented(white, calls[:1], 0).pixels == 0).sum())


def test_no_augmentation_changes_nothing_and_sequences_are_refused():
    given = view()
    assert augmented(given, [], 0) is given
    tokens = View(torch.rand(4, 5, 3), torch.arange(4), 4)
    assert augmented(tokens, [], 0) is tokens
    with pytest.raises(InputError, match=r"inputs of shape \(4, 5, 3\) to augment; wanted images"):
        seen("flip", tokens)
    with pytest.raises(UnknownName, match="no augmentation is called 'flop'"):
        seen("flop")


# flip


def test_flipping_twice_is_the_identity_and_once_is_a_mirror():
    given = view()
    once = made("flip", given, chance(), p=1.0)
    assert torch.equal(once.pixels, torch.from_numpy(given.pixels.numpy()[..., ::-1].copy()))
    assert torch.equal(made("flip", once, chance(), p=1.0).pixels, given.pixels)
    assert torch.equal(made("flip", given, chance(), p=0.0).pixels, given.pixels)


def test_images_are_flipped_at_the_rate_of_p_and_each_for_itself():
    given = view(2000, 2, 2)
    turned = made("flip", given, chance(), p=0.3).pixels != given.pixels
    rate = float(turned.flatten(1).any(1).float().mean())
    assert abs(rate - 0.3) < 4 * (0.3 * 0.7 / 2000) ** 0.5


# crop


@pytest.mark.parametrize(("mode", "numpy_mode"), [("reflect", "reflect"), ("zero", "constant")])
def test_a_crop_is_that_of_a_plain_loop(mode, numpy_mode):
    given = view(6, 9, 12)
    found = made("crop", given, chance(3), pad=3, mode=mode).pixels
    moves = torch.randint(7, (2, 6, 1), generator=chance(3)).tolist()
    for row, image in enumerate(given.pixels.numpy()):
        around = np.pad(image, ((0, 0), (3, 3), (3, 3)), mode=numpy_mode)
        top, left = moves[0][row][0], moves[1][row][0]
        assert np.array_equal(found[row].numpy(), around[:, top : top + 9, left : left + 12])


def test_a_crop_without_pad_is_the_image_and_all_places_come_about():
    given = view()
    assert torch.equal(made("crop", given, chance(), pad=0).pixels, given.pixels)
    many = View(images(1).expand(400, -1, -1, -1), torch.zeros(400, dtype=torch.int64), 2)
    found = made("crop", many, chance(), pad=1).pixels
    assert len({image.numpy().tobytes() for image in found}) == 9


# rotation


@pytest.mark.parametrize("quarter", [0, 1, 2, 3, -1])
@pytest.mark.parametrize("outside", ["zeros", "reflection"])
def test_quarter_turns_are_exact(quarter, outside):
    pixels = images()
    angles = torch.full((12,), quarter * torch.pi / 2, dtype=torch.float64)
    found = moved(pixels, turned_by(angles), outside)
    assert torch.allclose(found, torch.rot90(pixels, quarter, (2, 3)), atol=2e-5)


@pytest.mark.parametrize("shape", [(2, 16, 16), (2, 10, 17)])
def test_a_rotation_is_that_of_a_plain_loop(shape):
    given = view(*shape)
    found = made("rotation", given, chance(1), degrees=40.0, mode="zero").pixels
    draws = 2 * torch.rand(2, generator=chance(1), dtype=torch.float64) - 1
    for row, draw in enumerate(draws.tolist()):
        image = given.pixels[row].double().numpy()
        wanted = rotated(image, draw * 40 * np.pi / 180)
        assert np.abs(found[row].numpy() - wanted).max() < 1e-4


def rotated(image: np.ndarray, angle: float) -> np.ndarray:
    """Bilinear, black outside, anticlockwise, by loops over pixels in float64."""
    _, height, width = image.shape
    found = np.zeros_like(image)
    for i in range(height):
        for j in range(width):
            x, y = j - (width - 1) / 2, i - (height - 1) / 2
            u = np.cos(angle) * x - np.sin(angle) * y + (width - 1) / 2
            v = np.sin(angle) * x + np.cos(angle) * y + (height - 1) / 2
            for a in (int(np.floor(v)), int(np.floor(v)) + 1):
                for b in (int(np.floor(u)), int(np.floor(u)) + 1):
                    if 0 <= a < height and 0 <= b < width:
                        found[:, i, j] += (1 - abs(v - a)) * (1 - abs(u - b)) * image[:, a, b]
    return found


def test_no_degrees_leave_the_image_and_a_flat_one_stays_flat():
    given = view()
    still = made("rotation", given, chance(), degrees=0.0).pixels
    assert torch.allclose(still, given.pixels, atol=2e-5)
    white = View(torch.ones(5, 3, 16, 16), torch.arange(5), 5)
    assert torch.allclose(made("rotation", white, chance(), degrees=90).pixels, white.pixels)


# cutout


@pytest.mark.parametrize("size", [1, 4, 5, 40])
def test_cutout_hides_exactly_the_square(size):
    given = view(30, 11, 14)
    found = made("cutout", given, chance(2), size=size, fill=0.25).pixels
    generator = chance(2)
    rows = torch.randint(11, (30, 1), generator=generator).flatten().tolist()
    columns = torch.randint(14, (30, 1), generator=generator).flatten().tolist()
    for row, (middle, across) in enumerate(zip(rows, columns, strict=True)):
        wanted = given.pixels[row].clone()
        top, left = middle - size // 2, across - size // 2
        wanted[:, max(top, 0) : top + size, max(left, 0) : left + size] = 0.25
        assert torch.equal(found[row], wanted)


# mixup and cutmix


@pytest.mark.parametrize("soft", [False, True])
def test_mixup_mixes_pixels_and_targets_alike(soft):
    given = view()
    if soft:
        given = given._replace(target=torch.rand(12, 5, generator=chance()).softmax(1))
    found = made("mixup", given, chance(4), alpha=1.0)
    generator = chance(4)
    share = drawn_share(1.0, generator)
    partners = torch.randperm(12, generator=generator).tolist()
    assert 0.01 < share < 0.99
    whole = given.target if soft else torch.eye(5)[given.target]
    for i, j in enumerate(partners):
        pixels = share * given.pixels[i].double() + (1 - share) * given.pixels[j].double()
        target = share * whole[i].double() + (1 - share) * whole[j].double()
        assert torch.allclose(found.pixels[i].double(), pixels, atol=1e-6)
        assert torch.allclose(found.target[i].double(), target, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_of_the_beta_distribution(alpha):
    generator = chance()
    drawn = [drawn_share(alpha, generator) for _ in range(2000)]
    assert stats.kstest(drawn, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_cutmix_targets_are_the_shares_of_the_pixels():
    pixels = (torch.arange(12) / 12).view(12, 1, 1, 1).expand(12, 3, 10, 13).contiguous()
    given, pieces = View(pixels, torch.arange(12), 12), set()
    for seed in range(60):
        found = made("cutmix", given, chance(seed))
        origin = (found.pixels * 12).round().long()[:, 0]
        for row in range(12):
            area = origin[row].flatten().bincount(minlength=12) / 130
            assert torch.allclose(found.target[row], area, atol=1e-6)
        foreign = origin != torch.arange(12).view(12, 1, 1)
        shape = foreign.any(0).nonzero()
        if len(shape):
            (top, left), (bottom, right) = shape.min(0).values, shape.max(0).values
            pieces.add((int(top), int(left), int(bottom), int(right)))
            for row in range(12):
                inside = foreign[row, top : bottom + 1, left : right + 1]
                assert bool(inside.all()) or not bool(inside.any())  # a whole piece, or none
    assert len(pieces) > 30


# colour


def test_brightness_contrast_and_saturation_are_those_of_a_plain_loop():
    given = view(5, 6, 7)
    found = made("colour_jitter", given, chance(1), brightness=0.6, contrast=0.7, saturation=0.8)
    draws = (2 * torch.rand(4, 5, generator=chance(1)) - 1).double()
    for row in range(5):
        x = given.pixels[row].double().numpy()
        f = [1 + span * float(draws[k, row]) for k, span in enumerate((0.6, 0.7, 0.8))]
        x = (x * f[0]).clip(0, 1)
        x = (f[1] * x + (1 - f[1]) * grey(x).mean()).clip(0, 1)
        x = (f[2] * x + (1 - f[2]) * grey(x)).clip(0, 1)
        assert np.abs(found.pixels[row].numpy() - x).max() < 1e-5


def grey(x: np.ndarray) -> np.ndarray:
    return 0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2]


def test_hue_is_turned_as_colorsys_turns_it():
    pixels, turns = images(4, 5, 5), torch.tensor([0.0, 0.1, -0.3, 0.5])
    pixels[:, :, 0, 0] = 0.4  # grey has no hue
    found = colours.hue_turned(pixels, turns)
    for row, turn in enumerate(turns.tolist()):
        for i in range(5):
            for j in range(5):
                h, s, v = colorsys.rgb_to_hsv(*pixels[row, :, i, j].double().tolist())
                wanted = colorsys.hsv_to_rgb((h + turn) % 1, s, v)
                assert found[row, :, i, j].tolist() == pytest.approx(wanted, abs=2e-6)


def test_knobs_at_0_change_nothing_and_a_knob_more_changes_no_other_draw():
    given = view()
    off = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}
    assert torch.equal(made("colour_jitter", given, chance(), **off).pixels, given.pixels)
    one = made("colour_jitter", given, chance(), **(off | {"brightness": 0.3})).pixels
    both = made("colour_jitter", given, chance(), **(off | {"brightness": 0.3, "hue": 0.1})).pixels
    assert torch.allclose(one.amax(1), both.amax(1), atol=1e-6)  # hue keeps HSV's value
    assert not torch.equal(one, both)


# RandAugment


def pillow(image: Tensor) -> Image.Image:
    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).transpose(2, 0, 1).astype(int)


@pytest.mark.parametrize(
    ("key", "s", "theirs", "off"),
    [
        ("auto_contrast", 0.9, ImageOps.autocontrast, 1),
        ("equalize", 0.9, ImageOps.equalize, 0),
        ("posterize", 0.5, lambda x: ImageOps.posterize(x, 6), 0),
        ("posterize", 1.0, lambda x: ImageOps.posterize(x, 4), 0),
        ("solarize", 0.5, lambda x: ImageOps.solarize(x, 128), 0),
        ("solarize", 1.0, ImageChops.invert, 0),
        ("brightness", 0.5, lambda x: ImageEnhance.Brightness(x).enhance(1.45), 1),
        ("contrast", 0.5, lambda x: ImageEnhance.Contrast(x).enhance(1.45), 2),
        ("saturation", 0.5, lambda x: ImageEnhance.Color(x).enhance(1.45), 2),
        ("sharpness", 0.5, lambda x: ImageEnhance.Sharpness(x).enhance(1.45), 2),
    ],
)
def test_a_change_of_colours_is_that_of_pillow(key, s, theirs, off):
    pixels = images(6, 24, 20) * 0.5 + 0.25 * images(6, 24, 20, seed=1).mean((2, 3), keepdim=True)
    pixels = (pixels * 255).round() / 255
    found = changes.CHANGES[key](pixels, s, torch.ones(6))
    for ours, image in zip(found, pixels, strict=True):
        assert np.abs((ours * 255).numpy() - levels(theirs(pillow(image)))).max() <= off + 1e-3


def test_pillow_smooths_as_written_here():
    pixels = images(2, 8, 9)
    found = changes.CHANGES["sharpness"](pixels, 10 / 9, -torch.ones(2))  # factor 0: all smooth
    for ours, image in zip(found, pixels, strict=True):
        theirs = levels(pillow(image).filter(ImageFilter.SMOOTH))
        assert np.abs((ours * 255).numpy() - theirs).max() <= 1


@pytest.mark.parametrize("key", ["auto_contrast", "equalize"])
def test_one_colour_stays_as_it_is(key):
    flat = torch.full((2, 3, 8, 8), 0.6)
    assert torch.equal(changes.CHANGES[key](flat, 0.9, torch.ones(2)), flat)


def test_whole_moves_are_slices_with_grey_behind():
    pixels, signs = images(2, 32, 32), torch.tensor([1.0, -1.0])
    found = changes.CHANGES["translate_x"](pixels, 1.0, signs)
    assert torch.allclose(found[0, :, :, :22], pixels[0, :, :, 10:], atol=2e-5)
    assert torch.allclose(found[1, :, :, 10:], pixels[1, :, :, :22], atol=2e-5)
    assert torch.allclose(found[0, :, :, 22:], torch.tensor(0.5), atol=2e-5)
    found = changes.CHANGES["translate_y"](pixels, 1.0, signs)
    assert torch.allclose(found[0, :, :22], pixels[0, :, 10:], atol=2e-5)


@pytest.mark.parametrize(("key", "shift"), [("shear_x", (0, 0.3)), ("shear_y", (0.3, 0))])
def test_a_shear_moves_in_proportion_to_the_other_axis(key, shift):
    """A ramp along an axis, sheared, is the ramp plus 0.3 times the other axis."""
    y, x = torch.meshgrid(torch.arange(33.0) - 16, torch.arange(33.0) - 16, indexing="ij")
    ramp = (x if key == "shear_x" else y) / 100 + 0.5
    found = changes.CHANGES[key](ramp.expand(1, 3, -1, -1), 1.0, torch.ones(1))[0, 0]
    wanted = ramp + 0.3 * (y if key == "shear_x" else x) / 100
    middle = slice(8, 25)
    assert torch.allclose(found[middle, middle], wanted[middle, middle], atol=1e-5)


def test_strength_0_changes_little_and_each_change_is_drawn_equally_often():
    given = view()
    for key, change in changes.CHANGES.items():
        if change is not None and key not in ("auto_contrast", "equalize"):
            assert torch.allclose(
                change(given.pixels, 0.0, torch.ones(12)), given.pixels, atol=2e-5
            )
    still = made("rand_augment", view(4000, 4, 4), chance(), ops=1, magnitude=9)
    same = (still.pixels == view(4000, 4, 4).pixels).flatten(1).all(1).float().mean()
    assert float(same) > 1 / 14 - 4 * (13 / 14**2 / 4000) ** 0.5  # identity, and what hit nothing


def test_rand_augment_is_that_of_a_loop_over_images():
    given = view(20)
    found = made("rand_augment", given, chance(6), ops=2, magnitude=7)
    generator, names = chance(6), list(changes.CHANGES)
    wanted = given.pixels.clone()
    for _ in range(2):
        choice = torch.randint(len(names), (20,), generator=generator).tolist()
        signs = 1.0 - 2 * torch.randint(2, (20,), generator=generator)
        for row, place in enumerate(choice):
            change = changes.CHANGES[names[place]]
            if change is not None:
                wanted[row] = change(wanted[row : row + 1], 0.7, signs[row : row + 1])[0]
    assert torch.allclose(found.pixels, wanted, atol=1e-5)


# bad input


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flip(p=1.5)", "found p=1.5; wanted a probability"),
        ("flip(p=true)", "found p=True"),
        ("crop(pad=-1)", "found pad=-1; wanted a whole number of pixels"),
        ("crop(pad=1.5)", "found pad=1.5"),
        ('crop(mode="wrap")', "found mode='wrap'; wanted"),
        ("crop(pad=256)", 'pad=256 for images of 256 x 256 .* take mode="zero"'),
        ("rotation(degrees=181)", "found degrees=181; wanted an angle"),
        ('rotation(mode="grey")', "found mode='grey'"),
        ("cutout(size=0)", "found size=0; wanted a whole number"),
        ("cutout(fill=2)", "found fill=2; wanted a grey"),
        ("mixup(alpha=0)", "found alpha=0; wanted a number above 0"),
        ("cutmix(alpha=-1)", "found alpha=-1"),
        ("colour_jitter(contrast=-0.1)", "found contrast=-0.1; wanted a number from 0 on"),
        ("colour_jitter(hue=0.6)", "found hue=0.6; .* half of the circle"),
        ("rand_augment(ops=0)", "found ops=0; wanted a whole number of changes"),
        ("rand_augment(magnitude=31)", "found magnitude=31; wanted a number from 0 to 30"),
        ("rand_augment(level=3)", "knob 'level'; wanted ops, magnitude"),
        ("rotate", "found 'rotate'; wanted .*; did you mean 'rotation'"),
        ("flip(p=)", "position 8: found"),
    ],
)
def test_a_senseless_augmentation_is_told_of(text, message):
    (found,) = augmentation_faults(text)
    assert re.search(message, found), found


@pytest.mark.parametrize("key", list(AUGMENTATIONS))
def test_defaults_have_no_fault_and_a_label(key):
    assert list(augmentation_faults(key)) == []
    entry = AUGMENTATIONS[key]
    assert entry.title
    assert entry.source
    knobs = [
        p for p in inspect.signature(entry.view).parameters.values() if p.kind is p.KEYWORD_ONLY
    ]
    assert all(knob.default is not inspect.Parameter.empty for knob in knobs)
