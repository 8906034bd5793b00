"""Every epoch shows each image once, in an order and with shifts that (seed, epoch) decide."""

import pytest
import torch

from kdprobe.expression import parse_call
from kdprobe.train.chance import draw_seed
from kdprobe.train.views import Order, Seen, Share, batches, shifted


def numbered(n=10, side=6, rows=None):
    """Images that all differ; the label of each is its row."""
    pixels = torch.arange(n * 3 * side * side, dtype=torch.float32).view(n, 3, side, side)
    rows = torch.arange(n) if rows is None else torch.tensor(rows)
    return Share(pixels / pixels.numel(), rows, rows, rows)


def ordered(seed=0, size=4, shift=0, augment=(), process=0, processes=1):
    calls = [parse_call(text) for text in augment]
    return Order(seed, size, shift, calls, 10, process, processes)


def test_each_image_once_and_the_last_batch_may_be_short():
    share = numbered()
    views = list(batches(share, ordered(), 1))
    assert [len(seen.target) for seen, _ in views] == [4, 4, 2]
    assert [whole for _, whole in views] == [4, 4, 2]
    labels = torch.cat([seen.target for seen, _ in views])
    assert sorted(labels.tolist()) == list(range(10))
    assert torch.equal(torch.cat([seen.pixels for seen, _ in views]), share.pixels[labels])


def test_seed_and_epoch_decide_order_and_shift():
    def first(seed, epoch):
        return next(batches(numbered(), ordered(seed, size=10, shift=2), epoch))[0]

    assert torch.equal(first(1, 2).pixels, first(1, 2).pixels)
    assert not torch.equal(first(1, 2).target, first(1, 3).target)
    assert not torch.equal(first(1, 2).target, first(2, 2).target)


def test_a_share_of_some_rows_gives_only_these_images():
    rows = [7, 2, 5, 2]
    whole = numbered(rows=rows)
    assert len(whole) == 4
    views = [seen for seen, _ in batches(whole, ordered(size=3), 1)]
    places = torch.cat([seen.places for seen in views])
    assert sorted(places.tolist()) == [0, 1, 2, 3]
    shown = torch.tensor(rows)[places]
    assert torch.equal(torch.cat([seen.target for seen in views]), shown)
    assert torch.equal(torch.cat([seen.pixels for seen in views]), whole.pixels[shown])


def test_labels_are_those_given_not_the_true_ones():
    share = numbered()
    wrong = Share(share.pixels, share.rows, 9 - share.rows, share.clean)
    (seen, _), *_ = batches(wrong, ordered(), 1)
    assert torch.equal(seen.target, 9 - seen.places)


@pytest.mark.parametrize("size", [4, 3])  # the last batch is one of 2, or of 1: a part is empty
@pytest.mark.parametrize("augment", [(), ("flip", "mixup(alpha=1)"), ("cutout(size=2)", "cutmix")])
def test_the_parts_of_two_processes_are_the_batch_of_one(size, augment):
    knobs = {"size": size, "shift": 1, "augment": augment}
    alone = list(batches(numbered(), ordered(**knobs), 3))
    parts = [
        list(batches(numbered(), ordered(**knobs, process=place, processes=2), 3))
        for place in (0, 1)
    ]
    for (seen, whole), (even, other), (odd, another) in zip(alone, *parts, strict=True):
        assert whole == other == another == len(seen.pixels) == len(even.pixels) + len(odd.pixels)
        for values, *halves in zip(seen, even, odd, strict=True):
            together = torch.empty_like(values)
            together[::2], together[1::2] = halves
            assert torch.equal(together, values)


def test_augmented_views_are_changed_and_differ_by_step_and_epoch():
    def drawn(epoch, augment):
        return [seen for seen, _ in batches(numbered(), ordered(size=5, augment=augment), epoch)]

    plain, changed = drawn(1, ()), drawn(1, ("mixup(alpha=1)",))
    assert isinstance(changed[0], Seen)
    assert changed[0].target.shape == (5, 10)
    assert all(torch.equal(a.places, b.places) for a, b in zip(plain, changed, strict=True))
    shares = [seen.target.amax(1).min() for seen in (*changed, *drawn(2, ("mixup(alpha=1)",)))]
    assert len({round(float(share), 6) for share in shares}) == 4


def test_a_shift_moves_the_image_and_mirrors_what_comes_in():
    pixels = numbered(3).pixels
    still = torch.full((3, 2), 2)
    assert torch.equal(shifted(pixels, still, 2), pixels)
    moves = torch.tensor([[0, 2], [2, 4], [3, 1]])
    found = shifted(pixels, moves, 2)
    assert torch.equal(found[0, :, 2:], pixels[0, :, :-2])
    assert torch.equal(found[0, :, :2], pixels[0, :, [2, 1]])
    assert torch.equal(found[1, :, :, :-2], pixels[1, :, :, 2:])
    assert torch.equal(found[2, :, :-1, 1:], pixels[2, :, 1:, :-1])


def test_draws_of_different_purposes_are_different():
    draws = {
        draw_seed(seed, epoch, purpose)
        for seed in range(5)
        for epoch in range(5)
        for purpose in ("order", "shift", "weights")
    }
    assert len(draws) == 75
    assert all(0 <= draw < 2**63 for draw in draws)
