"""Can the same network answer faster?  BatchNorm folded into the convolutions before it.

In evaluation mode a BatchNorm is a fixed scale and shift of every channel, so it can be made part
of the convolution whose output it alone reads. Whether that is so is found by running the network
once, and believed only if all tapped outputs stay the same.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kdprobe.models.contract import Network
from kdprobe.taps import Outputs, Tap, watch

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
LOOKED_AT = 8  # inputs on which the outputs are compared
CLOSE = 1e-4  # of the largest output


@torch.no_grad()
def folded(network: Network, taps: Mapping[str, Tap], inputs: Tensor) -> Network:
    """A copy of `network` with fewer operations and the same outputs at `taps`; or itself.

    `inputs` are some of the inputs it will see. The network itself is left as it is. A pair whose
    convolution is read elsewhere too is found by folding it alone.
    """
    some = inputs[:LOOKED_AT]
    pairs = _pairs(network, some[:1])
    if not pairs:
        return network
    wanted = _outputs(network, taps, some)

    def lean(part: Mapping[str, str]) -> Network | None:
        copied = _fused(network, part)
        found = _outputs(copied, taps, some)
        return copied if all(_alike(found[name], wanted[name]) for name in taps) else None

    whole = lean(pairs)
    if whole is None:
        alone = {one: norm for one, norm in pairs.items() if lean({one: norm})}
        whole = lean(alone) if alone else None
    return whole or network


def _fused(network: Network, pairs: Mapping[str, str]) -> Network:
    """A copy in which every BatchNorm of `pairs` is part of its convolution."""
    lean = copy.deepcopy(network)
    for convolution, norm in pairs.items():
        pair: Any = (lean.get_submodule(convolution), lean.get_submodule(norm))
        lean.set_submodule(convolution, fuse_conv_bn_eval(*pair).requires_grad_(False))
        lean.set_submodule(norm, nn.Identity())
    return lean


def _outputs(network: Network, taps: Mapping[str, Tap], inputs: Tensor) -> Outputs:
    with watch(network.body, taps) as seen:
        network(inputs)
        found = Outputs({name: seen[name] for name in taps})
    return found


def _alike(found: Tensor, wanted: Tensor) -> bool:
    if not wanted.is_floating_point():
        return torch.equal(found, wanted)
    return bool((found - wanted).abs().max() <= CLOSE * wanted.abs().max())


def _pairs(network: nn.Module, inputs: Tensor) -> dict[str, str]:
    """Convolution -> the BatchNorm that reads its output, both called once in a forward pass."""
    put_out: dict[str, Tensor] = {}
    read: dict[str, Tensor] = {}
    calls: list[str] = []

    def after(name: str, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append(name)
        put_out[name], read[name] = output, inputs[0]

    kinds = CONVOLUTIONS + NORMS
    modules = {
        name: module for name, module in network.named_modules() if isinstance(module, kinds)
    }
    handles = [
        module.register_forward_hook(lambda _, i, o, name=name: after(name, i, o))
        for name, module in modules.items()
    ]
    try:
        network(inputs)
    finally:
        for handle in handles:
            handle.remove()
    once = [name for name in modules if calls.count(name) == 1]
    norms = [n for n in once if isinstance(modules[n], NORMS) and _is_fixed(modules[n])]
    found = {
        convolution: [norm for norm in norms if read[norm] is put_out[convolution]]
        for convolution in once
        if isinstance(modules[convolution], CONVOLUTIONS)
    }
    return {convolution: norm[0] for convolution, norm in found.items() if len(norm) == 1}


def _is_fixed(norm: nn.Module) -> bool:
    return not norm.training and getattr(norm, "running_mean", None) is not None
