"""Every epoch shows each image once, in an order and with shifts that (seed, epoch) decide."""

import torch

from kdprobe.train.chance import draw_seed
from kdprobe.train.views import Split, batches, shifted


def numbered(n=10, side=6):
    pixels = torch.arange(n * 3 * side * side, dtype=torch.float32).view(n, 3, side, side)
    return Split(pixels / pixels.numel(), torch.arange(n))


def test_each_image_once_and_the_last_batch_may_be_short():
    split = numbered()
    views = list(batches(split, seed=0, epoch=1, size=4, shift=0))
    assert [len(view.labels) for view in views] == [4, 4, 2]
    labels = torch.cat([view.labels for view in views])
    assert sorted(labels.tolist()) == list(range(10))
    assert torch.equal(torch.cat([view.pixels for view in views]), split.pixels[labels])


def test_seed_and_epoch_decide_order_and_shift():
    def seen(seed, epoch):
        return next(batches(numbered(), seed=seed, epoch=epoch, size=10, shift=2))

    assert torch.equal(seen(1, 2).pixels, seen(1, 2).pixels)
    assert not torch.equal(seen(1, 2).labels, seen(1, 3).labels)
    assert not torch.equal(seen(1, 2).labels, seen(2, 2).labels)


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
