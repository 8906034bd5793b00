"""What does a descent on log s meet?  The fit's loss, Adam's steps on it, and the tail of them.

The loss and its source stand in fit.py. Images are problems of their own: nothing here lets one
see another, so that the company in a batch changes no result. An image is fitted by several chains
at once, each with its own noises: what they end with tells the error that chance makes.

Axes: n images, u chains of an image, m = n u problems (image by image), q units, d outputs of the
layer, k noises.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from kdprobe.passes import passing
from kdprobe.probes.contract import HALF_LOG_2PIE, IMAGENET_SD
from kdprobe.probes.units import Units

Match = Literal["weight", "distortion", "entropy"]
# Mean entropy that match="entropy" holds, nats: the -2.8 of the source's released code is that of
# normalised pixels.
TARGET = -2.8 + math.log(IMAGENET_SD)
WINDOW, WINDOWS = 20, 10  # steps in a window, where there are enough; windows in a round
LATEST = 0.8  # of the windows are the tail
CHAINS = 4  # where there are noises for so many
RATE, FADE = 0.05, 100  # nats a step at first; steps after which the rate falls like a root
MEMORY, SQUARES, TINY = 0.9, 0.99, 1e-12  # Adam's
PAIRS = 256  # of noises for d2
REACH = 7.0  # nats above an even spread: a thousand times its noise is a bound to the unseen alone

Features = Callable[[Tensor], Tensor]  # pixels (n, ...) -> (n, d)


@dataclass(frozen=True)
class Problem:
    """What is minimised: images that share nothing but the noise."""

    features: Features
    pixels: Tensor  # (m, 3, h, w) or (m, t, d)
    clean: Tensor  # (m, d) features of the images as they are
    change: Tensor  # (m,) d2
    units: Units
    present: Tensor  # (m, q) bool: units that an input has
    lam: float
    noise: float
    match: Match
    chains: int = 1

    @property
    def level(self) -> float:
        """log s if all units answered alike."""
        if self.match == "entropy":
            return TARGET - HALF_LOG_2PIE
        return math.log(self.noise) + 0.5 * math.log(self.lam / 2)

    def take(self, rows: Tensor) -> "Problem":
        """Some of the problems."""
        units = replace(self.units, members=self.units.members[rows])
        of_images = {
            name: getattr(self, name)[rows] for name in ("pixels", "clean", "change", "present")
        }
        return replace(self, units=units, **of_images)

    def chained(self, chains: int) -> "Problem":
        """Every image so many times."""
        rows = torch.arange(len(self.pixels), device=self.pixels.device)
        return replace(self.take(rows.repeat_interleave(chains)), chains=chains)

    def distortion(self, log_s: Tensor, e: Tensor) -> Tensor:
        """(m,) the feature loss, in units of d2, under the noises e (k, u, ...) of every chain."""
        spread = self.by_image(self.units.spread(log_s.exp()))
        noisy = self.by_image(self.pixels) + spread * e.unsqueeze(1)
        found = self.features(noisy.flatten(0, 2)).view(len(e), *self.clean.shape)
        return (found - self.clean).square().mean((0, 2)) / self.change

    def by_image(self, values: Tensor) -> Tensor:
        """(m, ...) -> (n, u, ...)."""
        return values.reshape(-1, self.chains, *values.shape[1:])

    def centred(self, log_s: Tensor, mean: Tensor | float) -> Tensor:
        """`log_s` (m, q) with another mean over the units that are there."""
        return torch.where(self.present, log_s - mean_of_present(log_s, self.present) + mean, log_s)


def mean_of_present(values: Tensor, present: Tensor) -> Tensor:
    """(n, 1) means over the units that an input has."""
    return torch.where(present, values, 0).sum(1, True) / present.sum(1, True).clamp(min=1)


@dataclass
class Descent:
    """Adam on log s, and what was met on the way, a window of steps at a time."""

    problem: Problem
    log_s: Tensor  # (m, q)
    first: Tensor  # (m, q) Adam's means of the gradient and of its square
    second: Tensor
    step: int = 0
    spans: list[int] = field(default_factory=list)  # steps of every window; below, sums over them
    levels: list[Tensor] = field(default_factory=list)  # (m, q)
    losses: list[Tensor] = field(default_factory=list)  # (m,)
    weights: list[Tensor] = field(default_factory=list)  # (m,)

    @staticmethod
    def at(problem: Problem, log_s: Tensor) -> "Descent":
        """Before the first step."""
        return Descent(problem, log_s, torch.zeros_like(log_s), torch.zeros_like(log_s))

    def go_to(self, step: int, window: int, noises: int, chance: torch.Generator) -> None:
        """Go on until so many steps are done, with so many noises for all chains together."""
        while self.step < step:
            self._window(min(window, step - self.step), noises, chance)

    def _window(self, steps: int, noises: int, chance: torch.Generator) -> None:
        """Go on by some steps; keep their sums."""
        chains = self.problem.chains
        shape = (noises // (2 * chains), chains, *self.problem.pixels.shape[1:])
        met = []
        for _ in range(steps):
            e = torch.randn(shape, generator=chance).to(self.log_s)
            met.append(self._go(torch.cat([e, -e])))
        kept = (torch.stack(values).sum(0) for values in zip(*met, strict=True))
        for history, total in zip((self.levels, self.losses, self.weights), kept, strict=True):
            history.append(total)
        self.spans.append(steps)

    def _go(self, e: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step: log s where it began, the feature loss there, and the weight lam."""
        problem, here = self.problem, self.log_s
        with torch.enable_grad():
            loss = problem.distortion(here.requires_grad_(), e)
            with passing():
                (slope,) = torch.autograd.grad(loss.sum(), here)
        here, loss = here.detach(), loss.detach()
        balance = slope.sum(1)  # the weight that leaves the mean of log s alone
        weight = torch.full_like(loss, problem.lam) if problem.match == "weight" else balance
        count = problem.present.sum(1, keepdim=True)
        pull = (slope * count - weight.unsqueeze(1)) / problem.lam
        self._move(torch.where(problem.present, pull, 0), loss)
        return here, loss, weight

    def _move(self, pull: Tensor, loss: Tensor) -> None:
        """Adam's step along `pull` (m, q); then back to what the match holds."""
        problem, here = self.problem, self.log_s.detach()
        rate = RATE / math.sqrt(1 + self.step / FADE)
        self.step += 1
        self.first = MEMORY * self.first + (1 - MEMORY) * pull
        self.second = SQUARES * self.second + (1 - SQUARES) * pull.square()
        size = (self.second / (1 - SQUARES**self.step)).sqrt() + TINY
        moved = here - rate / (1 - MEMORY**self.step) * self.first / size
        moved = moved.clamp(max=problem.level + REACH)
        if problem.match != "weight":
            mean = mean_of_present(here, problem.present)
            if problem.match == "distortion":  # Robbins and Monro's search for its root
                off = (1 - loss / (problem.lam / 2)).clamp(min=-4)
                mean = mean + rate * off.unsqueeze(1)
            moved = problem.centred(moved, mean)
        self.log_s = moved

    def keep(self, rows: Tensor) -> None:
        """Let the images go that are not among `rows` (n,) bool."""
        rows = rows.repeat_interleave(self.problem.chains).nonzero().squeeze(1)
        self.problem = self.problem.take(rows)
        for name in ("log_s", "first", "second"):
            setattr(self, name, getattr(self, name).detach()[rows])
        for history in (self.levels, self.losses, self.weights):
            history[:] = [values[rows] for values in history]

    def seen(self, tolerance: float) -> dict[str, Tensor]:
        """The tail, images first, and whether its halves agree."""
        tail = int(LATEST * len(self.spans)) // 2 * 2  # as many in each half
        spans = torch.tensor(self.spans[-tail:]).to(self.log_s)
        present = self.problem.present[:: self.problem.chains]  # (n, q)
        levels, losses, weights = (
            self.problem.by_image(torch.stack(history[-tail:], 1))  # (n, u, windows, ...)
            for history in (self.levels, self.losses, self.weights)
        )
        parts = torch.stack(levels.mean(1).chunk(2, 1), 1).sum(2) / spans.view(2, -1).sum(1, True)
        moved = mean_of_present((parts[:, 1] - parts[:, 0]).square(), present).sqrt()
        groups = levels.sum(2) / spans.sum() + HALF_LOG_2PIE
        groups = groups.masked_fill(~present.unsqueeze(1), math.nan)
        return {
            "entropy": groups.mean(1),
            "groups": groups,
            "converged": moved.squeeze(1) < tolerance,
            "steps": torch.full((len(groups),), self.step, device=groups.device),
            "distortion": losses.mean(1).sum(1) / spans.sum(),
            "weight": weights.mean(1).sum(1) / spans.sum(),
        }


