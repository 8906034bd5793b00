"""What can be cut off while it trains?  The smallest weights become 0 and stay 0.

At once at epoch `start`, or step by step until epoch `end`:

    s(t) = amount                                                  t >= start, one-shot
    s(t) = amount (1 - (1 - (t - start) / (end - start))^3)        start <= t < end, gradual

s is the share of zeros among the weights of convolutions and linear layers, t the epochs passed, in
whole steps of `every`. Of N weights round(s N) go: those of least |w|, over all layers together
(global) or of each layer apart. The network works with weight_orig * weight_mask, as made by
torch.nn.utils.prune, with masks of ones from the beginning; what is cut never comes back.
Normalisation and biases are left, and the first and last layer unless `ends` are cut too.

One-shot at epoch 0 is for a network that begins with trained weights (``start`` in its arm).

Sources: Zhu and Gupta 2017, arXiv:1710.01878, eq. 1 (gradual, s_i = 0); Han et al. 2015,
arXiv:1506.02626, section 3 (magnitude, then training on). That first and last layer are left is a
custom, ours; equal magnitudes go in the order of the layers.

Axes: p weights.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune as pruning

from kdprobe.errors import InputError
from kdprobe.train.chance import generator
from kdprobe.train.techniques.contract import moment, must_come, technique

UNCALLED = nn.modules.linear.NonDynamicallyQuantizableLinear  # of attention: its hooks never run
NEAR = 1e-9  # of a step of `every`: epochs passed are sums of fractions

Layers = Sequence[tuple[str, nn.Module]]


@technique(
    "prune",
    title="Magnitude pruning, one-shot or gradual",
    source="Zhu and Gupta 2017, arXiv:1710.01878, eq. 1; Han et al. 2015, arXiv:1506.02626",
)
class Prune:
    """Cuts the share `amount` in (0, 1) of weights at epoch `start`, or little by little to `end`.

    `every`: epochs between two cuts. `scope`: "global" or "layer". `measure`: "l1" (magnitude) or
    "random", the control, drawn from `seed`. `ends`: whether first and last layer are cut too.
    """

    def __init__(
        self,
        *,
        amount: float = 0.9,
        start: float = 0.0,
        end: float = 0.0,
        every: float = 1.0,
        scope: str = "global",
        measure: str = "l1",
        ends: bool = False,
        seed: int = 0,
    ) -> None:
        if isinstance(amount, (str, bool)) or not 0 < amount < 1:
            raise InputError(f"found amount={amount!r}; wanted a share above 0 and below 1")
        self.amount, self.start, self.end = amount, moment("start", start), moment("end", end)
        if self.end and self.end <= self.start:
            raise InputError(f"found end={end} with start={start}; wanted end > start, or 0: once")
        self.every = moment("every", every)
        if not self.every:
            raise InputError("found every=0; wanted epochs between two cuts, such as 1 or 0.1")
        _among("scope", scope, ("global", "layer"))
        _among("measure", measure, ("l1", "random"))
        if not isinstance(ends, bool):
            raise InputError(f"found ends={ends!r}; wanted true or false")
        if type(seed) is not int or seed < 0:
            raise InputError(f"found seed={seed!r}; wanted a whole number from 0")
        self.scope, self.measure, self.ends, self.seed = scope, measure, ends, seed
        self._done = 0.0  # share already seen to; a new one looks at what the masks hold

    @torch.no_grad()  # so that the masked weight is no part of a graph, and can be copied
    def attach(self, body: nn.Module) -> None:
        """Put masks of ones before the weights.

        Raises InputError where there is nothing to prune, or masks are there already.
        """
        if list(masked(body)):
            raise InputError("found a network that is pruned already; wanted one prune a network")
        layers = list(prunable(body))
        inner = layers if self.ends else layers[1:-1]
        if not inner:
            raise InputError(
                f"found {len(layers)} convolutions and linear layers, none between first and last; "
                "wanted a layer to prune: set ends=true, or take a deeper network"
            )
        for _, layer in inner:
            pruning.identity(layer, "weight")  # type: ignore[no-untyped-call]  # torch's own gap

    def before_step(self, body: nn.Module, passed: float, total: int) -> None:
        """Cut what is due. Raises InputError where start or end is after the last epoch."""
        must_come("end" if self.end else "start", self.end or self.start, total)
        share = self.share(passed)
        if share > self._done:
            layers = list(masked(body))
            for group in [layers] if self.scope == "global" else [[layer] for layer in layers]:
                self._cut(group, share)
            self._done = share

    def share(self, passed: float) -> float:
        """The share of zeros when `passed` epochs are over."""
        if passed < self.start:
            return 0.0
        if not self.end or passed >= self.end:
            return self.amount
        steps = math.floor((passed - self.start) / self.every + NEAR)
        way = min(steps * self.every / (self.end - self.start), 1.0)
        return self.amount * (1 - (1 - way) ** 3)

    @torch.no_grad()
    def _cut(self, group: Layers, share: float) -> None:
        """Set the masks of some layers so that `share` of their weights together are 0."""
        masks = [layer.get_buffer("weight_mask") for _, layer in group]
        scores = torch.cat([self._scores(*layer).flatten() for layer in group])
        kept = torch.ones_like(scores)
        kept[scores.sort(stable=True).indices[: round(share * len(scores))]] = 0
        parts = torch.split(kept, [mask.numel() for mask in masks])
        for (_, layer), mask, part in zip(group, masks, parts, strict=True):
            now = part.view(mask.shape)
            # Only what is new: a restored state must not change.
            layer.get_parameter("weight_orig").masked_fill_(now < mask, 0)
            mask.copy_(now)

    def _scores(self, path: str, layer: nn.Module) -> Tensor:
        """How much each weight counts; what is cut already comes first again."""
        weight, mask = layer.get_parameter("weight_orig"), layer.get_buffer("weight_mask")
        if self.measure == "random":
            drawn = torch.rand(weight.shape, generator=generator(self.seed, 0, f"prune {path}"))
            size = drawn.to(weight.device)
        else:
            size = weight.abs().float()
        return torch.where(mask > 0, size, -1.0)

    def plain(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights times masks under the names they have in a network without masks."""
        found = dict(state)
        for key in [key for key in state if key.rpartition(".")[2] == "weight_mask"]:
            name = key.removesuffix("_mask")
            mask, weight = found.pop(key), found.pop(f"{name}_orig")
            found[name] = weight * mask
        return found

    def facts(self, body: nn.Module) -> dict[str, Any]:
        """Shares that are left: of prunable weights, of all parameters, of the emptiest layer."""
        masks = [layer.get_buffer("weight_mask") for _, layer in masked(body)]
        sizes = [mask.numel() for mask in masks]
        left = torch.stack([mask.count_nonzero() for mask in masks]).tolist()
        everything = sum(parameter.numel() for parameter in body.parameters())
        return {
            "kept": sum(left) / sum(sizes),
            "kept_of_all": 1 - (sum(sizes) - sum(left)) / everything,
            "kept_least": min(n / size for n, size in zip(left, sizes, strict=True)),
        }


def prunable(body: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Convolutions and linear layers with their paths, in order."""
    for path, layer in body.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and not isinstance(layer, UNCALLED):
            yield path, layer


def masked(body: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers that have a mask, with their paths, in order."""
    for path, layer in prunable(body):
        if any(name == "weight_mask" for name, _ in layer.named_buffers(recurse=False)):
            yield path, layer


def _among(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise InputError(f"found {name}={value!r}; wanted {' or '.join(map(repr, known))}")
