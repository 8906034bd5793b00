"""Branches taught by what they say together.  CE of a gated ensemble, KL from it to each branch.

    g = softmax(ReLU(BN(FC(mean of `layer` over its places)))), (n, m);   z_e = sum_i g_i z_i
    CE(z_e) / m  +  w(t) T^2 KL(p_e^T || p_i^T)                  for the i-th of m branches
    w(t) = exp(-5 max(1 - t / rise, 0)^2)                        t epochs over, fractions counted

Beside the ``cross_entropy`` of every branch. Summed over the branches this is the paper's loss,
with the ensemble's cross-entropy once: it trains the gate and the branches; in the KL the ensemble
teaches and is not changed. The gate belongs to the loss, is one for all branches, and is saved
beside them. The ramp is a knob and no schedule, for it is the KL's alone; `rise` = 0 is w = 1 from
the start.

The gate's BatchNorm wants two images or more in a step. Where the branches share no layers, the
gate reads that of the branch whose turn it is.

Source: Lan, Zhu and Gong 2018, arXiv:1806.04606, section 3; w(t) as in the released code,
after Laine and Aila 2017, arXiv:1610.02242.
"""

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdprobe.errors import InputError
from kdprobe.train.losses.contract import Outputs, loss, widened
from kdprobe.train.losses.dkd import weight
from kdprobe.train.losses.dml import companions
from kdprobe.train.losses.kd import softened, temperature


@loss(
    "one",
    title="On-the-fly native ensemble",
    source="arXiv:1806.04606, section 3",
    needs_teacher=False,
    zero_at_teacher=False,
    needs_company=True,
)
class ONE(nn.Module):
    """`T` softens all answers in the KL; `rise` epochs until it has its weight; `layer` is gated.

    In nats.
    """

    def __init__(self, *, T: float = 3.0, rise: float = 80.0, layer: str = "stage2") -> None:
        super().__init__()
        self.T, self.rise = temperature(T), weight(rise, "rise")
        if not isinstance(layer, str) or not layer or set(layer) & {",", ":"}:
            raise InputError(f"found layer={layer!r}; wanted the name of one layer in quotes")
        self.layers, self.teacher_layers = (layer,), ()
        self.gate: nn.Module | None = None

    def meet(self, student: Outputs, teacher: Outputs) -> None:
        """Make the gate for the layer's width and for as many branches as there are.

        Raises:
            InputError: no other network is trained together with this one.
        """
        width, branches = self._pooled(student).shape[1], len(companions(student, "one"))
        score, norm = nn.Linear(width, branches), nn.BatchNorm1d(branches)
        self.gate = nn.Sequential(OrderedDict(score=score, norm=norm, relu=nn.ReLU()))

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """Logits (m, n, c) of all branches, the layer (n, d, h, w) or (n, d) and labels -> scalar.

        Raises:
            InputError: there is one branch alone, no batch, or one image in a step of training.
        """
        every = widened(companions(student, "one"))
        ensemble = torch.einsum("nm,mnc->nc", self.gates(student), every)
        told = target if target.dim() == 1 else target.to(ensemble.dtype)
        own = self.T**2 * softened(student.logits, ensemble, self.T)
        return F.cross_entropy(ensemble, told) / len(every) + self._risen(student) * own

    def gates(self, student: Outputs) -> Tensor:
        """(n, m) how much each branch counts for each image; 1 in sum."""
        pooled = self._pooled(student)
        if self.gate is None:
            raise InputError("loss 'one' found no gate; wanted meet(student, teacher) called first")
        if self.training and len(pooled) < 2:
            raise InputError(
                "loss 'one' found one image in a step of training, and its gate's BatchNorm wanted "
                "two or more: choose an optimizer.batch_size that leaves no single image over"
            )
        return F.softmax(self.gate(pooled), dim=1)

    def _pooled(self, student: Outputs) -> Tensor:
        """(n, d) means of the layer over its places."""
        values = widened(student.layer(self.layers[0]))
        return values.flatten(2).mean(2) if values.dim() > 2 else values

    def _risen(self, student: Outputs) -> float:
        """w(t)."""
        if not self.rise:
            return 1.0
        left = max(1 - student.seen("one").passed / self.rise, 0.0)
        return math.exp(-5 * left**2)
