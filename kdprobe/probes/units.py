"""What shares one noise scale?  The units of an input: cells of a grid, labelled parts, or tokens.

A unit is any set of positions (pixels, tokens, points) that is perturbed as one and is judged as
one: the "knowledge point" of Cheng et al. 2022, arXiv:2208.08741. Positions may belong to no unit;
they are then never perturbed.

Axes: n inputs, p positions of an input, q units, r any leading axis.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from kdprobe.datasets.contract import Images
from kdprobe.errors import InputError

Kind = Literal["cells", "parts", "tokens"]
KINDS: tuple[Kind, ...] = ("cells", "parts", "tokens")


@dataclass(frozen=True)
class Units:
    """Which unit every position of every input belongs to."""

    members: Tensor  # (n, p) int64, -1 = of none
    positions: tuple[int, ...]  # (h, w) of images, (t,) of sequences; their product is p
    count: int  # q
    grid: int = 0  # cells a side where they are equal squares of pixels: the fast way

    def take(self, rows: slice) -> "Units":
        """The units of some of the inputs."""
        return Units(self.members[rows], self.positions, self.count, self.grid)

    def to(self, device: torch.device) -> "Units":
        """The same on `device`."""
        return Units(self.members.to(device), self.positions, self.count, self.grid)

    @property
    def sizes(self) -> Tensor:
        """(n, q) how many positions a unit has; 0 where an input lacks it."""
        ones = torch.ones_like(self.members, dtype=torch.float32)
        return self._summed(ones)

    def spread(self, scale: Tensor) -> Tensor:
        """Give every position the number of its unit: (..., n, q) -> what an input broadcasts with.

        That is (..., n, 1, h, w) for images and (..., n, t, 1) for sequences; 0 where a position
        is of no unit.
        """
        lead = scale.shape[:-2]
        if self.grid:
            cells = scale.reshape(-1, 1, self.grid, self.grid)
            return interpolate(cells, size=self.positions).view(
                *lead, len(self.members), 1, *self.positions
            )
        values: Tensor = _Given.apply(scale, self)  # type: ignore[no-untyped-call]  # as torch has it
        shape = (*lead, len(self.members))
        if len(self.positions) == 1:
            return values.view(*shape, *self.positions, 1)
        return values.view(*shape, 1, *self.positions)

    def gather(self, values: Tensor) -> Tensor:
        """Sum over positions and channels: (r, n, 3, h, w) or (r, n, t, d) -> (r, n, q)."""
        summed = values.sum(-1 if len(self.positions) == 1 else 2)
        if self.grid:
            area = self.positions[0] * self.positions[1] / self.grid**2
            return (adaptive_avg_pool2d(summed, self.grid) * area).flatten(2)
        return self._summed(summed.flatten(2))

    def _summed(self, values: Tensor) -> Tensor:
        """(..., n, p) -> (..., n, q)."""
        order, lengths = self._sorted
        turned = values.gather(-1, order.expand(values.shape)).contiguous()
        many = lengths.expand(*values.shape[:-1], -1).contiguous()
        sums = torch.segment_reduce(turned, "sum", lengths=many, axis=values.dim() - 1)
        return sums[..., : self.count]

    def given(self, scale: Tensor) -> Tensor:
        """(..., n, q) -> (..., n, p), 0 where a position is of no unit."""
        padded = torch.cat([scale, torch.zeros_like(scale[..., :1])], dim=-1)
        return padded.gather(-1, self._units.expand(*scale.shape[:-2], *self.members.shape))

    @property
    def _units(self) -> Tensor:
        """(n, p) the unit of every position; q where it is of none."""
        return torch.where(self.members < 0, self.count, self.members)

    @cached_property
    def _sorted(self) -> tuple[Tensor, Tensor]:
        """(n, p) the positions unit by unit, and (n, q + 1) how many each has: a GPU adds them up
        in this order, and always alike, as it does not by an index.
        """
        units, order = self._units.sort(dim=-1, stable=True)
        edges = torch.arange(self.count + 2, device=units.device).expand(len(units), -1)
        return order, torch.searchsorted(units, edges.contiguous()).diff(dim=-1)


class _Given(torch.autograd.Function):
    """`Units.given`, whose slopes are summed in a fixed order."""

    @staticmethod
    def forward(ctx: Any, scale: Tensor, units: Units) -> Tensor:
        ctx.units = units
        return units.given(scale)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        return ctx.units._summed(slope), None


def units_of(images: Images, kind: Kind, grid: int) -> Units:
    """The units of `images`: cells of a grid, the data set's parts, or one unit a token.

    Raises:
        InputError: the inputs have no such units.
    """
    positions = images.positions
    if kind == "parts":
        if images.parts is None:
            raise InputError(
                "found no part labels in the data set; wanted Images.parts for "
                "discarding.units=parts: add them, or take discarding.units=cells"
            )
        members = images.parts.flatten(1)
        return Units(members, positions, int(members.max()) + 1)
    n = len(images)
    if (kind == "tokens") != (len(positions) == 1):
        wanted = "tokens" if len(positions) == 1 else "cells or parts"
        raise InputError(
            f"found inputs of shape {tuple(images.pixels.shape[1:])} and discarding.units={kind}; "
            f"wanted {wanted}"
        )
    if kind == "tokens":
        return Units(torch.arange(positions[0]).expand(n, -1), positions, positions[0])
    high, wide = (torch.arange(size) * grid // size for size in positions)
    members = (high[:, None] * grid + wide).flatten().expand(n, -1)
    even = all(size % grid == 0 for size in positions)
    return Units(members, positions, grid * grid, grid if even else 0)
