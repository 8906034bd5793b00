"""How alike are the geometries of layers?  HSIC of layer pairs, averaged over minibatches.

For one batch with centred kernel matrices K, L (see kernels.py) HSIC is <K, L>, and its mean over
batches of equal size is independent of their number in expectation: the memory is that of one batch
of kernels, O(layers x batch^2), however many images there are. One batch of all images gives the
measure of the whole sample. All layer pairs of a batch are one matrix product.

The error comes from leaving out one group after another: a group of batches, or of images where
there is one batch only.

Source: Song et al. 2012 (unbiased HSIC, equation 4); Nguyen, Raghu, Kornblith 2021,
arXiv:2010.15327, equations 2-4 (minibatch CKA).

Axes: n images of a batch, l layers of all networks, r layers of the references, k checkpoints, g
groups that are left out.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from kdprobe.errors import InputError, KdprobeError
from kdprobe.probes.contract import probe
from kdprobe.probes.hsic_null import Null
from kdprobe.probes.kernels import Kernel, Tapped, tapped
from kdprobe.probes.lens import Lens
from kdprobe.study import Checkpoint

SMALLEST_BATCH = 4  # HSIC's n (n - 3) must be positive
GROUPS = 8  # at most, for the error
Values = dict[str, Tensor]


@probe("hsic", version=4)
@torch.no_grad()
def hsic(
    subjects: Sequence[Checkpoint],
    lens: Lens,
    *,
    layers: Sequence[str],
    references: int,
    batch: int,
    permutations: int,
    kernel: str,
    bandwidth: float,
    estimator: str,
    precision: str,
) -> Mapping[str, Tensor]:
    """HSIC of every layer of all subjects with every layer of the first `references` of them.

    A layer is asked for as ``0/stage1``: of the first subject. Returns

    cross (l, r) and own (l,): HSIC with the references' layers, and with itself;
    without/cross (g, l, r), without/own (g, l) and share (g,): the same without a group of the
    images, and its share of them; images (), how many were looked at: a last, smaller batch is
    left out;
    p (l, r), chance (l, r), spread (l, r) and highest (u,): see hsic_null.py;
    refused/I: why subject I could not be looked at, in UTF-8; its HSIC is 0.
    """
    how = Kernel(kernel, bandwidth, estimator, precision)
    size, count = _cut(lens, batch)
    wanted = [_of(index, layers) for index in range(len(subjects))]
    networks = [_tried(*one, lens) for one in zip(subjects, wanted, strict=True)]
    refused = {i: one for i, one in enumerate(networks) if isinstance(one, str)}
    if len(refused) == len(networks):
        raise InputError(refused[0])
    owners = torch.tensor([i for i, names in enumerate(wanted) for _ in names])
    others = int((owners < references).sum())
    null = Null(owners, others, permutations, lens.generator(20))

    def kernels() -> Iterator[Tensor]:
        for pixels in _batches(lens, size, count):
            grams = [_grams(*one, pixels, how) for one in zip(networks, wanted, strict=True)]
            seen = how.of(torch.cat(grams))
            null.add(how.centred(seen), size)
            yield seen

    def pairs(rows: Tensor) -> Values:
        return {"cross": rows @ rows[:others].T, "own": rows.square().sum(1)}

    found = averaged(kernels(), count, how, pairs)
    found |= null.judged(found["cross"])
    reasons = {
        f"refused/{i}": torch.tensor(list(reason.encode()), dtype=torch.uint8)
        for i, reason in refused.items()
    }
    return found | reasons | {"images": torch.tensor(size * count)}


@probe("course", version=1)
@torch.no_grad()
def course(
    subjects: Sequence[Checkpoint],
    lens: Lens,
    *,
    layers: Sequence[str],
    batch: int,
    kernel: str,
    bandwidth: float,
    estimator: str,
    precision: str,
) -> Mapping[str, Tensor]:
    """HSIC of each layer between all `subjects`, which are networks of one architecture.

    Returns cross (l, k, k); without/cross (g, l, k, k), share (g,) and images () as `hsic` does.
    """
    how = Kernel(kernel, bandwidth, estimator, precision)
    size, count = _cut(lens, batch)
    networks = [tapped(subject, tuple(layers), lens) for subject in subjects]

    def kernels() -> Iterator[Tensor]:
        for pixels in _batches(lens, size, count):
            grams = [network.grams(pixels, bf16=precision == "bf16") for network in networks]
            yield how.of(torch.cat(grams))

    def by_layer(rows: Tensor) -> Values:
        each = rows.view(len(networks), len(layers), -1).transpose(0, 1)
        return {"cross": each @ each.transpose(1, 2)}

    found = averaged(kernels(), count, how, by_layer)
    return found | {"images": torch.tensor(size * count)}


def _cut(lens: Lens, batch: int) -> tuple[int, int]:
    """Images of a batch, and how many batches there are.

    Raises:
        InputError: there are too few for HSIC.
    """
    images = len(lens.images)
    if min(images, batch) < SMALLEST_BATCH:
        raise InputError(
            f"found {images} images in batches of {batch}; HSIC wants at least "
            f"{SMALLEST_BATCH} of each: raise the metric's images and batch"
        )
    size = min(batch, images)
    return size, images // size


def _batches(lens: Lens, size: int, count: int) -> Iterator[Tensor]:
    for some in torch.split(lens.images.pixels[: size * count], size):
        yield some.to(lens.device)


def _of(index: int, layers: Sequence[str]) -> tuple[str, ...]:
    """Those of `layers` that are of subject `index`: 0/stage1 -> stage1."""
    parts = (layer.partition("/") for layer in layers)
    return tuple(name for whose, _, name in parts if whose == str(index))


def _tried(subject: Checkpoint, layers: tuple[str, ...], lens: Lens) -> Tapped | str:
    """The network, or why it cannot be looked at: the others are looked at all the same."""
    try:
        return tapped(subject, layers, lens)
    except KdprobeError as error:
        return str(error)


def _grams(network: Tapped | str, layers: Sequence[str], pixels: Tensor, how: Kernel) -> Tensor:
    if isinstance(network, str):
        return pixels.new_zeros(len(layers), len(pixels), len(pixels))
    return network.grams(pixels, bf16=how.precision == "bf16")


def averaged(
    batches: Iterable[Tensor], count: int, how: Kernel, statistic: Callable[[Tensor], Values]
) -> Values:
    """The mean of `statistic` over `count` batches of kernels (l, n, n), and without each group.

    `statistic` makes sums of products of centred kernels (l, n * n).
    """
    if count == 1:
        return _of_one_batch(next(iter(batches)), how, statistic)
    groups = min(count, GROUPS)
    sums: list[Values] = [{} for _ in range(groups)]
    for index, kernels in enumerate(batches):
        into = sums[index % groups]
        for name, values in statistic(how.centred(kernels)).items():
            into[name] = into[name] + values if name in into else values
    held = torch.tensor([len(range(group, count, groups)) for group in range(groups)])
    found = {}
    for name in sums[0]:
        parts = torch.stack([each[name] for each in sums]).cpu()
        left = (count - held).view(-1, *[1] * (parts.dim() - 1))
        found[name] = parts.sum(0) / count
        found[f"without/{name}"] = (parts.sum(0) - parts) / left
    return found | {"share": held / count}


def _of_one_batch(kernels: Tensor, how: Kernel, statistic: Callable[[Tensor], Values]) -> Values:
    n = kernels.shape[-1]
    groups = min(n, GROUPS) if n > SMALLEST_BATCH else 0
    place = torch.arange(n, device=kernels.device) % max(groups, 1)
    found = {name: values.cpu() for name, values in statistic(how.centred(kernels)).items()}
    without: dict[str, list[Tensor]] = {name: [] for name in found}
    for group in range(groups):
        kept = (place != group).nonzero().flatten()
        rest = how.centred(kernels[:, kept][:, :, kept])
        for name, values in statistic(rest).items():
            without[name].append(values.cpu())
    for name, parts in without.items():
        empty = found[name].new_zeros(0, *found[name].shape)
        found[f"without/{name}"] = torch.stack(parts) if parts else empty
    held = torch.bincount(place.cpu(), minlength=groups)[:groups]
    return found | {"share": held / n}
