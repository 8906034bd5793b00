"""Keep the teacher's distances and angles between images, not its outputs.

    D:  mean over pairs i, j of      huber(d_ij of the student - d_ij of the teacher)
        d_ij = ||f_i - f_j|| / mean of those above 0
    A:  mean over triples i, j, k of huber(cos of the angle at j, student - teacher)
    distance * D + angle * A

Means are over all n^2 pairs and n^3 triples, where two images are one included: they add nothing.
Any two widths can be compared. The usual weight is 25, with distance 1 and angle 2; distance alone
is RKD-D, angle alone RKD-A. It compares the images of one batch; under distributed training, those
of each process.

RKD-A takes a few vertices j at a time, forward and backward, and keeps only the gradient (n, d):
all that is held at once, in both passes together, is n^2 d numbers at most where n >= 16, the
teacher's layer is no wider and d >= 4. (One vertex alone needs about 2 n^2, so of three features or
less it is that.) Differences are taken of the features themselves, because those from inner
products lose all where features share a large offset.

Source: Park et al. 2019, arXiv:1904.05068, sections 3.2.1 and 3.2.2.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from kdprobe.errors import InputError
from kdprobe.train.losses._layers import names, one_pair, rows, scaled
from kdprobe.train.losses.contract import Outputs, loss

CHUNK = 2**20  # elements of a tensor that hold some vertices: small enough for a cache


@loss(
    "rkd",
    title="Relational distillation by distances and angles",
    source="arXiv:1904.05068, sections 3.2.1 and 3.2.2",
    needs_teacher=True,
    zero_at_teacher=True,
)
class RKD(nn.Module):
    """`distance` and `angle` weigh the two parts; a part of weight 0 is not reckoned."""

    def __init__(self, *, distance: float = 1.0, angle: float = 2.0, layer: str = "pooled") -> None:
        super().__init__()
        self.pairs = one_pair(layer)
        self.layers, self.teacher_layers = names(self.pairs)
        self.distance, self.angle = _weight("distance", distance), _weight("angle", angle)
        if not self.distance and not self.angle:
            raise InputError("found distance=0 and angle=0; wanted one of them above 0")

    def forward(self, student: Outputs, teacher: Outputs, target: Tensor) -> Tensor:
        """The layer (n, ...) of both -> scalar; the labels are not looked at. 0 of one image."""
        ours, theirs = map(scaled, rows(student, teacher, self.pairs[0]))
        parts = []
        if self.angle:  # first, while nothing of the distances waits for the backward pass
            parts.append(self.angle * angles(ours, theirs))
        if self.distance:
            parts.append(self.distance * F.smooth_l1_loss(distances(ours), distances(theirs)))
        return torch.stack(parts).sum()


def _weight(knob: str, found: float) -> float:
    if isinstance(found, (str, bool)) or not 0 <= found < float("inf"):
        raise InputError(f"found {knob}={found}; wanted a number of at least 0")
    return float(found)


def distances(rows: Tensor) -> Tensor:
    """(n, d) -> (n, n) distances over the mean of those above 0."""
    apart = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    mean = apart.sum() / (apart > 0).sum().clamp_min(1)
    return apart / torch.where(mean > 0, mean, 1)


def angles(ours: Tensor, theirs: Tensor) -> Tensor:
    """(n, d) of both -> scalar, the mean over all n^3 triples."""
    found: Tensor = _Angles.apply(ours, theirs)  # type: ignore[no-untyped-call]  # torch's own
    return found


class _Angles(torch.autograd.Function):
    """The gradient is known once the value is, so it is all that waits for the backward pass."""

    @staticmethod
    def forward(ctx: FunctionCtx, ours: Tensor, theirs: Tensor) -> Tensor:
        value, slope = ours.new_zeros(()), torch.zeros_like(ours)
        for first, last in chunks(ours, theirs):
            value += _chunk(ours, theirs, first, last, slope)
        ctx.save_for_backward(slope.div_(len(ours) ** 3))
        return value / len(ours) ** 3

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors  # type: ignore[attr-defined]  # torch has it in another class
        return upstream * slope, None


def chunks(ours: Tensor, theirs: Tensor) -> list[tuple[int, int]]:
    """Where runs of vertices begin and end: as many as fit into n^2 d numbers with all the rest."""
    (n, d), e = ours.shape, theirs.shape[1]
    vertex = d + 3 + max(n + max(n, d, e), 2 * d)  # a row of its tensors, as `_chunk` holds them
    room = n * d - 5 * d - 2 * e  # beside the features, as given and scaled, and their gradient
    many = max(min(room // vertex, CHUNK // (n * max(n, d, e))), 1)
    return [(first, min(first + many, n)) for first in range(0, n, many)]


def _chunk(ours: Tensor, theirs: Tensor, first: int, last: int, slope: Tensor) -> Tensor:
    """The sum of the triples with vertices from `first` to `last`; adds its gradient to `slope`.

    What is no longer needed goes before the next is made.
    """
    along, length = directions(ours, first, last)
    apart = along @ along.mT
    toward, _ = directions(theirs, first, last)
    apart.baddbmm_(toward, toward.mT, alpha=-1)
    del toward
    bent = apart.clamp(-1, 1)  # the slope of Huber's loss, which itself is bent (apart - bent / 2)
    value = (apart.sub_(bent, alpha=0.5)).mul_(bent).sum()
    del apart
    push = (bent @ along).mul_(2)  # on each direction: it stands on both sides of an angle
    del bent
    push.sub_(along.mul_((push * along).sum(2, keepdim=True))).div_(length)
    slope += push.sum(0)
    slope[first:last] -= push.sum(1)
    return value


def directions(rows: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
    """From m vertices to all images: (m, n, d) of length 1, and the lengths (m, n, 1) they had.

    Between two equal images there is no direction: 0, of a length that is infinite.
    """
    apart = rows - rows[first:last, None]
    length = torch.linalg.vector_norm(apart, dim=2, keepdim=True)
    length = length.masked_fill_(length == 0, torch.inf)
    return apart.div_(length), length
