"""What can be read from each layer?  Its features, made small enough for a linear reader.

Features (n, d, h, w) become the mean of every channel over pixels, and its standard deviation;
(n, t, d) alike over tokens. Wider ones are projected to `width` numbers by one Gaussian matrix, the
same for every network, which keeps inner products on average (Johnson and Lindenstrauss 1984).

Axes: n images, d channels or features.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kdprobe.batches import in_batches
from kdprobe.models.contract import Network
from kdprobe.probes.blocks import encoded, find_blocks
from kdprobe.probes.contract import probe
from kdprobe.probes.lens import Lens
from kdprobe.study import Checkpoint
from kdprobe.taps import find_taps, flat, watch

PROJECTION = 30  # purpose of chance
MOST_BLOCKS = 12  # that stand in for named layers: R^2 is of all pairs


@probe("pooled_features", version=1)
@torch.no_grad()
def pooled_features(
    subjects: Sequence[Checkpoint],
    lens: Lens,
    *,
    layers: Sequence[str],
    width: int,
    spread: bool,
) -> Mapping[str, Tensor]:
    """Returns names, the layers, one a line, as UTF-8; labels (n,); and for each layer i
    ``features.i`` (n, d) with d <= `width`. Of fewer than two layers, the network's blocks, or up
    to twelve of them, are looked at besides, and come first.
    """
    images, network = lens.images, lens.network(subjects[0])
    pixels = images.pixels.to(lens.device)
    names = [*_blocks(network, pixels[:1], layers), *layers]
    taps = find_taps(network.body, names)

    def part(some: slice) -> list[Tensor]:
        with watch(network.body, taps) as seen:
            network(pixels[some])
            whole = (pooled(seen[name].float(), spread) for name in names)
            return [projected(features, width, lens).cpu() for features in whole]

    parts = in_batches(part, len(pixels), lens.rows(network, images))
    found = {f"features.{i}": torch.cat(layer) for i, layer in enumerate(zip(*parts, strict=True))}
    return {"names": encoded(names), "labels": images.labels, **found}


def pooled(features: Tensor, spread: bool) -> Tensor:
    """(n, d, ...) or (n, t, d) -> (n, d), or (n, 2 d) with `spread`: see the module."""
    places = (1,) if features.dim() == 3 else tuple(range(2, features.dim()))
    if all(features.shape[place] == 1 for place in places):
        return flat(features)
    mean = features.mean(places)
    return torch.cat([mean, features.std(places, correction=0)], 1) if spread else mean


def projected(features: Tensor, width: int, lens: Lens) -> Tensor:
    """(n, d) -> (n, min(d, width))."""
    d = features.shape[1]
    if d <= width:
        return features
    matrix = torch.randn(d, width, generator=lens.generator(PROJECTION)) / width**0.5
    small: Tensor = features @ matrix.to(features)
    return small


def _blocks(network: Network, image: Tensor, layers: Sequence[str]) -> list[str]:
    """Blocks for a network with fewer than two layers; of many, some that are evenly spread."""
    if len(layers) > 1:
        return []
    found = [name for name in find_blocks(network, image) if name not in layers]
    return found[:: -(-len(found) // MOST_BLOCKS)] if found else []
