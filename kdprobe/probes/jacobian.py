"""How strongly does a layer answer to every part of the input?  Energy of its Jacobian per unit.

    g_c = E_e  sum over positions p and channels in unit c of ||d f / d x_p (x + radius s e)||^2

Of noise s e as large as the layer loses, e standard normal, this tells how much information the
layer discards in a unit (the entropy of metrics/discarding.py). In the limit of small noise,
radius = 0, that is exact; but a rectifier that is shut at x itself may open a step aside, and noise
of the size that a fit ends with meets other slopes. On the straight way from x to x + s e the mean
square distance is s^2 / 3: so the slopes are taken at radius 1 / sqrt(3), with s from a pilot of
few probes: at x first, then at noisy points. s is one for all layers (its geometric mean), so that
the probes of all layers ride on one forward pass a noisy point.

The energy is Hutchinson's estimate  E[(v' J)^2]  over random signs v; a layer of few outputs is
differentiated output by output.

Source: the small-noise limit of Cheng et al. 2020, arXiv:2003.03622, equations 1-3; Hutchinson
1990 (trace by random signs).

Axes: n inputs, k noisy points, r probes, u groups of points, d outputs of a layer, q units.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdprobe.batches import in_batches
from kdprobe.errors import InputError
from kdprobe.models.contract import Network
from kdprobe.probes.contract import probe
from kdprobe.probes.folding import folded
from kdprobe.probes.lens import Lens
from kdprobe.probes.units import Kind, Units, units_of
from kdprobe.study import Checkpoint
from kdprobe.taps import Outputs, Tap, find_taps, flat, watch

INPUTS_AT_ONCE = 32  # the rest of a batch is filled with noisy points
GROUPS = 8  # of noisy points or probes, kept apart: their halves tell any number's error
PILOT = 8  # probes of each of the two looks that find the size of the noise
PILOT_POINTS = 2  # of the second look
STEP = 0.7  # of the way to what the second look finds: the whole way overshoots
REACH = 2.0  # nats beyond what was tried that are believed: what looks dead is often not
FLOOR = 1e-12  # of the mean energy: a unit that nothing depends on has a finite scale


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


@probe("jacobian", version=3)
def jacobian(
    subjects: Sequence[Checkpoint],
    lens: Lens,
    *,
    layers: Sequence[str],
    units: Kind,
    grid: int,
    probes: int,
    noises: int,
    radius: float,
    exact: int,
    lam: float,
    noise: float,
    relu: int,
) -> Mapping[str, Tensor]:
    """Returns per layer L: energy/L (n, q), in squared output units per input unit.

    Where chance has a part in it, also groups/L (u, n, q): the energy by each of a few groups of
    noisy points (at radius 0: of probes). 0 where a unit is absent, or nothing depends on it.

    Raises:
        InputError: a layer cannot be differentiated, or the inputs have no such units.
    """
    how = Looks(tuple(layers), probes, noises, radius, exact, lam, noise, bool(relu))
    images, network = lens.images, lens.network(subjects[0])
    inputs = images.pixels.to(lens.device)
    cut = units_of(images, units, grid).to(lens.device)
    taps = find_taps(network.body, layers)
    network = folded(network, taps, inputs)
    rows = lens.rows(network, images)
    size = min(INPUTS_AT_ONCE, max(1, rows // 2), len(images))

    def part(some: slice) -> dict[str, Tensor]:
        eye = Eye(network, taps, inputs[some], cut.take(some), how.relu)
        return energies(eye, how, seed=lens.seed, rows=rows)

    parts = in_batches(part, len(images), size)
    return {name: torch.cat([part[name] for part in parts], dim=-2).cpu() for name in parts[0]}


@dataclass(frozen=True)
class Eye:
    """A network, some inputs, and where it is looked into."""

    network: Network
    taps: Mapping[str, Tap]
    inputs: Tensor  # (n, 3, h, w) or (n, t, d)
    units: Units
    relu: bool = False

    def outputs(self, x: Tensor, seen: Outputs) -> dict[str, Tensor]:
        """(rows, d) of every layer. Raises InputError where one cannot be differentiated."""
        self.network(x)
        found = {name: flat(seen[name]) for name in self.taps}
        for name, output in found.items():
            if not output.requires_grad:
                raise InputError(
                    f"layer {name!r} cannot be differentiated by the input: its output does not "
                    "depend on it, or passes through an operation without a gradient (rounding, "
                    "argmax, detach); choose a layer before that"
                )
        return {name: out.relu() if self.relu else out for name, out in found.items()}


def energies(eye: Eye, how: Looks, *, seed: int, rows: int) -> dict[str, Tensor]:
    """energy/L and groups/L as `jacobian` returns them, with chance by `seed` alone."""
    chance = torch.Generator().manual_seed(seed)
    if how.radius == 0:
        return _named(_at_input(eye, how.probes, how.exact, chance))
    log_s = pilot(eye, how, chance, rows)
    found = at_noise(eye, log_s, how, how.probes, how.noises, chance, rows)
    return _named({name: _bounded(groups, log_s, eye, how) for name, groups in found.items()})


def pilot(eye: Eye, how: Looks, chance: torch.Generator, rows: int) -> Tensor:
    """(n, q) log of the scale that all layers lose, roughly: its mean over the layers."""
    first = _common(_at_input(eye, PILOT, PILOT, chance), eye, how)
    found = at_noise(eye, first, how, PILOT, PILOT_POINTS, chance, rows)
    return first + STEP * (_common(found, eye, how) - first)


def _common(found: Mapping[str, Tensor], eye: Eye, how: Looks) -> Tensor:
    """Mean over the layers that answer at all; inputs without any are given the unit noise."""
    log_s = torch.stack(
        [log_scale(groups.mean(0), eye.units.sizes > 0, how) for groups in found.values()]
    )
    known = log_s.nanmean(0)
    middle = torch.where(eye.units.sizes > 0, known, torch.nan).nanmedian(-1, keepdim=True).values
    known = known.minimum(middle + REACH)
    return torch.where(known.isnan(), math.log(how.noise), known)


def log_scale(energy: Tensor, present: Tensor, how: Looks) -> Tensor:
    """(n, q) log s_c = 0.5 log( lam noise^2 sum_j g_j / (2 C g_c) ); NaN for a dead layer."""
    total, count = energy.sum(-1, keepdim=True), present.sum(-1, keepdim=True)
    floored = energy.maximum(FLOOR * total / count)
    return 0.5 * (how.lam * how.noise**2 * total / (2 * count * floored)).log()


def _bounded(groups: Tensor, log_s: Tensor, eye: Eye, how: Looks) -> Tensor:
    """Energies at least those of a scale REACH beyond the noise that was tried: more is unknown."""
    present = eye.units.sizes > 0
    count = present.sum(-1, keepdim=True).clamp(min=1)
    unit = how.lam * how.noise**2 * groups.sum(-1, keepdim=True) / (2 * count)
    return groups.maximum(unit * (-2 * (log_s + REACH)).exp() * present)


def _named(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Groups (u, n, q) of every layer, as they are stored; a single group has no chance in it."""
    seen = {f"energy/{name}": groups.mean(0) for name, groups in found.items()}
    seen.update({f"groups/{name}": groups for name, groups in found.items() if len(groups) > 1})
    return seen


