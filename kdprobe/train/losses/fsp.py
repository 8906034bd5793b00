"""Copy how the teacher gets from layer to layer.  Squared difference of flows, summed over steps.

    G (c, e) = 1 / (h w) * sum over pixels of F_a F_b^T      a, b: a layer and the next one named
    form = "mean":  mean over images and entries of (G_s - G_t)^2      as released codes
    form = "sum":   mean over images of ||G_s - G_t||^2                as the paper

Where the maps of a and b differ in size, the larger is brought down to the smaller by the largest
of its pixels. Student and teacher must have equal channels, not sizes. The usual weight is 50, of
form "mean", in a stage of its own before cross-entropy.

On a CPU it costs 4 to 8% of a ResNet-20 step at batch 128, most of it the pooling of the first maps
where their channels are not last.

Source: Yim et al. 2017, A Gift from Knowledge Distillation, CVPR, equations 1 and 2.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdprobe.errors import InputError
from kdprobe.train.losses._layers import maps, misfit, names, one_of, smaller
from kdprobe.train.losses.contract import Outputs, layer_pairs, loss

FORMS = ("mean", "sum")


@loss(
    "fsp",
    title="Flow of solution procedure",
    source="Yim et al. 2017, CVPR, equations 1 and 2",
    needs_teacher=True,
    zero_at_teacher=True,
)
class FSP(nn.Module):
    """`layers` are names with commas between, each with the next a step of the flow."""

    def __init__(self, *, layers: str = "stage1,stage2,stage3", form: str = "mean") -> None:
        super().__init__()
        self.pairs = layer_pairs(layers)
        if len(self.pairs) < 2:
            raise InputError(f'found layers={layers!r}; wanted two or more, "stage1,stage2"')
        self.layers, self.teacher_layers = names(self.pairs)
        self.form = one_of("form", form, FORMS)

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """Layers (n, c, h, w) of both -> scalar; the labels are not looked at.

        Raises:
            InputError: a layer has other channels in the teacher.
        """
        seen = []
        for pair in self.pairs:
            ours, theirs = maps(student, teacher, pair, "fsp")
            if ours.shape[1] != theirs.shape[1]:
                do = "layers of equal channels, or a teacher of the student's width"
                raise misfit("fsp", pair, ours, theirs, "equal channels", do)
            seen.append((ours, theirs))
        found = []
        for (our_a, their_a), (our_b, their_b) in pairwise(seen):
            apart = (flow(our_a, our_b) - flow(their_a, their_b)).square().flatten(1)
            found.append(apart.mean() if self.form == "mean" else apart.sum(1).mean())
        return torch.stack(found).sum()


def flow(one: Tensor, other: Tensor) -> Tensor:
    """(n, c, h, w) and (n, e, h, w), of any two sizes -> (n, c, e)."""
    size = smaller(one, other)
    left, right = (largest(x, size).flatten(2) for x in (one, other))
    return left @ right.mT / (size[0] * size[1])


def largest(values: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, c, h, w) -> (n, c, *size), the largest of each patch.

    Adaptive pooling gives the same where sizes are whole multiples, and is slower.
    """
    (h, down), (w, across) = (divmod(x, y) for x, y in zip(values.shape[2:], size, strict=True))
    if down or across:
        return F.adaptive_max_pool2d(values, size)
    return values if h == w == 1 else F.max_pool2d(values, (h, w))
