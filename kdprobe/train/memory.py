"""Is there room?  What a run needs beside what the machine has, asked before hours are spent.

own      = weights (of network and losses), their gradients, the state of the optimiser, averages,
           where it began and where its last step left it, and buffers such as memory banks
step     = twice the outputs of all its layers for a part of a batch (forward and backward)
teacher  = its weights, the answers that are kept of it, and what is shown of it for a batch

Runs that train together need sum(own) + max(step) + sum over their teachers, each counted once:
they step one after another, and a step's outputs are gone with its backward pass. The images are on
the device already, and so not in what is free.

An estimate: it refuses what is out of question, and lets pass what is close.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdprobe.batches import bytes_put_out
from kdprobe.datasets._memory import available
from kdprobe.train.learner import Learner
from kdprobe.train.losses.contract import Batch, Outputs
from kdprobe.train.place import Place
from kdprobe.train.plan import RunPlan
from kdprobe.train.settings import Source
from kdprobe.train.sources import Looking

WAYS, ANSWER = 2, 4  # passes of a step; bytes of a logit
ENDLESS = 1 << 60  # bytes, where nobody knows


@dataclass(frozen=True)
class Need:
    """Bytes that a run takes of its device, about."""

    own: int  # all the time
    step: int  # while it steps
    teacher: int  # once for all runs with this teacher

    @property
    def alone(self) -> int:
        """Of the run and its teacher."""
        return self.own + self.step + self.teacher


def need_together(runs: Sequence[RunPlan], needs: Mapping[str, Need]) -> int:
    """Bytes of runs that train at the same time; `needs` are by arm."""
    every = [needs[run.arm] for run in runs]
    teachers: dict[Source | None, int] = {}
    for run, need in zip(runs, every, strict=True):
        teachers[run.teacher] = max(need.teacher, teachers.get(run.teacher, 0))
    own, step = sum(need.own for need in every), max(need.step for need in every)
    return own + step + sum(teachers.values())


def need_of(
    place: Place, learner: Learner, batch: Batch, teacher: Looking | None, shown: Outputs | None
) -> Need:
    """What a run needs that has met `batch`, a few images, of which its teacher has `shown`.

    Its networks are in evaluation mode.
    """
    how = place.recipe.optimizer
    whole = -(-min(how.batch_size, batch.total) // place.processes.count)
    image = batch.pixels[:1]
    put_out = sum(bytes_put_out(network, image) for network in learner.crowd.networks)
    seen = [] if shown is None else [shown.logits, *shown.features.values()]
    return Need(
        own=_own(learner, 1 if place.processes.count == 1 else 2),
        step=WAYS * -(-whole // how.accumulate) * put_out,
        teacher=_of_teacher(place, teacher) + whole * _size(seen) // len(batch.pixels),
    )


def _own(learner: Learner, gradients: int) -> int:
    """Several processes keep gradients twice: their own, and what is exchanged."""
    weights = list(learner.crowd.parameters())
    states = [value for one in learner.optimizer.state.values() for value in one.values()]
    begun = [weight for member in learner.members for weight in member.begin]
    averages = [member.average for member in learner.members if member.average is not None]
    averaged = [value for one in averages for value in (*one.parameters(), *one.buffers())]
    beside = [*learner.crowd.buffers(), *states, *averaged]
    return _size([*weights, *weights * gradients, *begun, *begun, *beside])


def _of_teacher(place: Place, teacher: Looking | None) -> int:
    """Its weights, and its answers for all images of test and validation, if not of training."""
    if teacher is None:
        return 0
    network, held = teacher.network, place.validation
    answers = (len(place.test) + (0 if held is None else len(held))) * place.classes * ANSWER
    cached = [] if teacher.cached is None else [teacher.cached]
    return answers + _size([*network.parameters(), *network.buffers(), *cached])


def _size(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def room(place: Place) -> int:
    """Bytes that are free for each of the processes, the same for all: the least of theirs."""
    there = memory_there(place.device)
    if place.device.type == "cpu":
        there //= place.processes.count
    return place.processes.least(there, place.device)


def memory_there(device: torch.device) -> int:
    """Bytes of the device that are free now, or held by torch and in no use."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    found = available()
    return ENDLESS if found is None else found
