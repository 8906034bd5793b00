"""How much fits at once?  Batches of a size chosen here, halved when memory runs out."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from kdprobe.errors import InputError, KdprobeError

T = TypeVar("T")
log = logging.getLogger("kdprobe")

CPU_BUDGET, CPU_ROWS = 1 << 30, 128  # bytes, rows: small batches stay in a CPU's cache
GPU_SHARE, GPU_ROWS = 0.3, 4096


def rows_that_fit(network: nn.Module, image: Tensor) -> int:
    """How many images of the shape of `image` (1, 3, h, w) one batch may hold, with gradients.

    Reads the size of the memory, not what is free just now, so that the same machine always
    answers the same.
    """
    most = GPU_ROWS if image.device.type == "cuda" else CPU_ROWS
    return max(1, min(most, budget(image.device) // max(bytes_put_out(network, image), 1)))


def bytes_put_out(network: nn.Module, image: Tensor) -> int:
    """What all innermost modules put out for one image of the shape of `image` (1, 3, h, w)."""
    used = 0

    def count(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal used
        if isinstance(output, Tensor):
            used += output.numel() * output.element_size()

    leaves = [m for m in network.modules() if not any(True for _ in m.children())]
    handles = [leaf.register_forward_hook(count) for leaf in leaves]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    return used


def budget(device: torch.device) -> int:
    """How many bytes a batch may take on `device`: by its size, not by what is free just now."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory * GPU_SHARE)
    return CPU_BUDGET


def in_batches(work: Callable[[slice], T], total: int, size: int) -> list[T]:
    """Call `work` on consecutive slices of at most `size`; halve `size` when memory runs out.

    Raises:
        InputError: not even one row fits.
    """
    done: list[T] = []
    start = 0
    while start < total:
        try:
            done.append(work(slice(start, min(start + size, total))))
            start += size
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if size == 1:
                raise InputError(
                    "found too little memory for one image; wanted room for its forward and "
                    "backward pass: choose later layers, fewer probes, or another device"
                ) from error
            size = max(1, size // 2)
            log.warning("out of memory: going on with batches of %d", size)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    return done


@contextmanager
def called_on(inputs: Tensor) -> Iterator[None]:
    """What the network itself raises inside becomes an InputError; want of memory stays."""
    try:
        yield
    except Exception as error:  # whatever the user's own code may raise
        if isinstance(error, KdprobeError) or out_of_memory(error):
            raise
        raise InputError(
            f"the network failed on inputs of shape {tuple(inputs.shape)}, {inputs.dtype}: "
            f"{type(error).__name__}: {error}; wanted logits in evaluation mode, of any number of "
            "images and also with gradients: mend its forward, or leave out the measure"
        ) from error


def out_of_memory(error: Exception) -> bool:
    """Whether `error` says that the device, or the machine, has no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return "not enough memory" in str(error) or "out of memory" in str(error)
