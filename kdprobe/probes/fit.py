"""What noise does a layer not tell from the image?  Entropies of units by a fit that converges.

Every unit c of an image gets the scale s_c of its own noise; over log s is minimised

    L(s) = mean_j (f(x + s e)_j - f(x)_j)^2 / d2  -  lam * mean_c H_c,
    H_c  = log s_c + 0.5 log(2 pi e)                    nats, small = kept, large = discarded
    d2   = mean_j (f(x + noise e)_j - f(x)_j)^2         e ~ N(0, 1); x, s and noise in pixel units

by Adam, with pairs of noises e and -e that are the same for all images, layers, networks and
checkpoints. Every image is fitted by a few chains at once, which share nothing of chance: each has
its own `warm_start` and its own noises, an equal share of those of a step. After every round the
latest eight tenths of all steps are the tail; an image is done when the halves of its tail agree,
in the mean over the chains. The mean over chains and tail is the result, and what the chains
scatter by is its error. Where f is linear, the feature loss then is lam / 2.

Source: Cheng et al. 2020, arXiv:2003.03622, equations 1-3; Kingma and Ba 2015, arXiv:1412.6980;
Polyak and Juditsky 1992 (averages of iterates).

Axes: n images, q units, d outputs of the layer, k noises, r probes, u chains.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import get_args

import torch
from torch import Tensor

from kdprobe.batches import in_batches
from kdprobe.errors import UsageError
from kdprobe.models.contract import Network
from kdprobe.probes.contract import probe
from kdprobe.probes.descent import (
    REACH,
    WINDOW,
    WINDOWS,
    Descent,
    Match,
    Problem,
    chains_of,
    changes,
    mean_of_present,
    nothing_seen,
)
from kdprobe.probes.folding import folded
from kdprobe.probes.guards import GUARD, must_answer
from kdprobe.probes.jacobian import PILOT, PILOT_POINTS, pilot
from kdprobe.probes.lens import Lens
from kdprobe.probes.slopes import Eye, Looks, at_noise, outputs_of
from kdprobe.probes.units import Kind, units_of
from kdprobe.study import Checkpoint
from kdprobe.taps import Tap, find_taps

FIT, START, CHANGE = 21, 22, 23  # purposes of chance


@probe("fit", version=3)
def fit(
    subjects: Sequence[Checkpoint],
    lens: Lens,
    *,
    layers: Sequence[str],
    units: Kind,
    grid: int,
    lam: float,
    noise: float,
    relu: bool,
    steps: int,
    draws: int,
    tolerance: float,
    match: Match,
) -> Mapping[str, Tensor]:
    """Returns per layer L, in nats: entropy/L (n, q), NaN for units that an input lacks and where
    the layer is dead (d2 = 0), and groups/L (u, n, q), the same by every chain; and
    converged/L (n,) bool, steps/L (n,) int64, distortion/L (n,) the feature loss in units of d2,
    averaged over the tail, and weight/L (n,) the lam that led there.

    `match` holds the same for all: the weight lam, the distortion lam / 2, or the mean entropy
    TARGET. A dead image has NaNs, 0 steps, and has not converged.

    Raises:
        InputError: no slope leads from a layer back to the image, or the inputs have no such units.
        UsageError: too few steps, or noises that are no pairs.
    """
    _must_be_sound(steps, draws, match)
    images, network = lens.images, lens.network(subjects[0])
    owned = units_of(images, units, grid).to(lens.device)
    pixels, taps = images.pixels.to(lens.device), find_taps(network.body, layers)
    rows = lens.rows(network, images)
    see = partial(outputs_of, network, taps, relu)
    must_answer(see, pixels[:1], noise, lens.generator(GUARD), rows)
    network = folded(network, taps, pixels)
    how = Looks(tuple(layers), PILOT, PILOT_POINTS, 3**-0.5, PILOT, lam, noise, relu)

    def part(some: slice) -> dict[str, Tensor]:
        x, mine = pixels[some], owned.take(some)
        found: dict[str, Tensor] = {}
        see = partial(outputs_of, network, taps, relu)
        small = noise * mine.spread((mine.sizes > 0).to(x))
        for name, (clean, change) in changes(see, x, small, rows, lens.generator(CHANGE)).items():
            features = partial(_features, network, name, taps[name], relu)
            problem = Problem(features, x, clean, change, mine, mine.sizes > 0, lam, noise, match)
            eye = Eye(network, {name: taps[name]}, x, mine, relu)
            chance = lens.generator(START)
            starts = [warm_start(problem, eye, how, chance) for _ in range(chains_of(draws))]
            seen = _fitted(problem, torch.stack(starts, 1), lens, steps, draws, tolerance)
            found |= {f"{key}/{name}": values for key, values in seen.items()}
        return found

    parts = in_batches(part, len(images), max(1, rows // draws))
    found = {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}
    for name in taps:
        found[f"groups/{name}"] = found[f"groups/{name}"].movedim(1, 0).contiguous()
    return found


def _fitted(
    problem: Problem, start: Tensor, lens: Lens, steps: int, draws: int, tolerance: float
) -> dict[str, Tensor]:
    """All images of a problem, images first, from `start` (n, u, q); the dead are left out."""
    live = (problem.change > 0) & problem.present.any(1)
    rows, chains = live.nonzero().squeeze(1), start.shape[1]
    found = nothing_seen(problem.present, chains, problem.pixels)
    if not len(rows):
        return found
    chance, window = lens.generator(FIT), min(WINDOW, steps // WINDOWS)
    descent = Descent.at(problem.take(rows).chained(chains), start[rows].flatten(0, 1))
    while len(rows):
        descent.go_to(min(descent.step + WINDOW * WINDOWS, steps), window, draws, chance)
        seen = descent.seen(tolerance)
        done = seen["converged"] | (descent.step == steps)
        for name, values in seen.items():
            found[name][rows[done]] = values[done]
        rows = rows[~done]
        descent.keep(~done)
    return found


def warm_start(problem: Problem, eye: Eye, how: Looks, chance: torch.Generator) -> Tensor:
    """(n, q) log s near the minimum: the pilot of the closed form.

    What answers neither to the image nor to noise of the pilot's size starts at the bound, REACH.
    """
    rows = len(eye.inputs) * PILOT_POINTS
    log_s = pilot(eye, how, chance, rows)
    (groups,) = at_noise(eye, log_s, how, PILOT, PILOT_POINTS, chance, rows).values()
    bound = mean_of_present(log_s, problem.present) + REACH
    log_s = torch.where(groups.sum(0) > 0, log_s.minimum(bound), bound)
    return problem.centred(log_s, problem.level) if problem.match == "entropy" else log_s


def _features(network: Network, name: str, tap: Tap, relu: bool, pixels: Tensor) -> Tensor:
    """(n, d) what one layer puts out."""
    return outputs_of(network, {name: tap}, relu, pixels)[name]


def _must_be_sound(steps: int, draws: int, match: str) -> None:
    """Raise UsageError for numbers that no fit can be made of."""
    if steps < WINDOWS:
        raise UsageError(f"found {steps} steps of the fit; wanted at least {WINDOWS}")
    if draws < 4 or draws % 4:
        raise UsageError(
            f"found {draws} draws of the fit; wanted a multiple of 4: an equal number of opposite "
            "pairs for each of two chains or four"
        )
    if match not in get_args(Match):
        wanted = ", ".join(get_args(Match))
        raise UsageError(f"found match {match!r} of the fit; wanted one of {wanted}")
