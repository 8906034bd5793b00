"""Is a teacher more than many labels?  Cross-entropy with labels drawn from its answers.

    y' ~ p_t^T,   T^2 * mean over images of - log p_s^T(y')

A control: the expectation over y' is T^2 H(p_t^T, p_s^T), so the expected gradient is that of
``kd(T)``, with the noise of labels added: distillation as training on labels drawn anew each time.
In float32 a class of less than about 1e-7 is still drawn as seldom as it should be: the draw is a
race of logarithms, in which no probability underflows.

Source: Park, Yoo and Kwak, "On the Orthogonality of Knowledge Distillation with Other Techniques",
arXiv:2009.04120 (distillation as implicit augmentation of the labels).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdprobe.train.losses.contract import Outputs, loss, widened
from kdprobe.train.losses.kd import temperature


@loss(
    "sampled_kd",
    title="Control: labels drawn from the teacher's answers",
    source="arXiv:2009.04120",
    needs_teacher=True,
    zero_at_teacher=False,
)
class SampledKD(nn.Module):
    """`T` softens the answers that are drawn from, and the student's. In nats times T^2."""

    def __init__(self, *, T: float = 1.0) -> None:
        super().__init__()
        self.T = temperature(T)

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """Student and teacher logits (n, c) -> scalar; the labels are not looked at.

        Raises:
            InputError: the outputs come without a batch, whose seed the draw needs.
        """
        chance = student.seen("sampled_kd").chance("sampled_kd")
        labels = drawn(widened(teacher.logits.detach()) / self.T, chance)
        return self.T**2 * F.cross_entropy(widened(student.logits) / self.T, labels)


def drawn(logits: Tensor, chance: torch.Generator) -> Tensor:
    """(n,) a class for each image, with probability softmax(logits), (n, c).

    Class k arrives after an exponential time over p_k, and the first to arrive is drawn. The times
    are drawn on the CPU, so that every device draws the same.
    """
    times = torch.empty(logits.shape).exponential_(generator=chance)
    return (logits - times.to(logits).log()).argmax(1)
