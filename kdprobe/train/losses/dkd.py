"""Teach the label's class and the other classes apart.  T^2 (alpha TCKD + beta NCKD), mean over n.

    p = softmax(z / T),  y the label
    TCKD = KL of (p_y, 1 - p_y), teacher's || student's
    NCKD = KL of p_k / (1 - p_y) over the classes k other than y, teacher's || student's
    KL(p_t || p_s) = TCKD + (1 - p_t(y)) NCKD                so `kd` hides NCKD where p_t is sure

log(1 - p_y) is the logsumexp of the other classes less that of all, and the others are softened
among themselves: no 1 - p is formed, and all stays finite however sure a network is. Of two classes
there is one other, and NCKD is 0.

Beside ``cross_entropy`` with weight 1, rising over 20 epochs: ``cross_entropy + dkd@warmup``. The
authors choose beta for each pair of networks, from 2 to 8 on CIFAR-100.

Source: Zhao et al. 2022, arXiv:2203.08679, equations 5 to 7.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdprobe.errors import InputError
from kdprobe.train.losses.contract import Outputs, loss, named, widened
from kdprobe.train.losses.kd import divergence, softened, temperature


@loss(
    "dkd",
    title="Decoupled knowledge distillation",
    source="arXiv:2203.08679, equations 5 to 7",
    needs_teacher=True,
    zero_at_teacher=True,
)
class DKD(nn.Module):
    """`alpha` weighs the label's class, `beta` the others. In nats times T^2."""

    def __init__(self, *, alpha: float = 1.0, beta: float = 8.0, T: float = 4.0) -> None:
        super().__init__()
        self.T = temperature(T)
        self.alpha, self.beta = weight(alpha, "alpha"), weight(beta, "beta")

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """Logits (n, c) and labels (n,) -> scalar; of mixed images the heavier label counts."""
        ours, theirs = widened(student.logits), widened(teacher.logits.detach())
        label = named(target)
        of_label = divergence(sure(ours / self.T, label), sure(theirs / self.T, label), "batchmean")
        of_others = softened(others(ours, label), others(theirs, label), self.T)
        return self.T**2 * (self.alpha * of_label + self.beta * of_others)


def sure(logits: Tensor, label: Tensor) -> Tensor:
    """(n, 2) logarithms of the label's probability and of all others' together."""
    own = logits.gather(1, label[:, None])
    rest = others(logits, label).logsumexp(1, keepdim=True)
    return F.log_softmax(torch.cat([own, rest], dim=1), dim=1)


def others(values: Tensor, label: Tensor) -> Tensor:
    """(n, c - 1) the columns of `values` (n, c) without that of the label, in order."""
    return values.gather(1, other_classes(label, values.shape[1]))


def other_classes(label: Tensor, classes: int) -> Tensor:
    """(n, c - 1) the classes that are not the label (n,), in order."""
    before = torch.arange(classes - 1, device=label.device)[None]
    return before + (before >= label[:, None])


def weight(value: float, name: str) -> float:
    """`value` as a number. Raises InputError where it is below 0 or not finite."""
    if isinstance(value, (str, bool)) or not 0 <= value < math.inf:
        raise InputError(f"found {name}={value}; wanted a number from 0")
    return float(value)
