"""Copy the shape of the teacher's logits, not their size.  KD on (z - mean z) / std z.

    T^2 mean over images of KL(softmax(v_t / T) || softmax(v_s / T)),  v = (z - mean z) / std z

Mean and deviation are those of an image's own logits; `ddof` 1 divides the squares by K - 1, as the
released code does. A student pays nothing for logits that are its teacher's stretched and shifted.
With K classes v is at most (K - 1) / sqrt(K), so T bounds how sure an answer can get.

Of two classes v is (0.71, -0.71) or its opposite: all that is left is which logit is larger, and
there is no gradient. So two are refused. Logits that are all equal are v = 0.

Beside ``0.1*cross_entropy`` the authors give it weight 9 and more.

Source: Sun et al. 2024, arXiv:2403.01427, section 4 and algorithm 1.
"""

import math

from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.train.losses.contract import Outputs, loss, widened
from kdprobe.train.losses.dist import direction
from kdprobe.train.losses.kd import softened, temperature


@loss(
    "logit_std",
    title="Knowledge distillation with standardised logits",
    source="arXiv:2403.01427, section 4 and algorithm 1",
    needs_teacher=True,
    zero_at_teacher=True,
)
class LogitStd(nn.Module):
    """`T` softens the standardised logits; `ddof` is 1 or 0. In nats times T^2."""

    def __init__(self, *, T: float = 2.0, ddof: int = 1) -> None:
        super().__init__()
        self.T = temperature(T)
        if isinstance(ddof, bool) or ddof not in (0, 1):
            raise InputError(f"found ddof={ddof}; wanted 1 or 0")
        self.ddof = int(ddof)

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """Student and teacher logits (n, c) -> scalar; the labels are not looked at.

        Raises:
            InputError: there are fewer than three classes.
        """
        classes = student.logits.shape[1]
        if classes < 3:
            raise InputError(
                f"found {classes} classes; 'logit_std' wanted 3 or more: of two, standardised "
                "logits tell only which is larger, and teach nothing; use 'kd'"
            )
        scale = math.sqrt(classes - self.ddof)  # std of a vector of length one, inverted
        ours = scale * direction(widened(student.logits), dim=1)
        theirs = scale * direction(widened(teacher.logits), dim=1)
        return self.T**2 * softened(ours, theirs, self.T)
