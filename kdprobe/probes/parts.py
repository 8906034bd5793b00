"""Which weights make which layer?  All weights of a network, once each, by named layer.

A layer is what a named tap says makes its output; weights of no tap go by the network's own child
that holds them.
"""

from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from kdprobe.errors import InputError
from kdprobe.taps import named_taps

MOST = 16  # layers; neighbours of a longer network are taken together


@dataclass(frozen=True)
class Part:
    """The weights of one layer."""

    name: str
    weights: tuple[nn.Parameter, ...]

    @property
    def size(self) -> int:
        """How many numbers they are."""
        return sum(weight.numel() for weight in self.weights)


def parts_of(body: nn.Module) -> list[Part]:
    """The layers of `body` from input to output; every weight is in one of them.

    Raises:
        InputError: there is no weight.
    """
    makers = {tap.weights: name for name, tap in named_taps(body).items() if tap.weights}
    found: dict[str, list[nn.Parameter]] = {}
    for path, weight in body.named_parameters():
        above = [maker for maker in makers if path.startswith(f"{maker}.")]
        name = makers[max(above, key=len)] if above else path.split(".")[0]
        found.setdefault(name, []).append(weight)
    if not found:
        raise InputError(
            "found a network without weights; wanted one that was trained: "
            "leave it out of the study or name the right network"
        )
    return _at_most([Part(name, tuple(weights)) for name, weights in found.items()], MOST)


def _at_most(parts: list[Part], most: int) -> list[Part]:
    """Runs of neighbours instead, as equal in number as can be, where there are more."""
    if len(parts) <= most:
        return parts
    edges = [len(parts) * i // most for i in range(most + 1)]
    runs = [parts[low:high] for low, high in pairwise(edges)]
    return [
        Part(
            run[0].name if len(run) == 1 else f"{run[0].name} to {run[-1].name}",
            tuple(weight for part in run for weight in part.weights),
        )
        for run in runs
    ]
