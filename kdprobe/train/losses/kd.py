"""Copy the teacher's softened answers.  T^2 * mean over images of KL(p_t^T || p_s^T).

    p^T = softmax(logits / T);  T^2 keeps the gradient's size when T grows
    T -> infinity:  ||(z_s - mean z_s) - (z_t - mean z_t)||^2 / (2 K)        K classes

Source: Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2 (limit: section 2.1).
"""

from torch import Tensor, nn
from torch.nn import functional as F

from kdprobe.errors import InputError
from kdprobe.train.losses.contract import Outputs, loss, widened


@loss(
    "kd",
    title="Knowledge distillation by softened logits",
    source="arXiv:1503.02531, section 2",
    needs_teacher=True,
    zero_at_teacher=True,
)
class KD(nn.Module):
    """Temperature `T` > 0 softens both answers. In nats times T^2."""

    def __init__(self, *, T: float = 4.0) -> None:
        super().__init__()
        if not T > 0:
            raise InputError(f"found T={T}; wanted a temperature above 0")
        self.T = float(T)

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """Student and teacher logits (n, c) -> scalar; the labels are not looked at."""
        ours = F.log_softmax(widened(student.logits) / self.T, dim=1)
        theirs = F.log_softmax(widened(teacher.logits.detach()) / self.T, dim=1)
        return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * self.T**2
