"""How strongly does a layer answer to every part of the image?  Energy of its Jacobian per cell.

    g_c = sum over pixels p and channels in cell c of ||d f / d x_p||^2

In the limit of small noise this alone decides how much information a layer discards in a cell
(the entropy of metrics/concepts.py). A layer of at most `exact` outputs is differentiated output by
output; a wider one by Hutchinson's estimate  g = E[(v' J)^2]  over random signs v, whose standard
error comes along. Pixels are in [0, 1], before the network's normalisation.

Source: the small-noise limit of Cheng et al. 2020, arXiv:2003.03622, equations 1-3; Hutchinson
1990 (trace by random signs).

Axes: n images, r probes, d outputs of the layer, h w pixels, g grid cells.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from kdprobe.batches import in_batches
from kdprobe.models.contract import Network
from kdprobe.probes.contract import probe
from kdprobe.probes.lens import Lens
from kdprobe.study import Checkpoint
from kdprobe.taps import Tap, find_taps, flat, shapes, watch

IMAGES_AT_ONCE = 32  # of one forward pass; the rest of a batch is filled with probes


@probe("jacobian", version=1)
def jacobian(
    subjects: Sequence[Checkpoint],
    lens: Lens,
    *,
    layers: Sequence[str],
    grid: int,
    probes: int,
    exact: int,
) -> Mapping[str, Tensor]:
    """Returns per layer L: energy/L and error/L (n, g, g), in squared output units per pixel unit.

    error is the standard error of energy over the random probes; 0 where the layer is exact.
    """
    images, network = lens.images, lens.network(subjects[0])
    pixels = images.pixels.to(lens.device)
    taps = find_taps(network.body, layers)
    vectors = directions(network, taps, pixels, probes, exact, lens.generator(1))
    rows = lens.rows(network, images)
    size = min(IMAGES_AT_ONCE, rows, len(images))

    def part(some: slice) -> dict[str, Tensor]:
        return energies(network, taps, pixels[some], vectors, grid=grid, chunk=rows // size)

    parts = in_batches(part, len(images), size)
    return {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}


def directions(
    network: Network,
    taps: Mapping[str, Tap],
    pixels: Tensor,
    probes: int,
    exact: int,
    generator: torch.Generator,
) -> dict[str, tuple[Tensor, bool]]:
    """Per layer: the (r, d) vectors v of v' J, and whether they are the unit vectors (exact).

    Random signs are drawn once, so that all images and all networks of one shape share them.
    """
    found = {}
    for name, shape in shapes(network.body, taps, pixels).items():
        width = torch.Size(shape).numel()
        if width <= exact:
            found[name] = (torch.eye(width, device=pixels.device), True)
        else:
            signs = torch.randint(0, 2, (probes, width), generator=generator)
            found[name] = ((2 * signs - 1).float().to(pixels.device), False)
    return found


def energies(
    network: Network,
    taps: Mapping[str, Tap],
    pixels: Tensor,
    vectors: Mapping[str, tuple[Tensor, bool]],
    *,
    grid: int,
    chunk: int,
) -> dict[str, Tensor]:
    """Cell energies of every layer from one forward pass of `pixels` (n, 3, h, w).

    The probes of all layers ride on that pass: `chunk` probes at a time are one vectorised
    backward pass over all images.
    """
    x = pixels.clone().requires_grad_()
    seen: dict[str, Tensor] = {}
    with torch.enable_grad(), watch(network.body, taps) as outputs:
        network(x)
        for name in taps:
            v, exact = vectors[name]
            total, squares = _sums(flat(outputs[name]), x, v, grid, chunk)
            seen[f"energy/{name}"] = total if exact else total / len(v)
            seen[f"error/{name}"] = torch.zeros_like(total) if exact else _error(total, squares, v)
    return seen


def _sums(features: Tensor, x: Tensor, v: Tensor, grid: int, chunk: int) -> tuple[Tensor, Tensor]:
    """Sum over probes of the cell energy and of its square: two (n, g, g)."""
    total = x.new_zeros(len(x), grid, grid)
    squares = torch.zeros_like(total)
    for cells in _cell_energies(features, x, v, grid, chunk):
        total += cells.sum(0)
        squares += cells.square().sum(0)
    return total, squares


def _cell_energies(
    features: Tensor, x: Tensor, v: Tensor, grid: int, chunk: int
) -> Iterator[Tensor]:
    """(r, n, g, g) energies of v' J, a chunk of probes at a time."""
    area = x.shape[2] * x.shape[3] / grid**2
    for some in torch.split(v, chunk):
        cotangents = some.unsqueeze(1).expand(-1, len(x), -1)
        (gradient,) = torch.autograd.grad(
            features, x, cotangents, is_grads_batched=True, retain_graph=True
        )
        yield adaptive_avg_pool2d(gradient.square().sum(2), grid) * area


def _error(total: Tensor, squares: Tensor, v: Tensor) -> Tensor:
    """Standard error of the mean over probes."""
    count = len(v)
    variance = (squares / count - (total / count).square()).clamp(min=0)
    return (variance / max(count - 1, 1)).sqrt()
