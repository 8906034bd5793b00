"""How fast does a run learn, and when?  The learning rate along its schedule.

constant    lr
cosine      lr (1 + cos(pi t / E)) / 2                           t of E epochs are over
steps       lr gamma^(number of milestones passed)
one_cycle   from lr / 25 up to lr over the first 0.3 E, then down to lr / 250,000, both by cosines
            (Smith and Topin 2018, arXiv:1708.07120, in the shape that PyTorch has by default)

A warm-up multiplies what comes out by a factor that rises linearly to 1, step by step.
"""

import math
from dataclasses import dataclass

from kdprobe.train.settings import Optimizer

RISE, FIRST, LAST = 0.3, 1 / 25, 1 / 250_000  # of one_cycle: share of rising, rates over lr


@dataclass(frozen=True)
class Span:
    """The part of a run over which one schedule goes."""

    lr: float
    begin: int  # epochs of the run that are over when it begins
    epochs: int


def learning_rate(how: Optimizer, span: Span, passed: float, step: float = 0.0) -> float:
    """The rate of a step when `passed` epochs of the run are over; `step` is its own share of one.

    A warm-up counts the step itself, so that the first one is not lost at a rate of 0.
    """
    over = passed - span.begin
    warm = min(1.0, (over + step) / how.warmup) if how.warmup else 1.0
    return warm * span.lr * _shape(how, span, over)


def _shape(how: Optimizer, span: Span, over: float) -> float:
    if how.schedule == "cosine":
        return _between(1.0, 0.0, over / span.epochs)
    if how.schedule == "one_cycle":
        share = over / span.epochs
        if share < RISE:
            return _between(FIRST, 1.0, share / RISE)
        return _between(1.0, LAST, (share - RISE) / (1 - RISE))
    return float(how.gamma ** sum(over >= milestone for milestone in how.milestones))


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


def spoken(how: Optimizer, span: Span) -> str:
    """A span in words, as run.json keeps it."""
    warm = f", warmed up over {how.warmup:g} epochs" if how.warmup else ""
    shape = {
        "constant": f"constant {span.lr}",
        "cosine": f"cosine from {span.lr} to 0, every step",
        "steps": f"{span.lr}, times {how.gamma} after epochs "
        + ", ".join(map(str, how.milestones)),
        "one_cycle": f"one cycle up to {span.lr}, every step",
    }
    return shape[how.schedule] + warm


def method_spoken(how: Optimizer, weight_decay: float) -> str:
    """The optimiser in words."""
    if how.method == "sgd":
        nesterov = "Nesterov momentum" if how.nesterov else "momentum"
        return f"SGD, {nesterov} {how.momentum}, weight decay {weight_decay}"
    name = "Adam" if how.method == "adam" else "AdamW"
    return f"{name}, beta_1 {how.momentum}, weight decay {weight_decay}"
