"""What is a residual block?  Its input, perhaps projected, is added to what its branch computes.

    y = skip(x) + branch(x)

The block itself can do without its skip (`strip`), and can drop its branch for some images while
it trains (`dropped`), which is what two transforms ask of it.

Axes: n images.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """A block that joins skip and branch by `joined`; `projections` are attributes of its skip."""

    projections: tuple[str, ...] = ()
    skips = True  # whether anything is added
    dropped = 0.0  # probability that an image goes without the branch, in training

    def strip(self) -> None:
        """Add nothing from now on; the parameters of the skip are given up."""
        self.skips = False
        for name in self.projections:
            setattr(self, name, None)

    def joined(self, branch: Tensor, skip: Callable[[], Tensor]) -> Tensor:
        """(n, ...) branch -> (n, ...) sum; without skip, the branch alone."""
        if not self.skips:
            return branch
        if self.training and self.dropped:
            branch = branch * _kept(branch, 1 - self.dropped)
        return skip() + branch


def _kept(branch: Tensor, share: float) -> Tensor:
    """(n, 1, ...): 0 for images that go without, 1 / share for the others, mean 1."""
    shape = (len(branch), *[1] * (branch.dim() - 1))
    return torch.empty(shape, device=branch.device).bernoulli_(share).to(branch.dtype) / share
