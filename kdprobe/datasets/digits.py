"""Handwritten digits, white on black, as a data set without object masks.

The 8x8 scans that come with scikit-learn, enlarged to 32x32 with three equal channels.

Source: E. Alpaydin and C. Kaynak 1998, Optical Recognition of Handwritten Digits, UCI.
"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from kdprobe.datasets.contract import Images, dataset, require_split

CLASSES = tuple("0123456789")
SIDE = 32  # pixels
HELD_OUT = 497  # of the 1,797 scans are for testing


@dataset(
    "digits",
    title="Handwritten digits, white on black (8x8 scans enlarged to 32x32)",
    source="scikit-learn load_digits; UCI, Alpaydin and Kaynak 1998",
    has_masks=False,
)
def digits(split: str, *, seed: int = 0) -> Images:
    """1,300 training or 497 test images; `seed` decides which scan is in which split.

    Raises:
        InputError: `split` is neither "train" nor "test".
    """
    rows = scan_rows(split, seed)
    scans, labels = load_scans()
    grey = interpolate(scans[rows].unsqueeze(1), size=(SIDE, SIDE), mode="bilinear")
    return Images(grey.expand(-1, 3, -1, -1).contiguous(), labels[rows], CLASSES, None)


def load_scans() -> tuple[Tensor, Tensor]:
    """(1797, 8, 8) float32 ink in [0, 1] and (1797,) int64 labels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    ink = torch.tensor(found.images, dtype=torch.float32) / 16
    return ink, torch.tensor(found.target, dtype=torch.int64)


def scan_rows(split: str, seed: int) -> Tensor:
    """(1300,) or (497,) int64: the scans of a split; no scan is in both splits of one seed."""
    require_split(split)
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(seed))
    return order[:HELD_OUT] if split == "test" else order[HELD_OUT:]
