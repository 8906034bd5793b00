"""Is a full convolution needed?  Space and channels convolved one after the other, or in groups.

Each k x k convolution of i to o channels, but the first layer of the network, becomes

    k x k, i to i channels in g groups (g = i: depthwise)   then   1 x 1, i to o channels

with i^2 k^2 / g + i o weights instead of i o k^2, and nothing between, so that it still is linear.
Convolutions that are grouped already, or 1 x 1, stay. Weights are drawn anew: He normal over the
fan-out of each group.

Sources: Crowley et al. 2018, arXiv:1711.02613, section 3 (substituted blocks; grouped and
pointwise); Howard et al. 2017, arXiv:1704.04861, section 3.1 (depthwise separable).

Axes: i input and o output channels, g groups.
"""

from collections.abc import Iterator
from typing import Literal, cast

from torch import nn

from kdprobe.errors import InputError
from kdprobe.models.transforms.contract import transform


@transform(
    "cheap_convolutions",
    title="convolutions in groups, then over channels",
    source="Crowley et al. 2018, arXiv:1711.02613; Howard et al. 2017, arXiv:1704.04861",
)
def cheap_convolutions(
    body: nn.Module, *, kind: Literal["depthwise", "grouped"] = "depthwise", groups: int = 4
) -> nn.Module:
    """The twin of `body` with cheap convolutions; `groups` is of use to kind ``grouped`` only.

    Raises:
        InputError: another kind, no convolution to change, or channels that the groups cannot share
            evenly.
    """
    if kind not in ("depthwise", "grouped"):
        raise InputError(f"found kind={kind!r}; wanted 'depthwise' or 'grouped'; take 'depthwise'")
    found = list(_full(body))
    if not found:
        raise InputError(
            f"found no full convolution behind the first layer of {type(body).__name__}; wanted a "
            "network of 3x3 convolutions: take a resnet, wrn or vgg"
        )
    for path, layer in found:
        if kind == "grouped" and (groups < 1 or layer.in_channels % groups):
            raise InputError(
                f"found groups={groups} for the {layer.in_channels} channels of {path!r}; wanted "
                "a divisor of the channels of every layer; take 4, or kind='depthwise'"
            )
    for path, layer in found:
        own = layer.in_channels if kind == "depthwise" else groups
        body.set_submodule(path, _cheap(layer, own))
    return body


def _full(body: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    """All convolutions but the first that look beyond one pixel and mix all channels."""
    layers = [(path, m) for path, m in body.named_modules() if type(m) is nn.Conv2d]
    for path, layer in layers[1:]:
        if layer.groups == 1 and max(layer.kernel_size) > 1:
            yield path, layer


def _cheap(layer: nn.Conv2d, groups: int) -> nn.Sequential:
    inputs, outputs, biased = layer.in_channels, layer.out_channels, layer.bias is not None
    space = nn.Conv2d(
        inputs,
        inputs,
        cast(tuple[int, int], layer.kernel_size),
        cast(tuple[int, int], layer.stride),
        cast(tuple[int, int], layer.padding),
        cast(tuple[int, int], layer.dilation),
        groups,
        bias=False,
        padding_mode=layer.padding_mode,
        device=layer.weight.device,
    )
    mixing = nn.Conv2d(inputs, outputs, 1, bias=biased, device=layer.weight.device)
    area = layer.kernel_size[0] * layer.kernel_size[1]
    if not layer.weight.is_meta:  # else there are no weights to draw
        nn.init.normal_(space.weight, std=(2 * groups / (inputs * area)) ** 0.5)
        nn.init.kaiming_normal_(mixing.weight, mode="fan_out", nonlinearity="relu")
        if biased:
            nn.init.zeros_(cast(nn.Parameter, mixing.bias))
    return nn.Sequential(space, mixing).train(layer.training)
