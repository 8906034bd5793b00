"""Name the class.  - mean over images of log p_s(y), with the labels softened where wished.

    target = (1 - e) q + e / K             q = 1_y, or a mixture of labels; e = smoothing, K classes

Source: Szegedy et al. 2016, arXiv:1512.00567, section 7 (smoothing spread over all K classes).
"""

from torch import Tensor, nn
from torch.nn import functional as F

from kdprobe.errors import InputError
from kdprobe.train.losses.contract import Outputs, loss, widened


@loss(
    "cross_entropy",
    title="Cross-entropy with the labels",
    source="arXiv:1512.00567, section 7",
    needs_teacher=False,
    zero_at_teacher=False,
)
class CrossEntropy(nn.Module):
    """Learning from raw data: the teacher is not looked at. In nats."""

    def __init__(self, *, smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise InputError(f"found smoothing={smoothing}; wanted a number from 0 to below 1")
        self.smoothing = float(smoothing)

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """Student logits (n, c) and labels (n,), or their mixtures (n, c) -> scalar."""
        logits = widened(student.logits)
        told = target if target.dim() == 1 else target.to(logits.dtype)
        return F.cross_entropy(logits, told, label_smoothing=self.smoothing)
