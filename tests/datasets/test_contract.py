"""A data set that is not what it says is refused; rows and digests mean what they say."""

from typing import Any

import pytest
import torch

from kdprobe.datasets.contract import DATASETS, Images, dataset, require_split
from kdprobe.errors import InputError


def images(**changes: Any) -> Images:
    chance = torch.Generator().manual_seed(0)
    parts: dict[str, Any] = {
        "pixels": torch.rand(4, 3, 6, 5, generator=chance),
        "labels": torch.tensor([0, 1, 2, 1]),
        "classes": ("a", "b", "c"),
        "objects": torch.rand(4, 6, 5, generator=chance) > 0.5,
    }
    return Images(**{**parts, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixels": torch.rand(4, 30)}, r"pixels of shape \(4, 30\); wanted \(n, 3, h, w\)"),
        ({"pixels": torch.rand(4, 6, 5)}, "object masks of shape"),
        ({"pixels": torch.rand(0, 3, 6, 5)}, "wanted .* n > 0"),
        ({"pixels": torch.zeros(4, 3, 6, 5).double()}, "float64 pixels; wanted float32"),
        ({"pixels": torch.full((4, 3, 6, 5), 255.0)}, "outside .*; divide 8-bit images by 255"),
        ({"pixels": torch.full((4, 3, 6, 5), -0.1)}, "outside"),
        ({"pixels": torch.full((4, 3, 6, 5), torch.nan)}, "outside"),
        ({"labels": torch.tensor([0, 1, 2])}, r"labels of shape \(3,\); wanted int64 .* \(4,\)"),
        ({"labels": torch.zeros(4)}, "found torch.float32 labels"),
        ({"labels": torch.tensor([0, 1, 2, 3])}, "labels 0 to 3; wanted 0 to 2"),
        ({"labels": torch.tensor([-1, 1, 2, 1])}, "labels -1 to 2"),
        ({"objects": torch.ones(4, 5, 6).bool()}, r"shape \(4, 5, 6\); wanted \(4, 6, 5\)"),
        ({"objects": torch.ones(4, 6, 5)}, "float32 object masks; wanted bool"),
    ],
)
def test_false_data_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        images(**changes)


def test_only_two_splits_exist() -> None:
    require_split("train")
    require_split("test")
    with pytest.raises(InputError, match="found split 'val'; wanted 'train' or 'test'"):
        require_split("val")


def test_take_keeps_the_order_of_the_rows() -> None:
    data = images()
    taken = data.take(torch.tensor([2, 0]))
    assert torch.equal(taken.pixels, data.pixels[[2, 0]])
    assert taken.labels.tolist() == [2, 0]
    assert torch.equal(taken.objects, data.objects[[2, 0]])
    assert images(objects=None).take(torch.tensor([1])).objects is None


def test_a_sample_is_drawn_by_its_seed_without_replacement() -> None:
    data = images()
    assert data.sample(3, seed=1).digest() == data.sample(3, seed=1).digest()
    assert len({data.sample(2, seed=seed).digest() for seed in range(8)}) > 1
    everything = data.sample(99, seed=0)
    assert len(everything) == 4
    assert sorted(everything.labels.tolist()) == sorted(data.labels.tolist())


def test_the_digest_sees_every_part() -> None:
    data = images()
    moved = data.pixels.clone()
    moved[0, 0, 0, 0] = 0.0
    others = [
        images(pixels=moved),
        images(labels=torch.tensor([0, 1, 2, 2])),
        images(classes=("a", "b", "d")),
        images(objects=~data.objects),
        images(objects=None),
    ]
    assert data.digest() == images().digest()
    assert len({data.digest(), *(other.digest() for other in others)}) == 6


def test_a_data_set_enters_the_catalogue_with_its_label() -> None:
    @dataset("dots", title="Dots", source="this test", has_masks=True)
    def dots(split: str, *, seed: int = 0) -> Images:
        return images()

    try:
        assert DATASETS["dots"].has_masks
        assert DATASETS["dots"].make is dots
    finally:
        del DATASETS._entries["dots"]


def sequences(**changes):
    facts = {
        "pixels": torch.randn(4, 5, 3) * 10,
        "labels": torch.zeros(4, dtype=torch.int64),
        "classes": ("a",),
        "objects": torch.ones(4, 5, dtype=torch.bool),
    }
    return Images(**(facts | changes))


def test_sequences_of_any_finite_numbers_are_inputs():
    found = sequences(parts=torch.zeros(4, 5, dtype=torch.int64))
    assert found.positions == (5,)
    assert found.take(torch.tensor([1])).parts.shape == (1, 5)
    assert found.digest() != sequences().digest()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"objects": torch.ones(4, 6, dtype=torch.bool)}, "object masks of shape"),
        ({"parts": torch.zeros(4, 6, dtype=torch.int64)}, "wanted int64 of shape"),
        ({"parts": torch.zeros(4, 5)}, "wanted int64 of shape"),
        ({"parts": torch.full((4, 5), -1)}, "parts without any label"),
    ],
)
def test_masks_and_parts_must_fit_their_sequences(changes, told):
    with pytest.raises(InputError, match=told):
        sequences(**changes)
