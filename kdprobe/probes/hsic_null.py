"""What would unrelated layers show?  HSIC when the images of one side change places.

Within every batch the images of the references are permuted, so that each layer's own geometry
stays and only the pairing is lost. All layer pairs of many permutations are one matrix product.

    p = (1 + #{permutations with an HSIC of at least the one that was found}) / (1 + permutations)

For many pairs at once, the largest deviation that a permutation shows at any pair, in units of that
pair's own spread, is the measure (max statistic, Westfall and Young 1993): it is of all pairs of
layers of different networks.

Axes: l layers, r layers of the references, u permutations, n images of a batch.
"""

import math

import torch
from torch import Tensor

AT_ONCE = 1 << 25  # bytes of permuted kernels at a time


class Null:
    """Adds up the HSIC of `permutations` permutations over batches."""

    def __init__(
        self, owners: Tensor, references: int, permutations: int, chance: torch.Generator
    ) -> None:
        """`owners` (l,) says whose every layer is; the first `references` layers are permuted."""
        self.strangers = owners[:, None] != owners[None, :references]
        self.references, self.permutations, self.chance = references, permutations, chance
        self.total: Tensor | None = None  # (u, l, r) in units of `unit`
        self.unit = torch.ones(())  # (l,) size of the first batch's kernels
        self.batches = 0

    def add(self, rows: Tensor, n: int) -> None:
        """Permute one batch of centred kernels (l, n * n)."""
        if self.total is None:
            size = rows.norm(dim=1)
            self.unit = torch.where(size > 0, size, 1.0)
            shape = (self.permutations, len(rows), self.references)
            self.total = torch.zeros(shape, device=rows.device)
        even = (rows / self.unit[:, None]).float()  # in single precision: ranks need no more
        upper = torch.triu_indices(n, n, device=rows.device)  # what is below is the same
        half = even.view(-1, n, n)[:, upper[0], upper[1]]
        half *= torch.where(upper[0] == upper[1], 1.0, 2.0)
        drawn = torch.rand(self.permutations, n, generator=self.chance).argsort(1).to(rows.device)
        at_once = max(1, AT_ONCE // (4 * self.references * upper.shape[1]))
        for start in range(0, self.permutations, at_once):
            order = drawn[start : start + at_once]
            moved = permuted(even[: self.references], order, upper)
            both = half @ moved.flatten(0, 1).T
            into = self.total[start : start + at_once]
            into += both.view(len(even), -1, len(order)).permute(2, 0, 1)
        self.batches += 1

    def judged(self, found: Tensor) -> dict[str, Tensor]:
        """What `found` (l, r) is worth.

        p (l, r) of each pair for itself, chance and spread (l, r): mean and standard deviation of
        HSIC over permutations; highest (u,): the largest (HSIC - chance) / spread of each.
        """
        assert self.total is not None
        unit = self.unit.cpu()
        scale = unit[:, None] * unit[None, : self.references]
        null = self.total.cpu().double() / self.batches * scale
        chance, spread = null.mean(0), null.std(0, correction=0)
        beaten = (null >= found).sum(0)
        deviation = (null - chance) / spread
        known = self.strangers & (spread > 0) & deviation.isfinite().all(0)
        highest = torch.where(known, deviation, -math.inf).flatten(1).amax(1)
        return {
            "p": (1 + beaten) / (1 + self.permutations),
            "chance": chance,
            "spread": spread,
            "highest": highest if known.any() else torch.zeros_like(highest),
        }


def permuted(kernels: Tensor, orders: Tensor, places: Tensor) -> Tensor:
    """(r, n * n) kernels in every order of (u, n), at (2, m) places -> (r, u, m)."""
    rows, columns = (orders[:, place] for place in places)
    wanted = rows * orders.shape[1] + columns
    return kernels.index_select(1, wanted.flatten()).view(len(kernels), *wanted.shape)
