"""Look where the teacher looks.  Distance of normalised attention maps, summed over layers.

    Q = sum over channels of F^2,  q = Q / ||Q||          per image and layer, a vector of h w
    form = "mean":  mean over images and pixels of (q_s - q_t)^2
    form = "sum":   mean over images of ||q_s - q_t||^2, h w times as much
    form = "norm":  mean over images of ||q_s - q_t||, as equation 2 is printed

The paper sets its weight to 1000 over the number of pixels and images, and the released code takes
the mean: so 1000 is the usual weight of form "mean". Maps of two sizes are averaged down to the
smaller before they are squared.

Source: Zagoruyko and Komodakis 2017, arXiv:1612.03928, equation 2.
"""

import torch
from torch import Tensor, nn

from kdprobe.train.losses._layers import names, one_of, patterns, unit
from kdprobe.train.losses.contract import Outputs, layer_pairs, loss

FORMS = ("mean", "sum", "norm")


@loss(
    "at",
    title="Attention transfer",
    source="arXiv:1612.03928, equation 2",
    needs_teacher=True,
    zero_at_teacher=True,
)
class AT(nn.Module):
    """`layers` are names with commas between; ``"stage2:block2"`` where the teacher's differs."""

    def __init__(self, *, layers: str = "stage1,stage2,stage3", form: str = "mean") -> None:
        super().__init__()
        self.pairs = layer_pairs(layers)
        self.layers, self.teacher_layers = names(self.pairs)
        self.form = one_of("form", form, FORMS)

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """Layers (n, c, h, w) of both -> scalar; the labels are not looked at.

        Raises:
            InputError: a layer has no more than one pixel, where all attention is alike.
        """
        found = []
        for pair in self.pairs:
            ours, theirs = patterns(student, teacher, pair, "at")
            found.append(self._distance(attention(ours) - attention(theirs)))
        return torch.stack(found).sum()

    def _distance(self, apart: Tensor) -> Tensor:
        """(n, h w) differences -> scalar."""
        if self.form == "mean":
            return apart.square().mean()
        if self.form == "sum":
            return apart.square().sum(1).mean()
        length: Tensor = torch.linalg.vector_norm(apart, dim=1)
        return length.mean()


def attention(maps: Tensor) -> Tensor:
    """(n, c, h, w) -> (n, h w) of length 1."""
    return unit(maps.square().sum(1).flatten(1))
