"""Can the image be told from what a layer puts out?  Refuses layers that no slope leads back from.

A layer after rounding, a sign or an argmax has zero slopes although it changes, and every estimator
of what it discards would follow them to an invented number. That is found out on one image and
noises of many sizes, from the smallest to a thousand times as large.

Axes: e noises, d outputs of a layer.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from kdprobe.errors import InputError
from kdprobe.passes import passing

NOISES, DECADES = 16, 3  # noises that are tried, their sizes evenly over so many decades
GUARD = 99  # purpose of chance

See = Callable[[Tensor], Mapping[str, Tensor]]  # inputs (e, ...) -> by layer (e, d)


def must_answer(see: See, x: Tensor, size: float, chance: torch.Generator, rows: int) -> None:
    """Raise InputError where no slope leads from a layer's outputs back to the input x (1, ...).

    `size` is the standard deviation of the least noise, and `rows` how many inputs a pass may hold.
    An output that never changes is no error: on this input the layer may be dead.
    """
    count = max(1, min(NOISES, rows - 1))
    sizes = size * torch.logspace(DECADES, 0, count).view(-1, *[1] * (x.dim() - 1))
    noise = (sizes * torch.randn(count, *x.shape[1:], generator=chance)).to(x)
    with torch.enable_grad():
        scale = torch.ones((), dtype=x.dtype, device=x.device, requires_grad=True)
        for name, found in see(torch.cat([x, x + scale * noise])).items():
            if not _answers(found, scale):
                raise InputError(
                    f"found no slope from layer {name!r} back to the image; wanted an output that "
                    "changes smoothly with it: choose a layer before any rounding, argmax or "
                    "detach, see 'kdprobe inspect'"
                )


def _answers(found: Tensor, scale: Tensor) -> bool:
    """Whether the outputs (1 + e, d) of the clean input and noisy ones move with the noise's scale,
    if they move at all.
    """
    if not (found.is_floating_point() and found.requires_grad):
        return False
    change = (found[1:] - found[:1]).square().sum()
    scale.grad = None
    with passing():
        torch.autograd.backward(change, retain_graph=True, inputs=[scale])
    return scale.grad is not None and not bool((change > 0) & (scale.grad == 0))
