"""How much does a layer forget of every unit, by the official protocol to the letter?

    x' = x + s e,  e ~ N(0, I), one s a unit;  H_c = log s_c + 0.5 log(2 pi e)             nats
    s = argmin  mean_j (f(x')_j - f(x)_j)^2 / d2 - lam mean_c H_c

f is the probed output after a ReLU, logits too; d2 is mean_j (f(x + 0.01 e)_j - f(x)_j)^2. Noise is
added to the normalised input and nothing is clipped. Plain gradient descent on s from 0.01 for 60
steps of 96 fresh noises; an image whose mean entropy has not passed -2.8 nats by then goes on for
20 steps with 1.5 lam. Of all steps the one whose mean entropy is nearest to -2.8 is kept: the map
is not a minimum. Its numbers depend on lam and on the step; they stand beside the converged ones
so that the paper's can be compared like with like.

Source: Cheng et al. 2020, arXiv:2003.03622, equations 1-3; constants, schedule and choice of the
step as in the authors' released code (train_sigma.py). There an image is optimised by itself; here
images ride together, their losses parted, and see the same noises however they are batched.

Axes: n inputs, q units, d outputs of the layer, e noises, t steps, u restarts.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from kdprobe.batches import called_on, in_batches
from kdprobe.passes import passing
from kdprobe.probes.contract import HALF_LOG_2PIE, probe
from kdprobe.probes.guards import GUARD, must_answer
from kdprobe.probes.lens import Lens
from kdprobe.probes.units import Kind, Units, units_of
from kdprobe.study import Checkpoint
from kdprobe.taps import Tap, find_taps, flat, watch

NOISES = 96  # of one step
START, LEAST, MOST = 0.01, 0.001, 1.0  # scale of the noise, in normalised input units
RATE = 1e-4  # step size
STEPS, MORE = 60, 20  # for all; for those that are still below the target
TARGET, HARDER = -2.8, 1.5  # mean entropy to end near, nats; lam is this much larger for MORE
CHANCE = 100  # purpose of the noises: restart i takes CHANCE + i


@probe("paper", version=1)
@torch.no_grad()
def paper(
    subjects: Sequence[Checkpoint],
    lens: Lens,
    *,
    layers: Sequence[str],
    units: Kind,
    grid: int,
    lam: float,
    restarts: int,
) -> Mapping[str, Tensor]:
    """Returns per layer L, nats where nothing else is said; every layer is optimised by itself:

    entropy/L (n, q); NaN for units that an input lacks, and for inputs on which L is dead (d2 = 0)
    groups/L (u, n, q): the same by every restart, with other noises; entropy/L is the first
    steps/L (n,) int64: steps taken, 60 or 80; 0 where dead
    converged/L (n,) bool: the kept step lies inside the walk; where it is the first or the last
        one, the target was never reached
    distortion/L (n,): normalised feature loss, without unit, at the kept step; NaN where dead
    """
    images, network = lens.images, lens.network(subjects[0])
    owners, taps = units_of(images, units, grid), find_taps(network.body, layers)
    rows = lens.rows(network, images)

    def inputs(some: slice) -> Tensor:
        return network.normalised(images.pixels[some].to(lens.device))

    def part(some: slice) -> dict[str, Tensor]:
        x, owned = inputs(some), owners.take(some).to(lens.device)
        found: dict[str, Tensor] = {}
        for name, tap in taps.items():
            layer = Layer(network.body, name, tap)
            fits = [
                fit(layer, x, owned, lam, lens.generator(CHANCE + i), rows) for i in range(restarts)
            ]
            found |= {f"{key}/{name}": value for key, value in fits[0].items()}
            found[f"groups/{name}"] = torch.stack([one["entropy"] for one in fits])
        return {name: value.cpu() for name, value in found.items()}

    def see(x: Tensor) -> dict[str, Tensor]:
        return {name: Layer(network.body, name, tap)(x) for name, tap in taps.items()}

    must_answer(see, inputs(slice(0, 1)), START, lens.generator(GUARD), rows)
    parts = in_batches(part, len(images), max(1, rows // NOISES))
    axis = {name: max(0, value.dim() - 2) for name, value in parts[0].items()}
    return {name: torch.cat([part[name] for part in parts], axis[name]) for name in parts[0]}


@dataclass(frozen=True)
class Layer:
    """What the paper calls f."""

    body: nn.Module
    name: str
    tap: Tap

    def __call__(self, x: Tensor) -> Tensor:
        """Normalised inputs (n, ...) -> (n, d), after a ReLU."""
        with watch(self.body, {self.name: self.tap}) as seen:
            with passing(), called_on(x):
                self.body(x.clone())  # a first layer may work in place
            found = flat(seen[self.name])
            return relu(found.to(x.dtype)) if found.is_floating_point() else found


def draw(chance: torch.Generator, x: Tensor) -> Tensor:
    """The noises of one step, e: (e, ...) for inputs x (n, ...), the same for all of them."""
    return torch.randn(NOISES, *x.shape[1:], generator=chance).to(x)


@dataclass(frozen=True)
class Task:
    """What is minimised, for one layer on some inputs."""

    layer: Layer
    x: Tensor  # (n, ...) normalised
    units: Units
    clean: Tensor  # (n, d) what the layer makes of x
    d2: Tensor  # (n,)
    rows: int  # of one pass of the network

    def change(self, spread: Tensor | float, noise: Tensor) -> Tensor:
        """(n,) squared change of the outputs, mean over them, summed over the noises (e, ...)."""
        noisy = (self.x + spread * noise.unsqueeze(1)).flatten(0, 1)
        change = self.layer(noisy).view(len(noise), *self.clean.shape) - self.clean
        return change.square().mean(2).sum(0)

    def pieces(self, noise: Tensor) -> tuple[Tensor, ...]:
        """The noises, as many at a time as fit with all inputs."""
        return torch.split(noise, max(1, self.rows // len(self.x)))

    def slope(self, s: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised feature loss (n,) at scales s (n, q), and its gradient (n, q)."""
        loss, gradient = torch.zeros_like(self.d2), torch.zeros_like(s)
        for some in self.pieces(noise):
            leaf = s.clone().requires_grad_()
            with torch.enable_grad():
                piece = self.change(self.units.spread(leaf), some) / (NOISES * self.d2)
                with passing():
                    (slope,) = torch.autograd.grad(piece.sum(), leaf)
            loss, gradient = loss + piece.detach(), gradient + slope
        return loss, gradient