def chains_of(draws: int) -> int:
    """How many chains so many noises make: a power of two, each of opposite pairs."""
    return CHAINS if draws % (2 * CHAINS) == 0 else 2


@torch.no_grad()
def changes(
    see: Callable[[Tensor], Mapping[str, Tensor]],
    x: Tensor,
    noise: Tensor,
    rows: int,
    chance: torch.Generator,
) -> dict[str, tuple[Tensor, Tensor]]:
    """By layer: clean features (n, d), and d2 (n,); all layers from the same passes.

    `noise` is its standard deviation as an input broadcasts with it: 0 where no unit is.
    """
    clean = see(x)
    total = {name: x.new_zeros(len(x)) for name in clean}
    at_once = max(1, rows // (2 * len(x)))
    for start in range(0, PAIRS, at_once):
        pairs = min(at_once, PAIRS - start)
        e = torch.stack([torch.randn(x.shape[1:], generator=chance) for _ in range(pairs)])
        e = noise * torch.cat([e, -e]).to(x).unsqueeze(1)
        for name, values in see((x + e).flatten(0, 1)).items():
            off = values.view(len(e), *clean[name].shape) - clean[name]
            total[name] += off.square().mean(2).sum(0)
    return {name: (clean[name], total[name] / (2 * PAIRS)) for name in clean}


def nothing_seen(present: Tensor, chains: int, like: Tensor) -> dict[str, Tensor]:
    """What `Descent.seen` tells of images (n, q) that were never fitted."""
    n, q = present.shape
    blank = like.new_full((n, chains, q), math.nan)
    zeros = torch.zeros(n, dtype=torch.int64, device=like.device)
    return {
        "entropy": blank[:, 0].clone(),
        "groups": blank,
        "converged": zeros.bool(),
        "steps": zeros,
        "distortion": blank[:, 0, 0].clone(),
        "weight": blank[:, 0, 0].clone(),
    }
