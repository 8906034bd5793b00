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
differentiated output by output. See slopes.py.

The groups tell the error of the energies given the pilot. Over whole new looks, the pilot too, the
error of H was about a third larger on the demo: at the logits 0.103 nats where 0.076 are told.

Source: the small-noise limit of Cheng et al. 2020, arXiv:2003.03622, equations 1-3; Hutchinson
1990 (trace by random signs).

Axes: n inputs, k noisy points, r probes, u groups of points, d outputs of a layer, q units.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kdprobe.batches import in_batches
from kdprobe.probes.contract import probe
from kdprobe.probes.folding import folded
from kdprobe.probes.guards import GUARD, must_answer
from kdprobe.probes.lens import Lens
from kdprobe.probes.slopes import Eye, Looks, at_input, at_noise
from kdprobe.probes.units import Kind, units_of
from kdprobe.study import Checkpoint
from kdprobe.taps import find_taps

INPUTS_AT_ONCE = 32  # the rest of a batch is filled with noisy points
PILOT = 8  # probes of each of the two looks that find the size of the noise
PILOT_POINTS = 2  # of the second look
STEP = 0.7  # of the way to what the second look finds: the whole way overshoots
REACH = 2.0  # nats beyond what was tried that are believed: what looks dead is often not
FLOOR = 1e-12  # of the mean energy: a unit that nothing depends on has a finite scale


@probe("jacobian", version=4)
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
        InputError: no slope leads from a layer back to the image, or the inputs have no such units.
    """
    how = Looks(tuple(layers), probes, noises, radius, exact, lam, noise, bool(relu))
    images, network = lens.images, lens.network(subjects[0])
    inputs = images.pixels.to(lens.device)
    cut = units_of(images, units, grid).to(lens.device)
    taps = find_taps(network.body, layers)
    rows = lens.rows(network, images)
    see = Eye(network, taps, inputs[:1], cut.take(slice(0, 1)), how.relu).outputs
    must_answer(see, inputs[:1], noise, lens.generator(GUARD), rows)
    network = folded(network, taps, inputs)
    size = min(INPUTS_AT_ONCE, max(1, rows // 2), len(images))

    def part(some: slice) -> dict[str, Tensor]:
        eye = Eye(network, taps, inputs[some], cut.take(some), how.relu)
        return energies(eye, how, seed=lens.seed, rows=rows)

    parts = in_batches(part, len(images), size)
    return {name: torch.cat([part[name] for part in parts], dim=-2).cpu() for name in parts[0]}


def energies(eye: Eye, how: Looks, *, seed: int, rows: int) -> dict[str, Tensor]:
    """energy/L and groups/L as `jacobian` returns them, with chance by `seed` alone."""
    chance = torch.Generator().manual_seed(seed)
    if how.radius == 0:
        return _named(at_input(eye, how.probes, how.exact, chance, rows))
    log_s = pilot(eye, how, chance, rows)
    found = at_noise(eye, log_s, how, how.probes, how.noises, chance, rows)
    return _named({name: _bounded(groups, log_s, eye, how) for name, groups in found.items()})


def pilot(eye: Eye, how: Looks, chance: torch.Generator, rows: int) -> Tensor:
    """(n, q) log of the scale that all layers lose, roughly: its mean over the layers."""
    first = _common(at_input(eye, PILOT, PILOT, chance, rows), eye, how)
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
