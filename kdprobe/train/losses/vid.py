"""Be able to tell the teacher's layer.  Its negative log-likelihood, as the student predicts it.

    mean over images, channels and pixels of 1/2 [ log s_c^2 + (f_t - r(f_s))^2 / s_c^2 ]
    s_c^2 = softplus(a_c) + 1e-5                    summed over layers, without the constant

A bound of the information that two layers share. The 1x1 convolution r and the variance s_c^2 of
each channel, 5 at first, are trained along and saved beside the student. The loss may be negative.
The paper sums where this takes the mean, as released codes do; their r has several layers. Maps of
two sizes are averaged down to the smaller. The usual weight is 1.

On a CPU it costs 5 to 8% of a ResNet-20 step at batch 128: three convolutions more are trained.

Source: Ahn et al. 2019, arXiv:1904.05835, section 2 (equations 4 to 6).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdprobe.train.losses._layers import averaged, introduce, maps, names, positive, smaller
from kdprobe.train.losses.contract import Outputs, layer_pairs, loss

LEAST = 1e-5  # of a variance


@loss(
    "vid",
    title="Variational information distillation",
    source="arXiv:1904.05835, section 2",
    needs_teacher=True,
    zero_at_teacher=False,
)
class VID(nn.Module):
    """`variance` > 1e-5 is that of every channel at first."""

    def __init__(self, *, layers: str = "stage1,stage2,stage3", variance: float = 5.0) -> None:
        super().__init__()
        self.pairs = layer_pairs(layers)
        self.layers, self.teacher_layers = names(self.pairs)
        self.variance = positive("variance", variance, least=LEAST)
        self.regressors, self.spreads = nn.ModuleList(), nn.ParameterList()

    def meet(self, student: Outputs, teacher: Outputs) -> None:
        """Make regressors and variances for the layers' channels."""
        rest = self.variance - LEAST
        start = rest + math.log(-math.expm1(-rest))  # softplus, inverted
        for pair in self.pairs:
            ours, theirs = maps(student, teacher, pair, "vid")
            made = nn.Conv2d(ours.shape[1], theirs.shape[1], 1)
            self.regressors.append(made.to(ours.device, ours.dtype))
            self.spreads.append(ours.new_full((theirs.shape[1],), start))

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """Layers (n, c, h, w) of both -> scalar, nats; the labels are not looked at.

        Raises:
            InputError: a layer has neither maps nor vectors.
        """
        if not len(self.spreads):
            introduce(self.meet, student, teacher)
        found = []
        for pair, regressor, spread in zip(self.pairs, self.regressors, self.spreads, strict=True):
            ours, theirs = maps(student, teacher, pair, "vid")
            size = smaller(ours, theirs)
            apart = (regressor(averaged(ours, size)) - averaged(theirs, size)).square()
            variance = F.softplus(spread) + LEAST
            # each channel's mean first: its variance is one number
            found.append((variance.log() + apart.mean((0, 2, 3)) / variance).mean() / 2)
        return torch.stack(found).sum()
