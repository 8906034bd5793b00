"""What does a network cost?  Parameters, multiply-adds for one image, and bits of its weights.

Multiply-adds are those of convolutions, linear layers and matrix products such as attention's, as
PyTorch's own counter sees them in one forward pass: half of its floating-point operations.
Normalisations, activations and additions are not counted. A weight that fake quantisation rounds
(`transforms/fake_quant.py`) needs its layer's bits while that is switched on, others those of their
type; scales and buffers are left out.

Axes: n images, h and w pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kdprobe.models.transforms._rounding import FULL, Rounding


@dataclass(frozen=True)
class Cost:
    """What a network takes to keep and to run."""

    parameters: int
    nonzero: int  # parameters less the zeros, or masked, in kernels and matrices
    macs: int  # multiply-adds for one image; a pruned weight still counts
    bits: int  # of all parameters; a pruned weight still counts


@torch.no_grad()
def cost_of(body: nn.Module, image_shape: Sequence[int]) -> Cost:
    """The cost of `body` for one image of `image_shape`, (3, h, w), in evaluation mode.

    `body` is left as it was.
    """
    owners = {id(p): m for m in body.modules() for p in m.parameters(recurse=False)}
    parameters = list(body.parameters())
    return Cost(
        parameters=sum(p.numel() for p in parameters),
        nonzero=sum(_nonzero(value) for value in _effective(body)),
        macs=_macs(body, image_shape),
        bits=sum(p.numel() * _bits(owners[id(p)], p) for p in parameters),
    )


def _macs(body: nn.Module, image_shape: Sequence[int]) -> int:
    first = next(body.parameters(), torch.empty(0))
    image = torch.zeros((1, *image_shape), dtype=first.dtype, device=first.device)
    modes = [(module, module.training) for module in body.modules()]
    counter = FlopCounterMode(display=False)
    body.eval()
    try:
        with counter:
            body(image)
    finally:
        for module, mode in modes:
            module.training = mode
    return int(counter.get_total_flops()) // 2


def _effective(body: nn.Module) -> list[Tensor]:
    """Parameters as the network works with them: times the mask of torch.nn.utils.prune."""
    masks = dict(body.named_buffers())
    found = []
    for key, value in body.named_parameters():
        mask = masks.get(f"{key.removesuffix('_orig')}_mask") if key.endswith("_orig") else None
        found.append(value if mask is None else value * mask)
    return found


def _nonzero(value: Tensor) -> int:
    """Biases and norms count whole: none is pruned, and all biases start at 0."""
    return int(value.count_nonzero()) if value.dim() > 1 else value.numel()


def _bits(owner: nn.Module, parameter: Tensor) -> int:
    if isinstance(owner, Rounding) and parameter.dim() > 1:
        rounds = owner.bits != FULL and bool(owner.on)
        return owner.bits if rounds else 8 * parameter.element_size()
    return 8 * parameter.element_size()
