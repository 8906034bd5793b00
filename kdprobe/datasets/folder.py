"""Any folder of images: a sub-folder a class, and where there are such, masks of the objects.

    FOLDER/train/CLASS/NAME.jpg   and FOLDER/test/...; folders inside a class belong to it
    MASKS/train/CLASS/NAME.png    not 0 = on the object; the same name, whatever its ending

An image is shrunk, or enlarged, until its shorter side is `size` (bilinear, averaged over what a
pixel covers) and the middle is cut out; grey becomes three equal channels, transparency and how the
camera was held are not looked at. Of a mask the same: a pixel is on the object where at least half
of what it covers is. Every file that is not hidden is taken for an image, and none is left out in
silence. The order is that of the names.

Axes: n images, h and w pixels.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kdprobe.datasets._memory import require_room
from kdprobe.datasets.contract import Images, dataset, require_split
from kdprobe.errors import InputError

log = logging.getLogger("kdprobe")

CHUNK = 64  # images that a thread decodes in a row
NAMED = 5  # files that a message names; of the others it tells the number
WIDE = ("I", "I;16", "I;16L", "I;16B")  # kinds of 16-bit grey


@dataclass(frozen=True)
class _Item:
    """One image that is to be read."""

    name: str  # CLASS/NAME.jpg
    label: int
    file: Path
    mask: Path | None  # None: none is asked for, or none is there


@dataset(
    "folder",
    title="Any folder of images with a sub-folder a class; object masks where asked for",
    source="yours",
    has_masks=False,
    needs_files=True,
)
def image_folder(
    split: str,
    *,
    folder: str,
    size: int = 32,
    masks: str = "",
    unreadable: str = "refuse",
    workers: int = 4,
    seed: int = 0,
) -> Images:
    """All images of FOLDER/split as (n, 3, size, size), sorted by class and name.

    Args:
        split: "train" or "test", a folder in `folder`.
        folder: holds the splits, and each split a folder for every class.
        size: pixels, height and width.
        masks: a folder built like `folder`, with a mask for every image; "" = none.
        unreadable: "refuse", or "skip" those that cannot be read, and say which in a warning.
        workers: threads that decode.
        seed: taken as every data set takes it; it changes nothing.

    Raises:
        InputError: a setting makes no sense, a folder is missing or holds no image, the splits have
            other classes, images or masks cannot be read, or the memory is too small.
    """
    require_split(split)
    _require_sense(size, unreadable, workers)
    root = Path(folder).expanduser()
    classes = _classes(root, split)
    items = _items(root / split, classes, Path(masks).expanduser() / split if masks else None)
    require_room(
        len(items) * size**2 * (20 if masks else 18),  # bytes twice, once as floats; two masks
        f"{len(items):,} images of {size} x {size} pixels",
        "lower size=, or take fewer images",
    )
    pixels = np.empty((len(items), size, size, 3), np.uint8)
    objects = np.empty((len(items), size, size), np.bool_) if masks else None
    troubles = _read(items, pixels, objects, workers)
    _tell(troubles, items, unreadable, root / split)
    kept = np.array([not trouble for trouble in troubles])
    return Images(
        _floats(pixels if kept.all() else pixels[kept]),
        torch.tensor([item.label for item in items])[torch.from_numpy(kept)],
        classes,
        None if objects is None else torch.from_numpy(objects[kept]),
    )


def _require_sense(size: int, unreadable: str, workers: int) -> None:
    for name, value in (("size", size), ("workers", workers)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"found {name}={value!r}; wanted a whole number above 0")
    if unreadable not in ("refuse", "skip"):
        raise InputError(f'found unreadable={unreadable!r}; wanted "refuse" or "skip"')


def _classes(root: Path, split: str) -> tuple[str, ...]:
    """The names of the folders in a split. Raises InputError where the other split has others."""
    if not (root / split).is_dir():
        found = ", ".join(sorted(p.name for p in root.iterdir())[:6]) if root.is_dir() else ""
        raise InputError(
            f"found {found or 'nothing'} in {str(root)!r}; wanted the folders 'train' and 'test', "
            "with a folder for every class in each: correct folder=, or rename what is there"
        )
    own, other = (
        {p.name for p in (root / s).iterdir() if p.is_dir() and not p.name.startswith(".")}
        if (root / s).is_dir()
        else set()
        for s in (split, "test" if split == "train" else "train")
    )
    if not own:
        raise InputError(
            f"found no folder in {str(root / split)!r}; wanted one for every class, with its images"
        )
    if other and own != other:
        raise InputError(
            f"found classes that are in one split of {str(root)!r} only: "
            f"{_some(sorted(own ^ other))}; wanted the same in 'train' and 'test': add or remove "
            "their folders"
        )
    return tuple(sorted(own))


def _items(place: Path, classes: Sequence[str], masks: Path | None) -> list[_Item]:
    if masks is not None and not masks.is_dir():
        raise InputError(f"found no folder {str(masks)!r}; wanted the masks there: correct masks=")
    beside = {} if masks is None else {p.relative_to(masks).with_suffix(""): p for p in _of(masks)}
    items = []
    for label, name in enumerate(classes):
        for file in _of(place / name):
            inside = file.relative_to(place)
            mask = beside.get(inside.with_suffix(""))
            items.append(_Item(inside.as_posix(), label, file, mask))
    if not items:
        raise InputError(
            f"found no file in the classes of {str(place)!r}; wanted at least one image"
        )
    return items


def _of(place: Path) -> list[Path]:
    """All files under `place` that are not hidden, sorted by their names."""
    found = (p for p in place.rglob("*") if p.is_file())
    shown = (p for p in found if not any(x.startswith(".") for x in p.relative_to(place).parts))
    return sorted(shown, key=lambda p: p.relative_to(place).as_posix())


def _read(items: list[_Item], pixels: Any, objects: Any, workers: int) -> list[str]:
    """Fill `pixels` (n, h, w, 3) and `objects` (n, h, w); what went wrong with each, "" = nothing.

    Pillow decodes without Python's lock, so threads are enough.
    """
    size = pixels.shape[1]

    def one(row: int) -> str:
        item = items[row]
        try:
            with Image.open(item.file) as image:
                shape = image.size
                pixels[row] = np.asarray(_square(_in_colour(image), size))
            if objects is not None:
                objects[row] = _mask(item, shape, size)
        except MemoryError:
            raise
        except Exception as error:  # a broken file can make Pillow raise anything
            return f"{item.name} ({type(error).__name__}: {error})"
        return ""

    starts = range(0, len(items), CHUNK)  # small images cost less than handing over a task
    with ThreadPoolExecutor(workers) as pool:
        done = pool.map(lambda at: [one(r) for r in range(at, min(at + CHUNK, len(items)))], starts)
        return [trouble for part in done for trouble in part]


def _in_colour(image: Image.Image) -> Image.Image:
    if image.mode in WIDE:  # else 16 bits would be cut off at 255
        grey = np.asarray(image).astype(np.float64) / 257
        return Image.fromarray(grey.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of no known range")
    return image.convert("RGB")


def _mask(item: _Item, shape: tuple[int, int], size: int) -> np.ndarray:
    """(size, size) bool."""
    if item.mask is None:
        raise ValueError("it has no mask")
    with Image.open(item.mask) as image:
        if image.size != shape:
            raise ValueError(f"its mask has {image.size} pixels, the image {shape}")
        marked = np.asarray(image)  # palettes by their number, which is what labels are
    on = marked.reshape(*marked.shape[:2], -1)[..., :3].any(2)
    return np.asarray(_square(Image.fromarray(on.astype(np.uint8) * 255), size)) >= 128


def _square(image: Image.Image, size: int) -> Image.Image:
    """Shorter side to `size`, then the middle."""
    width, height = image.size
    if (width, height) == (size, size):
        return image
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    middle = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=middle)


def _tell(troubles: list[str], items: list[_Item], unreadable: str, place: Path) -> None:
    """Raise InputError, or warn, where images cannot be read: how many, and which."""
    bad = [trouble for trouble in troubles if trouble]
    if not bad:
        return
    told = f"{len(bad)} of {len(items)} images in {str(place)!r} that cannot be read: {_some(bad)}"
    if unreadable == "refuse" or len(bad) == len(items):
        raise InputError(
            f"found {told}; wanted none: mend or remove these files"
            + (', or leave them out by unreadable="skip"' if len(bad) < len(items) else "")
        )
    log.warning("left out %s", told)


def _some(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _floats(pixels: Any) -> Tensor:
    """(n, h, w, 3) bytes -> (n, 3, h, w) float32 in [0, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float().div_(255)
