"""Learn from a teacher made by hand.  mean over images of KL(p_d^T || p_s^T), without T^2.

    p_d(k) = A where k is the label, (1 - A) / (K - 1) elsewhere            K classes
    soften = "prob":   p_d^T = softmax(p_d / T)          what the released code does
    soften = "logit":  p_d^T = p_d^(1/T) / sum p_d^(1/T)  temperature on log p_d, as elsewhere

The paper does not write out how p_d is softened, so both readings are here. Its loss and its code
differ further, and are named apart:

    tfkd_reg            the student is softened by T too, mean over images
    tfkd_reg_released   the student is not (student_T = 1), mean over images and classes, times an
                        undocumented `multiplier` (1, 50 or 100)

Both stand beside (1 - a) cross-entropy with weight a. The released form is label smoothing but for
the size: `kdprobe audit` shows it.

Source: Yuan et al. 2020, arXiv:1909.11723, equations 8 and 9.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdprobe.errors import InputError
from kdprobe.train.losses.contract import Outputs, loss, widened
from kdprobe.train.losses.kd import divergence, known_reduction, temperature

SOFTENINGS = ("prob", "logit")


@loss(
    "tfkd_reg",
    title="Teacher-free regularisation by a virtual teacher (paper's form)",
    source="arXiv:1909.11723, equations 8 and 9",
    needs_teacher=False,
    zero_at_teacher=False,
)
class TfKDReg(nn.Module):
    """Temperature `T` softens the virtual teacher, `student_T` the student (default: T as well).

    `A` is the virtual teacher's certainty; `soften`, `reduction` and `multiplier` as told above.
    """

    def __init__(
        self,
        *,
        T: float = 20.0,
        A: float = 0.99,
        soften: str = "prob",
        student_T: float | None = None,
        reduction: str = "batchmean",
        multiplier: float = 1.0,
    ) -> None:
        super().__init__()
        self.T, self.reduction = temperature(T), known_reduction(reduction)
        self.student_T = self.T if student_T is None else temperature(student_T, "student_T")
        if isinstance(A, (str, bool)) or not 0 < A < 1:
            raise InputError(f"found A={A}; wanted a probability above 0 and below 1")
        if soften not in SOFTENINGS:
            raise InputError(f'found soften={soften!r}; wanted "prob" or "logit"')
        if isinstance(multiplier, (str, bool)) or not 0 < multiplier < math.inf:
            raise InputError(f"found multiplier={multiplier}; wanted a number above 0")
        self.A, self.soften, self.multiplier = float(A), soften, float(multiplier)

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """Student logits (n, c), labels (n,) or mixtures (n, c) -> scalar; no teacher is seen."""
        logits = widened(student.logits)
        ours = F.log_softmax(logits / self.student_T, dim=1)
        return divergence(ours, self.virtual(logits, target), self.reduction) * self.multiplier

    def virtual(self, logits: Tensor, target: Tensor) -> Tensor:
        """(n, c) log-probabilities of the softened virtual teacher, of the kind of `logits`.

        For a mixed image, whose target is (n, c), the virtual teachers of its labels are mixed.
        """
        if target.dim() == 2:
            one = self.virtual(logits[:1], torch.zeros_like(target[:1, 0], dtype=torch.int64))[0]
            share = target.to(one.dtype)
            return (share * one[0].exp() + (1 - share) * one[-1].exp()).log()
        others = max(logits.shape[1] - 1, 1)
        sure = torch.full_like(logits, (1 - self.A) / others).scatter(1, target[:, None], self.A)
        level = sure if self.soften == "prob" else sure.log()
        return F.log_softmax(level / self.T, dim=1)


@loss(
    "tfkd_reg_released",
    title="Teacher-free regularisation by a virtual teacher (released code's form)",
    source="arXiv:1909.11723, equations 8 and 9, as in the authors' code",
    needs_teacher=False,
    zero_at_teacher=False,
)
class TfKDRegReleased(nn.Module):
    """As the released code for CIFAR-100 has it; `student_T` is T on the larger data sets."""

    def __init__(
        self, *, T: float = 20.0, A: float = 0.99, student_T: float = 1.0, multiplier: float = 1.0
    ) -> None:
        super().__init__()
        self.form = TfKDReg(T=T, A=A, student_T=student_T, reduction="mean", multiplier=multiplier)

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """Student logits (n, c), labels (n,) or mixtures (n, c) -> scalar; no teacher is seen."""
        loss: Tensor = self.form(student, teacher, target)
        return loss