def _at_input(eye: Eye, probes: int, exact: int, chance: torch.Generator) -> dict[str, Tensor]:
    """(u, n, q) energies of every layer at the inputs themselves; u = 1 where exact."""
    x, seen = _leaf(eye.inputs), {}
    with torch.enable_grad(), watch(eye.network.body, eye.taps) as outputs:
        for name, output in eye.outputs(x, outputs).items():
            width, own = output.shape[1], _branch(chance)
            if width <= exact:
                signs = torch.eye(width)[:, None].expand(-1, len(x), -1)
                groups = _squares(output, x, signs, eye.units).sum(0, keepdim=True)
            else:
                signs = _signs((probes, 1, width), own).expand(-1, len(x), -1)
                cells = _squares(output, x, signs, eye.units)
                groups = torch.stack([g.mean(0) for g in cells.tensor_split(_groups(probes))])
            seen[name] = groups
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
        with torch.enable_grad(), watch(eye.network.body, eye.taps) as outputs:
            for name, output in eye.outputs(x, outputs).items():
                each, width = probes // points, output.shape[1]
                if width <= each:
                    signs = torch.eye(width)[:, None].expand(-1, len(x), -1)
                    cells = _squares(output, x, signs, many).sum(0)
                else:
                    signs = _signs((len(e), each, 1, width), drawn[name]).expand(-1, -1, n, -1)
                    turned = signs.transpose(0, 1).flatten(1, 2)  # (r, k n, d)
                    cells = _squares(output, x, turned, many).mean(0)
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


def _squares(output: Tensor, x: Tensor, directions: Tensor, units: Units) -> Tensor:
    """(r, n, q) energies of v' J for directions (r, n, d): one backward pass each.

    A GPU takes them in one vectorised pass; on a CPU that costs copies and gains nothing.
    """
    if x.device.type == "cuda":
        (gradient,) = torch.autograd.grad(
            output, x, directions.to(output), is_grads_batched=True, retain_graph=True
        )
        return units.gather(gradient.square())
    return torch.cat(
        [
            units.gather(
                torch.autograd.grad(output, x, v.to(output), retain_graph=True)[0][None] ** 2
            )
            for v in directions
        ]
    )
