"""Laws of every loss in the room, whoever put it there: odd batches, odd numbers, order.

Values against plain loops and what is special stand in the files of each kind; zero at the teacher
and a gradient to the student alone in tests/test_promises.py.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.train.losses.contract import LOSSES, Batch, Outputs

TOTAL, TAPS = 8, ("stage1", "stage2", "stage3")
PIXELS = torch.rand(TOTAL, 3, 4, 4, generator=torch.Generator().manual_seed(20))
EVERY = pytest.mark.parametrize("key", list(LOSSES))
BY_PLACE = {"sampled_kd", "permuted_kd"}  # draw for each place in the batch, not for each image
ALL = tuple(range(TOTAL))
Leaves = dict[str, Tensor]


def leaves(
    seed: int, classes: int = 10, size: float = 1.0, kind: torch.dtype = torch.float32
) -> Leaves:
    """What a network makes of all images: logits, layers, and weights to look again with."""
    chance = torch.Generator().manual_seed(seed)
    right = torch.nn.functional.one_hot(torch.arange(TOTAL) % classes, classes)
    logits = size * (3 * torch.randn(TOTAL, classes, generator=chance) + 6 * right)
    features = {tap: size * torch.randn(TOTAL, 4, 8, 8, generator=chance) for tap in TAPS}
    pooled = size * torch.randn(TOTAL, 4, generator=chance)
    again = torch.linalg.pinv(PIXELS.flatten(1)) @ logits
    found = {"logits": logits, **features, "pooled": pooled, "again": again}
    return {name: value.to(kind) for name, value in found.items()}


def outputs(seen: Leaves, rows: Sequence[int] = ALL) -> Outputs:
    """Of some images, in any order and number; beside the network another one trains."""
    which = torch.tensor(rows)
    shown = {name: seen[name][which] for name in seen if name != "again"}
    logits = shown.pop("logits")
    other = leaves(30, logits.shape[1])["logits"][which].bfloat16().to(logits.dtype)
    again, kind = seen["again"], seen["again"].dtype
    return Outputs(
        logits,
        shown,
        Batch(PIXELS[which], which, TOTAL),
        look=lambda pixels: (pixels.flatten(1) @ again.float()).to(kind),
        together=torch.stack([logits, other]),
    )


def made(key: str, classes: int = 10) -> nn.Module:
    """The loss `key`, which has met the networks; at rest, as of a second batch."""
    loss = LOSSES[key].make()
    both = [outputs(leaves(seed, classes)) for seed in (0, 1)]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if hasattr(loss, "meet"):
            loss.meet(*both)
    loss.eval()
    loss(*both, torch.tensor(ALL) % classes)
    return loss


def found(
    loss: nn.Module, ours: Leaves, theirs: Leaves, rows: Sequence[int] = ALL
) -> tuple[Tensor, Leaves]:
    """The value, and its slopes in what the student makes of each image."""
    learning = {name: value.clone().requires_grad_() for name, value in ours.items()}
    target = torch.tensor(rows) % ours["logits"].shape[1]
    value = loss(outputs(learning, rows), outputs(theirs, rows), target)
    slopes = torch.autograd.grad(value, list(learning.values()), materialize_grads=True)
    return value.detach(), dict(zip(learning, slopes, strict=True))


def must_be_finite(value: Tensor, slopes: Leaves) -> None:
    assert value.shape == ()
    assert bool(torch.isfinite(value))
    for name, slope in slopes.items():
        assert bool(torch.isfinite(slope).all()), name


@EVERY
@pytest.mark.parametrize("rows", [(0, 0, 0, 1, 1, 2), (3,) * 6], ids=["some", "all"])
def test_equal_images_are_no_fault(key, rows):
    must_be_finite(*found(made(key), leaves(0), leaves(1), rows))


@EVERY
def test_images_shown_twice_count_as_much_as_shown_once(key):
    """As a mean over images, pairs or triples does, of which there are then as many of each kind.

    The rows of sp have the length 1, and are twice as long; pkt leaves out an image's likeness with
    itself, and not with its double.
    """
    loss, ours, theirs = made(key), leaves(0), leaves(1)
    once, _ = found(loss, ours, theirs)
    twice, _ = found(loss, ours, theirs, [*ALL, *ALL])
    if key not in BY_PLACE | {"bss", "pkt"}:
        share = 0.5 if key == "sp" else 1.0
        assert twice.item() == pytest.approx(share * once.item(), rel=1e-4)


@EVERY
def test_one_image_is_enough(key):
    must_be_finite(*found(made(key), leaves(0), leaves(1), [2]))


@EVERY
def test_two_classes_are_enough_or_refused(key):
    if key == "logit_std":  # whose value would be a sign
        with pytest.raises(InputError, match=r"found 2 classes; .* wanted 3 or more"):
            made(key, 2)
    else:
        must_be_finite(*found(made(key, 2), leaves(0, 2), leaves(1, 2)))


@EVERY
@pytest.mark.parametrize("size", [1e3, 1e-12, 0.0])
def test_large_margins_and_dead_networks_stay_finite(key, size):
    loss, ours = made(key), leaves(0, size=size)
    must_be_finite(*found(loss, ours, leaves(1, size=size)))
    opposite = {name: -value for name, value in ours.items()}
    must_be_finite(*found(loss, opposite, ours))


@EVERY
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(key, kind):
    loss, narrow = made(key), [leaves(seed, kind=kind) for seed in (0, 1)]
    target = torch.tensor(ALL)
    half = loss(*map(outputs, narrow), target)
    wide = [{name: value.float() for name, value in seen.items()} for seen in narrow]
    assert half.dtype == torch.float32
    if key != "bss":  # which looks again, and what it then sees is half as precise too
        assert torch.equal(half, loss(*map(outputs, wide), target))
    must_be_finite(*found(loss, *narrow))


@EVERY
def test_the_order_of_images_does_not_matter_and_their_slopes_go_along(key):
    """The slopes stand at the images, so that they have to be the same wherever these come."""
    loss, ours, theirs = made(key), leaves(0), leaves(1)
    once, slopes = found(loss, ours, theirs)
    again, moved = found(loss, ours, theirs, [5, 2, 7, 0, 3, 6, 1, 4])
    if key in BY_PLACE:
        return
    assert again.item() == pytest.approx(once.item(), rel=1e-5)
    for name, slope in slopes.items():
        assert torch.allclose(slope, moved[name], rtol=1e-3, atol=1e-6), name


@EVERY
def test_a_number_added_to_all_logits_of_an_image_changes_nothing(key):
    """But for `feature`, which is about the logits themselves."""
    loss, ours, theirs = made(key), leaves(0), leaves(1)
    once, _ = found(loss, ours, theirs)
    more = torch.linspace(-5, 5, TOTAL)[:, None]
    lifted = {**ours, "logits": ours["logits"] + more}
    again, _ = found(loss, lifted, theirs)
    assert (again.item() == pytest.approx(once.item(), rel=1e-4)) == (key != "feature")


@EVERY
def test_there_is_a_plain_loop_to_hold_it_against(key):
    """A new loss wants a second derivation; this finds one that has none."""
    files = [f for f in Path(__file__).parent.glob("test_*.py") if f != Path(__file__)]
    texts = [file.read_text(encoding="utf-8") for file in files]
    assert any("naive" in text and f'"{key}"' in text for text in texts)
