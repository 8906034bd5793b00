"""What a network is: pixels in [0, 1] go in, logits come out, and its taps have names.

A family is a function ``make(*groups, num_classes, **knobs) -> nn.Module`` under a pattern that its
names match, e.g. ``resnet(\\d+)``; the groups of the pattern arrive as strings. The module it
returns has a dictionary ``taps`` from tap names to `Tap`, in order from input to output.

A network whose lower layers several branches can share has besides, as all bundled ones do:
    lower(x) -> h           all up to the tap ``stage2``, whose output h is
    upper(h) -> logits      the rest, so that forward(x) is upper(lower(x))
    upper_parts             tuple of paths of the modules that `upper` uses; a branch copies them
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdprobe.batches import called_on
from kdprobe.errors import InputError, UnknownName
from kdprobe.models.transforms.contract import transformed
from kdprobe.passes import passing
from kdprobe.registry import Catalogue, did_you_mean


@dataclass(frozen=True)
class Family:
    """Networks that share a builder."""

    key: str
    pattern: str  # regular expression that a full name matches
    summary: str
    examples: tuple[str, ...]
    make: Callable[..., nn.Module]


FAMILIES: Catalogue[Family] = Catalogue("model family", "kdprobe.models")


def family(
    key: str, *, pattern: str, summary: str, examples: tuple[str, ...]
) -> Callable[[Callable[..., nn.Module]], Callable[..., nn.Module]]:
    """Put the builder below into FAMILIES under `key`."""

    def add(make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        FAMILIES.add(key, Family(key, pattern, summary, examples, make))
        return make

    return add


class Network(nn.Module):
    """A body that sees normalised pixels, so that callers always pass pixels in [0, 1].

    The state dict of `body` is what a checkpoint holds; mean and standard deviation are not part
    of it. Tap paths are paths inside `body`, so taps are found and watched on `body`.
    """

    mean: Tensor
    std: Tensor
    order: Tensor | None  # (c,) which output is whose class; None = as they come

    def __init__(self, body: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("order", None, persistent=False)

    def ordered(self, ours: Sequence[str], wanted: Sequence[str]) -> "Network":
        """Itself, from now on answering in the order of the classes `wanted`; `ours` is its own."""
        if ours and tuple(ours) != tuple(wanted):
            places = [list(ours).index(name) for name in wanted]
            self.register_buffer("order", torch.tensor(places).to(self.mean.device), False)
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, 3, h, w) pixels in [0, 1], or (n, t, d) vectors of sequences -> (n, c) logits."""
        inputs = self.normalised(pixels)
        with passing(), called_on(inputs):
            logits: Tensor = self.body(inputs)
        return logits if self.order is None else logits[:, self.order]

    def normalised(self, pixels: Tensor) -> Tensor:
        """What the body sees."""
        if pixels.dim() == 4:
            return (pixels - self.mean) / self.std
        return (pixels - self.mean.flatten()) / self.std.flatten()  # channels come last


def make_body(
    name: str, *, num_classes: int, transforms: Sequence[str] = (), **knobs: Any
) -> nn.Module:
    """Build the bundled network called `name`, e.g. ``make_body("resnet20", num_classes=10)``.

    Raises:
        UnknownName: no family or transform has such a name.
        InputError: the family refuses the name's numbers or a knob, or a transform the network.
    """
    for entry in FAMILIES.values():
        match = re.fullmatch(entry.pattern, name)
        if match:
            try:
                body = entry.make(*match.groups(), num_classes=num_classes, **knobs)
            except TypeError as error:
                raise InputError(f"model {name!r} does not take these settings: {error}") from error
            return transformed(body, transforms)
    examples = [example for entry in FAMILIES.values() for example in entry.examples]
    hint = did_you_mean(name, examples) or "."
    raise UnknownName(f"no model is called {name!r}{hint} Known: {', '.join(examples)}")
