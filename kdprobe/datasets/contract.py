"""What a data set is: images with labels, and where it can, which pixels are the object.

A data set is a function ``make(split, *, seed, **knobs) -> Images`` with split "train" or "test".
One that reads files takes their place by the knob `folder`; there `seed` changes nothing.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kdprobe.errors import InputError
from kdprobe.registry import Catalogue

MOST = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class Images:
    """A split of a data set, in memory: images, or sequences of vectors (tokens, points).

    Axes: n images, h and w pixels; of sequences t tokens of d numbers.
    """

    pixels: Tensor  # (n, 3, h, w) float32 in [0, 1]; of sequences (n, t, d) float32, any finite
    labels: Tensor  # (n,) int64, index into classes
    classes: tuple[str, ...]
    objects: Tensor | None  # (n, h, w) or (n, t) bool, True on the object; None = no masks
    parts: Tensor | None = None  # like objects, int64: which part a position is of; -1 = of none

    @property
    def positions(self) -> tuple[int, ...]:
        """The places of one input that can be perturbed: (h, w) of images, (t,) of sequences."""
        shape = self.pixels.shape
        return tuple(shape[2:]) if len(shape) == 4 else tuple(shape[1:2])

    def __post_init__(self) -> None:
        n = len(self.pixels)
        image = self.pixels.dim() == 4 and self.pixels.shape[1] == 3
        if n == 0 or not (image or self.pixels.dim() == 3):
            shape = tuple(self.pixels.shape)
            raise InputError(
                f"found pixels of shape {shape}; wanted (n, 3, h, w) with n > 0: repeat gray "
                "images by pixels.expand(-1, 3, -1, -1); or (n, t, d) of sequences"
            )
        if self.pixels.dtype != torch.float32:
            raise InputError(f"found {self.pixels.dtype} pixels; wanted float32 in [0, 1]")
        if not _within(self.pixels, (0.0, 1.0) if image else (-MOST, MOST)):
            raise InputError("found pixels outside [0, 1]; divide 8-bit images by 255 first")
        if self.labels.shape != (n,) or self.labels.dtype != torch.int64:
            found = f"{self.labels.dtype} labels of shape {tuple(self.labels.shape)}"
            raise InputError(f"found {found}; wanted int64 of shape ({n},)")
        if int(self.labels.min()) < 0 or int(self.labels.max()) >= len(self.classes):
            raise InputError(
                f"found labels {int(self.labels.min())} to {int(self.labels.max())}; "
                f"wanted 0 to {len(self.classes) - 1}, one for each class name"
            )
        masks = self.objects
        if masks is not None and masks.shape != (n, *self.positions):
            raise InputError(
                f"found object masks of shape {tuple(masks.shape)}; "
                f"wanted {(n, *self.positions)}, one for each image"
            )
        if masks is not None and masks.dtype != torch.bool:
            raise InputError(f"found {masks.dtype} object masks; wanted bool, True on the object")
        parts = self.parts
        if parts is not None and (
            parts.shape != (n, *self.positions) or parts.dtype != torch.int64
        ):
            raise InputError(
                f"found {parts.dtype} parts of shape {tuple(parts.shape)}; wanted int64 of shape "
                f"{(n, *self.positions)}: the part of every position, -1 for none"
            )
        if parts is not None and int(parts.max()) < 0:
            raise InputError("found parts without any label; wanted some at 0 or above, or None")

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, rows: Tensor) -> "Images":
        """The images at `rows`, in that order."""
        objects, parts = (
            None if field is None else field[rows] for field in (self.objects, self.parts)
        )
        return Images(self.pixels[rows], self.labels[rows], self.classes, objects, parts)

    def sample(self, count: int, seed: int) -> "Images":
        """`count` images drawn without replacement by `seed`; all of them when there are fewer."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.take(order[: min(count, len(self))])

    def digest(self) -> str:
        """SHA-256 of pixels, labels, class names and masks: two equal digests hold equal images."""
        found = hashlib.sha256(repr((tuple(self.pixels.shape), self.classes)).encode())
        for part in (self.pixels, self.labels, self.objects, self.parts):
            if part is not None:
                found.update(part.contiguous().numpy().data)
        return found.hexdigest()


def require_split(split: str) -> None:
    """Raise InputError when `split` is neither "train" nor "test"."""
    if split not in ("train", "test"):
        raise InputError(f"found split {split!r}; wanted 'train' or 'test'; choose one of the two")


def _within(values: Tensor, span: tuple[float, float]) -> bool:
    """Whether all are numbers of `span`: NaN comes through as least and greatest, nothing is
    copied, for the images may fill most of the memory."""
    least, greatest = values.aminmax()
    return bool(least >= span[0]) and bool(greatest <= span[1])


@dataclass(frozen=True)
class Dataset:
    """A data set and its label."""

    key: str
    title: str
    source: str
    has_masks: bool
    make: Callable[..., Images]
    needs_files: bool = False  # reads what the knob `folder` names; else it is made here


DATASETS: Catalogue[Dataset] = Catalogue("data set", "kdprobe.datasets")


def dataset(
    key: str, *, title: str, source: str, has_masks: bool, needs_files: bool = False
) -> Callable[[Callable[..., Images]], Callable[..., Images]]:
    """Put the function below into DATASETS under `key`."""

    def add(make: Callable[..., Images]) -> Callable[..., Images]:
        DATASETS.add(key, Dataset(key, title, source, has_masks, make, needs_files))
        return make

    return add
