"""Which pixels matter?  Handwritten digits painted on photographs, with the exact strokes known.

    pixel = (1 - a) background + a colour,   object = (a > 0)

a is the opacity of the enlarged scan: 0 where its ink is below `FAINT`, so that the mask is the
painted strokes and every pixel outside it is the photograph's. A data set is made in two steps:
`plan_scenes` decides by seed what lies where, `paint` makes the pixels. Training and test images
share no scan, and no region of a photograph: one side of each photograph is for training, the
other for testing, with a gap between them.

Source: made here; scans of UCI (Alpaydin and Kaynak 1998), photographs of scikit-learn.

Axes: n images, h and w pixels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample

from kdprobe.datasets._memory import require_room
from kdprobe.datasets.contract import Images, dataset
from kdprobe.datasets.digits import CLASSES, SIDE, load_scans, scan_rows
from kdprobe.errors import InputError

PHOTO = (427, 640)  # h, w of both photographs
COLUMNS = {"train": 384, "test": 216}  # of each photograph; the 40 between them are unused
ZOOMS = (1, 2, 4)  # a background shows a square of 32, 64 or 128 pixels of the photograph
SIZES = (12.0, 24.0)  # pixels, side of the painted scan
FAINT, SOLID = 0.3, 0.6  # ink that begins to show, ink that is fully opaque
CONTRAST = 0.25  # least distance of the colour's luminance from the mean of what it hides
CANDIDATES = 16  # colours that are tried for each digit
BYTES = 34_000  # of an image while it is painted, measured: the pixels thrice, and what hides them
LUMA = (0.299, 0.587, 0.114)  # luminance of red, green, blue (ITU-R BT.601)


@dataclass(frozen=True)
class Scenes:
    """What lies where in each image, before any pixel is made."""

    scans: Tensor  # (n,) int64, row of the scan
    photos: Tensor  # (n,) int64, 0 or 1
    tops: Tensor  # (n,) int64, pixels of the photograph, first row of the background
    lefts: Tensor  # (n,) int64, its first column
    zooms: Tensor  # (n,) int64, pixels of the photograph for one of the image
    centres: Tensor  # (n, 2) float32, x and y of the digit's middle, pixels of the image
    sizes: Tensor  # (n,) float32, side of the digit's square, pixels of the image
    colours: Tensor  # (n, CANDIDATES, 3) float32 in [0, 1], in the order in which they are tried


@dataset(
    "photodigits",
    title="Handwritten digits on photographs, with the strokes as object masks",
    source="scikit-learn load_digits and load_sample_images",
    has_masks=True,
)
def photodigits(split: str, *, train: int = 8000, test: int = 1000, seed: int = 0) -> Images:
    """`train` or `test` images of 32x32; the other split's count changes nothing.

    Raises:
        InputError: `split` is neither "train" nor "test", its count is not positive, or the memory
            is too small.
    """
    count = test if split == "test" else train
    require_room(BYTES * count, f"{count:,} images of {SIDE} x {SIDE} pixels", f"lower {split}=")
    scenes = plan_scenes(split, count, seed)
    backgrounds = crop(scenes)
    pixels, strokes = paint(scenes, backgrounds)
    _, labels = load_scans()
    return Images(pixels, labels[scenes.scans], CLASSES, strokes)


def plan_scenes(split: str, count: int, seed: int) -> Scenes:
    """Draw `count` scenes of a split: everything that is random in the data set."""
    rows = scan_rows(split, seed)
    if count < 1:
        raise InputError(f"found {count} {split} images; wanted at least 1; raise {split}=")
    chance = torch.Generator().manual_seed(2 * seed + (split == "test"))

    def whole(below: Tensor) -> Tensor:
        return (torch.rand(count, generator=chance, dtype=torch.float64) * below).long()

    photos = torch.randint(2, (count,), generator=chance)
    zooms = torch.tensor(ZOOMS)[torch.randint(len(ZOOMS), (count,), generator=chance)]
    tops = whole(PHOTO[0] - SIDE * zooms + 1)
    lefts = first_columns(split, seed)[photos] + whole(COLUMNS[split] - SIDE * zooms + 1)
    sizes = SIZES[0] + (SIZES[1] - SIZES[0]) * torch.rand(count, generator=chance)
    room = (SIDE - sizes).unsqueeze(1)
    centres = sizes.unsqueeze(1) / 2 + room * torch.rand(count, 2, generator=chance)
    scans = rows[torch.randint(len(rows), (count,), generator=chance)]
    colours = torch.rand(count, CANDIDATES, 3, generator=chance)
    return Scenes(scans, photos, tops, lefts, zooms, centres, sizes, colours)


def first_columns(split: str, seed: int) -> Tensor:
    """(2,) int64: where the split's side of each photograph begins; `seed` says which side."""
    test_is_left = torch.randint(2, (2,), generator=torch.Generator().manual_seed(seed)).bool()
    is_left = test_is_left if split == "test" else ~test_is_left
    return torch.where(is_left, 0, PHOTO[1] - COLUMNS[split])


