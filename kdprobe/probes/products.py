"""How does the gradient answer a step of the weights?  The loss's Hessian, times a vector.

    H v = d/dw <grad L(w), v>,   L = mean cross-entropy over the images (nats)

The gradient is differentiated as a function of the weights; its graph is kept from product to
product where it fits in memory, and built anew for every batch where it does not. BatchNorm uses
its stored statistics, and its scale and shift are weights like all others; where it alone reads a
convolution, both are run as one convolution whose weights are the product of theirs.

Source: Pearlmutter 1994, Fast exact multiplication by the Hessian.

Axes: n images, p weights.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from kdprobe.batches import in_batches
from kdprobe.errors import InputError
from kdprobe.models.contract import Network
from kdprobe.passes import passing
from kdprobe.probes.folding import foldable
from kdprobe.taps import Tap

DEEPER = 3  # times the memory of a forward pass that the graph of its gradient takes
ROWS = 64  # images of a batch on a CPU: the graph of more does not stay in its cache

Graph = tuple[Tensor, ...]  # a batch's part of the gradient, one tensor a weight


class Hessian:
    """The Hessian over the `weights` of `network`, in that order, as one flat vector."""

    def __init__(
        self,
        network: Network,
        weights: Sequence[nn.Parameter],
        pixels: Tensor,
        labels: Tensor,
        rows: int,
        memory: int,
    ) -> None:
        self.network, self.weights = network, list(weights)
        self.pixels, self.labels = pixels, labels
        self.rows = min(rows, ROWS) if pixels.device.type == "cpu" else rows
        self.sizes = [weight.numel() for weight in self.weights]
        self.kept: list[Graph] = []
        if DEEPER * bytes_an_image(network, pixels) * len(pixels) <= memory:
            self.kept = self._over_batches(self.graph)

    def __call__(self, v: Tensor, block: slice = slice(None)) -> Tensor:
        """H v (p,); or the product with the diagonal block of some of the weights."""
        bend = partial(self.bend, v=v, block=block)
        if self.kept:
            return torch.stack([bend(graph) for graph in self.kept]).sum(0)
        return torch.stack(self._over_batches(lambda some: bend(self.graph(some)))).sum(0)

    def graph(self, some: slice) -> Graph:
        """The gradient of what the images `some` add to the mean loss, ready to be bent."""
        with torch.enable_grad(), twice_differentiable():
            logits = self.network(self.pixels[some])
            if not logits.requires_grad:
                raise InputError(
                    "found logits that do not depend on the weights; wanted a network whose "
                    "answer can be differentiated: take out detach() and no_grad()"
                )
            loss = cross_entropy(logits, self.labels[some], reduction="sum") / len(self.pixels)
            with passing():
                return torch.autograd.grad(
                    loss, self.weights, create_graph=True, allow_unused=True, materialize_grads=True
                )

    def bend(self, graph: Graph, v: Tensor, block: slice = slice(None)) -> Tensor:
        """What one graph adds to the product."""
        weights, slopes = self.weights[block], graph[block]
        parts = [
            part.view_as(weight)
            for part, weight in zip(torch.split(v, self.sizes[block]), weights, strict=True)
        ]
        moving = [i for i, slope in enumerate(slopes) if slope.requires_grad]
        if not moving:
            return torch.zeros_like(v)
        with passing(), twice_differentiable():
            found = torch.autograd.grad(
                [slopes[i] for i in moving],
                weights,
                [parts[i] for i in moving],
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
        return torch.cat([one.reshape(-1) for one in found])

    def _over_batches(self, work: Callable[[slice], Any]) -> list[Any]:
        return in_batches(work, len(self.pixels), self.rows)


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Attention in a form that has second derivatives; a layer without them is an InputError."""
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    except RuntimeError as error:
        told = str(error).splitlines()[0]
        if "not implemented" not in told:
            raise
        raise InputError(
            f"found a layer without second derivatives ({told}); wanted one that can be "
            "differentiated twice: put plain operations in its place"
        ) from error


def bytes_an_image(network: Network, pixels: Tensor) -> int:
    """What a forward pass keeps for the gradient, for one image more."""
    return bytes_kept(network, pixels[:2]) - bytes_kept(network, pixels[:1])


def bytes_kept(network: Network, pixels: Tensor) -> int:
    """What a forward pass keeps for the gradient, the weights among it."""
    kept: dict[int, tuple[Tensor, int]] = {}  # each tensor lives on, so that no other has its place

    def note(saved: Tensor) -> Tensor:
        saved = saved.detach()
        kept[saved.data_ptr()] = (saved, saved.numel() * saved.element_size())
        return saved

    with (
        torch.enable_grad(),
        twice_differentiable(),
        saved_tensors_hooks(note, lambda saved: saved),
    ):
        network(pixels)
    return sum(size for _, size in kept.values())


@contextmanager
def lean(network: Network, inputs: Tensor) -> Iterator[None]:
    """Inside, `network` answers alike with fewer operations; `inputs` are some that it will see."""
    pairs = foldable(network, {"logits": Tap("", "raw")}, inputs)
    modules: dict[str, Any] = dict(network.named_modules())
    with fused([(modules[one], modules[two]) for one, two in pairs.items()]):
        yield


@contextmanager
def fused(pairs: Sequence[tuple[Any, Any]]) -> Iterator[None]:
    """Every convolution does the work of the BatchNorm after it, whose weights stay its own."""
    try:
        for convolution, norm in pairs:
            convolution.forward = partial(_both, convolution, norm)
            norm.forward = nn.Identity().forward
        yield
    finally:
        for module in (module for pair in pairs for module in pair):
            vars(module).pop("forward", None)


def _both(convolution: Any, norm: Any, x: Tensor) -> Tensor:
    scale = torch.rsqrt(norm.running_var + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight
    start = -norm.running_mean if convolution.bias is None else convolution.bias - norm.running_mean
    shift = start * scale if norm.bias is None else start * scale + norm.bias
    weight = convolution.weight * scale.view(-1, *[1] * (convolution.weight.dim() - 1))
    answer: Tensor = convolution._conv_forward(x, weight, shift)
    return answer
