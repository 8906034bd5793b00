"""Copy the teacher's softened answers.  T^2 * mean over images of KL(p_t^T || p_s^T).

    p^T = softmax(logits / T);  T^2 keeps the gradient's size when T grows
    T -> infinity:  ||(z_s - mean z_s) - (z_t - mean z_t)||^2 / (2 K)        K classes

Source: Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2 (limit: section 2.1).

Papers and released codes differ in two ways that change the loss's size, and so its share beside a
cross-entropy: whether T^2 is there (`squared`), and whether the sum over classes is a mean, K times
smaller (`reduction` "mean", as the code of Yuan et al. 2020, arXiv:1909.11723, has it).
"""

from torch import Tensor, nn
from torch.nn import functional as F

from kdprobe.errors import InputError
from kdprobe.train.losses.contract import Outputs, loss, widened

REDUCTIONS = ("batchmean", "mean")


@loss(
    "kd",
    title="Knowledge distillation by softened logits",
    source="arXiv:1503.02531, section 2",
    needs_teacher=True,
    zero_at_teacher=True,
)
class KD(nn.Module):
    """Temperature `T` > 0 softens both answers. In nats times T^2.

    `reduction` is "batchmean" (mean over images) or "mean" (over images and classes); without
    `squared` the factor T^2 is left out.
    """

    def __init__(
        self, *, T: float = 4.0, reduction: str = "batchmean", squared: bool = True
    ) -> None:
        super().__init__()
        self.T, self.reduction = temperature(T), known_reduction(reduction)
        if not isinstance(squared, bool):
            raise InputError(f"found squared={squared}; wanted true or false")
        self.squared = squared

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """Student and teacher logits (n, c) -> scalar; the labels are not looked at."""
        apart = softened(student.logits, teacher.logits, self.T, self.reduction)
        return apart * self.T**2 if self.squared else apart


def softened(ours: Tensor, theirs: Tensor, T: float, reduction: str = "batchmean") -> Tensor:
    """KL(theirs^T || ours^T) of logits (n, c), a scalar; no gradient flows to `theirs`."""
    own = F.log_softmax(widened(ours) / T, dim=1)
    copied = F.log_softmax(widened(theirs.detach()) / T, dim=1)
    return divergence(own, copied, reduction)


def divergence(ours: Tensor, theirs: Tensor, reduction: str) -> Tensor:
    """KL(theirs || ours) of log-probabilities (n, c), averaged as `reduction` says: a scalar."""
    apart = F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    return apart / ours.shape[1] if reduction == "mean" else apart


def temperature(T: float, name: str = "T") -> float:
    """`T` as a number. Raises InputError where it is not above 0 and finite."""
    if isinstance(T, (str, bool)) or not 0 < T < float("inf"):
        raise InputError(f"found {name}={T}; wanted a temperature above 0")
    return float(T)


def known_reduction(reduction: str) -> str:
    """`reduction` itself. Raises InputError for an unknown one."""
    if reduction not in REDUCTIONS:
        raise InputError(
            f'found reduction={reduction!r}; wanted "batchmean" (over images) or "mean" (over '
            "images and classes)"
        )
    return reduction
