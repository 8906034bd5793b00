"""Who trains with whom?  A recipe becomes cohorts: runs that share a seed and see the same batches.

The teacher is a cohort of its own and comes first; then one cohort a seed, with every arm in it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdprobe.manifest import DataEntry, Role
from kdprobe.train.expression import Term, parse_loss
from kdprobe.train.losses.contract import LOSSES
from kdprobe.train.settings import Model, Optimizer, Recipe


@dataclass(frozen=True)
class RunPlan:
    """One network that will be trained."""

    id: str  # also its folder
    arm: str
    role: Role
    model: Model
    terms: tuple[Term, ...]

    @property
    def matched_layer(self) -> str:
        """The layer that a loss of its matches to the teacher's; "" = none."""
        found = (layer for term in self.terms for layer in layers_of(term))
        return next(found, "")


@dataclass(frozen=True)
class Cohort:
    """Runs that train in lockstep."""

    name: str
    seed: int
    runs: tuple[RunPlan, ...]
    epochs: int
    lr: float
    checkpoints: tuple[int, ...]  # epochs that are saved, 0 = before training


def layers_of(term: Term) -> tuple[str, ...]:
    """The layers that a loss reads beside the logits, and ``logits`` where it matches them."""
    made = LOSSES[term.name].make(**dict(term.knobs))
    return tuple(getattr(made, "layers", ()))


def cohorts(recipe: Recipe) -> tuple[Cohort, ...]:
    """All cohorts in the order in which they train."""
    students = tuple(_students(recipe, seed) for seed in recipe.seeds)
    teacher = _teacher(recipe)
    return (teacher, *students) if teacher else students


def _teacher(recipe: Recipe) -> Cohort | None:
    plan = recipe.teacher
    if plan is None:
        return None
    run = RunPlan("teacher", "teacher", "teacher", plan.model, parse_loss(plan.loss))
    epochs = plan.epochs or recipe.optimizer.epochs
    saved = plan.checkpoints or recipe.checkpoints or tuple(range(epochs + 1))
    lr = plan.lr or recipe.optimizer.lr
    return Cohort("teacher", plan.seed, (run,), epochs, lr, saved)


def _students(recipe: Recipe, seed: int) -> Cohort:
    runs = tuple(
        RunPlan(f"{name}-seed{seed}", name, arm.role, arm.model, parse_loss(arm.loss))
        for name, arm in recipe.arms.items()
    )
    epochs = recipe.optimizer.epochs
    saved = recipe.checkpoints or tuple(range(epochs + 1))
    return Cohort(f"seed{seed}", seed, runs, epochs, recipe.optimizer.lr, saved)


def data_entry(recipe: Recipe) -> DataEntry:
    """The data set as the study's manifest names it, with its seed spelled out."""
    arguments: Mapping[str, Any] = {"seed": 0, **recipe.data.arguments}
    return DataEntry(name=recipe.data.name, arguments=dict(arguments))


def learning_rate(settings: Optimizer, cohort: Cohort, passed: float) -> float:
    """The rate when `passed` epochs (a fraction within an epoch) of the cohort's are over."""
    if settings.schedule == "cosine":
        return cohort.lr * 0.5 * (1 + math.cos(math.pi * passed / cohort.epochs))
    drops = sum(passed >= milestone for milestone in settings.milestones)
    return cohort.lr * settings.gamma**drops


def schedule_sentence(settings: Optimizer, cohort: Cohort) -> str:
    """The schedule of the learning rate in words, as run.json keeps it."""
    over = f"over {cohort.epochs} epochs in batches of {settings.batch_size}"
    nesterov = "Nesterov momentum" if settings.nesterov else "momentum"
    method = f"SGD, {nesterov} {settings.momentum}, weight decay {settings.weight_decay}"
    if settings.schedule == "cosine":
        return f"cosine from {cohort.lr} to 0, every step, {over}; {method}"
    if settings.schedule == "constant":
        return f"constant {cohort.lr} {over}; {method}"
    after = ", ".join(map(str, settings.milestones))
    return f"{cohort.lr}, times {settings.gamma} after epochs {after}, {over}; {method}"
