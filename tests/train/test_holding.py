"""The validation part: every class gives its share, nothing is lost, and the seed alone decides."""

import pytest
import torch

from kdprobe.errors import InputError
from kdprobe.train.holding import held_out, places_in_class

SKEWED = torch.tensor([0] * 57 + [1] * 20 + [2] * 3 + [3])[
    torch.randperm(81, generator=torch.Generator().manual_seed(0))
]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.75])
def test_every_image_is_in_one_part_and_the_rows_rise(share):
    kept, held = held_out(SKEWED, share, seed=3)
    assert sorted(kept.tolist() + held.tolist()) == list(range(len(SKEWED)))
    assert kept.tolist() == sorted(kept.tolist())
    assert held.tolist() == sorted(held.tolist())
    assert len(held) == (max(1, round(share * len(SKEWED))) if share else 0)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_every_class_gives_its_share_to_within_an_image(share):
    _, held = held_out(SKEWED, share, seed=0)
    for label, count in enumerate(SKEWED.bincount().tolist()):
        given = int((SKEWED[held] == label).sum())
        assert abs(given - share * count) <= 1
        assert given < count


def test_of_equal_classes_each_gives_the_same():
    labels = torch.arange(10).repeat(50)
    _, held = held_out(labels, 0.1, seed=0)
    assert labels[held].bincount().tolist() == [5] * 10


def test_the_seed_alone_decides():
    torch.manual_seed(0)
    one = held_out(SKEWED, 0.2, seed=1)
    torch.manual_seed(1)
    assert torch.equal(one[1], held_out(SKEWED, 0.2, seed=1)[1])
    assert not torch.equal(one[1], held_out(SKEWED, 0.2, seed=2)[1])


def test_every_image_is_held_out_equally_often():
    labels = torch.arange(2).repeat(5)
    often = sum(held_out(labels, 0.2, seed)[1].bincount(minlength=10) for seed in range(500))
    assert int(often.sum()) == 1000
    assert float((often - 100.0).abs().max()) < 5 * (500 * 0.2 * 0.8) ** 0.5


def test_places_are_those_of_a_plain_loop():
    order = torch.randperm(len(SKEWED), generator=torch.Generator().manual_seed(5))
    seen, wanted = [0] * 4, [0] * len(SKEWED)
    for row in order.tolist():
        label = int(SKEWED[row])
        wanted[row] = seen[label]
        seen[label] += 1
    assert places_in_class(SKEWED, order).tolist() == wanted


@pytest.mark.parametrize("share", [-0.1, 1.0, 2, True, "a"])
def test_a_senseless_share_is_refused(share):
    with pytest.raises(InputError, match=r"validation share of .*; wanted a number from 0"):
        held_out(SKEWED, share, seed=0)


def test_no_class_is_emptied():
    with pytest.raises(InputError, match=r"found 3 images, of which 0 .* lower the validation"):
        held_out(torch.arange(3), 0.1, seed=0)
    kept, held = held_out(torch.tensor([0, 0, 0, 1]), 0.5, seed=0)
    assert held.tolist() != []
    assert 3 in kept.tolist()
