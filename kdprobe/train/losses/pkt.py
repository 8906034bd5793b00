"""Match whom each image takes for its neighbours.  KL of row-normalised cosine affinities.

    k_ij = (1 + cos(f_i, f_j)) / 2,   p_ij = k_ij / sum over k != i of k_ik       j != i
    form = "mean":  sum over i and j of p_ij (log p_ij - log q_ij), over n^2      p teacher,
    form = "sum":   that sum itself, as the paper                                 q student

Any two widths can be compared. The usual weight is 30000, of form "mean" as released code has it;
that code counts each image as its own neighbour too. An affinity is at least 1e-7, so that opposite
images have a logarithm. It compares the images of one batch; under distributed training, those of
each process.

Source: Passalis and Tefas 2018, arXiv:1803.10837, section 3.
"""

from torch import Tensor, nn

from kdprobe.train.losses._layers import names, one_of, one_pair, rows, unit
from kdprobe.train.losses.contract import Outputs, loss

FORMS = ("mean", "sum")
LEAST = 1e-7


@loss(
    "pkt",
    title="Probabilistic knowledge transfer",
    source="arXiv:1803.10837, section 3",
    needs_teacher=True,
    zero_at_teacher=True,
)
class PKT(nn.Module):
    """`layer` is a name, or ``"pooled:avgpool"`` where the teacher's is another."""

    def __init__(self, *, layer: str = "pooled", form: str = "mean") -> None:
        super().__init__()
        self.pairs = one_pair(layer)
        self.layers, self.teacher_layers = names(self.pairs)
        self.form = one_of("form", form, FORMS)

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """The layer (n, ...) of both -> scalar, nats; the labels are not looked at.

        Of one or two images it is 0: there is no choice of neighbours.
        """
        ours, theirs = map(neighbours, rows(student, teacher, self.pairs[0]))
        apart = (theirs * (theirs.log() - ours.log())).sum()
        return apart / len(ours) ** 2 if self.form == "mean" else apart


def neighbours(rows: Tensor) -> Tensor:
    """(n, d) -> (n, n - 1) probabilities of the others, for each image."""
    near = unit(rows)
    affinity = without_diagonal(((1 + near @ near.mT) / 2).clamp_min(LEAST))
    return affinity / affinity.sum(1, keepdim=True)


def without_diagonal(square: Tensor) -> Tensor:
    """(n, n) -> (n, n - 1)."""
    n = len(square)
    return square.flatten()[1:].view(n - 1, n + 1)[:, :-1].reshape(n, n - 1)
