"""What noise does a layer not tell from the image?  Entropies of units by a fit that converges.

Every unit c of an image gets the scale s_c of its own noise; over log s is minimised

    L(s) = mean_j (f(x + s e)_j - f(x)_j)^2 / d2  -  lam * mean_c H_c,
    H_c  = log s_c + 0.5 log(2 pi e)                    nats, small = kept, large = discarded
    d2   = mean_j (f(x + noise e)_j - f(x)_j)^2         e ~ N(0, 1); x, s and noise in pixel units

by Adam, from `warm_start`, with pairs of noises e and -e that are the same for all images, layers,
networks and checkpoints. After every round the latest eight tenths of all steps are the tail; an
image is done when the halves of its tail agree. Their mean is the result. Where f is linear, the
feature loss then is lam / 2.

Source: Cheng et al. 2020, arXiv:2003.03622, equations 1-3; Kingma and Ba 2015, arXiv:1412.6980;
Polyak and Juditsky 1992 (averages of iterates).

Axes: n images, q units, d outputs of the layer, k noises, r probes, u blocks of the tail.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import get_args

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from kdprobe.batches import in_batches
from kdprobe.errors import InputError, UsageError
from kdprobe.models.contract import Network
from kdprobe.probes.contract import probe
from kdprobe.probes.descent import (
    REACH,
    WINDOWS,
    Descent,
    Features,
    Match,
    Problem,
    changes,
    mean_of_present,
    nothing_seen,
)
from kdprobe.probes.lens import Lens
from kdprobe.probes.units import Kind, units_of
from kdprobe.study import Checkpoint
from kdprobe.taps import Tap, find_taps, flat, watch

DEFAULT_STEPS, DEFAULT_NOISES, DEFAULT_PROBES = 200, 8, 8
DEFAULT_TOLERANCE = 0.2  # nats; chance alone moves a half of 80 steps of 8 noises by 0.08 to 0.17
DEFAULT_NOISE = 0.00226  # pixel units: 0.01 after ImageNet's normalisation, as in the source
WINDOW = 20  # steps, where there are enough
AT_ONCE = 8  # probes in a vectorised backward pass
FIT, START, CHANGE = 21, 22, 23  # purposes of chance


@probe("fit", version=1)
def fit(
    subjects: Sequence[Checkpoint],
    lens: Lens,
    *,
    layers: Sequence[str],
    units: Kind,
    grid: int,
    lam: float,
    noise: float,
    relu: int,
    probes: int,
    steps: int,
    noises: int,
    tolerance: float,
    match: Match,
) -> Mapping[str, Tensor]:
    """Returns per layer L, in nats: entropy/L (n, q), NaN for units that an input lacks and where
    the layer is dead (d2 = 0), and groups/L (u, n, q), the same by every block of the tail; and
    converged/L (n,) bool, steps/L (n,) int64, distortion/L (n,) the feature loss in units of d2,
    averaged over the tail, and weight/L (n,) the lam that led there.

    `match` holds the same for all: the weight lam, the distortion lam / 2, or the mean entropy
    TARGET. A dead image has NaNs, 0 steps, and has not converged.

    Raises:
        InputError: an output has no gradient by the image, or depends on none of the images.
        UsageError: too few steps, or noises that are no pairs.
    """
    _must_be_sound(steps, noises, match)
    images, network = lens.images, lens.network(subjects[0])
    owned = units_of(images, units, grid).to(lens.device)
    pixels, taps = images.pixels.to(lens.device), find_taps(network.body, layers)
    for name, tap in taps.items():
        _must_lead_back(name, partial(_features, network, name, tap, relu), pixels[:1])
    rows = lens.rows(network, images)

    def part(some: slice) -> dict[str, Tensor]:
        x, mine = pixels[some], owned.take(some)
        found: dict[str, Tensor] = {}
        see = partial(_all_features, network, taps, relu)
        small = noise * mine.spread((mine.sizes > 0).to(x))
        for name, (clean, change) in changes(see, x, small, rows, lens.generator(CHANGE)).items():
            features = partial(_features, network, name, taps[name], relu)
            problem = Problem(features, x, clean, change, mine, mine.sizes > 0, lam, noise, match)
            seen = _fitted(problem, lens, probes, steps, noises, tolerance)
            found |= {f"{key}/{name}": values for key, values in seen.items()}
        return found

    parts = in_batches(part, len(images), max(1, rows // noises))
    found = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
    for name in taps:
        _must_live(name, found[f"steps/{name}"])
        found[f"groups/{name}"] = found[f"groups/{name}"].movedim(1, 0).contiguous()
    return found


def _fitted(
    problem: Problem, lens: Lens, probes: int, steps: int, noises: int, tolerance: float
) -> dict[str, Tensor]:
    """All images of a problem, images first; the dead are left out of the fit."""
    live = (problem.change > 0) & problem.present.any(1)
    rows = live.nonzero().squeeze(1)
    chance, window = lens.generator(FIT), min(WINDOW, steps // WINDOWS)
    found = nothing_seen(problem.present, problem.pixels)
    if not len(rows):
        return found
    some = problem.take(rows)
    descent = Descent.at(some, warm_start(some, probes=probes, chance=lens.generator(START)))
    rounds = steps // (WINDOWS * window)
    for turn in range(1, rounds + 1):
        for _ in range(WINDOWS):
            descent.window(window, noises, chance)
        seen = descent.seen(tolerance)
        done = seen["converged"] if turn < rounds else torch.ones_like(seen["converged"])
        for name, values in seen.items():
            found[name][rows[done]] = values[done]
        rows = rows[~done]
        if not len(rows):
            break
        descent.keep(~done)
    return found


def warm_start(problem: Problem, *, probes: int, chance: torch.Generator) -> Tensor:
    """(n, q) log s near the minimum, from Jacobian energies g of units (closed form).

        log s_c = 0.5 log( lam noise^2 sum_j g_j / (2 C g_c) ),    C units

    Energies of the image itself miss what only noise wakes (dim background under ReLU), so they
    are looked at again under noise of 0.577 s: the root mean square of the way from x to x + s e.
    """
    log_s = _closed_form(problem, _energies(problem, problem.pixels, probes, chance))
    for _ in range(2):
        e = torch.randn(2, *problem.pixels.shape[1:], generator=chance).to(log_s)
        spread = 0.577 * problem.units.spread(log_s.exp())
        places = [problem.pixels + sign * spread * one for one in e for sign in (1, -1)]
        energies = [_energies(problem, place, probes, chance) for place in places]
        log_s = log_s.lerp(_closed_form(problem, torch.stack(energies).mean(0)), 0.7)
    return problem.centred(log_s, problem.level) if problem.match == "entropy" else log_s


def _closed_form(problem: Problem, g: Tensor) -> Tensor:
    """(n, q) log s from energies (n, q), at most REACH above an even spread."""
    share = g / mean_of_present(g, problem.present).clamp(min=torch.finfo(g.dtype).tiny)
    return problem.level - 0.5 * share.clamp(min=math.exp(-2 * REACH)).log()


def _energies(problem: Problem, places: Tensor, probes: int, chance: torch.Generator) -> Tensor:
    """(n, q) squared gradients at `places`, summed over a unit and over the layer's outputs."""
    x = places.clone().requires_grad_()
    width = problem.clean.shape[1]
    if width <= probes:
        v, scale = one_hot(torch.arange(width)), 1.0
    else:
        v, scale = torch.randint(0, 2, (probes, width), generator=chance) * 2 - 1, 1 / probes
    total = torch.zeros_like(problem.present, dtype=x.dtype)
    with torch.enable_grad():
        found = problem.features(x)
        for some in torch.split(v.to(found), AT_ONCE):
            ways = some.unsqueeze(1).expand(-1, len(x), -1)
            (slope,) = torch.autograd.grad(found, x, ways, is_grads_batched=True, retain_graph=True)
            total += problem.units.gather(slope.square()).sum(0)
    return total * scale


