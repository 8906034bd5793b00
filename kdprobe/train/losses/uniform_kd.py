"""What if the teacher knew nothing?  T^2 * mean over images of KL(u || p_s^T),  u = 1/K.

A control: the push of `kd` away from sure answers, without a teacher's knowledge. At T = 1,
(1 - w) cross-entropy + w of this is label smoothing with eps = w.

Source: Yuan et al. 2020, arXiv:1909.11723, equation 3 (there with T = 1).
"""

import torch
from torch import Tensor, nn

from kdprobe.train.losses.contract import Outputs, loss
from kdprobe.train.losses.kd import softened, temperature


@loss(
    "uniform_kd",
    title="Control: a teacher that finds all classes alike",
    source="arXiv:1909.11723, equation 3",
    needs_teacher=False,
    zero_at_teacher=False,
)
class UniformKD(nn.Module):
    """Temperature `T` softens the student. In nats times T^2."""

    def __init__(self, *, T: float = 4.0) -> None:
        super().__init__()
        self.T = temperature(T)

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """Student logits (n, c) -> scalar; neither teacher nor labels are looked at."""
        return self.T**2 * softened(student.logits, torch.zeros_like(student.logits), self.T)
