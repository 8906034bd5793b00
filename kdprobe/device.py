"""Where does it run?  A name such as ``auto`` or ``cuda:1`` becomes a device that is there."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kdprobe.errors import UsageError

WANTED = "'auto', 'cpu', 'cuda' or 'cuda:N'"


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; ``auto`` is the first GPU where there is one, else the CPU.

    Raises:
        UsageError: `name` is no such device, or this machine does not have it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"found device {name!r}; wanted {WANTED}") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"found device {name!r}; wanted {WANTED}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"found device {name!r}, but torch sees {torch.cuda.device_count()} GPUs here; "
            "use 'auto' or 'cpu', or install a CUDA build of torch"
        )
    return device


@contextmanager
def repeatable() -> Iterator[None]:
    """Inside, a GPU computes in full float32, and convolutions always in the same order."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
