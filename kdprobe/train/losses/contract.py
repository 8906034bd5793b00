"""What a loss is: a module that sees the outputs of student and teacher, and gives one number.

``forward(student: Outputs, teacher: Outputs, target) -> scalar``, a mean over the batch. Knobs are
keyword-only arguments of ``__init__``. A loss that reads layers beside the logits names them in an
attribute ``layers``, and the trainer taps them. Gradient flows to the student (and to weights of
the loss's own, which are trained along), never to the teacher.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn

from kdprobe.registry import Catalogue

M = TypeVar("M", bound=type[nn.Module])


@dataclass(frozen=True)
class Outputs:
    """All that a loss may see of a network.

    Axes: n images, c classes.
    """

    logits: Tensor  # (n, c)
    features: Mapping[str, Tensor] = field(default_factory=dict)  # layer -> (n, ...)

    def layer(self, name: str) -> Tensor:
        """(n, ...) output of the layer `name`; ``logits`` are the raw logits."""
        return self.logits if name == "logits" else self.features[name]


@dataclass(frozen=True)
class Loss:
    """A loss and its label. `zero_at_teacher` is a promise that the tests hold it to."""

    key: str
    title: str
    source: str  # paper, and the equation or section that is implemented
    needs_teacher: bool
    zero_at_teacher: bool  # 0 where the student's outputs equal the teacher's
    make: Callable[..., nn.Module]


LOSSES: Catalogue[Loss] = Catalogue("loss", "kdprobe.train.losses")


def loss(
    key: str, *, title: str, source: str, needs_teacher: bool, zero_at_teacher: bool
) -> Callable[[M], M]:
    """Put the module below into LOSSES under `key`."""

    def add(make: M) -> M:
        LOSSES.add(key, Loss(key, title, source, needs_teacher, zero_at_teacher, make))
        return make

    return add


def widened(values: Tensor) -> Tensor:
    """`values` in float32 where they are narrower: a softmax in half precision loses its tail."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
