"""Agree in the order of things, not in their size.  1 - Pearson's correlation of the answers.

    p = softmax(z / T), (n, c)
    T^2 ( beta  mean over images of  1 - corr(p_s(i, .), p_t(i, .))
        + gamma mean over classes of 1 - corr(p_s(., k), p_t(., k)) )

A student whose answers are any stretched or shifted teacher's answers pays nothing. T^2 is in the
authors' code for classification and not in the paper (`squared`). Beside ``cross_entropy`` with
weight 1, this has weight 2 there.

1 - corr(a, b) is half the squared distance of a and b, each centred and made of length one; so it
is reckoned, for nothing is lost near 0. What does not vary has no direction, and counts as the zero
vector: of one image the second part is 0, with no gradient. Of two classes the correlation over
classes is 1 or -1 and gives no gradient, and the second part alone teaches. The batch of the second
part is what one process sees in one step: its size belongs to the loss.

Source: Huang et al. 2022, arXiv:2205.10536, sections 3.1 and 3.2.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdprobe.errors import InputError
from kdprobe.train.losses.contract import Outputs, loss, widened
from kdprobe.train.losses.dkd import weight
from kdprobe.train.losses.kd import temperature

FLAT = 1e-6  # deviation over size: what varies less is constant but for rounding
LEAST = 1e-18  # a length whose square float32 still holds


@loss(
    "dist",
    title="Distillation of relations by correlation",
    source="arXiv:2205.10536, sections 3.1 and 3.2",
    needs_teacher=True,
    zero_at_teacher=True,
)
class DIST(nn.Module):
    """`beta` weighs the correlation over classes, `gamma` that over the batch. In [0, 2] a part."""

    def __init__(
        self, *, beta: float = 1.0, gamma: float = 1.0, T: float = 4.0, squared: bool = True
    ) -> None:
        super().__init__()
        self.T = temperature(T)
        self.beta, self.gamma = weight(beta, "beta"), weight(gamma, "gamma")
        if not isinstance(squared, bool):
            raise InputError(f"found squared={squared}; wanted true or false")
        self.squared = squared

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """Student and teacher logits (n, c) -> scalar; the labels are not looked at."""
        ours = F.softmax(widened(student.logits) / self.T, dim=1)
        theirs = F.softmax(widened(teacher.logits.detach()) / self.T, dim=1)
        apart = self.beta * uncorrelated(ours, theirs, dim=1)
        apart = apart + self.gamma * uncorrelated(ours, theirs, dim=0)
        return apart * self.T**2 if self.squared else apart


def uncorrelated(ours: Tensor, theirs: Tensor, dim: int) -> Tensor:
    """1 - Pearson's correlation along `dim` of two (n, c), a mean over the other axis: a scalar."""
    apart = direction(ours, dim) - direction(theirs, dim)
    return apart.square().sum(dim).mean() / 2


def direction(values: Tensor, dim: int) -> Tensor:
    """`values` centred and of length one along `dim`; zero where they are constant."""
    centred = values - values.mean(dim, keepdim=True)
    size = values.detach().norm(dim=dim, keepdim=True)
    length = centred.norm(dim=dim, keepdim=True)
    varies = length.detach() > FLAT * size + LEAST
    return torch.where(varies, centred, 0) / torch.where(varies, length, 1)
