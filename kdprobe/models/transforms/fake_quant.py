"""What survives in few bits?  Weights and inputs of every layer rounded, trained through the steps.

Of convolutions and linear layers, with one step a channel for weights, one a layer for inputs:

    q(x) = step * round(clip(x / step, low, top)),   dq/dx = 1 inside the clip, 0 outside
    step = min(peak / top, best[top] * rms)

low = -top, top = 2^(bits-1) - 1; of inputs that are never negative low = 0, top = 2^bits - 1.
best[top] is the step of least mean squared error for a normal distribution, so that at 2 bits a
single far value does not cost all others. Peak and rms of weights are those they have; of inputs,
moving averages over the batches of training, kept in the state dict. First and last layer take
`ends` bits. Keys of the plain network stay; buffers are added, `on` and those of `inputs`.

Sources: Jacob et al. 2018, arXiv:1712.05877, section 3 (training with rounding, moving averages);
Esser et al. 2020, arXiv:1902.08153, eq. 1-2 and section 2.3 (clip, gradient, ends at 8 bits);
Max 1960, doi:10.1109/TIT.1960.1057548, table II (best steps); that both rules are joined by a
minimum is ours.

Axes: n images, o output channels.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.models.transforms._rounding import (
    FULL,
    Inputs,
    RoundedConv2d,
    RoundedLinear,
    Rounding,
    rounding_twin,
)
from kdprobe.models.transforms.contract import transform


def layers(body: nn.Module) -> Iterator[RoundedConv2d | RoundedLinear]:
    """The layers of `body` that can round. Raises InputError where there are none."""
    found = [m for m in body.modules() if isinstance(m, (RoundedConv2d, RoundedLinear))]
    if not found:
        raise InputError(
            "found no layer that can round its weights; wanted a network made by fake_quant: put "
            "'fake_quant(weights=8, activations=8)' among the transforms of its entry"
        )
    return iter(found)


def switch(body: nn.Module, on: bool) -> None:
    """From now on `body` rounds, or does not. A fresh twin rounds. Raises InputError as `layers`.

    The switch is in the state dict (``conv1.on``), so a checkpoint answers as it was trained.
    """
    for layer in layers(body):
        layer.on.fill_(on)


def observe(body: nn.Module, on: bool) -> None:
    """Whether passes in training mode move the ranges of inputs; at first they do.

    Whether rounding is on does not matter, so ranges can be learnt before. The choice is not in the
    state dict: it matters to training alone. Raises InputError as `layers`.
    """
    for layer in layers(body):
        if layer.inputs is not None:
            layer.inputs.observing = on


@torch.no_grad()
def calibrate(body: nn.Module, batches: Sequence[Tensor]) -> None:
    """Learn the ranges of inputs from normalised `batches` (n, 3, h, w) in evaluation mode.

    For rounding after training; nothing else in `body` changes. Raises InputError as `layers`.
    """
    modes = [(module, module.training) for module in body.modules()]
    body.eval()
    for layer in layers(body):
        layer.train()  # only ranges move: convolutions and linear layers know no other mode
    try:
        for batch in batches:
            body(batch)
    finally:
        for module, mode in modes:
            module.training = mode


def load_plain(body: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give `body` the weights of its plain twin; its own buffers stay as they are.

    Raises:
        InputError: `state` is not that of the plain twin.
    """
    own = {name for name, _ in _buffers(body)}
    plain = {name: value.shape for name, value in body.state_dict().items() if name not in own}
    if plain != {name: value.shape for name, value in state.items()}:
        odd = sorted(set(plain) ^ set(state)) or ["shapes"]
        raise InputError(
            f"the state is not that of the same network without fake_quant: {', '.join(odd[:3])} "
            "differ; wanted its keys and shapes: load the checkpoint it was made from"
        )
    body.load_state_dict(dict(state), strict=False)


def _buffers(body: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for path, module in body.named_modules():
        if isinstance(module, (Rounding, Inputs)):
            for name, value in module.named_buffers(recurse=False):
                yield f"{path}.{name}", value


@transform(
    "fake_quant",
    title="weights and inputs of all layers rounded to few bits",
    source="Jacob et al. 2018, arXiv:1712.05877; Esser et al. 2020, arXiv:1902.08153",
)
def fake_quant(
    body: nn.Module, *, weights: int = 8, activations: int = 8, ends: int = 8
) -> nn.Module:
    """Make every plain ``Conv2d`` and ``Linear`` of `body` one that rounds; it is switched on.

    `weights` and `activations` are bits from 2 to 8, or 32 for none; `ends` those of both in the
    first and the last layer, where they would otherwise have fewer.

    Raises:
        InputError: other bits, or a network with no such layer.
    """
    for name, bits in (("weights", weights), ("activations", activations), ("ends", ends)):
        if bits != FULL and not 2 <= bits <= 8:
            raise InputError(f"found {name}={bits}; wanted 2 to 8 bits, or 32 for none; take 8")
    plain = [path for path, m in body.named_modules() if type(m) in (nn.Conv2d, nn.Linear)]
    for i, path in enumerate(plain):
        least = ends if i in (0, len(plain) - 1) else 2
        rounding = rounding_twin(body.get_submodule(path))
        rounding.equip(max(weights, least), max(activations, least))
        body.set_submodule(path, rounding)
    list(layers(body))
    return body