@dataclass(frozen=True)
class Kept:
    """The step of a descent that is nearest to the target so far, as it was before the update."""

    scale: Tensor  # (n, q)
    level: Tensor  # (n,) mean entropy over the units that an input has, nats
    loss: Tensor  # (n,) normalised feature loss
    step: Tensor  # (n,) int64, from 0

    def or_nearer(self, other: "Kept", still: Tensor) -> "Kept":
        """Of every input that is `still` (n,) on its way the nearer one; of equals the earlier."""
        nearer = ((other.level - TARGET).abs() < (self.level - TARGET).abs()) & still
        return Kept(
            torch.where(nearer[:, None], other.scale, self.scale),
            torch.where(nearer, other.level, self.level),
            torch.where(nearer, other.loss, self.loss),
            torch.where(nearer, other.step, self.step),
        )


def descend(task: Task, lam: float, chance: torch.Generator) -> tuple[Kept, Tensor, Tensor]:
    """The kept steps; steps taken (n,) int64; and the last scales (n, q)."""
    sizes = task.units.sizes
    has = (sizes > 0).to(task.x)
    share = has / has.sum(1, keepdim=True).clamp(min=1)  # (n, q) of the mean over units
    s = torch.full_like(share, START)
    none = torch.full_like(task.d2, math.inf)
    taken = torch.zeros_like(task.d2, dtype=torch.int64)
    kept, highest, still = Kept(s, none, none, taken), -none, torch.ones_like(taken).bool()
    for step in range(STEPS + MORE):
        if step == STEPS:
            still, lam = highest <= TARGET, lam * HARDER
            if not bool(still.any()):
                break
        s = s.clamp(LEAST, MOST)
        loss, gradient = task.slope(s, draw(chance, task.x))
        level = ((s.log() + HALF_LOG_2PIE) * share).sum(1)
        kept = kept.or_nearer(Kept(s, level, loss, taken.new_full(taken.shape, step)), still)
        highest, taken = torch.maximum(highest, level), taken + still
        s = torch.where(still[:, None], s - RATE * (gradient - lam * share / s), s)
    return kept, taken, s


def fit(
    layer: Layer, x: Tensor, units: Units, lam: float, chance: torch.Generator, rows: int
) -> dict[str, Tensor]:
    """Entropies of one layer on inputs x (n, ...), and how they were found: see `paper`."""
    task = Task(layer, x, units, layer(x), x.new_ones(len(x)), rows)
    noise = draw(chance, x)
    d2 = torch.stack([task.change(START, some) for some in task.pieces(noise)]).sum(0) / NOISES
    alive = (d2 > 0) & d2.isfinite()
    kept, taken, end = descend(replace(task, d2=torch.where(alive, d2, 1)), lam, chance)
    alive &= end.isfinite().all(1)
    entropy = kept.scale.log() + HALF_LOG_2PIE
    return {
        "entropy": entropy.where(alive[:, None] & (units.sizes > 0), math.nan),
        "steps": taken * alive,
        "converged": alive & (kept.step > 0) & (kept.step < taken - 1),
        "distortion": kept.loss.where(alive, math.nan),
    }
