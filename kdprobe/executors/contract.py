"""What an executor is: it performs independent tasks, in any order and anywhere.

A task is plain data. It names its device, reads checkpoints and images by their manifest entries,
and writes what it saw to the store under its key; performing it twice changes nothing. So an
executor needs no result back, may lose a worker and send the task again, and has no shared state
but the store's folder.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from kdprobe.device import repeatable
from kdprobe.errors import InputError
from kdprobe.manifest import DataEntry
from kdprobe.probes.contract import Sight, look_at
from kdprobe.probes.lens import Lens
from kdprobe.registry import Catalogue
from kdprobe.store import Store

log = logging.getLogger("kdprobe")


@dataclass(frozen=True)
class Task:
    """One sight to be seen and stored."""

    key: str
    sight: Sight
    data: DataEntry
    seed: int
    device: str
    store: Path
    allowed: frozenset[str]


def perform(task: Task) -> None:
    """See what `task` asks for and keep it; nothing to do when the store has it.

    A look that cannot be taken leaves its reason in the store: the others go on.
    """
    store = Store(task.store)
    if task.key in store:
        return
    device = torch.device(task.device)
    lens = Lens(device, task.data, task.sight.images, task.seed, task.allowed)
    try:
        with repeatable():
            seen = look_at(task.sight, lens)
    except InputError as error:
        log.warning("left out '%s': %s", task.sight.title, error)
        store.refuse(task.key, str(error))
        return
    store.put(task.key, {name: tensor.detach().cpu().numpy() for name, tensor in seen.items()})


Done = Callable[[Task], None]


class Executor(Protocol):
    """Performs tasks."""

    def __call__(self, tasks: Sequence[Task], done: Done) -> None:
        """Perform all `tasks` and call `done` after each. An error of a task is raised."""


EXECUTORS: Catalogue[Executor] = Catalogue("executor", "kdprobe.executors")
