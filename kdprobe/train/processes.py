"""How do several processes train as one?  Each learns from its part of every batch (`torchrun`).

Gradients are averaged by DistributedDataParallel around one module a run. Within an epoch each
process has normalisation statistics and memories of its own; after it all take those of the first,
which are saved, so that they go on as they would have. Losses that relate images to one another see
the images of their process. Only the first process writes.
"""

import gc
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from kdprobe.errors import InputError, UsageError


@dataclass(frozen=True)
class Processes:
    """Which of how many this one is; alone, nothing is exchanged."""

    rank: int = 0
    count: int = 1

    @property
    def writes(self) -> bool:
        """Whether this one keeps the records."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            dist.barrier()

    def wrapped(self, module: nn.Module) -> nn.Module:
        """`module`, whose gradients are from now on the mean over all processes."""
        if self.count == 1:
            return module
        parallel = nn.parallel.DistributedDataParallel
        return parallel(module, broadcast_buffers=False, find_unused_parameters=True)

    def summed(self, values: Tensor) -> Tensor:
        """The sum of `values` over all processes."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def least(self, value: int, device: torch.device) -> int:
        """The least of the values of all processes."""
        if self.count == 1:
            return value
        found = torch.tensor(value, device=device)
        dist.all_reduce(found, dist.ReduceOp.MIN)
        return int(found)

    def take_first(self, tensors: Iterable[Tensor]) -> None:
        """Let each of `tensors` be in all processes what it is in the first."""
        for tensor in tensors if self.count > 1 else ():
            sent = tensor.contiguous()
            dist.broadcast(sent, 0)
            tensor.copy_(sent)

    def must_share(self, images: int, size: int) -> None:
        """Raise InputError where the last of the steps of `size` images has none for some of us."""
        left = images % size or size
        if left < self.count:
            raise InputError(
                f"found {images} training images in steps of {size}, which leave {left} for the "
                f"last step of {self.count} processes; wanted one or more for each: choose another "
                "optimizer.batch_size"
            )

    def told(self, say: Callable[[], Any]) -> Any:
        """What the first process says; the others hear it."""
        if self.count == 1:
            return say()
        heard = [say() if self.writes else None]
        dist.broadcast_object_list(heard)
        return heard[0]


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Lend the group of processes that `torchrun` started; alone where it did not.

    At the end all wait, drop what hangs on the group, and leave it in order: a group that is only
    destroyed aborts now and then after its work is done.

    Raises:
        UsageError: there are more processes than GPUs to train on.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or dist.is_initialized():
        yield Processes()
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise UsageError(
                f"found process {local} and {torch.cuda.device_count()} GPUs; wanted one GPU a "
                "process: lower --nproc-per-node, or train with --device cpu"
            )
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
        dist.barrier()
    finally:
        gc.collect()
        dist.destroy_process_group()


def own_device(device: torch.device) -> torch.device:
    """The GPU of this process, where `torchrun` started several."""
    if device.type == "cuda" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device
