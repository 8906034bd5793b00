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

    `inputs` are some of the inputs it will see. The network itself is left as it is.
    """
    pairs = foldable(network, taps, inputs)
    return _fused(network, pairs) if pairs else network


@torch.no_grad()
def foldable(network: Network, taps: Mapping[str, Tap], inputs: Tensor) -> dict[str, str]:
    """Convolution -> the BatchNorm that may become part of it with the same outputs at `taps`.

    A pair whose convolution is read elsewhere too is found by folding it alone.
    """
    some = inputs[:LOOKED_AT]
    pairs = _pairs(network, some[:1])
    if not pairs:
        return {}
    wanted = _outputs(network, taps, some)

    def same(part: Mapping[str, str]) -> bool:
        found = _outputs(_fused(network, part), taps, some)
        return all(_alike(found[name], wanted[name]) for name in taps)

    if same(pairs):
        return pairs
    alone = {one: norm for one, norm in pairs.items() if same({one: norm})}
    return alone if alone and same(alone) else {}


class Follower:
    """A folded copy of a network that is being moved: `follow`, and it answers as the network does.

    Its weights lie channel by channel, as convolutions on a CPU like them best.
    """

    def __init__(
        self, network: Network, pairs: Mapping[str, str], dtype: torch.dtype | None = None
    ) -> None:
        self.lean = _fused(network, pairs)
        if dtype is not None:
            self.lean.body.to(dtype)
            self.lean.body.register_forward_pre_hook(lambda _, inputs: (inputs[0].to(dtype),))
        self.lean.body.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        ours, theirs = self.lean.body.state_dict(), network.body.state_dict()
        inside = {name.removeprefix("body."): norm for name, norm in pairs.items()}
        self._folds = [
            (network.get_submodule(norm), theirs, ours, name) for name, norm in inside.items()
        ]
        made = {f"{name}.{part}" for name in inside for part in ("weight", "bias")}
        self._copies = [(value, theirs[name]) for name, value in ours.items() if name not in made]

    @torch.no_grad()
    def follow(self) -> None:
        """Take over the weights that the network has now."""
        for ours, theirs in self._copies:
            ours.copy_(theirs)
        for norm, theirs, ours, name in self._folds:
            weight, bias = _product(norm, theirs[f"{name}.weight"], theirs.get(f"{name}.bias"))
            ours[f"{name}.weight"].copy_(weight)
            ours[f"{name}.bias"].copy_(bias)


def _product(norm: Any, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution together with the BatchNorm that follows it."""
    scale = torch.rsqrt(norm.running_var + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight
    mean = norm.running_mean if bias is None else norm.running_mean - bias
    shift = -mean * scale if norm.bias is None else norm.bias - mean * scale
    return weight * scale.view(-1, *[1] * (weight.dim() - 1)), shift


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
