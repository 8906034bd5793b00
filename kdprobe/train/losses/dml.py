"""Learn from those who learn beside you.  Mean over the others of KL(p_l || p_m).

    T^2 / (m - 1) * sum over the networks l other than this one of KL(p_l^T || p_own^T), mean over n

All m networks are trained, each by ``cross_entropy + dml``, and none waits for another: in a step
each looks at what the others answered before it (the paper lets them step in turn). The others are
not changed by this one's loss. At the paper's T = 1 there is no T^2.

Source: Zhang et al. 2018, arXiv:1706.00384, sections 3.1 and 3.3.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdprobe.errors import InputError
from kdprobe.train.losses.contract import Outputs, loss, widened
from kdprobe.train.losses.kd import temperature


@loss(
    "dml",
    title="Deep mutual learning",
    source="arXiv:1706.00384, sections 3.1 and 3.3",
    needs_teacher=False,
    zero_at_teacher=False,
    needs_company=True,
)
class DML(nn.Module):
    """Temperature `T` softens all answers. In nats times T^2."""

    def __init__(self, *, T: float = 1.0) -> None:
        super().__init__()
        self.T = temperature(T)

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """Logits (m, n, c) of all networks -> scalar; neither teacher nor labels are looked at.

        Raises:
            InputError: no other network is trained together with this one.
        """
        every = companions(student, "dml").detach()
        peers = torch.cat([every[: student.place], every[student.place + 1 :]])
        theirs = F.log_softmax(widened(peers) / self.T, dim=2)
        ours = F.log_softmax(widened(student.logits) / self.T, dim=1).expand_as(theirs)
        apart = F.kl_div(ours, theirs, reduction="sum", log_target=True)
        return apart * self.T**2 / (theirs.shape[0] * theirs.shape[1])


def companions(student: Outputs, loss: str) -> Tensor:
    """(m, n, c) logits of all networks that are trained together, two at least.

    Raises:
        InputError: there is one alone.
    """
    if student.together is None or len(student.together) < 2:
        raise InputError(
            f"loss {loss!r} wants networks that are trained together, and found one alone; give "
            "the arm 'together = 2' or more, in a recipe of 'kdprobe train'"
        )
    return student.together
