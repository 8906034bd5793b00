"""How strongly does a layer answer to every part of the image?  Energy of its Jacobian per cell.

    g_c = sum over pixels p and channels in cell c of ||d f / d x_p||^2

In the limit of small noise this alone decides how much information a layer discards in a cell
(the entropy of metrics/concepts.py). A layer of at most `exact` outputs is differentiated output by
output; a wider one by Hutchinson's estimate  g = E[(v' J)^2]  over random signs v, whose standard
error comes along. Pixels are in [0, 1], before the network's normalisation.

Source: the small-noise limit of Cheng et al. 2020, arXiv:2003.03622, equations 1-3; Hutchinson
1990 (trace by random signs).

Axes: n images, r probes, u groups of probes, d outputs of the layer, h w pixels, g grid cells.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

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
GROUPS = 4  # of probes, kept apart: their halves tell the error of any number made of energies


@dataclass(frozen=True)
class Directions:
    """The vectors v of v' J for one layer: unit vectors where it is exact, else random signs.

    Made a chunk at a time, since all of them may not fit; always the same ones, however they are
    cut, for all images and for all networks of one shape.
    """

    width: int
    count: int
    exact: bool
    seed: int

    def chunks(self, size: int) -> Iterator[Tensor]:
        """(r, d) rows, at most `size` at a time, on the CPU."""
        chance = torch.Generator().manual_seed(self.seed)
        for start in range(0, self.count, size):
            rows = torch.arange(start, min(start + size, self.count))
            if self.exact:
                yield torch.nn.functional.one_hot(rows, self.width)
            else:
                shape = (len(rows), self.width)
                signs = torch.randint(0, 2, shape, generator=chance, dtype=torch.int8)
                yield signs.mul_(2).sub_(1)


@probe("jacobian", version=2)
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
    Where it is not, also groups/L (u, n, g, g): the energy by each of a few groups of probes.
    """
    images, network = lens.images, lens.network(subjects[0])
    pixels = images.pixels.to(lens.device)
    taps = find_taps(network.body, layers)
    wanted = directions(network, taps, pixels, probes, exact, lens.seed)
    rows = lens.rows(network, images)
    size = min(IMAGES_AT_ONCE, rows, len(images))

    def part(some: slice) -> dict[str, Tensor]:
        return energies(network, taps, pixels[some], wanted, grid=grid, chunk=rows // size)

    parts = in_batches(part, len(images), size)
    return {name: torch.cat([part[name] for part in parts], dim=-3).cpu() for name in parts[0]}


def directions(
    network: Network, taps: Mapping[str, Tap], pixels: Tensor, probes: int, exact: int, seed: int
) -> dict[str, Directions]:
    """Which vectors to take for every layer: all unit vectors up to `exact` outputs, else signs."""
    found = {}
    for name, shape in shapes(network.body, taps, pixels).items():
        width = torch.Size(shape).numel()
        narrow = width <= exact
        found[name] = Directions(width, width if narrow else probes, narrow, seed)
    return found


def energies(
    network: Network,
    taps: Mapping[str, Tap],
    pixels: Tensor,
    wanted: Mapping[str, Directions],
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
            how = wanted[name]
            groups, squares = _sums(flat(outputs[name]), x, how, grid, chunk)
            total = groups.sum(0)
            if how.exact:
                seen[f"energy/{name}"], seen[f"error/{name}"] = total, torch.zeros_like(total)
            else:
                members = torch.bincount(torch.arange(how.count) % _groups(how)).to(total)
                seen[f"energy/{name}"] = total / how.count
                seen[f"error/{name}"] = _error(total, squares, how.count)
                seen[f"groups/{name}"] = groups / members[:, None, None, None]
    return seen


def _groups(how: Directions) -> int:
    """An even number of groups of probes, so that they have halves."""
    return GROUPS if how.count >= GROUPS else 2


def _sums(
    features: Tensor, x: Tensor, how: Directions, grid: int, chunk: int
) -> tuple[Tensor, Tensor]:
    """Over the probes: sums of the cell energy by group (u, n, g, g), and of its square (n, g, g).

    Probe i belongs to group i modulo the number of groups.
    """
    groups = x.new_zeros(_groups(how), len(x), grid, grid)
    squares = x.new_zeros(len(x), grid, grid)
    start = 0
    for some in how.chunks(chunk):
        cells = _cell_energies(features, x, some.to(features), grid)
        for group in range(len(groups)):
            groups[group] += cells[(group - start) % len(groups) :: len(groups)].sum(0)
        squares += cells.square().sum(0)
        start += len(some)
    return groups, squares


def _cell_energies(features: Tensor, x: Tensor, v: Tensor, grid: int) -> Tensor:
    """(r, n, g, g) energies of v' J by one vectorised backward pass; v is (r, d)."""
    cotangents = v.unsqueeze(1).expand(-1, len(x), -1)
    (gradient,) = torch.autograd.grad(
        features, x, cotangents, is_grads_batched=True, retain_graph=True
    )
    area = x.shape[2] * x.shape[3] / grid**2
    return adaptive_avg_pool2d(gradient.square().sum(2), grid) * area


def _error(total: Tensor, squares: Tensor, count: int) -> Tensor:
    """Standard error of the mean over probes."""
    variance = (squares / count - (total / count).square()).clamp(min=0)
    return (variance / max(count - 1, 1)).sqrt()
