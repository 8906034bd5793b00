"""Name the class, but never be sure.  - mean over images of sum_k q'(k) log p_s(k).

    q' = (1 - eps) q + eps / K                  over = "all": spread over all K classes
    q' = (1 - eps) q + eps (1 - q) / (K - 1)    over = "others": as the code of arXiv:1909.11723

Here q is the label, 1_y, or the mixture of labels of a mixed image. The second is the first with
eps K / (K - 1). ``cross_entropy(smoothing=...)`` is the first as well; here it has the name under
which it stands beside the distillation losses that resemble it.

Source: Szegedy et al. 2016, arXiv:1512.00567, section 7; Yuan et al. 2020, arXiv:1909.11723,
equation 1.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from kdprobe.errors import InputError
from kdprobe.train.losses.contract import Outputs, loss, widened

SPREADS = ("all", "others")


@loss(
    "label_smoothing",
    title="Cross-entropy with smoothed labels",
    source="arXiv:1512.00567, section 7; arXiv:1909.11723, equation 1",
    needs_teacher=False,
    zero_at_teacher=False,
)
class LabelSmoothing(nn.Module):
    """`eps` of the label is spread over all classes, or over the others alone. In nats."""

    def __init__(self, *, eps: float = 0.1, over: str = "all") -> None:
        super().__init__()
        if isinstance(eps, (str, bool)) or not 0 <= eps < 1:
            raise InputError(f"found eps={eps}; wanted a number from 0 to below 1")
        if over not in SPREADS:
            raise InputError(f'found over={over!r}; wanted "all" classes or the "others"')
        self.eps, self.over = float(eps), over

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """Student logits (n, c), labels (n,) or mixtures (n, c) -> scalar; no teacher is seen."""
        logits = widened(student.logits)
        classes = logits.shape[1]
        spread = self.eps if self.over == "all" else self.eps * classes / max(classes - 1, 1)
        logs = F.log_softmax(logits, dim=1)
        own = logs.gather(1, target[:, None]) if target.dim() == 1 else (target * logs).sum(1)
        return -(1 - spread) * own.mean() - spread * logs.mean()