def _features(network: Network, name: str, tap: Tap, relu: int, pixels: Tensor) -> Tensor:
    """(n, d) what one layer puts out."""
    return _all_features(network, {name: tap}, relu, pixels)[name]


def _all_features(
    network: Network, taps: Mapping[str, Tap], relu: int, pixels: Tensor
) -> dict[str, Tensor]:
    """By layer (n, d), all from one pass."""
    with watch(network.body, taps) as seen:
        network(pixels)
        found = {name: flat(seen[name]) for name in taps}
    return {name: values.relu() if relu else values for name, values in found.items()}


def _must_be_sound(steps: int, noises: int, match: str) -> None:
    """Raise UsageError for numbers that no fit can be made of."""
    if steps < WINDOWS:
        raise UsageError(f"found {steps} steps of the fit; wanted at least {WINDOWS}")
    if noises < 2 or noises % 2:
        raise UsageError(f"found {noises} noises of the fit; wanted pairs: an even number above 0")
    if match not in get_args(Match):
        wanted = ", ".join(get_args(Match))
        raise UsageError(f"found match {match!r} of the fit; wanted one of {wanted}")


def _must_lead_back(name: str, features: Features, x: Tensor) -> None:
    """Raise InputError when a layer's output has no gradient by the image."""
    with torch.enable_grad():
        found = features(x.clone().requires_grad_())
    if not (found.requires_grad and found.is_floating_point()):
        raise InputError(
            f"found no gradient from layer {name!r} to the image (its output is detached, or of "
            "whole numbers); wanted a differentiable layer: choose another with --layers"
        )


def _must_live(name: str, steps: Tensor) -> None:
    """Raise InputError when no image's output has answered to noise."""
    if not bool(steps.any()):
        raise InputError(
            f"found no change of layer {name!r} under noise on any of {len(steps)} images; wanted "
            "an output that depends on the image: choose another layer, or one before its ReLU"
        )
