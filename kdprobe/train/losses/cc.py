"""Correlate images as the teacher does.  Squared difference of kernel matrices.

    C_ij = exp(-2 gamma) * sum over p = 0 .. order of (2 gamma)^p / p! * (f_i . f_j)^p,  |f| = 1
    mean over all pairs of images of (C_s - C_t)^2 = ||C_s - C_t||_F^2 / n^2

C is the Taylor expansion of the Gaussian kernel exp(-gamma |f_i - f_j|^2). RepDistiller's loss of
this name is another one, which compares each image with the next; its usual weight .02 belongs to
it, and is small here. Any two widths can be compared. It compares the images of one batch; under
distributed training, those of each process.

Source: Peng et al. 2019, arXiv:1904.01802, section 3 (the correlation term).
"""

import math

import torch
from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.train.losses._layers import names, one_pair, positive, rows, unit
from kdprobe.train.losses.contract import Outputs, loss


@loss(
    "cc",
    title="Correlation congruence",
    source="arXiv:1904.01802, section 3",
    needs_teacher=True,
    zero_at_teacher=True,
)
class CC(nn.Module):
    """`gamma` > 0 is the kernel's inverse width, `order` >= 1 where its expansion ends."""

    def __init__(self, *, gamma: float = 0.4, order: int = 2, layer: str = "pooled") -> None:
        super().__init__()
        self.pairs = one_pair(layer)
        self.layers, self.teacher_layers = names(self.pairs)
        self.gamma = positive("gamma", gamma)
        if not isinstance(order, int) or isinstance(order, bool) or order < 1:
            raise InputError(f"found order={order}; wanted a whole number of at least 1")
        self.order = order

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """The layer (n, ...) of both -> scalar; the labels are not looked at. 0 of one image."""
        ours, theirs = map(self.kernel, rows(student, teacher, self.pairs[0]))
        return (ours - theirs).square().mean()

    def kernel(self, rows: Tensor) -> Tensor:
        """(n, d) -> (n, n)."""
        near = unit(rows)
        step = 2 * self.gamma * near @ near.mT
        term = total = torch.ones_like(step)
        for p in range(1, self.order + 1):
            term = term * step / p
            total = total + term
        return math.exp(-2 * self.gamma) * total
