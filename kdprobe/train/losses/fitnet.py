"""Give the student a hint.  The squared error between r(f_s) and the teacher's layer f_t.

    form = "mean":  mean over images, channels and pixels of (f_t - r(f_s))^2    as released codes
    form = "sum":   mean over images of 1/2 ||f_t - r(f_s)||^2                   as the paper

The regressor r is trained along and saved beside the student. Where the sizes of the maps differ,
the larger is averaged down to the smaller.

    regressor = "auto":          nothing where the channels are equal, else a 1x1 convolution
    regressor = "conv":          a 1x1 convolution
    regressor = "conv_bn_relu":  and batch normalisation and ReLU after it, as RepDistiller does

The paper trains in two stages, the hint first and then `kd`; one stage is a sum of both. The usual
weight is 100, of form "mean" with "conv_bn_relu". A bare convolution is a least-squares fit, whose
steps grow without end where weight, learning rate and features are large: begin with 1.

Source: Romero et al. 2015, arXiv:1412.6550, equation 3.
"""

from torch import Tensor, nn

from kdprobe.train.losses._layers import averaged, introduce, maps, names, one_of, one_pair, smaller
from kdprobe.train.losses.contract import Outputs, loss

FORMS = ("mean", "sum")
REGRESSORS = ("auto", "conv", "conv_bn_relu")


@loss(
    "fitnet",
    title="Hint: squared error of a layer, through a regressor",
    source="arXiv:1412.6550, equation 3",
    needs_teacher=True,
    zero_at_teacher=True,
)
class FitNet(nn.Module):
    """`layer` is a name, or ``"stage2:block2"`` where the teacher's is another."""

    def __init__(
        self, *, layer: str = "stage2", regressor: str = "auto", form: str = "mean"
    ) -> None:
        super().__init__()
        self.pairs = one_pair(layer)
        self.layers, self.teacher_layers = names(self.pairs)
        self.kind = one_of("regressor", regressor, REGRESSORS)
        self.form = one_of("form", form, FORMS)
        self.regressors = nn.ModuleList()

    def meet(self, student: Outputs, teacher: Outputs) -> None:
        """Make the regressor for the layer's channels. Raises InputError where it has none."""
        ours, theirs = maps(student, teacher, self.pairs[0], "fitnet")
        self.regressors.append(regressor(self.kind, ours, theirs))

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """The layer (n, c, h, w) of both -> scalar; the labels are not looked at.

        Raises:
            InputError: the layer has neither maps nor vectors.
        """
        if not len(self.regressors):
            introduce(self.meet, student, teacher)
        (leads,) = self.regressors
        ours, theirs = maps(student, teacher, self.pairs[0], "fitnet")
        size = smaller(ours, theirs)
        apart: Tensor = (leads(averaged(ours, size)) - averaged(theirs, size)).square()
        return apart.mean() if self.form == "mean" else apart.sum() / (2 * len(apart))


def regressor(kind: str, ours: Tensor, theirs: Tensor) -> nn.Module:
    """What leads from maps (n, c, h, w) of the student to as many channels as the teacher has."""
    channels, wanted = ours.shape[1], theirs.shape[1]
    if kind == "auto" and channels == wanted:
        return nn.Identity()
    made: nn.Module = nn.Conv2d(channels, wanted, 1)
    if kind == "conv_bn_relu":
        made = nn.Sequential(made, nn.BatchNorm2d(wanted), nn.ReLU())
    return made.to(ours.device, ours.dtype)