def load_photographs() -> Tensor:
    """(2, 3, 427, 640) float32 in [0, 1]: a pagoda and a flower."""
    from sklearn.datasets import load_sample_images

    found = torch.stack([torch.tensor(image) for image in load_sample_images().images])
    return found.permute(0, 3, 1, 2).float() / 255


def crop(scenes: Scenes) -> Tensor:
    """(n, 3, 32, 32) backgrounds: squares of the photographs, averaged over zoom x zoom pixels."""
    photographs = load_photographs()
    backgrounds = torch.empty(len(scenes.scans), 3, SIDE, SIDE)
    for zoom in ZOOMS:
        means = avg_pool2d(photographs, zoom, stride=1).permute(0, 2, 3, 1)  # (2, h, w, 3)
        rows = torch.nonzero(scenes.zooms == zoom).squeeze(1)
        steps = zoom * torch.arange(SIDE)
        y = (scenes.tops[rows].unsqueeze(1) + steps).unsqueeze(2)
        x = (scenes.lefts[rows].unsqueeze(1) + steps).unsqueeze(1)
        squares = means[scenes.photos[rows, None, None], y, x]  # (m, 32, 32, 3)
        backgrounds[rows] = squares.permute(0, 3, 1, 2)
    return backgrounds


def paint(scenes: Scenes, backgrounds: Tensor) -> tuple[Tensor, Tensor]:
    """(n, 3, 32, 32) pixels, and (n, 32, 32) bool where a stroke hides some of the background."""
    opacity = _opacity(scenes)
    strokes = opacity > 0
    colours = choose_colours(scenes.colours, luminance(backgrounds), strokes)
    pixels = torch.lerp(backgrounds, colours[:, :, None, None], opacity.unsqueeze(1))
    return pixels, strokes


def luminance(pixels: Tensor) -> Tensor:
    """(n, 3, ...) colours in [0, 1] -> (n, ...) luminance in [0, 1]."""
    return torch.einsum("nc...,c->n...", pixels, torch.tensor(LUMA))


def choose_colours(candidates: Tensor, light: Tensor, strokes: Tensor) -> Tensor:
    """The first candidate that stands out from the mean light it hides, else black or white.

    Args:
        candidates: (n, k, 3) colours in [0, 1].
        light: (n, h, w) luminance of the backgrounds.
        strokes: (n, h, w) bool.

    Returns:
        (n, 3) colours at a distance of at least `CONTRAST` in luminance.
    """
    hidden = (light * strokes).sum((1, 2)) / strokes.sum((1, 2))
    far = (hidden < 0.5).float()  # white on dark, black on light: at least 0.5 away
    candidates = torch.cat([candidates, far.view(-1, 1, 1).expand(-1, 1, 3)], 1)
    distance = (luminance(candidates.transpose(1, 2)) - hidden.unsqueeze(1)).abs()
    first = (distance >= CONTRAST).int().argmax(1)
    return candidates[torch.arange(len(candidates)), first]


def _opacity(scenes: Scenes) -> Tensor:
    """(n, h, w) in [0, 1]: the scans at their place and size, hardened between FAINT and SOLID."""
    scans, _ = load_scans()
    scale = SIDE / scenes.sizes
    shift = (1 - 2 * scenes.centres / SIDE) * scale.unsqueeze(1)
    move = torch.diag_embed(scale.unsqueeze(1).expand(-1, 2))
    place = torch.cat([move, shift.unsqueeze(2)], 2)
    grid = affine_grid(place, [len(place), 1, SIDE, SIDE], align_corners=False)
    ink = grid_sample(scans[scenes.scans].unsqueeze(1), grid, align_corners=False).squeeze(1)
    return ((ink - FAINT) / (SOLID - FAINT)).clamp(0, 1)
