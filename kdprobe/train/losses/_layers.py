"""What does a loss read of two layers?  Rows or maps, and how unlike shapes are met.

Axes: n images, c channels, h w pixels, d features.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kdprobe.errors import InputError
from kdprobe.train.chance import drawn_from
from kdprobe.train.losses.contract import Outputs, Pair, layer_pairs, widened


def one_pair(text: str) -> tuple[Pair]:
    """``"stage2"`` or ``"stage2:block2"`` as the only pair. Raises InputError for several."""
    pairs = layer_pairs(text, "layer")
    if len(pairs) != 1:
        raise InputError(f'found layer={text!r}; wanted one layer, such as "{pairs[0].student}"')
    return (pairs[0],)


def names(pairs: Sequence[Pair]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The layers of the student, and those of the teacher."""
    return tuple(pair.student for pair in pairs), tuple(pair.teacher for pair in pairs)


def both(student: Outputs, teacher: Outputs, pair: Pair) -> tuple[Tensor, Tensor]:
    """The outputs (n, ...) of a pair in float32 at least; none of the teacher's gradient."""
    return widened(student.layer(pair.student)), widened(teacher.layer(pair.teacher).detach())


def rows(student: Outputs, teacher: Outputs, pair: Pair) -> tuple[Tensor, Tensor]:
    """What `both` gives, flattened: (n, d) each, of any two widths."""
    ours, theirs = both(student, teacher, pair)
    return ours.flatten(1), theirs.flatten(1)


def maps(student: Outputs, teacher: Outputs, pair: Pair, loss: str) -> tuple[Tensor, Tensor]:
    """What `both` gives as (n, c, h, w); a vector (n, c) is a map of one pixel.

    Raises InputError, in the name of `loss`, for outputs that are neither.
    """
    ours, theirs = both(student, teacher, pair)
    if not {ours.dim(), theirs.dim()} <= {2, 4}:
        raise misfit(loss, pair, ours, theirs, "maps (c, h, w)", 'layers such as "stage3"')
    return _as_maps(ours), _as_maps(theirs)


def _as_maps(values: Tensor) -> Tensor:
    return values[:, :, None, None] if values.dim() == 2 else values


def same_size(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps (n, c, h, w), each averaged down to the smaller height and the smaller width."""
    size = smaller(ours, theirs)
    return averaged(ours, size), averaged(theirs, size)


def patterns(student: Outputs, teacher: Outputs, pair: Pair, loss: str) -> tuple[Tensor, Tensor]:
    """What `maps` gives, of the same size; raises InputError too where that is a single pixel."""
    ours, theirs = same_size(*maps(student, teacher, pair, loss))
    if ours[0, 0].numel() == 1:
        wanted = "maps of more than one pixel"
        raise misfit(loss, pair, ours, theirs, wanted, 'layers such as "stage3"')
    return ours, theirs


def smaller(one: Tensor, other: Tensor) -> tuple[int, int]:
    """The smaller height and the smaller width of two maps."""
    return min(one.shape[2], other.shape[2]), min(one.shape[3], other.shape[3])


def averaged(values: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, c, h, w) -> (n, c, *size), adaptive average pooling."""
    return values if values.shape[2:] == size else F.adaptive_avg_pool2d(values, size)


def misfit(loss: str, pair: Pair, ours: Tensor, theirs: Tensor, wanted: str, do: str) -> InputError:
    """The refusal of two layers whose shapes `loss` cannot compare."""
    return InputError(
        f"student layer {pair.student!r} has shape {tuple(ours.shape[1:])}, teacher "
        f"{pair.teacher!r} has {tuple(theirs.shape[1:])}; {loss!r} wants {wanted}: pass {do}"
    )


def unit(values: Tensor) -> Tensor:
    """`values` over their length along the last axis; what has none stays zero, without NaN.

    The largest entry is divided out first, so that a square neither overflows nor vanishes. It
    needs no gradient, because the result does not change with it.
    """
    small = values / or_one(values.detach().abs().amax(-1, keepdim=True))
    return small / or_one(torch.linalg.vector_norm(small, dim=-1, keepdim=True))


def scaled(values: Tensor) -> Tensor:
    """`values` over the largest of all, for losses that do not change with a common factor."""
    return values / or_one(values.detach().abs().amax())


def or_one(length: Tensor) -> Tensor:
    """`length` to divide by: 1 where it is 0."""
    return torch.where(length > 0, length, 1)


def introduce(meet: Callable[[Outputs, Outputs], None], student: Outputs, teacher: Outputs) -> None:
    """Make a loss's weights where no trainer did: always the same ones, of seed 0."""
    with drawn_from(0, "weights of the loss"):
        meet(student, teacher)


def one_of(knob: str, found: str, wanted: Sequence[str]) -> str:
    """`found` itself. Raises InputError where it is none of `wanted`."""
    if found not in wanted:
        raise InputError(f"found {knob}={found!r}; wanted one of {', '.join(wanted)}")
    return found


def positive(knob: str, found: float, *, least: float = 0.0) -> float:
    """`found` as a number. Raises InputError where it is not above `least` and finite."""
    if isinstance(found, (str, bool)) or not least < found < math.inf:
        raise InputError(f"found {knob}={found}; wanted a number above {least:g}")
    return float(found)
