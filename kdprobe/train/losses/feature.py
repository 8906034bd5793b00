"""Copy one layer of the teacher, without labels.  Mean over images and features of (f_s - f_t)^2.

Source: Cheng et al. 2020, arXiv:2003.03622, section 4 (how the students of the quantification
paper are trained). On the raw logits where student and teacher differ in width.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from kdprobe.errors import InputError
from kdprobe.train.losses.contract import Outputs, loss, widened


@loss(
    "feature",
    title="Mean squared error of one layer",
    source="arXiv:2003.03622, section 4",
    needs_teacher=True,
    zero_at_teacher=True,
)
class Feature(nn.Module):
    """`layer` is a tap's name or a module path, the same in student and teacher."""

    def __init__(self, *, layer: str = "logits") -> None:
        super().__init__()
        if not isinstance(layer, str) or not layer:
            raise InputError(f"found layer={layer!r}; wanted a layer's name in quotes")
        self.layers = (layer,)

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """The layer's outputs (n, ...) of both -> scalar; the labels are not looked at.

        Raises:
            InputError: the layer has another width in the teacher.
        """
        (layer,) = self.layers
        ours, theirs = student.layer(layer), teacher.layer(layer).detach()
        if ours.shape != theirs.shape:
            raise InputError(
                f"student layer {layer!r} has shape {tuple(ours.shape[1:])}, teacher {layer!r} has "
                f"{tuple(theirs.shape[1:])}; 'feature' wants equal ones: choose a layer of one "
                'width in both, such as layer="logits"'
            )
        return F.mse_loss(widened(ours), widened(theirs))
