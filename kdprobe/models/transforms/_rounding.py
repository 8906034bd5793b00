"""A layer that rounds its weights and its inputs; `fake_quant.py` says to what.

Axes: n images, d input and o output channels, h and w pixels.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

FULL = 32  # bits: left as they are
BEST = {  # top -> step of the best uniform rounding of N(0, 1) to 2 top + 1 levels
    1: 1.22401,
    3: 0.65077,
    7: 0.35341,
    15: 0.19325,
    31: 0.10549,
    63: 0.05726,
    127: 0.03087,
    255: 0.01653,
}
MOMENTUM = 0.1  # of the moving averages, that of BatchNorm


class _Steps(torch.autograd.Function):
    """q(x) of `fake_quant.py`; one function, so that only a mask is kept for the backward pass."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, step: Tensor, low: Any, top: Any, on: Tensor) -> tuple[Tensor, Tensor]:
        live = on & (step > 0)
        scaled = x / torch.where(live, step, torch.ones_like(step))
        inside = ((scaled >= low) & (scaled <= top)) | ~live
        return torch.where(live, scaled.round().clamp(low, top) * step, x), inside

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None, None


def _rounded(x: Tensor, step: Tensor, low: Any, top: Any, on: Tensor) -> Tensor:
    """q(x), with both bounds numbers or both tensors; x where off, or where the step is 0."""
    out: Tensor = _Steps.apply(x, step, low, top, on)[0]  # type: ignore[no-untyped-call]  # torch's own gap
    return out


class Inputs(nn.Module):
    """Rounds one tensor by what it has seen of its values in training."""

    low: Tensor
    peak: Tensor
    rms: Tensor

    def __init__(self, bits: int, device: torch.device) -> None:
        super().__init__()
        self.bits, self.observing = bits, True
        for name in ("low", "peak", "rms"):  # all 0: nothing seen yet
            self.register_buffer(name, torch.zeros((), device=device))

    def forward(self, x: Tensor, on: Tensor) -> Tensor:
        """Any shape -> the same, rounded where `on`; in half precision it is reckoned in single."""
        wide = x if x.dtype == torch.float64 else x.float()
        if self.training and self.observing:
            self._look(wide.detach())
        positive = self.low >= 0
        signed, unsigned = 2 ** (self.bits - 1) - 1, 2**self.bits - 1
        step = torch.where(positive, self._step(unsigned), self._step(signed)).to(wide.dtype)
        top, low = torch.where(positive, unsigned, signed), torch.where(positive, 0, -signed)
        return _rounded(wide, step, low, top, on).to(x.dtype)

    def _step(self, top: int) -> Tensor:
        return torch.minimum(self.peak / top, BEST[top] * self.rms)

    @torch.no_grad()
    def _look(self, x: Tensor) -> None:
        least, most = (bound.float() for bound in torch.aminmax(x))
        found = {"low": least, "peak": torch.maximum(most, -least), "rms": _rms(x).float()}
        share = torch.where(self.rms > 0, MOMENTUM, 1.0)  # the first batch counts whole
        for name, value in found.items():
            self.get_buffer(name).lerp_(value, share)


def _rms(x: Tensor, axes: tuple[int, ...] | None = None) -> Tensor:
    return x.square().mean(axes, keepdim=axes is not None).sqrt()


class Rounding(nn.Module):
    """What rounded convolutions and linear layers share: the switch, and their weights in steps."""

    on: Tensor
    weight: Tensor
    bits: int  # of its weights

    def equip(self, weights: int, activations: int) -> None:
        """Add the buffers. `weights` and `activations` are bits."""
        self.bits = weights
        device = self.weight.device
        self.register_buffer("on", torch.ones((), dtype=torch.bool, device=device))
        self.inputs = Inputs(activations, device) if activations != FULL else None

    def seen(self, x: Tensor) -> Tensor:
        """The layer's input as it works with it."""
        if self.inputs is None:
            return x
        out: Tensor = self.inputs(x, self.on)
        return out

    def kept(self) -> Tensor:
        """The weights it works with, (o, ...)."""
        if self.bits == FULL:
            return self.weight
        return rounded_weights(self.weight, self.bits, self.on)


def rounded_weights(weight: Tensor, bits: int, on: Tensor) -> Tensor:
    """(o, ...) weights -> where `on`, at most 2^bits - 1 levels, one step an output channel."""
    top = 2 ** (bits - 1) - 1
    fixed, axes = weight.detach(), tuple(range(1, weight.dim()))
    step = torch.minimum(fixed.abs().amax(axes, keepdim=True) / top, BEST[top] * _rms(fixed, axes))
    return _rounded(weight, step, -top, top, on)


class RoundedConv2d(Rounding, nn.Conv2d):
    """A convolution of rounded inputs with rounded weights."""

    def forward(self, input: Tensor) -> Tensor:
        """(n, d, h, w) -> (n, o, h', w')."""
        out: Tensor = self._conv_forward(self.seen(input), self.kept(), self.bias)
        return out


class RoundedLinear(Rounding, nn.Linear):
    """A linear layer of rounded inputs with rounded weights."""

    def forward(self, input: Tensor) -> Tensor:
        """(n, ..., d) -> (n, ..., o)."""
        return nn.functional.linear(self.seen(input), self.kept(), self.bias)


def rounding_twin(layer: nn.Module) -> RoundedConv2d | RoundedLinear:
    """`layer`, a convolution or linear layer, around the same parameters; nothing is drawn."""
    twin: RoundedConv2d | RoundedLinear
    if isinstance(layer, nn.Conv2d):
        twin = RoundedConv2d(
            layer.in_channels,
            layer.out_channels,
            cast(tuple[int, int], layer.kernel_size),
            cast(tuple[int, int], layer.stride),
            cast(tuple[int, int], layer.padding),
            cast(tuple[int, int], layer.dilation),
            layer.groups,
            layer.bias is not None,
            layer.padding_mode,
            device="meta",
        )
    else:
        linear = cast(nn.Linear, layer)
        sizes = linear.in_features, linear.out_features
        twin = RoundedLinear(*sizes, linear.bias is not None, device="meta")
    twin.weight, twin.bias = cast(Any, layer).weight, cast(Any, layer).bias
    return twin.train(layer.training)
