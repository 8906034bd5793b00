"""Who trains with whom?  A recipe becomes cohorts: runs that share a seed and see the same batches.

The teacher is a cohort of its own and comes first. Then come the arms of each seed: in one cohort
those that need no other arm, after them those that learn from one or begin where one ended. Where
the memory is too small for a cohort it trains in parts: see `parting`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kdprobe.expression import Term, parse_loss
from kdprobe.manifest import DataEntry, Role
from kdprobe.train.keeping import kept_epochs
from kdprobe.train.losses.contract import LOSSES, layers_read
from kdprobe.train.rates import Span, method_spoken, spoken
from kdprobe.train.settings import Arm, Model, Optimizer, Recipe, Source, Stage


@dataclass(frozen=True)
class StagePlan:
    """A part of a run with one loss."""

    begin: int  # epochs that are over when it begins
    end: int
    terms: tuple[Term, ...]
    freeze: tuple[str, ...]
    span: Span  # of the learning rate; may reach over several stages


@dataclass(frozen=True)
class RunPlan:
    """One or more networks that are trained by one loss."""

    id: str  # also its folder
    arm: str
    role: Role
    model: Model
    stages: tuple[StagePlan, ...]
    weight_decay: float
    teacher: Source | None = None  # who it looks at, or is compared with
    start: Source | None = None
    together: int = 1
    share: str = ""
    techniques: tuple[str, ...] = ()

    @property
    def members(self) -> tuple[str, ...]:
        """The folders of its networks."""
        return (self.id, *(f"{self.id}.{place}" for place in range(1, self.together)))

    @property
    def terms(self) -> tuple[Term, ...]:
        """Of all stages."""
        return tuple(term for stage in self.stages for term in stage.terms)

    @property
    def needs_teacher(self) -> bool:
        """Whether a loss of its looks at a teacher."""
        return bool(self.teacher_terms)

    @property
    def teacher_terms(self) -> tuple[Term, ...]:
        """The terms that look at a teacher."""
        return tuple(term for term in self.terms if LOSSES[term.name].needs_teacher)

    @property
    def matched_layer(self) -> str:
        """The layer that a loss of its matches to the teacher's; "" = none."""
        found = (layer for term in self.teacher_terms for layer in layers_of(term))
        return next(found, "")

    def stage(self, epoch: int) -> int:
        """The place of the stage that `epoch`, counted from 1, belongs to."""
        return next(i for i, stage in enumerate(self.stages) if epoch <= stage.end)


@dataclass(frozen=True)
class Cohort:
    """Runs that train in lockstep."""

    name: str
    seed: int
    runs: tuple[RunPlan, ...]
    epochs: int
    checkpoints: tuple[int, ...]  # epochs that are saved, 0 = before training
    clean: bool = False  # without the corruptions of the data


def layers_of(term: Term, side: str = "layers") -> tuple[str, ...]:
    """The layers that a loss reads beside the logits, and ``logits`` where it matches them.

    `side` is "layers" for those of the student, "teacher_layers" for those of the teacher.
    """
    return layers_read(LOSSES[term.name].make(**dict(term.knobs)), side)


def cohorts(recipe: Recipe) -> tuple[Cohort, ...]:
    """All cohorts in the order in which they train."""
    waves = list(_waves(recipe.arms))
    students = tuple(
        _students(recipe, seed, place, names)
        for seed in recipe.seeds
        for place, names in enumerate(waves)
    )
    teacher = _teacher(recipe)
    return (teacher, *students) if teacher else students


def _waves(arms: Mapping[str, Arm]) -> Iterator[tuple[str, ...]]:
    """The names of the arms by how many others must be finished before them."""
    left = dict(arms)
    while left:
        ready = tuple(name for name, arm in left.items() if not needed(arm) & left.keys())
        if not ready:  # a circle: faults.py has told of it
            ready = tuple(left)
        yield ready
        for name in ready:
            del left[name]


def needed(arm: Arm) -> set[str]:
    """The runs whose checkpoints an arm needs."""
    found = {arm.teacher.run, arm.start.run} if arm.start else {arm.teacher.run}
    return found - {"teacher"}


def _teacher(recipe: Recipe) -> Cohort | None:
    plan = recipe.teacher
    if plan is None or plan.model is None:  # none, or one that is there already
        return None
    how, epochs = recipe.optimizer, plan.epochs or recipe.optimizer.epochs
    stage = Stage(epochs=epochs, loss=plan.loss)
    run = RunPlan(
        "teacher",
        "teacher",
        "teacher",
        plan.model,
        _stages((stage,), plan.lr or how.lr),
        how.weight_decay,
        techniques=plan.techniques,
    )
    kept = kept_epochs(plan.checkpoints or recipe.checkpoints, epochs, how)
    return Cohort("teacher", plan.seed, (run,), epochs, kept, plan.clean)


def _students(recipe: Recipe, seed: int, wave: int, names: tuple[str, ...]) -> Cohort:
    how = recipe.optimizer
    name = f"seed{seed}" + (f"-{wave + 1}" if wave else "")
    runs = tuple(_run(recipe, arm, recipe.arms[arm], seed) for arm in names)
    begins = {stage.span.begin for run in runs for stage in run.stages}
    kept = kept_epochs(recipe.checkpoints, how.epochs, how, begins)
    return Cohort(name, seed, runs, how.epochs, kept)


def _run(recipe: Recipe, name: str, arm: Arm, seed: int) -> RunPlan:
    how = recipe.optimizer
    stages = arm.stages or (Stage(epochs=how.epochs, loss=arm.loss or ""),)
    decay = how.weight_decay if arm.weight_decay is None else arm.weight_decay
    seen = arm.teacher.run != "teacher" or recipe.teacher is not None
    return RunPlan(
        id=f"{name}-seed{seed}",
        arm=name,
        role=arm.role,
        model=arm.model,
        stages=_stages(stages, arm.lr or how.lr),
        weight_decay=decay,
        teacher=arm.teacher if seen else None,
        start=arm.start,
        together=arm.together,
        share=arm.share,
        techniques=arm.techniques,
    )


def _stages(stages: tuple[Stage, ...], lr: float) -> tuple[StagePlan, ...]:
    """Where each stage begins and ends; a stage without a rate of its own goes on with the last."""
    begins = [sum(stage.epochs for stage in stages[:place]) for place in range(len(stages) + 1)]
    starts = [0, *(place for place, stage in enumerate(stages) if place and stage.lr)]
    found = []
    for place, stage in enumerate(stages):
        first = max(start for start in starts if start <= place)
        after = next((start for start in starts if start > place), len(stages))
        length = begins[after] - begins[first]
        span = Span(stages[first].lr or lr, begins[first], length)
        terms = parse_loss(stage.loss)
        found.append(StagePlan(begins[place], begins[place + 1], terms, stage.freeze, span))
    return tuple(found)


def data_entry(recipe: Recipe) -> DataEntry:
    """The data set as the study's manifest names it, with its seed spelled out."""
    arguments: Mapping[str, Any] = {"seed": 0, **recipe.data.arguments}
    return DataEntry(name=recipe.data.name, arguments=dict(arguments))


def schedule_sentence(how: Optimizer, run: RunPlan) -> str:
    """The schedule of the learning rate in words, as run.json keeps it."""
    spans = list(dict.fromkeys(stage.span for stage in run.stages))
    shapes = [f"{spoken(how, span)}, over {span.epochs} epochs" for span in spans]
    return (
        f"{'; then '.join(shapes)} in batches of {how.batch_size}; "
        f"{method_spoken(how, run.weight_decay)}"
    )
