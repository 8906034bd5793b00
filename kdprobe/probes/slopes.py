"""How steeply does a layer answer, and to which parts of the input?  Squared slopes per unit.

Energies of v' J over random signs v (see jacobian.py), at the inputs themselves or at noisy points
around them.

Axes: n inputs, k noisy points, r probes, u groups of points, d outputs of a layer, q units.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdprobe.models.contract import Network
from kdprobe.passes import passing
from kdprobe.probes.units import Units
from kdprobe.taps import Tap, flat, watch

GROUPS = 8  # of noisy points or probes, kept apart: their halves tell any number's error


@dataclass(frozen=True)
class Looks:
    """How a layer is differentiated, where and how often."""

    layers: tuple[str, ...]
    probes: int  # of a layer, over all points
    noises: int  # points; an even number
    radius: float  # of the noise, in units of s; 0 = at the input itself
    exact: int  # at radius 0 a layer of at most so many outputs is differentiated exactly
    lam: float
    noise: float  # sd of the noise that sets the unit of feature change
    relu: bool = False  # whether what is negative counts as nothing


@dataclass(frozen=True)
class Eye:
    """A network, some inputs, and where it is looked into."""

    network: Network
    taps: Mapping[str, Tap]
    inputs: Tensor  # (n, 3, h, w) or (n, t, d)
    units: Units
    relu: bool = False

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        """(rows, d) of every layer, all from one pass."""
        return outputs_of(self.network, self.taps, self.relu, x)


def outputs_of(
    network: Network, taps: Mapping[str, Tap], relu: bool, x: Tensor
) -> dict[str, Tensor]:
    """(rows, d) of every layer, all from one pass."""
    with watch(network.body, taps) as seen:
        network(x)
        found = {name: flat(seen[name]) for name in taps}
    return {
        name: out.relu() if relu and out.is_floating_point() else out for name, out in found.items()
    }


def at_input(
    eye: Eye, probes: int, exact: int, chance: torch.Generator, rows: int
) -> dict[str, Tensor]:
    """(u, n, q) energies of every layer at the inputs themselves; u = 1 where exact."""
    x, seen = _leaf(eye.inputs), {}
    with torch.enable_grad():
        for name, output in eye.outputs(x).items():
            width, own = output.shape[1], _branch(chance)
            if width <= exact:
                signs = torch.eye(width)[:, None].expand(-1, len(x), -1)
                seen[name] = _energy(output, x, signs, eye.units, rows)[None]
            else:
                signs = _signs((probes, 1, width), own).expand(-1, len(x), -1)
                parts = signs.tensor_split(_groups(probes))
                found = [_energy(output, x, v, eye.units, rows) / len(v) for v in parts]
                seen[name] = torch.stack(found)
    return seen


def at_noise(
    eye: Eye,
    log_s: Tensor,
    how: Looks,
    probes: int,
    points: int,
    chance: torch.Generator,
    rows: int,
) -> dict[str, Tensor]:
    """(u, n, q) energies of every layer at `points` noisy points, antithetic in pairs.

    The noise is the same for all inputs, layers and networks, however many pairs fit at once; pairs
    are never parted by a group.
    """
    spread = how.radius * eye.units.spread(log_s.exp())
    n, pairs = len(eye.inputs), points // 2
    noise, *streams = (_branch(chance) for _ in range(1 + len(eye.taps)))
    drawn = dict(zip(eye.taps, streams, strict=True))
    at_once = max(1, rows // (2 * n))
    found: dict[str, list[Tensor]] = {name: [] for name in eye.taps}
    for start in range(0, pairs, at_once):
        count = min(at_once, pairs - start)
        halves = [torch.randn(eye.inputs.shape[1:], generator=noise) for _ in range(count)]
        half = torch.stack(halves)[:, None].to(eye.inputs)
        e = torch.stack([half, -half], dim=1).flatten(0, 1)  # (k, 1, ...)
        x = _leaf((eye.inputs + spread * e).flatten(0, 1))
        many = Units(eye.units.members.repeat(len(e), 1), *_shape_of(eye.units))
        with torch.enable_grad():
            for name, output in eye.outputs(x).items():
                each, width = probes // points, output.shape[1]
                if width <= each:
                    signs = torch.eye(width)[:, None].expand(-1, len(x), -1)
                    cells = _energy(output, x, signs, many, rows)
                else:
                    signs = _signs((len(e), each, 1, width), drawn[name]).expand(-1, -1, n, -1)
                    turned = signs.transpose(0, 1).flatten(1, 2)  # (r, k n, d)
                    cells = _energy(output, x, turned, many, rows) / each
                found[name].append(cells.view(-1, 2, n, cells.shape[-1]).mean(1))
    return {name: _grouped(torch.cat(pieces)) for name, pieces in found.items()}


def _shape_of(units: Units) -> tuple[tuple[int, ...], int, int]:
    return units.positions, units.count, units.grid


def _grouped(pairs: Tensor) -> Tensor:
    """(pairs, n, q) -> (u, n, q) means of groups of about equal size."""
    return torch.stack([part.mean(0) for part in pairs.tensor_split(_groups(len(pairs)))])


def _groups(draws: int) -> int:
    """How many groups so many draws make: a power of two, for balanced halves."""
    return int(2 ** math.floor(math.log2(min(GROUPS, draws))))


def _leaf(x: Tensor) -> Tensor:
    """A copy that gradients are taken by, laid out as convolutions like it."""
    layout = torch.channels_last if x.dim() == 4 else torch.contiguous_format
    return x.detach().clone(memory_format=layout).requires_grad_()


def _branch(chance: torch.Generator) -> torch.Generator:
    """A stream of its own: what is drawn from it does not depend on what others draw."""
    return torch.Generator().manual_seed(int(torch.randint(1 << 62, (), generator=chance)))


def _signs(shape: Sequence[int], chance: torch.Generator) -> Tensor:
    """Random signs, drawn on the CPU: the same ones for every network and device."""
    return torch.randint(0, 2, tuple(shape), generator=chance, dtype=torch.int8).mul_(2).sub_(1)


def _energy(output: Tensor, x: Tensor, directions: Tensor, units: Units, rows: int) -> Tensor:
    """(n, q) energy of v' J, summed over directions v (r, n, d): one backward pass each.

    A GPU takes as many of them in one vectorised pass as `rows` allows; on a CPU that costs copies
    and gains nothing. Squares are added up before they are gathered into units.
    """
    total = torch.zeros_like(x, requires_grad=False)
    if x.device.type != "cuda":
        for v in directions:
            slope = _slope(output, x, v, False)
            total.addcmul_(slope, slope)
    else:
        for some in torch.split(directions, max(1, rows // len(x))):
            total += _slope(output, x, some, True).square().sum(0)
    return units.gather(total[None])[0]


def _slope(output: Tensor, x: Tensor, v: Tensor, batched: bool) -> Tensor:
    """v' J (n, ...) for v (n, d); batched, (r, n, ...) for (r, n, d)."""
    with passing():
        (slope,) = torch.autograd.grad(
            output, x, v.to(output), retain_graph=True, is_grads_batched=batched
        )
    return slope
