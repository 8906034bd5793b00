"""Find alike what the teacher finds alike.  Squared difference of row-normalised similarities.

    Q (n, c h w) flattened layer,  G = Q Q^T,  each row of G over its length
    mean over all pairs of images of (G_s - G_t)^2 = ||G_s - G_t||_F^2 / n^2, summed over layers

Any two shapes can be compared. The usual weight is 3000. It compares the images of one batch; under
distributed training, those of each process.

Source: Tung and Mori 2019, arXiv:1907.09682, equations 1 to 4.
"""

import torch
from torch import Tensor, nn

from kdprobe.train.losses._layers import names, rows, scaled, unit
from kdprobe.train.losses.contract import Outputs, layer_pairs, loss


@loss(
    "sp",
    title="Similarity-preserving distillation",
    source="arXiv:1907.09682, equations 1 to 4",
    needs_teacher=True,
    zero_at_teacher=True,
)
class SP(nn.Module):
    """`layers` are names with commas between; ``"stage3:block3"`` where the teacher's differs."""

    def __init__(self, *, layers: str = "stage3") -> None:
        super().__init__()
        self.pairs = layer_pairs(layers)
        self.layers, self.teacher_layers = names(self.pairs)

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """Layers (n, ...) of both -> scalar; the labels are not looked at. Of one image it is 0."""
        found = []
        for pair in self.pairs:
            ours, theirs = rows(student, teacher, pair)
            found.append((similarities(ours) - similarities(theirs)).square().mean())
        return torch.stack(found).sum()


def similarities(rows: Tensor) -> Tensor:
    """(n, d) -> (n, n), each row of length 1."""
    small = scaled(rows)
    return unit(small @ small.mT)
