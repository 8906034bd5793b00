"""Is there room?  What a cohort needs beside what the machine has, asked before hours are spent.

needed = images on the device + for every run 4 copies of its weights (value, gradient, state of the
optimiser, path) + of the largest run twice the outputs of all its layers for one batch (forward and
backward): runs step one after another, and a step's outputs are gone with its backward pass

An estimate: it refuses what is out of question, and lets pass what is close.
"""

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from kdprobe.batches import bytes_put_out
from kdprobe.errors import InputError
from kdprobe.train.learner import Learner
from kdprobe.train.place import Place
from kdprobe.train.plan import Cohort

COPIES, WAYS = 4, 2


def must_have_room(place: Place, cohort: Cohort, learners: Sequence[Learner]) -> None:
    """Raise InputError where a cohort needs more memory than there is."""
    wanted, there = memory_needed(place, learners), memory_there(place.device)
    if there and wanted > there:
        how = place.recipe.optimizer
        raise InputError(
            f"cohort {cohort.name!r} of {len(cohort.runs)} runs needs about {wanted / 2**30:.1f} "
            f"GiB on {place.device} and there are {there / 2**30:.1f}; lower optimizer.batch_size "
            f"({how.batch_size}), raise optimizer.accumulate ({how.accumulate}), or train fewer "
            "arms at once"
        )


def memory_needed(place: Place, learners: Sequence[Learner]) -> int:
    """Bytes, about."""
    how = place.recipe.optimizer
    rows = -(-how.batch_size // how.accumulate // place.processes.count)
    total = sum(_size(part) for part in (place.train.pixels, place.test.pixels))
    image = place.train.pixels[:1]
    steps = [0]
    for learner in learners:
        own = (*learner.crowd.parameters(), *learner.crowd.buffers())
        total += COPIES * sum(map(_size, own))
        put_out = sum(bytes_put_out(network, image) for network in learner.crowd.networks)
        steps.append(WAYS * rows * put_out)
    return total + max(steps)


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def memory_there(device: torch.device) -> int:
    """Bytes of the device, used or not; 0 where nobody knows."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
