"""Does it matter which classes the teacher finds alike?  KD with its other classes shuffled.

    T^2 * mean over images of KL(q || p_s^T)
    q(y) = p_t^T(y) for the label y; elsewhere q is p_t^T in an order drawn for each image and step

A control: the teacher's entropy and its trust in the label stay, its similarities of classes are
gone. What `kd` gains over this is knowledge of similarities; what this gains over ``uniform_kd`` is
knowledge of how hard each image is.

Source: Yuan et al. 2020, arXiv:1909.11723, section 2 (the question; the shuffle is this trainer's).
"""

import torch
from torch import Tensor, nn

from kdprobe.train.losses.contract import Outputs, loss, named
from kdprobe.train.losses.dkd import other_classes
from kdprobe.train.losses.kd import softened, temperature


@loss(
    "permuted_kd",
    title="Control: the teacher's other classes shuffled",
    source="arXiv:1909.11723, section 2",
    needs_teacher=True,
    zero_at_teacher=False,
)
class PermutedKD(nn.Module):
    """Temperature `T` softens both answers. In nats times T^2."""

    def __init__(self, *, T: float = 4.0) -> None:
        super().__init__()
        self.T = temperature(T)

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """Logits (n, c) and labels (n,) -> scalar; of mixed images the heavier label stays.

        Raises:
            InputError: the outputs come without a batch, whose seed the draw needs.
        """
        chance = student.seen("permuted_kd").chance("permuted_kd")
        theirs = shuffled(teacher.logits.detach(), named(target), chance)
        return self.T**2 * softened(student.logits, theirs, self.T)


def shuffled(logits: Tensor, label: Tensor, chance: torch.Generator) -> Tensor:
    """(n, c) the logits with the columns other than the label's in an order of each row's own."""
    places = other_classes(label, logits.shape[1])
    order = torch.rand(places.shape, generator=chance).argsort(1).to(logits.device)
    return logits.scatter(1, places, logits.gather(1, places.gather(1, order)))
