"""How alike are the geometries of two networks' layers?  Unbiased minibatch HSIC of all pairs.

For one batch with Gram matrices K, L (linear kernel), diagonals set to zero and U-centred,
    HSIC(K, L) = <K, L> / (n (n - 3)),
averaged over batches: independent of the batch size in expectation. All layer pairs of a batch are
one matrix product of the flattened Grams. Features are centred first, so that a common offset on a
layer costs no digits.

Source: Song et al. 2012 (unbiased HSIC, equation 4); Nguyen, Raghu, Kornblith 2021,
arXiv:2010.15327, equations 2-4 (minibatch CKA).

Axes: n images of a batch, s and t layers of the two networks.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from kdprobe.batches import budget, in_batches
from kdprobe.errors import InputError
from kdprobe.models.contract import Network
from kdprobe.probes.contract import probe
from kdprobe.probes.lens import Lens
from kdprobe.study import Checkpoint
from kdprobe.taps import Tap, find_taps, flat, shapes, watch

SMALLEST_BATCH = 4  # HSIC's n (n - 3) must be positive
ROUNDING = 32  # units in the last place: a layer that varies less gives every image the same


@probe("hsic", version=3)
@torch.no_grad()
def hsic(
    subjects: Sequence[Checkpoint],
    lens: Lens,
    *,
    layers: Sequence[str],
    others: Sequence[str],
    batch: int,
) -> Mapping[str, Tensor]:
    """HSIC of `layers` of the first subject with `others` of the second, over batches of `batch`.

    Returns cross (s, t), first (s,) and second (t,): HSIC between the layers, and with themselves;
    and images (), how many were looked at: a last, smaller batch is left out.
    """
    images = lens.images
    if min(len(images), batch) < SMALLEST_BATCH:
        raise InputError(
            f"found {len(images)} images in batches of {batch}; HSIC wants at least "
            f"{SMALLEST_BATCH} of each: raise cka.images and cka.batch"
        )
    one, two = (lens.network(subject) for subject in subjects)
    taps, other_taps = find_taps(one.body, layers), find_taps(two.body, others)
    pixels = images.pixels.to(lens.device)
    whole = len(pixels) - len(pixels) % batch if len(pixels) >= batch else len(pixels)
    size = min(batch, whole)

    rows = min(lens.rows(one, images), lens.rows(two, images))
    parts = [
        pair_hsic(centred_grams(one, taps, some, rows), centred_grams(two, other_taps, some, rows))
        for some in torch.split(pixels[:whole], size)
    ]
    cross, first, second = (torch.stack(kind).mean(0).cpu() for kind in zip(*parts, strict=True))
    return {"cross": cross, "first": first, "second": second, "images": torch.tensor(whole)}


def centred_grams(network: Network, taps: Mapping[str, Tap], pixels: Tensor, rows: int) -> Tensor:
    """(s, n * n): the U-centred linear Gram matrix of every tapped layer, one row a layer.

    `pixels` (n, 3, h, w) is one batch of the statistic; the network sees `rows` of it at a time,
    and once more for every further group of layers whose features do not fit in memory together.
    """
    grams = []
    widths = shapes(network.body, taps, pixels[:1].to(network.mean.dtype))
    for group in _groups(widths, len(pixels), budget(pixels.device)):
        wanted = {name: taps[name] for name in group}

        def part(some: slice, wanted: Mapping[str, Tap] = wanted) -> dict[str, Tensor]:
            with watch(network.body, wanted) as seen:
                network(pixels[some])
                return {name: flat(seen[name]) for name in wanted}

        parts = in_batches(part, len(pixels), rows)
        for name in group:
            layer = torch.cat([part.pop(name) for part in parts])
            grams.append(u_centred(gram(layer)))
    return torch.stack(grams).flatten(1)


def _groups(widths: Mapping[str, tuple[int, ...]], images: int, memory: int) -> Iterator[list[str]]:
    """Layers in order, parted so that the features of each group fit into `memory` bytes."""
    group: list[str] = []
    used = 0
    for name, shape in widths.items():
        size = 4 * images * torch.Size(shape).numel()
        if group and used + size > memory:
            yield group
            group, used = [], 0
        group.append(name)
        used += size
    yield group


def gram(features: Tensor) -> Tensor:
    """(n, d) -> (n, n) inner products of the rows after their mean is taken off.

    All zero where the rows differ by no more than rounding, so that a constant layer is told apart.
    """
    centred = features - features.mean(0)
    noise = ROUNDING * torch.finfo(features.dtype).eps * features.abs().amax()
    centred = centred * (centred.abs().amax() > noise)
    return centred @ centred.T


def u_centred(kernel: Tensor) -> Tensor:
    """(n, n) -> (n, n): zero diagonal, and every row and column sums to zero.

    Source: Szekely and Rizzo 2014, equation 2.1.
    """
    n = len(kernel)
    k = kernel.clone().fill_diagonal_(0)
    rows = k.sum(1) / (n - 2)
    k = k - rows[:, None] - rows[None, :] + k.sum() / ((n - 1) * (n - 2))
    return k.fill_diagonal_(0)


def pair_hsic(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """HSIC of all pairs (s, t), and of each side with itself (s,), (t,), from flattened Grams."""
    n = int(ours.shape[1] ** 0.5)
    scale = 1.0 / (n * (n - 3))
    return (
        ours @ theirs.T * scale,
        ours.square().sum(1) * scale,
        theirs.square().sum(1) * scale,
    )
