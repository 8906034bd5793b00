"""Let the channels be distributed as the teacher's are.  Squared polynomial MMD over layers.

    x_a, y_b: maps of single channels of student and teacher, vectors of h w, of length 1
    k(x, y) = (x . y)^2
    mean over images of  mean k(x, x') + mean k(y, y') - 2 mean k(x, y)

The means of k are over all pairs of channels; layers are summed. Any two numbers of channels can be
compared; maps of two sizes are averaged down to the smaller. The usual weight is 50.

On a CPU it costs 6 to 9% of a ResNet-20 step at batch 128, for each layer takes three products of
c c h w, there and back; layers="stage3" alone costs a quarter of that.

Source: Huang and Wang 2017, arXiv:1707.01219, section 4, with the polynomial kernel (d = 2, c = 0).
"""

import torch
from torch import Tensor, nn

from kdprobe.train.losses._layers import names, or_one, patterns
from kdprobe.train.losses.contract import Outputs, layer_pairs, loss


@loss(
    "nst",
    title="Neuron selectivity transfer",
    source="arXiv:1707.01219, section 4, polynomial kernel",
    needs_teacher=True,
    zero_at_teacher=True,
)
class NST(nn.Module):
    """`layers` are names with commas between; ``"stage2:block2"`` where the teacher's differs."""

    def __init__(self, *, layers: str = "stage1,stage2,stage3") -> None:
        super().__init__()
        self.pairs = layer_pairs(layers)
        self.layers, self.teacher_layers = names(self.pairs)

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """Layers (n, c, h, w) of both -> scalar; the labels are not looked at.

        Raises:
            InputError: a layer has no more than one pixel, where all channels are alike.
        """
        found = []
        for pair in self.pairs:
            ours, theirs = patterns(student, teacher, pair, "nst")
            found.append(discrepancy(ours.flatten(2), theirs.flatten(2)).mean())
        return torch.stack(found).sum()


def discrepancy(ours: Tensor, theirs: Tensor) -> Tensor:
    """(n, c, h w) and (n, e, h w), of any length -> (n,) squared MMD."""
    own, their, mixed = ours @ ours.mT, theirs @ theirs.mT, ours @ theirs.mT
    ours, theirs = (or_one(x.diagonal(dim1=1, dim2=2)) for x in (own, their))
    return alike(own, ours, ours) + alike(their, theirs, theirs) - 2 * alike(mixed, ours, theirs)


def alike(products: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """(n, c, e) products of maps with squared lengths (n, c) and (n, e) -> (n,) mean of k.

    The small products are divided and not the maps, which is the same and spares many passes.
    """
    return (products / left[:, :, None] * (products / right[:, None])).mean((1, 2))
