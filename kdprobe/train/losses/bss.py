"""Where does the teacher change its mind?  KL on images moved to its boundary.

    base    at most `most` images that teacher and student name rightly, those with the largest
            sum_{k != y} (p_t(k) - p_s(k))^2
    target  a class k other than y for each, drawn with probability p_t(k) / (1 - p_t(y))
    x'      from x, `steps` times and only while the teacher still answers y:
            x <- clip(x + eta (z_y - z_k + 1e-4) g / ||g||, 0, 1),  g = d(z_k - z_y)/dx, teacher's z
    loss    mean over the base of KL(p_t^T || p_s^T) at x', without T^2; 0 where there is no base

Its gradient is that of the soft cross-entropy H(p_t^T, p_s^T) which the paper writes. `eta` is in
units of pixels in [0, 1], as in the comparative study of Sarfraz et al., arXiv:2007.01922; the
authors' code takes the same number in units of a standard deviation, about four times less.

The whole of the method, whose weights A(e) = 1 + max(3 (1 - e/E), 0) and B(e) = max(2 - 8e/(3E), 0)
fall with the epochs e of E, is

    cross_entropy + 4*kd(T=3, squared=false)@ramp(end=0.25) + 2*bss@ramp(over=0.75)

The student looks at the x' in a batch of their own. While it trains, its BatchNorm takes mean and
variance over them alone, and the running ones move towards theirs as they do towards the batch's
(so in the authors' code). For the shapes to stay the same in every step, images that are not
rightly named fill up the base; they pass through the networks and count for nothing in the loss.
A step costs `steps` looks of the teacher forward and backward, and one more of both networks:
between two networks ResNet-20 at batch 128, 5 to 8 times the cost of a ResNet-20 step.

Source: Heo et al. 2019, arXiv:1805.05532, section 3.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdprobe.errors import InputError
from kdprobe.train.losses.contract import Outputs, loss, named, widened
from kdprobe.train.losses.dkd import weight
from kdprobe.train.losses.kd import temperature
from kdprobe.train.losses.sampled_kd import drawn

OVER = 1e-4  # a logit: how far beyond the boundary a step aims


@loss(
    "bss",
    title="Distillation with boundary supporting samples",
    source="arXiv:1805.05532, section 3",
    needs_teacher=True,
    zero_at_teacher=True,
)
class BSS(nn.Module):
    """Temperature `T` softens both answers at x'; `steps`, `eta` and `most` as told above."""

    def __init__(
        self, *, T: float = 3.0, steps: int = 10, eta: float = 0.3, most: int = 64
    ) -> None:
        super().__init__()
        self.T, self.eta = temperature(T), weight(eta, "eta")
        self.steps, self.most = _count(steps, "steps"), _count(most, "most")

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """Logits (n, c), pixels and labels (n,) -> scalar; mixed images have their heavier label.

        Raises:
            InputError: the outputs come without a batch, or a network cannot look again.
        """
        batch, label = student.seen("bss"), named(target)
        ours, theirs = widened(student.logits.detach()), widened(teacher.logits.detach())
        base, counts = self.chosen(ours, theirs, label)
        label = label[base]
        towards = other_drawn(theirs[base], label, batch.chance("bss"))
        moved = self.moved(teacher, batch.pixels[base].detach(), label, towards)
        with torch.no_grad():
            answer = F.log_softmax(widened(teacher.again(moved, "bss")) / self.T, dim=1)
        own = F.log_softmax(widened(student.again(moved, "bss")) / self.T, dim=1)
        apart = F.kl_div(own, answer, reduction="none", log_target=True).sum(1)
        return (apart * counts).sum() / counts.sum().clamp(min=1)

    def chosen(self, ours: Tensor, theirs: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """(b,) rows of the base, and (b,) 1 where both networks are right, else 0."""
        apart = (theirs.softmax(1) - ours.softmax(1)).square()
        apart = apart.scatter(1, label[:, None], 0.0).sum(1)
        right = (ours.argmax(1) == label) & (theirs.argmax(1) == label)
        rows = torch.where(right, apart, -1.0).topk(min(self.most, len(label))).indices
        return rows, right[rows].to(apart)

    def moved(self, teacher: Outputs, pixels: Tensor, label: Tensor, towards: Tensor) -> Tensor:
        """(b, 3, h, w) the pixels after all steps; those whose answer has changed stand still."""
        pair = torch.stack([towards, label], dim=1)
        for _ in range(self.steps):
            with torch.enable_grad():
                here = pixels.clone().requires_grad_()
                logits = teacher.again(here, "bss")
                lead, own = logits.gather(1, pair).unbind(1)
                (slope,) = torch.autograd.grad((lead - own).sum(), here)
            length = slope.flatten(1).norm(dim=1).clamp(min=torch.finfo(slope.dtype).tiny)
            still = logits.argmax(1) == label
            size = self.eta * (own - lead + OVER).detach() * still / length
            pixels = (pixels + size[:, None, None, None] * slope).clamp(0, 1)
        return pixels


def other_drawn(logits: Tensor, label: Tensor, chance: torch.Generator) -> Tensor:
    """(n,) a class other than the label, drawn with probabilities softmax(logits), (n, c)."""
    return drawn(logits.scatter(1, label[:, None], -torch.inf), chance)


def _count(value: int, name: str) -> int:
    """`value` itself. Raises InputError where it is no whole number above 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"found {name}={value!r}; wanted a whole number above 0")
    return value
