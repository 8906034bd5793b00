"""Digits: the scans of scikit-learn, split by seed, without masks."""

import pytest
import torch
from torch.nn.functional import avg_pool2d

from kdprobe.datasets.contract import DATASETS
from kdprobe.datasets.digits import digits, load_scans, scan_rows
from kdprobe.errors import InputError


@pytest.mark.parametrize("seed", [0, 1])
def test_the_splits_part_the_scans(seed: int) -> None:
    train, test = scan_rows("train", seed), scan_rows("test", seed)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(1797))
    assert len(test) == 497


def test_the_seed_decides_the_split() -> None:
    assert digits("test", seed=3).digest() == digits("test", seed=3).digest()
    assert digits("test", seed=3).digest() != digits("test", seed=4).digest()


def test_the_images_are_the_scans_enlarged() -> None:
    data = digits("test")
    assert data.pixels.shape == (497, 3, 32, 32)
    assert data.objects is None
    assert not DATASETS["digits"].has_masks
    assert torch.equal(data.pixels[:, 0], data.pixels[:, 2])
    scans, labels = load_scans()
    rows = scan_rows("test", 0)
    assert torch.equal(data.labels, labels[rows])
    back = avg_pool2d(data.pixels[:, 0], 4)
    pairs = torch.stack([back.flatten(), scans[rows].flatten()])
    assert torch.corrcoef(pairs)[0, 1] > 0.95


def test_every_class_is_in_both_splits() -> None:
    for split in ("train", "test"):
        assert digits(split).labels.unique().tolist() == list(range(10))


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(InputError, match="found split 'val'"):
        digits("val")
