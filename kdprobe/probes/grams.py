"""Which images does a layer take for alike?  Inner products of all pairs of images, by layer.

    K = Xc Xc',   Xc = X - mean over images,   r_i = ||x_i||

in double precision and centred before the product, so that a common offset on a layer costs no
digits. All that does not change under rotations of the features follows from K and r, also what
needs the features uncentred: <x_i, x_j> = (r_i^2 + r_j^2 - K_ii - K_jj + 2 K_ij) / 2.

Axes: n images, d features, l layers.
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

ROUNDING = 32  # units in the last place: a layer that varies less gives every image the same
COLUMNS = 1 << 14  # features that are taken to double precision at a time


@probe("grams", version=1)
@torch.no_grad()
def grams(
    subjects: Sequence[Checkpoint], lens: Lens, *, layers: Sequence[str]
) -> Mapping[str, Tensor]:
    """Returns grams (l, n, n) float64 of the centred features and norms (l, n) of the uncentred;
    widths (l,), how many features a layer has, and labels (n,) of the images.

    A layer that gives every image the same, but for rounding, has a Gram matrix of zeros.
    """
    images, network = lens.images, lens.network(subjects[0])
    pixels, rows = images.pixels.to(lens.device), lens.rows(network, images)
    kernels, norms, widths = [], [], []
    for _, features in features_of(network, find_taps(network.body, layers), pixels, rows):
        kernel, norm = gram(features)
        kernels.append(kernel)
        norms.append(norm)
        widths.append(features.shape[1])
    found = torch.stack(norms).cpu()
    _must_be_finite(layers, found)
    return {
        "grams": torch.stack(kernels).cpu(),
        "norms": found,
        "widths": torch.tensor(widths),
        "labels": images.labels,
    }


def gram(features: Tensor) -> tuple[Tensor, Tensor]:
    """(n, d) -> (n, n) inner products of the rows less their mean, and (n,) norms of the rows."""
    features = features if features.is_floating_point() else features.float()
    n = len(features)
    kernel, squares = (features.new_zeros(n, k, dtype=torch.float64) for k in (n, 1))
    for some in torch.split(features, COLUMNS, dim=1):
        columns = some.double()
        squares += columns.square().sum(1, keepdim=True)
        columns = columns - columns.mean(0)
        kernel += columns @ columns.T
    noise = ROUNDING * torch.finfo(features.dtype).eps * features.abs().amax()
    spread = (features.amax(0) - features.amin(0)).amax()
    return kernel * (spread > noise), squares.sqrt().squeeze(1)


def features_of(
    network: Network, taps: Mapping[str, Tap], pixels: Tensor, rows: int
) -> Iterator[tuple[str, Tensor]]:
    """Every layer's features (n, d) of all images, one layer after the other.

    The network sees `rows` images at a time, and all of them once more for every further group of
    layers whose features do not fit in memory together.
    """
    for group in _groups(network, taps, pixels):

        def part(some: slice, group: Mapping[str, Tap] = group) -> dict[str, Tensor]:
            with watch(network.body, group) as seen:
                network(pixels[some])
                return {name: flat(seen[name]) for name in group}

        parts = in_batches(part, len(pixels), rows)
        for name in group:
            yield name, torch.cat([part.pop(name) for part in parts])


def _groups(
    network: Network, taps: Mapping[str, Tap], pixels: Tensor
) -> Iterator[Mapping[str, Tap]]:
    """Layers in order, parted so that the features of each group fit into memory."""
    widths = shapes(network.body, taps, pixels[:1].to(network.mean.dtype))
    group: dict[str, Tap] = {}
    used, memory = 0, budget(pixels.device)
    for name, tap in taps.items():
        size = network.mean.element_size() * len(pixels) * torch.Size(widths[name]).numel()
        if group and used + size > memory:
            yield group
            group, used = {}, 0
        group[name] = tap
        used += size
    yield group


def _must_be_finite(layers: Sequence[str], norms: Tensor) -> None:
    sound = norms.isfinite().all(1).tolist()
    wrong = [name for name, is_sound in zip(layers, sound, strict=True) if not is_sound]
    if wrong:
        raise InputError(
            f"found features of layer {wrong[0]!r} that are no finite numbers; wanted a checkpoint "
            "that has not diverged: take it out of the study"
        )
