"""What does a descent on log s meet?  The fit's loss, Adam's steps on it, and the tail of them.

The loss and its source stand in fit.py. Images are problems of their own: nothing here lets one
see another, so that the company in a batch changes no result.

Axes: n images, q units, d outputs of the layer, k noises, u blocks of the tail.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from kdprobe.probes.units import Units

Match = Literal["weight", "distortion", "entropy"]
HALF_LOG_2PIE = 0.5 * math.log(2 * math.pi * math.e)
# Mean entropy that match="entropy" holds, nats: the -2.8 of the source's released code is that of
# normalised pixels, whose standard deviations (ImageNet) are 0.226 on average.
TARGET = -2.8 + math.log(0.226)
WINDOWS, BLOCKS = 10, 8  # windows of steps in a round; blocks of windows in the tail
RATE, FADE = 0.05, 100  # nats a step at first; steps after which the rate falls like a root
MEMORY, SQUARES, TINY = 0.9, 0.99, 1e-12  # Adam's
PAIRS = 256  # of noises for d2
REACH = 7.0  # nats above an even spread: a thousand times its noise is a bound to the unseen alone

Features = Callable[[Tensor], Tensor]  # pixels (n, ...) -> (n, d)


@dataclass(frozen=True)
class Problem:
    """What is minimised: images that share nothing but the noise."""

    features: Features
    pixels: Tensor  # (n, 3, h, w) or (n, t, d)
    clean: Tensor  # (n, d) features of the images as they are
    change: Tensor  # (n,) d2
    units: Units
    present: Tensor  # (n, q) bool: units that an input has
    lam: float
    noise: float
    match: Match

    @property
    def level(self) -> float:
        """log s if all units answered alike."""
        if self.match == "entropy":
            return TARGET - HALF_LOG_2PIE
        return math.log(self.noise) + 0.5 * math.log(self.lam / 2)

    def take(self, rows: Tensor) -> "Problem":
        """The problems of some of the images."""
        units = replace(self.units, members=self.units.members[rows])
        of_images = {
            name: getattr(self, name)[rows] for name in ("pixels", "clean", "change", "present")
        }
        return replace(self, units=units, **of_images)

    def distortion(self, log_s: Tensor, e: Tensor) -> Tensor:
        """(n,) the feature loss, in units of d2, under the noises e (k, ...)."""
        noisy = self.pixels + self.units.spread(log_s.exp()) * e.unsqueeze(1)
        found = self.features(noisy.flatten(0, 1)).view(len(e), *self.clean.shape)
        return (found - self.clean).square().mean((0, 2)) / self.change

    def centred(self, log_s: Tensor, mean: Tensor | float) -> Tensor:
        """`log_s` (n, q) with another mean over the units that are there."""
        return torch.where(self.present, log_s - mean_of_present(log_s, self.present) + mean, log_s)


def mean_of_present(values: Tensor, present: Tensor) -> Tensor:
    """(n, 1) means over the units that an input has."""
    return torch.where(present, values, 0).sum(1, True) / present.sum(1, True).clamp(min=1)


@dataclass
class Descent:
    """Adam on log s, and what was met on the way, a window of steps at a time."""

    problem: Problem
    log_s: Tensor  # (n, q)
    first: Tensor  # (n, q) Adam's means of the gradient and of its square
    second: Tensor
    step: int = 0
    levels: list[Tensor] = field(default_factory=list)  # (n, q) a window
    losses: list[Tensor] = field(default_factory=list)  # (n,)
    weights: list[Tensor] = field(default_factory=list)  # (n,)

    @staticmethod
    def at(problem: Problem, log_s: Tensor) -> "Descent":
        """Before the first step."""
        return Descent(problem, log_s, torch.zeros_like(log_s), torch.zeros_like(log_s))

    def window(self, steps: int, noises: int, chance: torch.Generator) -> None:
        """Go on by some steps; keep their means."""
        shape = (noises // 2, *self.problem.pixels.shape[1:])
        met = []
        for _ in range(steps):
            e = torch.randn(shape, generator=chance).to(self.log_s)
            met.append(self._go(torch.cat([e, -e])))
        kept = (torch.stack(values).mean(0) for values in zip(*met, strict=True))
        for history, mean in zip((self.levels, self.losses, self.weights), kept, strict=True):
            history.append(mean)

    def _go(self, e: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step: log s where it began, the feature loss there, and the weight lam."""
        problem, here = self.problem, self.log_s
        with torch.enable_grad():
            loss = problem.distortion(here.requires_grad_(), e)
            (slope,) = torch.autograd.grad(loss.sum(), here)
        here, loss = here.detach(), loss.detach()
        balance = slope.sum(1)  # the weight that leaves the mean of log s alone
        weight = torch.full_like(loss, problem.lam) if problem.match == "weight" else balance
        count = problem.present.sum(1, keepdim=True)
        pull = (slope * count - weight.unsqueeze(1)) / problem.lam
        self._move(torch.where(problem.present, pull, 0), loss)
        return here, loss, weight

    def _move(self, pull: Tensor, loss: Tensor) -> None:
        """Adam's step along `pull` (n, q); then back to what the match holds."""
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
        """Let the other images go."""
        self.problem = self.problem.take(rows)
        for name in ("log_s", "first", "second"):
            setattr(self, name, getattr(self, name).detach()[rows])
        for history in (self.levels, self.losses, self.weights):
            history[:] = [values[rows] for values in history]

    def seen(self, tolerance: float) -> dict[str, Tensor]:
        """The tail, images first, and whether its halves agree."""
        tail = len(self.levels) // WINDOWS * BLOCKS
        tail_levels = torch.stack(self.levels[-tail:], 1)  # (n, windows, q)
        n, _, q = tail_levels.shape
        groups = tail_levels.view(n, BLOCKS, -1, q).mean(2)
        halves = groups.view(n, 2, -1, q).mean(2)
        moved = mean_of_present((halves[:, 1] - halves[:, 0]).square(), self.problem.present).sqrt()
        groups = groups.masked_fill(~self.problem.present.unsqueeze(1), math.nan) + HALF_LOG_2PIE
        return {
            "entropy": groups.mean(1),
            "groups": groups,
            "converged": moved.squeeze(1) < tolerance,
            "steps": torch.full((len(groups),), self.step),
            "distortion": torch.stack(self.losses[-tail:]).mean(0),
            "weight": torch.stack(self.weights[-tail:]).mean(0),
        }


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


def nothing_seen(present: Tensor, like: Tensor) -> dict[str, Tensor]:
    """What `Descent.seen` tells of images (n, q) that were never fitted."""
    n, q = present.shape
    blank = like.new_full((n, BLOCKS, q), math.nan)
    zeros = torch.zeros(n, dtype=torch.int64, device=like.device)
    return {
        "entropy": blank[:, 0].clone(),
        "groups": blank,
        "converged": zeros.bool(),
        "steps": zeros,
        "distortion": blank[:, 0, 0].clone(),
        "weight": blank[:, 0, 0].clone(),
    }
