"""What does a run learn from, and how heavy is each part now?  The losses of all its stages.

Axes: n images, c classes, t terms of a stage.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from kdprobe.expression import Term, Value
from kdprobe.train.losses.contract import LOSSES, Outputs
from kdprobe.train.plan import StagePlan
from kdprobe.train.schedules import share_of

Knobs = tuple[tuple[str, Value], ...]


class Objective(nn.Module):
    """The terms of every stage; a loss that stands in several stages keeps its weights.

    Of networks that are trained together each has losses of its own (a regressor, a memory), but
    those that are about their company are one for all (a gate).
    """

    def __init__(self, stages: Sequence[StagePlan], networks: int = 1) -> None:
        super().__init__()
        self.stages = tuple(stages)
        every = {_key(term): None for stage in stages for term in stage.terms}
        self.losses = nn.ModuleList(_made(*key) for key in every)
        self.others = nn.ModuleList(  # of the second network, the third, ...
            nn.ModuleList(_made(*key) for key in every if not LOSSES[key[0]].needs_company)
            for _ in range(networks - 1)
        )
        self._places = {key: place for place, key in enumerate(every)}
        alone = [key for key in every if not LOSSES[key[0]].needs_company]
        self._own_places = {key: place for place, key in enumerate(alone)}

    def loss(self, term: Term, place: int = 0) -> nn.Module:
        """The module of a term, for the network at `place`."""
        key = _key(term)
        if place and key in self._own_places:
            own = self.others[place - 1].get_submodule(str(self._own_places[key]))
            return own
        return self.losses[self._places[key]]

    def meet(self, students: Sequence[Outputs], teacher: Outputs | None) -> None:
        """Let the losses with weights of their own make them."""
        for place, student in enumerate(students):
            losses = self.others[place - 1].children() if place else self.losses
            self._let_meet(losses, student, teacher or student)

    def _let_meet(self, losses: Iterable[nn.Module], student: Outputs, teacher: Outputs) -> None:
        for loss in losses:
            meet: Callable[[Outputs, Outputs], None] | None = getattr(loss, "meet", None)
            if meet is not None:
                meet(student, teacher)

    def weights(self, stage: int, passed: float, total: float) -> tuple[float, ...]:
        """(t,) the weights of a stage's terms when `passed` of `total` epochs are over."""
        return weights_of(self.stages[stage], passed, total)

    def forward(
        self,
        stage: int,
        weights: Sequence[float],
        student: Outputs,
        teacher: Outputs,
        target: Tensor,
    ) -> Tensor:
        """(t,) values of the terms, not weighted; 0 where the weight is 0 now."""
        nothing = student.logits.new_zeros((), dtype=torch.float32)
        terms = zip(self.stages[stage].terms, weights, strict=True)
        values = [
            self.loss(term, student.place)(student, teacher, target) if weight else nothing
            for term, weight in terms
        ]
        return torch.stack(values)

    @property
    def has_adapters(self) -> bool:
        """Whether a loss has tensors of its own."""
        return bool(self.state_dict())


def weights_of(stage: StagePlan, passed: float, total: float) -> tuple[float, ...]:
    """(t,) the weights of the terms of `stage` when `passed` of `total` epochs are over."""
    return tuple(term.weight * share_of(term.schedule, passed, total) for term in stage.terms)


def _made(name: str, knobs: Knobs) -> nn.Module:
    return LOSSES[name].make(**dict(knobs))


@lru_cache
def sent(weights: tuple[float, ...], kind: torch.dtype, device: torch.device) -> Tensor:
    """(t,) weights on the device, sent there once: each time a GPU would be waited for."""
    return torch.tensor(weights, dtype=kind, device=device)


def _key(term: Term) -> tuple[str, Knobs]:
    return term.name, term.knobs
